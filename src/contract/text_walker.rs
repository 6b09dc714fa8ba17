//! A walk over a protobuf message in its text form, in a file of any size.
//!
//! The text's counterpart of `walker.rs`, with the same use: a model's graph and weights lie around the few hundred bytes that we want.
//! A text announces no lengths, so all of it is looked at once, from front to back; what nobody asks for is passed, and only its
//! brackets, strings and comments are told apart. It knows no message: names of fields are its caller's. The grammar is that of
//! protobuf's text format specification: `key: value`, messages in `{}` or `<>`, lists in `[]`, strings in pieces, `#` comments.
//!
//! What must stay true: whatever the text, it ends, it never panics, and it holds no more than its buffer, the strings within the
//! budget, and what the caller keeps of at most [`FIELDS_MAX`] fields.

use std::io::Read;

use super::text_source::Mark;
use super::text_tokens::{TextTokens, TextWalkError};
use super::walker::FIELDS_MAX;

/// How deep messages and lists may nest: protobuf's own limit for its binary form.
pub const NESTING_MAX: usize = 100;

/// A message whose fields can be asked for.
#[derive(Debug)]
pub struct TextMessage {
    depth: usize,
}

/// The walker.
pub struct TextWalker<R> {
    tokens: TextTokens<R>,
    /// The messages and lists that are open, outermost first; the text itself is the first.
    open: Vec<Level>,
    /// Whether a field was found whose value nobody took.
    value_is_next: bool,
    /// Where the last value began.
    value_at: Mark,
    fields_left: u64,
}

struct Level {
    /// What ends it; nothing but the text's end ends the first.
    closer: u8,
    /// The line of its bracket.
    line: usize,
    /// The field whose list of values is open in it.
    list: Option<String>,
}

impl<R: Read> TextWalker<R> {
    /// A walker over the first `size_bytes` of `source`; errors call it `file`.
    pub fn new(source: R, size_bytes: u64, file: &'static str) -> TextWalker<R> {
        let tokens = TextTokens::new(source, size_bytes, file);
        let value_at = tokens.mark();
        let open = vec![Level { closer: 0, line: 1, list: None }];
        TextWalker { tokens, open, value_is_next: false, value_at, fields_left: FIELDS_MAX }
    }

    /// The message that the whole text is.
    pub fn whole(&self) -> TextMessage {
        TextMessage { depth: 0 }
    }

    /// The name of the next field of a message; `None` at its end. What was not read of the field before it is passed.
    pub fn next(&mut self, message: &TextMessage) -> Result<Option<String>, TextWalkError> {
        if self.value_is_next {
            self.pass_value()?;
        }
        while self.open.len() > message.depth + 1 {
            self.pass_message()?;
        }
        loop {
            let byte = self.tokens.token()?;
            let Some(level) = self.open.last_mut() else { return Ok(None) };
            if let Some(name) = level.list.take() {
                match byte {
                    Some(b',') => {
                        level.list = Some(name.clone());
                        self.tokens.pass();
                        return self.found(name);
                    }
                    Some(b']') => self.tokens.pass(),
                    _ => return Err(self.tokens.expected("`,` or the `]` of the list")),
                }
                continue;
            }
            match byte {
                Some(b',' | b';') => self.tokens.pass(),
                None if message.depth == 0 => return Ok(None),
                Some(byte) if byte == level.closer && message.depth > 0 => {
                    self.close();
                    return Ok(None);
                }
                None | Some(b'}' | b'>' | b']') if message.depth > 0 => return Err(self.unclosed()),
                _ => {
                    let name = self.name()?;
                    if self.value_begins(&name)? {
                        return self.found(name);
                    }
                }
            }
        }
    }

    /// The message that the value of the field just found has to be.
    pub fn message(&mut self) -> Result<TextMessage, TextWalkError> {
        match self.value()? {
            Some(byte @ (b'{' | b'<')) => self.open(byte)?,
            _ => return Err(self.tokens.expected("a message in `{ }`")),
        }
        Ok(TextMessage { depth: self.open.len() - 1 })
    }

