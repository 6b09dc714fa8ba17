//! The bytes of a layer, made from its recipe while they are read.
//!
//! A [`Renderer`] reads the tar of a [`Recipe`], or any byte range of it, without the tar ever being somewhere: headers and padding are
//! made, files are opened when their turn comes, one at a time. It knows nothing of compression or digests (`seal.rs`). Files are
//! read, never mapped: a mapped model counts as resident memory, and one that is cut while it is mapped kills the process.
//!
//! What must stay true: either the bytes are those of the recipe, or the read ends in a [`RenderError`]. A file is compared with its
//! stamp after it is opened and again after its last byte, so one that changes while it is read never gets into an image unseen.
//! A file with the empty stamp (`Stamp::default()`) is one that nobody changes, in our own store: there only the size is compared, since its
//! times are renewed by whoever finds it there (`store_use.rs`).

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fault::{Failure, Fault};
use crate::oci::layer::{BLOCK_BYTES, Content, Entry, EntryKind, LocalFile, PartKind, Recipe, Stamp};
use crate::oci::path::TreePath;

/// The least that is asked of a file at once: below this the system calls cost more than the copying.
pub const READ_BYTES: usize = 128 << 10;

/// Why the bytes of a recipe cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A file is not what it was when it was listed.
    #[error("`{}` changed while it was being read: {how}", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What is different.
        how: String,
    },
    /// A file cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Failure for RenderError {
    fn fault(&self) -> Fault {
        match self {
            RenderError::Changed { .. } => Fault::Invalid,
            RenderError::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Fault::Invalid,
            RenderError::Unreadable { .. } => Fault::Ours,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            RenderError::Changed { .. } => Some("try again when nothing writes to the model's files".to_owned()),
            RenderError::Unreadable { .. } => None,
        }
    }
}

impl From<RenderError> for io::Error {
    fn from(error: RenderError) -> io::Error {
        io::Error::other(error)
    }
}

/// The [`RenderError`] that a read of a [`Renderer`] failed with, through whatever passed the `io::Error` on.
pub fn render_error(error: &io::Error) -> Option<&RenderError> {
    error.get_ref()?.downcast_ref()
}

