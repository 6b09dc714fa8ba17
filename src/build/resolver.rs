//! Requirements -> the wheels that meet them, by a resolver of this machine: uv, else pip.
//!
//! Both are asked for another machine than this one (the runtime's Python, C library and processor), for wheels only, and for nothing but an answer: nothing is
//! installed, no source is built, no user's code runs. Both have their user's own settings. uv is the first choice: it judges markers for the target, where
//! pip judges them by the Python that it runs on. Why there is no answer is `resolver_error.rs`.
//!
//! What must stay true: what goes to a resolver has been through `model/requirements.rs`, so that no line of it names a file or an address; what comes back
//! is a lock with a hash for every wheel, and where the requirements have hashes it is one of these.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use url::Url;

use super::index_settings::IndexSettings;
use super::index_trouble::PipLog;
use super::pip_report::PipReport;
use super::resolver_error::{Called, ResolveError};
use super::resolver_process;
use super::resolver_words::{self, Said};
use crate::disk::wheel_folder;
use crate::model::requirements_lock::{self, Lock};
use crate::model::wheel_target::{Libc, Target};
use crate::oci::digest::Digest;

/// A resolver that has not ended in so long is waiting for somebody.
const PATIENCE: Duration = Duration::from_mins(15);
/// The versions of glibc that uv has words for; another is taken for the next lower one.
const UV_GLIBCS: [u32; 12] = [17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40];
/// What every `pylock.toml` has (PEP 751).
const LOCK_VERSION: &[u8] = b"lock-version";
/// How much of pip's log is read.
const LOG_LINES_MAX: usize = 1_000_000;

/// A resolver: the words that run it, and where they came from.
#[derive(Clone, Debug)]
pub struct Program {
    /// A program, or a Python and `-m pip`; not empty.
    pub words: Vec<OsString>,
    /// The variable that names it; `None`: it was found in `PATH`.
    pub variable: Option<&'static str>,
}

/// The resolvers of this machine.
#[derive(Clone, Debug, Default)]
pub struct Resolvers {
    /// uv.
    pub uv: Option<Program>,
    /// pip.
    pub pip: Option<Program>,
    /// Where packages come from.
    pub index: IndexSettings,
    /// Folders of wheels.
    pub wheels: Vec<PathBuf>,
}

