//! What the client remembers of registries between two runs: where blobs are, and how far an upload was when its process was killed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use axum::http::Method;
use lamina::oci::digest::Digest;
use lamina::oci::manifest::Pulled;
use lamina::registry::client::{Access, Registries, Repository};
use lamina::registry::mount::Mount;
use lamina::registry::settings::RegistrySettings;
use lamina::registry::wire::BodyStream;

use crate::support::client::{noise, push, quick, quiet, repository, source};
use crate::support::docker_registry::DockerRegistry;
use crate::support::fault_registry::{FaultRegistry, Faults};
use crate::support::hs::{Home, Ran};
use crate::support::models;
use crate::support::wire_tap::WireTap;

/// Repositories of one registry that share a memory.
struct Shelf {
    registry: FaultRegistry,
    folder: tempfile::TempDir,
}

impl Shelf {
    async fn new() -> Shelf {
        Shelf { registry: FaultRegistry::start(Faults::default()).await, folder: tempfile::tempdir().unwrap() }
    }

    /// As another process sees it.
    fn repository(&self, path: &str) -> Repository {
        let settings = RegistrySettings { memory_folder: Some(self.folder.path().to_owned()), ..quick() };
        let reference = format!("{}/{path}", self.registry.address()).parse().unwrap();
        Registries::new(settings).unwrap().repository(&reference, Access::Push).unwrap()
    }

    fn remove(&self, path: &str, digest: Digest) {
        self.registry.kept().blobs.remove(&(path.to_owned(), digest.to_string())).unwrap();
    }

    fn posts(&self) -> usize {
        self.registry.count(Method::POST, "/blobs/uploads/")
    }
}

const LARGE_BYTES: u64 = 2 << 20;

#[tokio::test]
async fn a_blob_is_mounted_from_wherever_it_was_pushed_to() {
    let shelf = Shelf::new().await;
    let blob = noise(2 << 20);
    let digest = Digest::of(&blob);
    assert_eq!(shelf.repository("one").mount_from_any(digest, LARGE_BYTES, None).await.unwrap(), Mount::NotPossible);
    assert_eq!(shelf.posts(), 0, "nothing is known, nothing is asked");
    push(&shelf.repository("one"), &blob).await.unwrap();
    for path in ["two", "three"] {
        assert_eq!(shelf.repository(path).mount_from_any(digest, LARGE_BYTES, None).await.unwrap(), Mount::Mounted);
        assert_eq!(shelf.registry.blob(path, digest).unwrap(), blob);
    }
    assert_eq!((shelf.posts(), shelf.registry.count(Method::PUT, "/uploads/")), (3, 1));

    // What is gone from where it was is looked for elsewhere; what was opened for nothing is given up.
    shelf.remove("three", digest);
    assert_eq!(shelf.repository("four").mount_from_any(digest, LARGE_BYTES, None).await.unwrap(), Mount::Mounted);
    assert_eq!((shelf.posts(), shelf.registry.count(Method::DELETE, "/uploads/")), (5, 1));
    assert!(shelf.registry.kept().uploads.is_empty());
    shelf.remove("four", digest);
    shelf.remove("two", digest);
    assert_eq!(shelf.repository("five").mount_from_any(digest, LARGE_BYTES, None).await.unwrap(), Mount::Mounted);
    assert_eq!(shelf.posts(), 8, "`three` is not asked again: `four`, `two`, `one`");
}

#[tokio::test]
async fn a_registry_that_does_not_mount_costs_a_request_and_is_sent_the_blob() {
    for (status, opened) in [(202, true), (401, false), (403, false), (404, false), (405, false)] {
        let shelf = Shelf::new().await;
        let blob = noise(2 << 20);
        let digest = Digest::of(&blob);
        push(&shelf.repository("one"), &blob).await.unwrap();
        assert!(!shelf.repository("two").has_blob(digest, LARGE_BYTES).await.unwrap());
        shelf.registry.kept().faults.mount_status = Some(status);
        let two = shelf.repository("two");
        let session = match two.mount_from_any(digest, LARGE_BYTES, None).await.unwrap() {
            Mount::Session(session) => Some(session),
            Mount::NotPossible => None,
            Mount::Mounted => panic!("{status}"),
        };
        assert_eq!(session.is_some(), opened, "{status}");
        assert_eq!(shelf.posts(), 2, "{status}");
        two.upload(digest, LARGE_BYTES, session, &source(&blob), &quiet).await.unwrap();
        assert_eq!(shelf.registry.blob("two", digest).unwrap(), blob);
        assert!(shelf.registry.kept().uploads.is_empty(), "{status}: the session is gone on with");
        // `two` is known now, `one` is forgotten.
        shelf.registry.kept().faults.mount_status = None;
        shelf.remove("two", digest);
        let three = shelf.repository("three").mount_from_any(digest, LARGE_BYTES, None).await.unwrap();
        assert!(matches!(three, Mount::Session(_)), "{status}: {three:?}");
    }
}

