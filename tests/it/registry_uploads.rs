//! Uploads to a registry that misbehaves: each fault by its name.

use std::time::Duration;

use axum::http::Method;
use futures_util::StreamExt;
use lamina::fault::{Failure, Fault};
use lamina::oci::digest::Digest;
use lamina::registry::client::Repository;
use lamina::registry::error::RegistryError;
use lamina::registry::mount::Mount;
use lamina::registry::settings::RegistrySettings;
use lamina::registry::upload::Progress;
use lamina::registry::wire::BodyStream;

use crate::support::client::{noise, push, quick, quiet, repository, repository_with, source};
use crate::support::fault_registry::{FaultRegistry, Faults, Refusal, burst};
use crate::support::wire_tap::WireTap;

async fn start(faults: Faults) -> (FaultRegistry, Repository) {
    let registry = FaultRegistry::start(faults).await;
    let repository = repository(&format!("{}/model", registry.address()));
    (registry, repository)
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
    let tap = WireTap::before(&registry.address()).await;
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

/// Settings that wait for nothing longer than `idle`, but for commits.
fn hurried(idle: Duration) -> RegistrySettings {
    let mut settings = quick();
    settings.patience.idle = idle;
    settings.patience.answer = idle;
    settings.patience.tries_max = 2;
    settings
}

#[tokio::test]
async fn a_slow_commit_is_waited_for() {
    let registry = FaultRegistry::start(Faults { commit_delay: Duration::from_secs(1), ..Faults::default() }).await;
    let settings = hurried(Duration::from_millis(200));
    let repository = repository_with(settings, &format!("{}/model", registry.address()));
    let phases = std::sync::Mutex::new(Vec::new());
    let blob = noise(300_000);
    let listen = |progress| phases.lock().unwrap().push(progress);
    repository.upload(Digest::of(&blob), 300_000, None, &source(&blob), &listen).await.unwrap();
    let phases = phases.into_inner().unwrap();
    assert_eq!(phases[phases.len() - 2..], [Progress::Sent { bytes: 300_000 }, Progress::Committing]);
    assert!(!phases.iter().any(|phase| matches!(phase, Progress::Waiting { .. })));
    assert_eq!(registry.blob("model", Digest::of(&blob)).unwrap(), blob);
}

#[tokio::test]
async fn a_registry_that_falls_silent_is_not_waited_for() {
    // It takes connections, and then nothing; the other takes an upload's beginning, and then nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let held = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let holder = held.clone();
    let task = tokio::spawn(async move {
        while let Ok((connection, _)) = silent.accept().await {
            holder.lock().unwrap().push(connection);
        }
    });
    let repository = repository_with(hurried(Duration::from_millis(100)), &format!("{address}/model"));
    let error = repository.manifest("1").await.unwrap_err();
    assert!(matches!(error, RegistryError::Stalled { .. }), "{error}");
    // Who has never said a word is asked once.
    assert_eq!((error.fault(), held.lock().unwrap().len()), (Fault::RemoteTransient, 1));

    let registry = FaultRegistry::start(Faults { locations_at: Some(format!("http://{address}")), ..Faults::default() }).await;
    let repository = repository_with(hurried(Duration::from_millis(100)), &format!("{}/model", registry.address()));
    // More than the buffers of a socket take.
    let error = push(&repository, &noise(20_000_000)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Stalled { .. }), "{error}");
    task.abort();
}

#[tokio::test]
async fn a_source_that_fails_is_told_as_itself_and_leaves_nothing() {
    #[derive(Debug, thiserror::Error)]
    #[error("`weights.bin` changed while it was read")]
    struct Changed;
    impl Failure for Changed {
        fn fault(&self) -> Fault {
            Fault::Invalid
        }
    }
    let (registry, repository) = start(Faults::default()).await;
    let blob = noise(500_000);
    let good = source(&blob);
    let broken = |range: std::ops::Range<u64>| -> BodyStream {
        Box::pin(good(range).take(2).chain(futures_util::stream::iter([Err(Changed.into())])))
    };
    let error = repository.upload(Digest::of(&blob), 500_000, None, &broken, &quiet).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Invalid);
    assert_eq!(lamina::fault::causes(&error), ["`weights.bin` changed while it was read"]);

    for (said_bytes, found) in
        [(500_001, "500001 bytes were announced, the source gives 500000"), (499_999, "the source gives at least 500000")]
    {
        let error = repository.upload(Digest::of(&blob), said_bytes, None, &|_| good(0..500_000), &quiet).await.unwrap_err();
        assert!(lamina::fault::one_line(&error).contains(found), "{error:?}");
    }
    assert_eq!(registry.count(Method::POST, "/uploads/"), 3, "a source that fails is not tried again");
    assert_eq!(registry.count(Method::DELETE, "/uploads/"), 3, "and its upload is given up");
    assert!(registry.kept().uploads.is_empty() && registry.kept().blobs.is_empty());
}

#[tokio::test]
async fn a_registry_that_takes_all_and_forgets_it_is_given_up() {
    let registry = FaultRegistry::start(Faults { lost_commits: u32::MAX, body_bytes_max: Some(2_000_000), ..Faults::default() }).await;
    registry.kept().faults.refusals = vec![Refusal {
        body: r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#,
        // The commit of three chunks; the first PUT is the whole, which is too large.
        ..burst(Method::PUT, "/uploads/u2", u32::MAX, 404)
    }];
    let settings = RegistrySettings { chunk_bytes: 1_000_000, ..quick() };
    let repository = repository_with(settings, &format!("{}/model", registry.address()));
    for id in 3..20 {
        let path: &'static str = Box::leak(format!("/uploads/u{id}").into_boxed_str());
        let again = Refusal { path, ..registry.kept().faults.refusals[0].clone() };
        registry.kept().faults.refusals.push(again);
    }
    let error = push(&repository, &noise(3_000_000)).await.unwrap_err();
    assert!(error.to_string().contains("BLOB_UPLOAD_UNKNOWN"), "{error}");
    assert_eq!(registry.count(Method::PATCH, "/uploads/"), 3 * 7);
    assert!(registry.kept().blobs.is_empty());
}
