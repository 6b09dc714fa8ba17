//! Distribution-spec 1.1, "Push", against `/v2/` of our own: one test a rule. Pieces, mounts and torn connections are in `embedded_registry.rs` too.

use lamina::oci::digest::Digest;
use lamina::oci::manifest::{Document, media};
use reqwest::header::{CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::client::{layer, manifest};
use crate::support::embedded::{Registry, code, header};

async fn session(registry: &Registry, repository: &str) -> String {
    let started = registry.ask(Method::POST, &format!("/v2/{repository}/blobs/uploads/"), &[("content-length", "0")], b"").await;
    assert_eq!(started.status(), StatusCode::ACCEPTED);
    header(&started, LOCATION).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_and_a_put_make_a_blob_that_can_be_pulled() {
    let registry = Registry::start().await;
    let (location, digest) = (session(&registry, "a").await, Digest::of(b"whole"));
    let put = registry.ask(Method::PUT, &format!("{location}?digest={digest}"), &[], b"whole").await;
    assert_eq!((put.status(), header(&put, "docker-content-digest")), (StatusCode::CREATED, digest.to_string().as_str()));
    let pulled = registry.get(header(&put, LOCATION)).await;
    assert_eq!(pulled.bytes().await.unwrap(), "whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_in_order_make_a_blob_and_each_answer_tells_how_far_it_is() {
    let registry = Registry::start().await;
    let (location, digest) = (session(&registry, "a").await, Digest::of(b"onetwo"));
    for (range, bytes, told) in [("0-2", "one", "0-2"), ("3-5", "two", "0-5")] {
        let patched = registry.ask(Method::PATCH, &location, &[("content-range", range)], bytes.as_bytes()).await;
        assert_eq!((patched.status(), header(&patched, RANGE)), (StatusCode::ACCEPTED, told));
        assert_eq!(header(&patched, LOCATION), location);
        let status = registry.get(&location).await;
        assert_eq!((status.status(), header(&status, RANGE), header(&status, LOCATION)), (StatusCode::NO_CONTENT, told, location.as_str()));
    }
    assert_eq!(registry.ask(Method::PUT, &format!("{location}?digest={digest}"), &[], b"").await.status(), StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_that_is_out_of_order_is_refused_and_nothing_of_it_stays() {
    let registry = Registry::start().await;
    let location = session(&registry, "a").await;
    registry.ask(Method::PATCH, &location, &[("content-range", "0-2")], b"one").await;
    for range in ["0-2", "2-4", "4-6", "x-y", "6-4", "3"] {
        let refused = registry.ask(Method::PATCH, &location, &[("content-range", range)], b"two").await;
        assert_eq!((header(&refused, RANGE), header(&refused, LOCATION)), ("0-2", location.as_str()), "{range}");
        assert_eq!(code(refused).await, (416, "BLOB_UPLOAD_INVALID".to_owned()), "{range}");
    }
    let put = format!("{location}?digest={}", Digest::of(b"onetwo"));
    let refused = registry.ask(Method::PUT, &put, &[("content-range", "4-6")], b"two").await;
    assert_eq!(code(refused).await.0, 416);
    // A length that is not the range's.
    let refused = registry.ask(Method::PATCH, &location, &[("content-range", "3-9")], b"two").await;
    assert_eq!(code(refused).await, (400, "SIZE_INVALID".to_owned()));
    assert_eq!(registry.ask(Method::PUT, &put, &[("content-range", "3-5")], b"two").await.status(), StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_cancelled_and_belongs_to_its_repository() {
    let registry = Registry::start().await;
    let location = session(&registry, "a").await;
    let elsewhere = location.replace("/v2/a/", "/v2/b/");
    for (method, path) in [(Method::GET, &elsewhere), (Method::PATCH, &elsewhere), (Method::DELETE, &elsewhere)] {
        assert_eq!(code(registry.ask(method, path, &[], b"x").await).await, (404, "BLOB_UPLOAD_UNKNOWN".to_owned()));
    }
    assert_eq!(registry.ask(Method::DELETE, &location, &[], b"").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(code(registry.ask(Method::PATCH, &location, &[], b"x").await).await, (404, "BLOB_UPLOAD_UNKNOWN".to_owned()));
    assert_eq!(registry.left_in_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_is_missing_wrong_or_of_another_algorithm_is_refused() {
    let registry = Registry::start().await;
    let sha512 = format!("sha512:{}", "0".repeat(128));
    for query in ["", "?digest=x", &format!("?digest={sha512}"), &format!("?digest={}", Digest::of(b"other"))] {
        let location = session(&registry, "a").await;
        let refused = registry.ask(Method::PUT, &format!("{location}{query}"), &[], b"bytes").await;
        assert_eq!(code(refused).await, (400, "DIGEST_INVALID".to_owned()), "{query}");
    }
    for query in [format!("digest={sha512}"), "digest-algorithm=sha512".to_owned(), "digest=x".to_owned()] {
        let refused = registry.ask(Method::POST, &format!("/v2/a/blobs/uploads/?{query}"), &[], b"bytes").await;
        assert_eq!(code(refused).await, (400, "DIGEST_INVALID".to_owned()), "{query}");
    }
    let accepted = registry.ask(Method::POST, "/v2/a/blobs/uploads/?digest-algorithm=sha256", &[], b"").await;
    assert_eq!(accepted.status(), StatusCode::ACCEPTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_mounted_from_wherever_it_is_or_uploaded() {
    let registry = Registry::start().await;
    let digest = registry.push_blob("a", b"shared").await;
    for (to, query) in [("b", format!("mount={digest}&from=a")), ("c", format!("mount={digest}"))] {
        assert_eq!(registry.status(Method::HEAD, &format!("/v2/{to}/blobs/{digest}")).await, 404);
        let mounted = registry.ask(Method::POST, &format!("/v2/{to}/blobs/uploads/?{query}"), &[], b"").await;
        let location = format!("/v2/{to}/blobs/{digest}");
        assert_eq!((mounted.status(), header(&mounted, LOCATION)), (StatusCode::CREATED, location.as_str()));
        assert_eq!(registry.get(&location).await.bytes().await.unwrap(), "shared");
    }
    for query in [format!("mount={}&from=a", Digest::of(b"none")), "mount=x&from=a".to_owned()] {
        let session = registry.ask(Method::POST, &format!("/v2/b/blobs/uploads/?{query}"), &[], b"").await;
        assert_eq!((session.status(), header(&session, RANGE)), (StatusCode::ACCEPTED, "0-0"), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_requests_never_write_to_one_session_at_once() {
    use tokio::io::AsyncWriteExt;
    let registry = Registry::start().await;
    let location = session(&registry, "a").await;
    let bytes = vec![b'1'; 600_000];
    let head = format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 600000\r\n\r\n");
    let all_but_one = [head.as_bytes(), &bytes[1..]].concat();
    let mut wire = tokio::net::TcpStream::connect(&registry.host).await.unwrap();
    wire.write_all(&all_but_one).await.unwrap();
    // Until the first has taken hold, the second may come first; an empty piece changes nothing.
    let refused = loop {
        let patched = registry.ask(Method::PATCH, &location, &[], b"").await;
        if patched.status() != StatusCode::ACCEPTED {
            break patched;
        }
        // It may even have been what the first one met: then that was refused, and comes again.
        if wire.try_read(&mut [0; 1]).is_ok() {
            wire = tokio::net::TcpStream::connect(&registry.host).await.unwrap();
            wire.write_all(&all_but_one).await.unwrap();
        }
    };
    assert_eq!(code(refused).await, (409, "BLOB_UPLOAD_INVALID".to_owned()));
    wire.write_all(b"1").await.unwrap();
    let mut answer = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut wire, &mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 202");
    let put = format!("{location}?digest={}", Digest::of(&bytes));
    assert_eq!(registry.ask(Method::PUT, &put, &[], b"").await.status(), StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_names_all_blobs_that_it_needs_and_each_that_is_missing_is_told() {
    let registry = Registry::start().await;
    registry.push_blob("a", b"{}").await;
    let document = manifest(b"{}", &[layer(b"first"), layer(b"second")]);
    let refused = registry.put_manifest("a", "1", &document).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let errors: Value = refused.json().await.unwrap();
    let told: Vec<(&str, &str)> = errors["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["code"].as_str().unwrap(), error["detail"]["digest"].as_str().unwrap()))
        .collect();
    let mut missing = [Digest::of(b"first").to_string(), Digest::of(b"second").to_string()];
    missing.sort();
    assert_eq!(told, [("MANIFEST_BLOB_UNKNOWN", missing[0].as_str()), ("MANIFEST_BLOB_UNKNOWN", missing[1].as_str())]);
    assert_eq!(registry.status(Method::GET, "/v2/a/manifests/1").await, 404);
    // The list of blobs may be empty, and a blob may be another repository's: it is this one's too from then on.
    assert_eq!(registry.put_manifest("b", "1", &manifest(b"{}", &[])).await.status(), StatusCode::CREATED);
    assert_eq!(registry.status(Method::GET, &format!("/v2/b/blobs/{}", Digest::of(b"{}"))).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_kept_byte_for_byte_whatever_its_kind_and_type() {
    let registry = Registry::start().await;
    registry.push_blob("a", b"{}").await;
    let odd = "application/vnd.example.thing+json";
    let artifact = "application/vnd.oci.artifact.manifest.v1+json";
    let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::of(b"{}"), "size": 2});
    let spaced =
        format!("{{ \"schemaVersion\" : 2,\n \"config\":{empty}, \"layers\": [{empty}], \"artifactType\": \"a/b\", \"x\": 1.50 }}");
    for (at, (media_type, text)) in [
        (media::OCI_MANIFEST, spaced),
        (media::OCI_INDEX, r#"{"schemaVersion":2,"manifests":[ ]}"#.to_owned()),
        (artifact, json!({"mediaType": artifact, "artifactType": "x/y", "blobs": [empty]}).to_string()),
        (odd, "  {\"anything\": [1, 2]}\n".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        let document = Document::new(media_type, text.into_bytes());
        let put = registry.put_manifest("a", &format!("t{at}"), &document).await;
        let location = format!("/v2/a/manifests/{}", document.digest);
        assert_eq!((put.status(), header(&put, LOCATION)), (StatusCode::CREATED, location.as_str()), "{media_type}");
        let pulled = registry.get(&location).await;
        assert_eq!(header(&pulled, CONTENT_TYPE), media_type);
        assert_eq!(pulled.bytes().await.unwrap(), document.bytes);
    }
    for (media_type, text) in
        [(odd, "[]"), (odd, "{"), ("text/plain", "{}"), (media::OCI_MANIFEST, "{}"), (odd, r#"{"mediaType": "other+json"}"#)]
    {
        let refused = registry.put_manifest("a", "x", &Document::new(media_type, text.as_bytes().to_vec())).await;
        assert_eq!(code(refused).await, (400, "MANIFEST_INVALID".to_owned()), "{media_type}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_of_the_content_type_are_ignored() {
    let registry = Registry::start().await;
    registry.push_blob("a", b"{}").await;
    let document = manifest(b"{}", &[]);
    let sent = Document { media_type: format!("{}; charset=utf-8", media::OCI_MANIFEST), ..document };
    assert_eq!(registry.put_manifest("a", "1", &sent).await.status(), StatusCode::CREATED);
    assert_eq!(header(&registry.get("/v2/a/manifests/1").await, CONTENT_TYPE), media::OCI_MANIFEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn four_mebibytes_of_manifest_are_taken_and_a_byte_more_is_not() {
    let registry = Registry::start().await;
    registry.push_blob("a", b"{}").await;
    let mut document = manifest(b"{}", &[]);
    document.bytes.resize(4 << 20, b' ');
    assert_eq!(registry.put_manifest("a", "1", &document).await.status(), StatusCode::CREATED);
    document.bytes.push(b' ');
    assert_eq!(code(registry.put_manifest("a", "1", &document).await).await, (413, "SIZE_INVALID".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_sent_by_its_digest_takes_tags_with_it() {
    let registry = Registry::start().await;
    registry.push_blob("a", b"{}").await;
    let document = manifest(b"{}", &[]);
    let tags: Vec<String> = (0..12).map(|at| format!("tag={at}")).collect();
    let put = registry.put_manifest("a", &format!("{}?{}", document.digest, tags.join("&")), &document).await;
    assert_eq!((put.status(), put.headers().get_all("oci-tag").iter().count()), (StatusCode::CREATED, 12));
    assert_eq!(registry.store.tags("a").unwrap().unwrap().len(), 12);
    let refused = registry.put_manifest("a", &format!("{}?tag=fine&tag=-not", document.digest), &document).await;
    assert_eq!(code(refused).await, (400, "MANIFEST_INVALID".to_owned()));
    assert!(!registry.store.tags("a").unwrap().unwrap().contains(&"fine".to_owned()), "none of them, where one cannot be");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_need_not_be_there_and_is_answered() {
    let registry = Registry::start().await;
    registry.push_blob("a", b"{}").await;
    let subject = Digest::of(b"not there");
    let mut value: Value = serde_json::from_slice(&manifest(b"{}", &[]).bytes).unwrap();
    value["subject"] = json!({"mediaType": media::OCI_MANIFEST, "digest": subject, "size": 9});
    let document = Document::new(media::OCI_MANIFEST, value.to_string().into_bytes());
    let put = registry.put_manifest("a", &document.digest.to_string(), &document).await;
    assert_eq!((put.status(), header(&put, "oci-subject")), (StatusCode::CREATED, subject.to_string().as_str()));
    value["subject"]["digest"] = json!("sha512:00");
    let broken = Document::new(media::OCI_MANIFEST, value.to_string().into_bytes());
    assert_eq!(code(registry.put_manifest("a", "1", &broken).await).await, (400, "MANIFEST_INVALID".to_owned()));
}
