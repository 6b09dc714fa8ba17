//! What a file is that is not the model it should be, told by its first bytes.
//!
//! For the readers of models, once they have failed: "at byte 0: a field of an unknown wire type" helps nobody whose file is a
//! Git LFS pointer or the page of an error. It judges no file that a reader could read, and it knows no model format but by the
//! bytes with which another reader's files begin.
//!
//! What must stay true: at most the first [`LOOKED_AT_BYTES`] are read, and what is shown of them is one short line.

use std::fmt;
use std::io::{Read, Seek, SeekFrom};

use super::contract::shown;

/// How much of a file is looked at: what the specification of Git LFS allows for a pointer.
pub const LOOKED_AT_BYTES: u64 = 1024;

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Nothing in it.
    Empty,
    /// What Git has in the place of a large file that Git LFS keeps.
    LfsPointer {
        /// The size of the file that it stands for, where it says so.
        size_bytes: Option<u64>,
    },
    /// A web page.
    Html,
    /// Text of another kind.
    Text {
        /// Its first line.
        first_line: String,
    },
    /// A zip archive; `.keras`, newer PyTorch and jar files are some, too.
    Zip,
    /// Compressed, often a tar.gz.
    Gzip,
    /// HDF5: `.h5` files of Keras.
    Hdf5,
    /// A pickle of Python.
    Pickle,
}

impl FileKind {
    /// What to do about it: one sentence, no full stop at its end.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            FileKind::LfsPointer { .. } => Some("fetch the file itself with `git lfs pull`"),
            FileKind::Empty | FileKind::Html | FileKind::Text { .. } => Some("save the model again, or download the file itself"),
            FileKind::Zip | FileKind::Gzip => Some("unpack it, and give what is in it"),
            FileKind::Hdf5 | FileKind::Pickle => None,
        }
    }
}

/// For the end of "the file is …".
impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileKind::Empty => f.write_str("empty"),
            FileKind::LfsPointer { size_bytes: Some(size_bytes) } => write!(f, "a Git LFS pointer to a file of {size_bytes} bytes"),
            FileKind::LfsPointer { size_bytes: None } => f.write_str("a Git LFS pointer"),
            FileKind::Html => f.write_str("a web page (HTML)"),
            FileKind::Text { first_line } => write!(f, "text that begins with `{first_line}`"),
            FileKind::Zip => f.write_str("a zip archive"),
            FileKind::Gzip => f.write_str("a gzip file"),
            FileKind::Hdf5 => f.write_str("an HDF5 file"),
            FileKind::Pickle => f.write_str("a pickle"),
        }
    }
}

/// What the first `size_bytes` of `source` are; `None` for what is not known, and where they cannot be read.
pub fn tell<R: Read + Seek>(source: &mut R, size_bytes: u64) -> Option<FileKind> {
    let mut beginning = Vec::new();
    source.seek(SeekFrom::Start(0)).ok()?;
    source.take(size_bytes.min(LOOKED_AT_BYTES)).read_to_end(&mut beginning).ok()?;
    let magic: [(&[u8], FileKind); 8] = [
        (b"PK\x03\x04", FileKind::Zip),
        (b"PK\x05\x06", FileKind::Zip),
        (b"\x1f\x8b\x08", FileKind::Gzip),
        (b"\x89HDF\r\n\x1a\n", FileKind::Hdf5),
        // The opcode PROTO with each protocol that has it.
        (b"\x80\x02", FileKind::Pickle),
        (b"\x80\x03", FileKind::Pickle),
        (b"\x80\x04", FileKind::Pickle),
        (b"\x80\x05", FileKind::Pickle),
    ];
    if beginning.is_empty() {
        return Some(FileKind::Empty);
    }
    let known = magic.into_iter().find(|(magic, _)| beginning.starts_with(magic));
    known.map(|(_, kind)| kind).or_else(|| text_kind(text(&beginning)?))
}

/// The text that the bytes are, without a character that was cut at their end.
fn text(bytes: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    let plain = text.chars().all(|c| !c.is_control() || "\n\r\t".contains(c));
    plain.then(|| text.trim_start_matches('\u{feff}').trim_start())
}

fn text_kind(text: &str) -> Option<FileKind> {
    const FIRST_LINE_CHARACTERS_MAX: usize = 60;
    let first_line = text.lines().next()?;
    // The two first lines that the specification of Git LFS knows; the second is that of its time before 1.0.
    if first_line.starts_with("version https://git-lfs.github.com/spec/")
        || first_line.starts_with("version https://hawser.github.com/spec/")
    {
        let size_bytes = text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse().ok());
        return Some(FileKind::LfsPointer { size_bytes });
    }
    let lower = first_line.to_ascii_lowercase();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        return Some(FileKind::Html);
    }
    Some(FileKind::Text { first_line: shown(&first_line.chars().take(FIRST_LINE_CHARACTERS_MAX).collect::<String>()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[track_caller]
    fn check(bytes: &[u8], expected: Option<&str>) {
        let kind = tell(&mut Cursor::new(bytes), bytes.len() as u64);
        assert_eq!(kind.map(|kind| kind.to_string()).as_deref(), expected);
    }

    #[test]
    fn a_pointer_of_git_lfs_says_what_it_stands_for() {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 102130968\n";
        check(pointer.as_bytes(), Some("a Git LFS pointer to a file of 102130968 bytes"));
        check(b"version https://hawser.github.com/spec/v1\noid sha256:4d\n", Some("a Git LFS pointer"));
        check(b"version https://git-lfs.github.com/spec/v1\r\nsize 99999999999999999999\r\n", Some("a Git LFS pointer"));
        let kind = tell(&mut Cursor::new(pointer), pointer.len() as u64).unwrap();
        assert_eq!(kind.remedy(), Some("fetch the file itself with `git lfs pull`"));
    }

    #[test]
    fn files_of_other_kinds_are_told_by_how_they_begin() {
        check(b"", Some("empty"));
        check(b"\xef\xbb\xbf\n <!DOCTYPE html>\n<html>", Some("a web page (HTML)"));
        check(b"<HTML lang='en'>", Some("a web page (HTML)"));
        check(b"404: Not Found", Some("text that begins with `404: Not Found`"));
        check("größe\u{301}".repeat(400).as_bytes(), Some(&format!("text that begins with `{}`", "größe\u{301}".repeat(10))));
        check(b"PK\x03\x04\x14", Some("a zip archive"));
        check(b"\x1f\x8b\x08\0", Some("a gzip file"));
        check(b"\x89HDF\r\n\x1a\n\0", Some("an HDF5 file"));
        check(b"\x80\x04\x95\x10\0", Some("a pickle"));
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        check(b"\x08\x07\x12\x07pytorch", None);
        check(&[0; 4096], None);
        check(b"\xff\xfe<\0h\0", None);
        check(b" \n\t", None);
    }
}
