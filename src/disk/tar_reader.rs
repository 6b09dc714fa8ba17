//! The members of a tar, read strictly.
//!
//! ustar, the older form without magic, GNU's long names and PAX records, as the archivers of this world write them: Python's `tarfile`,
//! GNU tar, bsdtar, Go. The header blocks are `tar::Header`s; the walk from block to block is ours, because the crate's own reads extension
//! records of any length into memory, takes an archive without its end for a whole one, and takes the first of two contradicting
//! statements. Two readers that disagree about an archive are how a file gets past a check, so what can be read in two ways is refused.
//!
//! Nothing is written here and no path is judged: that is `archive.rs`.

use std::io::{self, Read};

use super::render::at_most;
use crate::fault::{Failure, Fault};
use crate::oci::layer::BLOCK_BYTES;
use crate::oci::path::PATH_BYTES_MAX;

const BLOCK: usize = BLOCK_BYTES as usize;
/// The longest PAX or GNU extension that is read: extended attributes may have 64 KiB, paths 4 KiB.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;
/// What may follow the end mark: archivers fill up to their record size, at most 2 MiB in practice.
const FILL_BYTES_MAX: u64 = 16 << 20;
/// The largest size that the header's own field can say in octal.
const OCTAL_SIZE_MAX: u64 = 0o77_777_777_777;

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file; its bytes are to be read before the next member.
    File {
        /// Their number.
        size_bytes: u64,
        /// Whether somebody may execute it.
        executable: bool,
    },
    /// A folder.
    Folder,
    /// A symbolic link, and what stands in it.
    SymbolicLink(String),
    /// A hard link, and the member that it names.
    HardLink(String),
}

/// A member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its path as it stands there.
    pub path: String,
    /// What it is.
    pub kind: MemberKind,
}

/// Why an archive cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream failed.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It does not even begin like a tar.
    #[error("this is not a tar archive")]
    NotTar,
    /// It ends too early.
    #[error("the archive is cut off: it ends {place}")]
    Cut {
        /// Where.
        place: String,
    },
    /// A header that cannot be read, or in two ways.
    #[error("{member} of the archive is refused: {reason}")]
    Header {
        /// The member: its path, or its number where it has none.
        member: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A member that is neither a file nor a folder nor a link.
    #[error("`{}` in the archive is {what}: only files, folders and links to them can go into an image", .path.escape_debug())]
    Kind {
        /// Its path.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// Something comes after the end.
    #[error("something follows the end of the archive")]
    AfterEnd,
}

impl Failure for TarError {
    fn fault(&self) -> Fault {
        match self {
            TarError::Read(_) => Fault::Ours,
            _ => Fault::Invalid,
        }
    }
}

/// Reads members one after the other.
pub struct TarReader<R> {
    source: R,
    /// Members begun.
    count: u64,
    path: String,
    /// Of the current member: bytes not yet read, and the padding after them.
    left_bytes: u64,
    padding_bytes: u64,
    size_bytes: u64,
    ended: bool,
}

/// What extension records say of the member after them.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size_bytes: Option<u64>,
}

impl<R: Read> TarReader<R> {
    /// A reader at the first header.
    pub fn new(source: R) -> TarReader<R> {
        TarReader { source, count: 0, path: String::new(), left_bytes: 0, padding_bytes: 0, size_bytes: 0, ended: false }
    }

