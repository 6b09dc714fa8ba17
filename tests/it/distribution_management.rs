//! Distribution-spec 1.1, "Content Management", against `/v2/` of our own: what can be deleted, what goes with it, and what stays. When the space comes
//! back is in `garbage.rs`.

use lamina::disk::destination::Destination;
use lamina::oci::digest::Digest;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::distribution_discovery::about;
use crate::image::{double, single};
use crate::support::embedded::{Registry, code};

async fn delete(registry: &Registry, path: &str) -> u16 {
    registry.status(Method::DELETE, path).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_deleted_and_its_manifest_stays() {
    let registry = Registry::start().await;
    let document = registry.push_image("a", "1", b"layer").await;
    assert_eq!(delete(&registry, "/v2/a/manifests/1").await, 202);
    assert_eq!(registry.status(Method::GET, "/v2/a/manifests/1").await, 404);
    assert_eq!(registry.status(Method::GET, &format!("/v2/a/manifests/{}", document.digest)).await, 200);
    let again = registry.ask(Method::DELETE, "/v2/a/manifests/1", &[], b"").await;
    assert_eq!(code(again).await, (404, "MANIFEST_UNKNOWN".to_owned()));
    let unknown = registry.ask(Method::DELETE, "/v2/none/manifests/1", &[], b"").await;
    assert_eq!(code(unknown).await, (404, "NAME_UNKNOWN".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_deleted_with_every_tag_that_points_at_it() {
    let registry = Registry::start().await;
    let document = registry.push_image("a", "1", b"layer").await;
    let other = registry.push_image("a", "other", b"another layer").await;
    assert_eq!(registry.put_manifest("a", "latest", &document).await.status(), StatusCode::CREATED);
    let path = format!("/v2/a/manifests/{}", document.digest);
    assert_eq!(delete(&registry, &path).await, 202);
    for gone in [path.as_str(), "/v2/a/manifests/1", "/v2/a/manifests/latest"] {
        assert_eq!(registry.status(Method::GET, gone).await, 404, "{gone}");
    }
    assert_eq!(registry.store.tags("a").unwrap().unwrap(), ["other"]);
    assert_eq!(registry.status(Method::GET, &format!("/v2/a/manifests/{}", other.digest)).await, 200);
    assert_eq!(delete(&registry, &path).await, 404);
    assert_eq!(registry.put_manifest("a", "1", &document).await.status(), StatusCode::CREATED, "and may come again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_deleted_is_no_referrer_any_more() {
    let registry = Registry::start().await;
    let image = registry.push_image("a", "1", b"layer").await;
    registry.push_blob("a", b"{}").await;
    let signature = about(&image.digest, &json!({"artifactType": "of/signature"}));
    registry.put_manifest("a", "signature", &signature).await;
    let listed = async || {
        let listed: serde_json::Value = registry.get(&format!("/v2/a/referrers/{}", image.digest)).await.json().await.unwrap();
        listed["manifests"].as_array().unwrap().len()
    };
    assert_eq!(listed().await, 1);
    // Without its tag it is one still, and so it is without its subject.
    assert_eq!(delete(&registry, "/v2/a/manifests/signature").await, 202);
    assert_eq!(delete(&registry, &format!("/v2/a/manifests/{}", image.digest)).await, 202);
    assert_eq!(listed().await, 1);
    assert_eq!(delete(&registry, &format!("/v2/a/manifests/{}", signature.digest)).await, 202);
    assert_eq!(listed().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_deleted_from_one_repository_and_stays_in_the_others() {
    let registry = Registry::start().await;
    let digest = registry.push_blob("a", b"shared").await;
    registry.push_blob("b", b"shared").await;
    let path = format!("/v2/a/blobs/{digest}");
    assert_eq!(delete(&registry, &path).await, 202);
    assert_eq!(registry.status(Method::GET, &path).await, 404);
    assert_eq!(registry.status(Method::GET, &format!("/v2/b/blobs/{digest}")).await, 200);
    let again = registry.ask(Method::DELETE, &path, &[], b"").await;
    assert_eq!(code(again).await, (404, "BLOB_UNKNOWN".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_a_manifest_names_is_not_deleted_before_it() {
    let registry = Registry::start().await;
    let document = registry.push_image("a", "1", b"layer").await;
    let path = format!("/v2/a/blobs/{}", Digest::of(b"layer"));
    let refused = registry.ask(Method::DELETE, &path, &[], b"").await;
    assert_eq!(code(refused).await, (405, "DENIED".to_owned()));
    assert_eq!(registry.status(Method::GET, &path).await, 200);
    assert_eq!(delete(&registry, &format!("/v2/a/manifests/{}", document.digest)).await, 202);
    assert_eq!(delete(&registry, &path).await, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_a_model_is_not_deleted_by_tag_nor_by_any_digest_that_it_leads_to() {
    let registry = Registry::start().await;
    for (repository, set) in [("one", single as fn(&_) -> _), ("two", double)] {
        let set = registry.build(set, repository, "1");
        let store = registry.store.clone();
        let kept = Destination::Store { store, repository: repository.to_owned(), tag: Some("1".to_owned()), keep: true };
        kept.finish(&set).unwrap();
        let documents = set.index.iter().chain(set.images.iter().map(|image| &image.manifest));
        let keys = documents.map(|document| document.digest.to_string()).chain(["1".to_owned()]);
        for key in keys {
            let refused = registry.ask(Method::DELETE, &format!("/v2/{repository}/manifests/{key}"), &[], b"").await;
            assert_eq!(code(refused).await, (405, "DENIED".to_owned()), "{repository}: {key}");
            assert_eq!(registry.status(Method::GET, &format!("/v2/{repository}/manifests/{key}")).await, 200);
        }
        // Another tag of the same manifest is the user's.
        registry.put_manifest(repository, "mine", set.top()).await;
        assert_eq!(delete(&registry, &format!("/v2/{repository}/manifests/mine")).await, 202);
    }
}
