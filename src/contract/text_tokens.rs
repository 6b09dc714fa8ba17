//! The words of protobuf's text format: blanks and comments, names and numbers, strings with their escapes.
//!
//! Between `text_source.rs`, which knows bytes and places, and `text_walker.rs`, which knows messages. Rules are those of the text
//! format's specification.
//!
//! What must stay true: a string that nobody asks for is passed without being kept, however long it is; one that is asked for is taken
//! out of a budget.

use std::io::{self, ErrorKind, Read};

use super::text_place::TextPlace;
use super::text_source::{KEPT_BYTES, Mark, TextSource};
use super::walker::TEXT_BYTES_MAX;

/// The longest name, number or enum value; well within what the source still has when an error shows where it began.
const WORD_BYTES_MAX: usize = KEPT_BYTES / 4;

/// Why a walk over a text cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TextWalkError {
    /// No text form of a message, or one past a limit.
    #[error("{}", .at.with(.problem))]
    Malformed {
        /// Where.
        at: TextPlace,
        /// What is there.
        problem: String,
    },
    /// The file itself could not be read.
    #[error("{at}: reading failed")]
    Io {
        /// Where.
        at: TextPlace,
        /// The system's word.
        #[source]
        source: io::Error,
    },
}

/// A text, word by word.
pub(super) struct TextTokens<R> {
    source: TextSource<R>,
    text_bytes_left: u64,
}

impl<R: Read> TextTokens<R> {
    /// The first `size_bytes` of `source`; errors call it `file`.
    pub(super) fn new(source: R, size_bytes: u64, file: &'static str) -> TextTokens<R> {
        TextTokens { source: TextSource::new(source, size_bytes, file), text_bytes_left: TEXT_BYTES_MAX }
    }

    /// Passes blanks and comments; the first byte after them, which stays the next.
    pub(super) fn token(&mut self) -> Result<Option<u8>, TextWalkError> {
        loop {
            self.pass_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r'))?;
            match self.peek()? {
                Some(b'#') => self.pass_while(|byte| byte != b'\n')?,
                byte => return Ok(byte),
            }
        }
    }

    /// Passes the byte that was looked at.
    pub(super) fn pass(&mut self) {
        self.source.pass();
    }

    /// Passes every byte up to the first that is not `wanted`.
    pub(super) fn pass_while(&mut self, wanted: impl FnMut(u8) -> bool) -> Result<(), TextWalkError> {
        self.source.pass_while(wanted).map_err(|source| self.unreadable(source))
    }

    /// Adds every byte up to the first that is not `wanted` to a word; those that are wanted are ASCII.
    pub(super) fn word(&mut self, word: &mut String, wanted: impl Fn(u8) -> bool) -> Result<(), TextWalkError> {
        let begins = self.mark();
        while let Some(byte) = self.peek()?.filter(|byte| wanted(*byte)) {
            if word.len() >= WORD_BYTES_MAX {
                return Err(self.refused(begins, format!("a name or number of more than {WORD_BYTES_MAX} bytes")));
            }
            word.push(char::from(byte));
            self.pass();
        }
        Ok(())
    }

    /// Passes the string that begins here.
    pub(super) fn pass_string(&mut self, quote: u8) -> Result<(), TextWalkError> {
        self.pass();
        let mut escaped = false;
        self.pass_while(|byte| {
            // What a backslash escapes ends nothing, but a line's end ends everything.
            let goes_on = byte != b'\n' && (escaped || byte != quote);
            escaped = !escaped && byte == b'\\';
            goes_on
        })?;
        self.in_string(quote)?;
        self.pass();
        Ok(())
    }

