//! Why models cannot be pushed to a repository at all: the failure that `hs registry doctor` ends with then, after its report.

use super::error::RegistryError;
use crate::fault::{Failure, Fault};

/// Why models cannot be pushed to a repository.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// Something that each push needs was refused.
    #[error("models cannot be pushed to `{object}`")]
    Refused {
        /// The repository.
        object: String,
        /// What, and why.
        #[source]
        source: RegistryError,
    },
    /// It cannot even be read, and nothing else was asked for.
    #[error("`{object}` cannot be read")]
    Unreadable {
        /// The repository.
        object: String,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// What answers is something else.
    #[error("`{registry}` is not a registry: {why}")]
    NotARegistry {
        /// The host.
        registry: String,
        /// What it does that no registry does.
        why: String,
    },
    /// It wants a login, and ours is none that it takes.
    #[error("nothing can be pushed to `{registry}` with this login")]
    Login {
        /// The host.
        registry: String,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// No body of a useful size gets through.
    #[error("models cannot be pushed to `{object}`: a request body of {} KiB is refused", refused_bytes >> 10)]
    SmallBodies {
        /// The repository.
        object: String,
        /// The size of that body.
        refused_bytes: u64,
    },
    /// Large bodies are refused, and chunks too.
    #[error("layers of more than {} MiB cannot be pushed to `{object}`: larger request bodies are refused, and chunks too", taken_bytes >> 20)]
    NoWay {
        /// The repository.
        object: String,
        /// The largest body that is taken.
        taken_bytes: u64,
    },
}

impl Failure for Obstacle {
    fn fault(&self) -> Fault {
        match self {
            Obstacle::Refused { source, .. } | Obstacle::Unreadable { source, .. } | Obstacle::Login { source, .. } => source.fault(),
            Obstacle::NotARegistry { .. } | Obstacle::SmallBodies { .. } | Obstacle::NoWay { .. } => Fault::Remote,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            Obstacle::Refused { source, .. } | Obstacle::Unreadable { source, .. } | Obstacle::Login { source, .. } => source.remedy(),
            Obstacle::NotARegistry { .. } => {
                Some("name the host and port where the registry itself answers; a page for people often has another".to_owned())
            }
            Obstacle::SmallBodies { .. } | Obstacle::NoWay { .. } => {
                Some("raise the largest request body that the proxy before the registry takes (nginx: `client_max_body_size`)".to_owned())
            }
        }
    }
}
