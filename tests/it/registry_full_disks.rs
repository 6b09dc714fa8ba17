//! Full disks, on our side and on theirs: a push says what is full and leaves nothing half, and with room the same command ends right.
//!
//! The disks are small ones of their own (`support/small_disk.rs`): what happens on them is what the kernel does on a full disk.

use std::fs;
use std::path::Path;

use axum::http::Method;
use lamina::fault::{Failure, Fault};
use lamina::oci::digest::Digest;
use lamina::registry::client::Repository;

use crate::support::client::{layer, manifest, noise, push, repository};
use crate::support::docker_registry::DockerRegistry;
use crate::support::embedded::Registry;
use crate::support::fault_registry::{FaultRegistry, Faults, Refusal, burst};
use crate::support::hs::{Home, Ran, Serve};
use crate::support::models;
use crate::support::outside::{versions, write_model};
use crate::support::small_disk::SmallDisk;

/// A model of many small files that do not shrink, and of a large one.
fn model(home: &Home) -> String {
    let folder = home.path().join("model");
    models::small(&folder);
    let file = |number: usize| (format!("parts/{number}"), noise((1 << 20) + number), false);
    let mut files: Vec<models::File> = (0..10).map(file).collect();
    files.push(("weights.bin".to_owned(), noise(9 << 20), false));
    models::write(&folder, &files, &[]);
    folder.display().to_string()
}

async fn build(home: &Home, to: &str) -> Ran {
    let mut command = home.command();
    let folder = home.path().join("model").display().to_string();
    command.args(["build", &folder, "--runtime", "scratch", "--to", to]);
    tokio::task::spawn_blocking(move || Ran::of(command.output().unwrap())).await.unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_scratch_disk_is_told_and_left_empty() {
    let disk = SmallDisk::new(6);
    let registry = FaultRegistry::start(Faults::default()).await;
    let home = Home::new().with("TMPDIR", disk.path().display().to_string());
    model(&home);
    let to = format!("{}/model:1", registry.address());
    let ran = build(&home, &to).await;
    assert_ne!(ran.code, 0, "{ran:#?}");
    assert!(ran.stderr.contains("No space left on device"), "{ran:#?}");
    assert!(registry.kept().manifests.is_empty());
    assert_eq!(names(disk.path()), Vec::<String>::new(), "nothing is left in scratch");

    disk.grow(64);
    let ran = build(&home, &to).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert_eq!(names(disk.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_what_is_remembered_stops_nothing() {
    // The journal, where blobs are, which layers were sealed: all of it is hints.
    for left_kib in [0, 4, 8, 16] {
        let disk = SmallDisk::new(1);
        disk.fill(left_kib);
        let registry = FaultRegistry::start(Faults::default()).await;
        let home = Home::new().with("XDG_CACHE_HOME", disk.path().display().to_string());
        model(&home);
        for tag in ["1", "2"] {
            let ran = build(&home, &format!("{}/model:{tag}", registry.address())).await;
            assert_eq!(ran.code, 0, "{left_kib}: {ran:#?}");
        }
        assert!(registry.kept().uploads.is_empty());
    }
}

/// Pushes a blob, which the registry has no room for, and then, with room, again.
async fn refused_then_taken(repository: &Repository, words: &[&str], fault: Fault, grow: impl FnOnce()) {
    let blob = noise(9 << 20);
    let error = push(repository, &blob).await.unwrap_err();
    assert_eq!(error.fault(), fault, "{error}");
    assert!(words.iter().any(|word| error.to_string().contains(word)), "{error}");
    assert!(!repository.has_blob(Digest::of(&blob), 9 << 20).await.unwrap(), "no torn blob");
    assert_eq!(repository.manifest_digest("1").await.unwrap(), None);
    grow();
    push(repository, &blob).await.unwrap();
    assert_eq!(repository.blob_bytes(&layer(&blob), 9 << 20).await.unwrap(), blob);
    push(repository, b"{}").await.unwrap();
    let document = manifest(b"{}", &[layer(&blob)]);
    repository.put_manifest("1", &document).await.unwrap();
    assert_eq!(repository.manifest_digest("1").await.unwrap(), Some(document.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_our_registry_is_told_and_keeps_nothing_half() {
    let disk = SmallDisk::new(5);
    let registry = Registry::start_over(tempfile::tempdir_in(disk.path()).unwrap()).await;
    let repository = repository(&format!("{}/model", registry.host));
    let grow = || {
        assert_eq!(registry.left_in_uploads(), 0, "the upload was given up, and its bytes with it");
        assert_eq!(names(&registry.data.path().join("blobs")), Vec::<String>::new());
        disk.grow(64);
    };
    refused_then_taken(&repository, &["507 Insufficient Storage: UNKNOWN: the registry's disk is full"], Fault::Remote, grow).await;
    assert_eq!(registry.left_in_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_docker_registry_is_told() {
    let disk = SmallDisk::new(5);
    let registry = DockerRegistry::start_in(disk.path());
    let repository = repository(&format!("{}/model", registry.address()));
    // It says 500 to it, which may pass; it breaks the line, too.
    let words = ["500 Internal Server Error", "the connection broke"];
    refused_then_taken(&repository, &words, Fault::RemoteTransient, || disk.grow(200)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_a_registry_says_is_full_is_not_filled_again() {
    let body = r#"{"errors":[{"code":"DENIED","message":"no space left on device"}]}"#;
    let refusals = vec![Refusal { body, ..burst(Method::PUT, "/uploads/", u32::MAX, 507) }];
    let registry = FaultRegistry::start(Faults { refusals, ..Faults::default() }).await;
    let error = push(&repository(&format!("{}/model", registry.address())), &noise(100_000)).await.unwrap_err();
    assert!(error.to_string().contains("507 Insufficient Storage: DENIED: no space left on device"), "{error}");
    assert!(error.remedy().unwrap().starts_with("make room on the disk of "));
    assert_eq!((registry.count(Method::PUT, ""), registry.kept().uploads.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_service_is_told_and_makes_no_version() {
    let home = Home::new();
    fs::create_dir_all(home.data().parent().unwrap()).unwrap();
    let disk = SmallDisk::new(16);
    std::os::unix::fs::symlink(disk.path(), home.data()).unwrap();
    let service = Serve::start(&home, &[]);
    let model = home.path().join("model");
    write_model(&model, "m", &[("large.bin", &noise(24 << 20)), ("small.bin", &noise(9000))]);
    let url = service.url();
    let words = ["upload", model.to_str().unwrap(), "--runtime", "scratch", "--server", &url];
    let ran = home.hs(words);
    assert_ne!(ran.code, 0, "{ran:#?}");
    assert!(ran.stderr.contains("the registry's disk is full"), "{ran:#?}");
    assert!(versions(&url, "m").await.is_empty());
    assert_eq!(names(&disk.path().join("uploads")), Vec::<String>::new());
    disk.grow(200);
    let version = home.json(words);
    assert_eq!((&version["version"], &version["status"]), (&serde_json::json!(1), &serde_json::json!("Finished")));
    assert_eq!(names(&disk.path().join("uploads")), Vec::<String>::new());
}
