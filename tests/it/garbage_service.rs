//! Garbage collection in a service: beside uploads and builds, after models have been removed, and when it is killed in the middle.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lamina::build::collect::collect;
use lamina::catalog::record::{Status, VersionNumber};
use lamina::disk::store::Store;
use lamina::oci::manifest::Document;
use lamina::server::app::Settings;
use reqwest::Method;

use crate::service::{CONTRACT, Running, archive, payload};
use crate::support::client::{layer, manifest, noise};
use crate::support::hs::{Home, Serve, free_address};
use crate::support::outside::{self, get, until, whole_image};
use crate::support::shelves::{GRACE, age, assert_whole, names};

/// A model of two files: one that all models share, and one of its own.
fn model(name: &str, own: &[u8]) -> Vec<u8> {
    let definition =
        format!("model:\n  name: {name}\n  type: \"none:1\"\n  contract: contract.prototxt\n  payload: [shared.bin, own.bin]\n");
    let shared = noise(9 << 20);
    archive(&[
        ("serving.yaml", definition.as_bytes()),
        ("contract.prototxt", CONTRACT.as_bytes()),
        ("shared.bin", &shared),
        ("own.bin", own),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_space_of_a_removed_model_comes_back_and_its_neighbours_keep_theirs() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), 2, Settings::default()).await;
    for name in ["gone", "stays"] {
        let (status, answer) = running.upload("/api/v2/model/upload", payload(model(name, &noise(10 << 20)[1 << 20..]))).await;
        assert_eq!(status, 200, "{answer}");
    }
    running.upload("/api/v2/model/upload", payload(model("gone", b"only in the second version"))).await;
    running.idle().await;
    let store = running.service.store.clone();
    age(data.path());
    let before = names(data.path(), "content");
    assert_eq!(collect(&running.service.catalog, &store, GRACE).await.unwrap().files, 0, "versions need all of it");
    assert_eq!(assert_whole(&store), ["gone:1", "gone:2", "stays:1"]);
    let id = running.service.catalog.model("gone").await.unwrap().id.0;
    let removed = running.client.delete(format!("{}/api/v2/model/{id}", running.url)).send().await.unwrap();
    assert_eq!(removed.status(), 200);
    age(data.path());
    let freed = collect(&running.service.catalog, &store, GRACE).await.unwrap();
    assert_eq!((freed.tags, freed.manifests), (2, 2));
    assert_eq!(assert_whole(&store), ["stays:1"]);
    assert!(names(data.path(), "content").len() < before.len());
    // The name goes on counting, and what it had can come again.
    running.upload("/api/v2/model/upload", payload(model("gone", b"only in the second version"))).await;
    running.idle().await;
    assert_eq!(assert_whole(&store), ["gone:3", "stays:1"]);
    running.stop().await;
}

/// With no grace at all: what a build or an upload uses is held by that work alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn builds_and_uploads_are_whole_beside_collections_without_grace() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), 2, Settings::default()).await;
    let (catalog, store) = (running.service.catalog.clone(), running.service.store.clone());
    let ended = Arc::new(AtomicBool::new(false));
    let collecting = {
        let (catalog, store, ended) = (catalog.clone(), store.clone(), ended.clone());
        tokio::spawn(async move {
            let mut freed = 0;
            while !ended.load(Ordering::Relaxed) {
                freed += collect(&catalog, &store, Duration::ZERO).await.unwrap().files;
            }
            freed
        })
    };
    let small = |name: &str, round: u32| {
        let definition =
            format!("model:\n  name: {name}\n  type: \"none:1\"\n  contract: contract.prototxt\n  payload: [shared.bin, own.bin]\n");
        let own = round.to_string();
        let shared = vec![7; 100_000];
        archive(&[
            ("serving.yaml", definition.as_bytes()),
            ("contract.prototxt", CONTRACT.as_bytes()),
            ("shared.bin", &shared),
            ("own.bin", own.as_bytes()),
        ])
    };
    for round in 0..12 {
        // Each round's files are those of a model that was there before and may just be going.
        let name = if round % 3 == 0 { "other" } else { "comes-and-goes" };
        let (status, answer) = running.upload("/api/v2/model/upload", payload(small(name, round / 4))).await;
        assert_eq!(status, 200, "{answer}");
        running.idle().await;
        if round % 3 == 2 {
            let id = catalog.model("comes-and-goes").await.unwrap().id;
            catalog.remove_model(id).await.unwrap();
        }
    }
    ended.store(true, Ordering::Relaxed);
    assert!(collecting.await.unwrap() > 0, "nothing was ever collected: it shows nothing");
    for number in 1..=4 {
        let version = catalog.version_of("other", VersionNumber(number)).await.unwrap();
        assert_eq!(version.status, Status::Finished, "{version:#?}");
    }
    let tags = assert_whole(&store);
    assert!(["other:1", "other:2", "other:3", "other:4"].iter().all(|tag| tags.contains(&(*tag).to_owned())), "{tags:?}");
    running.stop().await;
}

