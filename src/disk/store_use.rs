//! Using what is there, while what nobody needs is removed.
//!
//! Most writers of a store find that what they bring is there already and leave it: that is what names by content are for. It must not be collected
//! between the finding and the moment at which something refers to it. Two things see to that. Whoever finds it *renews* it: its modification time
//! becomes now, and a collection spares what was used after its [`Horizon`]. And finding and renewing, like looking once more and removing, happen
//! under one lock of the data folder: any number use ([`Store::using`]), one removes ([`Store::removing`]).
//!
//! A horizon lies `grace` back, and never after the beginning of any work that is under way: whoever holds a staging folder (an upload of a model, a
//! build, an import) keeps all that it has used since it began, however long it takes. A client that pushes holds nothing here. What it pushed or asked
//! for stays for the grace, and for as long as it has an upload open in that repository (`store_uploads.rs`).
//!
//! What must stay true: times are those of the file system, read from it, so that no two clocks are compared; and whoever holds the lock to remove
//! does so for a moment.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, FlockOperation, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::store::{Store, StoreError, failed};
use crate::oci::digest::Digest;

/// The file whose lock it is, and whose time is the file system's clock.
pub(super) const LOCK: &str = "use.lock";

/// Until it is dropped, nothing is removed. It may be taken again by who has it.
pub struct Using {
    _lock: File,
}

/// Until it is dropped, nobody uses.
pub(super) struct Removing {
    _lock: File,
}

/// What a collection spares: everything that was used at or after an instant, and what is being pushed.
#[derive(Clone, Debug)]
pub struct Horizon {
    pub(super) before: SystemTime,
    /// Marks of the repositories that have an upload open.
    pub(super) pushed_to: BTreeSet<String>,
}

impl Horizon {
    /// Whether something was last used before it.
    pub(super) fn is_past(&self, used: SystemTime) -> bool {
        used < self.before
    }
}

impl Store {
    /// Lets nothing be removed until the value is dropped. For a moment's work: a collection waits for it.
    pub fn using(&self) -> Result<Using, StoreError> {
        Ok(Using { _lock: self.lock(FlockOperation::LockShared)? })
    }

    /// Waits until nobody uses, and lets nobody until the value is dropped. Never under [`Store::using`].
    pub(super) fn removing(&self) -> Result<Removing, StoreError> {
        Ok(Removing { _lock: self.lock(FlockOperation::LockExclusive)? })
    }

    fn lock(&self, operation: FlockOperation) -> Result<File, StoreError> {
        let path = self.root().join(LOCK);
        let file = File::open(&path).map_err(failed("open", &path))?;
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed("lock", &path)(error.into())),
            }
        }
    }

    /// What a collection that begins now spares. Everything that was written before this call is seen by who looks after it.
    pub fn horizon(&self, grace: Duration) -> Result<Horizon, StoreError> {
        let _removing = self.removing()?;
        let now = self.now()?;
        let before = now.checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
        let oldest = self.oldest_work()?;
        Ok(Horizon { before: oldest.map_or(before, |oldest| oldest.min(before)), pushed_to: self.pushed_to()? })
    }

    /// Whether the store can answer `digest`, which then counts as used now.
    pub fn renew(&self, digest: &Digest) -> Result<bool, StoreError> {
        let _using = self.using()?;
        // Both where both are there: either may be what answers next time.
        let (blob, recipe) = (renew_file(&self.blob_path(digest))?, renew_file(&self.recipe_path(digest))?);
        Ok(blob || recipe)
    }

    /// The file system's clock.
    pub(super) fn now(&self) -> Result<SystemTime, StoreError> {
        let path = self.root().join(LOCK);
        renew_file(&path)?;
        fs::metadata(&path).and_then(|metadata| metadata.modified()).map_err(failed("look at", &path))
    }
}

/// Gives a file the present as its modification time; `false` where it is not there.
pub(super) fn renew_file(path: &Path) -> Result<bool, StoreError> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    };
    match rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()).map_err(io::Error::from) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(failed("renew", path)(error)),
    }
}

/// When a file was last written or renewed; `None` where it is not there.
pub(super) fn used(path: &Path) -> Result<Option<(SystemTime, u64)>, StoreError> {
    match fs::symlink_metadata(path).and_then(|metadata| Ok((metadata.modified()?, metadata.len()))) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", path)(error)),
    }
}

/// Removes a file; `false` where it is not there.
pub(super) fn remove_file(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(failed("remove", path)(error)),
    }
}
