//! What a stranger may not do to a service, and what a slip of the pen may not do to a user.
//!
//! Each test stands for something that went wrong once: a base read from the service's own disk, a version's tag pointed elsewhere, a success without an image, an
//! upload that was another image than the build.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use reqwest::multipart::Form;
use serde_json::json;

use crate::support::hs::{Home, Serve, tool};
use crate::support::outside::{CONTRACT, client, ended};

/// A model folder in `home` that is built on nothing.
fn model(home: &Home, definition: &str) -> std::path::PathBuf {
    let folder = home.path().join("model");
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("serving.yaml"), definition).unwrap();
    fs::write(folder.join("contract.prototxt"), CONTRACT).unwrap();
    fs::write(folder.join("src/func_main.py"), "def infer(x): ...\n").unwrap();
    folder
}

const DEFINITION: &str = "model: {name: m, type: 'none:1', contract: contract.prototxt}\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_cannot_name_a_base_on_the_services_own_disk() {
    let home = Home::new();
    let service = Serve::start(&home, &[]);
    let later = |runtime: &str| format!("kind: Model\nname: m\nruntime: '{runtime}'\ncontract: contract.prototxt\npayload: [src/]\n");
    for runtime in ["oci:/etc", "oci-archive:/etc/shadow", "docker-archive:/etc/passwd"] {
        let folder = model(&home, &later(runtime));
        let ran = home.hs(["upload", folder.to_str().unwrap(), "--server", &service.url()]);
        assert_eq!(ran.code, 3, "{ran:#?}");
        assert!(ran.stderr.contains("would be read from the service's own disk"), "{}", ran.stderr);
        // And in the form, without a definition that says so.
        let archive =
            tool("sh", &["-c", &format!("tar -C {} -czf {}/m.tgz src contract.prototxt", folder.display(), home.path().display())]);
        assert_eq!(archive, "");
        let metadata = json!({"name": "m", "runtime": runtime}).to_string();
        let payload = reqwest::multipart::Part::bytes(fs::read(home.path().join("m.tgz")).unwrap()).file_name("m.tgz");
        let form = Form::new().text("metadata", metadata).part("payload", payload);
        let answer = client().post(format!("{}/api/v2/model/upload", service.url())).multipart(form).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 400);
    }
    assert!(ended(&service.url(), "m").await.is_empty(), "no number was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_versions_tag_takes_no_other_manifest() {
    let home = Home::new();
    let service = Serve::start(&home, &[]);
    let folder = model(&home, DEFINITION);
    let version = home.json(["upload", folder.to_str().unwrap(), "--server", &service.url()]);
    let other = home.path().join("other");
    home.json(["build", folder.to_str().unwrap(), "--name", "another", "--to", &format!("oci:{}:t", other.display())]);
    let (from, to) = (format!("oci:{}:t", other.display()), format!("docker://{}/m", service.address));
    let copy = |tag: &str| {
        let arguments = ["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false", &from, &format!("{to}:{tag}")];
        std::process::Command::new("skopeo").args(arguments).output().unwrap()
    };
    let refused = copy("1");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is a version of a model and is never changed"), "{refused:?}");
    assert!(copy("mine").status.success(), "other tags of the repository are anybody's");
    let now = home.json(["inspect", &format!("{}/m:1", service.address)]);
    assert_eq!(now["digest"], version["digest"]);
}

