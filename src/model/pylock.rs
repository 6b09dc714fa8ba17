//! `pylock.toml`, the lock that Python's tools have agreed on (PEP 751): what uv prints when it is asked for one.
//!
//! Read are the wheels of each package, with their hashes; what comes from sources, from a repository or a folder is refused: no user code is run
//! in a build. Groups and extras are not: a lock is of all that it names.
//!
//! What must stay true: what comes out is what `requirements_lock.rs` has of the other form.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::requirements_lock::{Lock, LockError, LockedPackage, LockedWheel, checked_name};

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
    let lock: PyLock = basic_toml::from_str(&dates_as_text(text)).map_err(|error| refuse(error.to_string()))?;
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
            found.file_name = wheel.name.or(found.file_name);
            Ok(found)
        };
        let wheels = package.wheels.into_iter().map(wheel).collect::<Result<_, LockError>>()?;
        let version = package.version.ok_or_else(|| refuse(format!("`{project}` has no version: it comes from sources")))?;
        Ok(LockedPackage { project, version, marker: package.marker, wheels })
    };
    Ok(Lock { packages: lock.packages.into_iter().map(package).collect::<Result<_, _>>()?, ..Lock::default() })
}

/// TOML's dates as texts: the parser knows none, and when a wheel was uploaded says nothing here.
fn dates_as_text(text: &str) -> String {
    let (mut out, mut rest, mut quote) = (String::with_capacity(text.len()), text, None);
    let is_date = |text: &str| {
        text.len() > 9
            && text.bytes().take(10).enumerate().all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() })
    };
    while let Some(first) = rest.chars().next() {
        let mut length = first.len_utf8();
        match (quote, first) {
            (Some('"'), '\\') => length += rest[1..].chars().next().map_or(0, char::len_utf8),
            (Some(open), close) if open == close => quote = None,
            (None, '"' | '\'') => quote = Some(first),
            (None, '#') => length = rest.find('\n').unwrap_or(rest.len()),
            (None, '0'..='9') if is_date(rest) => {
                let end = rest
                    .find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '-' | ':' | '.' | '+')))
                    .unwrap_or(rest.len());
                let _ = write!(out, "\"{}\"", &rest[..end]);
                rest = &rest[end..];
                continue;
            }
            _ => {}
        }
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out
}
