//! The bytes of a pickle, front to back, in a file of any size: what is stepped over is not read.
//!
//! A pickle is opcodes with a few bytes each, and in between texts and arrays of any length. The tape reads in small windows and jumps over what nobody
//! asks for, and it can look back at a text that it has passed. It knows no opcodes.
//!
//! What must stay true: whatever the bytes, at most [`READ_BYTES_MAX`] are read and one window is held; a source that fails ends the tape.

use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::ops::Range;

/// The most bytes that are read of one pickle.
pub(super) const READ_BYTES_MAX: u64 = 32 << 20;

/// The longest text that is looked at again.
const PEEK_BYTES_MAX: u64 = 1 << 10;

/// What is read after a jump, and the most that is read at once: straight on it is twice as much each time.
const WINDOW_BYTES_MIN: u64 = 1 << 10;
const WINDOW_BYTES_MAX: u64 = 64 << 10;

/// Why there are no more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TapeEnd {
    /// They end here.
    Cut,
    /// As much has been read as may be.
    Limit,
}

/// A source, and how far it has been read.
pub(super) struct Tape<R> {
    source: R,
    at: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    next_bytes: u64,
    left_bytes: u64,
}

impl<R: Read + Seek> Tape<R> {
    /// A tape that begins at `start` and has nothing past `end`.
    pub(super) fn new(source: R, start: u64, end: u64) -> Tape<R> {
        let (window, next_bytes) = (Vec::new(), WINDOW_BYTES_MIN);
        Tape { source, at: start, end: end.min(i64::MAX as u64), window, window_at: start, next_bytes, left_bytes: READ_BYTES_MAX }
    }

    /// Where the next byte is.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Goes past so many bytes, and says where they are.
    pub(super) fn skip(&mut self, size_bytes: u64) -> Result<Range<u64>, TapeEnd> {
        let end = self.at.checked_add(size_bytes).filter(|end| *end <= self.end).ok_or(TapeEnd::Cut)?;
        let skipped = self.at..end;
        self.at = end;
        Ok(skipped)
    }

    /// The number in the next bytes, at most eight, the lowest first.
    pub(super) fn number(&mut self, size_bytes: u64) -> Result<u64, TapeEnd> {
        let range = self.skip(size_bytes)?;
        let mut number = 0;
        for (shift, at) in range.enumerate() {
            number |= u64::from(self.byte(at)?) << (8 * shift);
        }
        Ok(number)
    }

    /// Where the bytes up to the next line end are; goes past it.
    pub(super) fn line(&mut self) -> Result<Range<u64>, TapeEnd> {
        let start = self.at;
        loop {
            if self.at >= self.end {
                return Err(TapeEnd::Cut);
            }
            self.byte(self.at)?;
            let rest = &self.window[(self.at - self.window_at) as usize..];
            match rest.iter().position(|byte| *byte == b'\n') {
                Some(length) => {
                    let end = self.at + length as u64;
                    self.at = end + 1;
                    return Ok(start..end);
                }
                None => self.at += rest.len() as u64,
            }
        }
    }

    /// A text without the quotes around it, where it has some.
    pub(super) fn within_quotes(&mut self, text: Range<u64>) -> Range<u64> {
        let quoted = |byte: Option<u8>| matches!(byte, Some(b'\'' | b'"'));
        let is_quoted = text.end - text.start >= 2 && quoted(self.byte(text.start).ok()) && quoted(self.byte(text.end - 1).ok());
        if is_quoted { text.start + 1..text.end - 1 } else { text }
    }

    /// Bytes that have been passed, or will be; `None` where they are too many or cannot be read.
    pub(super) fn peek(&mut self, range: &Range<u64>) -> Option<Vec<u8>> {
        if range.end.checked_sub(range.start)? > PEEK_BYTES_MAX || range.end > self.end {
            return None;
        }
        range.clone().map(|at| self.byte(at).ok()).collect()
    }

    /// The byte at a place, out of the window or a new one.
    fn byte(&mut self, at: u64) -> Result<u8, TapeEnd> {
        if let Some(byte) = at.checked_sub(self.window_at).and_then(|index| self.window.get(index as usize)) {
            return Ok(*byte);
        }
        let straight_on = at == self.window_at + self.window.len() as u64;
        self.next_bytes = if straight_on { (self.next_bytes * 2).min(WINDOW_BYTES_MAX) } else { WINDOW_BYTES_MIN };
        let wanted = self.next_bytes.min(self.end.saturating_sub(at));
        self.left_bytes = self.left_bytes.checked_sub(wanted).ok_or(TapeEnd::Limit)?;
        self.window.clear();
        self.window_at = at;
        let read = self.source.seek(SeekFrom::Start(at)).and_then(|_| (&mut self.source).take(wanted).read_to_end(&mut self.window));
        match (read, self.window.first()) {
            (Ok(_), Some(byte)) => Ok(*byte),
            _ => Err(TapeEnd::Cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn what_is_stepped_over_is_not_read_and_what_was_passed_can_be_looked_at() {
        let mut bytes = b"name\n".to_vec();
        bytes.resize(200_000, 7);
        bytes.extend_from_slice(b"\x01\x02'x'\n");
        let end = bytes.len() as u64;
        let mut tape = Tape::new(Cursor::new(bytes), 0, end);
        let name = tape.line().unwrap();
        tape.skip(200_000 - 5).unwrap();
        assert_eq!(tape.number(2), Ok(0x0201));
        let text = tape.line().unwrap();
        let text = tape.within_quotes(text);
        assert_eq!((tape.peek(&text), tape.peek(&name)), (Some(b"x".to_vec()), Some(b"name".to_vec())));
        assert_eq!((tape.number(1), tape.line(), tape.skip(1)), (Err(TapeEnd::Cut), Err(TapeEnd::Cut), Err(TapeEnd::Cut)));
        assert!(READ_BYTES_MAX - tape.left_bytes < 8 << 10, "{}", tape.left_bytes);
    }

    #[test]
    fn a_line_without_an_end_costs_no_more_than_may_be_read() {
        let mut tape = Tape::new(std::io::BufReader::new(Endless), 0, i64::MAX as u64);
        assert_eq!(tape.line(), Err(TapeEnd::Limit));
    }

    struct Endless;
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            buffer.fill(b'x');
            Ok(buffer.len())
        }
    }
    impl Seek for Endless {
        fn seek(&mut self, _: SeekFrom) -> std::io::Result<u64> {
            Ok(0)
        }
    }
}
