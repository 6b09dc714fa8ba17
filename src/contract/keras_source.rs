//! What is read out of a Keras file before anything is understood: the config's text, and the version that wrote it.
//!
//! This file reads the archive form, `.keras`: a zip with `config.json`, `metadata.json` and the weights. `keras_hdf5.rs` reads the
//! other. Only the two JSON members are read, and each to a limit, whatever size the archive gives it.
//!
//! What must stay true: an archive of any size and any content costs its directory and these two members.

use std::cell::Cell;
use std::io::{self, Read, Seek};
use std::rc::Rc;

use serde_json::Value;
use zip::ZipArchive;
use zip::result::ZipError;

use super::keras::{CONFIG_BYTES_MAX, KerasError};
use super::rationed::Rationed;

/// The parts of a saved model that say what it promises.
pub(super) struct Saved {
    /// JSON text.
    pub(super) config: Vec<u8>,
    /// As the file has it; empty where it has none.
    pub(super) keras_version: String,
}

/// The bytes of an archive's directory: some tens of thousands of members.
const DIRECTORY_BYTES_MAX: u64 = 8 << 20;

/// A real `metadata.json` has three lines.
const METADATA_BYTES_MAX: usize = 64 << 10;

/// The config and the version in the `.keras` archive that `source` holds.
pub(super) fn read_archive<R: Read + Seek>(source: R) -> Result<Saved, KerasError> {
    let left_bytes = Rc::new(Cell::new(DIRECTORY_BYTES_MAX));
    let mut archive = match ZipArchive::new(Rationed::new(source, left_bytes.clone())) {
        Ok(archive) => archive,
        Err(_) if left_bytes.get() == 0 => return Err(KerasError::TooMuchToRead),
        Err(ZipError::Io(source)) if source.kind() != io::ErrorKind::UnexpectedEof && source.kind() != io::ErrorKind::InvalidData => {
            return Err(KerasError::Io(source));
        }
        Err(source) => return Err(KerasError::NotArchive(source)),
    };
    // Readers differ in which of two members of one name they take: there is no answer that is Keras' in every place.
    if archive.has_duplicate_names() {
        return Err(KerasError::DuplicateMember);
    }
    // A deflated member is read in full before it is judged; a stored one has the length of its content.
    left_bytes.set(DIRECTORY_BYTES_MAX + 2 * CONFIG_BYTES_MAX as u64);
    let config = member(&mut archive, "config.json", CONFIG_BYTES_MAX)?.ok_or(KerasError::NoConfigMember)?;
    let metadata = member(&mut archive, "metadata.json", METADATA_BYTES_MAX)?.unwrap_or_default();
    // The version is a help, not a condition: damaged metadata leave it unknown.
    let metadata: Value = serde_json::from_slice(&metadata).unwrap_or_default();
    let keras_version = metadata["keras_version"].as_str().unwrap_or_default().to_owned();
    Ok(Saved { config, keras_version })
}

/// A member's content; `None` where the archive has none of that name.
fn member<R: Read + Seek>(archive: &mut ZipArchive<R>, name: &'static str, bytes_max: usize) -> Result<Option<Vec<u8>>, KerasError> {
    let file = match archive.by_name(name) {
        Ok(file) => file,
        Err(ZipError::FileNotFound) => return Ok(None),
        Err(source) => return Err(KerasError::Member { name, source }),
    };
    let mut content = Vec::new();
    let read = file.take(bytes_max as u64 + 1).read_to_end(&mut content);
    if content.len() > bytes_max {
        return Err(KerasError::ConfigTooLarge);
    }
    read.map_err(|source| KerasError::Member { name, source: ZipError::Io(source) })?;
    Ok(Some(content))
}

/// The text of a config's JSON as JSON has it: Python also writes `NaN`, `Infinity` and `-Infinity`, which become null.
///
/// None of them is a number that a shape hangs on.
fn without_python_numbers(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let (mut rest, mut in_string) = (text, false);
    while let Some((&byte, after)) = rest.split_first() {
        if in_string && byte == b'\\' {
            let (escape, after) = rest.split_at(rest.len().min(2));
            plain.extend_from_slice(escape);
            rest = after;
            continue;
        }
        in_string ^= byte == b'"';
        let word = [&b"NaN"[..], b"-Infinity", b"Infinity"].into_iter().find(|word| !in_string && rest.starts_with(word));
        let Some(word) = word else {
            plain.push(byte);
            rest = after;
            continue;
        };
        plain.extend_from_slice(b"null");
        rest = &rest[word.len()..];
    }
    plain
}

/// The value of a config's text.
pub(super) fn parse(text: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(text).or_else(|_| serde_json::from_slice(&without_python_numbers(text)))
}
