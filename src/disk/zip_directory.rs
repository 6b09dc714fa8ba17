//! Where the members of a zip file lie in it (APPNOTE 6.3.10), and nothing of what is in them.
//!
//! For archives whose packed bytes are used as they are (`oci/packed.rs`): each member's place, its two sizes and its CRC. A general reader unpacks, and
//! hides what matters here: names that are there twice, members that share bytes, bytes that belong to none. Only what wheels are made of is taken:
//! one disk, stored or deflated members, names in ASCII or UTF-8, no encryption, no links.
//!
//! What must stay true: nothing is believed before it is compared with the file's size; a member that comes out lies within the file and overlaps no other.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The most members: the most files that a model may have.
const MEMBERS_MAX: u64 = 200_000;
/// The largest directory that is read.
const DIRECTORY_BYTES_MAX: u64 = 128 << 20;
/// The end record, and the comment after it.
const END_BYTES: u64 = 22;
const COMMENT_BYTES_MAX: u64 = 0xffff;
const LOCAL_BYTES: usize = 30;
const CENTRAL_BYTES: usize = 46;

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZipMember {
    /// Its name; one that ends in `/` is a folder.
    pub name: String,
    /// Whether its bytes are deflated, or lie as they are.
    pub deflated: bool,
    /// The CRC-32 of its bytes.
    pub crc32: u32,
    /// The number of its bytes.
    pub size_bytes: u64,
    /// Where its packed bytes begin.
    pub offset_bytes: u64,
    /// How many packed bytes there are.
    pub packed_bytes: u64,
    /// Whether somebody may execute it, by its Unix mode.
    pub executable: bool,
}