    /// The string that the value has to be, its pieces put together.
    pub fn text(&mut self) -> Result<String, TextWalkError> {
        let mut bytes = Vec::new();
        let mut quote = self.value()?;
        if !matches!(quote, Some(b'"' | b'\'')) {
            return Err(self.tokens.expected("a string in quotes"));
        }
        while let Some(byte @ (b'"' | b'\'')) = quote {
            self.tokens.string(byte, &mut bytes)?;
            quote = self.tokens.token()?;
        }
        String::from_utf8(bytes).map_err(|_| self.refused("a name that is not UTF-8".to_owned()))
    }

    /// The number, enum value or truth that the value has to be, as it is written, its sign without a blank.
    pub fn word(&mut self) -> Result<String, TextWalkError> {
        let mut word = String::new();
        if self.value()? == Some(b'-') {
            self.tokens.pass();
            word.push('-');
            self.tokens.token()?;
        }
        self.tokens.word(&mut word, |byte| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte))?;
        if word.is_empty() || word == "-" { Err(self.tokens.expected("a value")) } else { Ok(word) }
    }

    /// The integer that the value has to be: decimal, hexadecimal (`0x…`) or octal (`0…`).
    pub fn number(&mut self) -> Result<i64, TextWalkError> {
        let word = self.word()?;
        integer(&word).ok_or_else(|| self.refused(format!("`{word}` is no integer of 64 bits")))
    }

    /// The truth that the value has to be.
    pub fn truth(&mut self) -> Result<bool, TextWalkError> {
        match self.word()?.as_str() {
            "true" | "True" | "t" | "1" => Ok(true),
            "false" | "False" | "f" | "0" => Ok(false),
            word => Err(self.refused(format!("`{word}` is neither true nor false"))),
        }
    }

    /// An error at the value that was taken last.
    pub fn refused(&self, problem: String) -> TextWalkError {
        self.tokens.refused(self.value_at, problem)
    }

    fn found(&mut self, name: String) -> Result<Option<String>, TextWalkError> {
        let left = self.fields_left.checked_sub(1);
        self.fields_left = left.ok_or_else(|| self.tokens.here(format!("more than {FIELDS_MAX} protobuf fields")))?;
        self.value_is_next = true;
        Ok(Some(name))
    }

    /// A field's name; those of extensions and of `Any`'s types with their brackets.
    fn name(&mut self) -> Result<String, TextWalkError> {
        let mut name = String::new();
        if self.tokens.token()? == Some(b'[') {
            self.tokens.pass();
            name.push('[');
            let wanted = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./%".contains(&byte);
            while self.tokens.token()?.is_some_and(wanted) {
                self.tokens.word(&mut name, wanted)?;
            }
            if self.tokens.token()? != Some(b']') {
                return Err(self.tokens.expected("the `]` of the name"));
            }
            self.tokens.pass();
            name.push(']');
            return Ok(name);
        }
        if !self.tokens.token()?.is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_') {
            return Err(self.tokens.expected("a field's name"));
        }
        self.tokens.word(&mut name, |byte| byte.is_ascii_alphanumeric() || byte == b'_')?;
        Ok(name)
    }

    /// What stands between a name and its value; false when the value is a list of nothing.
    fn value_begins(&mut self, name: &str) -> Result<bool, TextWalkError> {
        let colon = self.tokens.token()? == Some(b':');
        if colon {
            self.tokens.pass();
        }
        match self.tokens.token()? {
            Some(b'[') => {
                self.tokens.pass();
                if self.tokens.token()? == Some(b']') {
                    self.tokens.pass();
                    return Ok(false);
                }
                if let Some(level) = self.open.last_mut() {
                    level.list = Some(name.to_owned());
                }
                Ok(true)
            }
            Some(b'{' | b'<') => Ok(true),
            _ if colon => Ok(true),
            _ => Err(self.tokens.expected("`:` or `{`")),
        }
    }

    /// The first byte of the value, which is taken now.
    fn value(&mut self) -> Result<Option<u8>, TextWalkError> {
        self.value_is_next = false;
        let byte = self.tokens.token()?;
        self.value_at = self.tokens.mark();
        Ok(byte)
    }

    fn pass_value(&mut self) -> Result<(), TextWalkError> {
        match self.value()? {
            Some(byte @ (b'{' | b'<')) => {
                self.open(byte)?;
                self.pass_message()
            }
            Some(b'"' | b'\'') => {
                while let Some(byte @ (b'"' | b'\'')) = self.tokens.token()? {
                    self.tokens.pass_string(byte)?;
                }
                Ok(())
            }
            _ => self.word().map(drop),
        }
    }

    /// Leaves the innermost message; what of it was not read is passed.
    fn pass_message(&mut self) -> Result<(), TextWalkError> {
        let depth = self.open.len();
        while self.open.len() >= depth {
            self.tokens.pass_while(|byte| !b"{}<>[]\"'#".contains(&byte))?;
            let byte = self.tokens.token()?;
            let Some(level) = self.open.last_mut() else { return Ok(()) };
            match byte {
                Some(b']') if level.list.take().is_some() => self.tokens.pass(),
                Some(byte) if byte == level.closer && level.list.is_none() => self.close(),
                Some(byte @ (b'{' | b'<' | b'[')) => self.open(byte)?,
                Some(byte @ (b'"' | b'\'')) => self.tokens.pass_string(byte)?,
                Some(b'}' | b'>' | b']') | None => return Err(self.unclosed()),
                // A comment was passed, and what follows it is looked at again.
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn open(&mut self, bracket: u8) -> Result<(), TextWalkError> {
        if self.open.len() > NESTING_MAX {
            return Err(self.tokens.here(format!("messages are nested deeper than {NESTING_MAX} levels")));
        }
        let closer = match bracket {
            b'{' => b'}',
            b'<' => b'>',
            _ => b']',
        };
        self.open.push(Level { closer, line: self.tokens.mark().line, list: None });
        self.tokens.pass();
        Ok(())
    }

    fn close(&mut self) {
        self.tokens.pass();
        self.open.pop();
    }

    /// The innermost bracket is still open, and what stands here cannot follow.
    fn unclosed(&self) -> TextWalkError {
        let level = self.open.last().map(|level| if level.list.is_some() { (b']', level.line) } else { (level.closer, level.line) });
        let (closer, line) = level.unwrap_or((b'}', 1));
        self.tokens.expected(&format!("the `{}` of line {line}", char::from(closer)))
    }
}

/// An integer as the text format writes it.
fn integer(word: &str) -> Option<i64> {
    let (sign, digits) = word.strip_prefix('-').map_or(("", word), |digits| ("-", digits));
    let (radix, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    // A sign of its own in the digits is none of ours.
    digits.starts_with(|c: char| c.is_ascii_hexdigit()).then(|| i64::from_str_radix(&format!("{sign}{digits}"), radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field of the text with its depth, as `name` or `name=word` or `name="text"`; lists and messages are entered.
    fn walk(text: &[u8]) -> Result<Vec<String>, TextWalkError> {
        let mut walker = TextWalker::new(text, text.len() as u64, "t");
        let mut messages = vec![walker.whole()];
        let mut found = Vec::new();
        while let Some(message) = messages.last() {
            let Some(name) = walker.next(message)? else {
                messages.pop();
                continue;
            };
            let indent = " ".repeat(messages.len() - 1);
            match walker.tokens.token()? {
                Some(b'{' | b'<') => {
                    found.push(format!("{indent}{name}"));
                    messages.push(walker.message()?);
                }
                Some(b'"' | b'\'') => found.push(format!("{indent}{name}={:?}", walker.text()?)),
                _ => found.push(format!("{indent}{name}={}", walker.word()?)),
            }
        }
        Ok(found)
    }

    #[track_caller]
    fn refused(text: &[u8], expected: &str) {
        let error = walk(text).unwrap_err().to_string();
        assert_eq!(error.lines().next().unwrap(), expected, "{error}");
    }

    #[test]
    fn every_form_of_the_text_format_is_read() {
        let text =
            b"a: 1, b { c: 'x' # }\n 'y' \"z\"; d < e: - 5 > } f: [1, 2] g [{ h: T }, < >] i: [] [a.b/c.D] { j: -inf } [k.l]: 1.5f m: {}";
        let found = walk(text).unwrap();
        let expected =
            ["a=1", "b", " c=\"xyz\"", " d", "  e=-5", "f=1", "f=2", "g", " h=T", "g", "[a.b/c.D]", " j=-inf", "[k.l]=1.5f", "m"];
        assert_eq!(found, expected);
        let escapes = br#"s: "\303\274\x41\u00fc\U0001F600\n\'\"\?\\\0""#;
        assert_eq!(walk(escapes).unwrap(), ["s=\"üAü😀\\n'\\\"?\\\\\\0\""]);
        for (word, number) in [("0", Some(0)), ("-0x10", Some(-16)), ("017", Some(15)), ("9223372036854775807", Some(i64::MAX))] {
            assert_eq!(integer(word), number);
        }
        for word in ["9223372036854775808", "", "-", "--1", "-+1", "0x", "08", "1.5", "DT_FLOAT"] {
            assert_eq!(integer(word), None, "{word}");
        }
    }

    #[test]
    fn what_is_not_asked_for_is_passed() {
        let text = b"g { n: \"}\\\"{\" l: [ < x: ']' > ] # }\n v: [1, 2] } w { a: 1 b: [ { c: 2 d: 3 }, { c: 4 } ] e: 5 } z: 6";
        let mut walker = TextWalker::new(&text[..], text.len() as u64, "t");
        let whole = walker.whole();
        assert_eq!(walker.next(&whole).unwrap().as_deref(), Some("g"));
        assert_eq!(walker.next(&whole).unwrap().as_deref(), Some("w"));
        let message = walker.message().unwrap();
        assert_eq!(walker.next(&message).unwrap().as_deref(), Some("a"));
        assert_eq!(walker.next(&message).unwrap().as_deref(), Some("b"));
        let inner = walker.message().unwrap();
        assert_eq!(walker.next(&inner).unwrap().as_deref(), Some("c"));
        assert_eq!(walker.number().unwrap(), 2);
        // Left in the middle of a message in the middle of a list.
        assert_eq!(walker.next(&whole).unwrap().as_deref(), Some("z"));
        assert_eq!(walker.word().unwrap(), "6");
        assert_eq!(walker.next(&whole).unwrap(), None);
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_place() {
        refused(b"a: 1\n  ?", "t:2:3: expected a field's name, and found `?`");
        refused(b"a 1", "t:1:3: expected `:` or `{`, and found `1`");
        refused(b"a {\n b: 1\n", "t:3:1: expected the `}` of line 1, and the text ends");
        refused(b"a { b: 1 >", "t:1:10: expected the `}` of line 1, and found `>`");
        refused(b"}", "t:1:1: expected a field's name, and found `}`");
        refused(b"a: [1 2]", "t:1:7: expected `,` or the `]` of the list, and found `2`");
        refused(b"a: [1, ]", "t:1:8: expected a value, and found `]`");
        refused(b"a: 'x\n'", "t:1:6: the string's closing ' is missing");
        refused(b"a: '\xc3\xbc\\z'", "t:1:6: no escape of a string");
        refused(b"a: '\\ud800'", "t:1:5: no escape of a string");
        refused(b"a: '\xff'", "t:1:4: a name that is not UTF-8");
        refused("a: 1 ü".as_bytes(), "t:1:6: expected a field's name, and found `ü`");
        refused(&[&b"a"[..], &[b'b'; 2000]].concat(), "t:1:1: a name or number of more than 1024 bytes");
        refused(&b"a {".repeat(101), "t:1:303: messages are nested deeper than 100 levels");
        let error = walk(b"signatures {\n  name: 'x'\n  ] }").unwrap_err().to_string();
        assert_eq!(error, "t:3:3: expected the `}` of line 1, and found `]`\n  |\n3 |   ] }\n  |   ^");
        let mut walker = TextWalker::new(&b"a: 1"[..], 9, "t");
        let whole = walker.whole();
        walker.next(&whole).unwrap();
        let error = walker.next(&whole).unwrap_err().to_string();
        assert!(error.starts_with("t:1:5: the file ends, shorter than it was"), "{error}");
    }
}