/// The identity of a file as the system tells it.
pub fn stamp(metadata: &std::fs::Metadata) -> Stamp {
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// How much of a buffer may be filled where `left_bytes` are left.
pub fn at_most(buffer_bytes: usize, left_bytes: u64) -> usize {
    usize::try_from(left_bytes).map_or(buffer_bytes, |left_bytes| left_bytes.min(buffer_bytes))
}

/// Reads the tar of a recipe, or a range of it.
pub struct Renderer(BufReader<Parts>);

impl Renderer {
    /// The whole tar.
    pub fn new(recipe: Arc<Recipe>) -> Renderer {
        let end = recipe.size_bytes();
        Renderer::range(recipe, 0..end)
    }

    /// The bytes of a range of one file, with no tar around them.
    ///
    /// # Panics
    /// Never: one entry is a recipe.
    pub fn file(content: Content, size_bytes: u64, range: Range<u64>) -> Renderer {
        let path = TreePath::new("file").expect("a constant path");
        let entry = Entry { path, kind: EntryKind::File { size_bytes, executable: false, content } };
        let recipe = Recipe::new(vec![entry], 0).expect("one entry is not there twice");
        // An empty file has no bytes, and no place.
        let first = recipe.parts().find(|part| matches!(part.kind, PartKind::File(..))).map_or(0, |part| part.offset_bytes);
        let end = first.saturating_add(range.end.min(size_bytes));
        Renderer::range(Arc::new(recipe), first.saturating_add(range.start).min(end)..end)
    }

    /// The bytes of `range`; what lies past the end of the tar is not there.
    pub fn range(recipe: Arc<Recipe>, range: Range<u64>) -> Renderer {
        Renderer(BufReader::with_capacity(READ_BYTES, Parts::new(recipe, range)))
    }
}

impl Read for Renderer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// Where the reader stands: in which part of which entry, and what is open there.
struct Parts {
    recipe: Arc<Recipe>,
    /// The entry that comes next, once `piece` has been read.
    next_entry: usize,
    piece: Piece,
    /// What is still wanted, from here to the end of the range.
    remaining_bytes: u64,
}

enum Piece {
    /// Nothing was begun yet, or an entry is finished.
    Done,
    /// Header blocks, and what of them has been read.
    Header(Vec<u8>, usize),
    /// A file of the recipe itself, and what of it has been read.
    Inline(Arc<[u8]>, usize),
    /// An open file.
    Open(OpenFile),
    /// Padding, or the end.
    Zeros(u64),
    /// A read failed on this file; nothing after it can be had.
    Failed(PathBuf),
}

impl Parts {
    fn new(recipe: Arc<Recipe>, range: Range<u64>) -> Parts {
        let end = range.end.min(recipe.size_bytes());
        let remaining_bytes = end.saturating_sub(range.start);
        let (mut next_entry, mut piece) = (0, Piece::Done);
        if remaining_bytes > 0 && range.start > 0 {
            let mut parts = recipe.parts().inspect(|part| next_entry += usize::from(matches!(part.kind, PartKind::Header(_))));
            let part = parts.find(|part| part.offset_bytes + part.size_bytes > range.start);
            let part = part.expect("the range begins before the end of the last part");
            let into = range.start - part.offset_bytes;
            piece = match part.kind {
                PartKind::Header(entry) => Piece::Header(recipe.header(entry), into as usize),
                PartKind::File(_, Content::Inline(bytes)) => Piece::Inline(bytes.clone(), into as usize),
                PartKind::File(_, Content::Local(file)) => Piece::Open(OpenFile::later(file.clone(), into, part.size_bytes)),
                PartKind::Zeros => Piece::Zeros(part.size_bytes - into),
            };
        }
        Parts { recipe, next_entry, piece, remaining_bytes }
    }

    /// The piece after the one that has been read to its end.
    fn following(&self) -> (usize, Piece) {
        // A file's bytes follow its header, padding the bytes; after padding comes the next entry.
        let current = self.next_entry.checked_sub(1).and_then(|at| self.recipe.entries().get(at));
        let piece = match (&self.piece, current) {
            (Piece::Header(..), Some(entry)) => file_piece(entry),
            (Piece::Inline(..) | Piece::Open(_), Some(entry)) => padding(entry),
            _ => None,
        };
        match (piece, self.recipe.entries().get(self.next_entry)) {
            (Some(piece), _) => (self.next_entry, piece),
            (None, Some(entry)) => (self.next_entry + 1, Piece::Header(self.recipe.header(entry), 0)),
            // Two blocks of zeros end the archive, and the range ends with them.
            (None, None) => (self.next_entry, Piece::Zeros(self.remaining_bytes)),
        }
    }

    /// Reads some bytes of the current piece; zero when it has no more.
    fn read_piece(&mut self, buffer: &mut [u8]) -> Result<usize, RenderError> {
        let copy = |bytes: &[u8], at: &mut usize, buffer: &mut [u8]| {
            let length = buffer.len().min(bytes.len() - *at);
            buffer[..length].copy_from_slice(&bytes[*at..*at + length]);
            *at += length;
            length
        };
        match &mut self.piece {
            Piece::Done => Ok(0),
            Piece::Header(bytes, at) => Ok(copy(bytes, at, buffer)),
            Piece::Inline(bytes, at) => Ok(copy(bytes, at, buffer)),
            Piece::Open(file) => file.read(buffer),
            Piece::Zeros(left_bytes) => {
                let length = at_most(buffer.len(), *left_bytes);
                buffer[..length].fill(0);
                *left_bytes -= length as u64;
                Ok(length)
            }
            Piece::Failed(path) => {
                Err(RenderError::Unreadable { path: path.clone(), source: io::Error::other("an earlier read of it failed") })
            }
        }
    }
}

fn file_piece(entry: &Entry) -> Option<Piece> {
    match &entry.kind {
        EntryKind::File { size_bytes, content: Content::Local(file), .. } => {
            // An empty file is looked at as well: it may have been filled since it was listed.
            Some(Piece::Open(OpenFile::later(file.clone(), 0, *size_bytes)))
        }
        EntryKind::File { content: Content::Inline(bytes), .. } => Some(Piece::Inline(bytes.clone(), 0)),
        EntryKind::Folder => None,
    }
}

fn padding(entry: &Entry) -> Option<Piece> {
    match &entry.kind {
        EntryKind::File { size_bytes, .. } => Some(Piece::Zeros(size_bytes.next_multiple_of(BLOCK_BYTES) - size_bytes)),
        EntryKind::Folder => None,
    }
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = at_most(buffer.len(), self.remaining_bytes);
        let mut filled = 0;
        while filled < wanted {
            match self.read_piece(&mut buffer[filled..wanted]) {
                Ok(0) => (self.next_entry, self.piece) = self.following(),
                Ok(length) => {
                    filled += length;
                    self.remaining_bytes -= length as u64;
                }
                Err(error) => {
                    let (RenderError::Changed { path, .. } | RenderError::Unreadable { path, .. }) = &error;
                    self.piece = Piece::Failed(path.clone());
                    return Err(error.into());
                }
            }
        }
        // A range may end inside a file: what has been read of it is vouched for all the same.
        if self.remaining_bytes == 0
            && let Piece::Open(file) = &mut self.piece
        {
            file.check_at_end()?;
        }
        Ok(filled)
    }
}

/// A file of the model, opened at its first read.
struct OpenFile {
    local: Arc<LocalFile>,
    /// What the entry says.
    size_bytes: u64,
    at: u64,
    opened: Option<File>,
    checked_at_end: bool,
}

