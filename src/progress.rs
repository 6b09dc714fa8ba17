//! What is happening, told to whoever listens: a progress bar, a build's log, nobody.
//!
//! Long work (sealing layers, copying blobs) takes a [`Listener`] and tells it [`Event`]s. Events are facts in the order in which they happen; how
//! they look is the listener's. They never change what is done.

use std::sync::Arc;

use crate::oci::digest::Digest;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A stage begins: a few words.
    Stage(String),
    /// Something that the user wants to know.
    Note(String),
    /// Something that the user may want to change.
    Warning(String),
    /// This many more bytes will be worked on in this stage.
    Expect {
        /// How many.
        bytes: u64,
    },
    /// This many bytes are done.
    Advance {
        /// How many.
        bytes: u64,
    },
    /// A blob is where it shall be.
    Blob {
        /// Which.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
        /// How it came there.
        how: Moved,
    },
}

/// How a blob came to its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// Its bytes were sent.
    Sent,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was there.
    Skipped,
}

/// Takes events; called from any thread.
pub type Listener = Arc<dyn Fn(Event) + Send + Sync>;

/// A listener that does not listen.
pub fn silent() -> Listener {
    Arc::new(|_| ())
}

/// Bytes that were moved, by how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Transfer {
    /// Sent over the wire, or written to the local destination.
    pub sent_bytes: u64,
    /// Mounted within the registry.
    pub mounted_bytes: u64,
    /// Not moved, since they were there.
    pub skipped_bytes: u64,
}

impl Transfer {
    /// Counts a blob.
    pub fn add(&mut self, size_bytes: u64, how: Moved) {
        match how {
            Moved::Sent => self.sent_bytes += size_bytes,
            Moved::Mounted => self.mounted_bytes += size_bytes,
            Moved::Skipped => self.skipped_bytes += size_bytes,
        }
    }

    /// Adds another count.
    pub fn merge(&mut self, other: Transfer) {
        self.sent_bytes += other.sent_bytes;
        self.mounted_bytes += other.mounted_bytes;
        self.skipped_bytes += other.skipped_bytes;
    }
}
