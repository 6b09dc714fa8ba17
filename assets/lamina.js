// The pages work without this file; with it they are live. Every change that the service tells of makes the page fetch itself again, and
// the parts marked `data-live` are put in place of the old ones: the server renders, nothing is rendered twice here.
"use strict";

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const units = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];

function ago(at) {
  const seconds = (at - Date.now()) / 1000;
  for (const [unit, size] of units) {
    if (Math.abs(seconds) >= size) return relative.format(Math.round(seconds / size), unit);
  }
  return "just now";
}

function polish(root) {
  for (const time of root.querySelectorAll("time")) {
    if (time.closest(".log")) continue;
    time.title ||= time.textContent;
    const relative = ago(Date.parse(time.dateTime));
    time.textContent = "exact" in time.dataset ? `${time.title} (${relative})` : relative;
  }
  for (const button of root.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;
  for (const search of root.querySelectorAll(".search")) search.hidden = false;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.textContent = "Copied";
  document.getElementById("said").textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

function filter() {
  const input = document.getElementById("search");
  if (!input) return;
  const wanted = input.value.trim().toLowerCase();
  for (const item of document.getElementById(input.dataset.filter).children) item.hidden = !item.dataset.name.includes(wanted);
}
document.addEventListener("input", (event) => { if (event.target.id === "search") filter(); });

// ---- the log of a build
let follow = null;
function followLog() {
  const log = document.querySelector("[data-log]");
  if (!log || (follow && follow.log === log)) return;
  if (follow) follow.source.close();
  const source = new EventSource(`${log.dataset.log}?view=lamina&from=${log.dataset.next}`);
  follow = { log, source };
  // The end of a log is what it was opened for: the line that is being worked on, or why it failed.
  log.scrollTop = log.scrollHeight;
  source.addEventListener("Log", (event) => {
    const line = JSON.parse(event.data);
    if (line.index < Number(log.dataset.next)) return;
    log.dataset.next = line.index + 1;
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    const item = document.createElement("li");
    item.className = line.level;
    const time = document.createElement("time");
    time.dateTime = line.at;
    time.textContent = line.at.slice(11, 19);
    const text = document.createElement("span");
    if (line.level !== "info") {
      const level = document.createElement("strong");
      level.textContent = line.level;
      text.append(level, " ");
    }
    text.append(line.text);
    item.append(time, text);
    log.append(item);
    document.getElementById("log-empty")?.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
  });
  source.addEventListener("EndOfStream", () => source.close());
}

// ---- the page itself
let fetching = false;
let again = false;
async function refresh() {
  if (fetching) { again = true; return; }
  fetching = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.ok) replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
    else if (answer.status === 404) location.reload();
  } catch {
    // The event source notices too, and says so.
  }
  fetching = false;
  if (again) { again = false; setTimeout(refresh, 250); }
}

function replace(fresh) {
  const old = [...document.querySelectorAll("[data-live]")];
  const parts = [...fresh.querySelectorAll("[data-live]")];
  if (old.map((part) => part.dataset.live).join() !== parts.map((part) => part.dataset.live).join()) { location.reload(); return; }
  const focused = document.activeElement;
  const place = focused && (focused.id ? `#${CSS.escape(focused.id)}` : focused.getAttribute("href") && `a[href="${CSS.escape(focused.getAttribute("href"))}"]`);
  old.forEach((part, i) => {
    const log = part.querySelector("[data-log]");
    const freshLog = parts[i].querySelector("[data-log]");
    const scrolled = log?.scrollTop;
    const opened = [...part.querySelectorAll("details")].map((details) => details.open);
    // The log has been followed line by line; the one on the page is the newer.
    if (log && freshLog) freshLog.replaceWith(log);
    part.replaceChildren(...parts[i].childNodes);
    if (log) log.scrollTop = scrolled;
    part.querySelectorAll("details").forEach((details, at) => { details.open = opened[at] || false; });
    polish(part);
  });
  filter();
  if (place && document.activeElement !== focused) document.querySelector(place)?.focus({ preventScroll: true });
  followLog();
}

function live() {
  const sign = document.getElementById("live");
  const source = new EventSource("/api/v2/events");
  let opened = false;
  source.onopen = () => {
    sign.hidden = false;
    sign.classList.remove("lost");
    sign.querySelector(".live-word").textContent = "live";
    // What changed between the page's making and this moment was told to nobody. A page with no live part has nothing to make good.
    if (opened || document.querySelector("[data-live]")) refresh();
    opened = true;
  };
  source.onerror = () => {
    if (!opened) return;
    sign.classList.add("lost");
    sign.querySelector(".live-word").textContent = "connecting…";
  };
  for (const name of ["ModelUpdate", "ModelRemove", "ApplicationUpdate", "ApplicationRemove", "Refresh"]) source.addEventListener(name, refresh);
}

polish(document);
followLog();
live();
setInterval(() => polish(document), 30000);
