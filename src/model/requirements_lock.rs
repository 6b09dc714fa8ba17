//! `requirements.lock`: which wheels a model's requirements are, by their hashes.
//!
//! Read are the form of `pip freeze` with hashes, which pip-compile and uv write too, and `pylock.toml` (PEP 751). Written is the first, which pip and uv read:
//! what hs knows beyond it (where a wheel was found, what was resolved and for what) stands in comments. A lock names packages by version and wheels
//! by SHA-256, several where it is meant for several machines; which of them is for a target is decided by `wheel_target.rs`.
//!
//! What must stay true: nothing is in a lock whose bytes cannot be told from others, and no address in it has a password.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::marker::{self, MarkerError};
use super::pylock;
use super::python_package::{WheelName, is_name, normalised};
use super::requirements_text::{decode, logical_lines};
use super::wheel_target::Target;
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;

/// The file's name in a model's folder.
pub const FILE_NAME: &str = "requirements.lock";
/// The largest lock that is read.
pub const LOCK_BYTES_MAX: u64 = 1 << 20;
/// The most packages.
const PACKAGES_MAX: usize = 10_000;

const MADE_FROM: &str = "# requirements: ";
const MADE_FOR: &str = "# target: ";
const WHEEL: &str = "# wheel: ";

/// The packages of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// The bytes of the requirements that hs resolved; `None`: somebody else wrote it.
    pub made_from: Option<Digest>,
    /// What hs resolved them for.
    pub made_for: Vec<String>,
    /// In the order of their names.
    pub packages: Vec<LockedPackage>,
}

/// One package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedPackage {
    /// The project, normalised.
    pub project: String,
    /// Its version.
    pub version: String,
    /// For which targets; `None`: all.
    pub marker: Option<String>,
    /// Its files: wheels, and perhaps others whose names are not known.
    pub wheels: Vec<LockedWheel>,
}

/// One wheel of a package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockedWheel {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its name, where it is known.
    pub file_name: Option<String>,
    /// Where it can be had, where that is known.
    pub url: Option<String>,
}

/// The wheel of a package for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenWheel {
    /// The project, normalised.
    pub project: String,
    /// Its version.
    pub version: String,
    /// What its name says.
    pub name: WheelName,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Where it can be had, where that is known.
    pub url: Option<String>,
}

/// Why a lock does not serve.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Not text.
    #[error("the lock `{0}` is not text in UTF-8 or UTF-16")]
    NotText(String),
    /// A line that is not one of a lock.
    #[error("the lock `{file}`, line {line}: {reason}")]
    Line {
        /// Which file.
        file: String,
        /// Which line.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Not a `pylock.toml`.
    #[error("the lock `{file}` cannot be read: {reason}")]
    Toml {
        /// Which file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Two versions of one package.
    #[error("the lock has `{0}` twice for one target")]
    Twice(String),
    /// A marker.
    #[error("the lock's `{project}`")]
    Marker {
        /// Whose.
        project: String,
        /// What is wrong.
        #[source]
        source: MarkerError,
    },
    /// No file of the package is a wheel that fits.
    #[error("`{project}` {version} has no wheel for {target}{instead}")]
    NoWheel {
        /// Which package.
        project: String,
        /// Its version.
        version: String,
        /// For what.
        target: String,
        /// What there is, for the end of the sentence.
        instead: String,
    },
}

impl Failure for LockError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }

    fn remedy(&self) -> Option<String> {
        match self {
            LockError::NoWheel { .. } => Some(NO_WHEEL_REMEDY.to_owned()),
            LockError::Line { .. } | LockError::Toml { .. } | LockError::Twice(_) | LockError::Marker { .. } => Some(
                "write the lock with hashes (`uv pip compile --generate-hashes`), or remove it, and the requirements are resolved anew"
                    .to_owned(),
            ),
            LockError::NotText(_) => Some("save it as UTF-8".to_owned()),
        }
    }
}

