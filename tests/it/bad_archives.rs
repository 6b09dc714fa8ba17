//! Every bad archive, sent to a service that really listens: refused with what and where, and the data folder is as it was.
//!
//! The archives and their messages are those of `archives.rs`, which reads them without a service; `service_refusals.rs` has what the two APIs refuse in their forms.
//! Here it is the whole program, its config file and its own client, and what is compared is everything that lies on its disk.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::archives::{BAD, python};
use crate::service::archive;
use crate::support::hs::{Home, Serve, tool};
use crate::support::outside::{CONTRACT, catalog_rows, client, ended, listing, until, write_model};

/// A service, and what was in its data folder before anything was sent.
struct Untouched {
    home: Home,
    service: Serve,
    files: Vec<(String, u64)>,
    rows: Vec<String>,
}

impl Untouched {
    async fn start(config: &str) -> Untouched {
        let home = Home::new();
        let file = home.path().join("config.yaml");
        fs::write(&file, config).unwrap();
        let service = Serve::start(&home, &["--config", file.to_str().unwrap()]);
        let (files, rows) = (listing(&home.data()), catalog_rows(&home.data()).await);
        assert!(files.iter().any(|(name, _)| name == "catalog.sqlite") && !rows.is_empty(), "{files:?}");
        Untouched { home, service, files, rows }
    }

    /// Nothing on the disk is new, changed or gone, and the catalog says what it said.
    async fn assert_untouched(&self, what: &str) {
        assert_eq!(listing(&self.home.data()), self.files, "{what}");
        assert_eq!(catalog_rows(&self.home.data()).await, self.rows, "{what}");
    }

