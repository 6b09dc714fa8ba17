//! Requirements -> the wheels that meet them, by a resolver of this machine: uv, else pip.
//!
//! Both are asked for another machine than this one (the runtime's Python, C library and processor), for wheels only, and for nothing but an answer: nothing is
//! installed, no source is built, no user's code runs. Both have their user's own settings. uv is the first choice: it judges markers for the target, where
//! pip judges them by the Python that it runs on.
//!
//! What must stay true: what goes to a resolver has been through `model/requirements.rs`, so that no line of it names a file or an address; what comes back
//! is a lock with a hash for every wheel.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;
use url::Url;

use super::index_settings::IndexSettings;
use super::resolver_words::{self, Said};
use crate::fault::{Failure, Fault};
use crate::model::python_package::normalised;
use crate::model::requirements_lock::{self, Lock, LockError, LockedPackage, LockedWheel, NO_WHEEL_REMEDY};
use crate::model::wheel_target::{Libc, Target};

/// A resolver that has said nothing for so long is waiting for somebody.
const PATIENCE: Duration = Duration::from_mins(15);
/// The versions of glibc that uv has words for; another is taken for the next lower one.
const UV_GLIBCS: [u32; 12] = [17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40];

/// The resolvers of this machine.
#[derive(Clone, Debug, Default)]
pub struct Resolvers {
    /// The program uv.
    pub uv: Option<PathBuf>,
    /// The words that run pip: a program, or a Python and `-m pip`.
    pub pip: Option<Vec<OsString>>,
    /// Where packages come from.
    pub index: IndexSettings,
    /// Folders of wheels.
    pub wheels: Vec<PathBuf>,
}

