//! The registry client against a registry that misbehaves: each fault by its name.

use std::time::{Duration, Instant};

use axum::http::Method;
use axum::http::header::{HeaderName, RETRY_AFTER};
use lamina::fault::{Failure, Fault};
use lamina::oci::digest::Digest;
use lamina::oci::manifest::{Pulled, media};
use lamina::registry::client::Repository;
use lamina::registry::error::RegistryError;
use lamina::registry::mount::Mount;
use lamina::registry::settings::{HostSettings, Proxies, RegistrySettings};

use crate::support::client::{layer, manifest, noise, quick, quiet, repository, repository_with, source};
use crate::support::fault_registry::{FaultRegistry, Faults, Refusal};

async fn start(faults: Faults) -> (FaultRegistry, Repository) {
    let registry = FaultRegistry::start(faults).await;
    let repository = repository(&format!("{}/model", registry.address()));
    (registry, repository)
}

/// `times` answers with this status to these requests.
fn burst(method: Method, path: &'static str, times: u32, status: u16) -> Refusal {
    Refusal { method, path, times, status, headers: Vec::new(), body: "" }
}

async fn push(repository: &Repository, blob: &[u8]) -> Result<u64, RegistryError> {
    let uploaded = repository.upload(Digest::of(blob), blob.len() as u64, None, &source(blob), &quiet).await?;
    Ok(uploaded.sent_bytes)
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
async fn mounts_are_wishes() {
    for (status, mounted) in
        [(None, true), (Some(202), false), (Some(405), false), (Some(404), false), (Some(400), false), (Some(500), false)]
    {
        let (registry, repository) = start(Faults { mount_status: status, ..Faults::default() }).await;
        let blob = noise(50_000);
        let digest = registry.put_blob("base", &blob);
        let session = match repository.mount(digest, "base").await.unwrap() {
            Mount::Mounted => {
                assert!(mounted);
                assert_eq!(registry.blob("model", digest).unwrap(), blob);
                continue;
            }
            Mount::Session(session) => {
                assert_eq!(status, Some(202));
                Some(session)
            }
            Mount::NotPossible => {
                assert_ne!(status, Some(202));
                None
            }
        };
        repository.upload(digest, 50_000, session, &source(&blob), &quiet).await.unwrap();
        assert_eq!(registry.blob("model", digest).unwrap(), blob);
        assert!(registry.kept().uploads.is_empty(), "the session of the mount is used, not left behind");
    }
}

#[tokio::test]
async fn relative_locations_with_a_query() {
    let (registry, repository) = start(Faults { relative_locations: true, ..Faults::default() }).await;
    let blob = noise(50_000);
    push(&repository, &blob).await.unwrap();
    assert_eq!(registry.blob("model", Digest::of(&blob)).unwrap(), blob);
    let kept = registry.kept();
    let put = kept.asked.iter().find(|asked| asked.method == Method::PUT).unwrap();
    assert!(put.query.starts_with("_state=a%2Bb&digest=sha256%3A"), "{}", put.query);
}

#[tokio::test]
async fn bodies_that_are_too_large_are_sent_in_chunks_and_the_limit_is_remembered() {
    let (registry, repository) = start(Faults { body_bytes_max: Some(1_500_000), ..Faults::default() }).await;
    let blob = noise(5_000_000);
    push(&repository, &blob).await.unwrap();
    assert_eq!(registry.blob("model", Digest::of(&blob)).unwrap(), blob);
    let puts = registry.count(Method::PUT, "/uploads/");
    assert_eq!(registry.count(Method::PATCH, "/uploads/"), 1 + 4, "one of 2.5 MB, refused, and four of 1.25 MB");

    // The second blob does not find out again.
    let other = noise(5_000_001);
    assert_eq!(push(&repository, &other).await.unwrap(), 5_000_001);
    assert_eq!(registry.count(Method::PUT, "/uploads/"), puts + 1);
    assert_eq!(registry.blob("model", Digest::of(&other)).unwrap(), other);
}

#[tokio::test]
async fn a_body_limit_that_no_chunk_meets_is_told() {
    let (registry, repository) = start(Faults { body_bytes_max: Some(1000), ..Faults::default() }).await;
    let error = push(&repository, &noise(5_000_000)).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Remote);
    assert!(error.to_string().ends_with("413 Payload Too Large: 413 Request Entity Too Large"), "{error}");
    assert!(error.remedy().unwrap().contains("client_max_body_size"));
    assert!(registry.kept().blobs.is_empty());
}

