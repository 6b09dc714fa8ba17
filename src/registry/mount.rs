//! Mounting: a blob that the registry has in another repository, without sending it.
//!
//! A mount is a wish (distribution 1.1, "Mounting a blob from another repository"): the registry may open an upload
//! instead, and then the upload goes on there. It always names the repository to mount from: Quay refuses a mount
//! without. A token for it asks to push here first and to pull there second, since some servers grant the first scope
//! only (go-containerregistry keeps the same order).

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};

use super::client::{Call, Endpoint, Repository};
use super::error::{Operation, RegistryError};
use super::session::Session;
use super::tokens::{Rights, Scope};
use super::wire::Payload;
use crate::fault::Failure as _;
use crate::oci::digest::Digest;

/// The most repositories that are asked for one blob: each is a round trip, and one that does not have it opens an upload.
const CANDIDATES_MAX: usize = 3;

/// A smaller blob is sent in the first session that is opened: asking on costs as much.
const ASK_AGAIN_BYTES_LEAST: u64 = 1 << 20;

/// What came of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// The blob is there.
    Mounted,
    /// The registry would rather be sent the blob, in this session.
    Session(Session),
    /// The registry does not mount, or not from there.
    NotPossible,
}

impl Repository {
    /// Mounts the blob `digest` from `from_repository` of the same registry. Fails only where the registry cannot be reached
    /// at all: whatever it answers, the blob can still be sent.
    pub async fn mount(&self, digest: Digest, from_repository: &str) -> Result<Mount, RegistryError> {
        if from_repository == self.origin.repository {
            return Ok(Mount::NotPossible);
        }
        match self.origin.mount(digest, from_repository).await {
            Err(error) if is_refusal(&error) => Ok(Mount::NotPossible),
            result => result,
        }
    }

    /// Mounts the blob from the first repository that has it: from `source`, then from those where it is known to be. What the registry does not
    /// confirm is forgotten. Of the sessions that it opens instead one is kept, to be gone on with, and the others are given up.
    /// A registry that does not mount, by its settings or its profile, is not asked.
    pub async fn mount_from_any(&self, digest: Digest, size_bytes: u64, source: Option<&str>) -> Result<Mount, RegistryError> {
        let endpoint = &self.origin;
        if !endpoint.host.mounts || endpoint.host.doubts.has(&endpoint.repository, digest) {
            return Ok(Mount::NotPossible);
        }
        let known_blobs = &endpoint.host.known_blobs;
        let mut candidates: Vec<String> = source.map(str::to_owned).into_iter().collect();
        candidates.extend(known_blobs.repositories(digest).into_iter().filter(|known| Some(known.as_str()) != source));
        candidates.retain(|candidate| *candidate != endpoint.repository);
        let mut opened: Option<Session> = None;
        for candidate in candidates.iter().take(CANDIDATES_MAX) {
            let session = match endpoint.mount(digest, candidate).await {
                Ok(Mount::Mounted) => {
                    self.remember_blob(digest, size_bytes);
                    if let Some(session) = opened {
                        endpoint.cancel(digest, &session).await;
                    }
                    return Ok(Mount::Mounted);
                }
                Ok(Mount::Session(session)) => Some(session),
                Ok(Mount::NotPossible) => None,
                // It is not the repository that is at fault: another one would be asked for as long.
                Err(error) if is_refusal(&error) && error.fault().is_transient() => break,
                Err(error) if is_refusal(&error) => None,
                Err(error) => return Err(error),
            };
            known_blobs.forget(digest, candidate);
            match (session, &opened) {
                (Some(second), Some(_)) => endpoint.cancel(digest, &second).await,
                (Some(first), None) => opened = Some(first),
                (None, _) => {}
            }
            if opened.is_some() && size_bytes < ASK_AGAIN_BYTES_LEAST {
                break;
            }
        }
        Ok(opened.map_or(Mount::NotPossible, Mount::Session))
    }

    /// Remembers that this repository has a blob, for other repositories to mount it from. An upload of it that an earlier process has left is over.
    pub fn remember_blob(&self, digest: Digest, size_bytes: u64) {
        self.origin.host.journal.forget(&self.origin.repository, digest, size_bytes);
        self.origin.host.known_blobs.remember(digest, size_bytes, &self.origin.repository);
    }
}

impl Endpoint {
    /// Asks for the blob to be mounted, whatever it is answered.
    pub(super) async fn mount(&self, digest: Digest, from_repository: &str) -> Result<Mount, RegistryError> {
        let action = self.action(Operation::MountBlob, &digest.to_string());
        let mut url = self.url("blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from_repository);
        let mut scopes = self.scopes();
        scopes.push(Scope { repository: from_repository.to_owned(), rights: Rights::Pull });
        let call = Call { action: &action, method: Method::POST, url, headers: HeaderMap::new(), payload: Payload::Empty, scopes: &scopes };
        let answered = self.host.try_hard(call, &[StatusCode::CREATED, StatusCode::ACCEPTED]).await;
        let answered = answered.inspect_err(|error| tracing::debug!(%action, %error, "no mount"))?;
        if answered.response.status() == StatusCode::CREATED {
            return Ok(Mount::Mounted);
        }
        Ok(Session::of(self, &action, &answered, None).map_or(Mount::NotPossible, Mount::Session))
    }
}

/// Whether the registry has answered, and not with a mount.
fn is_refusal(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Refused { .. } | RegistryError::NoToken { .. } | RegistryError::Protocol { .. })
}
