//! The members of a zip that somebody wants, each up to a bound: for those who look into models and load none.
//!
//! What must stay true: an archive of any size and any content costs its directory and the bounded beginnings of the wanted members. An archive that
//! cannot be read, or a member that cannot, has no members for us: what is wrong with a model's own file its reader says (`contract/`).

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

use zip::ZipArchive;

/// The bytes of an archive's directory: some tens of thousands of members.
const DIRECTORY_BYTES_MAX: u64 = 8 << 20;

/// All members together, as they lie in the archive.
const MEMBERS_BYTES_MAX: u64 = 64 << 20;

/// Gives each member that is `wanted` by its name to `see`, at most `members_max`, the first `bytes_max` bytes of each.
pub(super) fn each<R: Read + Seek>(
    source: R,
    members_max: usize,
    bytes_max: u64,
    wanted: impl Fn(&str) -> bool,
    mut see: impl FnMut(&str, Vec<u8>),
) {
    let left_bytes = Rc::new(Cell::new(DIRECTORY_BYTES_MAX));
    let Ok(mut archive) = ZipArchive::new(Counted { source, left_bytes: left_bytes.clone() }) else { return };
    left_bytes.set(MEMBERS_BYTES_MAX);
    let names: Vec<String> =
        archive.file_names().filter_map(|name| Some(name.ok()?.into_owned())).filter(|name| wanted(name)).take(members_max).collect();
    let mut unpacked_bytes_left = MEMBERS_BYTES_MAX;
    for name in names {
        let Ok(member) = archive.by_name(&name) else { continue };
        let mut bytes = Vec::new();
        // What could be unpacked of a damaged member is looked at.
        let _ = member.take(bytes_max.min(unpacked_bytes_left)).read_to_end(&mut bytes);
        unpacked_bytes_left = unpacked_bytes_left.saturating_sub(bytes.len() as u64);
        see(&name, bytes);
    }
}

/// A source that ends when what may be read of it has been read.
struct Counted<R> {
    source: R,
    left_bytes: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.left_bytes.get()).unwrap_or(usize::MAX));
        let count = self.source.read(&mut buffer[..length])?;
        self.left_bytes.set(self.left_bytes.get().saturating_sub(count as u64));
        Ok(count)
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.source.seek(to)
    }
}
