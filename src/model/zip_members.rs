//! The members of a zip that somebody wants, each up to a bound: for those who look into models and load none.
//!
//! What must stay true: an archive of any size and any content costs its directory and the bounded beginnings of the wanted members. An archive that
//! cannot be read, or a member that cannot, has no members for us: what is wrong with a model's own file its reader says (`contract/`).

use std::cell::Cell;
use std::io::{Read, Seek};
use std::rc::Rc;

use zip::ZipArchive;

use crate::contract::rationed::Rationed;

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
    let Ok(mut archive) = ZipArchive::new(Rationed::new(source, left_bytes.clone())) else { return };
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
