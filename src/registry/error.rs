//! What can go wrong with a registry: one error for all of its client.
//!
//! Each failure names what was being done ([`Action`]): the operation and the object, `host/repository:tag` or
//! `…@digest`. Whose failure it is, whether trying again helps, and what the user can do follow from tables here and in
//! `answer.rs`, not from the place that failed. URLs are not printed: those that registries hand out carry signatures
//! and session states.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use reqwest::StatusCode;

use super::address::AddressError;
use super::answer::Answer;
use super::silence::Silence;
use super::trouble::Trouble;
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;
use crate::oci::manifest::ManifestError;

/// The most tags that a remedy lists.
const TAGS_SHOWN_MAX: usize = 12;

/// What was being done when it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The operation.
    pub operation: Operation,
    /// The registry, as it stands in references.
    pub registry: String,
    /// What it was done to, `host/repository…`.
    pub object: String,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.operation, self.object)
    }
}

/// The operations of a registry that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the text of each is its documentation")]
pub enum Operation {
    AskManifest,
    PullManifest,
    PutManifest,
    AskBlob,
    PullBlob,
    MountBlob,
    PushBlob,
    CancelUpload,
    ListTags,
    ListReferrers,
    ListReferrer,
    AskApi,
    ListRepositories,
    DeleteManifest,
    DeleteBlob,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::AskManifest => "ask for manifest",
            Operation::PullManifest => "pull manifest",
            Operation::PutManifest => "put manifest",
            Operation::AskBlob => "ask for blob",
            Operation::PullBlob => "pull blob",
            Operation::MountBlob => "mount blob",
            Operation::PushBlob => "push blob",
            Operation::CancelUpload => "cancel the upload of blob",
            Operation::ListTags => "list the tags of",
            Operation::ListReferrers => "list the referrers of",
            Operation::ListReferrer => "put among its subject's referrers",
            Operation::AskApi => "ask for the API of",
            Operation::ListRepositories => "list the repositories of",
            Operation::DeleteManifest => "delete manifest",
            Operation::DeleteBlob => "delete blob",
        })
    }
}

/// A failure of, or with, a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry said no.
    #[error("cannot {action}: the registry answered {answer}")]
    Refused {
        /// What was being done.
        action: Action,
        /// What it said.
        answer: Box<Answer>,
    },
    /// The manifest is not there.
    #[error("cannot {action}: it is not there")]
    NoManifest {
        /// What was being done.
        action: Action,
        /// The tags of the repository; empty where they cannot be had.
        tags: Vec<String>,
    },
    /// The server that gives out tokens said no.
    #[error("cannot {action}: no token from {realm}, which answered {answer}")]
    NoToken {
        /// What was being done.
        action: Action,
        /// The server.
        realm: String,
        /// What it said.
        answer: Box<Answer>,
    },
    /// No answer came.
    #[error("cannot {action}: {trouble}")]
    Unreachable {
        /// What was being done.
        action: Action,
        /// What kind of failure it was.
        trouble: Trouble,
        /// What the HTTP library found.
        #[source]
        source: reqwest::Error,
    },
    /// Nothing came, or nothing moved, for too long.
    #[error("cannot {action}: {silence}")]
    Stalled {
        /// What was being done.
        action: Action,
        /// Who was waited for, for what and how long.
        silence: Silence,
    },
    /// The registry sent us to a place where we do not go.
    #[error("cannot {action}: the registry leads to another place")]
    Astray {
        /// What was being done.
        action: Action,
        /// The place and the rule.
        #[source]
        source: AddressError,
    },
    /// An answer that breaks the rules of the protocol.
    #[error("cannot {action}: {problem}")]
    Protocol {
        /// What was being done.
        action: Action,
        /// Which rule.
        problem: String,
    },
    /// The bytes have another name.
    #[error("cannot {action}: the registry has bytes with the digest {found}")]
    OtherDigest {
        /// What was being done.
        action: Action,
        /// The digest of what came, or the one that the registry named.
        found: Digest,
    },
    /// There are more or fewer bytes than said.
    #[error("cannot {action}: {expected_bytes} bytes were announced, {found}")]
    OtherSize {
        /// What was being done.
        action: Action,
        /// How many there should be.
        expected_bytes: u64,
        /// What there is.
        found: String,
    },
    /// The document is no manifest.
    #[error("cannot {action}")]
    NotAManifest {
        /// What was being done.
        action: Action,
        /// Why.
        #[source]
        source: Box<ManifestError>,
    },
    /// What was to be sent could not be read.
    #[error("cannot {action}")]
    Source {
        /// What was being done.
        action: Action,
        /// Why.
        #[source]
        source: Box<dyn Failure>,
    },
    /// The credentials could not be read.
    #[error("cannot {action}: no credentials")]
    Credentials {
        /// What was being done.
        action: Action,
        /// Why.
        #[source]
        source: Box<super::credentials::CredentialError>,
    },
    /// A tag or digest that is none.
    #[error("`{key}` is neither a tag nor a digest")]
    Key {
        /// What was given.
        key: String,
    },
    /// A host of the settings or of a reference.
    #[error("registry host")]
    Host(#[source] AddressError),
    /// A client certificate or its key.
    #[error("cannot read the client certificate from `{}`", path.display())]
    ClientCertificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A file of certificate authorities.
    #[error("cannot read certificate authorities from `{}`", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// TLS could not be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The HTTP library could not be set up.
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
}