impl OpenFile {
    fn later(local: Arc<LocalFile>, at: u64, size_bytes: u64) -> OpenFile {
        OpenFile { local, size_bytes, at, opened: None, checked_at_end: false }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, RenderError> {
        if self.opened.is_none() {
            self.opened = Some(self.open()?);
        }
        let length = at_most(buffer.len(), self.size_bytes - self.at);
        if length == 0 {
            self.check_at_end()?;
            return Ok(0);
        }
        let file = self.opened.as_mut().expect("opened above");
        let read = loop {
            match file.read(&mut buffer[..length]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match read.map_err(|source| unreadable(&self.local.path, source))? {
            0 => Err(changed(&self.local.path, format!("it ends after {} bytes and not {}", self.at, self.size_bytes))),
            length => {
                self.at += length as u64;
                Ok(length)
            }
        }
    }

    fn open(&self) -> Result<File, RenderError> {
        let mut file = open_file(&self.local, self.size_bytes)?;
        if self.size_bytes - self.at > READ_BYTES as u64 {
            // The system reads further ahead. Where it does not know how, nothing is lost.
            let _ = rustix::fs::fadvise(&file, self.at, None, rustix::fs::Advice::Sequential);
        }
        if self.at > 0 {
            file.seek(SeekFrom::Start(self.at)).map_err(|source| unreadable(&self.local.path, source))?;
        }
        Ok(file)
    }

    fn check_at_end(&mut self) -> Result<(), RenderError> {
        let Some(file) = self.opened.as_ref().filter(|_| !self.checked_at_end) else { return Ok(()) };
        check_file(file, &self.local, self.size_bytes)?;
        self.checked_at_end = true;
        Ok(())
    }
}

/// Opens a file that must be what it was when it was listed.
pub(super) fn open_file(local: &LocalFile, size_bytes: u64) -> Result<File, RenderError> {
    let path = &local.path;
    // Not blocking: a pipe that has taken the file's place would wait for a writer for ever.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => changed(path, "it is gone".to_owned()),
        _ => unreadable(path, source),
    })?;
    check_file(&file, local, size_bytes)?;
    Ok(file)
}

/// Compares an open file with what it was when it was listed.
pub(super) fn check_file(file: &File, local: &LocalFile, size_bytes: u64) -> Result<(), RenderError> {
    let metadata = file.metadata().map_err(|source| unreadable(&local.path, source))?;
    if !metadata.is_file() {
        return Err(changed(&local.path, "it is no longer a regular file".to_owned()));
    }
    let now = if local.stamp == Stamp::default() { Stamp::default() } else { stamp(&metadata) };
    compare(&local.path, (size_bytes, local.stamp), (metadata.len(), now))
}

fn compare(path: &Path, expected: (u64, Stamp), found: (u64, Stamp)) -> Result<(), RenderError> {
    let ((expected_bytes, expected), (found_bytes, found)) = (expected, found);
    if expected_bytes != found_bytes {
        return Err(changed(path, format!("it has {found_bytes} bytes and not {expected_bytes}")));
    }
    if (expected.device, expected.inode) != (found.device, found.inode) {
        return Err(changed(path, "another file has taken its place".to_owned()));
    }
    if expected != found {
        return Err(changed(path, "it was written to, or its mode or owner was changed".to_owned()));
    }
    Ok(())
}

fn changed(path: &Path, how: String) -> RenderError {
    RenderError::Changed { path: path.to_owned(), how }
}

fn unreadable(path: &Path, source: io::Error) -> RenderError {
    RenderError::Unreadable { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(folder: &Path, name: &str, bytes: &[u8]) -> Entry {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        let stamp = stamp(&std::fs::metadata(&path).unwrap());
        let content = Content::Local(Arc::new(LocalFile { path, stamp, digest: None }));
        let kind = EntryKind::File { size_bytes: bytes.len() as u64, executable: false, content };
        Entry { path: TreePath::new(&format!("m/{name}")).unwrap(), kind }
    }

    fn all(recipe: &Arc<Recipe>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        Renderer::new(recipe.clone()).read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn a_file_that_is_not_what_it_was_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w");
        let change = |change: &dyn Fn(), how: &str| {
            let recipe = Arc::new(Recipe::new(vec![local(folder.path(), "w", b"weights")], 0).unwrap());
            change();
            let error = all(&recipe).unwrap_err();
            let error = render_error(&error).unwrap();
            assert_eq!(error.fault(), Fault::Invalid);
            assert_eq!(error.to_string(), format!("`{}` changed while it was being read: {how}", path.display()));
            // The middle of the file is refused as the whole is.
            let mut range = Renderer::range(recipe.clone(), 1027..1029);
            assert!(range.read_to_end(&mut Vec::new()).is_err());
            let _ = std::fs::remove_file(&path);
        };
        change(&|| std::fs::write(&path, b"longer weights").unwrap(), "it has 14 bytes and not 7");
        change(&|| std::fs::write(&path, b"w").unwrap(), "it has 1 bytes and not 7");
        change(&|| std::fs::remove_file(&path).unwrap(), "it is gone");
        change(
            &|| {
                std::fs::rename(&path, folder.path().join("old")).unwrap();
                std::fs::write(&path, b"WEIGHTS").unwrap();
            },
            "another file has taken its place",
        );
        change(
            &|| File::options().write(true).open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap(),
            "it was written to, or its mode or owner was changed",
        );
    }
}
