//! The manifests of [`super::fault_registry`]: put, asked for, deleted, listed by their subject; and what goes wrong with them.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use lamina::oci::digest::Digest;
use lamina::oci::manifest::media;
use serde_json::{Value, json};

use super::fault_registry::{Kept, Shared, refuse};

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
    let kept = shared.lock().unwrap();
    let Some((media_type, bytes)) = kept.manifests.get(&at) else { return refuse(404, "MANIFEST_UNKNOWN") };
    let media_type = kept.faults.manifest_type.unwrap_or(media_type);
    let mut response = Response::builder().header(CONTENT_TYPE, media_type);
    if !kept.faults.nameless_manifests {
        response = response.header("docker-content-digest", Digest::of(bytes).to_string());
    }
    response.body(if method == Method::HEAD { Body::empty() } else { bytes.clone().into() }).unwrap()
}

/// Why a manifest is not taken.
fn refusal(kept: &Kept, at: &(String, String), bytes: &[u8]) -> Option<Response> {
    if let Some(status) = kept.faults.tags_stay.filter(|_| !at.1.contains(':'))
        && kept.manifests.get(at).is_some_and(|(_, there)| there != bytes)
    {
        return Some(refuse(status, "TAG_INVALID"));
    }
    let unwanted = kept.faults.manifests_without?;
    String::from_utf8_lossy(bytes).contains(unwanted).then(|| refuse(400, "MANIFEST_INVALID"))
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