/// What to do where a package has no wheel.
pub const NO_WHEEL_REMEDY: &str = "require a version that has one, or build the wheel (`pip wheel`) and name its folder with `--wheels`";

/// Reads a lock of either form; `file` is its name for errors.
pub fn read(file: &str, bytes: &[u8]) -> Result<Lock, LockError> {
    let text = decode(bytes).ok_or_else(|| LockError::NotText(file.to_owned()))?;
    let is_toml = text.lines().any(|line| line.trim_start().starts_with("lock-version"));
    let mut lock = if is_toml { pylock::read(file, &text)? } else { read_lines(file, &text)? };
    if lock.packages.len() > PACKAGES_MAX {
        return Err(LockError::Toml { file: file.to_owned(), reason: format!("it has more than {PACKAGES_MAX} packages") });
    }
    lock.packages.sort_by(|a, b| (&a.project, &a.version, &a.marker).cmp(&(&b.project, &b.version, &b.marker)));
    Ok(lock)
}

fn read_lines(file: &str, text: &str) -> Result<Lock, LockError> {
    let mut lock = Lock::default();
    let mut wheels: BTreeMap<Digest, LockedWheel> = BTreeMap::new();
    for comment in text.lines().map(str::trim) {
        if let Some(digest) = comment.strip_prefix(MADE_FROM) {
            lock.made_from = digest.parse().ok();
        } else if let Some(target) = comment.strip_prefix(MADE_FOR) {
            lock.made_for.push(target.to_owned());
        } else if let Some((digest, place)) = comment.strip_prefix(WHEEL).and_then(|wheel| wheel.split_once(' '))
            && let Ok(digest) = digest.parse()
        {
            wheels.insert(digest, LockedWheel::at(digest, place));
        }
    }
    for line in logical_lines(text) {
        let text = line.text.as_str();
        let refuse = |reason: String| LockError::Line { file: file.to_owned(), line: line.line, reason };
        if text.starts_with("--") {
            // Where packages come from is this machine's matter; what a compiler of locks writes there says it for other tools.
            continue;
        }
        lock.packages.push(package_of(text, &wheels).map_err(refuse)?);
    }
    Ok(lock)
}

/// `name==version ; marker --hash=sha256:… --hash=sha256:…`.
fn package_of(text: &str, known: &BTreeMap<Digest, LockedWheel>) -> Result<LockedPackage, String> {
    let (requirement, hashes) =
        text.split_once(" --hash").map_or((text, String::new()), |(before, after)| (before, format!(" --hash{after}")));
    let (pinned, marker) =
        requirement.split_once(';').map_or((requirement, None), |(pinned, marker)| (pinned, Some(marker.trim().to_owned())));
    let shown = || pinned.chars().take(100).collect::<String>().escape_debug().to_string();
    let (name, version) = pinned.split_once("==").ok_or_else(|| format!("`{}` is not `NAME==VERSION`", shown()))?;
    // The extras have been resolved: what they ask for has lines of its own.
    let name = name.split('[').next().unwrap_or(name).trim();
    let project = checked_name(name).ok_or_else(|| format!("`{}` does not begin with a package's name", shown()))?;
    let version = version.trim().trim_start_matches('=');
    if !is_version(version) {
        return Err(format!("`{}` does not say one version", shown()));
    }
    if marker.as_ref().is_some_and(|marker| !is_marker(marker)) {
        return Err(format!("what stands behind `{};` is not a marker", shown()));
    }
    let words = hashes.replace("--hash ", "--hash=");
    let mut wheels = BTreeSet::new();
    for word in words.split_whitespace() {
        let Some(hash) = word.strip_prefix("--hash=") else { return Err(format!("`{}` has an option that is not `--hash`", shown())) };
        // Other algorithms may stand beside SHA-256; alone they are of no use here.
        let Some(hex) = hash.strip_prefix("sha256:") else { continue };
        let digest: Digest = format!("sha256:{hex}").parse().map_err(|_| format!("a hash of `{project}` is not a SHA-256"))?;
        wheels.insert(known.get(&digest).cloned().unwrap_or(LockedWheel { digest, file_name: None, url: None }));
    }
    if wheels.is_empty() {
        return Err(format!("`{project}` has no SHA-256, so its bytes could not be told from others"));
    }
    Ok(LockedPackage { project, version: version.to_owned(), marker, wheels: wheels.into_iter().collect() })
}

