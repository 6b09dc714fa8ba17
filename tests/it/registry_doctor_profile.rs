//! What a doctor has found out, later pushes go by, without being refused anything first; and what has changed since, they correct.

use std::sync::Arc;

use axum::http::Method;
use lamina::oci::digest::Digest;
use lamina::registry::client::Repository;
use lamina::registry::mount::Mount;
use lamina::registry::settings::{HostSettings, RegistrySettings};

use crate::registry_doctor::examined;
use crate::support::client::{noise, push, quick, repository_with};
use crate::support::fault_registry::{FaultRegistry, Faults};
use crate::support::hs::Home;
use crate::support::wire_tap::WireTap;

const MIB: usize = 1 << 20;

/// A registry behind a tap, examined by a user.
struct Examined {
    registry: FaultRegistry,
    tap: WireTap,
    home: Arc<Home>,
}

impl Examined {
    async fn new(faults: Faults, more: &[&str]) -> Examined {
        let registry = FaultRegistry::start(Faults { relative_locations: true, ..faults }).await;
        let tap = WireTap::before(&registry.address()).await;
        let home = Arc::new(Home::new());
        let (code, document) = examined(&home, tap.address(), more).await;
        assert_eq!(code, 0, "{document:#}");
        tap.forget();
        Examined { registry, tap, home }
    }

    /// A repository as the next process of this user sees it.
    fn repository(&self, host: HostSettings) -> Repository {
        let memory_folder = Some(self.home.path().join(".cache/lamina/registries"));
        let hosts = [(self.tap.address().to_owned(), host)].into();
        repository_with(RegistrySettings { memory_folder, hosts, ..quick() }, &format!("{}/team/model", self.tap.address()))
    }

    /// Pushes `size_bytes`; how many requests of each kind that took: POST, PATCH, PUT.
    async fn push(&self, size_bytes: usize, host: HostSettings) -> (usize, usize, usize) {
        self.tap.forget();
        let blob = noise(size_bytes);
        push(&self.repository(host), &blob).await.unwrap();
        assert_eq!(self.registry.blob("team/model", Digest::of(&blob)).unwrap(), blob);
        (self.tap.count("POST"), self.tap.count("PATCH"), self.tap.count("PUT"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_limit_is_not_met_again() {
    let examined = Examined::new(Faults { body_bytes_max: Some(5_000_000), ..Faults::default() }, &["--body-mib", "8"]).await;
    // 4 MiB is the largest that was taken: chunks of 4, 4 and 2, and the end.
    assert_eq!(examined.push(10 * MIB, HostSettings::default()).await, (1, 3, 1));
    assert_eq!(examined.tap.body_bytes(), 10 * MIB as u64);
    assert_eq!(examined.push(4 * MIB, HostSettings::default()).await, (1, 0, 1), "what fits goes in one request");

    // The proxy takes less now: one chunk is refused, the push finds its way, and the next one knows.
    examined.registry.kept().faults.body_bytes_max = Some(3_000_000);
    assert_eq!(examined.push(10 * MIB + 1, HostSettings::default()).await, (2, 1 + 6, 1));
    assert_eq!(examined.push(10 * MIB + 2, HostSettings::default()).await, (1, 6, 1));
    // The settings win.
    let host = HostSettings { body_bytes_max: Some(2 * MIB as u64), chunk_bytes: Some(MIB as u64), ..HostSettings::default() };
    assert_eq!(examined.push(3 * MIB, host).await, (1, 3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_refused_are_not_tried_when_a_line_breaks() {
    // As Artifact Registry: none at all.
    let examined = Examined::new(Faults { no_chunks: Some(416), ..Faults::default() }, &["--body-mib", "8"]).await;
    examined.tap.cut_body_after(3_000_000);
    let host = HostSettings { chunk_bytes: Some(MIB as u64), ..HostSettings::default() };
    let (_, patches, puts) = examined.push(10 * MIB, host).await;
    assert_eq!((patches, puts), (0, 2), "all in one, twice");

    // As GHCR: none of more than 4 MiB. The whole goes in one request, and after the break what is left in chunks that are taken.
    let examined = Examined::new(Faults { chunk_bytes_max: Some(4 << 20), ..Faults::default() }, &["--body-mib", "8"]).await;
    assert_eq!(examined.push(10 * MIB, HostSettings::default()).await, (1, 0, 1));
    examined.tap.cut_body_after(3_000_000);
    let (_, patches, puts) = examined.push(10 * MIB + 1, HostSettings::default()).await;
    assert_eq!((patches, puts), (3, 2), "4, 4 and 2 MiB, none refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_went_while_chunks_went_too_stops_nothing() {
    let examined = Examined::new(Faults { body_bytes_max: Some(5_000_000), ..Faults::default() }, &["--body-mib", "8"]).await;
    examined.registry.kept().faults = Faults { no_chunks: Some(405), relative_locations: true, ..Faults::default() };
    let (_, patches, puts) = examined.push(10 * MIB, HostSettings::default()).await;
    assert_eq!((patches, puts), (1, 1), "a chunk is refused, and then all goes in one");
    assert_eq!(examined.push(10 * MIB + 1, HostSettings::default()).await, (1, 0, 1), "the next one knows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_learns_without_a_doctor_too() {
    let registry = FaultRegistry::start(Faults { body_bytes_max: Some(5_000_000), relative_locations: true, ..Faults::default() }).await;
    let tap = WireTap::before(&registry.address()).await;
    let examined = Examined { registry, tap, home: Arc::new(Home::new()) };
    let host = || HostSettings { chunk_bytes: Some(4 * MIB as u64), ..HostSettings::default() };
    assert_eq!(examined.push(10 * MIB, host()).await, (2, 3, 2), "the whole was refused");
    assert_eq!(examined.push(10 * MIB + 1, host()).await, (1, 3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_does_not_mount_is_not_asked_to() {
    let registry = FaultRegistry::start(Faults { mount_status: Some(405), relative_locations: true, ..Faults::default() }).await;
    let tap = WireTap::before(&registry.address()).await;
    let blob = noise(MIB);
    let digest = registry.put_blob("base", &blob);
    let image = crate::support::client::manifest(b"{}", &[crate::support::client::layer(&blob)]);
    registry.put_manifest("base", "1", &image.media_type, &image.bytes);
    let home = Arc::new(Home::new());
    let asked = Examined { registry, tap, home };
    let mount = |host| {
        let repository = asked.repository(host);
        async move { repository.mount_from_any(digest, MIB as u64, Some("base")).await.unwrap() }
    };
    assert_eq!(mount(HostSettings::default()).await, Mount::NotPossible);
    assert_eq!(asked.registry.count(Method::POST, "/uploads/"), 1);
    let (code, document) = examined(&asked.home, asked.tap.address(), &["--body-mib", "1", "--mount-from", "base"]).await;
    assert_eq!((code, document["profile"]["mounts"].as_bool()), (0, Some(false)));
    let before = asked.registry.count(Method::POST, "/uploads/");
    assert_eq!(mount(HostSettings::default()).await, Mount::NotPossible);
    assert_eq!(asked.registry.count(Method::POST, "/uploads/"), before, "it is known");
    assert_eq!(mount(HostSettings { mounts: Some(true), ..HostSettings::default() }).await, Mount::NotPossible);
    assert_eq!(asked.registry.count(Method::POST, "/uploads/"), before + 1, "the settings win");
    asked.registry.kept().faults.mount_status = None;
    assert_eq!(mount(HostSettings { mounts: Some(true), ..HostSettings::default() }).await, Mount::Mounted);
}
