//! What the service refuses: with the status, in the words of the API that was asked, and with nothing of it left.

use std::path::Path;

use lamina::catalog::versions::Page;
use lamina::model::tree::Limits;
use lamina::server::app::Settings;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::service::{CONTRACT, Running, archive, files, model, payload};

fn small() -> Settings {
    let limits = Limits { unpacked_bytes_max: 1 << 20, entries_max: 20, ..Limits::default() };
    Settings { limits, upload_bytes_max: 4 << 20, ..Settings::default() }
}

/// Nothing of a refused upload is anywhere: no file, no model, and the next version is the first.
async fn nothing_is_left(running: &Running, data: &Path, before: &[(String, u64)]) {
    assert_eq!(files(data), before);
    assert_eq!(running.service.catalog.models(Page::first()).await.unwrap().rows, []);
}

fn form(metadata: &Value) -> Form {
    payload(model("m")).text("metadata", metadata.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_uploads_are_refused_and_leave_nothing() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), 1, small()).await;
    let before = files(data.path());
    let with_contract = |text: &str| archive(&[("contract.prototxt", text.as_bytes()), ("w", b"1")]);
    let cut = {
        let whole = model("m");
        whole[..whole.len() / 2].to_vec()
    };
    let many: Vec<(String, Vec<u8>)> = (0..30).map(|i| (format!("f{i}"), vec![1])).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let large = vec![7_u8; (1 << 20) + 1];
    let named = json!({"name": "m"});
    let cases: Vec<(&str, Form, u16, &str)> = vec![
        ("no payload", Form::new().text("metadata", "{}"), 400, "`payload`"),
        ("not an archive", payload(b"hello, world".repeat(100)), 400, "archive"),
        ("nothing at all", payload(Vec::new()), 400, ""),
        ("a cut archive", payload(cut), 400, "cut off"),
        ("leaves the folder", payload(archive(&[("../evil", b"x")])), 400, "../evil"),
        ("an absolute path", payload(archive(&[("/etc/passwd", b"x")])), 400, "/etc/passwd"),
        ("a whiteout", payload(archive(&[("a/.wh.b", b"x")])), 400, ".wh."),
        ("the same path twice", payload(archive(&[("a", b"1"), ("a", b"2")])), 400, "twice"),
        ("too many files", payload(archive(&many)), 413, "more than 20"),
        ("too many bytes", payload(archive(&[("w", &large)])), 413, "more than 1048576"),
        ("a bad name", form(&json!({"name": "Not_A_Name"})), 400, "not_a_name"),
        ("no name", payload(with_contract(CONTRACT)), 400, "name"),
        ("no contract", payload(archive(&[("w", b"1")])).text("metadata", named.to_string()), 400, "contract.prototxt"),
        ("a torn contract", payload(with_contract("signatures {")).text("metadata", named.to_string()), 400, "contract.prototxt"),
        ("a contract of nothing", payload(with_contract("")).text("metadata", named.to_string()), 400, "contract.prototxt"),
        ("metadata that is no JSON", payload(model("m")).text("metadata", "{"), 400, "`metadata`"),
        ("metadata of another shape", form(&json!({"name": 3})), 400, "`metadata`"),
        ("an install command", form(&json!({"installCommand": "pip install x"})), 400, "without running"),
        ("a signature that is none", form(&json!({"modelSignature": {"inputs": []}})), 400, "`signatureName`"),
        ("a runtime that is none", form(&json!({"runtime": {"tag": "1"}})), 400, "`runtime`"),
        ("long metadata", payload(model("m")).text("metadata", " ".repeat((1 << 20) + 1)), 413, "`metadata`"),
        ("a long contract", payload(model("m")).part("contract", Part::bytes(vec![0; (1 << 20) + 1])), 413, "`contract`"),
        ("metadata twice", form(&json!({})).text("metadata", "{}"), 400, "twice"),
        ("two archives", payload(model("m")).part("payload", Part::bytes(model("m"))), 400, "twice"),
        ("forty parts", (0..40).fold(payload(model("m")), |form, i| form.text(format!("p{i}"), "x")), 400, "32 parts"),
        ("a large request", payload(model("m")).text("pad", " ".repeat(4 << 20)), 413, "4194304"),
    ];
    for (what, form, status, word) in cases {
        let (found, body) = running.upload("/api/v2/model/upload", form).await;
        assert_eq!(found, status, "{what}: {body}");
        let text = format!("{} {}", body["message"].as_str().unwrap(), body["remedy"].as_str().unwrap_or_default());
        assert!(text.contains(word), "{what}: {text}");
        assert_eq!(body["error"], if status == 413 { "TooLarge" } else { "InvalidRequest" }, "{what}");
        nothing_is_left(&running, data.path(), &before).await;
    }
    let (status, version) = running.upload("/api/v2/model/upload", payload(model("m"))).await;
    assert_eq!((status, &version["modelVersion"]), (200, &json!(1)));
    running.idle().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seed_eras_clients_read_a_refusal_in_their_own_form() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), 0, small()).await;
    let before = files(data.path());
    let form = payload(archive(&[("w", b"1")])).text("model_name", "m");
    let wrong = form.part("model_contract", Part::bytes(b"\xff\xff".to_vec()));
    let (status, body) = running.upload("/api/v1/model/upload", wrong).await;
    assert_eq!((status, &body["error"]), (400, &json!("Client")));
    assert!(body["information"]["message"].as_str().unwrap().contains("model_contract.protobin"), "{body}");
    let (status, body) = running.upload("/api/v1/model/upload", Form::new().text("model_name", "m")).await;
    assert_eq!((status, &body["error"]), (400, &json!("Client")));
    let answer = running.client.post(format!("{}/api/v1/model/upload", running.url)).body("x").send().await.unwrap();
    assert_eq!(answer.status(), 400);
    nothing_is_left(&running, data.path(), &before).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_abandoned_leaves_nothing() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), 0, Settings::default()).await;
    let before = files(data.path());
    let body = model("m");
    let head = format!(
        "POST /api/v2/model/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n\
         --b\r\nContent-Disposition: form-data; name=\"payload\"; filename=\"f\"\r\n\r\n",
        body.len() + 1000
    );
    let mut stream = TcpStream::connect(&running.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // The whole archive, but neither the end of its part nor of the form: it must not pass for an upload.
    stream.write_all(&body).await.unwrap();
    let staged = || std::fs::read_dir(data.path().join("uploads")).unwrap().count();
    while staged() == 0 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    while staged() > 0 {
        tokio::task::yield_now().await;
    }
    nothing_is_left(&running, data.path(), &before).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_upload_is_given_up() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), 0, Settings { upload_idle_s: 1, ..Settings::default() }).await;
    let head = "POST /api/v2/model/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 9999\r\n\r\n\
                --b\r\nContent-Disposition: form-data; name=\"payload\"; filename=\"f\"\r\n\r\n";
    let (status, body) = crate::service::raw(&running.address, head.as_bytes()).await;
    assert_eq!((status, &body["message"]), (400, &json!("the upload stood still for 1 seconds")));
    assert_eq!(std::fs::read_dir(data.path().join("uploads")).unwrap().count(), 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found_and_other_sites_change_nothing() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), 0, Settings::default()).await;
    let missing = ["/model/9", "/model/version/m/1", "/model/version/9/logs", "/application/a", "/nowhere"];
    for path in missing {
        let (status, body) = running.get(&format!("/api/v2{path}")).await;
        assert_eq!((status, &body["error"]), (404, &json!("NotFound")), "{path}");
    }
    for path in ["/model/9", "/model/build/9", "/model/builds/9", "/runtime"] {
        let (status, body) = running.get(&format!("/api/v1{path}")).await;
        assert_eq!((status, &body["error"]), (404, &json!("Client")), "{path}");
    }
    for path in ["/model/x", "/model/version/m/x", "/model/version/x/logs", "/model/version?limit=x"] {
        assert_eq!(running.get(&format!("/api/v2{path}")).await.0, 400, "{path}");
    }
    let foreign = running.client.post(format!("{}/api/v2/model/upload", running.url)).header("sec-fetch-site", "cross-site");
    let answer = foreign.multipart(payload(model("m"))).send().await.unwrap();
    assert_eq!(answer.status(), 403);
    assert_eq!(running.service.catalog.models(Page::first()).await.unwrap().rows, []);
    running.stop().await;
}
