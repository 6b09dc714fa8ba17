//! Uploads whose line breaks, and registries that are killed and come back: what arrives, and how much of it went over the wire.
//!
//! The bound that each test asserts: the bytes that were missing and one chunk for each fault, or one blob where the registry forgets what it was sent. Bytes are counted by a
//! tap before the registry, so what went out and got lost in a buffer is in them as far as the tap took it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::http::Method;
use axum::http::header::RETRY_AFTER;
use futures_util::{StreamExt as _, stream};
use lamina::oci::digest::Digest;
use lamina::registry::client::Repository;
use lamina::registry::settings::{Patience, RegistrySettings};
use lamina::registry::wire::BodyStream;
use tokio::sync::oneshot;

use crate::support::client::{layer, noise, push, quick, quiet, repository_with, source};
use crate::support::docker_registry::DockerRegistry;
use crate::support::embedded::Registry;
use crate::support::fault_registry::{FaultRegistry, Faults, Refusal, burst};
use crate::support::fault_tokens::{Login, TokenServer};
use crate::support::wire_tap::WireTap;

const MIB: u64 = 1 << 20;
const BLOB_MIB: u64 = 24;
const CHUNK_BYTES: u64 = 4 * MIB;
/// One for each boundary inside the blob.
const TEARS: u64 = BLOB_MIB - 1;
/// What the tap may have read, and not passed on, when it cuts.
const PIECE_BYTES: u64 = 64 << 10;

/// Pushes a blob of which every MiB but the last ends in a torn line; how many bytes of it went by.
async fn torn_at_every_mib(registry: &str) -> u64 {
    let tap = WireTap::before(registry).await;
    let settings = RegistrySettings { chunk_bytes: CHUNK_BYTES, ..quick() };
    let repository = repository_with(settings, &format!("{}/model", tap.address()));
    for at in 1..BLOB_MIB {
        tap.cut_blob_at(at * MIB);
    }
    let blob = noise(usize::try_from(BLOB_MIB * MIB).unwrap());
    push(&repository, &blob).await.unwrap();
    assert_eq!(tap.due(), 0, "the line broke at every MiB");
    let sent_bytes = tap.body_bytes();
    assert_eq!(repository.blob_bytes(&layer(&blob), BLOB_MIB * MIB).await.unwrap(), blob);
    assert!(sent_bytes >= BLOB_MIB * MIB, "{sent_bytes}");
    sent_bytes
}