    async fn send(&self, path: &str, form: Form) -> (u16, Value) {
        let answer = client().post(format!("{}{path}", self.service.url())).multipart(form).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    /// Sends a form that must be refused; gives the words of the refusal.
    async fn refused(&self, what: &str, path: &str, form: Form, status: u16) -> String {
        let (found, body) = self.send(path, form).await;
        assert_eq!(found, status, "{what}: {body}");
        let first = path.starts_with("/api/v1");
        let (message, error) = if first { (&body["information"]["message"], "Client") } else { (&body["message"], "InvalidRequest") };
        assert_eq!(body["error"], if status == 413 && !first { "TooLarge" } else { error }, "{what}: {body}");
        self.assert_untouched(what).await;
        format!("{} {}", message.as_str().unwrap(), body["remedy"].as_str().unwrap_or_default())
    }

    /// After all of it, a good upload is the first.
    async fn assert_the_next_is_the_first(&self) {
        let folder = self.home.path().join("good");
        write_model(&folder, "m", &[("w", b"1")]);
        let version = self.home.json(["upload", folder.to_str().unwrap(), "--server", &self.service.url()]);
        assert_eq!((&version["version"], &version["status"], &version["id"]), (&json!(1), &json!("Finished"), &json!(1)), "{version:#}");
        ended(&self.service.url(), "m").await;
    }
}

fn payload(bytes: Vec<u8>) -> Part {
    Part::bytes(bytes).file_name("filename")
}

const V1: &str = "/api/v1/model/upload";
const V2: &str = "/api/v2/model/upload";

/// The form of each API for an archive.
fn forms(archive: &[u8]) -> [(&'static str, Form); 2] {
    let first = Form::new().text("model_name", "m").text("model_type", "none:1").part("payload", payload(archive.to_vec()));
    let second = Form::new().text("metadata", json!({"name": "m"}).to_string()).part("payload", payload(archive.to_vec()));
    [(V1, first), (V2, second)]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_archive_is_refused_by_both_apis_and_the_data_folder_is_as_before() {
    let untouched = Untouched::start("{}").await;
    let archives = tempfile::tempdir().unwrap();
    python(&[&"bad.py", &archives.path()]);
    for (case, words) in BAD {
        let status = if *case == "bomb" { 413 } else { 400 };
        for (path, form) in forms(&fs::read(archives.path().join(case)).unwrap()) {
            let text = untouched.refused(case, path, form, status).await;
            assert!(text.contains(words), "{case} at {path}: {text}");
        }
    }
    untouched.assert_the_next_is_the_first().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_of_the_config_file_holds_for_uploads() {
    let untouched = Untouched::start("limits: {unpacked_bytes_max: 100000, entries_max: 5, ratio_max: 20}").await;
    let zeros = vec![0; 100_001];
    let many: Vec<String> = (0..6).map(|number| format!("f{number}")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b"1"[..])).collect();
    let cases: [(&str, Vec<u8>, &[&str]); 2] =
        [("bytes", archive(&[("zeros", &zeros)]), &["100000 bytes", "`zeros`"]), ("entries", archive(&many), &["more than 5", "`f5`"])];
    for (what, bytes, words) in &cases {
        for (path, form) in forms(bytes) {
            let text = untouched.refused(what, path, form, 413).await;
            assert!(words.iter().all(|word| text.contains(word)), "{what} at {path}: {text}");
        }
    }
    untouched.assert_the_next_is_the_first().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ratio_of_the_config_file_holds_past_the_first_64_mib() {
    let untouched = Untouched::start("limits: {ratio_max: 20}").await;
    // One zero after another packs a thousandfold.
    let bomb = archive(&[("zeros", &vec![0; 80 << 20])]);
    for (path, form) in forms(&bomb) {
        let text = untouched.refused("a bomb", path, form, 413).await;
        assert!(text.contains("more than 20 times its size"), "{path}: {text}");
    }
    untouched.assert_the_next_is_the_first().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_model_is_refused_with_the_place_and_the_remedy() {
    let untouched = Untouched::start("{}").await;
    let with = |contract: &str| archive(&[("contract.prototxt", contract.as_bytes()), ("w", b"1")]);
    let field = r#"inputs { name: "x" shape { dim { size: 2 } } dtype: DT_DOUBLE }"#;
    let output = r#"outputs { name: "y" dtype: DT_DOUBLE }"#;
    let good = with(CONTRACT);
    let named = |name: &str| json!({"name": name}).to_string();
    let cases: Vec<(&str, Vec<u8>, String, &[&str])> = vec![
        ("no contract", archive(&[("w", b"1")]), named("m"), &["contract.prototxt", "no contract"]),
        ("an empty contract", with(""), named("m"), &["contract.prototxt", "signature"]),
        ("a torn contract", with("signatures {\n  signature_name: \"s\"\n"), named("m"), &["contract.prototxt:2:22"]),
        ("an unknown word", with("signatures {\n  sinature_name: \"s\"\n}"), named("m"), &["contract.prototxt:2:3", "sinature_name"]),
        (
            "an unknown type",
            with("signatures { inputs { name: \"x\" dtype: DT_DUBLE } }"),
            named("m"),
            &["contract.prototxt:1:", "DT_DUBLE"],
        ),
        (
            "a field twice",
            with(&format!("signatures {{ signature_name: \"s\" {field} {field} {output} }}")),
            named("m"),
            &["contract.prototxt", "s.inputs.x twice"],
        ),
        ("a bad name", good.clone(), named("Bad Name"), &["Bad Name", "bad-name"]),
        ("an empty name", good.clone(), named(""), &["name"]),
        ("a long name", good.clone(), named(&"n".repeat(129)), &["128"]),
        ("a name with a path", good.clone(), named("../m"), &["../m"]),
        ("no files", archive(&[]), named("m"), &["no files"]),
        (
            "a payload that is not there",
            archive(&[
                ("serving.yaml", b"model: {name: m, payload: [gone.bin], contract: contract.prototxt}"),
                ("contract.prototxt", CONTRACT.as_bytes()),
            ]),
            json!({}).to_string(),
            &["`gone.bin`", "payload"],
        ),
        ("a torn definition", archive(&[("serving.yaml", b"model: {"), ("w", b"1")]), named("m"), &["serving.yaml"]),
    ];
    for (what, bytes, metadata, words) in cases {
        let form = Form::new().text("metadata", metadata).part("payload", payload(bytes));
        let text = untouched.refused(what, V2, form, 400).await;
        assert!(words.iter().all(|word| text.contains(word)), "{what}: {text}");
    }
    let first = Form::new().text("model_name", "Bad Name").part("payload", payload(good));
    let text = untouched.refused("a bad name at v1", V1, first, 400).await;
    assert!(text.contains("Bad Name") && text.contains("bad-name"), "{text}");
    untouched.assert_the_next_is_the_first().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_none_or_is_cut_off_leaves_nothing() {
    let untouched = Untouched::start("{}").await;
    let good = archive(&[("contract.prototxt", CONTRACT.as_bytes()), ("w", &vec![7; 50_000])]);
    let part = "Content-Disposition: form-data; name=\"payload\"; filename=\"f\"";
    let whole = [format!("--b\r\n{part}\r\n\r\n").as_bytes(), &good, b"\r\n--b--\r\n"].concat();
    for path in [V1, V2] {
        let url = format!("{}{path}", untouched.service.url());
        let unended = [format!("--b\r\n{part}\r\n\r\n").as_bytes(), &good].concat();
        let forms: [(&str, &str, Vec<u8>); 5] = [
            ("not a form", "application/json", b"{}".to_vec()),
            ("no boundary", "multipart/form-data", whole.clone()),
            ("another boundary", "multipart/form-data; boundary=c", whole.clone()),
            ("no end", "multipart/form-data; boundary=b", unended),
            ("a head that is none", "multipart/form-data; boundary=b", b"--b\r\nnonsense\r\n\r\nx\r\n--b--\r\n".to_vec()),
        ];
        for (what, content_type, body) in forms {
            let answer = client().post(&url).header("content-type", content_type).body(body).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 400, "{what} at {path}");
            let body: Value = answer.json().await.unwrap();
            assert!(body["message"].is_string() || body["information"]["message"].is_string(), "{what} at {path}: {body}");
            untouched.assert_untouched(what).await;
        }
        // The sender goes away: in the middle of the archive, and after all of it but the form's end.
        for sent in [whole.len() / 2, whole.len() - 9] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n",
                untouched.service.address,
                whole.len()
            );
            let mut stream = TcpStream::connect(untouched.service.address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&whole[..sent]).await.unwrap();
            let uploads = untouched.home.data().join("uploads");
            let staged = || fs::read_dir(&uploads).unwrap().count();
            until("an upload that begins", || staged() == 1).await;
            drop(stream);
            until("an upload that is cleared away", || staged() == 0).await;
            untouched.assert_untouched("a sender that goes away").await;
        }
    }
    untouched.assert_the_next_is_the_first().await;
}

/// A model folder in which something is wrong.
fn folder(home: &Home, name: &str, spoil: impl FnOnce(&Path)) -> PathBuf {
    let folder = home.path().join("bad").join(name);
    write_model(&folder, "m", &[("w", b"1")]);
    fs::write(folder.join("serving.yaml"), "model: {name: m, type: \"none:1\", contract: contract.prototxt}\n").unwrap();
    spoil(&folder);
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_refuses_bad_folders_before_anything_is_sent() {
    use std::os::unix::ffi::OsStrExt as _;
    let untouched = Untouched::start("{}").await;
    let make = |name: &str, spoil: &dyn Fn(&Path)| folder(&untouched.home, name, |path| spoil(path));
    let write = |path: PathBuf, text: &str| fs::write(path, text).unwrap();
    let cases: Vec<(PathBuf, &[&str])> = vec![
        (make("link", &|at| symlink("/etc/passwd", at.join("l")).unwrap()), &["`l`", "/etc/passwd"]),
        (make("link-up", &|at| symlink("../../outside", at.join("l")).unwrap()), &["`l`", "../../outside"]),
        (make("link-gone", &|at| symlink("gone", at.join("l")).unwrap()), &["`l`", "gone"]),
        (make("pipe", &|at| drop(tool("mkfifo", &[at.join("pipe").to_str().unwrap()]))), &["`pipe`", "named pipe"]),
        (make("whiteout", &|at| write(at.join(".wh.w"), "")), &[".wh.w", "deletion"]),
        (make("control", &|at| write(at.join("a\nb"), "")), &["a\\nb", "control character"]),
        (make("not-utf8", &|at| fs::write(at.join(std::ffi::OsStr::from_bytes(b"a\xff")), "").unwrap()), &["UTF-8"]),
        (make("no-contract", &|at| drop(fs::remove_file(at.join("contract.prototxt")))), &["contract.prototxt"]),
        (make("contract", &|at| write(at.join("contract.prototxt"), "signatures {\n  x: 1\n}")), &["contract.prototxt:2:3"]),
        (
            make("name", &|at| write(at.join("serving.yaml"), "model: {name: Bad Name, contract: contract.prototxt}")),
            &["Bad Name", "bad-name"],
        ),
        (make("payload", &|at| write(at.join("serving.yaml"), "model: {name: m, payload: [gone]}")), &["`gone`", "payload"]),
        (make("definition", &|at| write(at.join("serving.yaml"), "model: [")), &["serving.yaml"]),
    ];
    for (path, words) in cases {
        let ran = untouched.home.hs(["upload", path.to_str().unwrap(), "--server", &untouched.service.url()]);
        assert_eq!(ran.code, 3, "{}: {ran:#?}", path.display());
        assert!(words.iter().all(|word| ran.stderr.contains(word)), "{}: {ran:#?}", path.display());
        assert_eq!(ran.stdout, "");
        untouched.assert_untouched(&path.to_string_lossy()).await;
    }
    untouched.assert_the_next_is_the_first().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_says_what_a_service_with_narrower_limits_refuses() {
    let untouched = Untouched::start("limits: {unpacked_bytes_max: 1000}").await;
    let path = folder(&untouched.home, "large", |at| fs::write(at.join("w"), [1; 2000]).unwrap());
    let ran = untouched.home.hs(["upload", path.to_str().unwrap(), "--server", &untouched.service.url()]);
    assert_eq!(ran.code, 3, "{ran:#?}");
    assert!(ran.stderr.contains("413") && ran.stderr.contains("1000 bytes") && ran.stderr.contains("`w`"), "{ran:#?}");
    untouched.assert_untouched("a large folder").await;
    untouched.assert_the_next_is_the_first().await;
}