/// Why a directory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ZipError {
    /// The disk.
    #[error("reading it")]
    Read(#[from] io::Error),
    /// Not a zip file, or one that is cut.
    #[error("it is not a zip file, or its end is missing")]
    NoEnd,
    /// Something in it does not fit.
    #[error("its directory is damaged: {0}")]
    Damaged(&'static str),
    /// Something in it is past a limit.
    #[error("it has too much in it: {0}")]
    TooMuch(&'static str),
    /// A member that is not taken.
    #[error("its member `{}` {what}", .name.escape_debug())]
    Member {
        /// Its name.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Reads the directory of a file of `size_bytes`.
pub fn read(file: &File, size_bytes: u64) -> Result<Vec<ZipMember>, ZipError> {
    let End { entries, directory_bytes, directory_offset } = find_end(file, size_bytes)?;
    if entries > MEMBERS_MAX {
        return Err(ZipError::TooMuch("more than 200,000 members"));
    }
    if directory_bytes > DIRECTORY_BYTES_MAX {
        return Err(ZipError::TooMuch("a directory of more than 128 MiB"));
    }
    let mut bytes = vec![0; directory_bytes as usize];
    file.read_exact_at(&mut bytes, directory_offset)?;
    let (mut rest, mut members, mut names) = (bytes.as_slice(), Vec::new(), BTreeSet::new());
    for _ in 0..entries {
        let (central, after) = Central::read(rest)?;
        rest = after;
        let member = central.member(file, directory_offset)?;
        if !names.insert(member.name.clone()) {
            return Err(ZipError::Member { name: member.name, what: "is there twice" });
        }
        members.push(member);
    }
    if !rest.is_empty() {
        return Err(ZipError::Damaged("there is more in it than its members"));
    }
    check_overlap(&members)?;
    Ok(members)
}

fn check_overlap(members: &[ZipMember]) -> Result<(), ZipError> {
    let mut ranges: Vec<(u64, u64, &ZipMember)> = members
        .iter()
        .filter(|member| member.packed_bytes > 0)
        .map(|member| (member.offset_bytes, member.offset_bytes + member.packed_bytes, member))
        .collect();
    ranges.sort_by_key(|(begin, ..)| *begin);
    match ranges.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        Some(pair) => Err(ZipError::Member { name: pair[1].2.name.clone(), what: "shares its bytes with another" }),
        None => Ok(()),
    }
}

/// What the end of the file says of the directory.
struct End {
    entries: u64,
    directory_bytes: u64,
    directory_offset: u64,
}

fn find_end(file: &File, size_bytes: u64) -> Result<End, ZipError> {
    let tail_bytes = size_bytes.min(END_BYTES + COMMENT_BYTES_MAX);
    let tail_offset = size_bytes - tail_bytes;
    let mut tail = vec![0; tail_bytes as usize];
    file.read_exact_at(&mut tail, tail_offset)?;
    // The last signature whose comment reaches to the end of the file exactly.
    let is_end =
        |at: &usize| tail[*at..].starts_with(b"PK\x05\x06") && usize::from(u16_at(&tail, at + 20)) == tail.len() - at - END_BYTES as usize;
    let last = tail.len().checked_sub(END_BYTES as usize).ok_or(ZipError::NoEnd)?;
    let at = (0..=last).rev().find(is_end).ok_or(ZipError::NoEnd)?;
    let end = &tail[at..];
    let end_offset = tail_offset + at as u64;
    let mut found = End {
        entries: u64::from(u16_at(end, 10)),
        directory_bytes: u64::from(u32_at(end, 12)),
        directory_offset: u64::from(u32_at(end, 16)),
    };
    let mut directory_end = end_offset;
    if found.entries == 0xffff || found.directory_bytes == 0xffff_ffff || found.directory_offset == 0xffff_ffff {
        (found, directory_end) = find_end_64(file, end_offset)?;
    } else if u16_at(end, 4) != 0 || u16_at(end, 6) != 0 || u16_at(end, 8) != u16_at(end, 10) {
        return Err(ZipError::Damaged("it is spread over several files"));
    }
    // Bytes before the archive, or between directory and end, would be some other reader's archive.
    if found.directory_offset.checked_add(found.directory_bytes) != Some(directory_end) {
        return Err(ZipError::Damaged("it is not where the end says"));
    }
    Ok(found)
}

/// Zip64 (APPNOTE 4.3.14 and 4.3.15): the end of the directory is there as well.
fn find_end_64(file: &File, end_offset: u64) -> Result<(End, u64), ZipError> {
    let damaged = ZipError::Damaged("its 64-bit end is missing");
    let Some(locator_offset) = end_offset.checked_sub(20) else { return Err(damaged) };
    let mut locator = [0; 20];
    file.read_exact_at(&mut locator, locator_offset)?;
    let offset = u64_at(&locator, 8);
    if !locator.starts_with(b"PK\x06\x07") || offset.checked_add(56).is_none_or(|end| end > locator_offset) {
        return Err(damaged);
    }
    let mut end = [0; 56];
    file.read_exact_at(&mut end, offset)?;
    if !end.starts_with(b"PK\x06\x06") || u32_at(&end, 16) != 0 || u32_at(&end, 20) != 0 || u64_at(&end, 24) != u64_at(&end, 32) {
        return Err(damaged);
    }
    Ok((End { entries: u64_at(&end, 32), directory_bytes: u64_at(&end, 40), directory_offset: u64_at(&end, 48) }, offset))
}

/// A record of the directory.
struct Central<'a> {
    fixed: &'a [u8],
    name: &'a [u8],
    size_bytes: u64,
    packed_bytes: u64,
    local_offset: u64,
}

impl Central<'_> {
    fn read(bytes: &[u8]) -> Result<(Central<'_>, &[u8]), ZipError> {
        let damaged = ZipError::Damaged("a record is cut");
        let Some((fixed, rest)) = bytes.split_at_checked(CENTRAL_BYTES) else { return Err(damaged) };
        if !fixed.starts_with(b"PK\x01\x02") {
            return Err(ZipError::Damaged("a record does not begin as one"));
        }
        let lengths = [u16_at(fixed, 28), u16_at(fixed, 30), u16_at(fixed, 32)].map(usize::from);
        let [name, extra, _comment] = lengths;
        let Some((words, after)) = rest.split_at_checked(lengths.iter().sum()) else { return Err(damaged) };
        let mut central = Central {
            fixed,
            name: &words[..name],
            packed_bytes: u64::from(u32_at(fixed, 20)),
            size_bytes: u64::from(u32_at(fixed, 24)),
            local_offset: u64::from(u32_at(fixed, 42)),
        };
        central.read_wide(&words[name..name + extra])?;
        Ok((central, after))
    }

    /// The 64-bit fields stand in the extra field 1, in this order, where the 32-bit ones are full (APPNOTE 4.5.3).
    fn read_wide(&mut self, mut extra: &[u8]) -> Result<(), ZipError> {
        let full = u64::from(u32::MAX);
        let mut wanted: Vec<&mut u64> =
            [&mut self.size_bytes, &mut self.packed_bytes, &mut self.local_offset].into_iter().filter(|field| **field == full).collect();
        while extra.len() >= 4 && !wanted.is_empty() {
            let (tag, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
            let Some((mut field, rest)) = extra[4..].split_at_checked(length) else { break };
            extra = rest;
            if tag != 1 {
                continue;
            }
            for value in wanted.drain(..) {
                let Some((eight, rest)) = field.split_at_checked(8) else { return Err(ZipError::Damaged("a 64-bit size is missing")) };
                *value = u64_at(eight, 0);
                field = rest;
            }
        }
        if wanted.is_empty() { Ok(()) } else { Err(ZipError::Damaged("a 64-bit size is missing")) }
    }

    fn member(&self, file: &File, directory_offset: u64) -> Result<ZipMember, ZipError> {
        let name = String::from_utf8_lossy(self.name).into_owned();
        let refuse = |what| ZipError::Member { name: name.clone(), what };
        let (flags, method) = (u16_at(self.fixed, 8), u16_at(self.fixed, 10));
        // Bit 11: the name is UTF-8.
        if std::str::from_utf8(self.name).is_err() || !(self.name.is_ascii() || flags & 0x0800 != 0) {
            return Err(refuse("has a name that is neither ASCII nor UTF-8"));
        }
        if flags & 0x2041 != 0 {
            return Err(refuse("is encrypted"));
        }
        if !matches!(method, 0 | 8) || (method == 0 && self.packed_bytes != self.size_bytes) {
            return Err(refuse("is packed in a way that is neither stored nor deflated"));
        }
        // The upper half of the external attributes is the mode, where a Unix made it.
        let mode = if self.fixed[5] == 3 { u32_at(self.fixed, 38) >> 16 } else { 0 };
        if !matches!(mode & 0o170_000, 0 | 0o040_000 | 0o100_000) {
            return Err(refuse("is a link or a device"));
        }
        let offset_bytes = self.data_offset(file)?.ok_or_else(|| refuse("is not where the directory says"))?;
        if offset_bytes.checked_add(self.packed_bytes).is_none_or(|end| end > directory_offset) {
            return Err(refuse("reaches past the archive"));
        }
        Ok(ZipMember {
            deflated: method == 8,
            crc32: u32_at(self.fixed, 16),
            size_bytes: self.size_bytes,
            offset_bytes,
            packed_bytes: self.packed_bytes,
            executable: mode & 0o170_000 == 0o100_000 && mode & 0o111 != 0,
            name,
        })
    }

    /// Where the bytes begin, by the member's own header; `None` where that is not the same member's.
    fn data_offset(&self, file: &File) -> Result<Option<u64>, ZipError> {
        let mut header = vec![0; LOCAL_BYTES + self.name.len()];
        if let Err(error) = file.read_exact_at(&mut header, self.local_offset) {
            return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error.into()) };
        }
        let is_same =
            header.starts_with(b"PK\x03\x04") && usize::from(u16_at(&header, 26)) == self.name.len() && &header[LOCAL_BYTES..] == self.name;
        let before = header.len() as u64 + u64::from(u16_at(&header, 28));
        Ok(self.local_offset.checked_add(before).filter(|_| is_same))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::write::SimpleFileOptions;

    use super::*;

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, bytes) in members {
            writer.start_file(*name, SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn directory(bytes: &[u8]) -> Result<Vec<ZipMember>, ZipError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        read(&file, bytes.len() as u64)
    }

    #[test]
    fn members_are_found_with_their_bytes() {
        let bytes = archive(&[("a/x.py", &b"import this\n".repeat(50)), ("b", b"")]);
        let members = directory(&bytes).unwrap();
        let member = &members[0];
        assert_eq!((member.name.as_str(), member.size_bytes, member.deflated, member.executable), ("a/x.py", 600, true, true));
        let packed = &bytes[member.offset_bytes as usize..][..member.packed_bytes as usize];
        let mut unpacked = Vec::new();
        io::Read::read_to_end(&mut flate2::read::DeflateDecoder::new(packed), &mut unpacked).unwrap();
        assert_eq!(unpacked, b"import this\n".repeat(50));
        assert_eq!(members.len(), 2);
    }

    #[test]
    fn what_is_cut_doubled_or_damaged_is_refused() {
        let good = archive(&[("a", b"one"), ("b", b"two")]);
        for length in [0, 10, good.len() - 1] {
            assert!(matches!(directory(&good[..length]), Err(ZipError::NoEnd)), "{length}");
        }
        assert!(matches!(directory(&[b"before", good.as_slice()].concat()), Err(ZipError::Damaged(_))));
        let replaced = |from: &[u8], to: &[u8], which: usize| {
            let places: Vec<usize> = (0..good.len() - from.len()).filter(|at| good[*at..].starts_with(from)).collect();
            let mut bytes = good.clone();
            bytes[places[which]..][..to.len()].copy_from_slice(to);
            directory(&bytes)
        };
        let record = [b"PK\x01\x02".as_slice(), &good[good.windows(4).position(|four| four == b"PK\x01\x02").unwrap() + 4..][..4]].concat();
        // Encrypted, another method, a place past the end: fields of the first record of the directory.
        let at = good.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
        for (offset, value) in [(8, 1u8), (10, 12), (45, 0x7f), (23, 0x7f), (42, 9)] {
            let mut bytes = good.clone();
            bytes[at + offset] = value;
            assert!(directory(&bytes).is_err(), "{offset}");
        }
        assert!(replaced(&record, &[0; 8], 0).is_err());
        // Both records name the first member.
        let mut doubled = good.clone();
        let second = at + CENTRAL_BYTES + 1 + usize::from(u16_at(&good, at + 30));
        doubled[second + 42..second + 46].copy_from_slice(&good[at + 42..at + 46]);
        doubled[second + CENTRAL_BYTES] = b'a';
        let error = directory(&doubled).unwrap_err().to_string();
        assert_eq!(error, "its member `a` is there twice");
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x55;
            let _ = directory(&bytes);
        }
    }
}
