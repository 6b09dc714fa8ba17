//! Have and want: `hs upload` sends what the service does not have, and nothing else, whatever breaks on the way.
//!
//! A real service, the real client, a tap on the wire between them that counts. The moments at which something is killed are states of the service's data
//! folder, not times.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use lamina::oci::digest::Digest;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::support::client::noise;
use crate::support::hs::{Home, Serve, free_address};
use crate::support::models;
use crate::support::outside::{CONTRACT, catalog_rows, client, ended, listing, until, versions, write_model};
use crate::support::wire_tap::WireTap;

const MIB: u64 = 1 << 20;

/// A service behind a tap.
struct Bench {
    home: Home,
    service: Serve,
    tap: WireTap,
}

impl Bench {
    async fn new() -> Bench {
        let home = Home::new();
        let service = Serve::start(&home, &[]);
        let tap = WireTap::before(&service.address.to_string()).await;
        Bench { home, service, tap }
    }

    fn url(&self) -> String {
        format!("http://{}", self.tap.address())
    }

    fn words<'a>(&self, model: &'a Path, url: &'a str) -> Vec<&'a str> {
        vec!["upload", model.to_str().unwrap(), "--runtime", "scratch", "--server", url]
    }

    fn upload(&self, model: &Path) -> Value {
        self.home.json(self.words(model, &self.url()))
    }

    fn spawn(&self, model: &Path) -> Child {
        let mut command = self.home.command();
        command.args(["--output", "json"]).args(self.words(model, &self.url())).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// The digest that `hs build` gives for a version.
    fn built(&self, model: &Path, version: &str) -> Value {
        let to = format!("oci:{}:m", self.home.path().join(format!("layout-{version}")).display());
        self.home.json(["build", model.to_str().unwrap(), "--runtime", "scratch", "--version", version, "--to", &to])["digest"].clone()
    }

    fn content(&self, bytes: &[u8]) -> PathBuf {
        self.home.data().join("content").join(Digest::of(bytes).hex())
    }

    /// How many bytes the sessions of the registry have.
    fn session_bytes(&self) -> u64 {
        let entries = fs::read_dir(self.home.data().join("uploads")).unwrap().map(Result::unwrap);
        let sessions = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("session-"));
        sessions.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
    }
}

/// Files of `mib` MiB each, all different, mostly holes.
fn write_weights(folder: &Path, count: u64, mib: u64) {
    fs::create_dir_all(folder).unwrap();
    for number in 0..count {
        let mut file = File::create(folder.join(format!("weights-{number}.bin"))).unwrap();
        file.set_len(mib * MIB).unwrap();
        file.write_all(&number.to_le_bytes()).unwrap();
        file.write_all(&noise(100_000)).unwrap();
    }
    fs::write(folder.join("contract.prototxt"), CONTRACT).unwrap();
    fs::write(folder.join("serving.yaml"), "model:\n  name: m\n  type: \"none:1\"\n  contract: contract.prototxt\n").unwrap();
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("src/func_main.py"), "def infer(x):\n    return x\n").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_model_is_uploaded_again_without_opening_its_files() {
    let bench = Bench::new().await;
    let model = bench.home.path().join("model");
    let (files, empty) = models::rich();
    models::write(&model, &files, &empty);
    models::settle(&model);
    let first = bench.upload(&model);
    let size_bytes: u64 = files.iter().map(|(_, bytes, _)| bytes.len() as u64).sum();
    assert_eq!((&first["status"], &first["transfer"]["mounted_bytes"]), (&json!("Finished"), &json!(0)));
    assert!(first["transfer"]["sent_bytes"].as_u64().unwrap() > 9 * MIB, "{first:#}");
    assert!(bench.tap.body_bytes() < size_bytes + 200_000, "once over the wire: {}", bench.tap.body_bytes());

    bench.tap.forget();
    let url = bench.url();
    let (second, opened) = bench.home.traced(&model, bench.words(&model, &url));
    assert_eq!((&second["version"], &second["status"]), (&json!(2), &json!("Finished")));
    assert_eq!(second["transfer"], json!({"sent_bytes": 0, "mounted_bytes": 0, "skipped_bytes": size_bytes}));
    let known = ["serving.yaml", "contract.prototxt", "src/func_main.py"];
    assert!(opened.iter().all(|path| known.contains(&path.as_str())), "{opened:?}");
    assert!(bench.tap.body_bytes() < 64 << 10, "{:?}", bench.tap.seen());
    assert_eq!(bench.tap.count("POST"), 1, "{:?}", bench.tap.seen());
    assert_eq!(second["digest"], bench.built(&model, "2"));
}