#[tokio::test]
async fn the_base_is_asked_first_and_a_found_blob_is_known() {
    let shelf = Shelf::new().await;
    let blob = noise(2 << 20);
    let digest = shelf.registry.put_blob("base", &blob);
    shelf.registry.put_blob("found", &blob);
    assert!(shelf.repository("found").has_blob(digest, LARGE_BYTES).await.unwrap());
    assert_eq!(shelf.repository("one").mount_from_any(digest, LARGE_BYTES, Some("base")).await.unwrap(), Mount::Mounted);
    let from = |at: usize| {
        let kept = shelf.registry.kept();
        let posts: Vec<&str> = kept.asked.iter().filter(|asked| asked.method == Method::POST).map(|asked| asked.query.as_str()).collect();
        posts[at].rsplit_once("from=").unwrap().1.to_owned()
    };
    assert_eq!(from(0), "base");
    shelf.remove("one", digest);
    fs::remove_dir_all(shelf.folder.path()).unwrap();
    assert!(shelf.repository("found").has_blob(digest, LARGE_BYTES).await.unwrap());
    assert_eq!(shelf.repository("two").mount_from_any(digest, LARGE_BYTES, None).await.unwrap(), Mount::Mounted);
    assert_eq!(from(1), "found", "the folder may be deleted at any time");
}

/// A model with weights of `size_bytes`.
fn model(folder: &Path, size_bytes: usize, more: &str) {
    models::small(folder);
    let piece = noise(1 << 20);
    let weights: Vec<u8> = piece.iter().copied().cycle().take(size_bytes).collect();
    models::write(folder, &[("weights.bin".to_owned(), weights, false), ("more.txt".to_owned(), more.as_bytes().to_vec(), false)], &[]);
}

fn words(home: &Home, folder: &str, to: &str) -> Vec<String> {
    let folder = home.path().join(folder).display().to_string();
    ["build", &folder, "--runtime", "scratch", "--to", to].map(str::to_owned).to_vec()
}