async fn faulty(faults: Faults) -> FaultRegistry {
    // The registry writes its own address into its answers; relative ones lead through the tap.
    FaultRegistry::start(Faults { relative_locations: true, ..faults }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_breaks_at_every_mib_costs_little_where_the_registry_keeps_what_came() {
    let registry = faulty(Faults { keeps_partial: true, ..Faults::default() }).await;
    // Nothing, where the registry has noticed the break when it is asked what it has; else what it had not counted yet, which is a MiB at most.
    let most_bytes = BLOB_MIB * MIB + TEARS * (MIB + PIECE_BYTES);
    let sent_bytes = torn_at_every_mib(&registry.address()).await;
    assert!(sent_bytes <= most_bytes, "{sent_bytes}");
    assert!(registry.kept().uploads.is_empty(), "no upload is left behind");

    let ours = Registry::start().await;
    let sent_bytes = torn_at_every_mib(&ours.host).await;
    assert!(sent_bytes <= most_bytes, "{sent_bytes}");
    assert_eq!(ours.left_in_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_breaks_at_every_mib_costs_a_chunk_where_the_registry_keeps_whole_chunks() {
    let registry = faulty(Faults::default()).await;
    let sent_bytes = torn_at_every_mib(&registry.address()).await;
    assert!(sent_bytes <= BLOB_MIB * MIB + TEARS * CHUNK_BYTES, "{sent_bytes}");
    assert!(registry.kept().uploads.is_empty(), "no upload is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_breaks_at_every_mib_costs_a_blob_where_the_registry_forgets_the_upload() {
    let registry = DockerRegistry::start();
    let sent_bytes = torn_at_every_mib(registry.address()).await;
    assert!(sent_bytes <= BLOB_MIB * MIB + TEARS * BLOB_MIB * MIB, "{sent_bytes}");
    assert_eq!(registry.blobs(), 1);
}

/// A source that waits before the bytes from `at` on are given for the first time, until it is told to go on.
struct Gate {
    at: u64,
    tell: Mutex<Option<oneshot::Sender<()>>>,
    wait: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Gate {
    /// The gate; what hears that it was reached, and what opens it.
    fn new(at: u64) -> (Gate, oneshot::Receiver<()>, oneshot::Sender<()>) {
        let ((tell, reached), (open, wait)) = (oneshot::channel(), oneshot::channel());
        (Gate { at, tell: Mutex::new(Some(tell)), wait: Mutex::new(Some(wait)) }, reached, open)
    }

    fn before(&self, first_byte: u64, bytes: BodyStream) -> BodyStream {
        if first_byte != self.at {
            return bytes;
        }
        let (Some(tell), Some(wait)) = (self.tell.lock().unwrap().take(), self.wait.lock().unwrap().take()) else { return bytes };
        tell.send(()).unwrap();
        let waiting = stream::once(wait).filter_map(|_| async { None });
        Box::pin(waiting.chain(bytes))
    }
}

const RESTARTED_AT: u64 = 3 * MIB;

/// Pushes a blob of 8 MiB in chunks of 1 MiB to a registry that is killed between the third and the fourth; how many bytes went by.
async fn killed_between_two_chunks(mut registry: DockerRegistry) -> u64 {
    let tap = WireTap::before(registry.address()).await;
    let patience = Patience { tries_max: 5000, ..quick().patience };
    let settings = RegistrySettings { chunk_bytes: MIB, patience, ..quick() };
    let repository = repository_with(settings, &format!("{}/model", tap.address()));
    let blob = noise(usize::try_from(8 * MIB).unwrap());
    // The line breaks once, so that the rest goes in chunks.
    tap.cut_blob_at(MIB);
    let (gate, reached, open) = Gate::new(RESTARTED_AT);
    let all = source(&blob);
    let gated = |range: std::ops::Range<u64>| gate.before(range.start, all(range));
    let restart = async {
        reached.await.unwrap();
        let registry = tokio::task::spawn_blocking(move || {
            registry.start_again();
            registry
        });
        let registry = registry.await.unwrap();
        tap.point_to(registry.address());
        // The client may have given that request up by now.
        let _ = open.send(());
        registry
    };
    let (uploaded, registry) = tokio::join!(repository.upload(Digest::of(&blob), 8 * MIB, None, &gated, &quiet), restart);
    uploaded.unwrap();
    let sent_bytes = tap.body_bytes();
    assert_eq!(repository.blob_bytes(&layer(&blob), 8 * MIB).await.unwrap(), blob);
    assert_eq!(registry.blobs(), 1);
    sent_bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_killed_in_mid_blob_goes_on_where_it_has_a_secret() {
    let sent_bytes = killed_between_two_chunks(DockerRegistry::start()).await;
    assert!(sent_bytes <= 8 * MIB + 2 * MIB + PIECE_BYTES, "one chunk for each of two faults: {sent_bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_killed_in_mid_blob_begins_again_where_it_has_no_secret() {
    let sent_bytes = killed_between_two_chunks(DockerRegistry::start_without_secret()).await;
    assert!(sent_bytes > 8 * MIB + RESTARTED_AT, "what it had acknowledged is lost with its secret: {sent_bytes}");
    assert!(sent_bytes <= 8 * MIB + 2 * 8 * MIB, "one blob for each of two faults: {sent_bytes}");
}

/// A repository whose blobs go in chunks of 1 MB because a body of more than 1.5 MB is refused.
async fn in_chunks(faults: Faults) -> (FaultRegistry, Repository) {
    let registry = FaultRegistry::start(Faults { body_bytes_max: Some(1_500_000), ..faults }).await;
    let settings = RegistrySettings { chunk_bytes: 1_000_000, ..quick() };
    let repository = repository_with(settings, &format!("{}/model", registry.address()));
    // The limit is found out with another blob.
    push(&repository, &noise(1_600_000)).await.unwrap();
    (registry, repository)
}

#[tokio::test]
async fn retry_after_is_kept_for_every_piece_of_an_upload() {
    let (registry, repository) = in_chunks(Faults::default()).await;
    let busy = |method, status| Refusal {
        headers: vec![(RETRY_AFTER, "1")],
        path: "/blobs/uploads/",
        ..burst(method, "/blobs/uploads/", 1, status)
    };
    registry.kept().faults.refusals = vec![busy(Method::POST, 429), busy(Method::PATCH, 429), busy(Method::PUT, 503)];
    registry.kept().asked.clear();
    let blob = noise(3_000_000);
    let begun = Instant::now();
    let sent_bytes = push(&repository, &blob).await.unwrap();
    // Not a measurement: the pauses of these tests are milliseconds, unless the registry's word is kept.
    assert!(begun.elapsed() >= Duration::from_secs(3));
    assert!(sent_bytes <= 4_000_000, "one chunk for the one that was refused: {sent_bytes}");
    let asked = |method| registry.count(method, "/blobs/uploads/");
    assert_eq!((asked(Method::POST), asked(Method::PATCH), asked(Method::PUT)), (2, 4, 2));
    assert_eq!(registry.blob("model", Digest::of(&blob)).unwrap(), blob);
    assert!(registry.kept().uploads.is_empty());
}

#[tokio::test]
async fn a_token_of_two_seconds_is_renewed_for_each_chunk_and_for_the_commit() {
    let server = TokenServer { life: Some(Duration::from_secs(2)), ..TokenServer::default() };
    let (registry, repository) = in_chunks(Faults { login: Login::Bearer(server), ..Faults::default() }).await;
    registry.kept().asked.clear();
    let blob = noise(4_000_000);
    let all = source(&blob);
    // Each chunk takes most of a token's life, the last one all of it.
    let slow = |range: std::ops::Range<u64>| -> BodyStream {
        let pause = Duration::from_millis(if range.end == 4_000_000 { 2100 } else { 900 });
        let waiting = stream::once(tokio::time::sleep(pause)).filter_map(|()| async { None });
        Box::pin(waiting.chain(all(range)))
    };
    let uploaded = repository.upload(Digest::of(&blob), 4_000_000, None, &slow, &quiet).await.unwrap();
    assert_eq!(uploaded.sent_bytes, 4_000_000, "no chunk is sent twice");
    assert_eq!(registry.blob("model", Digest::of(&blob)).unwrap(), blob);
    assert_eq!((registry.count(Method::PATCH, "/uploads/"), registry.count(Method::PUT, "/uploads/")), (4, 1));
    assert!(registry.count(Method::GET, "/token") >= 2, "{}", registry.count(Method::GET, "/token"));
    assert!(registry.kept().asked.iter().all(|asked| asked.path == "/token" || asked.authorization.is_some()));
}

#[tokio::test]
async fn a_token_that_is_withdrawn_in_the_middle_costs_a_chunk() {
    let (registry, repository) = in_chunks(Faults { login: Login::Bearer(TokenServer::default()), ..Faults::default() }).await;
    let blob = noise(4_000_000);
    let (all, withdrawn) = (source(&blob), std::sync::atomic::AtomicBool::new(false));
    let withdrawing = |range: std::ops::Range<u64>| {
        // Once the request is on its way with the token.
        if range.start == 2_000_000 && !withdrawn.swap(true, std::sync::atomic::Ordering::SeqCst) {
            registry.kept().tokens.clear();
        }
        all(range)
    };
    let uploaded = repository.upload(Digest::of(&blob), 4_000_000, None, &withdrawing, &quiet).await.unwrap();
    assert!(uploaded.sent_bytes <= 5_000_000, "{uploaded:?}");
    assert_eq!(registry.blob("model", Digest::of(&blob)).unwrap(), blob);
}