#[test]
fn an_upload_without_an_image_is_no_success() {
    let home = Home::new();
    let folder = model(&home, DEFINITION);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // Something that answers everything with `{}`.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut read = Vec::new();
            let mut piece = vec![0; 65536];
            // A question has no body, a form ends with its boundary.
            let is_whole = |read: &[u8]| {
                let ends = |end: &[u8]| read.windows(4).any(|four| four == end);
                if read.starts_with(b"GET ") { ends(b"\r\n\r\n") } else { ends(b"--\r\n") }
            };
            while !is_whole(&read) {
                match stream.read(&mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => read.extend_from_slice(&piece[..length]),
                }
            }
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}");
        }
    });
    let ran = home.hs(["upload", folder.to_str().unwrap(), "--server", &url]);
    assert_eq!(ran.code, 4, "{ran:#?}");
    assert!(ran.stderr.contains("is not a model service: its answer is no version of a model"), "{}", ran.stderr);
    for server in ["127.0.0.1:1", "ftp://host/x", "http://"] {
        let ran = home.hs(["upload", folder.to_str().unwrap(), "--server", server]);
        assert_eq!(ran.code, 2, "{server}: {ran:#?}");
    }
}

#[test]
fn an_upload_and_a_build_make_the_same_image() {
    let home = Home::new();
    let service = Serve::start(&home, &[]);
    let folder = model(&home, DEFINITION);
    // Rules that take in again what the defaults leave out, and leave out something else.
    fs::write(folder.join(".hsignore"), "!.env\nnotes/\n").unwrap();
    fs::write(folder.join(".env"), "A=1\n").unwrap();
    fs::create_dir(folder.join("notes")).unwrap();
    fs::write(folder.join("notes/x"), "x").unwrap();
    let version = home.json(["upload", folder.to_str().unwrap(), "--server", &service.url()]);
    let image = home.json(["build", folder.to_str().unwrap(), "--version", "1"]);
    assert_eq!(version["digest"], image["digest"]);
    let back = home.path().join("back");
    home.json(["pull", &format!("{}/m:1", service.address), back.to_str().unwrap()]);
    assert!(back.join(".env").is_file() && !back.join("notes").exists());
}

#[test]
fn flags_beat_variables_and_destinations_are_checked_before_anything_is_written() {
    let home = Home::new().with("HS_SERVER", "http://127.0.0.1:1").with("HS_HOST", "nowhere.invalid");
    let service = Serve::start(&home, &[]);
    let folder = model(&home, DEFINITION);
    let (host, port) = (service.address.ip().to_string(), service.address.port().to_string());
    let version = home.json(["upload", folder.to_str().unwrap(), "--host", &host, "--port", &port]);
    assert_eq!(version["status"], "Finished");
    let layout = home.path().join("layout");
    let good = format!("oci:{}:t", layout.display());
    for (wrong, words) in [
        ("oci:/tmp/a:b/c", "what follows the first `:`"),
        ("oci:", "it names no path"),
        ("nofile", "names no registry"),
        ("127.0.0.1:1/x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "names a digest"),
    ] {
        let ran = home.hs(["build", folder.to_str().unwrap(), "--to", &good, "--to", wrong]);
        assert_eq!(ran.code, 2, "{wrong}: {ran:#?}");
        assert!(ran.stderr.contains(words), "{wrong}: {}", ran.stderr);
        assert!(!layout.join("index.json").exists() || fs::read_to_string(layout.join("index.json")).unwrap().contains("\"manifests\":[]"));
    }
}

#[test]
fn a_pull_keeps_to_the_limit_and_leaves_nothing() {
    let home = Home::new();
    let folder = model(&home, DEFINITION);
    let image = format!("oci:{}:t", home.path().join("layout").display());
    home.json(["build", folder.to_str().unwrap(), "--to", &image]);
    let config = home.path().join("config.yaml");
    fs::write(&config, "limits: {unpacked_bytes_max: 10}\n").unwrap();
    let below = home.path().join("down");
    fs::create_dir(&below).unwrap();
    let ran = home.hs(["--config", config.to_str().unwrap(), "pull", &image, below.join("back").to_str().unwrap()]);
    assert_eq!(ran.code, 3, "{ran:#?}");
    assert!(ran.stderr.contains("unpacks to more than") && ran.stderr.contains("limits.unpacked_bytes_max"), "{}", ran.stderr);
    assert_eq!(fs::read_dir(&below).unwrap().count(), 0);
}
