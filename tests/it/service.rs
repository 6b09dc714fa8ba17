//! The service over HTTP, whole: a real listener, a real data folder, real builds into the embedded store.
//!
//! Here are the harness and the paths on which all goes well; what is refused is in `service_refusals.rs`, the pages and live answers in
//! `service_live.rs`.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use lamina::build::base::Places;
use lamina::build::job::{Shelf, Workshop};
use lamina::build::request::BuildSettings;
use lamina::build::worker::{self, WorkerSettings};
use lamina::catalog::catalog::Catalog;
use lamina::catalog::record::{BuildId, Status, VersionNumber};
use lamina::catalog::versions::Page;
use lamina::disk::store::Store;
use lamina::model::runtime::RuntimeList;
use lamina::registry::client::Registries;
use lamina::registry::settings::RegistrySettings;
use lamina::server::app::{self, Service, Settings, StartError};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const CONTRACT: &str = r#"signatures { signature_name: "infer"
  inputs { name: "x" shape { dim { size: -1 } dim { size: 2 } } dtype: DT_DOUBLE }
  outputs { name: "y" shape { dim { size: -1 } } dtype: DT_DOUBLE } }"#;

/// A service with its workers; they end with it.
pub struct Running {
    pub url: String,
    pub address: String,
    pub service: Service,
    pub client: reqwest::Client,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts a service on `data`, with so many workers.
    pub async fn start(data: &Path, workers: usize, settings: Settings) -> Running {
        lamina::registry::tls::install_provider();
        let store = Arc::new(Store::open(data).unwrap());
        let catalog = Catalog::open(&data.join("catalog.db")).await.unwrap();
        let stop = CancellationToken::new();
        let service = Service::start(catalog.clone(), store.clone(), settings, stop.clone()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let workshop = Workshop {
            store: store.clone(),
            places: Places { registries: Registries::new(RegistrySettings::default()).unwrap(), store: Some(store), mirrors: Vec::new() },
            // No runtime is known, so every image is the model alone and nothing is pulled.
            settings: BuildSettings::new(RuntimeList::default()),
            shelf: Shelf::Embedded { host: address.clone() },
            catalog: catalog.clone(),
        };
        let answering = app::serve(listener, service.clone(), axum::Router::new());
        let mut tasks = vec![tokio::spawn(async move { answering.await.unwrap() })];
        for _ in 0..workers {
            let (catalog, stop, workshop) = (catalog.clone(), stop.clone(), workshop.clone());
            tasks.push(tokio::spawn(worker::work(catalog, WorkerSettings::default(), stop, move |claim, log| {
                let workshop = workshop.clone();
                async move { workshop.run(claim, log).await }
            })));
        }
        Running { url: format!("http://{address}"), address, service, client: reqwest::Client::new(), tasks }
    }

    /// Stops it as SIGTERM does.
    pub async fn stop(self) {
        self.service.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
        self.service.catalog.close().await;
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub async fn upload(&self, path: &str, form: Form) -> (u16, Value) {
        let answer = self.client.post(format!("{}{path}", self.url)).multipart(form).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Waits until nothing is in the queue and nothing runs.
    pub async fn idle(&self) {
        let mut changes = self.service.catalog.changes();
        loop {
            let counts = self.service.catalog.counts().await.unwrap();
            if counts.builds.iter().all(|(status, count)| status.is_final() || *count == 0) {
                return;
            }
            changes.recv().await.unwrap();
        }
    }
}

/// A tar.gz of these files.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Set by hand: the library refuses the paths that some tests are about.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

pub fn model(name: &str) -> Vec<u8> {
    let definition = format!("model:\n  name: {name}\n  type: \"none:1\"\n  contract: contract.prototxt\n  payload: [weights.bin]\n");
    archive(&[("serving.yaml", definition.as_bytes()), ("contract.prototxt", CONTRACT.as_bytes()), ("weights.bin", b"0123456789")])
}

pub fn payload(bytes: Vec<u8>) -> Form {
    Form::new().part("payload", Part::bytes(bytes).file_name("filename"))
}

/// Every file below `folder` but the database, with its size.
pub fn files(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if metadata.is_dir() {
                folders.push(path);
            } else if !name.starts_with("catalog.db") {
                found.push((name, metadata.len()));
            }
        }
    }
    found.sort();
    found
}

/// Sends bytes as they are and reads the answer's status and JSON.
pub async fn raw(address: &str, request: &[u8]) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // The recorded clients keep their connection open; what is wanted is one whole answer.
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(value) = serde_json::from_str(body)
        {
            return (head.split(' ').nth(1).unwrap().parse().unwrap(), value);
        }
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the answer ends early: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ancestors_client_uploads_twice_and_finds_both_versions() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), 1, Settings::default()).await;
    let recorded = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ancestor/hs-0.0.10-upload.http")).unwrap();
    for number in 1..=2 {
        let (status, build) = raw(&running.address, &recorded).await;
        assert_eq!(status, 200, "{build}");
        assert_eq!((&build["version"], &build["model"]["name"]), (&json!(number), &json!("linear_regression")));
        assert!(["Pending", "Running", "Finished"].contains(&build["status"].as_str().unwrap()), "{build}");
        assert_eq!(build["model"]["modelType"], "python:3.6");
        assert_eq!(build["model"]["description"], "y = 2*a + 3*b, the getting-started model");
        let contract = build["model"]["modelContract"].as_str().unwrap();
        assert!(contract.starts_with("model_name: \"linear_regression\"\nsignatures {\n  signature_name: \"infer\"\n"), "{contract}");
    }
    running.idle().await;
    let (_, models) = running.get("/api/v1/model").await;
    let id = &models[0]["model"]["id"];
    assert_eq!((&models[0]["lastModelBuild"]["version"], &models[0]["lastModelVersion"]["modelVersion"]), (&json!(2), &json!(2)));
    assert_eq!(running.get(&format!("/api/v1/model/{id}")).await.1, models[0]);
    let (_, builds) = running.get(&format!("/api/v1/model/builds/{id}")).await;
    let states: Vec<_> = builds.as_array().unwrap().iter().map(|build| (build["version"].as_i64().unwrap(), &build["status"])).collect();
    assert_eq!(states, [(2, &json!("Finished")), (1, &json!("Finished"))]);
    assert_eq!(builds[0]["modelVersion"]["applications"], json!([]));
    let (_, build) = running.get(&format!("/api/v1/model/build/{}", builds[1]["id"])).await;
    assert_eq!((&build["status"], &build["modelVersion"]["imageTag"]), (&json!("Finished"), &json!("1")));
    let (_, versions) = running.get("/api/v1/model/version").await;
    assert_eq!(versions.as_array().unwrap().len(), 2);
    for tag in ["1", "2"] {
        let manifest = running.service.store.manifest("linear_regression", tag).unwrap();
        assert!(manifest.is_some(), "no manifest for tag {tag}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_come_in_any_order_and_our_view_is_flat() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), 1, Settings::default()).await;
    let (status, uploaded) = running.upload("/api/v2/model/upload?view=lamina", payload(model("m"))).await;
    assert_eq!((status, &uploaded["model"], &uploaded["version"]), (200, &json!("m"), &json!(1)), "{uploaded}");
    let metadata = json!({"name": "n", "model_type": "none:2", "description": "words", "metadata": {"git.branch": "main"}});
    let form = payload(model("m")).text("metadata", metadata.to_string());
    assert_eq!(running.upload("/api/v2/model/upload", form).await.0, 200);
    let first = Form::new().text("metadata", metadata.to_string()).part("payload", Part::bytes(model("m")).file_name("f"));
    assert_eq!(running.upload("/api/v2/model/upload", first).await.1["modelVersion"], 2);
    running.idle().await;
    let (_, ours) = running.get("/api/v2/model/version/n/2?view=lamina").await;
    assert_eq!((&ours["status"], &ours["model_type"], &ours["description"]), (&json!("Finished"), &json!("none:2"), &json!("words")));
    assert_eq!(ours["image"], format!("{}/n:2", running.address));
    let digest = ours["digest"].as_str().unwrap();
    let manifest = running.service.store.manifest("n", "2").unwrap().unwrap();
    assert_eq!(manifest.digest.to_string(), digest);
    assert_eq!(ours["contract"]["signatures"][0]["inputs"][0]["shape"], json!({"dims": [-1, 2]}));
    assert_eq!((&ours["metadata"], &ours["error"]), (&json!({"git.branch": "main"}), &Value::Null));
    assert!(ours["finished"].is_string() && ours["created"].is_string());
    let (_, listed) = running.get("/api/v2/model/version?view=lamina&model=n&limit=1").await;
    assert_eq!(listed, json!([ours]));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_of_2_and_3_say_their_signature_in_the_metadata() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), 1, Settings::default()).await;
    let signature = json!({"signatureName": "predict",
        "inputs": [{"name": "x", "dtype": "DT_DOUBLE", "shape": {"dims": [-1, 2]}, "profile": "NUMERICAL"}],
        "outputs": [{"name": "y", "dtype": "DT_DOUBLE", "shape": {"dims": []}, "profile": "NONE"}]});
    let runtime = json!({"name": "scratch", "tag": null, "sha256": null});
    let third = json!({"name": "third", "runtime": runtime, "modelSignature": signature, "installCommand": null,
        "metadata": {"hydrosphere.sdk.version": "3.0.3"}, "monitoringConfiguration": {"batchSize": 10}});
    let second = json!({"name": "second", "runtime": runtime, "contract": {"modelName": "model", "predict": signature}});
    for metadata in [third, second] {
        let files = archive(&[("src/func_main.py", b"def predict(x): pass")]);
        let (status, version) = running.upload("/api/v2/model/upload", payload(files).text("metadata", metadata.to_string())).await;
        assert_eq!((status, &version["status"], &version["build_status"]), (200, &json!("Assembling"), &json!("Pending")), "{version}");
        assert_eq!((&version["model"]["name"], &version["modelSignature"]), (&metadata["name"], &signature));
        assert_eq!(version["modelContract"]["predict"], signature);
    }
    running.idle().await;
    let (_, version) = running.get("/api/v2/model/version/third/1").await;
    assert_eq!((&version["status"], &version["metadata"]), (&json!("Released"), &json!({"hydrosphere.sdk.version": "3.0.3"})));
    assert_eq!(version["image"]["name"], format!("{}/third", running.address));
    let build = running.service.catalog.version_of("third", VersionNumber(1)).await.unwrap().build;
    let log = running.service.catalog.logs_from(build, 0).await.unwrap();
    assert!(log.iter().any(|line| line.text.contains("`monitoringConfiguration`")), "{log:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_uploads_of_one_model_at_once_become_the_versions_1_to_10() {
    let data = tempfile::tempdir().unwrap();
    let running = Arc::new(Running::start(data.path(), 2, Settings { uploads_max: 3, ..Settings::default() }).await);
    let uploads: Vec<_> = (0..10)
        .map(|_| {
            let running = running.clone();
            tokio::spawn(async move { running.upload("/api/v2/model/upload", payload(model("m"))).await })
        })
        .collect();
    let mut numbers = Vec::new();
    for upload in uploads {
        let (status, version) = upload.await.unwrap();
        assert_eq!(status, 200, "{version}");
        numbers.push(version["modelVersion"].as_i64().unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    running.idle().await;
    let versions = running.service.catalog.versions("m", Page::first()).await.unwrap().rows;
    assert!(versions.iter().all(|version| version.status == Status::Finished), "{versions:?}");
    // The same files, but another version in the label: ten images.
    let digests: std::collections::BTreeSet<_> = versions.iter().map(|version| version.digest).collect();
    assert_eq!(digests.len(), 10);
    // The weights and the contract, once each.
    assert_eq!(std::fs::read_dir(data.path().join("content")).unwrap().count(), 2);
    assert_eq!(std::fs::read_dir(data.path().join("uploads")).unwrap().count(), 0);
    Arc::into_inner(running).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_died_in_a_build_takes_it_up_again_and_clears_the_uploads_it_left() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), 0, Settings::default()).await;
    assert_eq!(running.upload("/api/v2/model/upload", payload(model("m"))).await.0, 200);
    // A worker that took it and was killed, and the folder of an upload that was under way.
    assert!(running.service.catalog.claim(3600).await.unwrap().is_some());
    let other =
        Service::start(running.service.catalog.clone(), running.service.store.clone(), Settings::default(), CancellationToken::new());
    assert!(matches!(other.await.err(), Some(StartError::InUse(_))), "two services on one data folder");
    running.stop().await;
    let left = data.path().join("uploads/staging-left");
    std::fs::create_dir(&left).unwrap();
    std::fs::File::create(left.join("0")).unwrap().write_all(b"half").unwrap();

    let running = Running::start(data.path(), 1, Settings::default()).await;
    assert!(!left.exists());
    running.idle().await;
    let version = running.service.catalog.version_of_build(BuildId(1)).await.unwrap();
    assert_eq!((version.status, version.number), (Status::Finished, VersionNumber(1)), "{:?}", version.error);
    running.stop().await;
}
