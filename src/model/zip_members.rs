//! The members of a zip, one after the other, each from its beginning as far as somebody wants: for those who look into models and load none.
//!
//! What must stay true: an archive of any size and any content costs its directory, and of the members what is read of them, up to bounds. What cannot be
//! read is told; what is wrong with a model's own file its reader says, too (`contract/`).

use std::cell::Cell;
use std::io::{Read, Seek};
use std::rc::Rc;

use zip::ZipArchive;

use crate::contract::rationed::Rationed;

/// The bytes of an archive's directory: some tens of thousands of members.
const DIRECTORY_BYTES_MAX: u64 = 8 << 20;

/// All members together, as they lie in the archive.
const MEMBERS_BYTES_MAX: u64 = 64 << 20;

/// The most members that are opened: wanted ones, and others.
const WANTED_MAX: usize = 10_000;
const OTHERS_MAX: usize = 1_000;

/// A member: what it unpacks to, where it can be read.
pub(super) type Member<'a> = Option<Box<dyn Read + 'a>>;

/// Gives each member to `see`, those that are `wanted` by their names first; whether there is a directory that can be read, and no wanted
/// member was left out.
pub(super) fn each<R: Read + Seek>(source: R, wanted: impl Fn(&str) -> bool, mut see: impl FnMut(&str, Member<'_>)) -> bool {
    let left_bytes = Rc::new(Cell::new(DIRECTORY_BYTES_MAX));
    let Ok(mut archive) = ZipArchive::new(Rationed::new(source, left_bytes.clone())) else { return false };
    left_bytes.set(MEMBERS_BYTES_MAX);
    let mut names: Vec<String> = archive.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
    names.sort_by_key(|name| !wanted(name));
    let wanted = names.iter().filter(|name| wanted(name)).count();
    for name in names.iter().take(wanted.min(WANTED_MAX) + OTHERS_MAX) {
        match archive.by_name(name) {
            Ok(member) => see(name, Some(Box::new(member))),
            Err(_) => see(name, None),
        }
    }
    wanted <= WANTED_MAX && left_bytes.get() > 0
}
