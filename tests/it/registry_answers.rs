//! Answers that are lost, come late, or lead elsewhere.

use axum::http::Method;
use axum::http::header::{LOCATION, RETRY_AFTER};
use lamina::oci::digest::Digest;
use lamina::oci::manifest::media;
use lamina::registry::client::Repository;
use lamina::registry::settings::{HostSettings, RegistrySettings, Secret};
use serde_json::json;

use crate::distribution_discovery::about;
use crate::support::client::{layer, manifest, noise, push, quick, repository, repository_with};
use crate::support::fault_registry::{FaultRegistry, Faults, Refusal, burst};
use crate::support::fault_tokens::{Login, basic};
use crate::support::wire_tap::WireTap;

/// A registry behind a tap.
async fn start(faults: Faults) -> (FaultRegistry, WireTap, Repository) {
    let registry = FaultRegistry::start(Faults { relative_locations: true, ..faults }).await;
    let tap = WireTap::before(&registry.address()).await;
    let settings = RegistrySettings { chunk_bytes: 1_000_000, ..quick() };
    let repository = repository_with(settings, &format!("{}/model", tap.address()));
    (registry, tap, repository)
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_asked_for_and_not_sent_again() {
    let (registry, tap, repository) = start(Faults::default()).await;
    let blob = noise(500_000);
    tap.lose_answer_to("PUT", "/uploads/");
    push(&repository, &blob).await.unwrap();
    assert_eq!((tap.due(), tap.count("PUT"), tap.body_bytes()), (0, 1, 500_000));
    assert_eq!(registry.blob("model", Digest::of(&blob)).unwrap(), blob);
    assert!(registry.kept().uploads.is_empty());
}

#[tokio::test]
async fn a_chunk_whose_answer_is_lost_is_not_sent_again() {
    let (registry, tap, repository) = start(Faults { body_bytes_max: Some(1_500_000), ..Faults::default() }).await;
    push(&repository, &noise(1_600_000)).await.unwrap();
    tap.forget();
    let blob = noise(3_000_000);
    for method in ["PATCH", "PATCH", "PUT", "GET"] {
        tap.lose_answer_to(method, "/uploads/");
    }
    push(&repository, &blob).await.unwrap();
    assert_eq!((tap.due(), tap.count("PATCH"), tap.body_bytes()), (0, 3, 3_000_000), "{:?}", tap.seen());
    assert_eq!(registry.blob("model", Digest::of(&blob)).unwrap(), blob);
    assert!(registry.kept().uploads.is_empty());
}

#[tokio::test]
async fn an_opened_upload_whose_answer_is_lost_is_opened_again() {
    let (registry, tap, repository) = start(Faults::default()).await;
    let blob = noise(500_000);
    tap.lose_answer_to("POST", "/uploads/");
    tap.lose_answer_to("HEAD", "/blobs/");
    push(&repository, &blob).await.unwrap();
    assert_eq!((tap.due(), tap.body_bytes()), (0, 500_000));
    // Nobody knows the name of the first one: it is the registry's to remove.
    assert_eq!(registry.kept().uploads.len(), 1);
}

#[tokio::test]
async fn a_manifest_whose_answer_is_lost_is_asked_for_and_not_put_again() {
    // A tag that may not change would be refused the second time, the same manifest or not.
    let (registry, tap, repository) = start(Faults { immutable_tags: true, ..Faults::default() }).await;
    let document = manifest(b"{}", &[]);
    tap.lose_answer_to("PUT", "/manifests/1");
    repository.put_manifest("1", &document).await.unwrap();
    assert_eq!((tap.due(), tap.count("PUT")), (0, 1));
    assert_eq!(repository.manifest_digest("1").await.unwrap(), Some(document.digest));

    // Where another one is under the tag, ours is put, and refused.
    let other = manifest(b"{ }", &[]);
    registry.kept().faults.refusals = vec![burst(Method::PUT, "/manifests/1", 1, 502)];
    let error = repository.put_manifest("1", &other).await.unwrap_err();
    assert!(error.to_string().contains("TAG_IMMUTABLE"), "{error}");
    assert_eq!(repository.manifest_digest("1").await.unwrap(), Some(document.digest));
}

#[tokio::test]
async fn a_referrer_whose_answer_is_lost_is_in_the_index_all_the_same() {
    let (_registry, tap, repository) = start(Faults::default()).await;
    let subject = Digest::of(b"subject");
    let document = about(&subject, &json!({ "artifactType": "application/x" }));
    let key = document.digest.to_string();
    tap.lose_answer_to("PUT", &format!("/manifests/{key}"));
    tap.lose_answer_to("PUT", "/manifests/sha256-");
    repository.put_manifest(&key, &document).await.unwrap();
    assert_eq!(tap.due(), 0);
    assert_eq!(repository.referrers(subject, None).await.unwrap()[0].digest, document.digest);
}

#[tokio::test]
async fn a_redirect_within_the_host_keeps_who_we_are() {
    let registry = FaultRegistry::start(Faults { login: Login::Basic, ..Faults::default() }).await;
    let host = HostSettings { username: Some("user".to_owned()), password: Some(Secret::new("password")), ..HostSettings::default() };
    let settings = RegistrySettings { hosts: [(registry.address(), host)].into(), ..quick() };
    let repository = repository_with(settings, &format!("{}/model", registry.address()));
    let blob = noise(500_000);
    for status in [307, 308] {
        let to = |method, from, to| Refusal { headers: vec![(LOCATION, to)], ..burst(method, from, 1, status) };
        registry.kept().blobs.clear();
        registry.kept().faults.refusals = vec![
            to(Method::POST, "/v2/model/blobs/uploads/", "/v2/moved/blobs/uploads/"),
            to(Method::PUT, "/v2/model/manifests/1", "/v2/moved/manifests/1"),
        ];
        push(&repository, &blob).await.unwrap();
        assert_eq!(registry.blob("moved", Digest::of(&blob)).unwrap(), blob, "the upload goes on where it was led");
        repository.put_manifest("1", &manifest(&blob, &[])).await.unwrap();
        assert!(registry.kept().manifests.contains_key(&("moved".to_owned(), "1".to_owned())));
        let path: &'static str = Box::leak(format!("/v2/moved/blobs/{}", Digest::of(&blob)).into_boxed_str());
        registry.kept().faults.refusals = vec![to(Method::GET, "/v2/model/blobs/sha256", path)];
        assert_eq!(repository.blob_bytes(&layer(&blob), 500_000).await.unwrap(), blob);
    }
    let asked = registry.kept().asked.clone();
    // The first question, and what it leads to, comes before the registry has said who may ask.
    assert!(asked[2..].iter().all(|asked| asked.authorization == Some(basic())), "{asked:?}");
}

#[tokio::test]
async fn redirects_that_never_end_are_told() {
    let registry = FaultRegistry::start(Faults::default()).await;
    registry.put_blob("model", b"blob");
    registry.kept().faults.blobs_at = Some(format!("http://{}", registry.address()));
    let error = repository(&format!("{}/model", registry.address())).blob_bytes(&layer(b"blob"), 4).await.unwrap_err();
    assert!(error.to_string().contains("more than 8 redirects"), "{error}");
    assert_eq!(registry.count(Method::GET, ""), 9);
}

#[tokio::test]
async fn what_a_registry_does_not_take_is_told_at_once_and_nothing_is_tagged() {
    let zstd = manifest(b"{}", &[lamina::oci::manifest::Descriptor::new(&format!("{}+zstd", media::OCI_LAYER), Digest::of(b"x"), 1)]);
    let plain = manifest(b"{}", &[]);
    for (faults, document, words) in [
        (Faults { manifest_bytes_max: Some(100), ..Faults::default() }, &plain, "413 Payload Too Large: MANIFEST_INVALID"),
        (Faults { manifests_without: Some("zstd"), ..Faults::default() }, &zstd, "400 Bad Request: MANIFEST_INVALID"),
        (Faults { refusals: vec![burst(Method::PUT, "/manifests/", 9, 507)], ..Faults::default() }, &plain, "507 Insufficient Storage"),
        (Faults { refusals: vec![burst(Method::PUT, "/manifests/", 9, 409)], ..Faults::default() }, &plain, "409 Conflict"),
    ] {
        let (registry, tap, repository) = start(faults).await;
        let error = repository.put_manifest("1", document).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(tap.count("PUT"), 1, "{words}");
        assert!(registry.kept().manifests.is_empty());
    }
}

#[tokio::test]
async fn a_burst_with_a_pause_of_a_day_is_told_and_not_waited_for() {
    let refusal = Refusal { headers: vec![(RETRY_AFTER, "86400")], ..burst(Method::POST, "/uploads/", 9, 429) };
    let (registry, _tap, repository) = start(Faults { refusals: vec![refusal], ..Faults::default() }).await;
    let error = push(&repository, b"blob").await.unwrap_err();
    assert!(error.to_string().contains("429 Too Many Requests"), "{error}");
    assert_eq!(registry.count(Method::POST, "/uploads/"), 1);
}
