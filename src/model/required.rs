//! What a model requires, as it came: the bytes of its requirements, and of the lock beside them.
//!
//! The requirements are kept byte for byte, since a lock is for exactly these (`requirements_lock.rs`). What either says is not known here.
//!
//! What must stay true: what is refused is refused before anything is sent or numbered, in the words that a build would have for it.

use super::requirements::{self, RequirementsError};
use super::requirements_lock::{self, LockError};
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;

/// What a model requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    /// The file with the requirements.
    pub file: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The lock beside it: its name and its bytes.
    pub lock: Option<(String, Vec<u8>)>,
}

/// Why that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum RequiredError {
    /// The requirements.
    #[error(transparent)]
    Requirements(#[from] RequirementsError),
    /// Their lock.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl Failure for RequiredError {
    fn fault(&self) -> Fault {
        match self {
            RequiredError::Requirements(error) => error.fault(),
            RequiredError::Lock(error) => error.fault(),
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            RequiredError::Requirements(error) => error.remedy(),
            RequiredError::Lock(error) => error.remedy(),
        }
    }
}

impl Required {
    /// Whether both files can be read.
    pub fn check(&self) -> Result<(), RequiredError> {
        requirements::read(&self.file, &self.bytes)?;
        if let Some((name, bytes)) = &self.lock {
            requirements_lock::read(name, bytes)?;
        }
        Ok(())
    }

    /// Whether nothing is asked for: the file is empty but for comments, and so is the lock, or it is of other requirements.
    pub fn is_empty(&self) -> bool {
        let is_nothing = |(name, bytes): &(String, Vec<u8>)| {
            let of_others = |made_from: Digest| made_from != Digest::of(&self.bytes);
            requirements_lock::read(name, bytes).is_ok_and(|lock| lock.packages.is_empty() || lock.made_from.is_some_and(of_others))
        };
        requirements::read(&self.file, &self.bytes).is_ok_and(|requirements| requirements.is_empty())
            && self.lock.as_ref().is_none_or(is_nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_ask_for_nothing_and_a_lock_may() {
        let hash = Digest::of(b"a wheel");
        let required = |text: &str, lock: Option<&str>| Required {
            file: "requirements.txt".to_owned(),
            bytes: text.as_bytes().to_vec(),
            lock: lock.map(|lock| ("requirements.lock".to_owned(), lock.as_bytes().to_vec())),
        };
        let packages = format!("six==1.17.0 --hash={hash}\n");
        let of_others = format!("# requirements: {hash}\n{packages}");
        assert!(required("# nothing yet\n\n", None).is_empty());
        assert!(required("", Some("# nothing")).is_empty() && required("", Some(&of_others)).is_empty());
        assert!(!required("six", None).is_empty() && !required("", Some(&packages)).is_empty());
        assert!(!required("six==", None).is_empty(), "what cannot be read is refused elsewhere");
        assert!(matches!(required("six==", None).check(), Err(RequiredError::Requirements(_))));
        assert!(matches!(required("six", Some("six")).check(), Err(RequiredError::Lock(_))));
    }
}
