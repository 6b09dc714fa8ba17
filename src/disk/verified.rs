//! Bytes compared with their descriptor on the way.
//!
//! Whoever copies a blob uses [`copy`], whoever hands one out uses [`Verified`]: either the bytes are as many as the descriptor says and
//! have its digest, or there is an error before anybody has seen the end. It knows no files.

use std::io::{self, Read, Write};

use super::render::{READ_BYTES, render_error};
use crate::fault::{Failure, Fault};
use crate::oci::digest::{Digest, Hasher};
use crate::oci::manifest::Descriptor;

/// Why a blob was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source failed.
    #[error("cannot read {digest}")]
    Read {
        /// The blob.
        digest: Digest,
        /// What it said; a `RenderError` can be inside.
        #[source]
        source: io::Error,
    },
    /// The destination failed; the caller knows what that is.
    #[error("cannot write")]
    Write(#[source] io::Error),
    /// Too few or too many bytes.
    #[error("{digest} must have {expected_bytes} bytes and has {}", if *.found_bytes > *.expected_bytes { "more".to_owned() } else { .found_bytes.to_string() })]
    Size {
        /// The blob.
        digest: Digest,
        /// As the descriptor says.
        expected_bytes: u64,
        /// As they came; reading stops at the first that is too many.
        found_bytes: u64,
    },
    /// Other bytes.
    #[error("the bytes of {expected} are those of {found}")]
    Digest {
        /// As the descriptor says.
        expected: Digest,
        /// As they came.
        found: Digest,
    },
}

impl Failure for CopyError {
    fn fault(&self) -> Fault {
        match self {
            CopyError::Read { source, .. } => render_error(source).map_or(Fault::Remote, Failure::fault),
            CopyError::Write(_) => Fault::Ours,
            CopyError::Size { .. } | CopyError::Digest { .. } => Fault::Remote,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            CopyError::Read { source, .. } => render_error(source).and_then(Failure::remedy),
            _ => None,
        }
    }
}

/// Copies the blob that `descriptor` names. What was written before an error must not be used.
pub fn copy(descriptor: &Descriptor, source: &mut dyn Read, destination: &mut dyn Write) -> Result<(), CopyError> {
    let (digest, expected_bytes) = (descriptor.digest, descriptor.size_bytes);
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(CopyError::Read { digest, source }),
        };
        hasher.update(&buffer[..length]);
        if hasher.size_bytes() > expected_bytes {
            break;
        }
        destination.write_all(&buffer[..length]).map_err(CopyError::Write)?;
    }
    check(descriptor, hasher)
}

fn check(descriptor: &Descriptor, hasher: Hasher) -> Result<(), CopyError> {
    let (digest, expected_bytes, found_bytes) = (descriptor.digest, descriptor.size_bytes, hasher.size_bytes());
    if found_bytes != expected_bytes {
        return Err(CopyError::Size { digest, expected_bytes, found_bytes });
    }
    let found = hasher.finish();
    if found == digest { Ok(()) } else { Err(CopyError::Digest { expected: digest, found }) }
}

/// A reader of a blob that fails, with a [`CopyError`] inside, instead of ending where the bytes are not those of the descriptor.
pub struct Verified<R> {
    descriptor: Descriptor,
    source: R,
    hasher: Option<Hasher>,
}

impl<R: Read> Verified<R> {
    /// Reads `source` as the blob that `descriptor` names.
    pub fn new(descriptor: &Descriptor, source: R) -> Verified<R> {
        Verified { descriptor: descriptor.clone(), source, hasher: Some(Hasher::new()) }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        let Some(hasher) = &mut self.hasher else { return Ok(0) };
        hasher.update(&buffer[..length]);
        let ended = length == 0 && !buffer.is_empty();
        if ended || hasher.size_bytes() > self.descriptor.size_bytes {
            let hasher = self.hasher.take().expect("looked at above");
            check(&self.descriptor, hasher).map_err(io::Error::other)?;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_fewer_nor_more_nor_other_bytes_pass() {
        let descriptor = Descriptor::new("x", Digest::of(b"four"), 4);
        for (bytes, said) in [
            (&b"four"[..], ""),
            (b"fou", "must have 4 bytes and has 3"),
            (b"fours", "must have 4 bytes and has more"),
            (b"FOUR", "are those of"),
        ] {
            let mut written = Vec::new();
            let copied = copy(&descriptor, &mut &bytes[..], &mut written);
            let read = io::copy(&mut Verified::new(&descriptor, bytes), &mut io::sink());
            if said.is_empty() {
                assert!(copied.is_ok() && read.is_ok() && written == bytes);
            } else {
                assert!(copied.unwrap_err().to_string().contains(said));
                assert!(read.unwrap_err().to_string().contains(said));
            }
        }
    }
}