impl RegistryError {
    /// The status of the registry's answer, where it gave one.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            RegistryError::Refused { answer, .. } | RegistryError::NoToken { answer, .. } => Some(answer.status),
            _ => None,
        }
    }

    /// The registry's answer, where it gave one.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            RegistryError::Refused { answer, .. } | RegistryError::NoToken { answer, .. } => Some(answer),
            _ => None,
        }
    }

    fn action(&self) -> Option<&Action> {
        match self {
            RegistryError::Refused { action, .. }
            | RegistryError::NoManifest { action, .. }
            | RegistryError::NoToken { action, .. }
            | RegistryError::Unreachable { action, .. }
            | RegistryError::Stalled { action, .. }
            | RegistryError::Astray { action, .. }
            | RegistryError::Protocol { action, .. }
            | RegistryError::OtherDigest { action, .. }
            | RegistryError::OtherSize { action, .. }
            | RegistryError::NotAManifest { action, .. }
            | RegistryError::Source { action, .. }
            | RegistryError::Credentials { action, .. } => Some(action),
            RegistryError::Key { .. }
            | RegistryError::Host(_)
            | RegistryError::CaFile { .. }
            | RegistryError::ClientCertificate { .. }
            | RegistryError::Tls(_)
            | RegistryError::Client(_) => None,
        }
    }
}

impl Failure for RegistryError {
    fn fault(&self) -> Fault {
        match self {
            RegistryError::Refused { answer, .. } | RegistryError::NoToken { answer, .. } => match answer.status {
                _ if answer.is_transient() => Fault::RemoteTransient,
                StatusCode::NOT_FOUND => Fault::Missing,
                _ => Fault::Remote,
            },
            RegistryError::NoManifest { .. } => Fault::Missing,
            RegistryError::Unreachable { trouble, .. } if trouble.is_transient() => Fault::RemoteTransient,
            RegistryError::Stalled { .. } => Fault::RemoteTransient,
            RegistryError::Source { source, .. } => source.fault(),
            RegistryError::NotAManifest { source, .. } => source.fault(),
            RegistryError::Key { .. } | RegistryError::Host(_) | RegistryError::CaFile { .. } => Fault::Usage,
            RegistryError::ClientCertificate { .. } | RegistryError::Credentials { .. } => Fault::Usage,
            RegistryError::Tls(_) | RegistryError::Client(_) => Fault::Ours,
            RegistryError::Unreachable { .. }
            | RegistryError::Astray { .. }
            | RegistryError::Protocol { .. }
            | RegistryError::OtherDigest { .. }
            | RegistryError::OtherSize { .. } => Fault::Remote,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            RegistryError::NoManifest { tags, .. } if tags.is_empty() => None,
            RegistryError::NoManifest { tags, .. } => Some(tags_remedy(tags)),
            RegistryError::Source { source, .. } => source.remedy(),
            RegistryError::NotAManifest { source, .. } => source.remedy(),
            RegistryError::Host(_) => Some("write `host` or `host:port`".to_owned()),
            RegistryError::Unreachable { trouble, .. } => trouble.remedy(&self.action()?.registry),
            RegistryError::Stalled { action, silence } if silence.first => Some(format!(
                "check that it is a registry that listens at `{}`, and what stands before it (a proxy, a firewall); where it is only slow, raise `answer_s` for registry `{}` in the configuration file",
                silence.host, action.registry
            )),
            RegistryError::Refused { answer, .. } | RegistryError::NoToken { answer, .. } => {
                answer_remedy(answer, &self.action()?.registry)
            }
            _ => None,
        }
    }
}

fn tags_remedy(tags: &[String]) -> String {
    let shown = tags[..tags.len().min(TAGS_SHOWN_MAX)].join(", ");
    match tags.len().saturating_sub(TAGS_SHOWN_MAX) {
        0 => format!("the tags there are: {shown}"),
        more => format!("the tags there are: {shown} and {more} more"),
    }
}

fn answer_remedy(answer: &Answer, registry: &str) -> Option<String> {
    match answer.status.as_u16() {
        401 | 403 => Some(format!("log in: `docker login {registry}` or `podman login {registry}`")),
        // What Go's and nginx's TLS servers answer to plain HTTP.
        400 if answer.says("http request to an https server") || answer.says("plain http request was sent to https port") => {
            Trouble::SpeaksSomethingElse.remedy(registry)
        }
        413 => Some(format!("raise the largest request body that the proxy before `{registry}` takes (nginx: `client_max_body_size`)")),
        507 => Some(format!("make room on the disk of `{registry}`, and run the same command again")),
        429 => Some("wait, or log in: registries let known users do more".to_owned()),
        _ => None,
    }
}
