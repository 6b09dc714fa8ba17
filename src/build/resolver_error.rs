//! Why a resolver has no answer, whose fault that is, and what to do.
//!
//! The words are the resolver's where it knows more than we do; the class is ours: what is required and is not there is the model's, an index that does not answer is
//! the network's, and a program that is none is the settings'.
//!
//! What must stay true: an index that did not answer is never told as a package that is not there.

use std::io;
use std::process::ExitStatus;

use super::index_trouble::Trouble;
use super::resolver_words::STUMBLED;
use crate::disk::wheel_folder::WheelFolderError;
use crate::fault::{Failure, Fault};
use crate::model::python_package::{WheelName, normalised};
use crate::model::requirements_lock::NO_WHEEL_REMEDY;

/// What a resolver is called in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// `uv` or `pip`.
    pub name: &'static str,
    /// The words that run it.
    pub words: String,
    /// The variable that names it; `None`: it was found in `PATH`.
    pub variable: Option<&'static str>,
}

impl std::fmt::Display for Called {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.variable {
            Some(variable) => write!(f, "`{}`, which {variable} names,", self.words),
            None => write!(f, "`{}`, which was found in PATH,", self.words),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Neither uv nor pip.
    #[error("neither uv nor pip was found to resolve the model's requirements")]
    NoResolver,
    /// What should be one is no program.
    #[error("{called} cannot be run")]
    Start {
        /// Which.
        called: Called,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file for the resolver, or what it said.
    #[error("running `{program}`")]
    Run {
        /// Which.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It did not end.
    #[error("`{0}` has not ended in a quarter of an hour")]
    Patience(&'static str),
    /// A package has no wheel.
    #[error("`{package}` has no wheel for {target}: {said}")]
    NoWheel {
        /// Which, with what was required of it.
        package: String,
        /// For what.
        target: String,
        /// What the resolver said.
        said: String,
    },
    /// There is no such package.
    #[error("there is no package `{package}`: {said}")]
    NoPackage {
        /// Its name.
        package: String,
        /// Who was asked.
        said: &'static str,
    },
    /// The requirements cannot be met.
    #[error("the requirements cannot be met for {target}: {said}")]
    Unmet {
        /// For what.
        target: String,
        /// What the resolver said.
        said: String,
    },
    /// What there is has another hash than is required, or none is required of it.
    #[error("the hashes of the requirements do not hold: {0}")]
    Hash(String),
    /// The index did not answer as one.
    #[error("the package index {} cannot be used: {}", .0.host, .0.cause)]
    Index(Trouble),
    /// The folders lack something, and the index cannot be used.
    #[error("the folders of wheels have not everything ({of_folders}), and the index does not help: {index}")]
    Neither {
        /// What the folders lack.
        of_folders: Box<ResolveError>,
        /// What is wrong with the index.
        index: Box<ResolveError>,
    },
    /// A wheel of the user's.
    #[error(transparent)]
    Folder(WheelFolderError),
    /// Anything else.
    #[error("`{program}` failed: {said}")]
    Failed {
        /// Which.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// It failed and said nothing.
    #[error("{called} says nothing and ends with {status}: it is no resolver")]
    Silent {
        /// Which.
        called: Called,
        /// How it ended.
        status: ExitStatus,
    },
    /// It answered in a way that is not known.
    #[error("the answer of {called} is not understood")]
    Answer {
        /// Which.
        called: Called,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ResolveError {
    /// Of a process that was to run.
    pub(super) fn of_start(called: &Called, source: io::Error) -> ResolveError {
        match source.kind() {
            io::ErrorKind::InvalidData => ResolveError::Run { program: called.name, source },
            _ => ResolveError::Start { called: called.clone(), source },
        }
    }

    /// Whether something is not there that may be elsewhere.
    pub(super) fn is_a_lack(&self) -> bool {
        matches!(self, ResolveError::NoWheel { .. } | ResolveError::NoPackage { .. } | ResolveError::Unmet { .. })
    }

    /// Whether a wheel of this name may be what it is about.
    pub(super) fn is_about(&self, wheel: &WheelName) -> bool {
        let names = |text: &str| text.contains(&wheel.file_name) || text.contains(&format!("`{}=={}`", wheel.project, wheel.version));
        match self {
            ResolveError::NoWheel { package, .. } | ResolveError::NoPackage { package, .. } => {
                let begins = |rest: &str| {
                    rest.is_empty() || rest.starts_with(|letter: char| !(letter.is_ascii_alphanumeric() || "-_.".contains(letter)))
                };
                normalised(package).strip_prefix(&wheel.project).is_some_and(begins)
            }
            ResolveError::Failed { said, .. } => names(said) || said.starts_with(STUMBLED),
            ResolveError::Neither { of_folders, index } => of_folders.is_about(wheel) || index.is_about(wheel),
            _ => false,
        }
    }
}

impl Failure for ResolveError {
    fn fault(&self) -> Fault {
        match self {
            ResolveError::NoResolver | ResolveError::Start { .. } | ResolveError::Silent { .. } => Fault::Usage,
            ResolveError::Failed { said, .. } if is_too_old(said) => Fault::Usage,
            ResolveError::Answer { called, .. } if called.variable.is_some() => Fault::Usage,
            ResolveError::Run { .. } | ResolveError::Answer { .. } => Fault::Ours,
            ResolveError::Patience(_) | ResolveError::Failed { .. } | ResolveError::Index(_) => Fault::Remote,
            ResolveError::Neither { index, .. } => index.fault(),
            ResolveError::NoWheel { .. } | ResolveError::NoPackage { .. } | ResolveError::Unmet { .. } | ResolveError::Hash(_) => {
                Fault::Invalid
            }
            ResolveError::Folder(error) => error.fault(),
        }
    }

    fn remedy(&self) -> Option<String> {
        Some(match self {
            ResolveError::NoResolver => {
                "install uv or pip (or name one in HS_UV or HS_PIP), put a `requirements.lock` into the model's folder, or build with `--no-requirements`"
                    .to_owned()
            }
            ResolveError::Start { called, .. } | ResolveError::Silent { called, .. } | ResolveError::Answer { called, .. } => match called.variable {
                Some(variable) => format!("name the program {} in {variable}, or `off` to do without it", called.name),
                None => format!("install {} anew, or name another in HS_{}", called.name, called.name.to_uppercase()),
            },
            ResolveError::NoWheel { .. } => NO_WHEEL_REMEDY.to_owned(),
            ResolveError::NoPackage { .. } => {
                "correct its name, or name the index that has it (PIP_EXTRA_INDEX_URL, UV_INDEX) or a folder of wheels with `--wheels`".to_owned()
            }
            ResolveError::Unmet { .. } => "change the versions in requirements.txt to some that are there and can be installed together".to_owned(),
            ResolveError::Hash(_) => {
                "correct the hashes (`uv pip compile --generate-hashes` writes them all), or remove them: what is chosen is locked by its hash in any case".to_owned()
            }
            ResolveError::Failed { said, .. } if is_too_old(said) => {
                "update it, or switch it off (HS_UV=off, HS_PIP=off) so that the other one is asked".to_owned()
            }
            ResolveError::Index(trouble) => trouble.remedy.to_owned(),
            ResolveError::Neither { index, .. } => format!("put what is missing into the folder, or {}", index.remedy()?),
            ResolveError::Failed { .. } | ResolveError::Patience(_) => {
                "look at where packages come from (pip.conf, uv.toml, PIP_INDEX_URL, UV_DEFAULT_INDEX), or name a folder of wheels with `--wheels`".to_owned()
            }
            ResolveError::Folder(error) => return error.remedy(),
            ResolveError::Run { .. } => return None,
        })
    }
}

/// Whether it does not know what it is asked.
fn is_too_old(said: &str) -> bool {
    ["unexpected argument", "no such option", "unrecognized subcommand", "invalid value"].iter().any(|sign| said.contains(sign))
}
