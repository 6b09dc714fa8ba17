//! A blob as ranges of files that are there already, and the few bytes between them.
//!
//! A [`Splice`] says of every byte of a blob where it is: in the glue, which it holds itself, or in a range of a local file. Whoever needs the blob reads
//! the ranges one after another (`disk/splice_reader.rs`); nothing is copied into a file of its own. The layer of a model's requirements is one: glue,
//! and the compressed members of wheels as they lie in the wheels (`packed.rs`). No file is opened here.
//!
//! What must stay true: pieces are in the order of the blob and without a gap, none is empty, and each lies within its file or the glue. A file's digest
//! is known: the blob's own follows from it.

use std::sync::Arc;

use super::digest::Digest;
use super::layer::LocalFile;

/// A blob made of ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    glue: Arc<[u8]>,
    files: Vec<SplicedFile>,
    pieces: Vec<Piece>,
}

/// A file that ranges are taken of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplicedFile {
    /// The digest of all its bytes.
    pub digest: Digest,
    /// The number of its bytes.
    pub size_bytes: u64,
    /// Where it is.
    pub local: Arc<LocalFile>,
}

/// A run of bytes of the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins in the blob.
    pub offset_bytes: u64,
    /// How long it is.
    pub size_bytes: u64,
    /// Where its bytes are.
    pub from: PieceSource,
}

/// Where the bytes of a piece are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceSource {
    /// In the glue, from this byte on.
    Glue(u64),
    /// In a file.
    File {
        /// Which, by its place among [`Splice::files`].
        file: usize,
        /// From which byte on.
        offset_bytes: u64,
    },
}

/// Why pieces do not make a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    /// A piece without bytes.
    #[error("piece {0} is empty")]
    Empty(usize),
    /// A piece that is not where it says.
    #[error("piece {0} lies outside of what it is taken from")]
    Outside(usize),
}

impl Splice {
    /// Puts pieces together, given as their sizes and sources in the order of the blob.
    pub fn new(glue: Arc<[u8]>, files: Vec<SplicedFile>, sources: &[(u64, PieceSource)]) -> Result<Splice, SpliceError> {
        let (mut offset_bytes, mut pieces) = (0u64, Vec::with_capacity(sources.len()));
        for (at, &(size_bytes, from)) in sources.iter().enumerate() {
            if size_bytes == 0 {
                return Err(SpliceError::Empty(at));
            }
            let (begin, room) = match from {
                PieceSource::Glue(begin) => (begin, Some(glue.len() as u64)),
                PieceSource::File { file, offset_bytes } => (offset_bytes, files.get(file).map(|file| file.size_bytes)),
            };
            let end = begin.checked_add(size_bytes);
            if end.zip(room).is_none_or(|(end, room)| end > room) {
                return Err(SpliceError::Outside(at));
            }
            pieces.push(Piece { offset_bytes, size_bytes, from });
            offset_bytes = offset_bytes.checked_add(size_bytes).ok_or(SpliceError::Outside(at))?;
        }
        Ok(Splice { glue, files, pieces })
    }

    /// The bytes that are in no file.
    pub fn glue(&self) -> &Arc<[u8]> {
        &self.glue
    }

    /// The files.
    pub fn files(&self) -> &[SplicedFile] {
        &self.files
    }

    /// Every run of bytes, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The size of the blob.
    pub fn size_bytes(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.offset_bytes + piece.size_bytes)
    }

    /// The place among [`Splice::pieces`] of the one that holds a byte of the blob; their number where the blob has ended before it.
    pub fn piece_at(&self, offset_bytes: u64) -> usize {
        self.pieces.partition_point(|piece| piece.offset_bytes + piece.size_bytes <= offset_bytes)
    }

    /// The same blob with its files elsewhere.
    pub fn with_files(&self, locals: impl Fn(&SplicedFile) -> Arc<LocalFile>) -> Splice {
        let files = self.files.iter().map(|file| SplicedFile { local: locals(file), ..file.clone() }).collect();
        Splice { files, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::layer::Stamp;

    fn file(size_bytes: u64) -> SplicedFile {
        let local = LocalFile { path: "wheel".into(), stamp: Stamp::default(), digest: None };
        SplicedFile { digest: Digest::of(b"wheel"), size_bytes, local: Arc::new(local) }
    }

    #[test]
    fn every_byte_is_found_and_nothing_is_taken_from_outside() {
        let in_file = |offset_bytes| PieceSource::File { file: 0, offset_bytes };
        let sources = [(2, PieceSource::Glue(0)), (5, in_file(3)), (1, PieceSource::Glue(2))];
        let splice = Splice::new(b"abc".as_slice().into(), vec![file(8)], &sources).unwrap();
        assert_eq!(splice.size_bytes(), 8);
        assert_eq!((0..=8).map(|at| splice.piece_at(at)).collect::<Vec<_>>(), [0, 0, 1, 1, 1, 1, 1, 2, 3]);
        for (source, error) in [
            ((2, PieceSource::Glue(2)), SpliceError::Outside(0)),
            ((6, in_file(3)), SpliceError::Outside(0)),
            ((u64::MAX, in_file(3)), SpliceError::Outside(0)),
            ((1, PieceSource::File { file: 1, offset_bytes: 0 }), SpliceError::Outside(0)),
            ((0, in_file(3)), SpliceError::Empty(0)),
        ] {
            assert_eq!(Splice::new(b"abc".as_slice().into(), vec![file(8)], &[source]), Err(error));
        }
    }
}
