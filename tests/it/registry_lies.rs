//! A registry that does not say the truth: about what it has, what it took, and where an upload stands. Each push ends right, or says what is wrong.

use std::sync::Arc;

use axum::http::Method;
use axum::http::header::{LOCATION, RANGE};
use lamina::fault::{Failure, Fault};
use lamina::oci::digest::Digest;
use lamina::oci::manifest::Pulled;
use lamina::registry::client::Repository;
use lamina::registry::settings::RegistrySettings;

use crate::support::client::{noise, push, quick, repository, repository_with};
use crate::support::fault_registry::{FaultRegistry, Faults, Refusal, burst};
use crate::support::hs::{Home, Ran};
use crate::support::models;
use crate::support::wire_tap::WireTap;

const CHUNK_BYTES: u64 = 1_000_000;
const BLOB_BYTES: usize = 4_000_000;

/// A registry behind a tap; blobs go in chunks because a larger body is refused.
async fn in_chunks(faults: Faults) -> (FaultRegistry, WireTap, Repository) {
    let registry = FaultRegistry::start(Faults { body_bytes_max: Some(1_500_000), relative_locations: true, ..Faults::default() }).await;
    let tap = WireTap::before(&registry.address()).await;
    let settings = RegistrySettings { chunk_bytes: CHUNK_BYTES, ..quick() };
    let repository = repository_with(settings, &format!("{}/model", tap.address()));
    push(&repository, &noise(1_600_000)).await.unwrap();
    tap.forget();
    registry.kept().faults = Faults { body_bytes_max: Some(1_500_000), relative_locations: true, ..faults };
    (registry, tap, repository)
}

/// Pushes a blob, which must arrive; how many bytes of it went by.
async fn pushed(registry: &FaultRegistry, tap: &WireTap, repository: &Repository) -> u64 {
    let blob = noise(BLOB_BYTES);
    push(repository, &blob).await.unwrap();
    assert_eq!(registry.blob("model", Digest::of(&blob)).unwrap(), blob);
    assert!(registry.kept().uploads.is_empty(), "no upload is left behind");
    tap.body_bytes()
}

#[tokio::test]
async fn a_range_that_lies_is_put_right_by_416_and_a_question() {
    for times in [1, 2] {
        let (registry, tap, repository) = in_chunks(Faults { understated_ranges: times, ..Faults::default() }).await;
        let sent_bytes = pushed(&registry, &tap, &repository).await;
        assert!(sent_bytes <= BLOB_BYTES as u64 + u64::from(times) * CHUNK_BYTES, "{sent_bytes}: {:?}", tap.seen());
        assert!(tap.count("GET") >= 1, "the registry was asked where the upload stands");
    }
}

#[tokio::test]
async fn a_question_that_is_answered_wrongly_is_put_again() {
    let (registry, tap, repository) = in_chunks(Faults { keeps_partial: true, understated_uploads: 1, ..Faults::default() }).await;
    tap.cut_blob_at(2_500_000);
    let sent_bytes = pushed(&registry, &tap, &repository).await;
    assert!(sent_bytes <= BLOB_BYTES as u64 + 2 * CHUNK_BYTES, "{sent_bytes}: {:?}", tap.seen());
}

#[tokio::test]
async fn a_range_that_always_lies_is_told() {
    let (registry, tap, repository) = in_chunks(Faults { lying_ranges: true, ..Faults::default() }).await;
    let error = push(&repository, &noise(BLOB_BYTES)).await.unwrap_err();
    assert!(error.to_string().contains("it says that it has"), "{error}");
    assert_eq!(error.fault(), Fault::Remote);
    assert!(tap.body_bytes() <= 7 * CHUNK_BYTES, "{:?}", tap.seen());
    assert_eq!(registry.kept().blobs.len(), 1, "the one that was there before");
}

#[tokio::test]
async fn a_416_with_nonsense_is_answered_with_a_question() {
    let (registry, tap, repository) = in_chunks(Faults::default()).await;
    let headers = vec![(LOCATION, "http://[nowhere"), (RANGE, "bytes=9-3")];
    registry.kept().faults.refusals = vec![Refusal { headers, body: "<html>", ..burst(Method::PATCH, "/uploads/", 1, 416) }];
    let sent_bytes = pushed(&registry, &tap, &repository).await;
    assert!(sent_bytes <= BLOB_BYTES as u64 + CHUNK_BYTES, "{sent_bytes}: {:?}", tap.seen());
}

