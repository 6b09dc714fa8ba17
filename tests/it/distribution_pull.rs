//! Distribution-spec 1.1, "Pull", against `/v2/` of our own: one test a rule. What real clients make of it is in `registry_clients.rs`, layers that are
//! rendered in `embedded_registry.rs`.

use lamina::oci::digest::Digest;
use lamina::oci::manifest::media;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use reqwest::{Method, StatusCode};

use crate::support::embedded::{Registry, code, header};

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_says_that_it_is_a_registry() {
    let registry = Registry::start().await;
    let response = registry.get("/v2/").await;
    assert_eq!((response.status(), header(&response, "docker-distribution-api-version")), (StatusCode::OK, "registry/2.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_given_by_tag_and_by_digest_with_its_type_digest_and_bytes() {
    let registry = Registry::start().await;
    let document = registry.push_image("a/b", "1.0", b"layer").await;
    for key in ["1.0".to_owned(), document.digest.to_string()] {
        for method in [Method::GET, Method::HEAD] {
            let path = format!("/v2/a/b/manifests/{key}");
            let response = registry.ask(method.clone(), &path, &[("accept", media::OCI_MANIFEST)], b"").await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(header(&response, CONTENT_TYPE), media::OCI_MANIFEST);
            assert_eq!(header(&response, "docker-content-digest"), document.digest.to_string());
            assert_eq!(header(&response, CONTENT_LENGTH), document.bytes.len().to_string());
            let body = response.bytes().await.unwrap();
            assert_eq!(body, if method == Method::GET { document.bytes.clone() } else { Vec::new() });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_a_repository_is_not_found_there() {
    let registry = Registry::start().await;
    let document = registry.push_image("a", "1", b"layer").await;
    let blob = Digest::of(b"layer");
    for (path, expected) in [
        ("/v2/a/manifests/2".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("/v2/a/manifests/{blob}"), "MANIFEST_UNKNOWN"),
        (format!("/v2/b/manifests/{}", document.digest), "MANIFEST_UNKNOWN"),
        (format!("/v2/a/blobs/{}", Digest::of(b"none")), "BLOB_UNKNOWN"),
        // The store has it; this repository does not.
        (format!("/v2/b/blobs/{blob}"), "BLOB_UNKNOWN"),
    ] {
        assert_eq!(registry.status(Method::HEAD, &path).await, 404, "{path}");
        assert_eq!(code(registry.get(&path).await).await, (404, expected.to_owned()), "{path}");
    }
    assert_eq!(registry.status(Method::GET, &format!("/v2/a/blobs/{blob}")).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_digests_that_cannot_be_are_said_to_be_so() {
    let registry = Registry::start().await;
    let sha512 = format!("sha512:{}", "0".repeat(128));
    for (path, expected) in [
        ("/v2/UPPER/manifests/1".to_owned(), "NAME_INVALID"),
        ("/v2/a..b/tags/list".to_owned(), "NAME_INVALID"),
        (format!("/v2/{}/tags/list", "a".repeat(256)), "NAME_INVALID"),
        ("/v2/a/blobs/sha256:zz".to_owned(), "DIGEST_INVALID"),
        (format!("/v2/a/blobs/{sha512}"), "DIGEST_INVALID"),
        (format!("/v2/a/manifests/{sha512}"), "DIGEST_INVALID"),
        (format!("/v2/a/referrers/{sha512}"), "DIGEST_INVALID"),
    ] {
        assert_eq!(code(registry.get(&path).await).await, (400, expected.to_owned()), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_given_whole_or_in_a_range() {
    let registry = Registry::start().await;
    let digest = registry.push_blob("a", b"0123456789").await;
    let path = format!("/v2/a/blobs/{digest}");
    let head = registry.ask(Method::HEAD, &path, &[], b"").await;
    assert_eq!((header(&head, CONTENT_LENGTH), header(&head, "docker-content-digest")), ("10", digest.to_string().as_str()));
    let part = registry.ask(Method::GET, &path, &[("range", "bytes=3-5")], b"").await;
    assert_eq!((part.status(), header(&part, "content-range")), (StatusCode::PARTIAL_CONTENT, "bytes 3-5/10"));
    assert_eq!(part.bytes().await.unwrap(), "345");
    let past = registry.ask(Method::GET, &path, &[("range", "bytes=10-")], b"").await;
    assert_eq!(code(past).await, (416, "SIZE_INVALID".to_owned()));
    // A range of what the client has another version of is none that it could use.
    let stale = registry.ask(Method::GET, &path, &[("range", "bytes=3-5"), ("if-range", "\"other\"")], b"").await;
    assert_eq!((stale.status(), stale.bytes().await.unwrap().len()), (StatusCode::OK, 10));
    let fresh = registry.ask(Method::GET, &path, &[("range", "bytes=3-5"), ("if-range", &format!("\"{digest}\""))], b"").await;
    assert_eq!(fresh.status(), StatusCode::PARTIAL_CONTENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_has_is_not_sent_again() {
    let registry = Registry::start().await;
    let document = registry.push_image("a", "1", b"layer").await;
    for path in ["/v2/a/manifests/1".to_owned(), format!("/v2/a/blobs/{}", Digest::of(b"layer"))] {
        let etag = header(&registry.get(&path).await, ETAG).to_owned();
        for known in [etag.clone(), format!("\"x\", W/{etag}"), "*".to_owned()] {
            let response = registry.ask(Method::GET, &path, &[("if-none-match", &known)], b"").await;
            assert_eq!((response.status(), header(&response, ETAG)), (StatusCode::NOT_MODIFIED, etag.as_str()), "{path}: {known}");
            assert!(response.bytes().await.unwrap().is_empty());
        }
        assert_eq!(registry.ask(Method::GET, &path, &[("if-none-match", "\"x\"")], b"").await.status(), StatusCode::OK);
    }
    assert_eq!(registry.status(Method::GET, &format!("/v2/a/manifests/{}", document.digest)).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_query_of_a_proxy_is_ignored_and_a_number_that_is_none_refused() {
    let registry = Registry::start().await;
    registry.push_image("a", "1", b"layer").await;
    assert_eq!(registry.status(Method::GET, "/v2/a/manifests/1?ns=docker.io&ns=other").await, 200);
    assert_eq!(code(registry.get("/v2/a/tags/list?n=many").await).await, (400, "UNSUPPORTED".to_owned()));
}