/// What is asked.
pub struct Question<'a> {
    /// Requirements, a line each.
    pub requirements: &'a str,
    /// For what.
    pub target: &'a Target,
    /// Whether what they require in their turn is wanted as well.
    pub dependencies: bool,
    /// A folder for what the resolver has to find in files.
    pub scratch: &'a Path,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Neither uv nor pip.
    #[error("neither uv nor pip was found to resolve the model's requirements")]
    NoResolver,
    /// A file for the resolver, or its answer.
    #[error("running `{program}`")]
    Run {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It did not end.
    #[error("`{0}` has not ended in a quarter of an hour")]
    Patience(String),
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
    /// The requirements cannot be met.
    #[error("the requirements cannot be met for {target}: {said}")]
    Unmet {
        /// For what.
        target: String,
        /// What the resolver said.
        said: String,
    },
    /// The index cannot be reached, or anything else.
    #[error("`{program}` failed: {said}")]
    Failed {
        /// Which.
        program: String,
        /// What it said.
        said: String,
    },
    /// It answered in a way that is not known.
    #[error("the answer of `{program}` is not understood")]
    Answer {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Its answer is no lock.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl Failure for ResolveError {
    fn fault(&self) -> Fault {
        match self {
            ResolveError::NoResolver => Fault::Usage,
            ResolveError::Run { .. } | ResolveError::Answer { .. } => Fault::Ours,
            ResolveError::Patience(_) | ResolveError::Failed { .. } => Fault::Remote,
            ResolveError::NoWheel { .. } | ResolveError::Unmet { .. } => Fault::Invalid,
            ResolveError::Lock(error) => error.fault(),
        }
    }

    fn remedy(&self) -> Option<String> {
        Some(match self {
            ResolveError::NoResolver => {
                "install uv or pip (or name one in HS_UV or HS_PIP), put a `requirements.lock` into the model's folder, or build with `--no-requirements`"
                    .to_owned()
            }
            ResolveError::NoWheel { .. } => NO_WHEEL_REMEDY.to_owned(),
            ResolveError::Unmet { .. } => "change the versions in requirements.txt so that they can be installed together".to_owned(),
            ResolveError::Failed { said, .. } if said.contains("unexpected argument") || said.contains("no such option") => {
                "update it, or switch it off (HS_UV=off, HS_PIP=off) so that the other one is asked".to_owned()
            }
            ResolveError::Failed { .. } | ResolveError::Patience(_) => {
                "look at where packages come from (pip.conf, uv.toml, PIP_INDEX_URL, UV_DEFAULT_INDEX), or name a folder of wheels with `--wheels`".to_owned()
            }
            ResolveError::Lock(error) => return error.remedy(),
            ResolveError::Run { .. } | ResolveError::Answer { .. } => return None,
        })
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The wheels.
    pub lock: Lock,
    /// Folders of this machine that some of them lie in.
    pub folders: Vec<PathBuf>,
    /// What has to be said.
    pub warnings: Vec<String>,
}

impl Resolvers {
    /// Asks. A folder of wheels that has everything is enough; else the user's indexes are asked as well.
    pub async fn resolve(&self, question: &Question<'_>) -> Result<Answer, ResolveError> {
        if self.wheels.is_empty() {
            return self.ask(question, false).await;
        }
        let of_folders = match self.ask(question, true).await {
            Err(error @ (ResolveError::NoWheel { .. } | ResolveError::Unmet { .. })) => error,
            answered => return answered,
        };
        // Where the index cannot be reached the folder is all that there is, and what it lacks is the news.
        match self.ask(question, false).await {
            Err(ResolveError::Failed { .. } | ResolveError::Patience(_)) => Err(of_folders),
            answered => answered,
        }
    }

    async fn ask(&self, question: &Question<'_>, only_folders: bool) -> Result<Answer, ResolveError> {
        match (&self.uv, &self.pip, uv_platform(question.target)) {
            (Some(uv), _, Some(platform)) => self.ask_uv(uv, &platform, question, only_folders).await,
            (_, Some(pip), _) => self.ask_pip(pip, question, only_folders).await,
            _ => Err(ResolveError::NoResolver),
        }
    }

    async fn ask_uv(&self, uv: &Path, platform: &str, question: &Question<'_>, only_folders: bool) -> Result<Answer, ResolveError> {
        let mut command = Command::new(uv);
        command.args(["pip", "compile", "--quiet", "--no-progress", "--no-header", "--format", "pylock.toml", "--generate-hashes"]);
        command.args(["--only-binary", ":all:", "--python-version", &question.target.python.to_string(), "--python-platform", platform]);
        // uv looks for settings and for an environment, whose Python it runs, in the folder that it is in and in all above, and a folder for temporary files
        // lies below one that anybody may write to: our own settings, which are none, end the one search, and the system's Python is the other's end.
        command.arg("--system");
        let settings = question.scratch.join("uv.toml");
        tokio::fs::write(&settings, "").await.map_err(|source| ResolveError::Run { program: "uv".to_owned(), source })?;
        if !question.dependencies {
            command.arg("--no-deps");
        }
        self.add_places(&mut command, only_folders);
        // An option that is given twice is an error to uv.
        let of_pip = self.index.options_for_uv().into_iter().filter(|option| !only_folders || option != "--no-index");
        command.args(of_pip).envs(self.index.variables_for_uv());
        let answer = run(command, "uv", question).await?;
        Ok(Answer { lock: requirements_lock::read("uv's answer", &answer)?, folders: folders_in(&answer), warnings: Vec::new() })
    }

    async fn ask_pip(&self, pip: &[OsString], question: &Question<'_>, only_folders: bool) -> Result<Answer, ResolveError> {
        let target = question.target;
        let mut words = pip.iter();
        let mut command = Command::new(words.next().ok_or(ResolveError::NoResolver)?);
        command.args(words).args([
            "install",
            "--dry-run",
            "--quiet",
            "--ignore-installed",
            "--disable-pip-version-check",
            "--no-input",
            "--report",
            "-",
        ]);
        command.args(["--only-binary=:all:", "--implementation", "cp", "--python-version", &target.python.to_string()]);
        for abi in [target.abi().as_str(), "abi3", "none"] {
            command.args(["--abi", abi]);
        }
        for platform in target.platforms() {
            command.args(["--platform", &platform]);
        }
        // Where a user installs by himself is nothing to a question, and some of these settings exclude one another.
        command
            .env("PIP_USER", "0")
            .env("PIP_REQUIRE_VIRTUALENV", "0")
            .env_remove("PIP_TARGET")
            .env_remove("PIP_PREFIX")
            .env_remove("PIP_ROOT");
        // pip wants a folder for a machine that is not its own; nothing is put there.
        command.arg("--target").arg(question.scratch.join("never-made"));
        if !question.dependencies {
            command.arg("--no-deps");
        }
        self.add_places(&mut command, only_folders);
        command.arg("-r");
        let answer = run(command, "pip", question).await?;
        let report: PipReport =
            serde_json::from_slice(&answer).map_err(|source| ResolveError::Answer { program: "pip".to_owned(), source: source.into() })?;
        let (lock, warnings) = report.into_lock(target)?;
        Ok(Answer { lock, folders: folders_in(&answer), warnings })
    }

    fn add_places(&self, command: &mut Command, only_folders: bool) {
        for folder in &self.wheels {
            command.arg("--find-links").arg(folder);
        }
        if only_folders {
            command.arg("--no-index");
        }
    }
}

/// Runs a resolver whose last argument is the file of requirements.
async fn run(mut command: Command, program: &str, question: &Question<'_>) -> Result<Vec<u8>, ResolveError> {
    let failed = |source| ResolveError::Run { program: program.to_owned(), source };
    let file = question.scratch.join("requirements.in");
    tokio::fs::write(&file, question.requirements).await.map_err(failed)?;
    command.arg(&file).current_dir(question.scratch).stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = ended.map_err(|_| ResolveError::Patience(program.to_owned()))?.map_err(failed)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let target = question.target.to_string();
    Err(match resolver_words::read(&String::from_utf8_lossy(&output.stderr)) {
        Said::NoWheel { package, said } => ResolveError::NoWheel { package, target, said },
        Said::Unmet(said) => ResolveError::Unmet { target, said },
        Said::Other(said) => ResolveError::Failed { program: program.to_owned(), said },
    })
}

/// The folders of the local files that an answer names, in quotes.
fn folders_in(answer: &[u8]) -> Vec<PathBuf> {
    let text = String::from_utf8_lossy(answer);
    let addresses =
        text.match_indices("\"file://").filter_map(|(at, _)| Url::parse(text[at + 1..].split('"').next()?).ok()?.to_file_path().ok());
    let folders: BTreeSet<PathBuf> = addresses.filter_map(|path| Some(path.parent()?.to_owned())).collect();
    folders.into_iter().collect()
}

/// uv's word for a target; `None`: it has none.
fn uv_platform(target: &Target) -> Option<String> {
    let machine = target.machine.as_str();
    if !matches!(machine, "x86_64" | "aarch64") {
        return None;
    }
    match target.libc {
        Libc::Musl(..) => Some(format!("{machine}-unknown-linux-musl")),
        Libc::Glibc(major, minor) => {
            let known = UV_GLIBCS.into_iter().rev().find(|known| *known <= minor)?;
            Some(format!("{machine}-manylinux_{major}_{known}"))
        }
    }
}

/// pip's installation report (its documentation, "Installation Report"), as far as it is needed.
#[derive(Deserialize)]
struct PipReport {
    install: Vec<PipItem>,
    environment: PipEnvironment,
}

#[derive(Deserialize)]
struct PipItem {
    download_info: PipDownload,
    metadata: PipMetadata,
}

#[derive(Deserialize)]
struct PipDownload {
    url: String,
    archive_info: PipArchive,
}

#[derive(Deserialize)]
struct PipArchive {
    hash: Option<String>,
    hashes: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct PipMetadata {
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct PipEnvironment {
    python_version: String,
    platform_machine: String,
    sys_platform: String,
}

impl PipReport {
    fn into_lock(self, target: &Target) -> Result<(Lock, Vec<String>), ResolveError> {
        let mut warnings = Vec::new();
        let own =
            (self.environment.python_version.as_str(), self.environment.platform_machine.as_str(), self.environment.sys_platform.as_str());
        if own != (target.python.to_string().as_str(), target.machine.as_str(), "linux") {
            warnings.push(format!(
                "pip runs on Python {} ({}, {}) and judges markers such as `python_version < \"3.12\"` by that and not by {target}: install uv, or name a pip of Python {} in HS_PIP",
                own.0, own.1, own.2, target.python
            ));
        }
        let package = |item: PipItem| {
            let PipArchive { hash, hashes } = item.download_info.archive_info;
            let hex = hashes.and_then(|mut hashes| hashes.remove("sha256")).or_else(|| Some(hash?.strip_prefix("sha256=")?.to_owned()));
            let digest = hex.and_then(|hex| format!("sha256:{hex}").parse().ok());
            let digest = digest.ok_or_else(|| ResolveError::Answer {
                program: "pip".to_owned(),
                source: format!("`{}` has no SHA-256", item.metadata.name).into(),
            })?;
            let wheel = LockedWheel::at(digest, &item.download_info.url);
            Ok(LockedPackage {
                project: normalised(&item.metadata.name),
                version: item.metadata.version,
                marker: None,
                wheels: vec![wheel],
            })
        };
        let mut packages: Vec<LockedPackage> = self.install.into_iter().map(package).collect::<Result<_, ResolveError>>()?;
        packages.sort_by(|a, b| a.project.cmp(&b.project));
        Ok((Lock { packages, ..Lock::default() }, warnings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::platform::Platform;

    fn target(libc: &str, architecture: &str) -> Target {
        Target::new("3.11".parse().unwrap(), libc.parse().unwrap(), &Platform::new("linux", architecture)).unwrap()
    }

    #[test]
    fn uv_is_asked_for_what_it_has_words_for() {
        assert_eq!(uv_platform(&target("glibc 2.36", "amd64")).as_deref(), Some("x86_64-manylinux_2_36"));
        assert_eq!(uv_platform(&target("glibc 2.30", "arm64")).as_deref(), Some("aarch64-manylinux_2_28"));
        assert_eq!(uv_platform(&target("glibc 2.99", "amd64")).as_deref(), Some("x86_64-manylinux_2_40"));
        assert_eq!(uv_platform(&target("musl 1.2", "amd64")).as_deref(), Some("x86_64-unknown-linux-musl"));
        assert_eq!(uv_platform(&target("glibc 2.12", "amd64")), None);
        assert_eq!(uv_platform(&target("glibc 2.36", "s390x")), None);
    }

    #[test]
    fn the_report_of_pip_becomes_a_lock_and_another_python_is_said() {
        let report = serde_json::json!({
            "install": [{"download_info": {"url": "https://u:secret@host/six-1.17.0-py2.py3-none-any.whl", "archive_info": {"hash": format!("sha256={}", "a".repeat(64))}},
                "metadata": {"name": "Six", "version": "1.17.0"}}],
            "environment": {"python_version": "3.12", "platform_machine": "x86_64", "sys_platform": "linux"},
        });
        let report: PipReport = serde_json::from_value(report).unwrap();
        let (lock, warnings) = report.into_lock(&target("glibc 2.36", "amd64")).unwrap();
        assert_eq!(lock.packages[0].project, "six");
        assert_eq!(lock.packages[0].wheels[0].url.as_deref(), Some("https://host/six-1.17.0-py2.py3-none-any.whl"));
        assert!(warnings[0].contains("Python 3.12"), "{warnings:?}");
    }
}
