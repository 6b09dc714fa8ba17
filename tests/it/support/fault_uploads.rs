//! The uploads of [`super::fault_registry`]: sessions, chunks, commits, mounts, and what goes wrong with them.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_RANGE, LOCATION, RANGE};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use futures_util::StreamExt as _;
use lamina::oci::digest::Digest;

use super::fault_registry::{Kept, Shared, refuse};

/// Where the range stands still; the size of the tests' chunks.
const CHUNK_OF_ECR: usize = 1_000_000;

/// One request to `blobs/uploads/` or to `blobs/uploads/ID`.
pub async fn upload(shared: &Shared, method: Method, repository: &str, id: &str, request: Request) -> Response {
    let query: Vec<(String, String)> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
    let of = |name: &str| query.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
    if method == Method::POST {
        return begin(&mut shared.lock().unwrap(), repository, of("mount"), of("from"));
    }
    if !shared.lock().unwrap().uploads.contains_key(id) {
        return refuse(404, "BLOB_UPLOAD_UNKNOWN");
    }
    match method {
        Method::GET => {
            let mut kept = shared.lock().unwrap();
            let mut response = answered(&kept, repository, id, StatusCode::NO_CONTENT);
            if take_one(&mut kept.faults.understated_uploads) {
                let half = kept.uploads[id].len() / 2;
                response.headers_mut().insert(RANGE, format!("0-{}", half.max(1) - 1).parse().unwrap());
            }
            response
        }
        Method::DELETE => {
            shared.lock().unwrap().uploads.remove(id);
            Response::builder().status(StatusCode::NO_CONTENT).body(Body::empty()).unwrap()
        }
        Method::PATCH => chunk(shared, repository, id, request).await,
        Method::PUT => commit(shared, repository, id, of("digest").unwrap(), request).await,
        _ => refuse(405, "UNSUPPORTED"),
    }
}

fn begin(kept: &mut Kept, repository: &str, mount: Option<String>, from: Option<String>) -> Response {
    let named = mount.is_some() && from.is_none();
    if let (Some(digest), Some(from)) = (mount, from) {
        let source = kept.blobs.get(&(from, digest.clone())).cloned();
        if kept.faults.lying_mounts {
            return Response::builder().status(201).body(Body::empty()).unwrap();
        }
        match (kept.faults.mount_status, source) {
            (None | Some(201), Some(bytes)) => {
                kept.blobs.insert((repository.to_owned(), digest), bytes);
                return Response::builder().status(201).body(Body::empty()).unwrap();
            }
            (None | Some(201 | 202), _) => {}
            (Some(status), _) => return refuse(status, "UNSUPPORTED"),
        }
    }
    if kept.faults.mount_needs_from && named {
        return refuse(400, "UNSUPPORTED");
    }
    kept.uploads_named += 1;
    let id = format!("u{}", kept.uploads_named);
    kept.uploads.insert(id.clone(), Vec::new());
    answered(kept, repository, &id, StatusCode::ACCEPTED)
}

fn answered(kept: &Kept, repository: &str, id: &str, status: StatusCode) -> Response {
    let path = format!("/v2/{repository}/blobs/uploads/{id}?_state=a%2Bb");
    let location = match &kept.faults.locations_at {
        Some(elsewhere) => format!("{elsewhere}{path}"),
        None if kept.faults.relative_locations => path,
        None => format!("http://{}{path}", kept.address),
    };
    let has = kept.uploads.get(id).map_or(0, Vec::len) + if kept.faults.lying_ranges { 1_000_000 } else { 0 };
    let range = format!("0-{}", has.saturating_sub(1));
    let mut response = Response::builder().status(status).header(LOCATION, location).header(RANGE, range);
    if let Some(least) = kept.faults.chunk_bytes_min {
        response = response.header("oci-chunk-min-length", least);
    }
    response.body(Body::empty()).unwrap()
}

