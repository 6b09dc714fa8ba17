//! The bytes of a pickle, front to back, in a file of any size: what is stepped over is not read.
//!
//! A pickle is opcodes with a few bytes each, and in between texts and arrays of any length. The tape reads in small windows and jumps over what nobody
//! asks for. It never goes back, so that it serves what is unpacked on the way, too. It knows no opcodes.
//!
//! What must stay true: whatever the bytes, at most [`READ_BYTES_MAX`] are read and one window is held; a source that fails ends the tape behind the last
//! byte that it gave.

use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;

/// The most bytes that are read of the pickles of one file.
pub(super) const READ_BYTES_MAX: u64 = 64 << 20;

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

    /// Goes past so many bytes.
    pub(super) fn skip(&mut self, size_bytes: u64) -> Result<(), TapeEnd> {
        self.at = self.at.checked_add(size_bytes).filter(|end| *end <= self.end).ok_or(TapeEnd::Cut)?;
        Ok(())
    }

    /// The next byte, without going past it.
    pub(super) fn peek(&mut self) -> Result<u8, TapeEnd> {
        self.rest().map(|rest| rest[0])
    }

    /// The number in the next bytes, at most eight, the lowest first.
    pub(super) fn number(&mut self, size_bytes: u64) -> Result<u64, TapeEnd> {
        let mut number = 0;
        for shift in 0..size_bytes {
            number |= u64::from(self.peek()?) << (8 * shift);
            self.at += 1;
        }
        Ok(number)
    }

    /// The next bytes; `None` where they are more than `most`. Goes past them.
    pub(super) fn bytes(&mut self, size_bytes: u64, most: u64) -> Result<Option<Vec<u8>>, TapeEnd> {
        if size_bytes > most {
            return self.skip(size_bytes).map(|()| None);
        }
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < size_bytes {
            let wanted = size_bytes as usize - bytes.len();
            let rest = self.rest()?;
            let taken = wanted.min(rest.len());
            bytes.extend_from_slice(&rest[..taken]);
            self.at += taken as u64;
        }
        Ok(Some(bytes))
    }

    /// The bytes up to the next line end; `None` where they are more than `most`. Goes past the line end.
    pub(super) fn line(&mut self, most: u64) -> Result<Option<Vec<u8>>, TapeEnd> {
        let (mut line, mut length) = (Vec::new(), 0);
        loop {
            let rest = self.rest()?;
            let taken = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let ends = taken < rest.len();
            length += taken as u64;
            if length <= most {
                line.extend_from_slice(&rest[..taken]);
            }
            self.at += taken as u64 + u64::from(ends);
            if ends {
                return Ok((length <= most).then_some(line));
            }
        }
    }

    /// What the window has from here on, at least a byte; where it has none, a new one.
    pub(super) fn rest(&mut self) -> Result<&[u8], TapeEnd> {
        let window_end = self.window_at + self.window.len() as u64;
        if !(self.window_at..window_end).contains(&self.at) {
            self.next_bytes = if self.at == window_end { (self.next_bytes * 2).min(WINDOW_BYTES_MAX) } else { WINDOW_BYTES_MIN };
            let wanted = self.next_bytes.min(self.end.saturating_sub(self.at));
            self.left_bytes = self.left_bytes.checked_sub(wanted).ok_or(TapeEnd::Limit)?;
            self.window.clear();
            self.window_at = self.at;
            // What a source gave before it failed counts.
            let _ = self.source.seek(SeekFrom::Start(self.at)).and_then(|_| (&mut self.source).take(wanted).read_to_end(&mut self.window));
        }
        let rest = &self.window[(self.at - self.window_at) as usize..];
        if rest.is_empty() { Err(TapeEnd::Cut) } else { Ok(rest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn what_is_stepped_over_is_not_read() {
        let mut bytes = b"name\n".to_vec();
        bytes.resize(200_000, 7);
        bytes.extend_from_slice(b"\x01\x02'x'\nlong\nabcd");
        let end = bytes.len() as u64;
        let mut tape = Tape::new(Cursor::new(bytes), 0, end);
        assert_eq!(tape.line(4), Ok(Some(b"name".to_vec())));
        tape.skip(200_000 - 5).unwrap();
        assert_eq!((tape.peek(), tape.number(2)), (Ok(1), Ok(0x0201)));
        assert_eq!((tape.line(3), tape.line(3)), (Ok(Some(b"'x'".to_vec())), Ok(None)));
        assert_eq!((tape.bytes(2, 2), tape.bytes(2, 1), tape.at()), (Ok(Some(b"ab".to_vec())), Ok(None), end));
        assert_eq!((tape.number(1), tape.line(9), tape.skip(1)), (Err(TapeEnd::Cut), Err(TapeEnd::Cut), Err(TapeEnd::Cut)));
        assert!(READ_BYTES_MAX - tape.left_bytes < 8 << 10, "{}", tape.left_bytes);
    }

    #[test]
    fn a_line_without_an_end_costs_no_more_than_may_be_read() {
        let mut tape = Tape::new(std::io::BufReader::new(Endless), 0, i64::MAX as u64);
        assert_eq!(tape.line(1000), Err(TapeEnd::Limit));
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