/// One small file of a large model is touched.
async fn assert_a_touch_is_cheap(files: u64, mib: u64) {
    let bench = Bench::new().await;
    let work = tempfile::Builder::new().prefix("have-and-want-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let model = work.path().join("model");
    write_weights(&model, files, mib);
    models::settle(&model);
    let first = bench.upload(&model);
    assert_eq!(first["status"], "Finished", "{first:#}");
    assert!(bench.tap.body_bytes() >= files * mib * MIB);

    fs::write(model.join("src/func_main.py"), "def infer(x):\n    return x + 1\n").unwrap();
    bench.tap.forget();
    let second = bench.upload(&model);
    assert_eq!((&second["version"], &second["status"]), (&json!(2), &json!("Finished")));
    let wire_bytes = bench.tap.body_bytes() + bench.tap.down_bytes();
    eprintln!("a model of {} MiB, one line of it changed: {} bytes over the wire both ways", files * mib, wire_bytes);
    assert!(wire_bytes < 1_000_000, "{:?}", bench.tap.seen());
    assert!(second["transfer"]["sent_bytes"].as_u64().unwrap() < 10_000, "{second:#}");
    assert!(second["transfer"]["skipped_bytes"].as_u64().unwrap() >= files * mib * MIB, "{second:#}");
    assert_eq!(second["digest"], bench.built(&model, "2"), "the image is what `hs build` makes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_touched_file_of_a_64_mib_model_costs_less_than_a_megabyte() {
    assert_a_touch_is_cheap(2, 32).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_touched_file_of_a_2_gib_model_costs_less_than_a_megabyte() {
    assert_a_touch_is_cheap(4, 512).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_file_is_written_once_whatever_it_is_called() {
    let bench = Bench::new().await;
    let model = bench.home.path().join("model");
    let large = noise(9 << 20);
    write_model(&model, "m", &[("large.bin", &large), ("copy.bin", &large)]);
    let version = bench.upload(&model);
    assert_eq!(version["status"], "Finished", "{version:#}");
    assert!(bench.tap.body_bytes() < 10 * MIB, "{:?}", bench.tap.seen());
    let identity = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let blob = bench.home.data().join("blobs").join(Digest::of(&large).hex());
    assert_eq!(identity(&blob), identity(&bench.content(&large)), "two names for the same bytes");
    assert_eq!(fs::read_dir(bench.home.data().join("uploads")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_with_the_same_new_files_make_two_versions_of_them() {
    let bench = Bench::new().await;
    let model = bench.home.path().join("model");
    write_model(&model, "m", &[("large.bin", &noise(20 << 20)), ("small.bin", &noise(10_000))]);
    let outputs = [bench.spawn(&model), bench.spawn(&model)].map(|child| child.wait_with_output().unwrap());
    assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
    let versions = ended(&bench.service.url(), "m").await;
    assert_eq!(versions.iter().map(|version| &version["status"]).collect::<Vec<_>>(), ["Finished", "Finished"]);
    assert_eq!(fs::read_dir(bench.home.data().join("uploads")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_killed_goes_on_where_the_service_stands() {
    let bench = Bench::new().await;
    let model = bench.home.path().join("model");
    let large = noise(24 << 20);
    write_model(&model, "m", &[("large.bin", &large), ("small.bin", b"small")]);
    bench.tap.hold_bodies_after(10 * MIB);
    let mut client = bench.spawn(&model);
    until("half of the file", || bench.session_bytes() >= 9 * MIB).await;
    client.kill().unwrap();
    client.wait().unwrap();
    bench.tap.release();
    let version = bench.upload(&model);
    assert_eq!((&version["version"], &version["status"]), (&json!(1), &json!("Finished")));
    let sent = version["transfer"]["sent_bytes"].as_u64().unwrap();
    assert!(sent < 15 * MIB, "the second run sent {sent} bytes: {:?}", bench.tap.seen());
    assert!(bench.tap.body_bytes() < 25 * MIB, "{:?}", bench.tap.seen());
    assert_eq!(fs::read_dir(bench.home.data().join("uploads")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(bench.home.path().join(".cache/lamina/registries/uploads")).unwrap().count(), 0, "no note is left");
    assert_eq!(version["digest"], bench.built(&model, "1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_was_killed_and_lost_a_file_is_sent_the_rest_and_the_file() {
    let home = Home::new();
    let address = free_address();
    let service = Serve::start_at(&home, address, &[]);
    let tap = WireTap::before(&address.to_string()).await;
    let mut bench = Bench { home, service, tap };
    let model = bench.home.path().join("model");
    write_model(&model, "m", &[("small.bin", b"small")]);
    assert_eq!(bench.upload(&model)["status"], "Finished");
    write_model(&model, "m", &[("small.bin", b"small"), ("large.bin", &noise(24 << 20))]);
    bench.tap.forget();
    bench.tap.hold_bodies_after(10 * MIB);
    let client = bench.spawn(&model);
    until("half of the file", || bench.session_bytes() >= 9 * MIB).await;
    bench.service.kill();
    // The service has said that it has this one.
    fs::remove_file(bench.content(b"small")).unwrap();
    bench.tap.release();
    bench.service = Serve::start_at(&bench.home, address, &[]);
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let version: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&version["version"], &version["status"]), (&json!(2), &json!("Finished")));
    // What lay in the buffers of the line was lost with the service.
    assert!(bench.tap.body_bytes() < 34 * MIB, "{:?}", bench.tap.seen());
    assert!(bench.content(b"small").is_file());
    assert_eq!(version["digest"], bench.built(&model, "2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_be_asked_is_sent_everything() {
    let bench = Bench::new().await;
    let model = bench.home.path().join("model");
    write_model(&model, "m", &[("large.bin", &noise(9 << 20)), ("small.bin", b"small")]);
    // What an older service says at this path, said by the service itself.
    bench.tap.lead("/api/v2/model/upload/tree", "/api/v2/model/upload/none");
    let version = bench.upload(&model);
    assert_eq!(version["status"], "Finished", "{version:#}");
    assert!(version["transfer"]["sent_bytes"].as_u64().unwrap() > 9 * MIB, "{version:#}");
    assert_eq!(bench.tap.seen().iter().filter(|seen| seen.target.starts_with("/api/v2/model/upload?")).count(), 1);
    assert_eq!(version["digest"], bench.built(&model, "1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_sent_makes_no_version() {
    let bench = Bench::new().await;
    let model = bench.home.path().join("model");
    // More than the buffers of the line hold.
    let large: Vec<u8> = noise(1 << 20).into_iter().cycle().take(96 << 20).collect();
    write_model(&model, "m", &[("large.bin", &large)]);
    bench.tap.hold_bodies_after(4 * MIB);
    let client = bench.spawn(&model);
    until("a part of the file", || bench.session_bytes() >= 3 * MIB).await;
    File::options().append(true).open(model.join("large.bin")).unwrap().write_all(b"more").unwrap();
    bench.tap.release();
    let output = client.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("large.bin` changed while it was being read"), "{said}");
    assert!(versions(&bench.service.url(), "m").await.is_empty());
    let content = fs::read_dir(bench.home.data().join("content")).unwrap().count();
    assert_eq!(content, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_last_answer_is_lost_makes_one_version() {
    let bench = Bench::new().await;
    let model = bench.home.path().join("model");
    write_model(&model, "m", &[("small.bin", b"small")]);
    assert_eq!(bench.upload(&model)["version"], 1);
    // All is there: the question is the upload. Its answer is lost, twice, and so is that to the question whether the service knows such questions.
    for _ in 0..3 {
        bench.tap.lose_answer_to("POST", "/upload/tree");
    }
    let version = bench.upload(&model);
    assert_eq!((bench.tap.due(), &version["version"], &version["status"]), (0, &json!(2), &json!("Finished")));
    assert_eq!(versions(&bench.service.url(), "m").await.len(), 2);
    assert_eq!(version["digest"], bench.built(&model, "2"));
    assert_eq!(bench.upload(&model)["version"], 3, "another upload is another version");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gate_refuses_is_refused_before_it_is_sent() {
    let bench = Bench::new().await;
    let model = bench.home.path().join("model");
    write_model(&model, "m", &[("large.bin", &noise(9 << 20))]);
    assert_eq!(bench.upload(&model)["status"], "Finished");
    write_model(&model, "m", &[("large.bin", &noise(10 << 20))]);
    fs::write(model.join("contract.prototxt"), CONTRACT.replace("\"y\"", "\"other\"")).unwrap();
    bench.tap.forget();
    let before = listing(&bench.home.data());
    let url = bench.url();
    let ran = bench.home.hs(bench.words(&model, &url).into_iter().chain(["--gate", "breaking"]));
    assert_eq!(ran.code, 5, "{ran:#?}");
    assert!(ran.stderr.contains("against version 1 of `m`"), "{ran:#?}");
    assert!(bench.tap.body_bytes() < 10_000, "{:?}", bench.tap.seen());
    assert_eq!(listing(&bench.home.data()), before);
    // Without the gate the same folder makes the next version.
    assert_eq!(bench.upload(&model)["version"], 2);
}

/// What a client that is not ours sends.
struct ByHand {
    url: String,
}

impl ByHand {
    async fn list(&self, metadata: &Value, files: &[(&str, &[u8], u64)]) -> (u16, Value) {
        let line = |(path, bytes, size_bytes): &(&str, &[u8], u64)| {
            json!({"path": path, "size_bytes": size_bytes, "digest": Digest::of(bytes)}).to_string()
        };
        let lines: Vec<String> = files.iter().map(line).collect();
        let form = Form::new().part("metadata", Part::text(metadata.to_string())).part("tree", Part::text(lines.join("\n")));
        let answer = client().post(format!("{}/api/v2/model/upload/tree?view=lamina", self.url)).multipart(form).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn contents(&self, files: &[(String, &[u8])]) -> (u16, Value) {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, *bytes).unwrap();
        }
        let body = tar.into_inner().unwrap();
        let answer = client().post(format!("{}/api/v2/model/upload/contents", self.url)).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vanishes_between_the_question_and_the_upload_is_asked_for_again() {
    let bench = Bench::new().await;
    let by_hand = ByHand { url: bench.service.url() };
    let (contract, weights) = (CONTRACT.as_bytes(), b"weights".as_slice());
    let files = [("contract.prototxt", contract, contract.len() as u64), ("w.bin", weights, 7)];
    let metadata = json!({"name": "m", "model_type": "none:1", "runtime": "scratch"});
    let wanted = |files: &[&[u8]]| {
        let mut digests: Vec<String> = files.iter().map(|bytes| Digest::of(bytes).to_string()).collect();
        digests.sort();
        json!(digests)
    };
    let (status, answer) = by_hand.list(&metadata, &files).await;
    assert_eq!((status, &answer["error"], &answer["wanted"]), (409, &json!("Conflict"), &wanted(&[contract, weights])));
    let sent = [contract, weights].map(|bytes| (Digest::of(bytes).hex(), bytes));
    let (status, answer) = by_hand.contents(&sent).await;
    assert_eq!((status, answer), (200, json!({"files": 2, "size_bytes": contract.len() + 7})));
    fs::remove_file(bench.content(weights)).unwrap();
    let (status, answer) = by_hand.list(&metadata, &files).await;
    assert_eq!((status, &answer["wanted"]), (409, &wanted(&[weights])));
    assert!(versions(&bench.service.url(), "m").await.is_empty());
    assert_eq!(by_hand.contents(&sent[1..]).await.0, 200);
    let (status, answer) = by_hand.list(&metadata, &files).await;
    assert_eq!((status, &answer["version"]), (200, &json!(1)));
    let versions = ended(&bench.service.url(), "m").await;
    assert_eq!(versions[0]["status"], "Finished", "{versions:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_are_refused_and_nothing_of_them_stays() {
    let bench = Bench::new().await;
    let by_hand = ByHand { url: bench.service.url() };
    let (contract, weights) = (CONTRACT.as_bytes(), b"weights".as_slice());
    let named = |bytes: &[u8]| Digest::of(bytes).hex();
    assert_eq!(by_hand.contents(&[(named(contract), contract), (named(weights), weights)]).await.0, 200);
    let data = bench.home.data();
    let (before, rows) = (listing(&data), catalog_rows(&data).await);

    let other = b"other weights".as_slice();
    for (contents, reason) in [
        (vec![(named(other), weights)], "what was sent as"),
        (vec![(named(other), other), ("w.bin".to_owned(), weights)], "`w.bin` is not a digest"),
        (vec![(named(other), other), (named(other), other)], "twice"),
    ] {
        let (status, answer) = by_hand.contents(&contents).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(reason), "{answer}");
    }
    let honest = json!({"name": "m", "model_type": "none:1", "runtime": "scratch"});
    let contract_line = ("contract.prototxt", contract, contract.len() as u64);
    for (metadata, files, reason) in [
        (honest.clone(), vec![contract_line, ("w.bin", weights, 8)], "has 7 bytes and not 8"),
        (honest.clone(), vec![contract_line, ("../w.bin", weights, 7)], "it leaves the folder"),
        (honest.clone(), vec![contract_line, ("w.bin", weights, 7), ("w.bin", weights, 7)], "twice"),
        (honest.clone(), vec![contract_line, ("w.bin", other, 1 << 50)], "bytes; the one past the limit is `w.bin`"),
        // Said before anything is asked for.
        (json!({"name": "NOT A NAME"}), vec![contract_line, ("w.bin", other, 13)], "cannot be a model's name"),
        (json!({"name": "m", "runtime": "oci:/etc:x"}), vec![contract_line, ("w.bin", other, 13)], "the service's own disk"),
        // The files decide, not the form: this contract is none.
        (honest, vec![("contract.prototxt", weights, 7)], "contract"),
    ] {
        let (status, answer) = by_hand.list(&metadata, &files).await;
        assert!(status == 400 || status == 413, "{status} {answer}");
        assert!(answer["message"].as_str().unwrap().contains(reason), "{answer}");
    }
    assert_eq!(listing(&data), before);
    assert_eq!(catalog_rows(&data).await, rows);
}
