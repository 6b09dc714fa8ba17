//! The registry client against a registry that misbehaves: each fault by its name.

use std::time::{Duration, Instant};

use axum::http::Method;
use axum::http::header::{HeaderName, RETRY_AFTER};
use futures_util::TryStreamExt;
use lamina::fault::{Failure, Fault};
use lamina::oci::digest::Digest;
use lamina::oci::manifest::{Pulled, media};
use lamina::registry::client::Repository;
use lamina::registry::error::RegistryError;
use lamina::registry::settings::{HostSettings, Proxies, RegistrySettings};

use crate::support::client::{layer, manifest, noise, push, quick, repository, repository_with};
use crate::support::fault_registry::{FaultRegistry, Faults, Refusal, burst};

async fn start(faults: Faults) -> (FaultRegistry, Repository) {
    let registry = FaultRegistry::start(faults).await;
    let repository = repository(&format!("{}/model", registry.address()));
    (registry, repository)
}

#[tokio::test]
async fn bursts_of_5xx_are_waited_out() {
    for status in [500, 502, 503, 504] {
        let refusals = vec![
            burst(Method::HEAD, "/blobs/", 2, status),
            burst(Method::POST, "/uploads/", 3, status),
            burst(Method::PUT, "/uploads/", 3, status),
            burst(Method::PUT, "/manifests/", 3, status),
            burst(Method::GET, "/manifests/", 3, status),
            burst(Method::GET, "/blobs/sha256", 3, status),
        ];
        let (registry, repository) = start(Faults { refusals, ..Faults::default() }).await;
        let blob = noise(100_000);
        assert!(!repository.has_blob(Digest::of(&blob), 100_000).await.unwrap());
        push(&repository, &blob).await.unwrap();
        let document = manifest(&blob, &[]);
        repository.put_manifest("1", &document).await.unwrap();
        assert_eq!(repository.manifest("1").await.unwrap().document(), &document);
        assert_eq!(repository.blob_bytes(&layer(&blob), 100_000).await.unwrap(), blob);
        assert!(registry.kept().faults.refusals.iter().all(|refusal| refusal.times == 0));
        assert!(registry.kept().uploads.is_empty(), "no upload is left behind");
    }
}