async fn build(home: &std::sync::Arc<Home>, folder: &'static str, to: &str) -> Ran {
    let (home, to) = (home.clone(), to.to_owned());
    tokio::task::spawn_blocking(move || home.hs(words(&home, folder, &to))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_model_with_the_same_weights_sends_none_of_them() {
    let registry = DockerRegistry::start();
    let tap = WireTap::before(registry.address()).await;
    let home = std::sync::Arc::new(Home::new());
    model(&home.path().join("one"), 64 << 20, "one");
    model(&home.path().join("two"), 64 << 20, "two");
    let first = build(&home, "one", &format!("{}/team/one:1", tap.address())).await;
    assert_eq!(first.code, 0, "{first:#?}");
    assert!(tap.body_bytes() > 64 << 20);
    tap.forget();
    let second = build(&home, "two", &format!("{}/other/two:1", tap.address())).await;
    assert_eq!(second.code, 0, "{second:#?}");
    assert!(tap.body_bytes() < 64 << 10, "{:?}", tap.seen());
    assert!(registry.uploads_left("other/two") == 0);
    check_image(&repository(&format!("{}/other/two", registry.address())), "1").await;
}

/// All of an image is there, each blob with the bytes that its digest says.
async fn check_image(repository: &Repository, tag: &str) -> (Digest, u64) {
    let Pulled::Manifest(manifest) = repository.manifest(tag).await.unwrap() else { panic!("an index") };
    let mut size_bytes = manifest.document.size_bytes();
    for descriptor in manifest.layers.iter().chain([&manifest.config]) {
        size_bytes += repository.blob_bytes(descriptor, 1 << 30).await.unwrap().len() as u64;
    }
    (manifest.document.digest, size_bytes)
}

/// So much that what is left of it when the line is held fits no buffers: of a socket they may hold 36 MiB, and a blob that is in them whole arrives although its
/// sender was killed.
const WEIGHTS_BYTES: usize = 62 << 20;
const HELD_BYTES: u64 = 25_000_000;

/// `kill -9` in the middle of the weights, and the same command again: the bytes that went by in all, and the image's.
async fn killed_and_run_again(tap: &WireTap, direct: &Repository, left: impl Fn() -> bool) -> (u64, u64) {
    let home = std::sync::Arc::new(Home::new());
    model(&home.path().join("one"), WEIGHTS_BYTES, "one");
    let to = format!("{}/model:1", tap.address());
    let layout = build(&home, "one", &format!("oci:{}:1", home.path().join("layout").display())).await;
    assert_eq!(layout.code, 0, "{layout:#?}");

    tap.hold_bodies_after(HELD_BYTES);
    let mut child = home.command().args(words(&home, "one", &to)).spawn().unwrap();
    while !tap.seen().iter().any(|seen| seen.body_bytes > HELD_BYTES) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What the tap had read goes on to the registry, and then the line ends.
    tap.release();
    while !left() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(direct.manifest_digest("1").await.unwrap(), None, "nothing torn is under the tag");
    let pages = home.path().join(".cache/lamina/registries/uploads");
    let page = fs::read_dir(&pages).unwrap().next().expect("the journal has a page").unwrap();
    assert!(fs::read_to_string(page.path()).unwrap().contains("/v2/model/blobs/uploads/"));

    let again = build(&home, "one", &to).await;
    assert_eq!(again.code, 0, "{again:#?}");
    assert_eq!(fs::read_dir(&pages).unwrap().count(), 0, "the page goes with the upload");
    let (digest, size_bytes) = check_image(direct, "1").await;
    let index = fs::read_to_string(home.path().join("layout/index.json")).unwrap();
    assert!(index.contains(&digest.to_string()), "the image is the one that was never interrupted");
    (tap.body_bytes(), size_bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_push_goes_on_where_the_registry_stands() {
    let registry = FaultRegistry::start(Faults { keeps_partial: true, relative_locations: true, ..Faults::default() }).await;
    let tap = WireTap::before(&registry.address()).await;
    let direct = repository(&format!("{}/model", registry.address()));
    let left = || registry.kept().uploads.values().any(|upload| upload.len() as u64 > HELD_BYTES - (1 << 20));
    let (sent_bytes, size_bytes) = killed_and_run_again(&tap, &direct, left).await;
    // The small layers may be sent again.
    assert!(sent_bytes < size_bytes + (1 << 20), "{sent_bytes} of {size_bytes}: {:?}", tap.seen());
    assert!(registry.kept().uploads.values().all(|upload| upload.len() < 1 << 20), "the upload was gone on with");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_push_to_a_registry_that_loses_the_session_ends_right() {
    let registry = DockerRegistry::start();
    let tap = WireTap::before(registry.address()).await;
    let direct = repository(&format!("{}/model", registry.address()));
    let (sent_bytes, size_bytes) = killed_and_run_again(&tap, &direct, || true).await;
    assert!(sent_bytes < size_bytes + WEIGHTS_BYTES as u64 + (1 << 20), "{sent_bytes} of {size_bytes}: {:?}", tap.seen());
}

#[tokio::test]
async fn a_killed_push_whose_blob_arrived_leaves_no_page() {
    // What a killed process has sent lies in the buffers of the line, which may hold all that was left of a blob: then the registry has the blob, and nobody has
    // heard of it. It is found there, or mounted from there, and the page of its upload is of no more use.
    let shelf = Shelf::new().await;
    let blob = noise(9 << 20);
    let (digest, size_bytes) = (Digest::of(&blob), 9 << 20);
    let pages = || fs::read_dir(shelf.folder.path().join("uploads")).map_or(0, Iterator::count);
    for path in ["found", "mounted"] {
        let repository = shelf.repository(path);
        let never = |_| -> BodyStream { Box::pin(futures_util::stream::pending()) };
        let under_way = async {
            while shelf.registry.count(Method::PUT, &format!("/{path}/blobs/uploads/")) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            ended = repository.upload(digest, size_bytes, None, &never, &quiet) => panic!("{ended:?}"),
            () = under_way => {}
        }
        assert_eq!(pages(), 1, "{path}");
        let again = shelf.repository(path);
        if path == "found" {
            shelf.registry.put_blob(path, &blob);
            assert!(again.has_blob(digest, size_bytes).await.unwrap());
        } else {
            assert_eq!(again.mount_from_any(digest, size_bytes, None).await.unwrap(), Mount::Mounted);
        }
        assert_eq!(pages(), 0, "{path}");
    }
}