/// Which targets want a package, and its wheels for them.
type Wanted<'a> = (Vec<&'a Target>, BTreeSet<LockedWheel>);

impl Lock {
    /// The lock as a file, in the form of `pip freeze` with hashes.
    pub fn to_text(&self) -> String {
        let mut out =
            String::from("# The wheels of `requirements.txt`, chosen by hs. Keep this file, and every build installs the same bytes;\n");
        out.push_str("# remove it, and they are chosen anew. It is not shipped with the model.\n");
        if let Some(digest) = &self.made_from {
            let _ = writeln!(out, "{MADE_FROM}{digest}");
        }
        for target in &self.made_for {
            let _ = writeln!(out, "{MADE_FOR}{target}");
        }
        for package in &self.packages {
            let marker = package.marker.as_ref().map(|marker| format!(" ; {marker}")).unwrap_or_default();
            let _ = write!(out, "{}=={}{marker}", package.project, package.version);
            out.extend(package.wheels.iter().map(|wheel| format!(" \\\n    --hash={}", wheel.digest)));
            out.push('\n');
            for wheel in &package.wheels {
                if let Some(place) = wheel.url.as_ref().or(wheel.file_name.as_ref()) {
                    let _ = writeln!(out, "    {WHEEL}{} {place}", wheel.digest);
                }
            }
        }
        out
    }

    /// Whether hs made it of other requirements, or for another target, than these.
    pub fn is_stale(&self, requirements: &Digest, targets: &[Target]) -> bool {
        let others = || targets.iter().any(|target| !self.made_for.contains(&target.to_string()));
        self.made_from.is_some_and(|made_from| made_from != *requirements || others())
    }

    /// The packages for a target.
    pub fn of_target(&self, target: &Target) -> Result<Vec<&LockedPackage>, LockError> {
        let mut packages: Vec<&LockedPackage> = Vec::new();
        for package in &self.packages {
            let marker = package.marker.as_ref().map_or(Ok(true), |marker| marker::holds(marker, target));
            if !marker.map_err(|source| LockError::Marker { project: package.project.clone(), source })? {
                continue;
            }
            if packages.last().is_some_and(|before| before.project == package.project) {
                return Err(LockError::Twice(package.project.clone()));
            }
            packages.push(package);
        }
        Ok(packages)
    }

    /// Joins what was resolved for several machines.
    pub fn join(made_from: Digest, of_targets: &[(Target, Lock)]) -> Lock {
        let mut packages: BTreeMap<(String, String), Wanted<'_>> = BTreeMap::new();
        for (target, lock) in of_targets {
            for package in &lock.packages {
                let (targets, wheels) = packages.entry((package.project.clone(), package.version.clone())).or_default();
                targets.push(target);
                wheels.extend(package.wheels.iter().cloned());
            }
        }
        let joined = packages.into_iter().map(|((project, version), (targets, wheels))| {
            let is_for_all = targets.len() == of_targets.len();
            let markers: Vec<String> = targets.iter().map(|target| marker::of_machine(target)).collect();
            LockedPackage { project, version, marker: (!is_for_all).then(|| markers.join(" or ")), wheels: wheels.into_iter().collect() }
        });
        Lock {
            made_from: Some(made_from),
            made_for: of_targets.iter().map(|(target, _)| target.to_string()).collect(),
            packages: joined.collect(),
        }
    }
}