#[tokio::test]
async fn a_registry_that_stays_broken_is_given_up() {
    let (registry, repository) =
        start(Faults { refusals: vec![burst(Method::POST, "/uploads/", u32::MAX, 503)], ..Faults::default() }).await;
    let error = push(&repository, b"blob").await.unwrap_err();
    assert_eq!(error.fault(), Fault::RemoteTransient);
    assert_eq!(registry.count(Method::POST, "/uploads/"), 7);
    let expected =
        format!("cannot push blob `{}/model@{}`: the registry answered 503 Service Unavailable", registry.address(), Digest::of(b"blob"));
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn retry_after_is_kept() {
    let busy = |seconds| Refusal { headers: vec![(RETRY_AFTER, seconds)], ..burst(Method::PUT, "/manifests/", 1, 429) };
    let (registry, repository) = start(Faults { refusals: vec![busy("1")], ..Faults::default() }).await;
    let begun = Instant::now();
    repository.put_manifest("1", &manifest(b"{}", &[])).await.unwrap();
    // Not a measurement: the pauses of these tests are milliseconds, unless the registry's word is kept.
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(registry.count(Method::PUT, "/manifests/1"), 2);

    registry.kept().faults.refusals = vec![busy("100000")];
    let error = repository.put_manifest("2", &manifest(b"{}", &[])).await.unwrap_err();
    assert_eq!(error.fault(), Fault::RemoteTransient);
    assert_eq!(registry.count(Method::PUT, "/manifests/2"), 1, "a pause of a day is not waited for");
}

#[tokio::test]
async fn every_status_that_does_not_pass_is_told_at_once() {
    for (status, body, remedy) in [
        (400, r#"{"errors":[{"code":"TAG_IMMUTABLE","message":"tag `1` is immutable"}]}"#, None),
        (401, "", Some("log in: `docker login HOST` or `podman login HOST`")),
        (403, r#"{"errors":[{"code":"DENIED","message":"quota exceeded"}]}"#, Some("log in: `docker login HOST` or `podman login HOST`")),
        (405, "", None),
        (409, "", None),
    ] {
        let refusal = Refusal { body, ..burst(Method::PUT, "/manifests/", 1, status) };
        let (registry, repository) = start(Faults { refusals: vec![refusal], ..Faults::default() }).await;
        let error = repository.put_manifest("1", &manifest(b"{}", &[])).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Remote, "{status}");
        assert_eq!(error.remedy(), remedy.map(|text| text.replace("HOST", &registry.address())));
        assert!(!body.contains("message") || error.to_string().contains(body.split('"').nth(9).unwrap()), "{error}");
        assert_eq!(registry.count(Method::PUT, ""), 1);
        assert!(registry.kept().manifests.is_empty());
    }
}

#[tokio::test]
async fn corrupt_blobs_are_found_before_their_end() {
    let (registry, repository) = start(Faults { corrupt_blobs: true, ..Faults::default() }).await;
    let blob = noise(200_000);
    registry.put_blob("model", &blob);
    let error = repository.blob_bytes(&layer(&blob), 200_000).await.unwrap_err();
    assert!(matches!(error, RegistryError::OtherDigest { .. }), "{error}");
    assert_eq!(error.fault(), Fault::Remote);

    for more in [1, 1_000_000, -1] {
        registry.kept().faults = Faults { blob_bytes_more: more, ..Faults::default() };
        let error = repository.blob_bytes(&layer(&blob), 200_000).await.unwrap_err();
        assert!(matches!(error, RegistryError::OtherSize { .. }), "{more}: {error}");
    }
    let asked = registry.count(Method::GET, "");
    let error = repository.blob_bytes(&layer(&blob), 199_999).await.unwrap_err();
    assert!(error.to_string().contains("200000 bytes"), "{error}");
    assert_eq!(registry.count(Method::GET, ""), asked, "what is too large by its descriptor is not asked for");
}

#[tokio::test]
async fn a_registry_without_ranges_is_read_from_the_start() {
    let (registry, repository) = start(Faults { no_ranges: true, ..Faults::default() }).await;
    let blob = noise(200_000);
    registry.put_blob("model", &blob);
    let part: Vec<bytes::Bytes> = repository.blob_range(&layer(&blob), 70_000..130_000).try_collect().await.unwrap();
    assert_eq!(part.concat(), blob[70_000..130_000]);
}

#[tokio::test]
async fn manifests_are_what_their_bytes_say() {
    let (registry, repository) = start(Faults { manifest_type: Some("text/plain; charset=utf-8"), ..Faults::default() }).await;
    let document = manifest(b"{}", &[]);
    registry.put_manifest("model", "1", media::OCI_MANIFEST, &document.bytes);
    let Pulled::Manifest(pulled) = repository.manifest("1").await.unwrap() else { panic!("an index") };
    assert_eq!(pulled.document, document);

    // Not JSON, not a manifest, too large, another digest.
    let too_large = format!("{{{}}}", " ".repeat(4 << 20));
    for (bytes, found) in
        [("<html>", "is not valid"), ("{}", "neither an image manifest nor an index"), (&too_large, "more than 4194304 bytes")]
    {
        registry.put_manifest("model", "bad", media::OCI_MANIFEST, bytes.as_bytes());
        let error = repository.manifest("bad").await.unwrap_err();
        let text = lamina::fault::one_line(&error);
        assert!(text.contains(found), "{text}");
        assert_eq!(error.fault(), Fault::Remote);
    }
    registry.put_manifest("model", &Digest::of(b"other").to_string(), media::OCI_MANIFEST, &document.bytes);
    let error = repository.manifest(&Digest::of(b"other").to_string()).await.unwrap_err();
    assert!(matches!(error, RegistryError::OtherDigest { .. }), "{error}");
}

#[tokio::test]
async fn manifests_without_a_name_in_the_header() {
    let (registry, repository) = start(Faults { nameless_manifests: true, ..Faults::default() }).await;
    let document = manifest(b"{}", &[]);
    repository.put_manifest("1", &document).await.unwrap();
    assert_eq!(repository.manifest_digest("1").await.unwrap(), Some(document.digest), "read and hashed");
    assert_eq!(repository.manifest_digest("2").await.unwrap(), None);
    registry.kept().faults.refusals = vec![burst(Method::HEAD, "/manifests/", 9, 405)];
    assert_eq!(repository.manifest_digest("1").await.unwrap(), Some(document.digest), "a registry without HEAD");
    assert_eq!(repository.manifest_digest("2").await.unwrap(), None);

    registry.kept().faults = Faults { manifest_named: Some(Digest::of(b"other")), ..Faults::default() };
    let error = repository.put_manifest("1", &document).await.unwrap_err();
    assert!(matches!(error, RegistryError::OtherDigest { found, .. } if found == Digest::of(b"other")), "{error}");
}

#[tokio::test]
async fn tags_come_in_pages() {
    let (registry, repository) = start(Faults { tags_per_page: Some(3), ..Faults::default() }).await;
    assert_eq!(repository.tags().await.unwrap(), Vec::<String>::new());
    let tags: Vec<String> = (10..20).map(|number| format!("v{number}")).collect();
    for tag in &tags {
        registry.put_manifest("model", tag, media::OCI_MANIFEST, b"{}");
    }
    assert_eq!(repository.tags().await.unwrap(), tags);
    assert_eq!(registry.count(Method::GET, "/tags/list"), 1 + 4);
}

#[tokio::test]
async fn mirrors_are_asked_first_and_may_fail() {
    let (mirror, broken, origin) = tokio::join!(
        FaultRegistry::start(Faults::default()),
        FaultRegistry::start(Faults { corrupt_blobs: true, refusals: vec![burst(Method::GET, "", u32::MAX, 403)], ..Faults::default() }),
        FaultRegistry::start(Faults::default())
    );
    let mirrors = vec![broken.address(), format!("{}/hub", mirror.address())];
    let hosts = [(origin.address(), HostSettings { mirrors, ..HostSettings::default() })].into();
    let repository = repository_with(RegistrySettings { hosts, ..quick() }, &format!("{}/model", origin.address()));
    let (here, there) = (noise(1000), noise(2000));
    mirror.put_blob("hub/model", &here);
    origin.put_blob("model", &there);
    assert_eq!(repository.blob_bytes(&layer(&here), 1000).await.unwrap(), here);
    assert_eq!(origin.count(Method::GET, ""), 0);
    assert_eq!(repository.blob_bytes(&layer(&there), 2000).await.unwrap(), there);
    let document = manifest(b"{}", &[]);
    mirror.put_manifest("hub/model", "1", media::OCI_MANIFEST, &document.bytes);
    assert_eq!(repository.manifest("1").await.unwrap().document(), &document);
    // What is pushed goes to the registry, and only there.
    push(&repository, b"new").await.unwrap();
    assert!(origin.blob("model", Digest::of(b"new")).is_some());
    assert_eq!((mirror.count(Method::PUT, ""), broken.count(Method::PUT, "")), (0, 0));
}

#[tokio::test]
async fn a_public_registry_cannot_lead_into_a_private_network() {
    // The "public registry" is reached through a proxy, which is the registry itself.
    let inside = FaultRegistry::start(Faults::default()).await;
    let faults = || Faults { locations_at: Some(format!("http://{}", inside.address())), ..Faults::default() };
    let registry = FaultRegistry::start(Faults { blobs_at: Some(format!("http://{}", inside.address())), ..faults() }).await;
    let hosts = [("203.0.113.7".to_owned(), HostSettings { plain_http: Some(true), ..HostSettings::default() })].into();
    let proxies = Proxies { http: Some(format!("http://{}", registry.address())), ..Proxies::default() };
    let repository = repository_with(RegistrySettings { hosts, proxies, ..quick() }, "203.0.113.7/model");
    let blob = registry.put_blob("model", b"blob");
    for error in [push(&repository, b"other").await.unwrap_err(), repository.blob_bytes(&layer(b"blob"), 10).await.unwrap_err()] {
        assert!(matches!(error, RegistryError::Astray { .. }), "{error:?}");
        let causes = lamina::fault::causes(&error);
        assert_eq!(causes, [format!("http://{} is in a private network, and the registry is not", inside.address())]);
        assert_eq!(error.fault(), Fault::Remote);
    }
    assert!(repository.has_blob(blob, 4).await.is_err());
    assert!(inside.kept().asked.is_empty(), "nothing was asked inside");
}

#[tokio::test]
async fn what_speaks_plain_http_or_tls_is_told_with_the_setting() {
    let registry = FaultRegistry::start(Faults::default()).await;
    let with = |plain_http| {
        let hosts = [(registry.address(), HostSettings { plain_http: Some(plain_http), ..HostSettings::default() })].into();
        repository_with(RegistrySettings { hosts, ..quick() }, &format!("{}/model", registry.address()))
    };
    let error = with(false).manifest("1").await.unwrap_err();
    assert_eq!(error.fault(), Fault::Remote);
    assert_eq!(error.remedy().unwrap(), format!("set `plain_http: true` for registry `{}` in the configuration file", registry.address()));

    // As a Go server answers plain HTTP on its TLS port.
    let body = "Client sent an HTTP request to an HTTPS server.\n";
    registry.kept().faults.refusals = vec![Refusal { body, ..burst(Method::GET, "", 1, 400) }];
    let error = with(true).manifest("1").await.unwrap_err();
    assert_eq!(error.remedy().unwrap(), format!("set `plain_http: false` for registry `{}` in the configuration file", registry.address()));
}

#[tokio::test]
async fn an_error_page_of_any_size_is_one_line() {
    static PAGE: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| format!("<html><body>{}</body></html>", "long ".repeat(1 << 20)));
    let refusal =
        Refusal { headers: vec![(HeaderName::from_static("content-type"), "text/html")], body: &PAGE, ..burst(Method::GET, "", 9, 418) };
    let (_registry, repository) = start(Faults { refusals: vec![refusal], ..Faults::default() }).await;
    let error = repository.manifest("1").await.unwrap_err();
    assert!(error.to_string().len() < 500 && error.to_string().contains("418 I'm a teapot: long long"), "{error}");
}