/// Images without a tag and some with one, all old.
fn fill(store: &Store) -> usize {
    for at in 0..60_u32 {
        let (config, bytes) = (format!("{{\"at\": {at}}}").into_bytes(), noise(2000 + at as usize));
        for blob in [&config, &bytes] {
            store.put_bytes(blob).unwrap();
        }
        let document: Document = manifest(&config, &[layer(&bytes)]);
        let repository = format!("r{}", at % 6);
        let key = if at % 4 == 0 { format!("t{at}") } else { document.digest.to_string() };
        store.put_manifest(&repository, &key, &document).unwrap();
    }
    store.put_bytes(b"of nothing").unwrap();
    age(store.root());
    names(store.root(), "blobs").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_killed_while_it_collects_leaves_nothing_torn_and_the_next_one_ends_it() {
    let home = Home::new();
    let config = home.path().join("config.yaml");
    fs::write(&config, "garbage: {interval_s: 1, grace_s: 60, session_rest_s: 60}\n").unwrap();
    let home = home.with("HS_CONFIG", config.to_str().unwrap());
    let store = Store::open(&home.data()).unwrap();
    let expected: Vec<String> = {
        fill(&store);
        assert_whole(&store)
    };
    // Each time it is killed a little further on.
    for goes in [1, 12, 40] {
        let mut service = Serve::start(&home, &[]);
        let before = names(store.root(), "blobs").len();
        until("something is collected", || names(store.root(), "blobs").len() + goes <= before || names(store.root(), "blobs").len() <= 45)
            .await;
        service.kill();
        assert_eq!(assert_whole(&store), expected);
    }
    let service = Serve::start_at(&home, free_address(), &[]);
    // A config, a layer and a manifest for each of the fifteen that have a tag.
    until("all is collected", || names(store.root(), "blobs").len() == 45).await;
    assert_eq!(assert_whole(&store), expected);
    assert!(store.sweep().unwrap() == 0 && names(store.root(), "uploads").is_empty());
    // And what stays is served.
    for tag in &expected {
        let (repository, tag) = tag.split_once(':').unwrap();
        whole_image(&service.address.to_string(), repository, tag).await;
    }
    assert_eq!(get(&format!("{}/v2/_catalog", service.url())).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_rests_expires_while_the_service_runs() {
    let home = Home::new();
    let config = home.path().join("config.yaml");
    fs::write(&config, "garbage: {interval_s: 0, session_rest_s: 1}\n").unwrap();
    let home = home.with("HS_CONFIG", config.to_str().unwrap());
    let service = Serve::start(&home, &[]);
    let client = outside::client();
    let started = client.request(Method::POST, format!("{}/v2/a/blobs/uploads/", service.url())).send().await.unwrap();
    assert_eq!(started.status(), 202);
    let uploads = home.data().join("uploads");
    until("the session is gone", || fs::read_dir(&uploads).unwrap().count() == 0).await;
}
