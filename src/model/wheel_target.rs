//! What a wheel must be made for: a version of CPython, a machine, a C library; and which of several wheels is the best.
//!
//! The order of tags is that of `packaging.tags` (PEP 425, PEP 600, PEP 656), which pip and uv have: the newest ABI first, compiled before pure, the newest
//! C library first. No interpreter is asked: a [`Target`] is a value, made from what a runtime is said to be.
//!
//! What must stay true: of the same wheels the same one is chosen on every machine.

use std::collections::BTreeMap;
use std::fmt;

use super::python_package::WheelName;
use crate::oci::platform::Platform;

/// What wheels must be made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The version of CPython.
    pub python: PythonVersion,
    /// The machine, in Python's words: `x86_64`, `aarch64`.
    pub machine: String,
    /// The C library.
    pub libc: Libc,
}

/// A version of CPython.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PythonVersion {
    /// 3.
    pub major: u32,
    /// What decides which compiled packages fit.
    pub minor: u32,
    /// Where it is known.
    pub patch: Option<u32>,
}

/// A C library and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libc {
    /// GNU's: most distributions.
    Glibc(u32, u32),
    /// Alpine's.
    Musl(u32, u32),
}

/// Why a target cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TargetError {
    /// Not a version of Python.
    #[error("`{0}` is not a version of Python, such as `3.11`")]
    Python(String),
    /// Not a C library.
    #[error("`{0}` is not a C library and its version, such as `glibc 2.36` or `musl 1.2`")]
    Libc(String),
    /// No wheels are made for it.
    #[error("no wheels are made for {0}")]
    Platform(Platform),
}

impl std::str::FromStr for PythonVersion {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<PythonVersion, TargetError> {
        let refuse = || TargetError::Python(text.chars().take(40).collect());
        let mut parts = text.trim().split('.').map(str::parse::<u32>);
        let (Some(Ok(major @ 3)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return Err(refuse()) };
        // `3.13.0rc1`: the patch is of no weight, and what it is made of neither.
        Ok(PythonVersion { major, minor, patch: parts.next().and_then(Result::ok) })
    }
}

impl fmt::Display for PythonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl std::str::FromStr for Libc {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Libc, TargetError> {
        let refuse = || TargetError::Libc(text.chars().take(40).collect());
        let (name, version) = text.trim().split_once([' ', '-']).ok_or_else(refuse)?;
        let (major, minor) = version.split_once('.').ok_or_else(refuse)?;
        let numbers = (major.parse().map_err(|_| refuse())?, minor.parse().map_err(|_| refuse())?);
        match (name, numbers) {
            ("glibc", (2, minor @ 0..=99)) => Ok(Libc::Glibc(2, minor)),
            ("musl", (1, minor @ 0..=99)) => Ok(Libc::Musl(1, minor)),
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for Libc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Libc::Glibc(major, minor) => write!(f, "glibc {major}.{minor}"),
            Libc::Musl(major, minor) => write!(f, "musl {major}.{minor}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Python {}, {}, {}", self.python, self.libc, self.machine)
    }
}

impl Target {
    /// The target on a platform of an image.
    pub fn new(python: PythonVersion, libc: Libc, platform: &Platform) -> Result<Target, TargetError> {
        let machine = match (platform.os.as_str(), platform.architecture.as_str()) {
            ("linux", "amd64") => "x86_64",
            ("linux", "arm64") => "aarch64",
            ("linux", "arm") => "armv7l",
            ("linux", "386") => "i686",
            ("linux", other @ ("ppc64le" | "s390x" | "riscv64")) => other,
            _ => return Err(TargetError::Platform(platform.clone())),
        };
        Ok(Target { python, machine: machine.to_owned(), libc })
    }

    /// The platform tags, best first.
    pub fn platforms(&self) -> Vec<String> {
        let machine = &self.machine;
        let mut tags = Vec::new();
        match self.libc {
            Libc::Glibc(_, newest) => {
                // PEP 600: manylinux1 is glibc 2.5, and no machine but Intel's had one before manylinux2014.
                let oldest = if matches!(machine.as_str(), "x86_64" | "i686") { 5 } else { 17 };
                for minor in (oldest..=newest).rev() {
                    tags.push(format!("manylinux_2_{minor}_{machine}"));
                    let old_name = match minor {
                        17 => "manylinux2014",
                        12 => "manylinux2010",
                        5 => "manylinux1",
                        _ => continue,
                    };
                    tags.push(format!("{old_name}_{machine}"));
                }
            }
            Libc::Musl(major, newest) => tags.extend((0..=newest).rev().map(|minor| format!("musllinux_{major}_{minor}_{machine}"))),
        }
        tags.push(format!("linux_{machine}"));
        tags
    }

    /// `cp311`: the tag of the interpreter.
    pub fn interpreter(&self) -> String {
        format!("cp{}{}", self.python.major, self.python.minor)
    }

    /// The tag of the interpreter's own ABI; up to 3.7 it had a letter for its allocator.
    pub fn abi(&self) -> String {
        let letter = if self.python.minor < 8 { "m" } else { "" };
        format!("{}{letter}", self.interpreter())
    }

