//! Distribution-spec 1.1, "Content Discovery", against `/v2/` of our own: tags and referrers, one test a rule.

use lamina::oci::digest::Digest;
use lamina::oci::manifest::{Document, media};
use reqwest::header::{CONTENT_TYPE, LINK};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::client::manifest;
use crate::support::embedded::{Registry, code, header};

/// A manifest about `subject`; `more` is what else stands in it.
pub fn about(subject: &Digest, more: &Value) -> Document {
    let mut value: Value = serde_json::from_slice(&manifest(b"{}", &[]).bytes).unwrap();
    value["subject"] = json!({"mediaType": media::OCI_MANIFEST, "digest": subject, "size": 9});
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Document::new(media::OCI_MANIFEST, value.to_string().into_bytes())
}

async fn refer(registry: &Registry, repository: &str, document: &Document) {
    registry.push_blob(repository, b"{}").await;
    let put = registry.put_manifest(repository, &document.digest.to_string(), document).await;
    assert_eq!(put.status(), StatusCode::CREATED);
}

async fn list(registry: &Registry, path: &str) -> (Value, String) {
    let response = registry.get(path).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    let link = header(&response, LINK).to_owned();
    (response.json().await.unwrap(), link)
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_listed_in_order_with_pages_that_lead_to_each_other() {
    let registry = Registry::start().await;
    let document = registry.push_image("a", "b", b"layer").await;
    for tag in ["B", "10", "9", "_x", "a"] {
        assert_eq!(registry.put_manifest("a", tag, &document).await.status(), StatusCode::CREATED);
    }
    let all = ["10", "9", "B", "_x", "a", "b"];
    assert_eq!(list(&registry, "/v2/a/tags/list").await, (json!({"name": "a", "tags": all}), String::new()));
    let mut seen = Vec::new();
    let mut next = "/v2/a/tags/list?n=4".to_owned();
    while !next.is_empty() {
        let (page, link) = list(&registry, &next).await;
        seen.extend(page["tags"].as_array().unwrap().clone());
        next = link.strip_prefix('<').map_or(String::new(), |link| link.strip_suffix(">; rel=\"next\"").unwrap().to_owned());
    }
    assert_eq!(seen, all);
    assert_eq!(list(&registry, "/v2/a/tags/list?n=0").await, (json!({"name": "a", "tags": []}), String::new()));
    // `last` need not be a tag that is there.
    assert_eq!(list(&registry, "/v2/a/tags/list?last=Z").await.0["tags"], json!(["_x", "a", "b"]));
    assert_eq!(code(registry.get("/v2/none/tags/list").await).await, (404, "NAME_UNKNOWN".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_whose_manifests_have_no_tag_has_an_empty_list() {
    let registry = Registry::start().await;
    let document = registry.push_image("a", "1", b"layer").await;
    registry.ask(Method::DELETE, "/v2/a/manifests/1", &[], b"").await;
    assert_eq!(list(&registry, "/v2/a/tags/list").await.0, json!({"name": "a", "tags": []}));
    assert_eq!(registry.status(Method::GET, &format!("/v2/a/manifests/{}", document.digest)).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_are_an_index_of_what_names_the_subject() {
    let registry = Registry::start().await;
    let image = registry.push_image("a", "1", b"layer").await;
    let signature = about(&image.digest, &json!({"artifactType": "of/signature", "annotations": {"key": "value"}}));
    let plain = about(&image.digest, &json!({}));
    for document in [&signature, &plain] {
        refer(&registry, "a", document).await;
    }
    refer(&registry, "a", &about(&Digest::of(b"another"), &json!({"artifactType": "of/signature"}))).await;
    let path = format!("/v2/a/referrers/{}", image.digest);
    let response = registry.get(&path).await;
    assert_eq!((header(&response, CONTENT_TYPE), header(&response, "oci-filters-applied")), (media::OCI_INDEX, ""));
    let listed: Value = response.json().await.unwrap();
    assert_eq!((&listed["schemaVersion"], &listed["mediaType"]), (&json!(2), &json!(media::OCI_INDEX)));
    let of = |document: &Document, kind: &str, annotations: Option<Value>| {
        let size = document.bytes.len();
        let mut value = json!({"mediaType": media::OCI_MANIFEST, "digest": document.digest, "size": size, "artifactType": kind});
        if let Some(annotations) = annotations {
            value["annotations"] = annotations;
        }
        value
    };
    let mut expected = vec![of(&signature, "of/signature", Some(json!({"key": "value"}))), of(&plain, media::OCI_CONFIG, None)];
    expected.sort_by_key(|descriptor| descriptor["digest"].as_str().unwrap().to_owned());
    assert_eq!(listed["manifests"], json!(expected));

    let filtered = registry.get(&format!("{path}?artifactType=of/signature")).await;
    assert_eq!(header(&filtered, "oci-filters-applied"), "artifactType");
    let filtered: Value = filtered.json().await.unwrap();
    assert_eq!(filtered["manifests"], json!([of(&signature, "of/signature", Some(json!({"key": "value"})))]));
    let none = registry.get(&format!("{path}?artifactType=of/nothing")).await;
    assert_eq!(header(&none, "oci-filters-applied"), "artifactType");
    assert_eq!(none.json::<Value>().await.unwrap()["manifests"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_refers_to_has_an_empty_list_and_never_a_404() {
    let registry = Registry::start().await;
    let image = registry.push_image("a", "1", b"layer").await;
    refer(&registry, "b", &about(&image.digest, &json!({}))).await;
    for path in [format!("/v2/a/referrers/{}", image.digest), format!("/v2/none/referrers/{}", image.digest)] {
        assert_eq!(list(&registry, &path).await.0["manifests"], json!([]), "{path}");
    }
    assert_eq!(list(&registry, &format!("/v2/b/referrers/{}", image.digest)).await.0["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(code(registry.get("/v2/a/referrers/sha256:12").await).await, (400, "DIGEST_INVALID".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_come_in_pages_by_number_and_by_size() {
    let registry = Registry::start().await;
    let subject = Digest::of(b"subject");
    // Five whose annotations are a mebibyte and more each: no one answer holds them.
    for at in 0..5 {
        refer(
            &registry,
            "a",
            &about(&subject, &json!({"artifactType": "a+b/c", "annotations": {"large": at.to_string().repeat(1_200_000)}})),
        )
        .await;
    }
    for (query, pages) in [("?n=2", 3), ("", 2), ("?artifactType=a%2Bb/c", 2)] {
        let (mut seen, mut count) = (Vec::new(), 0);
        let mut next = format!("/v2/a/referrers/{subject}{query}");
        while !next.is_empty() {
            let response = registry.get(&next).await;
            let link = header(&response, LINK).to_owned();
            let bytes = response.bytes().await.unwrap();
            assert!(bytes.len() <= 4 << 20);
            let page: Value = serde_json::from_slice(&bytes).unwrap();
            seen.extend(page["manifests"].as_array().unwrap().iter().map(|found| found["digest"].as_str().unwrap().to_owned()));
            count += 1;
            next = link.strip_prefix('<').map_or(String::new(), |link| link.strip_suffix(">; rel=\"next\"").unwrap().to_owned());
        }
        assert!(seen.is_sorted());
        seen.dedup();
        assert_eq!((seen.len(), count), (5, pages), "{query}");
    }
}