    /// The next member; `None` at the end, when the end mark and what follows it have been read and found good. What was not read of the
    /// member before is skipped.
    pub fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        self.skip()?;
        let mut extensions = Extensions::default();
        let mut extended = false;
        while !self.ended {
            let Some(header) = self.header()? else {
                if extended {
                    return Err(TarError::Cut { place: "after an extension record, before the member that it describes".to_owned() });
                }
                break;
            };
            self.count += 1;
            let kind = header.entry_type();
            let is_extension = kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions();
            if is_extension || kind.is_pax_global_extensions() {
                extended |= is_extension;
                self.extension(&header, &mut extensions)?;
                continue;
            }
            return self.member(&header, extensions).map(Some);
        }
        Ok(None)
    }

    /// Reads bytes of the current member; zero at their end.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let wanted = at_most(buffer.len(), self.left_bytes);
        if wanted == 0 {
            return Ok(0);
        }
        let length = read(&mut self.source, &mut buffer[..wanted])?;
        if length == 0 {
            let (path, at, of) = (self.path.escape_debug(), self.size_bytes - self.left_bytes, self.size_bytes);
            return Err(TarError::Cut { place: format!("in `{path}`, after {at} of its {of} bytes") });
        }
        self.left_bytes -= length as u64;
        Ok(length)
    }

    fn skip(&mut self) -> Result<(), TarError> {
        let mut buffer = [0; 16 << 10];
        while self.read_data(&mut buffer)? > 0 {}
        let padding = std::mem::take(&mut self.padding_bytes) as usize;
        if fill(&mut self.source, &mut buffer[..padding])? < padding {
            return Err(TarError::Cut { place: format!("after `{}`", self.path.escape_debug()) });
        }
        Ok(())
    }

    /// The next header block; `None` at the end mark.
    fn header(&mut self) -> Result<Option<tar::Header>, TarError> {
        let mut header = tar::Header::new_old();
        match fill(&mut self.source, header.as_mut_bytes())? {
            BLOCK => {}
            0 => return Err(TarError::Cut { place: "before its end mark".to_owned() }),
            _ => return Err(TarError::Cut { place: "in a header".to_owned() }),
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            self.ended = true;
            self.check_fill()?;
            return Ok(None);
        }
        let sum: u64 = bytes[..148].iter().chain(&[b' '; 8]).chain(&bytes[156..]).map(|byte| u64::from(*byte)).sum();
        if number(&header.as_old().cksum) != Some(sum) {
            return Err(if self.count == 0 { TarError::NotTar } else { self.refuse("its check sum is wrong") });
        }
        // Readers differ in what they take from a magic that is neither POSIX' nor GNU's.
        let known = header.as_ustar().is_some() || header.as_gnu().is_some() || !bytes[257..].starts_with(b"ustar");
        if !known {
            return Err(self.refuse("its format is neither POSIX' nor GNU's"));
        }
        Ok(Some(header))
    }

    /// After the end mark: zeros up to the end of the stream. A second archive there would be seen by some readers and not by others.
    fn check_fill(&mut self) -> Result<(), TarError> {
        let mut buffer = [0; 16 << 10];
        let mut filled_bytes = 0;
        loop {
            let length = read(&mut self.source, &mut buffer)?;
            filled_bytes += length as u64;
            if buffer[..length].iter().any(|byte| *byte != 0) || filled_bytes > FILL_BYTES_MAX {
                return Err(TarError::AfterEnd);
            }
            if length == 0 {
                return Ok(());
            }
        }
    }

    fn refuse(&self, reason: &'static str) -> TarError {
        TarError::Header { member: format!("entry {}", self.count + 1), reason }
    }

    fn extension(&mut self, header: &tar::Header, extensions: &mut Extensions) -> Result<(), TarError> {
        let size_bytes = number(&header.as_old().size).ok_or_else(|| self.refuse("its size is not a number"))?;
        if size_bytes > EXTENSION_BYTES_MAX {
            return Err(self.refuse("an extension record is larger than 1 MiB"));
        }
        let mut bytes = vec![0; size_bytes.next_multiple_of(BLOCK_BYTES) as usize];
        if fill(&mut self.source, &mut bytes)? < bytes.len() {
            return Err(TarError::Cut { place: "in an extension record".to_owned() });
        }
        bytes.truncate(size_bytes as usize);
        let kind = header.entry_type();
        let once = |slot: &mut Option<Vec<u8>>, value: Vec<u8>| match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err("its name is said twice"),
        };
        let text = || bytes.strip_suffix(b"\0").unwrap_or(&bytes).to_vec();
        let result = match kind {
            _ if kind.is_gnu_longname() => once(&mut extensions.path, text()),
            _ if kind.is_gnu_longlink() => once(&mut extensions.link, text()),
            _ => pax_records(&bytes).and_then(|records| {
                records.into_iter().try_for_each(|(key, value)| match key {
                    b"path" | b"linkpath" | b"size" if kind.is_pax_global_extensions() => {
                        Err("a global record would give every file one name or size")
                    }
                    b"path" => once(&mut extensions.path, value.to_vec()),
                    b"linkpath" => once(&mut extensions.link, value.to_vec()),
                    b"size" => match (decimal(value), extensions.size_bytes) {
                        (Some(size_bytes), None) => {
                            extensions.size_bytes = Some(size_bytes);
                            Ok(())
                        }
                        (None, _) => Err("its PAX size is not a number"),
                        (_, Some(_)) => Err("its size is said twice"),
                    },
                    _ if key.starts_with(b"GNU.sparse.") => Err("it is a sparse file; write it without `--sparse`"),
                    _ => Ok(()),
                })
            }),
        };
        result.map_err(|reason| self.refuse(reason))
    }

    fn member(&mut self, header: &tar::Header, extensions: Extensions) -> Result<Member, TarError> {
        let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) if text.len() <= PATH_BYTES_MAX + 1 => Ok(text.to_owned()),
            Ok(text) => Err(named(text, "its path is longer than 4096 bytes")),
            Err(_) => Err(named(&String::from_utf8_lossy(bytes), "its path is not UTF-8")),
        };
        self.path = text(&path)?;
        let refuse = |reason| named(&self.path, reason);
        let field_bytes = number(&header.as_old().size).ok_or_else(|| refuse("its size is not a number"))?;
        let size_bytes = match extensions.size_bytes {
            // Where the header's field can hold the size, it must; past that, archivers write zero or what fits.
            Some(said) if said != field_bytes && said <= OCTAL_SIZE_MAX => {
                return Err(refuse("its PAX record and its header give different sizes"));
            }
            Some(said) => said,
            None => field_bytes,
        };
        let link = extensions.link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned)).unwrap_or_default();
        let mode = number(&header.as_old().mode).ok_or_else(|| refuse("its mode is not a number"))?;
        let what = match header.entry_type().as_byte() {
            // Before POSIX a folder was a file whose name ends in `/`.
            b'0' | b'\0' if self.path.ends_with('/') => Ok(MemberKind::Folder),
            b'0' | b'\0' | b'7' => Ok(MemberKind::File { size_bytes, executable: mode & 0o111 != 0 }),
            b'5' => Ok(MemberKind::Folder),
            b'1' => Ok(MemberKind::HardLink(text(&link)?)),
            b'2' => Ok(MemberKind::SymbolicLink(text(&link)?)),
            b'3' => Err("a character device"),
            b'4' => Err("a block device"),
            b'6' => Err("a named pipe"),
            b'S' => Err("a sparse file"),
            b'M' | b'V' => Err("part of an archive of several volumes"),
            _ => Err("of a type that we do not know"),
        };
        let kind = what.map_err(|what| TarError::Kind { path: self.path.clone(), what })?;
        // Some readers would take the bytes after such a header for the next header, others for bytes.
        if size_bytes > 0 && !matches!(kind, MemberKind::File { .. }) {
            return Err(refuse("it has bytes although it is no file"));
        }
        let padded = size_bytes.checked_next_multiple_of(BLOCK_BYTES).ok_or_else(|| refuse("its size is not a number"))?;
        (self.size_bytes, self.left_bytes, self.padding_bytes) = (size_bytes, size_bytes, padded - size_bytes);
        Ok(Member { path: self.path.clone(), kind })
    }
}

