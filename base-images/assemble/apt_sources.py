"""Prints, in deb822 form, those of this machine's apt sources that serve one Debian release; where none does, its sources of another release of Debian,
asked for this one, since a mirror of Debian has them all.

usage: apt_sources.py RELEASE

Why: in a closed network the machine's own apt settings are the only ones that work, keys and mirrors included, so the recipe names no server of
its own. But a machine also has sources of other vendors, and a package of theirs must not end up in the base: a source that apt knows to be
from somebody else than Debian is left out, and that is said on stderr. What must stay true: options of a source (Signed-By above all) are kept.
Nothing found is exit code 1 and no output.
"""

import glob
import os
import re
import shlex
import subprocess
import sys

# Those that a recipe may be asked for, and those whose sources may stand in for them.
RELEASES = ("bookworm", "trixie")
ENDINGS = ("", "-updates", "-security")

COMPONENT = "main"


def main():
    release = sys.argv[1]
    sources, origins = list(_sources()), _origins()
    kept = _of(sources, origins, release, release)
    for other in RELEASES:
        if not kept and other != release:
            kept = _of(sources, origins, other, release)
            if kept:
                print(f"this machine has no apt source of {release}; its sources of {other} are asked for it", file=sys.stderr)
    if not kept:
        return 1
    print("\n".join(dict.fromkeys(kept)), end="")
    return 0


def _of(sources, origins, named, wanted):
    """The stanzas that have the release `named`, asked for the release `wanted`."""
    suites = {named + ending: wanted + ending for ending in ENDINGS}
    kept = []
    for source in sources:
        for uri in source["uris"]:
            for suite in [suite for suite in source["suites"] if suite.split("/")[0] in suites]:
                if COMPONENT not in source["components"]:
                    continue
                origin = origins.get((uri.rstrip("/"), suite), "")
                # An empty origin: the package lists of this machine were cleaned away, so nobody can tell.
                if origin not in ("", "Debian"):
                    print(f"left out the apt source {suite} of {origin}", file=sys.stderr)
                    continue
                name, *rest = suite.split("/")
                kept.append(_stanza(uri, "/".join([suites[name], *rest]), source["options"]))
    return kept


def _stanza(uri, suite, options):
    lines = ["Types: deb", f"URIs: {uri}", f"Suites: {suite}", f"Components: {COMPONENT}"]
    lines += [f"{name}: {value}" for name, value in options]
    return "\n".join(lines) + "\n"


def _origins():
    """Who signed which source, as far as apt has its Release file."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(ORIGIN)", "Created-By: Packages"],
        check=False, capture_output=True, text=True,
    ).stdout
    origins = {}
    for line in listed.splitlines():
        uri, release, origin = line.split("|", 2)
        # apt prints the placeholder itself where it has no value.
        origins[(uri.rstrip("/"), release)] = "" if origin.startswith("$(") else origin
    return origins


def _sources():
    main_list, parts = _apt_path("Dir::Etc::sourcelist/f"), _apt_path("Dir::Etc::sourceparts/d")
    for path in [main_list] + sorted(glob.glob(os.path.join(parts, "*"))):
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except OSError:
            continue
        if path.endswith(".list"):
            yield from filter(None, map(_one_line, text.splitlines()))
        elif path.endswith(".sources"):
            yield from filter(None, map(_deb822, re.split(r"\n[ \t]*\n", text)))


def _apt_path(key):
    assignment = subprocess.run(["apt-config", "shell", "path", key], check=True, capture_output=True, text=True).stdout
    return shlex.split(assignment)[0].split("=", 1)[1] if assignment else ""


def _one_line(line):
    match = re.match(r"\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<rest>[^#]+)", line)
    if not match:
        return None
    words = match["rest"].split()
    options = [option.split("=", 1) for option in (match["options"] or "").split() if "=" in option]
    # The one-line form separates values by commas, deb822 by blanks.
    named = [(_deb822_name(name), value.replace(",", " ")) for name, value in options if name.lower() not in ("arch", "lang")]
    return {"uris": words[:1], "suites": words[1:2], "components": words[2:], "options": named}


def _deb822_name(name):
    return "-".join(part.capitalize() for part in name.split("-"))


def _deb822(stanza):
    fields = []
    for line in stanza.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line[0] in " \t" and fields:
            # A continuation: a key written into the file itself has many of them.
            fields[-1][1] += "\n" + line
        elif ":" in line:
            name, value = line.split(":", 1)
            fields.append([name.strip(), value.strip()])
    by_name = {name.lower(): value for name, value in fields}
    if "deb" not in by_name.get("types", "").split() or by_name.get("enabled", "yes").lower() in ("no", "false", "0"):
        return None
    plain = ("types", "uris", "suites", "components", "enabled", "architectures", "languages")
    return {
        "uris": by_name.get("uris", "").split(),
        "suites": by_name.get("suites", "").split(),
        "components": by_name.get("components", "").split(),
        "options": [(name, value) for name, value in fields if name.lower() not in plain and not name.lower().startswith("x-")],
    }


if __name__ == "__main__":
    sys.exit(main())
