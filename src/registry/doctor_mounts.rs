//! Mounting: whether a blob comes from another repository without being sent.
//!
//! Without a repository to mount from, the blob that was just pushed is mounted from where it is: that shows whether the registry mounts at all, and makes no
//! repository that nobody wants. With one, a blob of an image there is taken that is not here yet, so that it can be deleted here again.

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};

use super::client::{Endpoint, Repository};
use super::doctor::Doctor;
use super::doctor_ask::refusal;
use super::doctor_findings::{Finding, MountOutcome};
use super::doctor_samples::Samples;
use super::error::{Operation, RegistryError};
use super::mount::Mount;
use crate::oci::digest::Digest;
use crate::oci::manifest::Pulled;

/// How many tags of the other repository are looked at.
const TAGS_MAX: usize = 3;

/// The largest blob that is mounted for a try.
const BLOB_BYTES_MAX: u64 = 1 << 20;

impl Doctor {
    /// Mounts a blob.
    pub(super) async fn mount(&mut self) -> Result<(), RegistryError> {
        let from = self.options.mount_from.clone();
        let digest = match &from {
            None => Digest::of(&Samples::new().config),
            Some(path) => {
                let Some(digest) = self.mountable(path).await? else {
                    self.findings.push(Finding::Mount { from, outcome: MountOutcome::NothingToMount });
                    return Ok(());
                };
                digest
            }
        };
        self.traces.blobs.insert(digest);
        let path = from.clone().unwrap_or_else(|| self.writer.repository.clone());
        let outcome = match self.writer.mount(digest, &path).await {
            Ok(Mount::Mounted) => MountOutcome::Mounted,
            Ok(Mount::Session(session)) => {
                self.traces.session = Some(session);
                self.give_up().await;
                MountOutcome::Session
            }
            Ok(Mount::NotPossible) => MountOutcome::Session,
            Err(error) => MountOutcome::Refused(refusal(error)?),
        };
        // From itself, and where rights were missing, it says nothing of other repositories.
        if from.is_some() {
            self.profile.mounts = match &outcome {
                MountOutcome::Mounted => Some(true),
                MountOutcome::Refused(answer) if matches!(answer.status.as_u16(), 401 | 403) => None,
                _ => Some(false),
            };
        }
        self.findings.push(Finding::Mount { from, outcome });
        Ok(())
    }

    /// A small blob of the repository `path` that is not in ours.
    async fn mountable(&self, path: &str) -> Result<Option<Digest>, RegistryError> {
        let other = Repository { origin: Endpoint { repository: path.to_owned(), ..self.reader.clone() }, mirrors: Vec::new() };
        for tag in other.tags().await?.iter().take(TAGS_MAX) {
            let mut pulled = other.manifest(tag).await?;
            if let Pulled::Index(index) = &pulled
                && let Some(first) = index.manifests.first()
            {
                pulled = other.manifest(&first.digest.to_string()).await?;
            }
            let Pulled::Manifest(manifest) = pulled else { continue };
            for blob in manifest.layers.iter().chain([&manifest.config]).filter(|blob| blob.size_bytes <= BLOB_BYTES_MAX) {
                let action = self.reader.action(Operation::AskBlob, &blob.digest.to_string());
                let heard = self.ask_for(&self.reader, &action, Method::HEAD, &format!("blobs/{}", blob.digest), HeaderMap::new()).await?;
                if heard.status == StatusCode::NOT_FOUND {
                    return Ok(Some(blob.digest));
                }
            }
        }
        Ok(None)
    }
}