    /// How good a tag is, the best 0.
    fn ranks(&self) -> BTreeMap<String, usize> {
        let PythonVersion { major, minor, .. } = self.python;
        let (interpreter, platforms) = (self.interpreter(), self.platforms());
        let mut pairs =
            vec![(interpreter.clone(), self.abi()), (interpreter.clone(), "abi3".to_owned()), (interpreter.clone(), "none".to_owned())];
        // PEP 384: the stable ABI began with 3.2.
        pairs.extend((2..minor).rev().map(|minor| (format!("cp{major}{minor}"), "abi3".to_owned())));
        let any_version = || {
            [format!("py{major}{minor}"), format!("py{major}")].into_iter().chain((0..minor).rev().map(|minor| format!("py{major}{minor}")))
        };
        pairs.extend(any_version().map(|version| (version, "none".to_owned())));
        let compiled = pairs.iter().flat_map(|(python, abi)| platforms.iter().map(move |platform| format!("{python}-{abi}-{platform}")));
        let pure = [interpreter].into_iter().chain(any_version()).map(|python| format!("{python}-none-any"));
        let mut ranks = BTreeMap::new();
        for (rank, tag) in compiled.chain(pure).enumerate() {
            ranks.entry(tag).or_insert(rank);
        }
        ranks
    }

    /// Which of several wheels of one version fits best, by its place among them; `None`: not one fits.
    pub fn best<'a>(&self, wheels: impl IntoIterator<Item = &'a WheelName>) -> Option<usize> {
        let ranks = self.ranks();
        let fitting = wheels.into_iter().enumerate().filter_map(|(at, wheel)| {
            let rank = wheel.tags().filter_map(|tag| ranks.get(&tag)).min()?;
            // Of the same rank the later build (PEP 427), and then the name: never the order in which an index lists them.
            Some((*rank, std::cmp::Reverse(wheel.build.clone()), wheel.file_name.clone(), at))
        });
        fitting.min().map(|(.., at)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(python: &str, libc: &str) -> Target {
        Target::new(python.parse().unwrap(), libc.parse().unwrap(), &Platform::linux_amd64()).unwrap()
    }

    fn best(target: &Target, names: &[&str]) -> Option<String> {
        let wheels: Vec<WheelName> = names.iter().map(|name| WheelName::parse(name).unwrap()).collect();
        target.best(&wheels).map(|at| names[at].to_owned())
    }

    #[test]
    fn the_best_wheel_is_chosen_whatever_the_order() {
        let numpy = [
            "numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
            "numpy-2.4.6-cp311-cp311-musllinux_1_2_x86_64.whl",
            "numpy-2.4.6-cp312-cp312-manylinux_2_27_x86_64.whl",
            "numpy-2.4.6-cp311-cp311-macosx_14_0_arm64.whl",
            "numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.whl",
        ];
        let mut backwards = numpy;
        backwards.reverse();
        for names in [numpy, backwards] {
            assert_eq!(best(&target("3.11", "glibc 2.36"), &names).as_deref(), Some(numpy[0]));
            assert_eq!(best(&target("3.11.2", "musl 1.2"), &names).as_deref(), Some(numpy[1]));
            assert_eq!(best(&target("3.11", "glibc 2.17"), &names), None);
            assert_eq!(best(&target("3.13", "glibc 2.36"), &names), None);
        }
    }

    #[test]
    fn the_stable_abi_old_names_and_pure_wheels_fit() {
        let target = target("3.11", "glibc 2.36");
        let names = ["x-1-py3-none-any.whl", "x-1-cp38-abi3-manylinux2014_x86_64.whl", "x-1-cp37-abi3-manylinux1_x86_64.whl"];
        assert_eq!(best(&target, &names).as_deref(), Some(names[1]));
        assert_eq!(best(&target, &names[..1]).as_deref(), Some(names[0]));
        assert_eq!(best(&target, &["x-1-py2.py3-none-any.whl"]).as_deref(), Some("x-1-py2.py3-none-any.whl"));
        assert_eq!(best(&target, &["x-1-py2-none-any.whl", "x-1-cp312-abi3-manylinux2014_x86_64.whl"]), None);
        assert_eq!(best(&target, &["x-1-1-py3-none-any.whl", "x-1-2-py3-none-any.whl"]).as_deref(), Some("x-1-2-py3-none-any.whl"));
        assert_eq!(target.abi(), "cp311");
        assert_eq!(self::target("3.6", "glibc 2.24").abi(), "cp36m");
    }

    #[test]
    fn what_is_no_target_is_told() {
        for text in ["", "3", "2.7", "three", "3.x"] {
            assert!(text.parse::<PythonVersion>().is_err(), "{text}");
        }
        assert_eq!("3.13.0rc1".parse::<PythonVersion>().unwrap(), PythonVersion { major: 3, minor: 13, patch: None });
        for text in ["", "glibc", "glibc 3.1", "uclibc 1.0", "glibc 2"] {
            assert!(text.parse::<Libc>().is_err(), "{text}");
        }
        assert_eq!("glibc-2.36".parse::<Libc>().unwrap().to_string(), "glibc 2.36");
        let windows = Platform::new("windows", "amd64");
        assert!(Target::new("3.11".parse().unwrap(), Libc::Glibc(2, 36), &windows).is_err());
    }
}
