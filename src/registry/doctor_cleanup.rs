//! What an examination wrote, deleted again; and with that, whether a registry deletes.
//!
//! What leads to others goes first: the tag, the index, the manifests, the blobs. What a registry does not delete is asked for once more, and named where it is still
//! there.

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};

use super::doctor::{Doctor, TAG};
use super::doctor_findings::{Deletes, Finding};
use super::error::{Operation, RegistryError};

impl Doctor {
    /// Deletes what was written. Fails at nothing: what is left is in the report.
    pub async fn clean_up(&mut self) {
        if !self.give_up().await {
            self.traces.lost.push(format!("an upload in `{}` that was under way", self.object()));
        }
        let mut deletes = Deletes::default();
        let tagged = std::mem::take(&mut self.traces.tag);
        if tagged {
            deletes.tag = self.delete(Operation::DeleteManifest, "manifests", TAG).await;
        }
        let manifests = std::mem::take(&mut self.traces.manifests);
        for digest in manifests.iter().rev() {
            let status = self.delete(Operation::DeleteManifest, "manifests", &digest.to_string()).await;
            deletes.manifest = worse(deletes.manifest, status);
        }
        let blobs = std::mem::take(&mut self.traces.blobs);
        for digest in &blobs {
            let status = self.delete(Operation::DeleteBlob, "blobs", &digest.to_string()).await;
            deletes.blob = worse(deletes.blob, status);
        }
        if !tagged && manifests.is_empty() && blobs.is_empty() {
            return;
        }
        let done = |status: Option<StatusCode>| status.is_some_and(|status| status.is_success());
        let object = self.object();
        if tagged && !done(deletes.tag) && self.is_there("manifests", TAG).await {
            self.traces.lost.push(format!("the tag `{object}:{TAG}`"));
        }
        for (kind, path, digests, status) in
            [("manifest", "manifests", manifests, deletes.manifest), ("blob", "blobs", blobs.into_iter().collect(), deletes.blob)]
        {
            for digest in digests {
                if !done(status) && self.is_there(path, &digest.to_string()).await {
                    self.traces.lost.push(format!("the {kind} `{object}@{digest}`"));
                }
            }
        }
        self.findings.push(Finding::Delete(deletes));
    }

    /// The names of what could not be deleted.
    pub fn left_behind(&self) -> &[String] {
        &self.traces.lost
    }

    async fn delete(&self, operation: Operation, path: &str, key: &str) -> Option<StatusCode> {
        let action = self.writer.action(operation, key);
        let asked = self.ask_for(&self.writer, &action, Method::DELETE, &format!("{path}/{key}"), HeaderMap::new()).await;
        status_of(asked.map(|heard| heard.status))
    }

    async fn is_there(&self, path: &str, key: &str) -> bool {
        let action = self.reader.action(Operation::AskManifest, key);
        let asked = self.ask_for(&self.reader, &action, Method::HEAD, &format!("{path}/{key}"), super::manifests::accept()).await;
        asked.is_ok_and(|heard| heard.status.is_success())
    }
}

fn status_of(asked: Result<StatusCode, RegistryError>) -> Option<StatusCode> {
    asked.map_or_else(|error| error.status(), Some)
}

/// The status that says less: of many, one refusal is what counts. What is not there was never put, or went with something else.
fn worse(before: Option<StatusCode>, now: Option<StatusCode>) -> Option<StatusCode> {
    match (before, now) {
        (before, Some(StatusCode::NOT_FOUND) | None) => before,
        (Some(before), Some(_)) if !before.is_success() => Some(before),
        (_, now) => now,
    }
}
