//! The bytes of a splice, read where they are.
//!
//! A [`SpliceReader`] reads a [`Splice`] or any range of it. Every file is opened once, at its first byte, and compared with its stamp then and at the
//! end of the reading, as `render.rs` does with the files of a model; and what that file says of the empty stamp holds here.
//!
//! What must stay true: either the bytes are those of the splice's files as they were listed, or the read ends in a [`RenderError`].

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::render::{RenderError, at_most, check_file, open_file};
use crate::oci::splice::{PieceSource, Splice};

/// Reads a splice.
pub struct SpliceReader {
    splice: Arc<Splice>,
    opened: Vec<Option<File>>,
    piece: usize,
    at: u64,
    end: u64,
}

impl SpliceReader {
    /// The whole blob.
    pub fn new(splice: Arc<Splice>) -> SpliceReader {
        let end = splice.size_bytes();
        SpliceReader::range(splice, 0..end)
    }

    /// The bytes of `range`; what lies past the end of the blob is not there.
    pub fn range(splice: Arc<Splice>, range: Range<u64>) -> SpliceReader {
        let end = range.end.min(splice.size_bytes());
        let opened = splice.files().iter().map(|_| None).collect();
        SpliceReader { piece: splice.piece_at(range.start), at: range.start.min(end), end, splice, opened }
    }

    /// Fills some of `buffer`, which is not empty, with bytes of the piece at hand.
    fn read_piece(&mut self, buffer: &mut [u8]) -> Result<usize, RenderError> {
        let piece = self.splice.pieces()[self.piece];
        let into = self.at - piece.offset_bytes;
        let length = at_most(at_most(buffer.len(), self.end - self.at), piece.size_bytes - into);
        let buffer = &mut buffer[..length];
        match piece.from {
            PieceSource::Glue(begin) => {
                let begin = (begin + into) as usize;
                buffer.copy_from_slice(&self.splice.glue()[begin..begin + length]);
                Ok(length)
            }
            PieceSource::File { file, offset_bytes } => {
                let spliced = &self.splice.files()[file];
                let opened = match &mut self.opened[file] {
                    Some(opened) => opened,
                    closed => closed.insert(open_file(&spliced.local, spliced.size_bytes)?),
                };
                read_at(opened, &spliced.local.path, buffer, offset_bytes + into)
            }
        }
    }

    /// Every file that was read is still what it was.
    fn check(&self) -> Result<(), RenderError> {
        for (file, opened) in self.splice.files().iter().zip(&self.opened) {
            if let Some(opened) = opened {
                check_file(opened, &file.local, file.size_bytes)?;
            }
        }
        Ok(())
    }
}

/// Some bytes of a file from `offset_bytes` on; at least one.
pub fn read_at(file: &File, path: &Path, buffer: &mut [u8], offset_bytes: u64) -> Result<usize, RenderError> {
    loop {
        match file.read_at(buffer, offset_bytes) {
            Ok(0) => {
                return Err(RenderError::Changed {
                    path: path.to_owned(),
                    how: format!("it ends before byte {}", offset_bytes.saturating_add(1)),
                });
            }
            Ok(length) => return Ok(length),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(RenderError::Unreadable { path: path.to_owned(), source }),
        }
    }
}

impl Read for SpliceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && self.at < self.end {
            let length = self.read_piece(&mut buffer[filled..])?;
            filled += length;
            self.at += length as u64;
            let piece = self.splice.pieces()[self.piece];
            if self.at == piece.offset_bytes + piece.size_bytes {
                self.piece += 1;
            }
            if self.at == self.end {
                self.check()?;
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::render::{render_error, stamp};
    use crate::oci::digest::Digest;
    use crate::oci::layer::LocalFile;
    use crate::oci::splice::SplicedFile;

    fn splice(path: &Path) -> Arc<Splice> {
        let local = Arc::new(LocalFile { path: path.to_owned(), stamp: stamp(&std::fs::metadata(path).unwrap()), digest: None });
        let file = SplicedFile { digest: Digest::of(b"0123456789"), size_bytes: 10, local };
        let in_file = |offset_bytes| PieceSource::File { file: 0, offset_bytes };
        let sources = [(1, PieceSource::Glue(0)), (4, in_file(2)), (2, PieceSource::Glue(1)), (3, in_file(7))];
        Arc::new(Splice::new(b"<=>".as_slice().into(), vec![file], &sources).unwrap())
    }

    #[test]
    fn the_whole_and_every_range_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wheel");
        std::fs::write(&path, b"0123456789").unwrap();
        let splice = splice(&path);
        let whole = b"<2345=>789";
        for begin in 0..=10 {
            for end in begin..=12 {
                let mut bytes = Vec::new();
                SpliceReader::range(splice.clone(), begin..end).read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes, whole[begin as usize..(end as usize).min(10)], "{begin}..{end}");
            }
        }
    }

    #[test]
    fn a_file_that_was_written_to_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wheel");
        std::fs::write(&path, b"0123456789").unwrap();
        let splice = splice(&path);
        std::fs::write(&path, b"012345678").unwrap();
        let error = SpliceReader::new(splice).read_to_end(&mut Vec::new()).unwrap_err();
        assert!(matches!(render_error(&error), Some(RenderError::Changed { path: changed, .. }) if *changed == path), "{error}");
    }
}
