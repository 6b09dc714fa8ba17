//! Hashing and sending overlap: a layer is on its way while others are still being hashed, and what is named by a tag is whole all the same.
//!
//! Nothing is timed. Whoever hashes tells of each piece and is held there until the registry has been asked, so that a build that sends after the last
//! hash would wait for ever.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use axum::http::Method;
use lamina::build::base::Places;
use lamina::build::built::BuiltImage;
use lamina::build::recipe::{self, BuildError};
use lamina::build::request::{BuildSettings, Request};
use lamina::cli::open::open_content;
use lamina::disk::folder::{FolderOptions, read_folder};
use lamina::disk::seal_cache::SealCache;
use lamina::fault::causes;
use lamina::model::fit_scan::Facts;
use lamina::model::intake::{Given, Model, intake};
use lamina::model::plan::LARGE_BYTES;
use lamina::model::runtime::RuntimeList;
use lamina::progress::{Event, Listener, silent};
use lamina::registry::client::{Registries, Repository};
use lamina::registry::copy::{self, Target};
use lamina::registry::source::Source;

use crate::support::client::{noise, quick, repository};
use crate::support::fault_registry::{FaultRegistry, Faults, burst};
use crate::support::models;
use crate::support::outside::LOOK;

/// Between what is waited for and giving it up; only a bound.
const LOOKS_MAX: usize = 3_000;

struct Bench {
    folder: tempfile::TempDir,
    registry: FaultRegistry,
    repository: Repository,
}

impl Bench {
    /// A model of one layer more than are hashed at once, the last the smallest, and an empty registry.
    async fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let registry = FaultRegistry::start(Faults::default()).await;
        let repository = repository(&format!("{}/m", registry.address()));
        let bench = Bench { folder, registry, repository };
        models::small(&bench.model());
        for number in 0..thread::available_parallelism().unwrap().get() {
            let mut bytes = noise(LARGE_BYTES as usize + (1 << 20));
            bytes[0] = number as u8;
            fs::write(bench.model().join(format!("weights-{number}.bin")), bytes).unwrap();
        }
        fs::write(bench.smallest(), vec![7; LARGE_BYTES as usize]).unwrap();
        bench
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    fn smallest(&self) -> PathBuf {
        self.model().join("smallest.bin")
    }

    fn requests(&self) -> Vec<(Method, String)> {
        self.registry.kept().asked.iter().map(|asked| (asked.method.clone(), asked.path.clone())).collect()
    }

    /// Builds for the registry, told to `listener`.
    async fn build(&self, to: Option<&Repository>, cache: Option<SealCache>, listener: &Listener) -> Result<BuiltImage, BuildError> {
        let places = Places { registries: Registries::new(quick()).unwrap(), store: None, mirrors: Vec::new() };
        let settings = BuildSettings { cache, ..BuildSettings::new(RuntimeList::compiled_in()) };
        let request = Request::new(settings, Facts::default(), self.folder.path());
        recipe::build(&read(&self.model()), &request, &places, to, listener).await.map(|built| built.image)
    }

    async fn finish(&self, built: &BuiltImage) {
        let target = Target::Repository { repository: self.repository.clone(), tag: Some("1".to_owned()) };
        copy::copy_rest(&built.images, &Source::Nowhere, target, &built.sent, &silent()).await.unwrap();
    }
}

fn read(folder: &Path) -> Model {
    let tree = read_folder(folder, &FolderOptions::default()).unwrap().tree;
    let given = Given { name: Some("m".to_owned()), runtime: Some("scratch".to_owned()), ..Given::default() };
    intake(&tree, &given, &open_content).unwrap()
}

/// Calls `first` once, where hashing has reached the last of the large files. What is sent is told on the thread that builds, what is hashed on others.
fn in_the_last_file(first: impl Fn() + Send + Sync + 'static) -> Listener {
    let before_last_bytes = thread::available_parallelism().unwrap().get() as u64 * (LARGE_BYTES + (1 << 20)) + LARGE_BYTES / 2;
    let (builder, hashed_bytes) = (thread::current().id(), AtomicU64::new(0));
    Arc::new(move |event| {
        if let Event::Advance { bytes } = event
            && thread::current().id() != builder
        {
            let before = hashed_bytes.fetch_add(bytes, Ordering::SeqCst);
            if before < before_last_bytes && before + bytes >= before_last_bytes {
                first();
            }
        }
    })
}

