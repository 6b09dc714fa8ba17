//! The header blocks of a tar entry, byte by byte.
//!
//! ustar where it can say the thing; where it cannot (a path that is not ASCII or does not fit, a file of 8 GiB or more), a PAX
//! record before it. That is the choice of Go's `archive/tar`, so every reader of layers takes it; GNU `L` entries, which the `tar`
//! crate would write by itself, are never made (dependencies, "More traps"). Every field is fixed by the arguments: nothing of
//! the machine gets in.

use super::layer::{BLOCK_BYTES, EntryKind};
use super::path::TreePath;

/// The largest size that ustar's eleven octal digits hold.
const USTAR_SIZE_MAX: u64 = 0o77_777_777_777;
const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;
/// Where a header's sum stands; it counts as blanks in the sum (POSIX pax).
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// The size of [`blocks`], without making them.
pub fn size_bytes(path: &TreePath, kind: &EntryKind) -> u64 {
    let records = records_size(path, kind);
    if records == 0 { BLOCK_BYTES } else { 2 * BLOCK_BYTES + (records as u64).next_multiple_of(BLOCK_BYTES) }
}

/// The header of an entry, PAX blocks first where it needs them.
pub fn blocks(path: &TreePath, kind: &EntryKind, modified_s: u64) -> Vec<u8> {
    let (name, records) = (stored_name(path, kind), records(path, kind));
    let (mode, size) = match kind {
        EntryKind::Folder => (0o755, 0),
        EntryKind::File { size_bytes, executable, .. } => (if *executable { 0o755 } else { 0o644 }, *size_bytes),
    };
    let mut out = Vec::with_capacity(size_bytes(path, kind) as usize);
    if !records.is_empty() {
        out.extend_from_slice(&block(("", "PaxHeaders.0/entry"), tar::EntryType::XHeader, 0o644, records.len() as u64, modified_s));
        out.extend_from_slice(records.as_bytes());
        out.resize(out.len().next_multiple_of(BLOCK_BYTES as usize), 0);
    }
    let entry_type = match kind {
        EntryKind::Folder => tar::EntryType::Directory,
        EntryKind::File { .. } => tar::EntryType::Regular,
    };
    // With a PAX path readers ignore this one; what fits of it helps those who look at raw blocks.
    let fallback = || ("", ascii_start(&name));
    let split = split(&name).unwrap_or_else(fallback);
    // POSIX: with a PAX size the ustar field holds what fits; Go and GNU tar write zero.
    let field_size = if size > USTAR_SIZE_MAX { 0 } else { size };
    out.extend_from_slice(&block(split, entry_type, mode, field_size, modified_s));
    out
}

/// Folders end in `/`, as every archiver writes them.
fn stored_name(path: &TreePath, kind: &EntryKind) -> String {
    match kind {
        EntryKind::Folder => format!("{path}/"),
        EntryKind::File { .. } => path.as_str().to_owned(),
    }
}

/// Splits a name over ustar's prefix and name fields; `None` where it does not fit or is not ASCII.
fn split(name: &str) -> Option<(&str, &str)> {
    if !name.is_ascii() {
        return None;
    }
    if name.len() <= NAME_BYTES {
        return Some(("", name));
    }
    // The last byte may be a folder's own slash; the split is at a slash before it.
    let inner = &name[..name.len() - 1];
    let at = inner.char_indices().find(|&(at, c)| c == '/' && name.len() - at - 1 <= NAME_BYTES)?.0;
    (at <= PREFIX_BYTES).then(|| (&name[..at], &name[at + 1..]))
}

fn ascii_start(name: &str) -> &str {
    let end = name.bytes().position(|byte| !byte.is_ascii()).unwrap_or(name.len()).min(NAME_BYTES);
    &name[..end]
}

fn needs_path(path: &TreePath, kind: &EntryKind) -> bool {
    split(&stored_name(path, kind)).is_none()
}

