//! What the tests make up: damage in the same places in every run, protobuf by hand, files too large for a disk.

use std::io::{self, Read, Seek, SeekFrom};

/// Marsaglia's xorshift: the same numbers in every run.
pub struct Numbers(pub u64);

impl Numbers {
    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// A number as protobuf writes it.
pub fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A field that is a message, a string or bytes; its number is below 16.
pub fn message(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2], varint(content.len() as u64).as_slice(), content].concat()
}

/// A part of a file.
pub enum Part {
    /// These.
    Bytes(Vec<u8>),
    /// So many zeros, which are nowhere.
    Hole(u64),
}

impl Part {
    /// Its length.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::Hole(size_bytes) => *size_bytes,
        }
    }
}

/// A file of any size that takes no room, and a count of the bytes that were read of it.
pub struct HugeFile {
    parts: Vec<Part>,
    position: u64,
    /// How many bytes were read.
    pub read_bytes: u64,
}

impl HugeFile {
    /// The file of these parts.
    pub fn new(parts: Vec<Part>) -> HugeFile {
        HugeFile { parts, position: 0, read_bytes: 0 }
    }

    /// Its length.
    pub fn size_bytes(&self) -> u64 {
        self.parts.iter().map(Part::size_bytes).sum()
    }
}

impl Read for HugeFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut at = self.position;
        for part in &self.parts {
            if let Some(left_bytes) = part.size_bytes().checked_sub(at).filter(|left_bytes| *left_bytes > 0) {
                let count = (buffer.len() as u64).min(left_bytes) as usize;
                match part {
                    Part::Bytes(bytes) => buffer[..count].copy_from_slice(&bytes[at as usize..][..count]),
                    Part::Hole(_) => buffer[..count].fill(0),
                }
                self.position += count as u64;
                self.read_bytes += count as u64;
                return Ok(count);
            }
            at -= part.size_bytes();
        }
        Ok(0)
    }
}

impl Seek for HugeFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => self.position.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput)?,
            SeekFrom::End(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(self.position)
    }
}