async fn chunk(shared: &Shared, repository: &str, id: &str, request: Request) -> Response {
    let range = request.headers().get(CONTENT_RANGE).unwrap().to_str().unwrap().to_owned();
    let first: usize = range.split_once('-').unwrap().0.parse().unwrap();
    let Ok(bytes) = body_of(shared, id, first, request).await else { return refuse(400, "BLOB_UPLOAD_INVALID") };
    let mut kept = shared.lock().unwrap();
    if let Some(status) = kept.faults.no_chunks {
        return refuse(status, "UNSUPPORTED");
    }
    let too_large = kept.faults.chunk_bytes_max.is_some_and(|most| bytes.len() as u64 > most);
    let half = kept.faults.half_chunks;
    let Some(upload) = kept.uploads.get_mut(id) else { return refuse(404, "BLOB_UPLOAD_UNKNOWN") };
    if first != upload.len() || too_large {
        let (has, path) = (upload.len(), format!("/v2/{repository}/blobs/uploads/{id}"));
        let response = Response::builder().status(416).header(LOCATION, path).header(RANGE, format!("0-{}", has.saturating_sub(1)));
        return response.body(Body::empty()).unwrap();
    }
    upload.extend_from_slice(if half { &bytes[..bytes.len().div_ceil(2)] } else { &bytes });
    let status = kept.faults.chunk_status.map_or(StatusCode::ACCEPTED, |status| StatusCode::from_u16(status).unwrap());
    let mut response = answered(&kept, repository, id, status);
    if take_one(&mut kept.faults.understated_ranges) {
        response.headers_mut().insert(RANGE, format!("0-{}", first + bytes.len() / 2 - 1).parse().unwrap());
    }
    if kept.faults.stuck_ranges && first > 0 {
        response.headers_mut().insert(RANGE, format!("0-{}", first.min(CHUNK_OF_ECR) - 1).parse().unwrap());
    }
    response
}

/// The body of a request to an upload; what came of one that breaks is put into the upload where the registry keeps that.
async fn body_of(shared: &Shared, id: &str, first: usize, request: Request) -> Result<Vec<u8>, axum::Error> {
    let mut bytes = Vec::new();
    let mut pieces = request.into_body().into_data_stream();
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(error) => {
                let mut kept = shared.lock().unwrap();
                let keeps = kept.faults.keeps_partial;
                if let Some(upload) = kept.uploads.get_mut(id).filter(|upload| keeps && upload.len() == first) {
                    upload.append(&mut bytes);
                }
                return Err(error);
            }
        }
    }
    Ok(bytes)
}

async fn commit(shared: &Shared, repository: &str, id: &str, digest: String, request: Request) -> Response {
    let begun = shared.lock().unwrap().uploads.get(id).map_or(0, Vec::len);
    let Ok(bytes) = body_of(shared, id, begun, request).await else { return refuse(400, "BLOB_UPLOAD_INVALID") };
    let held = || {
        let kept = shared.lock().unwrap();
        kept.faults.commits_held_after.is_some_and(|most| kept.blobs.len() >= most)
    };
    while held() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let delay = shared.lock().unwrap().faults.commit_delay;
    tokio::time::sleep(delay).await;
    let mut kept = shared.lock().unwrap();
    let Some(mut upload) = kept.uploads.remove(id) else { return refuse(404, "BLOB_UPLOAD_UNKNOWN") };
    upload.extend_from_slice(&bytes);
    if kept.faults.lost_commits > 0 {
        kept.faults.lost_commits -= 1;
        upload.clear();
    }
    if Digest::of(&upload).to_string() != digest && !kept.faults.unchecked {
        return refuse(400, "DIGEST_INVALID");
    }
    let named = kept.faults.commits_named.as_mut().filter(|(_, times, _)| *times > 0);
    let (named, keeps) = named.map_or((digest.clone(), true), |(named, times, keeps)| {
        *times -= 1;
        (named.to_string(), *keeps)
    });
    if keeps {
        kept.blobs.insert((repository.to_owned(), digest), upload.into());
    }
    Response::builder().status(201).header("docker-content-digest", named).body(Body::empty()).unwrap()
}

/// Whether a fault that happens so often happens now.
fn take_one(times: &mut u32) -> bool {
    let happens = *times > 0;
    *times = times.saturating_sub(1);
    happens
}
