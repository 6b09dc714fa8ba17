//! A lock whose hash is of other bytes than those that are to be had.
//!
//! What must stay true: it is said only where both are known, the hash that is wanted and the one that there is.

use crate::fault::{Failure, Fault};
use crate::model::requirements_lock::LockedPackage;
use crate::oci::digest::Digest;

/// How many hashes are named.
const NAMED_MAX: usize = 3;

/// A lock that wants other bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lock wants {wanted} for `{project}` {version}, and {place} has {found}")]
pub struct LockMismatch {
    project: String,
    version: String,
    wanted: String,
    place: String,
    found: String,
}

impl Failure for LockMismatch {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }

    fn remedy(&self) -> Option<String> {
        Some("remove the lock, and the requirements are locked anew; or put the wheel that it wants into a folder and name that with `--wheels`".to_owned())
    }
}

impl LockMismatch {
    /// Of one wheel in a folder.
    pub fn in_folder(
        project: &str,
        version: &str,
        wanted: &Digest,
        folder: &std::path::Path,
        file_name: &str,
        found: &Digest,
    ) -> LockMismatch {
        let (wanted, place) = (wanted.to_string(), format!("`{}`", folder.display()));
        LockMismatch {
            project: project.to_owned(),
            version: version.to_owned(),
            wanted,
            place,
            found: format!("`{file_name}` with {found}"),
        }
    }

    /// What a resolver found of a package of the lock, where none of that is what the lock means.
    pub fn of(locked: &LockedPackage, found: &[LockedPackage]) -> Option<LockMismatch> {
        let same =
            found.iter().find(|found| found.project == locked.project && found.version == locked.version && !found.wheels.is_empty())?;
        if same.wheels.iter().any(|found| locked.wheels.iter().any(|locked| locked.digest == found.digest)) {
            return None;
        }
        let wanted: Vec<String> = locked.wheels.iter().take(NAMED_MAX).map(|wheel| wheel.digest.to_string()).collect();
        let name = |file_name: &Option<String>| file_name.as_ref().map(|name| format!("`{name}` with ")).unwrap_or_default();
        let there: Vec<String> =
            same.wheels.iter().take(NAMED_MAX).map(|wheel| name(&wheel.file_name) + &wheel.digest.to_string()).collect();
        Some(LockMismatch {
            project: locked.project.clone(),
            version: locked.version.clone(),
            wanted: wanted.join(" or "),
            place: "what is found".to_owned(),
            found: there.join(", "),
        })
    }
}
