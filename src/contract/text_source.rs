//! The bytes of a text of any size, one after the other, and the place of each.
//!
//! What `text_walker.rs` stands on: one buffer, a look at the next byte, and lines and columns counted on the way. It knows no grammar.
//!
//! What must stay true: it holds [`BUFFER_BYTES`] of the text and no more, however long a line is; an error can still show the line
//! around a place that is not further back than [`KEPT_BYTES`].

use std::io::{self, ErrorKind, Read};

use super::text_place::{EXCERPT_CHARACTERS_MAX, TextPlace};

/// What is held of a text.
pub const BUFFER_BYTES: usize = 64 << 10;

/// How much of what was passed stays in the buffer.
pub const KEPT_BYTES: usize = 4 << 10;

/// A text, and how far it was read.
pub(super) struct TextSource<R> {
    source: R,
    file: &'static str,
    /// What is not yet in the buffer.
    left_bytes: u64,
    buffer: Vec<u8>,
    /// How much of the buffer is filled.
    end: usize,
    /// The offset in the file of the buffer's first byte.
    buffer_at: u64,
    /// The next byte, in the buffer.
    next: usize,
    line: usize,
    /// In characters, from 1.
    column: usize,
}

/// A place that was passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    offset: u64,
    /// From 1.
    pub(super) line: usize,
    column: usize,
}

impl<R: Read> TextSource<R> {
    /// The first `size_bytes` of `source`; places call it `file`.
    pub(super) fn new(source: R, size_bytes: u64, file: &'static str) -> TextSource<R> {
        let buffer = vec![0; BUFFER_BYTES];
        TextSource { source, file, left_bytes: size_bytes, buffer, end: 0, buffer_at: 0, next: 0, line: 1, column: 1 }
    }

    /// The next byte, which stays the next; `None` at the end. A file that is shorter than was said is an unexpected end.
    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        if self.next == self.end {
            self.fill()?;
        }
        Ok(self.buffer[..self.end].get(self.next).copied())
    }

    /// Passes the byte that was looked at.
    pub(super) fn pass(&mut self) {
        self.pass_bytes((self.end - self.next).min(1));
    }

    /// Passes every byte up to the first that is not `wanted`, or the end; `wanted` is asked once for each.
    pub(super) fn pass_while(&mut self, mut wanted: impl FnMut(u8) -> bool) -> io::Result<()> {
        while self.peek()?.is_some() {
            let rest = &self.buffer[self.next..self.end];
            let stop = rest.iter().position(|byte| !wanted(*byte));
            self.pass_bytes(stop.unwrap_or(rest.len()));
            if stop.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Passes so many bytes of the buffer, and counts lines and columns.
    fn pass_bytes(&mut self, count: usize) {
        let passed = &self.buffer[self.next..self.next + count];
        let line_at = passed.iter().rposition(|byte| *byte == b'\n');
        if let Some(at) = line_at {
            self.line += passed[..at].split(|byte| *byte == b'\n').count();
            self.column = 1;
        }
        // The bytes of a character after its first count for nothing.
        let begins = |byte: &&u8| !matches!(byte, 0x80..0xc0);
        self.column += passed[line_at.map_or(0, |at| at + 1)..].iter().filter(begins).count();
        self.next += count;
    }

    /// Where the next byte is.
    pub(super) fn mark(&self) -> Mark {
        Mark { offset: self.buffer_at + self.next as u64, line: self.line, column: self.column }
    }

    /// The place of a mark, with as much of its line as is at hand.
    pub(super) fn place(&self, mark: Mark) -> TextPlace {
        // A character has at most four bytes.
        const AROUND_BYTES: usize = 4 * (EXCERPT_CHARACTERS_MAX + 1);
        let at = usize::try_from(mark.offset.saturating_sub(self.buffer_at)).unwrap_or(usize::MAX).min(self.end);
        let before = &self.buffer[at.saturating_sub(AROUND_BYTES)..at];
        let line_before = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let after = &self.buffer[at..self.end.min(at + AROUND_BYTES)];
        let (line_before, after) = (String::from_utf8_lossy(line_before), String::from_utf8_lossy(after));
        TextPlace::in_line(self.file, mark.line, mark.column, &line_before, &after)
    }

    /// The next character, for an error that names it.
    pub(super) fn next_character(&self) -> Option<char> {
        let end = self.end.min(self.next + 4);
        String::from_utf8_lossy(&self.buffer[self.next..end]).chars().next()
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.end == self.buffer.len() {
            let passed_bytes = self.next.saturating_sub(KEPT_BYTES);
            self.buffer.copy_within(passed_bytes.., 0);
            self.buffer_at += passed_bytes as u64;
            self.next -= passed_bytes;
            self.end -= passed_bytes;
        }
        // Within the buffer, so it fits a usize of any width.
        let wanted_bytes = self.left_bytes.min((self.buffer.len() - self.end) as u64) as usize;
        if wanted_bytes == 0 {
            return Ok(());
        }
        let read_bytes = loop {
            match self.source.read(&mut self.buffer[self.end..self.end + wanted_bytes]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.end += read_bytes;
        self.left_bytes -= read_bytes as u64;
        if read_bytes == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}
