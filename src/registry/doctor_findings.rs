//! What an examination of a registry finds: values, one for each thing that was tried.
//!
//! What a finding means for a user, and the words for it, are the command line's (`cli/registry_words.rs`). That models cannot be pushed at all is an
//! [`Obstacle`] (`doctor_obstacle.rs`).

use reqwest::StatusCode;

use super::answer::Answer;
use super::doctor_obstacle::Obstacle;
use super::error::RegistryError;
use super::profile::Profile;
use crate::fault::{Failure as _, one_line};

/// All that was found.
#[derive(Debug)]
pub struct Report {
    /// The registry, as it stands in references.
    pub registry: String,
    /// The repository's path; `None` where the registry alone was examined.
    pub repository: Option<String>,
    /// In the order in which they were found.
    pub findings: Vec<Finding>,
    /// What later pushes go by.
    pub profile: Profile,
    /// What was written and could not be deleted again.
    pub left_behind: Vec<String>,
    /// Why models cannot be pushed.
    pub obstacle: Option<Obstacle>,
}

/// Something that was tried, and what came of it.
#[derive(Debug)]
pub enum Finding {
    /// `/v2/` answered.
    Reached(Reached),
    /// Its clock, where it is far from ours.
    Clock {
        /// How many seconds it is ahead of ours; negative: behind.
        ahead_s: i64,
    },
    /// Who it wants us to be, and who we are.
    Login(Login),
    /// What answers is no registry.
    Stranger {
        /// What it does that no registry does.
        why: String,
    },
    /// The repositories were asked for.
    Catalog(Catalog),
    /// The tags were asked for.
    Pull(Pull),
    /// What is not there was asked for.
    Missing {
        /// With what a HEAD of a manifest was answered.
        manifest: StatusCode,
        /// And one of a blob.
        blob: StatusCode,
    },
    /// An upload was opened.
    Push {
        /// Whether it may be.
        reply: Reply,
        /// The other host that uploads go to.
        elsewhere: Option<String>,
    },
    /// A small blob was pushed in one request.
    Whole(Reply),
    /// Large request bodies were sent.
    Bodies(Bodies),
    /// A blob was pushed in chunks.
    Chunks(Chunks),
    /// A chunk was sent for another place than where it belongs.
    Offset(Offset),
    /// An upload was left in the middle.
    Resume(Resume),
    /// A blob was mounted.
    Mount {
        /// From where; from this repository itself where nothing is named.
        from: Option<String>,
        /// What came of it.
        outcome: MountOutcome,
    },
    /// A manifest was put.
    Manifest {
        /// Of this kind.
        kind: ManifestKind,
        /// Whether it was taken.
        reply: Reply,
    },
    /// A tag was pointed at another manifest.
    Overwrite(Reply),
    /// Referrers were asked for.
    Referrers(Referrers),
    /// A blob was pulled.
    Download {
        /// The other host that it came from.
        elsewhere: Option<String>,
    },
    /// What was written was deleted again.
    Delete(Deletes),
    /// The registry wants its users to know this.
    Warning(String),
    /// It could not be found out.
    Failed {
        /// What; one of the words of [`Finding::check`].
        check: &'static str,
        /// Why, with its causes.
        problem: String,
        /// What may help.
        remedy: Option<String>,
    },
}

impl Finding {
    /// A failure to find something out.
    pub(super) fn failed(check: &'static str, error: &RegistryError) -> Finding {
        Finding::Failed { check, problem: one_line(error), remedy: error.remedy() }
    }

    /// The name of what was tried; a promise to programs.
    pub fn check(&self) -> &'static str {
        match self {
            Finding::Reached(_) => "reach",
            Finding::Clock { .. } => "clock",
            Finding::Login(_) => "login",
            Finding::Stranger { .. } => "registry",
            Finding::Catalog(_) => "catalog",
            Finding::Pull(_) => "pull",
            Finding::Missing { .. } => "missing",
            Finding::Push { .. } => "push",
            Finding::Whole(_) => "upload",
            Finding::Bodies(_) => "body-size",
            Finding::Chunks(_) => "chunks",
            Finding::Offset(_) => "chunk-offset",
            Finding::Resume(_) => "resume",
            Finding::Mount { .. } => "mount",
            Finding::Manifest { kind, .. } => kind.check(),
            Finding::Overwrite(_) => "tag-overwrite",
            Finding::Referrers(_) => "referrers",
            Finding::Download { .. } => "download",
            Finding::Delete(_) => "delete",
            Finding::Warning(_) => "warning",
            Finding::Failed { check, .. } => check,
        }
    }
}

/// Whether it was done.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// It was.
    Taken,
    /// It was not, in these words.
    Refused(Answer),
}

/// How `/v2/` answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// `https://host:port`.
    pub origin: String,
    /// Whether by TLS.
    pub encrypted: bool,
    /// Whether it is on this machine.
    pub loopback: bool,
    /// With which status.
    pub status: StatusCode,
    /// `Docker-Distribution-Api-Version`, which the older specification asks for.
    pub api_version: Option<String>,
}

/// Who it wants us to be, and who we are.
#[derive(Clone, Debug, PartialEq)]
pub struct Login {
    /// What it asks for.
    pub scheme: Scheme,
    /// Who we are: never the secret itself.
    pub identity: Identity,
    /// Where that was found: the settings, a file, a program.
    pub origin: super::credentials::Origin,
    /// Whether it is believed.
    pub proof: Proof,
}

