//! Mounting: a blob that the registry has in another repository, without sending it.
//!
//! A mount is a wish (distribution 1.1, "Mounting a blob from another repository"): the registry may open an upload
//! instead, and then the upload goes on there. It always names the repository to mount from: Quay refuses a mount
//! without. A token for it asks to push here first and to pull there second, since some servers grant the first scope
//! only (go-containerregistry keeps the same order).

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};

use super::client::{Call, Repository};
use super::error::{Operation, RegistryError};
use super::session::Session;
use super::tokens::Scope;
use super::wire::Payload;
use crate::oci::digest::Digest;

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
        let endpoint = &self.origin;
        if from_repository == endpoint.repository {
            return Ok(Mount::NotPossible);
        }
        let action = endpoint.action(Operation::MountBlob, &digest.to_string());
        let mut url = endpoint.url("blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from_repository);
        let mut scopes = endpoint.scopes();
        scopes.push(Scope { repository: from_repository.to_owned(), push: false });
        let call = Call { action: &action, method: Method::POST, url, headers: HeaderMap::new(), payload: Payload::Empty, scopes: &scopes };
        let answered = match endpoint.host.try_hard(call, &[StatusCode::CREATED, StatusCode::ACCEPTED]).await {
            Ok(answered) => answered,
            Err(error @ (RegistryError::Refused { .. } | RegistryError::NoToken { .. } | RegistryError::Protocol { .. })) => {
                tracing::debug!(%action, %error, "no mount");
                return Ok(Mount::NotPossible);
            }
            Err(error) => return Err(error),
        };
        if answered.response.status() == StatusCode::CREATED {
            return Ok(Mount::Mounted);
        }
        Ok(Session::of(endpoint, &action, &answered, None).map_or(Mount::NotPossible, Mount::Session))
    }
}