#[tokio::test]
async fn a_commit_that_names_another_blob_is_looked_into() {
    let other = Digest::of(b"other");
    for (times, keeps, sent) in [(1, true, 1), (u32::MAX, true, 1), (1, false, 2)] {
        let registry = FaultRegistry::start(Faults { commits_named: Some((other, times, keeps)), ..Faults::default() }).await;
        let repository = repository(&format!("{}/model", registry.address()));
        let blob = noise(100_000);
        assert_eq!(push(&repository, &blob).await.unwrap(), sent * 100_000, "{times} {keeps}");
        assert_eq!(registry.blob("model", Digest::of(&blob)).unwrap(), blob);
        assert!(registry.kept().uploads.is_empty());
    }
    let registry = FaultRegistry::start(Faults { commits_named: Some((other, u32::MAX, false)), ..Faults::default() }).await;
    let error = push(&repository(&format!("{}/model", registry.address())), &noise(100_000)).await.unwrap_err();
    assert!(error.to_string().ends_with(&format!("the registry has bytes with the digest {other}")), "{error}");
    assert_eq!(registry.count(Method::PUT, "/uploads/"), 2);
}

#[tokio::test]
async fn a_blob_of_another_length_is_not_the_blob() {
    let registry = FaultRegistry::start(Faults { head_bytes_more: 1, ..Faults::default() }).await;
    let repository = repository(&format!("{}/model", registry.address()));
    let blob = noise(100_000);
    let digest = registry.put_blob("model", &blob);
    assert!(!repository.has_blob(digest, 100_000).await.unwrap());
    assert_eq!(push(&repository, &blob).await.unwrap(), 100_000);
}

/// A model of which one layer is large enough to be remembered.
fn model(home: &Home) -> String {
    let folder = home.path().join("model");
    models::small(&folder);
    models::write(&folder, &[("weights.bin".to_owned(), noise(9 << 20), false)], &[]);
    folder.display().to_string()
}

async fn build(home: &Arc<Home>, to: &str) -> Ran {
    let (home, to) = (home.clone(), to.to_owned());
    let folder = home.path().join("model").display().to_string();
    tokio::task::spawn_blocking(move || home.hs(["build", &folder, "--runtime", "scratch", "--to", &to])).await.unwrap()
}

/// All of the image is there.
async fn check_image(registry: &FaultRegistry, repository_path: &str) {
    let repository = repository(&format!("{}/{repository_path}", registry.address()));
    let Pulled::Manifest(manifest) = repository.manifest("1").await.unwrap() else { panic!("an index") };
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        repository.blob_bytes(blob, 1 << 30).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_was_a_lie_is_sent_after_all() {
    for says_which in [true, false] {
        let registry = FaultRegistry::start(Faults { manifests_need_blobs: Some(says_which), ..Faults::default() }).await;
        let home = Arc::new(Home::new());
        model(&home);
        let first = build(&home, &format!("{}/one:1", registry.address())).await;
        assert_eq!(first.code, 0, "{first:#?}");
        registry.kept().faults.lying_mounts = true;
        let second = build(&home, &format!("{}/two:1", registry.address())).await;
        assert_eq!(second.code, 0, "{second:#?}");
        assert!(second.stderr.contains("the registry does not have what it said that it has"), "{second:#?}");
        assert_eq!(registry.count(Method::PUT, "/two/manifests/"), 2);
        check_image(&registry, "two").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_says_it_has_everything_is_sent_everything() {
    for says_which in [true, false] {
        let faults = Faults { has_everything: true, manifests_need_blobs: Some(says_which), ..Faults::default() };
        let registry = FaultRegistry::start(faults).await;
        let home = Arc::new(Home::new());
        model(&home);
        let ran = build(&home, &format!("{}/one:1", registry.address())).await;
        assert_eq!(ran.code, 0, "{ran:#?}");
        check_image(&registry, "one").await;
        assert_eq!(registry.count(Method::PUT, "/manifests/"), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_forgets_what_it_was_sent_is_told() {
    let body = r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;
    let refusals = vec![Refusal { body, ..burst(Method::PUT, "/manifests/", u32::MAX, 400) }];
    let registry = FaultRegistry::start(Faults { refusals, ..Faults::default() }).await;
    let home = Arc::new(Home::new());
    model(&home);
    let ran = build(&home, &format!("{}/one:1", registry.address())).await;
    assert_eq!(ran.code, 4, "{ran:#?}");
    assert!(ran.stderr.contains("blob unknown to registry"), "{ran:#?}");
    assert_eq!(registry.count(Method::PUT, "/manifests/"), 1, "all was sent: there is nothing to send again");
    assert!(registry.kept().manifests.is_empty());
}