/// Waits, on a thread that may, for something that comes if layers are sent while others are hashed.
fn wait_until(came: impl Fn() -> bool) {
    for _ in 0..LOOKS_MAX {
        if came() {
            return;
        }
        thread::sleep(LOOK);
    }
    panic!("nothing was sent while the last file was being hashed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_layer_is_sent_before_the_last_is_hashed_and_the_tag_comes_last() {
    let bench = Bench::new().await;
    let kept = bench.registry.shared();
    let listener = in_the_last_file(move || {
        wait_until(|| kept.lock().unwrap().asked.iter().any(|asked| asked.method == Method::PUT));
    });
    let built = bench.build(Some(&bench.repository), None, &listener).await.unwrap();
    assert_eq!(bench.registry.count(Method::PUT, "/manifests/"), 0);
    bench.finish(&built).await;

    let requests = bench.requests();
    assert_eq!(requests.last().unwrap(), &(Method::PUT, "/v2/m/manifests/1".to_owned()));
    let documents = requests.iter().position(|(_, path)| path.contains("/manifests/")).unwrap();
    let config = format!("/v2/m/blobs/{}", built.images.images[0].config.digest);
    assert!(requests.iter().position(|(_, path)| *path == config).unwrap() > documents, "{requests:#?}");
    // Each layer is asked for once, whoever sends it, and the image is the one that is built without sending.
    for layer in &built.images.images[0].layers {
        let path = format!("/v2/m/blobs/{}", layer.descriptor.digest);
        assert_eq!(requests.iter().filter(|(_, asked)| *asked == path).count(), 1, "{requests:#?}");
        assert!(bench.registry.blob("m", layer.descriptor.digest).is_some());
    }
    let alone = bench.build(None, None, &silent()).await.unwrap();
    assert_eq!(alone.images, built.images);
}

/// Changes every large file: of several that are hashed at once any may be the last.
fn change_all(model: &Path) {
    let files = fs::read_dir(model).unwrap().map(|file| file.unwrap().path());
    for file in files.filter(|path| path.extension().is_some_and(|end| end == "bin")) {
        fs::write(file, "another length").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_others_are_sent_leaves_blobs_that_nothing_names() {
    let bench = Bench::new().await;
    let (kept, model) = (bench.registry.shared(), bench.model());
    let listener = in_the_last_file(move || {
        wait_until(|| !kept.lock().unwrap().blobs.is_empty());
        change_all(&model);
    });
    let error = bench.build(Some(&bench.repository), None, &listener).await.unwrap_err();
    let told: Vec<String> = [error.to_string()].into_iter().chain(causes(&error)).collect();
    assert!(told.iter().any(|text| text.contains(".bin` changed while it was being read")), "{told:?}");
    assert!(bench.registry.kept().manifests.is_empty());
    assert!(!bench.registry.kept().blobs.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_others_are_sent_leaves_no_upload_of_them() {
    let bench = Bench::new().await;
    bench.registry.kept().faults.commits_held_after = Some(0);
    let (kept, model) = (bench.registry.shared(), bench.model());
    let listener = in_the_last_file(move || {
        wait_until(|| kept.lock().unwrap().asked.iter().any(|asked| asked.method == Method::PUT));
        change_all(&model);
    });
    bench.build(Some(&bench.repository), None, &listener).await.unwrap_err();
    assert!(bench.registry.count(Method::DELETE, "/uploads/") > 0);
    // One whose opening was not answered yet has no address that could be given up.
    let kept = bench.registry.kept();
    let sent = kept.asked.iter().filter(|asked| asked.method == Method::PUT);
    let left: Vec<&str> =
        sent.filter_map(|asked| asked.path.rsplit('/').next()).filter(|upload| kept.uploads.contains_key(*upload)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_is_not_asked_for_before_the_image_is() {
    let bench = Bench::new().await;
    models::settle(&bench.model());
    let cache = SealCache::new(bench.folder.path().join("cache"));
    let built = bench.build(Some(&bench.repository), Some(cache.clone()), &silent()).await.unwrap();
    bench.finish(&built).await;
    bench.registry.kept().asked.clear();
    let again = bench.build(Some(&bench.repository), Some(cache), &silent()).await.unwrap();
    assert_eq!((again.images.top(), bench.requests()), (built.images.top(), Vec::new()));
    bench.finish(&again).await;
    assert_eq!(bench.requests(), [(Method::HEAD, "/v2/m/manifests/1".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_refuses_a_layer_ends_the_build() {
    let bench = Bench::new().await;
    bench.registry.kept().faults.refusals = vec![burst(Method::POST, "/blobs/uploads/", u32::MAX, 403)];
    let error = bench.build(Some(&bench.repository), None, &silent()).await.unwrap_err();
    assert_eq!(error.stage(), "send", "{error:?}");
}