/// Whether a registry believes who we are.
#[derive(Clone, Debug, PartialEq)]
pub enum Proof {
    /// Nothing was sent: nothing is asked for, or we have nothing that could be sent.
    NotTried,
    /// Not even a push was asked who we are.
    NotNeeded,
    /// It was taken, and that of a user who does not exist was not.
    Taken,
    /// It was taken, and so was that of a user who does not exist.
    AnyTaken,
    /// It was refused.
    Refused(Answer),
    /// What came says neither.
    Unclear(String),
}

/// Whether a registry says which repositories it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Catalog {
    /// It does.
    Listed,
    /// It does not, or not to us; its answer.
    NotListed(StatusCode),
}

/// What a registry asks for before it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Nothing.
    Nothing,
    /// A password with each request.
    Basic,
    /// Tokens.
    Bearer {
        /// The server that gives them out.
        realm: String,
    },
    /// Something that is not known here.
    Unknown,
}

/// Who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nobody in particular.
    Anonymous,
    /// A user with a password.
    User(String),
    /// An identity token.
    Token,
}

/// Whether the repository can be read.
#[derive(Clone, Debug, PartialEq)]
pub enum Pull {
    /// It can.
    Granted,
    /// The registry does not know it: it comes with the first push.
    NoRepository,
    /// What a registry answers is no list.
    NoList,
    /// It cannot.
    Refused(Answer),
}

/// Which request bodies are taken. None of them becomes a blob.
#[derive(Clone, Debug, PartialEq)]
pub struct Bodies {
    /// The largest that was taken; 0: none.
    pub taken_bytes: u64,
    /// The smallest that was not.
    pub refused: Option<(u64, BodyRefusal)>,
    /// Whether bytes were taken under a digest that is not theirs.
    pub unchecked: bool,
}

/// Why a body was not taken.
#[derive(Clone, Debug, PartialEq)]
pub enum BodyRefusal {
    /// It is too large (413, and 416 as some say it).
    TooLarge(Answer),
    /// The connection broke, twice.
    Broke,
    /// For another reason.
    Other(Answer),
}

/// How chunks are taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunks {
    /// Whether they are at all.
    pub outcome: ChunksOutcome,
    /// `OCI-Chunk-Min-Length`.
    pub min_bytes: u64,
    /// The largest that was taken.
    pub taken_bytes: u64,
    /// The smallest that was refused for its size.
    pub refused_bytes: Option<u64>,
}

/// What came of a blob in chunks.
#[derive(Clone, Debug, PartialEq)]
pub enum ChunksOutcome {
    /// It is there.
    Taken,
    /// It is there; of a chunk only a part was taken, and the registry said so.
    Partly,
    /// It is there; the registry never said how much it has.
    Silent,
    /// The registry does not take chunks.
    Refused(Answer),
    /// It says the end of the first chunk for all of them.
    RangeStuck,
    /// It says that it has more than was sent.
    RangeAhead,
    /// It took all chunks and not the blob.
    NotCommitted(Answer),
}

/// What came of a chunk for another place.
#[derive(Clone, Debug, PartialEq)]
pub enum Offset {
    /// 416, and asked it says what it has.
    Refused,
    /// 416, and asked it does not say what it has.
    RefusedOnly,
    /// It was taken without a word.
    Swallowed,
    /// Another answer.
    Other(Answer),
}

/// What is left of an upload that stops in the middle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Whether the registry says how far it is after a whole chunk.
    pub after_chunk: bool,
    /// What it has after a chunk whose connection broke.
    pub after_break: AfterBreak,
}

/// What a registry has after a connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterBreak {
    /// All that came.
    Everything,
    /// The chunks before.
    WholeChunks,
    /// Nothing: the upload is gone.
    Nothing,
    /// There are no chunks, so it was not tried.
    NotTried,
}

/// What came of a mount.
#[derive(Clone, Debug, PartialEq)]
pub enum MountOutcome {
    /// The blob is there.
    Mounted,
    /// The registry would rather be sent it.
    Session,
    /// It does not.
    Refused(Answer),
    /// There is nothing that could be mounted.
    NothingToMount,
}

/// The kinds of manifests that are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// An OCI image.
    Oci,
    /// An OCI image with a layer in zstd.
    Zstd,
    /// A Docker image.
    Docker,
    /// An OCI index.
    Index,
}

impl ManifestKind {
    /// As [`Finding::check`].
    pub fn check(self) -> &'static str {
        match self {
            ManifestKind::Oci => "oci-manifest",
            ManifestKind::Zstd => "zstd-layer",
            ManifestKind::Docker => "docker-manifest",
            ManifestKind::Index => "oci-index",
        }
    }
}

/// Who keeps the list of referrers.
#[derive(Clone, Debug, PartialEq)]
pub enum Referrers {
    /// The registry.
    Api {
        /// Whether it says so when one is put (`OCI-Subject`); not known where nothing was put.
        subject_named: Option<bool>,
    },
    /// Whoever pushes, under a tag.
    FallbackTag,
    /// Nobody can: manifests with a subject are refused.
    Refused(Answer),
}

/// With what deletes were answered; `None` where there was nothing to delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deletes {
    /// Of a tag.
    pub tag: Option<StatusCode>,
    /// Of a manifest.
    pub manifest: Option<StatusCode>,
    /// Of a blob.
    pub blob: Option<StatusCode>,
}