impl LockedWheel {
    /// A wheel at an address. Of one on this machine, or one that is signed for a while, only the name is kept: it says nothing to another machine or day.
    pub fn at(digest: Digest, address: &str) -> LockedWheel {
        let lasts = ["https://", "http://"].iter().any(|scheme| address.starts_with(scheme))
            && !address.contains('?')
            && !address.contains(|letter: char| letter.is_whitespace() || letter.is_control());
        LockedWheel { digest, file_name: last_of(address), url: lasts.then(|| without_secrets(address)) }
    }
}

impl ChosenWheel {
    /// The package with this wheel alone.
    pub fn as_locked(&self) -> LockedPackage {
        let wheel = LockedWheel { digest: self.digest, file_name: Some(self.name.file_name.clone()), url: self.url.clone() };
        LockedPackage { project: self.project.clone(), version: self.version.clone(), marker: None, wheels: vec![wheel] }
    }
}

impl LockedPackage {
    /// The best wheel for a target among those whose names are known.
    pub fn choose(&self, target: &Target) -> Result<ChosenWheel, LockError> {
        let named = self.wheels.iter().filter_map(|wheel| Some((wheel, WheelName::parse(wheel.file_name.as_deref()?).ok()?)));
        // A hash under another project's name is another project's.
        let named: Vec<(&LockedWheel, WheelName)> = named.filter(|(_, name)| name.project == self.project).collect();
        let Some(best) = target.best(named.iter().map(|(_, name)| name)) else {
            let names: Vec<&str> = named.iter().take(3).map(|(_, name)| name.file_name.as_str()).collect();
            let instead = if names.is_empty() { String::new() } else { format!("; it has {}", names.join(", ")) };
            let (project, version) = (self.project.clone(), self.version.clone());
            return Err(LockError::NoWheel { project, version, target: target.to_string(), instead });
        };
        let (wheel, name) = named[best].clone();
        Ok(ChosenWheel { project: self.project.clone(), version: self.version.clone(), name, digest: wheel.digest, url: wheel.url.clone() })
    }
}

/// Whether a text can stand as a marker on a line of a lock; `marker.rs` says what it means.
pub(super) fn is_marker(text: &str) -> bool {
    !text.contains("--") && !text.contains(['#', '\\']) && !text.contains(char::is_control) && marker::check(text).is_ok()
}

/// Whether a text is one version; PEP 440 says more, and only the index that it came from has to know it.
pub(super) fn is_version(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '+' | '!' | '-' | '_'))
}

pub(super) fn checked_name(name: &str) -> Option<String> {
    is_name(name).then(|| normalised(name))
}

/// The file's name at the end of an address or a path.
fn last_of(place: &str) -> Option<String> {
    let name = place.split(['?', '#']).next()?.rsplit(['/', '\\']).next()?.replace("%2B", "+").replace("%2b", "+");
    WheelName::parse(&name).ok().map(|wheel| wheel.file_name)
}