/// What is asked.
pub struct Question<'a> {
    /// Requirements, a line each.
    pub requirements: &'a str,
    /// The SHA-256 that a project's wheel may have. Where any has one, every project needs one; empty: all are taken as they come.
    pub hashes: &'a BTreeMap<String, BTreeSet<Digest>>,
    /// For what.
    pub target: &'a Target,
    /// Whether what they require in their turn is wanted as well.
    pub dependencies: bool,
    /// A folder for what the resolver has to find in files.
    pub scratch: &'a Path,
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
        let answer = self.resolve_anyhow(question).await.map_err(|error| self.damaged(error))?;
        Ok(Answer { lock: with_hashes(answer.lock, question.hashes)?, ..answer })
    }

    async fn resolve_anyhow(&self, question: &Question<'_>) -> Result<Answer, ResolveError> {
        if self.wheels.is_empty() {
            return self.ask(question, false).await;
        }
        let of_folders = match self.ask(question, true).await {
            Err(error) if error.is_a_lack() => error,
            answered => return answered,
        };
        // Where the index cannot be used, what the folders lack is half of the news.
        match self.ask(question, false).await {
            Err(index @ (ResolveError::Index { .. } | ResolveError::Failed { .. } | ResolveError::Patience(_))) => {
                Err(ResolveError::Neither { of_folders: Box::new(of_folders), index: Box::new(index) })
            }
            answered => answered,
        }
    }

    /// The wheel that a resolver stumbled over, where one of the user's folders has it.
    fn damaged(&self, error: ResolveError) -> ResolveError {
        let damage = wheel_folder::find_damage(&self.wheels, &|wheel| error.is_about(wheel));
        damage.map_or(error, ResolveError::Folder)
    }

    async fn ask(&self, question: &Question<'_>, only_folders: bool) -> Result<Answer, ResolveError> {
        match (&self.uv, &self.pip, uv_platform(question.target)) {
            (Some(uv), _, Some(platform)) => self.ask_uv(uv, &platform, question, only_folders).await,
            (_, Some(pip), _) => self.ask_pip(pip, question, only_folders).await,
            _ => Err(ResolveError::NoResolver),
        }
    }

    async fn ask_uv(&self, uv: &Program, platform: &str, question: &Question<'_>, only_folders: bool) -> Result<Answer, ResolveError> {
        let mut command = uv.command()?;
        command.args(["pip", "compile", "--no-progress", "--no-header", "--format", "pylock.toml", "--generate-hashes"]);
        command.args(["--only-binary", ":all:", "--python-version", &question.target.python.to_string(), "--python-platform", platform]);
        command.arg("--system");
        if !question.dependencies {
            command.arg("--no-deps");
        }
        self.add_places(&mut command, only_folders);
        command.envs(self.index.paths.iter().cloned());
        // An option that is given twice is an error to uv.
        let of_pip = self.index.options_for_uv().into_iter().filter(|option| !only_folders || option != "--no-index");
        command.args(of_pip).envs(self.index.variables_for_uv());
        let Ran { answer, printed, .. } = run(command, &uv.called("uv"), question).await?;
        let failed = |source| ResolveError::Answer { called: uv.called("uv"), source };
        // A lock of nothing has a version all the same; what says nothing at all is no uv.
        if !answer.windows(LOCK_VERSION.len()).any(|found| found == LOCK_VERSION) {
            return Err(failed("it is no `pylock.toml`".into()));
        }
        let lock = requirements_lock::read("uv's answer", &answer).map_err(|source| failed(source.into()))?;
        Ok(Answer { lock, folders: folders_in(&answer), warnings: resolver_words::extras(&printed) })
    }

    async fn ask_pip(&self, pip: &Program, question: &Question<'_>, only_folders: bool) -> Result<Answer, ResolveError> {
        let target = question.target;
        let mut command = pip.command()?;
        command.args([
            "install",
            "--dry-run",
            "--quiet",
            "--ignore-installed",
            "--disable-pip-version-check",
            "--no-input",
            "--report",
            PIP_REPORT,
        ]);
        // What happens on the way it tells its log alone; and where there is one it draws how far a download is, however quiet it shall be.
        command.args(["--log", PIP_LOG, "--progress-bar", "off"]);
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
        command.args(["--target", "never-made"]);
        if !question.dependencies {
            command.arg("--no-deps");
        }
        self.add_places(&mut command, only_folders);
        command.envs(self.index.paths.iter().cloned());
        command.arg("-r");
        let Ran { report, log, .. } = run(command, &pip.called("pip"), question).await?;
        let failed = |source| ResolveError::Answer { called: pip.called("pip"), source };
        let answer = report.map_err(|source| failed(source.into()))?;
        let report: PipReport = serde_json::from_slice(&answer).map_err(|source| failed(source.into()))?;
        let (lock, mut warnings) = report.into_lock(target).map_err(|source| failed(source.into()))?;
        warnings.extend(log.troubles().iter().map(|trouble| {
            format!(
                "pip passed over the package index {}: {}; the packages are from elsewhere, and may be others",
                trouble.host, trouble.cause
            )
        }));
        warnings.extend(log.extras().iter().cloned());
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

impl Program {
    fn command(&self) -> Result<Command, ResolveError> {
        let (program, words) = self.words.split_first().ok_or(ResolveError::NoResolver)?;
        let mut command = Command::new(program);
        command.args(words);
        Ok(command)
    }

    /// What it is called in messages.
    fn called(&self, name: &'static str) -> Called {
        let words: Vec<_> = self.words.iter().map(|word| word.to_string_lossy()).collect();
        Called { name, words: words.join(" "), variable: self.variable }
    }
}

/// The wheels that may be, where the requirements have hashes: of every package that was chosen one must.
fn with_hashes(mut lock: Lock, hashes: &BTreeMap<String, BTreeSet<Digest>>) -> Result<Lock, ResolveError> {
    if hashes.is_empty() {
        return Ok(lock);
    }
    for package in &mut lock.packages {
        let name = || format!("{}=={}", package.project, package.version);
        let Some(wanted) = hashes.get(&package.project) else {
            return Err(ResolveError::Hash(format!("`{}` is required by another package and has no hash, and others have", name())));
        };
        let found: Vec<Digest> = package.wheels.iter().map(|wheel| wheel.digest).collect();
        let name = name();
        package.wheels.retain(|wheel| wanted.contains(&wheel.digest));
        if package.wheels.is_empty() {
            let wanted: Vec<String> = wanted.iter().take(3).map(Digest::to_string).collect();
            let found: Vec<String> = found.iter().take(3).map(Digest::to_string).collect();
            let said = format!("`{name}` must be {}, and what there is is {}", wanted.join(" or "), found.join(" or "));
            return Err(ResolveError::Hash(said));
        }
    }
    Ok(lock)
}

/// pip's log and its answer, in the folder that it runs in.
const PIP_LOG: &str = "pip.log";
const PIP_REPORT: &str = "report.json";

/// What a resolver that had an answer has left.
struct Ran {
    answer: Vec<u8>,
    /// What pip wrote as a file; uv writes none.
    report: io::Result<Vec<u8>>,
    printed: String,
    log: PipLog,
}

/// Runs a resolver whose last argument is the file of requirements.
async fn run(mut command: Command, called: &Called, question: &Question<'_>) -> Result<Ran, ResolveError> {
    let failed = |source| ResolveError::Run { program: called.name, source };
    let folder = resolver_process::folder(question.scratch).map_err(failed)?;
    let file = folder.path().join("requirements.in");
    tokio::fs::write(&file, question.requirements).await.map_err(failed)?;
    // uv looks for settings and for an environment, whose Python it runs, in the folder that it is in and in all above, and a folder for temporary files
    // lies below one that anybody may write to: our own settings, which are none, end the one search, and the system's Python (`--system`) is the other's end.
    tokio::fs::write(folder.path().join("uv.toml"), "").await.map_err(failed)?;
    command.arg("requirements.in");
    let ended = tokio::time::timeout(PATIENCE, resolver_process::run(command, folder.path())).await;
    let ended = ended.map_err(|_| ResolveError::Patience(called.name))?.map_err(|source| ResolveError::of_start(called, source))?;
    let log = read_log(&folder.path().join(PIP_LOG));
    let printed = String::from_utf8_lossy(&ended.stderr);
    // Where it ran is of no use to anybody, and no business of a service's client.
    let printed = printed.replace(&format!("{}/", folder.path().display()), "");
    if ended.status.success() {
        let report = read_report(&folder.path().join(PIP_REPORT));
        return Ok(Ran { answer: ended.stdout, report, printed, log });
    }
    let target = question.target.to_string();
    Err(match resolver_words::read(&printed, &log) {
        Said::NoWheel { package, said } => ResolveError::NoWheel { package, target, said },
        Said::NoPackage { package, said } => ResolveError::NoPackage { package, said },
        Said::Unmet(said) => ResolveError::Unmet { target, said },
        Said::Index(trouble) => ResolveError::Index(trouble),
        Said::Hash(said) => ResolveError::Hash(said),
        Said::Other(said) if said.is_empty() => ResolveError::Silent { called: called.clone(), status: ended.status },
        Said::Other(said) => ResolveError::Failed { program: called.name, said },
    })
}

fn read_report(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(resolver_process::SAID_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What pip's log says of indexes; uv has none.
fn read_log(path: &Path) -> PipLog {
    let mut log = PipLog::default();
    let Ok(file) = File::open(path) else { return log };
    BufReader::new(file).split(b'\n').take(LOG_LINES_MAX).map_while(Result::ok).for_each(|line| log.line(&String::from_utf8_lossy(&line)));
    log
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
}