fn needs_size(kind: &EntryKind) -> Option<u64> {
    match kind {
        EntryKind::File { size_bytes, .. } if *size_bytes > USTAR_SIZE_MAX => Some(*size_bytes),
        _ => None,
    }
}

fn records(path: &TreePath, kind: &EntryKind) -> String {
    let mut records = String::new();
    if needs_path(path, kind) {
        records.push_str(&record("path", &stored_name(path, kind)));
    }
    if let Some(size_bytes) = needs_size(kind) {
        records.push_str(&record("size", &size_bytes.to_string()));
    }
    records
}

fn records_size(path: &TreePath, kind: &EntryKind) -> usize {
    let short_ascii = path.as_str().len() < NAME_BYTES && path.as_str().is_ascii();
    if short_ascii && needs_size(kind).is_none() { 0 } else { records(path, kind).len() }
}

/// `LENGTH keyword=value\n`, where LENGTH counts itself (POSIX pax, "pax Header Block").
fn record(keyword: &str, value: &str) -> String {
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() > rest.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {keyword}={value}\n")
}

fn block((prefix, name): (&str, &str), entry_type: tar::EntryType, mode: u32, size: u64, modified_s: u64) -> [u8; 512] {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(entry_type);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_mtime(modified_s);
    // The fields are written by hand: `set_path` refuses or rewrites names that are fine in an image.
    let fields = header.as_ustar_mut().expect("made as ustar above");
    fields.name[..name.len()].copy_from_slice(name.as_bytes());
    fields.prefix[..prefix.len()].copy_from_slice(prefix.as_bytes());
    let mut bytes = *header.as_bytes();
    bytes[CHECKSUM].fill(b' ');
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    // Six digits, NUL, blank: the form of Go, GNU tar and Python, so that their tars of the same entries have our digests. The tar crate's is another.
    bytes[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::layer::Content;
    use super::*;

    fn file(size_bytes: u64) -> EntryKind {
        EntryKind::File { size_bytes, executable: false, content: Content::Inline([].into()) }
    }

    #[test]
    fn records_count_themselves() {
        assert_eq!(record("path", "x"), "9 path=x\n");
        assert_eq!(record("path", "xx"), "11 path=xx\n");
        for length in 1..1200 {
            let record = record("path", &"x".repeat(length));
            assert_eq!(record.split_once(' ').unwrap().0.parse::<usize>().unwrap(), record.len());
        }
    }

    #[test]
    fn the_tar_crate_reads_every_form_back() {
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(90));
        let too_long = format!("{}/{}", "d".repeat(200), "f".repeat(120));
        for name in ["a", "a/b", &"n".repeat(100), &"n".repeat(101), &long, &too_long, "größe/模型.bin"] {
            for kind in [file(0), EntryKind::Folder] {
                let path = TreePath::new(name).unwrap();
                let mut bytes = blocks(&path, &kind, 7);
                assert_eq!(bytes.len() as u64, size_bytes(&path, &kind), "{name}");
                bytes.extend_from_slice(&[0; 1024]);
                let mut archive = tar::Archive::new(&bytes[..]);
                let entry = archive.entries().unwrap().next().unwrap().unwrap();
                assert_eq!(&*entry.path_bytes(), stored_name(&path, &kind).as_bytes());
                assert_eq!(entry.header().mtime().unwrap(), 7);
                assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (0, 0));
                assert!(entry.header().as_ustar().is_some());
            }
        }
    }

    #[test]
    fn eight_gibibytes_need_a_record_and_one_byte_less_does_not() {
        let path = TreePath::new("w").unwrap();
        assert_eq!(blocks(&path, &file(8 << 30), 0).len(), 3 * 512);
        assert_eq!(blocks(&path, &file((8 << 30) - 1), 0).len(), 512);
        let mut archive = blocks(&path, &file(8 << 30), 0);
        archive.extend_from_slice(&[0; 512]);
        let mut archive = tar::Archive::new(&archive[..]);
        assert_eq!(archive.entries().unwrap().next().unwrap().unwrap().size(), 8 << 30);
    }
}
