//! What the catalog keeps, as values: versions, what a build is asked for and how it ended.
//!
//! No SQL here, and no HTTP: the doors turn these into the words of their clients. A version and its build are one to one; the
//! status is the build's, the result (image, digest, reason of a failure) is the version's, and one transaction writes both.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde_json::Value;

use crate::fault::Fault;
use crate::oci::digest::Digest;

/// The identity of a model, for the clients that speak in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::Type)]
#[sqlx(transparent)]
pub struct ModelId(pub i64);

/// The identity of a version: of all models, not the number that users see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::Type)]
#[sqlx(transparent)]
pub struct VersionId(pub i64);

/// The number of a version within its model: 1, 2, 3…
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::Type)]
#[sqlx(transparent)]
pub struct VersionNumber(pub i64);

/// The identity of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::Type)]
#[sqlx(transparent)]
pub struct BuildId(pub i64);

macro_rules! prints_its_number {
    ($($id:ty),*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
prints_its_number!(ModelId, VersionId, VersionNumber, BuildId);

/// How far a build is (the models page, "Build Status").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// In the queue.
    Pending,
    /// A worker has it.
    Running,
    /// It ended without an image.
    Failed,
    /// It ended with an image.
    Finished,
}

impl Status {
    /// Every status, in the order in which a build passes them.
    pub const ALL: [Status; 4] = [Status::Pending, Status::Running, Status::Failed, Status::Finished];

    /// The word that users and the database know.
    pub fn word(self) -> &'static str {
        match self {
            Status::Pending => "Pending",
            Status::Running => "Running",
            Status::Failed => "Failed",
            Status::Finished => "Finished",
        }
    }

    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Status::Failed | Status::Finished)
    }

    pub(super) fn from_word(word: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.word() == word)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A contract as a version keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptContract {
    /// Its signatures as JSON (interface, `hs contract show`).
    pub json: Value,
    /// The bytes that are in the image.
    pub protobin: Vec<u8>,
    /// The dialect of those bytes: `v1`, `v2`, `v3`.
    pub dialect: String,
}

/// An upload that has been read and found valid: what a version is made from.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// The model's name; the model is made with its first version.
    pub model: String,
    /// Its type, where one is known.
    pub model_type: Option<String>,
    /// What the user wrote about it.
    pub description: Option<String>,
    /// The user's own keys and values.
    pub metadata: BTreeMap<String, String>,
    /// The contract, where there is one.
    pub contract: Option<KeptContract>,
    /// The runtime that was asked for.
    pub runtime: Option<String>,
    /// The digest under which the store has the list of the model's files.
    pub tree_digest: Digest,
    /// All that the build has to know, as its recipe writes and reads it.
    pub request: Value,
    /// The first lines of the build's log: what the reading of the upload had to say.
    pub log: Vec<NewLine>,
}

/// A model, and what a list shows of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Its identity.
    pub id: ModelId,
    /// Its name.
    pub name: String,
    /// When its first version was uploaded.
    pub created: Timestamp,
    /// When its last version was uploaded.
    pub updated: Timestamp,
    /// How many versions there are.
    pub versions: u64,
    /// The highest of them, with its status.
    pub last: Option<(VersionNumber, Status)>,
}

/// A version, with the state of its build.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// Its identity.
    pub id: VersionId,
    /// The identity of its model.
    pub model_id: ModelId,
    /// The name of its model.
    pub model: String,
    /// Its number.
    pub number: VersionNumber,
    /// The identity of its build.
    pub build: BuildId,
    /// How far that is.
    pub status: Status,
    /// When it was uploaded.
    pub created: Timestamp,
    /// When its build first began.
    pub started: Option<Timestamp>,
    /// When its build ended.
    pub finished: Option<Timestamp>,
    /// Its type.
    pub model_type: Option<String>,
    /// What the user wrote about it.
    pub description: Option<String>,
    /// The user's own keys and values.
    pub metadata: BTreeMap<String, String>,
    /// The contract.
    pub contract: Option<KeptContract>,
    /// The runtime that was asked for.
    pub runtime: Option<String>,
    /// Where its image is.
    pub image: Option<String>,
    /// The digest of that image's manifest or index.
    pub digest: Option<Digest>,
    /// What the build reported of the image (interface, `hs build --output json`).
    pub report: Option<Value>,
    /// Why there is no image.
    pub error: Option<BuildError>,
    /// The names of the applications that use it, sorted.
    pub applications: Vec<String>,
}

/// Why a build failed, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError {
    /// The stage that failed.
    pub stage: String,
    /// Whose failure it is; `None` where an earlier release recorded it.
    pub fault: Option<Fault>,
    /// What happened, with its causes.
    pub cause: String,
    /// What the user can do.
    pub remedy: Option<String>,
}

/// How a build ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With an image.
    Finished {
        /// Where it is.
        reference: String,
        /// The digest of its manifest or index.
        digest: Digest,
        /// What else there is to tell of it.
        report: Option<Value>,
    },
    /// Without one.
    Failed(BuildError),
}

/// A build that a worker has been given. Only the last claim of a build may write to it.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The build.
    pub build: BuildId,
    /// The fencing token: how many times the build has been claimed, this one included.
    pub attempt: i64,
    /// The version that it makes.
    pub version: VersionId,
    /// The name of its model.
    pub model: String,
    /// The number of the version.
    pub number: VersionNumber,
    /// Its model type.
    pub model_type: Option<String>,
    /// Its runtime.
    pub runtime: Option<String>,
    /// Its contract.
    pub contract: Option<KeptContract>,
    /// The digest under which the store has the list of the model's files.
    pub tree_digest: Digest,
    /// What the build has to know.
    pub request: Value,
}

/// How grave a line of a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It went as it should.
    Info,
    /// The user should know.
    Warning,
    /// It is why the build failed.
    Error,
}

impl Level {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Level> {
        [Level::Info, Level::Warning, Level::Error].into_iter().find(|level| level.word() == word)
    }
}

/// A line for a build's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLine {
    /// How grave it is.
    pub level: Level,
    /// One line of text.
    pub text: String,
}

impl NewLine {
    /// A line of level info.
    pub fn info(text: impl Into<String>) -> NewLine {
        NewLine { level: Level::Info, text: text.into() }
    }

    /// A line of level warning.
    pub fn warning(text: impl Into<String>) -> NewLine {
        NewLine { level: Level::Warning, text: text.into() }
    }

    /// A line of level error.
    pub fn error(text: impl Into<String>) -> NewLine {
        NewLine { level: Level::Error, text: text.into() }
    }
}

/// A line of a build's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its place in the log, from 0.
    pub index: i64,
    /// When it was written.
    pub at: Timestamp,
    /// How grave it is.
    pub level: Level,
    /// One line of text.
    pub text: String,
}
