//! Garbage collection over the store and a catalog: what goes, what stays and why, and what happens beside pushes. Beside uploads and builds it is in
//! `garbage_service.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lamina::build::collect::collect;
use lamina::catalog::catalog::Catalog;
use lamina::disk::store_sweep::Removed;
use lamina::oci::digest::Digest;
use lamina::oci::manifest::Document;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::distribution_discovery::about;
use crate::image::{double, single};
use crate::support::client::{layer, manifest, noise};
use crate::support::embedded::Registry;
use crate::support::shelves::{GRACE, age, assert_whole, is_whole, names};

/// A registry with a catalog beside it.
struct Yard {
    registry: Registry,
    catalog: Catalog,
}

impl Yard {
    async fn new() -> Yard {
        let registry = Registry::start().await;
        let catalog = Catalog::open(&registry.data.path().join("catalog.sqlite")).await.unwrap();
        Yard { registry, catalog }
    }

    async fn collect(&self) -> Removed {
        collect(&self.catalog, &self.registry.store, GRACE).await.unwrap()
    }

    /// Collects when everything that is there has become old.
    async fn collect_old(&self) -> Removed {
        age(self.registry.data.path());
        self.collect().await
    }

    fn names(&self, shelf: &str) -> usize {
        names(self.registry.data.path(), shelf).len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tag_leads_to_stays_and_what_nothing_leads_to_goes() {
    let yard = Yard::new().await;
    let registry = &yard.registry;
    let sets = [registry.build(single, "one", "1"), registry.build(double, "two", "1")];
    let pushed = registry.push_image("pushed", "1", b"layer").await;
    registry.push_blob("pushed", b"of no image").await;
    registry.push_blob("blobs/only", b"of no image either").await;
    let before = (yard.names("blobs"), yard.names("recipes"), yard.names("content"));
    assert_eq!(yard.collect().await, Removed::default(), "all of it is young");
    let removed = yard.collect_old().await;
    // The third is the model's code, which is in a packed layer; no version needs it as a file.
    assert_eq!((removed.tags, removed.manifests, removed.files), (0, 0, 3));
    assert_eq!(removed.bytes, (b"of no image".len() + b"of no image either".len() + b"def infer(x): return x\n".len()) as u64);
    assert_eq!((yard.names("blobs"), yard.names("recipes"), yard.names("content")), (before.0 - 2, before.1, before.2 - 1));
    assert_eq!(assert_whole(&registry.store), ["one:1", "pushed:1", "two:1"]);
    assert!(!registry.data.path().join("repositories/blobs").exists(), "a repository that never was");

    // One of two images that share their contents goes: nothing of the other does.
    registry.status(Method::DELETE, "/v2/one/manifests/1").await;
    assert_eq!(yard.collect().await.manifests, 0, "what has just lost its tag is young");
    assert_eq!(yard.collect_old().await.manifests, 1);
    assert_eq!(assert_whole(&registry.store), ["pushed:1", "two:1"]);
    assert_eq!(yard.names("content"), before.2 - 1);
    assert_eq!(registry.status(Method::GET, "/v2/one/tags/list").await, 404, "nothing is left of the repository");

    registry.status(Method::DELETE, &format!("/v2/two/manifests/{}", sets[1].top().digest)).await;
    yard.collect_old().await;
    assert_eq!((yard.names("recipes"), yard.names("content")), (0, 0));
    assert!(!is_whole(&registry.store, &sets[1].images[0].layers[0].descriptor.digest), "the parsed recipe is forgotten as well");
    assert_eq!(yard.names("blobs"), 3);
    assert_eq!(registry.status(Method::HEAD, &format!("/v2/pushed/manifests/{}", pushed.digest)).await, 200);
    assert_eq!(yard.collect_old().await, Removed::default(), "a second time there is nothing to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_stay_with_their_subject_and_go_with_it() {
    let yard = Yard::new().await;
    let registry = &yard.registry;
    let image = registry.push_image("a", "1", b"layer").await;
    registry.push_blob("a", b"{}").await;
    let signature = about(&image.digest, &json!({"artifactType": "of/signature"}));
    let of_signature = about(&signature.digest, &json!({"artifactType": "of/time"}));
    let of_nothing = about(&Digest::of(b"never there"), &json!({}));
    for document in [&signature, &of_signature, &of_nothing] {
        assert_eq!(registry.put_manifest("a", &document.digest.to_string(), document).await.status(), StatusCode::CREATED);
    }
    let there = async |document: &Document| registry.status(Method::GET, &format!("/v2/a/manifests/{}", document.digest)).await == 200;
    assert_eq!(yard.collect_old().await.manifests, 1);
    assert!(there(&signature).await && there(&of_signature).await && !there(&of_nothing).await);
    registry.status(Method::DELETE, "/v2/a/manifests/1").await;
    assert_eq!(yard.collect_old().await.manifests, 3);
    assert_eq!((yard.names("blobs"), registry.store.repositories().unwrap().len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_asks_for_or_pushes_stays_while_it_may_be_pushing() {
    let yard = Yard::new().await;
    let registry = &yard.registry;
    let [asked, mounted, sent, forgotten] = [b"asked", b"mount", b"sent.", b"forgo"];
    for blob in [asked, mounted, sent, forgotten] {
        registry.push_blob("a", blob).await;
    }
    age(registry.data.path());
    assert_eq!(registry.status(Method::HEAD, &format!("/v2/a/blobs/{}", Digest::of(asked))).await, 200);
    let mount = format!("/v2/b/blobs/uploads/?mount={}&from=a", Digest::of(mounted));
    assert_eq!(registry.status(Method::POST, &mount).await, 201);
    registry.push_blob("a", sent).await;
    assert_eq!(yard.collect().await.files, 1);
    let document = manifest(asked, &[layer(sent)]);
    assert_eq!(registry.put_manifest("a", "1", &document).await.status(), StatusCode::CREATED);
    assert_eq!(registry.put_manifest("b", "1", &manifest(mounted, &[])).await.status(), StatusCode::CREATED);
    assert_eq!(registry.status(Method::HEAD, &format!("/v2/a/blobs/{}", Digest::of(forgotten))).await, 404);
    assert_whole(&registry.store);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_upload_holds_the_blobs_of_its_repository_however_old_they_are() {
    let yard = Yard::new().await;
    let registry = &yard.registry;
    registry.push_blob("a", b"first layer").await;
    registry.push_blob("b", b"of another repository").await;
    let session = registry.ask(Method::POST, "/v2/a/blobs/uploads/", &[], b"").await;
    let location = crate::support::embedded::header(&session, "location").to_owned();
    assert_eq!(yard.collect_old().await.files, 1);
    assert!(is_whole(&registry.store, &Digest::of(b"first layer")));
    // It expires; then they go.
    assert_eq!(registry.store.expire_uploads(GRACE).unwrap(), 1);
    assert_eq!(registry.status(Method::GET, &location).await, 404);
    assert_eq!(yard.collect_old().await.files, 1);
    assert_eq!(yard.names("blobs"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_is_under_way_keeps_what_it_has_used_since_it_began() {
    let yard = Yard::new().await;
    let store = &yard.registry.store;
    let (used, unused) = (store.put_bytes(b"used").unwrap(), store.put_bytes(b"unused").unwrap());
    age(yard.registry.data.path());
    let work = store.staging().unwrap();
    assert!(store.renew(&used).unwrap());
    let new = store.put_bytes(b"new").unwrap();
    // No grace at all: only the work holds it.
    let no_grace = async || collect(&yard.catalog, store, Duration::ZERO).await.unwrap().files;
    assert_eq!(no_grace().await, 1);
    assert!(store.has(&used) && store.has(&new) && !store.has(&unused));
    drop(work);
    // Past the tick of the file system's clock.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(no_grace().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_ends_the_collection_before_anything_that_it_might_name_goes() {
    let yard = Yard::new().await;
    let registry = &yard.registry;
    let document = registry.push_image("a", "1", b"layer").await;
    registry.build(single, "m", "1");
    registry.push_blob("b", b"of no image").await;
    age(registry.data.path());
    let blob = registry.data.path().join("blobs").join(document.digest.hex());
    let bytes = std::fs::read(&blob).unwrap();
    let before = (names(registry.data.path(), "blobs"), names(registry.data.path(), "content"));
    let refused = async || {
        let error = collect(&yard.catalog, &registry.store, GRACE).await.unwrap_err();
        assert_eq!((names(registry.data.path(), "blobs"), names(registry.data.path(), "content")), before);
        lamina::fault::one_line(&error)
    };
    std::fs::write(&blob, b"{\"config\": damaged").unwrap();
    assert!(refused().await.contains(&document.digest.hex()));
    std::fs::write(&blob, &bytes).unwrap();
    let recipe = std::fs::read_dir(registry.data.path().join("recipes")).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&recipe).unwrap();
    std::fs::write(&recipe, b"{\"entries\": [").unwrap();
    assert!(refused().await.contains("is needed and cannot be read"));
    std::fs::write(&recipe, whole).unwrap();
    assert_eq!(yard.collect_old().await.files, 2, "the blob, and the code that is in a packed layer");
    assert_whole(&registry.store);
}

/// The race that registries have lost blobs by: a client asks whether a blob is there, is told that it is, sends nothing, and puts a manifest that
/// names it, while the blob is being collected.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_push_that_skips_what_is_there_is_whole_however_it_falls_together_with_collections() {
    let yard = Arc::new(Yard::new().await);
    let layers: Vec<Vec<u8>> = (0..12).map(|at| noise(1000 + at)).collect();
    let config = b"{\"shared\": true}";
    let document = manifest(config, &layers.iter().map(|bytes| layer(bytes)).collect::<Vec<_>>());
    let mut skipped = 0;
    for round in 0..25 {
        age(yard.registry.data.path());
        let ended = Arc::new(AtomicBool::new(false));
        let collecting = {
            let (yard, ended) = (yard.clone(), ended.clone());
            tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    yard.collect().await;
                }
            })
        };
        let registry = &yard.registry;
        for blob in layers.iter().map(Vec::as_slice).chain([config.as_slice()]) {
            if registry.status(Method::HEAD, &format!("/v2/a/blobs/{}", Digest::of(blob))).await == 200 {
                skipped += 1;
            } else {
                registry.push_blob("a", blob).await;
            }
        }
        assert_eq!(registry.put_manifest("a", "1", &document).await.status(), StatusCode::CREATED, "round {round}");
        ended.store(true, Ordering::Relaxed);
        collecting.await.unwrap();
        assert_eq!(assert_whole(&registry.store), ["a:1"]);
        assert_eq!(registry.status(Method::DELETE, &format!("/v2/a/manifests/{}", document.digest)).await, 202);
    }
    assert!(skipped > 0, "no blob was ever skipped: the rounds show nothing");
}
