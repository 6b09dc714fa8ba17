//! Registries with habits of their own, each by its name: what is told of them is switched on in the registry that misbehaves, and images get there all the
//! same. `docs/reference/registries.md` says which of it was also tried against the real thing.

use axum::http::Method;
use lamina::fault::{Failure, Fault};
use lamina::oci::digest::Digest;
use lamina::registry::client::Repository;
use lamina::registry::mount::Mount;
use lamina::registry::settings::RegistrySettings;

use crate::support::client::{manifest, noise, push, quick, repository, repository_with};
use crate::support::fault_registry::{FaultRegistry, Faults, Refusal, burst};
use crate::support::hs::Home;
use crate::support::models;
use crate::support::wire_tap::WireTap;

const CHUNK_BYTES: u64 = 1_000_000;
const BLOB_BYTES: usize = 3_500_000;

/// A registry behind a tap, and a repository whose blobs go in chunks once the line has broken.
async fn start(faults: Faults) -> (FaultRegistry, WireTap, Repository) {
    let registry = FaultRegistry::start(Faults { relative_locations: true, ..faults }).await;
    let tap = WireTap::before(&registry.address()).await;
    let settings = RegistrySettings { chunk_bytes: CHUNK_BYTES, ..quick() };
    let repository = repository_with(settings, &format!("{}/model", tap.address()));
    (registry, tap, repository)
}

/// Pushes an image over a line that breaks once.
async fn push_over_a_bad_line(registry: &FaultRegistry, tap: &WireTap, repository: &Repository) {
    tap.cut_body_after(2_000_000);
    let blob = noise(BLOB_BYTES);
    push(repository, &blob).await.unwrap();
    assert_eq!(registry.blob("model", Digest::of(&blob)).unwrap(), blob);
    assert!(tap.count("PATCH") > 0, "chunks were tried");
    let document = manifest(b"{}", &[]);
    repository.put_manifest("1", &document).await.unwrap();
    assert_eq!(repository.manifest_digest("1").await.unwrap(), Some(document.digest));
}

#[tokio::test]
async fn ecr_answers_201_to_a_chunk_and_no_location_to_a_manifest() {
    let (registry, tap, repository) = start(Faults { chunk_status: Some(201), ..Faults::default() }).await;
    push_over_a_bad_line(&registry, &tap, &repository).await;
    assert_eq!(tap.count("PATCH"), 4);
}

#[tokio::test]
async fn ecr_whose_range_stands_still_after_the_first_chunk_gets_the_whole() {
    let (registry, tap, repository) = start(Faults { chunk_status: Some(201), stuck_ranges: true, ..Faults::default() }).await;
    push_over_a_bad_line(&registry, &tap, &repository).await;
    assert_eq!(tap.count("PATCH"), 2, "after the second it is clear");
}

#[tokio::test]
async fn ghcr_refuses_chunks_of_more_than_4_mib() {
    let registry = FaultRegistry::start(Faults { chunk_bytes_max: Some(4 << 20), relative_locations: true, ..Faults::default() }).await;
    let tap = WireTap::before(&registry.address()).await;
    let settings = RegistrySettings { chunk_bytes: 5 << 20, ..quick() };
    let repository = repository_with(settings, &format!("{}/model", tap.address()));
    let blob = noise(11 << 20);
    tap.cut_body_after(2_000_000);
    push(&repository, &blob).await.unwrap();
    assert_eq!(registry.blob("model", Digest::of(&blob)).unwrap(), blob);
    assert!(tap.count("PATCH") > 0, "chunks were tried");
}

#[tokio::test]
async fn artifact_registry_takes_no_chunks() {
    for status in [400, 405, 416, 501] {
        // With and without what came of the broken body, since a part that is there is gone on with in chunks.
        for keeps_partial in [false, true] {
            let (registry, tap, repository) = start(Faults { keeps_partial, no_chunks: Some(status), ..Faults::default() }).await;
            push_over_a_bad_line(&registry, &tap, &repository).await;
        }
    }
}

#[tokio::test]
async fn quay_mounts_only_from_a_repository_that_is_named() {
    let registry = FaultRegistry::start(Faults { mount_needs_from: true, ..Faults::default() }).await;
    let repository = repository(&format!("{}/model", registry.address()));
    let digest = registry.put_blob("base", &noise(1000));
    assert_eq!(repository.mount(digest, "base").await.unwrap(), Mount::Mounted);
}

#[tokio::test]
async fn harbor_says_which_quota_is_full_and_that_a_tag_stays() {
    for (status, body, words) in [
        (
            403,
            r#"{"errors":[{"code":"DENIED","message":"adding 3.5 MiB of storage resource, which when updated to current usage of 10 GiB will exceed the configured upper limit"}]}"#,
            "exceed the configured upper limit",
        ),
        (
            412,
            r#"{"errors":[{"code":"PRECONDITION","message":"Failed to process request due to 'model:1' configured as immutable."}]}"#,
            "configured as immutable",
        ),
    ] {
        let registry = FaultRegistry::start(Faults::default()).await;
        registry.kept().faults.refusals = vec![Refusal { body, ..burst(Method::PUT, "/manifests/", 9, status) }];
        let repository = repository(&format!("{}/model", registry.address()));
        let error = repository.put_manifest("1", &manifest(b"{}", &[])).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Remote);
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(registry.count(Method::PUT, "/manifests/"), 1, "it is not asked again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn artifactory_answers_403_for_what_is_not_there_and_gets_the_image() {
    let registry = FaultRegistry::start(Faults { missing_is_forbidden: true, ..Faults::default() }).await;
    let home = Home::new();
    models::small(&home.path().join("model"));
    let words = ["build", "--runtime", "scratch", "--to"].map(str::to_owned).into_iter();
    let words: Vec<String> =
        words.chain([format!("{}/model:1", registry.address()), home.path().join("model").display().to_string()]).collect();
    let ran = tokio::task::spawn_blocking(move || home.hs(words)).await.unwrap();
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(repository(&format!("{}/model", registry.address())).manifest("1").await.is_ok());
}
