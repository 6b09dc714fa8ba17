//! The uploads that a push has open, so that a push that fails does not leave them in the registry until it looks for such.
//!
//! Where one layer fails, those that are sent beside it are dropped where they stand, and their sessions hold bytes that may never be asked for. They are given up with a
//! request each, unless the next run goes on with them: one that the journal has a page of stays, where what failed was the line, a source, or a registry that is not well. Where the
//! registry has refused something for good, the same push cannot end right, so its pages end too.
//!
//! What must stay true: a line that broke is not waited for once more to tidy up; what one push gives up is its own, not that of another one to the same repository.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures_util::stream::{self, StreamExt as _};
use tokio::time::timeout;

use super::client::Repository;
use super::error::RegistryError;
use super::send_layer::LAYERS_AT_ONCE;
use super::session::Session;
use crate::fault::Failure as _;
use crate::oci::digest::Digest;

/// The uploads of one repository's handle and its clones.
#[derive(Debug, Default)]
pub(super) struct OpenUploads(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    begun: u64,
    open: BTreeMap<u64, Open>,
}

/// An upload that is open.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) digest: Digest,
    pub(super) size_bytes: u64,
    pub(super) session: Session,
    /// Whether the journal has a page of it.
    pub(super) has_page: bool,
}

impl OpenUploads {
    /// The number of an upload that begins.
    pub(super) fn begin(&self) -> u64 {
        self.state(|state| {
            state.begun += 1;
            state.begun
        })
    }

    /// Where an upload is now.
    pub(super) fn note(&self, number: u64, open: Open) {
        self.state(|state| state.open.insert(number, open));
    }

    /// An upload has ended, and whoever ended it has seen to its session.
    pub(super) fn end(&self, number: u64) {
        self.state(|state| state.open.remove(&number));
    }

    fn state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Repository {
    /// Gives up the uploads that were dropped under way, after a push failed with `error`; with none where it is nothing of the registry's. In bounded time, whatever comes of it.
    pub async fn give_up_uploads(&self, error: Option<&RegistryError>) {
        let endpoint = &self.origin;
        let open = endpoint.open_uploads.state(|state| std::mem::take(&mut state.open));
        if matches!(error, Some(RegistryError::Unreachable { .. } | RegistryError::Stalled { .. })) {
            return;
        }
        let for_good = error.is_some_and(|error| error.answer().is_some() && !error.fault().is_transient());
        let given_up = open.into_values().filter(|open| for_good || !open.has_page);
        let giving_up = stream::iter(given_up).for_each_concurrent(LAYERS_AT_ONCE, |open| async move {
            if open.has_page {
                endpoint.host.journal.forget(&endpoint.repository, open.digest, open.size_bytes);
            }
            endpoint.cancel(open.digest, &open.session).await;
        });
        if timeout(endpoint.host.wire.patience.answer, giving_up).await.is_err() {
            tracing::debug!(repository = %endpoint.repository, "uploads are left behind");
        }
    }
}