#[tokio::test]
async fn a_registry_that_takes_small_chunks_only_gets_the_whole() {
    // As GHCR: 416 for a chunk of more than 4 MiB, any size in one piece. The chunks are tried because the line broke.
    let registry = FaultRegistry::start(Faults { chunk_bytes_max: Some(4 << 20), ..Faults::default() }).await;
    let tap = crate::support::wire_tap::WireTap::before(&registry.address()).await;
    // The registry writes its own address into its answers; relative ones lead through the tap.
    registry.kept().faults.relative_locations = true;
    let settings = RegistrySettings { chunk_bytes: 5_000_000, ..quick() };
    let repository = repository_with(settings, &format!("{}/model", tap.address()));
    let blob = noise(6_000_000);
    tap.cut_body_after(3_000_000);
    push(&repository, &blob).await.unwrap();
    assert_eq!(registry.blob("model", Digest::of(&blob)).unwrap(), blob);
}

#[tokio::test]
async fn only_the_range_that_comes_back_is_believed() {
    let (registry, _) = start(Faults { half_chunks: true, body_bytes_max: Some(2_000_000), ..Faults::default() }).await;
    let settings = RegistrySettings { chunk_bytes: 1_000_000, ..quick() };
    let repository = repository_with(settings, &format!("{}/model", registry.address()));
    let blob = noise(3_000_000);
    push(&repository, &blob).await.unwrap();
    assert_eq!(registry.blob("model", Digest::of(&blob)).unwrap(), blob);

    registry.kept().faults = Faults { lying_ranges: true, body_bytes_max: Some(2_000_000), ..Faults::default() };
    let error = push(&repository, &noise(3_000_001)).await.unwrap_err();
    assert!(error.to_string().contains("it says that it has"), "{error}");
    assert_eq!(error.fault(), Fault::Remote);
}

#[tokio::test]
async fn a_commit_that_is_lost_is_made_again() {
    let (registry, repository) = start(Faults { lost_commits: 1, ..Faults::default() }).await;
    let blob = noise(50_000);
    assert_eq!(push(&repository, &blob).await.unwrap(), 100_000);
    assert_eq!(registry.blob("model", Digest::of(&blob)).unwrap(), blob);

    registry.kept().faults.lost_commits = u32::MAX;
    let error = push(&repository, b"other").await.unwrap_err();
    assert!(error.to_string().contains("DIGEST_INVALID"), "{error}");
    assert_eq!(registry.count(Method::PUT, "/uploads/"), 4);
    assert!(registry.kept().uploads.is_empty());
}

#[tokio::test]
async fn an_upload_whose_answer_was_lost_is_not_sent_again() {
    let registry = FaultRegistry::start(Faults { relative_locations: true, ..Faults::default() }).await;
    let blob = noise(50_000);
    // The blob is there when the client asks after a failure, as if another one, or itself, had sent it.
    registry.put_blob("model", &blob);
    registry.kept().faults.refusals = vec![burst(Method::PUT, "/uploads/", 1, 502)];
    let repository = repository(&format!("{}/model", registry.address()));
    push(&repository, &blob).await.unwrap();
    assert_eq!(registry.count(Method::PUT, "/uploads/"), 1);
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
    use futures_util::TryStreamExt;
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