fn named(path: &str, reason: &'static str) -> TarError {
    let path: String = path.chars().take(300).collect();
    TarError::Header { member: format!("`{}`", path.escape_debug()), reason }
}

/// A numeric field: octal digits between spaces and zeros, or GNU's base 256. An empty field is zero, as everywhere.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (head, tail) = field.split_at_checked(field.len().checked_sub(8)?)?;
        // The first bit is the mark; negative numbers and those past 64 bits are none of ours.
        let small = if head.is_empty() { false } else { head[0] == 0x80 && head[1..].iter().all(|byte| *byte == 0) };
        return small.then(|| tail.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)));
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| matches!(byte, b' ' | 0)).unwrap_or(digits.len());
    if digits[end..].iter().any(|byte| !matches!(byte, b' ' | 0)) {
        return None;
    }
    digits[..end].iter().try_fold(0u64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if plain { std::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

/// A keyword and its value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// `LENGTH keyword=value\n`, LENGTH counting itself (POSIX pax); a value may have line ends in it.
fn pax_records(mut bytes: &[u8]) -> Result<Vec<Record<'_>>, &'static str> {
    let wrong = "its PAX records are not valid";
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or(wrong)?;
        let length = decimal(&bytes[..space]).and_then(|length| usize::try_from(length).ok()).ok_or(wrong)?;
        let record = bytes.get(space + 1..length).ok_or(wrong)?.strip_suffix(b"\n").ok_or(wrong)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(wrong)?;
        records.push((&record[..equals], &record[equals + 1..]));
        bytes = &bytes[length..];
    }
    Ok(records)
}

fn read(source: &mut impl Read, buffer: &mut [u8]) -> Result<usize, TarError> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(TarError::Read),
        }
    }
}

/// Fills `buffer` as far as there are bytes.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> Result<usize, TarError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read(source, &mut buffer[filled..])? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(filled)
}
