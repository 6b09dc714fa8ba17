//! What a registry said that it has, and then has not.
//!
//! A blob is not sent where the registry says that it is there, or that it has mounted it. Some say so wrongly: a cache before them answers for what was removed meanwhile, a
//! mount is confirmed and does not last. It shows when the manifest is put (`MANIFEST_BLOB_UNKNOWN`). Then the registry's word about these blobs is doubted: it is neither
//! asked for them nor to mount them, and they are sent.
//!
//! What must stay true: a blob that the registry took from us in this run is not sent once more, so this ends.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::client::Repository;
use super::error::RegistryError;
use crate::oci::digest::Digest;

/// What one registry is believed, by repository and digest.
#[derive(Debug, Default)]
pub(super) struct Doubts(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// What it took from us.
    taken: BTreeSet<(String, Digest)>,
    /// What it does not have, whatever it says.
    missing: BTreeSet<(String, Digest)>,
}

impl Doubts {
    /// The registry took a blob from us.
    pub(super) fn taken(&self, repository: &str, digest: Digest) {
        let key = (repository.to_owned(), digest);
        self.state(|state| {
            state.missing.remove(&key);
            state.taken.insert(key);
        });
    }

    /// Whether its word about a blob is worth nothing.
    pub(super) fn has(&self, repository: &str, digest: Digest) -> bool {
        self.state(|state| state.missing.contains(&(repository.to_owned(), digest)))
    }

    fn state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Repository {
    /// Which of an image's `blobs`, each with its size, the registry lacks by the `error` with which it refused the manifest, although it said otherwise. From now on they are
    /// sent without asking. None where the error is another one, or where all were sent already.
    pub async fn missing(&self, error: &RegistryError, blobs: &[(Digest, u64)]) -> Vec<Digest> {
        let Some(answer) = error.answer().filter(|answer| answer.has_code("MANIFEST_BLOB_UNKNOWN") || answer.has_code("BLOB_UNKNOWN"))
        else {
            return Vec::new();
        };
        let (path, doubts) = (self.path(), &self.origin.host.doubts);
        let taken = |digest: Digest| doubts.state(|state| state.taken.contains(&(path.to_owned(), digest)));
        let unsent: Vec<(Digest, u64)> = blobs.iter().copied().filter(|(digest, _)| !taken(*digest)).collect();
        let mut missing: Vec<Digest> = unsent.iter().map(|(digest, _)| *digest).filter(|digest| answer.names(*digest)).collect();
        if missing.is_empty() {
            // It does not say which: perhaps it says so when it is asked for each. What it still says it has is sent too only where nothing else is left.
            for (digest, size_bytes) in &unsent {
                if matches!(self.origin.has_blob_once(*digest, *size_bytes).await, Ok(false)) {
                    missing.push(*digest);
                }
            }
        }
        if missing.is_empty() {
            missing = unsent.into_iter().map(|(digest, _)| digest).collect();
        }
        for digest in &missing {
            self.origin.host.known_blobs.forget(*digest, path);
            doubts.state(|state| state.missing.insert((path.to_owned(), *digest)));
        }
        missing
    }
}
