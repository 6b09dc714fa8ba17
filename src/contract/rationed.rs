//! A file of which no more is read than was allowed, whatever the library that reads it asks for.
//!
//! Not a limit on what comes out of it: what is unpacked is bounded by who unpacks. What must stay true: the ration is shared with whoever set it, so that an
//! archive's directory and its members can have one each.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

/// A source that ends when what may be read of it has been read.
pub struct Rationed<R> {
    source: R,
    left_bytes: Rc<Cell<u64>>,
}

impl<R> Rationed<R> {
    /// A source of which `left_bytes` may be read; whoever holds a clone of that may give more.
    pub fn new(source: R, left_bytes: Rc<Cell<u64>>) -> Rationed<R> {
        Rationed { source, left_bytes }
    }
}

impl<R: Read> Read for Rationed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.left_bytes.get()).unwrap_or(usize::MAX));
        let count = self.source.read(&mut buffer[..length])?;
        self.left_bytes.set(self.left_bytes.get().saturating_sub(count as u64));
        Ok(count)
    }
}

impl<R: Seek> Seek for Rationed<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.source.seek(to)
    }
}