    /// Adds the string that begins here to `bytes`.
    pub(super) fn string(&mut self, quote: u8, bytes: &mut Vec<u8>) -> Result<(), TextWalkError> {
        self.pass();
        loop {
            let byte = self.in_string(quote)?;
            let left = self.text_bytes_left.checked_sub(1);
            self.text_bytes_left = left.ok_or_else(|| self.here(format!("more than {TEXT_BYTES_MAX} bytes of names")))?;
            if byte == b'\\' {
                self.escape(quote, bytes)?;
                continue;
            }
            self.pass();
            if byte == quote {
                return Ok(());
            }
            bytes.push(byte);
        }
    }

    /// The next byte of a string; neither the text nor the line may end in it.
    fn in_string(&mut self, quote: u8) -> Result<u8, TextWalkError> {
        match self.peek()? {
            None | Some(b'\n') => Err(self.here(format!("the string's closing {} is missing", char::from(quote)))),
            Some(byte) => Ok(byte),
        }
    }

    fn escape(&mut self, quote: u8, bytes: &mut Vec<u8>) -> Result<(), TextWalkError> {
        let begins = self.mark();
        self.pass();
        let byte = self.in_string(quote)?;
        if byte.is_ascii_digit() {
            let number = self.digits(8, 3)?.ok_or_else(|| self.refused(begins, "no escape of a string".to_owned()))?;
            // Three octal digits can be more than a byte; official readers keep the low one.
            bytes.push(number as u8);
            return Ok(());
        }
        self.pass();
        let character = match byte {
            b'a' => 0x07,
            b'b' => 0x08,
            b't' => b'\t',
            b'n' => b'\n',
            b'v' => 0x0b,
            b'f' => 0x0c,
            b'r' => b'\r',
            b'?' | b'\\' | b'\'' | b'"' => byte,
            b'x' | b'X' | b'u' | b'U' => {
                let digits = match byte {
                    b'u' => 4,
                    b'U' => 8,
                    _ => 2,
                };
                let number = self.digits(16, digits)?;
                let character = number.filter(|_| digits > 2).and_then(char::from_u32);
                match (number, character) {
                    (Some(number), None) if digits == 2 => bytes.push(number as u8),
                    (_, Some(character)) => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
                    _ => return Err(self.refused(begins, "no escape of a string".to_owned())),
                }
                return Ok(());
            }
            _ => return Err(self.refused(begins, "no escape of a string".to_owned())),
        };
        bytes.push(character);
        Ok(())
    }

    /// The number that up to `count_max` digits give; `None` where there is none.
    fn digits(&mut self, radix: u32, count_max: usize) -> Result<Option<u32>, TextWalkError> {
        let mut number = None;
        for _ in 0..count_max {
            let Some(digit) = self.peek()?.and_then(|byte| char::from(byte).to_digit(radix)) else { break };
            number = Some(number.unwrap_or(0_u32).wrapping_mul(radix) | digit);
            self.pass();
        }
        Ok(number)
    }

    /// Where the next byte is.
    pub(super) fn mark(&self) -> Mark {
        self.source.mark()
    }

    /// An error at a mark.
    pub(super) fn refused(&self, mark: Mark, problem: String) -> TextWalkError {
        TextWalkError::Malformed { at: self.source.place(mark), problem }
    }

    /// An error at the next byte.
    pub(super) fn here(&self, problem: String) -> TextWalkError {
        self.refused(self.mark(), problem)
    }

    /// An error at the next byte, which is not what has to stand there.
    pub(super) fn expected(&self, wanted: &str) -> TextWalkError {
        self.here(match self.source.next_character() {
            Some(found) => format!("expected {wanted}, and found `{}`", found.escape_debug()),
            None => format!("expected {wanted}, and the text ends"),
        })
    }

    fn peek(&mut self) -> Result<Option<u8>, TextWalkError> {
        self.source.peek().map_err(|source| self.unreadable(source))
    }

    fn unreadable(&self, source: io::Error) -> TextWalkError {
        match source.kind() {
            ErrorKind::UnexpectedEof => self.here("the file ends, shorter than it was".to_owned()),
            _ => TextWalkError::Io { at: self.source.place(self.mark()), source },
        }
    }
}
