//! Why requirements do not become a layer: what each part of an installation says, and whose matter it is.
//!
//! It decides nothing: class and remedy are those of the part that failed.

use super::bytecode::BytecodeError;
use super::lock_mismatch::LockMismatch;
use super::resolver_error::ResolveError;
use super::wheel_fetch::FetchError;
use crate::disk::seal_packed::PackedError;
use crate::disk::wheel::WheelFileError;
use crate::disk::wheel_cache::WheelCacheError;
use crate::disk::wheel_folder::WheelFolderError;
use crate::fault::{Failure, Fault};
use crate::model::requirements::RequirementsError;
use crate::model::requirements_lock::LockError;
use crate::oci::splice::SpliceError;

/// Why requirements do not become a layer.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A line that is not taken.
    #[error(transparent)]
    Requirements(#[from] RequirementsError),
    /// The lock does not serve.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The resolver has no answer.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A wheel cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A wheel cannot be kept or hashed.
    #[error(transparent)]
    Cache(#[from] WheelCacheError),
    /// A wheel cannot be used.
    #[error(transparent)]
    Wheel(#[from] WheelFileError),
    /// What is in a wheel is not what it says.
    #[error(transparent)]
    Packed(#[from] PackedError),
    /// A wheel's directory points outside of it.
    #[error("laying out the packages")]
    Splice(#[from] SpliceError),
    /// The packages cannot be compiled.
    #[error(transparent)]
    Bytecode(#[from] BytecodeError),
    /// The lock wants another wheel than there is.
    #[error(transparent)]
    Mismatch(#[from] LockMismatch),
    /// A wheel in a folder of the user's.
    #[error(transparent)]
    Folder(#[from] WheelFolderError),
    /// Nobody has the wheel of a lock.
    #[error("the lock's `{project}` {version} is to be had nowhere: {tried}")]
    Nowhere {
        /// Which package.
        project: String,
        /// Its version.
        version: String,
        /// Where it was looked for.
        tried: String,
    },
    /// Work in the background died.
    #[error("installing the requirements stopped")]
    Stopped(#[from] tokio::task::JoinError),
}

impl InstallError {
    fn inner(&self) -> Option<&dyn Failure> {
        Some(match self {
            InstallError::Requirements(error) => error,
            InstallError::Lock(error) => error,
            InstallError::Resolve(error) => error,
            InstallError::Fetch(error) => error,
            InstallError::Cache(error) => error,
            InstallError::Wheel(error) => error,
            InstallError::Packed(error) => error,
            InstallError::Bytecode(error) => error,
            InstallError::Mismatch(error) => error,
            InstallError::Folder(error) => error,
            InstallError::Splice(_) | InstallError::Nowhere { .. } | InstallError::Stopped(_) => return None,
        })
    }
}

impl Failure for InstallError {
    fn fault(&self) -> Fault {
        match self {
            InstallError::Splice(_) => Fault::Invalid,
            InstallError::Nowhere { .. } => Fault::Remote,
            other => other.inner().map_or(Fault::Ours, Failure::fault),
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            InstallError::Nowhere { .. } => {
                Some("put the wheel that the lock names into a folder and name that with `--wheels`, or remove the lock".to_owned())
            }
            other => other.inner().and_then(Failure::remedy),
        }
    }
}
