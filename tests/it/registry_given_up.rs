//! A push of which one layer fails: what becomes of the uploads that were under way beside it.

use std::fs::File;
use std::path::{Path, PathBuf};

use axum::http::Method;
use lamina::oci::digest::Digest;
use lamina::oci::image::{Image, ImageLayer, ImageSet, LayerSource, Purpose};
use lamina::oci::manifest::{Document, media};
use lamina::oci::platform::Platform;
use lamina::progress::silent;
use lamina::registry::client::Repository;
use lamina::registry::copy::{Target, copy};
use lamina::registry::error::RegistryError;
use lamina::registry::settings::RegistrySettings;
use lamina::registry::source::Source;

use crate::support::client::{layer, manifest, noise, push, quick, quiet, repository_with, source};
use crate::support::fault_registry::{FaultRegistry, Faults, burst};
use crate::support::hs::tool;
use crate::support::outside::LOOK;

/// Large enough for a page in the journal.
const LARGE_BYTES: usize = 9 << 20;

/// An upload whose last answer never came, dropped; the handle that it went through.
async fn dropped(registry: &FaultRegistry, memory: Option<PathBuf>, size_bytes: usize) -> Repository {
    let settings = RegistrySettings { memory_folder: memory, ..quick() };
    let repository = repository_with(settings, &format!("{}/model", registry.address()));
    let (handle, blob) = (repository.clone(), noise(size_bytes));
    let task = tokio::spawn(async move { handle.upload(Digest::of(&blob), blob.len() as u64, None, &source(&blob), &quiet).await });
    while registry.count(Method::PUT, "/uploads/") == 0 {
        tokio::time::sleep(LOOK).await;
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(registry.kept().uploads.len(), 1);
    repository
}

/// The failure of a push of something else, which the registry answers with `status`.
async fn failure(status: u16) -> RegistryError {
    let refusals = vec![burst(Method::POST, "/uploads/", 99, status)];
    let registry = FaultRegistry::start(Faults { refusals, ..Faults::default() }).await;
    push(&repository_with(quick(), &format!("{}/model", registry.address())), b"blob").await.unwrap_err()
}

/// The failure of a push to nobody.
async fn nobody() -> RegistryError {
    push(&repository_with(quick(), "127.0.0.1:1/model"), b"blob").await.unwrap_err()
}

#[tokio::test]
async fn uploads_beside_a_layer_that_failed_are_given_up_unless_the_next_run_goes_on_with_them() {
    for (error, large_stays, small_stays) in [
        // Refused for good: the same push cannot end right.
        (Some(failure(403).await), false, false),
        // What failed may pass, or is ours: the same command goes on with the large one.
        (Some(failure(503).await), true, false),
        (None, true, false),
        // Nobody is there who could be told.
        (Some(nobody().await), true, true),
    ] {
        for (size_bytes, stays) in [(LARGE_BYTES, large_stays), (300_000, small_stays)] {
            let memory = tempfile::tempdir().unwrap();
            let registry = FaultRegistry::start(Faults { commits_held_after: Some(0), ..Faults::default() }).await;
            let repository = dropped(&registry, Some(memory.path().to_owned()), size_bytes).await;
            repository.give_up_uploads(error.as_ref()).await;
            assert_eq!(registry.kept().uploads.len(), usize::from(stays), "{size_bytes}: {error:?}");
            let pages = std::fs::read_dir(memory.path().join("uploads")).map_or(0, Iterator::count);
            assert_eq!(pages, usize::from(stays && size_bytes == LARGE_BYTES), "{size_bytes}: {error:?}");
            // Once, and not again.
            repository.give_up_uploads(error.as_ref()).await;
            assert_eq!(registry.count(Method::DELETE, "/uploads/"), usize::from(!stays));
        }
    }
}

#[tokio::test]
async fn what_another_push_to_the_same_repository_has_open_is_not_given_up() {
    let registry = FaultRegistry::start(Faults { commits_held_after: Some(0), ..Faults::default() }).await;
    let _dropped = dropped(&registry, None, 300_000).await;
    let other = repository_with(quick(), &format!("{}/model", registry.address()));
    other.give_up_uploads(None).await;
    assert_eq!(registry.count(Method::DELETE, ""), 0);
    assert_eq!(registry.kept().uploads.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_cannot_be_read_leaves_no_upload_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let registry = FaultRegistry::start(Faults { commits_held_after: Some(0), ..Faults::default() }).await;
    let (good, pipe) = (folder.path().join("good"), folder.path().join("pipe"));
    std::fs::write(&good, noise(300_000)).unwrap();
    // Who opens it waits for somebody who writes, and then cannot go to its place in it.
    tool("mkfifo", &[pipe.to_str().unwrap()]);
    let layer = |path: &Path, bytes: &[u8]| ImageLayer {
        descriptor: layer(bytes),
        diff_id: Digest::of(bytes),
        purpose: Purpose::Files,
        source: LayerSource::File(path.to_owned()),
    };
    let layers = vec![layer(&good, &noise(300_000)), layer(&pipe, b"never read")];
    let config = Document::new(media::OCI_CONFIG, b"{}".to_vec());
    let manifest = manifest(b"{}", &[layers[0].descriptor.clone(), layers[1].descriptor.clone()]);
    let images = ImageSet { index: None, images: vec![Image { platform: Platform::linux_amd64(), manifest, config, layers }] };
    let repository = repository_with(quick(), &format!("{}/model", registry.address()));
    let target = Target::Repository { repository, tag: Some("1".to_owned()) };
    let pushing = tokio::spawn(async move { copy(&images, &Source::Nowhere, target, &silent()).await });
    while registry.count(Method::PUT, "/uploads/") < 2 {
        tokio::time::sleep(LOOK).await;
    }
    drop(File::options().write(true).open(&pipe).unwrap());
    pushing.await.unwrap().unwrap_err();
    assert_eq!(registry.kept().uploads.len(), 0);
    assert!(registry.kept().manifests.is_empty());
}
