//! The manifests of [`super::fault_registry`]: put, asked for, deleted, listed by their subject; and what goes wrong with them.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use lamina::oci::digest::Digest;
use lamina::oci::manifest::media;
use serde_json::{Value, json};

use super::fault_registry::{Kept, Shared, refuse};

/// The tags of a repository.
pub fn tags(shared: &Shared, repository: &str, query: &str) -> Response {
    let kept = shared.lock().unwrap();
    let last = query.split('&').find_map(|pair| pair.strip_prefix("last=")).unwrap_or_default().to_owned();
    let all = kept.manifests.keys().filter(|(of, key)| of == repository && !key.contains(':')).map(|(_, key)| key);
    let mut rest: Vec<&String> = all.filter(|key| **key > last).collect();
    let most = kept.faults.tags_per_page.unwrap_or(usize::MAX);
    let mut response = Response::builder();
    if rest.len() > most {
        rest.truncate(most);
        response = response.header("link", format!("</v2/{repository}/tags/list?last={}>; rel=\"next\"", rest[most - 1]));
    }
    let tags = if rest.is_empty() { serde_json::Value::Null } else { serde_json::json!(rest) };
    response.body(serde_json::json!({ "name": repository, "tags": tags }).to_string().into()).unwrap()
}

/// One request to `manifests/KEY`.
pub async fn manifest(shared: &Shared, method: Method, repository: &str, key: &str, request: Request) -> Response {
    let at = (repository.to_owned(), key.to_owned());
    if method == Method::DELETE {
        return delete(&mut shared.lock().unwrap(), |kept| remove(kept, &at));
    }
    if method == Method::PUT {
        let media_type = request.headers().get(CONTENT_TYPE).unwrap().to_str().unwrap().to_owned();
        let bytes = axum::body::to_bytes(request.into_body(), 4 << 20).await.unwrap();
        let mut kept = shared.lock().unwrap();
        if let Some(refused) = refusal(&kept, &at, &bytes) {
            return refused;
        }
        let digest = Digest::of(&bytes);
        let subject = subject_of(&bytes).filter(|_| kept.faults.lists_referrers);
        kept.manifests.insert((at.0.clone(), digest.to_string()), (media_type.clone(), bytes.clone()));
        kept.manifests.insert(at, (media_type, bytes));
        let named = kept.faults.manifest_named.unwrap_or(digest).to_string();
        let mut response = Response::builder().status(201);
        if let Some(subject) = subject {
            response = response.header("oci-subject", subject);
        }
        if !kept.faults.nameless_manifests {
            response = response.header("docker-content-digest", named);
        }
        return response.body(Body::empty()).unwrap();
    }
    let mut kept = shared.lock().unwrap();
    let Some((media_type, bytes)) = kept.manifests.get(&at) else { return refuse(404, "MANIFEST_UNKNOWN") };
    let media_type = kept.faults.manifest_type.unwrap_or(media_type).to_owned();
    let mut response = Response::builder().header(CONTENT_TYPE, &media_type);
    if !kept.faults.nameless_manifests {
        response = response.header("docker-content-digest", Digest::of(bytes).to_string());
    }
    let bytes = bytes.clone();
    if key.starts_with("sha256-") && !kept.faults.late_indexes.is_empty() {
        let late = kept.faults.late_indexes.remove(0);
        kept.manifests.insert(at, (media_type, late));
    }
    response.body(if method == Method::HEAD { Body::empty() } else { bytes.into() }).unwrap()
}

/// Why a manifest is not taken.
fn refusal(kept: &Kept, at: &(String, String), bytes: &Bytes) -> Option<Response> {
    let faults = &kept.faults;
    if faults.immutable_tags && kept.manifests.contains_key(at) {
        return Some(refuse(400, "TAG_IMMUTABLE"));
    }
    if let Some(status) = faults.tags_stay.filter(|_| !at.1.contains(':'))
        && kept.manifests.get(at).is_some_and(|(_, there)| there != bytes)
    {
        return Some(refuse(status, "TAG_INVALID"));
    }
    if faults.manifest_bytes_max.is_some_and(|most| bytes.len() as u64 > most) {
        return Some(refuse(413, "MANIFEST_INVALID"));
    }
    if faults.manifests_without.is_some_and(|word| String::from_utf8_lossy(bytes).contains(word)) {
        return Some(refuse(400, "MANIFEST_INVALID"));
    }
    without_its_blobs(kept, &at.0, bytes)
}

fn without_its_blobs(kept: &Kept, repository: &str, bytes: &Bytes) -> Option<Response> {
    let says_which = kept.faults.manifests_need_blobs?;
    let manifest: Value = serde_json::from_slice(bytes).unwrap();
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let named = layers.chain([&manifest["config"]]).filter_map(|blob| blob["digest"].as_str());
    let missing: Vec<&str> = named.filter(|digest| !kept.blobs.contains_key(&(repository.to_owned(), (*digest).to_owned()))).collect();
    let error = |digest: &&str| {
        if says_which {
            json!({ "code": "MANIFEST_BLOB_UNKNOWN", "detail": { "Digest": digest } })
        } else {
            json!({ "code": "BLOB_UNKNOWN" })
        }
    };
    let body = json!({ "errors": missing.iter().map(error).collect::<Vec<_>>() });
    (!missing.is_empty()).then(|| Response::builder().status(404).body(body.to_string().into()).unwrap())
}

fn subject_of(bytes: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    Some(value.get("subject")?.get("digest")?.as_str()?.to_owned())
}

/// A tag goes alone, a manifest with its tags.
fn remove(kept: &mut Kept, at: &(String, String)) -> bool {
    let Some((_, bytes)) = kept.manifests.remove(at) else { return false };
    if at.1.contains(':') {
        kept.manifests.retain(|(repository, _), (_, other)| *repository != at.0 || *other != bytes);
    }
    true
}

/// A DELETE: 202 where `remove` found something.
pub fn delete(kept: &mut Kept, remove: impl FnOnce(&mut Kept) -> bool) -> Response {
    if let Some(status) = kept.faults.no_deletes {
        return refuse(status, "UNSUPPORTED");
    }
    if !remove(kept) {
        return refuse(404, "UNKNOWN");
    }
    Response::builder().status(StatusCode::ACCEPTED).body(Body::empty()).unwrap()
}

/// The manifests about `subject`.
pub fn referrers(shared: &Shared, repository: &str, subject: &str) -> Response {
    let kept = shared.lock().unwrap();
    if !kept.faults.lists_referrers {
        return refuse(404, "UNSUPPORTED");
    }
    let about = kept
        .manifests
        .iter()
        .filter(|((of, key), (_, bytes))| of == repository && key.contains(':') && subject_of(bytes).as_deref() == Some(subject));
    let manifests: Vec<Value> =
        about.map(|((_, key), (media_type, bytes))| json!({ "mediaType": media_type, "digest": key, "size": bytes.len() })).collect();
    let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests });
    Response::builder().header(CONTENT_TYPE, media::OCI_INDEX).body(index.to_string().into()).unwrap()
}