/// An address without user, password and fragment.
fn without_secrets(url: &str) -> String {
    let url = url.split('#').next().unwrap_or(url);
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::wheel_target::Libc;
    use crate::oci::platform::Platform;

    fn target(architecture: &str) -> Target {
        Target::new("3.11".parse().unwrap(), Libc::Glibc(2, 36), &Platform::new("linux", architecture)).unwrap()
    }

    fn hash(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    #[test]
    fn the_form_of_pip_and_uv_is_read() {
        let text = format!(
            "# This file was autogenerated by uv\n--index-url https://host/simple\nClick[x]==8.1.7 ; python_version >= '3.7' \\\n    --hash={} \\\n    --hash={}\n    # via -r requirements.in\ncolorama==0.4.6 ; sys_platform == 'win32' --hash={}\n",
            hash("a"),
            hash("b"),
            hash("c")
        );
        let lock = read("requirements.lock", text.as_bytes()).unwrap();
        let packages = lock.of_target(&target("amd64")).unwrap();
        assert_eq!(packages.len(), 1);
        assert_eq!((packages[0].project.as_str(), packages[0].version.as_str(), packages[0].wheels.len()), ("click", "8.1.7", 2));
        assert_eq!(lock.made_from, None);
        assert!(!lock.is_stale(&hash("any"), &[target("amd64")]), "somebody else's lock is taken at its word");
        for bad in ["click>=8", "click==8.*", "click", "click==8 --hash=sha256:12", "click==8 --hash=sha256:1 --pre", "==1"] {
            assert!(matches!(read("l", bad.as_bytes()), Err(LockError::Line { line: 1, .. })), "{bad}");
        }
        for unproven in ["six==1.16.0", "six==1.16.0 --hash=md5:d41d8cd98f00b204e9800998ecf8427e", "six==1.16.0 --hash=sha512:12"] {
            let error = read("l", unproven.as_bytes()).unwrap_err().to_string();
            assert_eq!(error, "the lock `l`, line 1: `six` has no SHA-256, so its bytes could not be told from others");
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_has_no_password() {
        let toml = format!(
            "lock-version = \"1.0\"\n[[packages]]\nname = \"NumPy\"\nversion = \"2.4.6\"\nwheels = [{{ url = \"https://user:secret@host/f/numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl#x\", upload-time = 2026-05-18T23:33:29Z, size = 7, hashes = {{ sha256 = \"{}\" }} }}, {{ path = \"w/numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.whl\", hashes = {{ sha256 = \"{}\" }} }}]\n",
            hash("x86").hex(),
            hash("arm").hex()
        );
        let read_toml = read("pylock.toml", toml.as_bytes()).unwrap();
        let lock = Lock { made_from: Some(hash("requirements")), made_for: vec![target("amd64").to_string()], ..read_toml };
        let text = lock.to_text();
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(read("requirements.lock", text.as_bytes()).unwrap(), {
            let mut sorted = lock.clone();
            sorted.packages[0].wheels.sort();
            sorted
        });
        let chosen = lock.packages[0].choose(&target("arm64")).unwrap();
        assert_eq!((chosen.digest, chosen.url), (hash("arm"), None));
        let chosen = lock.packages[0].choose(&target("amd64")).unwrap();
        assert_eq!(chosen.url.as_deref(), Some("https://host/f/numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl"));
        let error = lock.packages[0].choose(&target("s390x")).unwrap_err().to_string();
        assert!(error.starts_with("`numpy` 2.4.6 has no wheel for Python 3.11, glibc 2.36, s390x; it has numpy-2.4.6-"), "{error}");
        assert!(!lock.is_stale(&hash("requirements"), &[target("amd64")]));
        assert!(lock.is_stale(&hash("others"), &[target("amd64")]) && lock.is_stale(&hash("requirements"), &[target("arm64")]));
    }

    #[test]
    fn locks_of_several_machines_are_joined() {
        let one = |project: &str, version: &str, wheel: &str| LockedPackage {
            project: project.to_owned(),
            version: version.to_owned(),
            marker: None,
            wheels: vec![LockedWheel { digest: hash(wheel), file_name: None, url: None }],
        };
        let of = |packages| Lock { packages, ..Lock::default() };
        let (amd64, arm64) = (target("amd64"), target("arm64"));
        let locks = [
            (amd64.clone(), of(vec![one("a", "1", "x"), one("b", "1", "y")])),
            (arm64.clone(), of(vec![one("a", "1", "z"), one("b", "2", "y")])),
        ];
        let joined = Lock::join(hash("r"), &locks);
        let joined = read("requirements.lock", joined.to_text().as_bytes()).unwrap();
        let versions = |target| {
            joined.of_target(target).unwrap().iter().map(|package| format!("{} {}", package.project, package.version)).collect::<Vec<_>>()
        };
        assert_eq!(versions(&amd64), ["a 1", "b 1"]);
        assert_eq!(versions(&arm64), ["a 1", "b 2"]);
        assert!(!joined.is_stale(&hash("r"), &[amd64, arm64]));
    }
}
