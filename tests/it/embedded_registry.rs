//! `/v2/` of our own, with real clients: `skopeo` pushes and pulls, and HTTP says the rest.

use std::process::Command;

use lamina::oci::digest::Digest;
use lamina::oci::image::{ImageSet, SealedLayer};
use lamina::oci::manifest::media;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LINK, LOCATION, RANGE};
use reqwest::{Method, StatusCode};

use crate::image::{double, single};
use crate::support::embedded::{Registry, code, header};

async fn skopeo(arguments: &[String]) -> String {
    let arguments = arguments.to_vec();
    let output = tokio::task::spawn_blocking(move || Command::new("skopeo").arg("--insecure-policy").args(&arguments).output().unwrap());
    let output = output.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_pulls_what_was_built_and_pushes_it_back() {
    let registry = Registry::start().await;
    let at = |name: &str| format!("docker://{}/{name}", registry.host);
    for (name, set) in [("team/models/one", single as fn(&[SealedLayer]) -> ImageSet), ("team/models/two", double)] {
        let set = registry.build(set, name, "1");
        let folder = tempfile::tempdir().unwrap();
        let layout = format!("oci:{}:x", folder.path().join("layout").display());
        let out = ["copy", "--all", "--preserve-digests", "--src-tls-verify=false", &at(&format!("{name}:1")), &layout];
        skopeo(&out.map(str::to_owned)).await;
        let layer = &set.images[0].layers[0];
        let pulled = std::fs::read(folder.path().join("layout/blobs/sha256").join(layer.descriptor.digest.hex())).unwrap();
        assert_eq!((Digest::of(&pulled), pulled.len() as u64), (layer.descriptor.digest, layer.descriptor.size_bytes));
        // Into an empty registry and out again, by tag and by digest.
        let empty = Registry::start().await;
        let target = format!("docker://{}/a/b/c/d:2", empty.host);
        skopeo(&["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", &layout, &target].map(str::to_owned)).await;
        assert_eq!(empty.store.manifest("a/b/c/d", "2").unwrap().unwrap(), *set.top());
        assert_eq!(empty.left_in_uploads(), 0);
        for key in ["a/b/c/d:2".to_owned(), format!("a/b/c/d@{}", set.top().digest)] {
            let raw =
                skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{}/{key}", empty.host)].map(str::to_owned)).await;
            assert_eq!(raw.as_bytes(), set.top().bytes);
        }
        // The other way: nothing has to be sent, since every blob is there.
        let again = ["copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"].map(str::to_owned);
        let ends = [target, at(&format!("{name}:again"))];
        skopeo(&[&again[..], &ends[..]].concat()).await;
        let tags: serde_json::Value =
            serde_json::from_str(&skopeo(&["list-tags", "--tls-verify=false", &at(name)].map(str::to_owned)).await).unwrap();
        assert_eq!(tags["Tags"], serde_json::json!(["1", "again"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_a_recipe_is_answered_whole_and_in_ranges() {
    let registry = Registry::start().await;
    let set = registry.build(single, "m", "1");
    let layer = &set.images[0].layers[0].descriptor;
    assert!(registry.data.path().join("recipes").join(layer.digest.hex()).is_file());
    assert!(!registry.data.path().join("blobs").join(layer.digest.hex()).exists());
    let path = format!("/v2/m/blobs/{}", layer.digest);
    let response = registry.get(&path).await;
    assert_eq!((response.status(), header(&response, CONTENT_LENGTH)), (StatusCode::OK, layer.size_bytes.to_string().as_str()));
    assert_eq!(header(&response, "docker-content-digest"), layer.digest.to_string());
    let whole = response.bytes().await.unwrap();
    assert_eq!(Digest::of(&whole), layer.digest);
    let size = layer.size_bytes;
    for (asked, first, last) in [
        ("bytes=0-0".to_owned(), 0, 0),
        (format!("bytes=1000-{}", size + 1000), 1000, size - 1),
        ("bytes=-1500".to_owned(), size - 1500, size - 1),
        ("bytes=513-200000".to_owned(), 513, 200_000),
    ] {
        let response = registry.ask(Method::GET, &path, &[(RANGE.as_str(), &asked)], b"").await;
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(header(&response, CONTENT_RANGE), format!("bytes {first}-{last}/{size}"));
        assert!(response.bytes().await.unwrap() == whole[first as usize..=last as usize], "{asked}");
    }
    let response = registry.ask(Method::GET, &path, &[(RANGE.as_str(), &format!("bytes={size}-"))], b"").await;
    assert_eq!(header(&response, CONTENT_RANGE), format!("bytes */{size}"));
    assert_eq!(code(response).await, (416, "SIZE_INVALID".to_owned()));
    let response = registry.ask(Method::HEAD, &path, &[], b"").await;
    assert_eq!((response.status(), header(&response, CONTENT_LENGTH)), (StatusCode::OK, size.to_string().as_str()));
    assert!(response.bytes().await.unwrap().is_empty());
    // Content that is lost is a broken answer, never a shorter layer.
    for entry in std::fs::read_dir(registry.data.path().join("content")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let torn = match registry.http.get(format!("http://{}{path}", registry.host)).send().await {
        Ok(response) => response.bytes().await.is_err(),
        Err(_) => true,
    };
    assert!(torn);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_pushed_at_once_in_pieces_or_by_mounting() {
    let registry = Registry::start().await;
    let bytes: Vec<u8> = (0..3_000_000u32).map(|at| at as u8).collect();
    let digest = Digest::of(&bytes);
    let (first, second) = bytes.split_at(1_700_000);
    let start = registry.ask(Method::POST, "/v2/a/b/blobs/uploads/", &[], b"").await;
    assert_eq!(start.status(), StatusCode::ACCEPTED);
    let location = header(&start, LOCATION).to_owned();
    assert!(location.starts_with("/v2/a/b/blobs/uploads/"));
    let patched = registry.ask(Method::PATCH, &location, &[(CONTENT_RANGE.as_str(), "0-1699999")], first).await;
    assert_eq!((patched.status(), header(&patched, RANGE)), (StatusCode::ACCEPTED, "0-1699999"));
    // Bytes that do not follow are refused, and the client is told where to go on.
    let wrong = registry.ask(Method::PATCH, &location, &[(CONTENT_RANGE.as_str(), "5-9")], b"12345").await;
    assert_eq!(header(&wrong, RANGE), "0-1699999");
    assert_eq!(code(wrong).await, (416, "BLOB_UPLOAD_INVALID".to_owned()));
    let status = registry.get(&location).await;
    assert_eq!((status.status(), header(&status, RANGE)), (StatusCode::NO_CONTENT, "0-1699999"));
    assert_eq!(header(&status, LOCATION), location);
    let range = format!("1700000-{}", bytes.len() - 1);
    let put = registry.ask(Method::PUT, &format!("{location}?digest={digest}"), &[(CONTENT_RANGE.as_str(), &range)], second).await;
    assert_eq!((put.status(), header(&put, LOCATION)), (StatusCode::CREATED, format!("/v2/a/b/blobs/{digest}").as_str()));
    assert!(registry.get(&format!("/v2/a/b/blobs/{digest}")).await.bytes().await.unwrap() == bytes);
    assert_eq!(code(registry.get(&location).await).await, (404, "BLOB_UPLOAD_UNKNOWN".to_owned()));
    let mounted = registry.ask(Method::POST, &format!("/v2/c/blobs/uploads/?mount={digest}&from=a/b"), &[], b"").await;
    assert_eq!((mounted.status(), header(&mounted, "docker-content-digest")), (StatusCode::CREATED, digest.to_string().as_str()));
    let unknown = Digest::of(b"once");
    let refused = registry.ask(Method::POST, &format!("/v2/c/blobs/uploads/?mount={unknown}&from=a/b"), &[], b"").await;
    assert_eq!(refused.status(), StatusCode::ACCEPTED);
    let cancelled = registry.ask(Method::DELETE, header(&refused, LOCATION), &[], b"").await;
    assert_eq!(cancelled.status(), StatusCode::NO_CONTENT);
    let at_once = registry.ask(Method::POST, &format!("/v2/c/blobs/uploads/?digest={unknown}"), &[], b"once").await;
    assert_eq!(at_once.status(), StatusCode::CREATED);
    let empty = Digest::of(b"");
    let at_once = registry.ask(Method::POST, &format!("/v2/c/blobs/uploads/?digest={empty}"), &[], b"").await;
    assert_eq!(at_once.status(), StatusCode::CREATED);
    let response = registry.get(&format!("/v2/c/blobs/{empty}")).await;
    assert_eq!((response.status(), response.bytes().await.unwrap().len()), (StatusCode::OK, 0));
    assert_eq!(registry.left_in_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_torn_goes_on_where_it_stopped_and_what_is_wrong_leaves_nothing() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let registry = Registry::start().await;
    let start = registry.ask(Method::POST, "/v2/a/blobs/uploads/", &[], b"").await;
    let location = header(&start, LOCATION).to_owned();
    let mut wire = tokio::net::TcpStream::connect(&registry.host).await.unwrap();
    let head = format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nfour");
    wire.write_all(head.as_bytes()).await.unwrap();
    wire.shutdown().await.unwrap();
    let _ = wire.read_to_end(&mut Vec::new()).await;
    // The session is let go of when the server has seen the end of the connection.
    let offset = loop {
        let patched = registry.ask(Method::PATCH, &location, &[], b"").await;
        if patched.status() == StatusCode::ACCEPTED {
            break header(&patched, RANGE).to_owned();
        }
        assert_eq!(code(patched).await.0, 409);
    };
    // Whether the four bytes were seen before the tear is the network's choice; what is said is what is there.
    assert!(matches!(offset.as_str(), "0-0" | "0-3"), "{offset}");
    let rest = if offset == "0-3" { "" } else { "four" };
    let digest = Digest::of(b"four and six");
    let put = registry.ask(Method::PUT, &format!("{location}?digest={digest}"), &[], format!("{rest} and six").as_bytes()).await;
    assert_eq!(put.status(), StatusCode::CREATED);
    let wrong = registry.ask(Method::POST, &format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"x")), &[], b"y").await;
    assert_eq!(code(wrong).await, (400, "DIGEST_INVALID".to_owned()));
    let start = registry.ask(Method::POST, "/v2/a/blobs/uploads/", &[], b"").await;
    let wrong = format!("{}?digest={}", header(&start, LOCATION), Digest::of(b"x"));
    assert_eq!(code(registry.ask(Method::PUT, &wrong, &[], b"y").await).await, (400, "DIGEST_INVALID".to_owned()));
    assert_eq!(registry.left_in_uploads(), 0);
    assert_eq!(std::fs::read_dir(registry.data.path().join("blobs")).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_taken_when_all_that_it_names_is_there() {
    let registry = Registry::start().await;
    let set = registry.build(double, "m", "1");
    let (index, manifest) = (set.index.as_ref().unwrap(), &set.images[0].manifest);
    let put = async |path: &str, media_type: &str, bytes: &[u8]| {
        registry.ask(Method::PUT, path, &[(CONTENT_TYPE.as_str(), media_type)], bytes).await
    };
    // In another repository the index's manifests are not there yet; a manifest may name any blob of the registry.
    assert_eq!(code(put("/v2/n/manifests/1", media::OCI_INDEX, &index.bytes).await).await, (400, "MANIFEST_BLOB_UNKNOWN".to_owned()));
    for image in &set.images {
        let path = format!("/v2/n/manifests/{}", image.manifest.digest);
        let response = put(&path, media::OCI_MANIFEST, &image.manifest.bytes).await;
        assert_eq!((response.status(), header(&response, LOCATION)), (StatusCode::CREATED, path.as_str()));
    }
    assert_eq!(put("/v2/n/manifests/1", media::OCI_INDEX, &index.bytes).await.status(), StatusCode::CREATED);
    let response = registry.get("/v2/n/manifests/1").await;
    assert_eq!(
        (header(&response, CONTENT_TYPE), header(&response, "docker-content-digest")),
        (media::OCI_INDEX, index.digest.to_string().as_str())
    );
    assert_eq!(response.bytes().await.unwrap(), index.bytes);
    let head = registry.ask(Method::HEAD, &format!("/v2/n/manifests/{}", manifest.digest), &[], b"").await;
    assert_eq!((head.status(), header(&head, CONTENT_LENGTH)), (StatusCode::OK, manifest.bytes.len().to_string().as_str()));
    let other =
        String::from_utf8(manifest.bytes.clone()).unwrap().replace(&set.images[0].config.digest.to_string(), &Digest::of(b"x").to_string());
    for (path, media_type, bytes, expected) in [
        ("/v2/n/manifests/2", media::OCI_MANIFEST, other.as_bytes(), (400, "MANIFEST_BLOB_UNKNOWN")),
        ("/v2/n/manifests/2", media::OCI_MANIFEST, b"{", (400, "MANIFEST_INVALID")),
        ("/v2/n/manifests/2", "text/plain", b"{}", (400, "MANIFEST_INVALID")),
        ("/v2/n/manifests/2", media::DOCKER_MANIFEST, &manifest.bytes, (400, "MANIFEST_INVALID")),
        (&format!("/v2/n/manifests/{}", index.digest), media::OCI_MANIFEST, &manifest.bytes, (400, "DIGEST_INVALID")),
        ("/v2/n/manifests/..", media::OCI_MANIFEST, &manifest.bytes, (404, "UNSUPPORTED")),
        ("/v2/n/manifests/-x", media::OCI_MANIFEST, &manifest.bytes, (400, "MANIFEST_INVALID")),
        ("/v2/UPPER/manifests/1", media::OCI_MANIFEST, &manifest.bytes, (400, "NAME_INVALID")),
        ("/v2/n/manifests/2", media::OCI_MANIFEST, &vec![b' '; (4 << 20) + 1], (413, "SIZE_INVALID")),
    ] {
        let (status, found) = code(put(path, media_type, bytes).await).await;
        assert_eq!((status, found.as_str()), expected, "{path}");
    }
    assert_eq!(registry.store.tags("n").unwrap().unwrap(), ["1"]);
    assert_eq!(registry.left_in_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_pages_and_what_is_not_there_is_said_in_the_specifications_words() {
    let registry = Registry::start().await;
    let set = registry.build(single, "a/b", "1");
    for tag in ["2", "3", "v.4", "_5"] {
        registry.store.put_manifest("a/b", tag, set.top()).unwrap();
    }
    registry.store.put_manifest("c", "1", set.top()).unwrap();
    let list = async |path: &str| {
        let response = registry.get(path).await;
        assert_eq!(response.status(), StatusCode::OK);
        let link = header(&response, LINK).to_owned();
        (response.json::<serde_json::Value>().await.unwrap(), link)
    };
    let (tags, link) = list("/v2/a/b/tags/list").await;
    assert_eq!((tags, link.as_str()), (serde_json::json!({"name": "a/b", "tags": ["1", "2", "3", "_5", "v.4"]}), ""));
    let (tags, link) = list("/v2/a/b/tags/list?n=2").await;
    assert_eq!((&tags["tags"], link.as_str()), (&serde_json::json!(["1", "2"]), "</v2/a/b/tags/list?n=2&last=2>; rel=\"next\""));
    let (tags, link) = list("/v2/a/b/tags/list?n=3&last=2").await;
    assert_eq!((&tags["tags"], link.as_str()), (&serde_json::json!(["3", "_5", "v.4"]), ""));
    assert_eq!(list("/v2/a/b/tags/list?n=0").await.0["tags"], serde_json::json!([]));
    assert_eq!(list("/v2/_catalog?n=1").await.0, serde_json::json!({"repositories": ["a/b"]}));
    assert_eq!(list("/v2/_catalog?last=a/b").await.0, serde_json::json!({"repositories": ["c"]}));
    let digest = Digest::of(b"nothing");
    for (method, path, expected) in [
        (Method::GET, "/v2/none/tags/list".to_owned(), (404, "NAME_UNKNOWN")),
        (Method::GET, "/v2/a/b/manifests/none".to_owned(), (404, "MANIFEST_UNKNOWN")),
        (Method::GET, format!("/v2/a/b/manifests/{digest}"), (404, "MANIFEST_UNKNOWN")),
        (Method::GET, format!("/v2/a/b/blobs/{digest}"), (404, "BLOB_UNKNOWN")),
        (Method::GET, "/v2/a/b/blobs/sha256:12".to_owned(), (400, "DIGEST_INVALID")),
        (Method::GET, "/v2/a/b/blobs/uploads/none".to_owned(), (404, "BLOB_UPLOAD_UNKNOWN")),
        (Method::GET, "/v2/a%2F..%2Fb/tags/list".to_owned(), (400, "NAME_INVALID")),
        (Method::POST, "/v2/a/b/manifests/1".to_owned(), (405, "UNSUPPORTED")),
    ] {
        let (status, found) = code(registry.ask(method, &path, &[], b"").await).await;
        assert_eq!((status, found.as_str()), expected, "{path}");
    }
    assert_eq!(registry.get("/v2/").await.status(), StatusCode::OK);
    assert_eq!(registry.get("/v2").await.status(), StatusCode::OK);
}

#[test]
fn clients_that_take_nothing_do_not_stop_the_others() {
    // As few threads for blocking work as make the point quickly.
    let runtime = tokio::runtime::Builder::new_multi_thread().max_blocking_threads(4).enable_all().build().unwrap();
    runtime.block_on(idle_clients(16));
}

async fn idle_clients(count: usize) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let registry = Registry::start().await;
    let large = registry.push_blob("a", &vec![7; 32 << 20]).await;
    let mut idle = Vec::new();
    for _ in 0..count {
        // An answer that is larger than the sockets hold.
        let mut wire = tokio::net::TcpStream::connect(&registry.host).await.unwrap();
        wire.write_all(format!("GET /v2/a/blobs/{large} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut start = [0; 12];
        wire.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        idle.push(wire);
        let mut wire = tokio::net::TcpStream::connect(&registry.host).await.unwrap();
        wire.write_all(b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf").await.unwrap();
        idle.push(wire);
    }
    let bytes = registry.get(&format!("/v2/a/blobs/{large}")).await.bytes().await.unwrap();
    assert_eq!(Digest::of(&bytes), large);
}
