//! `pylock.toml`, the lock that Python's tools have agreed on (PEP 751): what uv prints when it is asked for one.
//!
//! Read are the wheels of each package, with their hashes; what comes from sources, from a repository or a folder is refused: no user code is run
//! in a build. Groups and extras are not: a lock is of all that it names.
//!
//! What must stay true: what comes out is what `requirements_lock.rs` has of the other form.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::python_package::WheelName;
use super::requirements_lock::{Lock, LockError, LockedPackage, LockedWheel, checked_name, is_marker, is_version};

/// How deep tables and lists may lie in each other; those of a lock are four.
const DEPTH_MAX: usize = 16;

#[derive(Deserialize)]
struct PyLock {
    #[serde(rename = "lock-version")]
    lock_version: String,
    #[serde(default)]
    packages: Vec<PyLockPackage>,
}

#[derive(Deserialize)]
struct PyLockPackage {
    name: String,
    version: Option<String>,
    marker: Option<String>,
    #[serde(default)]
    wheels: Vec<PyLockWheel>,
}

#[derive(Deserialize)]
struct PyLockWheel {
    name: Option<String>,
    url: Option<String>,
    path: Option<String>,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
}

/// Reads a lock; `file` is its name for errors.
pub(super) fn read(file: &str, text: &str) -> Result<Lock, LockError> {
    let refuse = |reason: String| LockError::Toml { file: file.to_owned(), reason };
    let text = dates_as_text(text).ok_or_else(|| refuse(format!("it is nested deeper than {DEPTH_MAX}")))?;
    let lock: PyLock = basic_toml::from_str(&text).map_err(|error| refuse(error.to_string()))?;
    if !lock.lock_version.starts_with("1.") {
        return Err(refuse(format!("its version is {}, not 1", lock.lock_version.escape_debug())));
    }
    let package = |package: PyLockPackage| {
        let project =
            checked_name(&package.name).ok_or_else(|| refuse(format!("`{}` is not a package's name", package.name.escape_debug())))?;
        let wheel = |wheel: PyLockWheel| {
            let hash = wheel.hashes.get("sha256").ok_or_else(|| refuse(format!("a wheel of `{project}` has no SHA-256")))?;
            let digest = format!("sha256:{hash}").parse().map_err(|_| refuse(format!("a hash of `{project}` is not a SHA-256")))?;
            let mut found = LockedWheel::at(digest, wheel.url.as_deref().or(wheel.path.as_deref()).unwrap_or_default());
            found.file_name = wheel.name.filter(|name| WheelName::parse(name).is_ok()).or(found.file_name);
            Ok(found)
        };
        let wheels = package.wheels.into_iter().map(wheel).collect::<Result<_, LockError>>()?;
        let version = package.version.ok_or_else(|| refuse(format!("`{project}` has no version: it comes from sources")))?;
        if !is_version(&version) {
            return Err(refuse(format!("`{}` is not a version of `{project}`", version.escape_debug())));
        }
        if package.marker.as_ref().is_some_and(|marker| !is_marker(marker)) {
            return Err(refuse(format!("what `{project}` has for a marker is none")));
        }
        Ok(LockedPackage { project, version, marker: package.marker, wheels })
    };
    Ok(Lock { packages: lock.packages.into_iter().map(package).collect::<Result<_, _>>()?, ..Lock::default() })
}

/// TOML's dates as texts: the parser knows none, and when a wheel was uploaded says nothing here. `None`: something is nested deeper than any lock, and the
/// parser calls itself for each step.
fn dates_as_text(text: &str) -> Option<String> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    let mut quote: Option<&str> = None;
    let (mut depth, mut dots) = (0usize, 0);
    while let Some(first) = rest.chars().next() {
        let mut length = first.len_utf8();
        match (quote, first) {
            (Some(end), '\\') if end != "'" && end != "'''" => length += rest[1..].chars().next().map_or(0, char::len_utf8),
            (Some(end), _) if rest.starts_with(end) => {
                length = end.len();
                // Of a text of several lines up to two quotes may be its last letters.
                while end.len() == 3 && length < 5 && rest[length..].starts_with(first) {
                    length += 1;
                }
                quote = None;
            }
            (Some(_), _) => {}
            (None, '"' | '\'') => {
                let three = if first == '"' { "\"\"\"" } else { "'''" };
                let end = if rest.starts_with(three) { three } else { &three[..1] };
                (quote, length) = (Some(end), end.len());
            }
            (None, '#') => length = rest.find('\n').unwrap_or(rest.len()),
            (None, '0'..='9') if is_date(rest) => {
                let end = rest
                    .find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '-' | ':' | '.' | '+')))
                    .unwrap_or(rest.len());
                let _ = write!(out, "\"{}\"", &rest[..end]);
                rest = &rest[end..];
                continue;
            }
            // A table within a table can be written with brackets or as `a.b.c`.
            (None, '[' | '{') => (depth, dots) = (depth + 1, 0),
            (None, ']' | '}') => (depth, dots) = (depth.saturating_sub(1), 0),
            (None, ',' | '=' | '\n') => dots = 0,
            (None, '.') => dots += 1,
            (None, _) => {}
        }
        if depth > DEPTH_MAX || dots > DEPTH_MAX {
            return None;
        }
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    Some(out)
}

/// Whether a text begins as `2026-11-25`.
fn is_date(text: &str) -> bool {
    text.len() > 9
        && text.bytes().take(10).enumerate().all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nested_too_deep_is_refused_before_it_is_parsed() {
        let begin = "lock-version = '1.0'\n";
        let texts = ["a = 'x', b = \"\"\"\"y\"\"\"\"\"\n", "a = '''it's \" '''\n", "a = \"\\\"\"\n"];
        for before in texts {
            for nested in [
                "x = ".to_owned() + &"[".repeat(200_000),
                "x = ".to_owned() + &"{a=".repeat(200_000),
                "a.".repeat(200_000),
                "[".to_owned() + &"\"a\".".repeat(200_000),
            ] {
                let error = read("pylock.toml", &[begin, before, &nested].concat()).unwrap_err();
                assert!(error.to_string().contains("nested deeper than 16"), "{error}");
            }
        }
        // Brackets and dots in texts and comments are none.
        let many = "[{a.".repeat(40);
        let text = format!("{begin}a = \"{many}\" # {many}\nb = '''{many}'''\nc = [2026-11-25T06:48:00.5Z, 2026-11-25]\n");
        assert_eq!(read("pylock.toml", &text).unwrap(), Lock::default());
    }

    #[test]
    fn what_cannot_stand_in_a_lock_of_lines_is_refused() {
        let lock = |package: &str| read("pylock.toml", &format!("lock-version = '1.0'\n[[packages]]\nname = 'six'\n{package}\n"));
        assert!(lock("version = '1.17.0'").is_ok());
        for package in ["version = \"1\\nevil==1\"", "version = ''", "version = '1'\nmarker = \"a\\nb\"", ""] {
            assert!(lock(package).is_err(), "{package}");
        }
    }
}
