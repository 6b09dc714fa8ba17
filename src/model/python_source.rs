//! The bytes of a Python file → its syntax tree, or the place where it is no Python.
//!
//! Decoded as Python does (byte order mark, encoding cookie, any line ends), counted, then parsed by ruff's parser with its newest grammar. What the
//! tree means is the next files' business. No code is run.
//!
//! What must stay true: no bytes make the process end or grow past a bound. The parser takes stack from the heap without a limit, and a tree is
//! dropped by recursion, so the depth of what it may build is counted before, and all is done on a stack that has room for it. What is past our
//! limits may be fine Python: it is [`Parsed::Unread`], which is no error.

use ruff_python_ast::PythonVersion;
use ruff_python_ast::Suite;
use ruff_python_ast::token::Token;
use ruff_python_ast::token::TokenKind;
use ruff_python_parser::Mode;
use ruff_python_parser::ParseError;
use ruff_python_parser::ParseOptions;
use ruff_python_parser::lexer;
use ruff_python_parser::parse_unchecked;
use ruff_text_size::Ranged;

use crate::contract::contract::shown;
use crate::contract::text_place::TextPlace;
use crate::fault::Failure;
use crate::fault::Fault;

/// The largest file that is looked at; the largest `func_main.py` among the ancestor's examples is 5 KB.
pub const PYTHON_BYTES_MAX: usize = 1 << 20;

/// The deepest tree that is walked, in expressions and blocks. CPython refuses brackets past 200, blocks past 100, chains of operators past some
/// 3,000 (`tokenizer.h`, `MAXLEVEL` and `MAXINDENT`; the compiler's recursion limit).
const DEPTH_MAX: usize = 3_000;

/// How many words and signs, and how many of them opening brackets, are given to the parser. After a mistake it may read what is text to us as code:
/// then these numbers alone bound how deep it goes.
const WORDS_MAX: usize = 200_000;
const BRACKETS_MAX: usize = 30_000;

/// Room for a tree of [`DEPTH_MAX`] that is walked, or one of [`BRACKETS_MAX`] that is dropped. It is mapped, not touched.
const STACK_BYTES: usize = 64 << 20;

/// Why a file cannot be imported by Python.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Not Python 3.
    #[error("{}", .at.with(.problem))]
    Syntax {
        /// Where.
        at: TextPlace,
        /// What was found there.
        problem: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Bytes in the code that are no text in the encoding that Python takes them for.
    #[error("{}", .at.with("the text is not UTF-8, which Python takes it for"))]
    NotUtf8 {
        /// Where.
        at: TextPlace,
    },
    /// A zero byte, which Python refuses anywhere in its source.
    #[error("{}", .at.with("a zero byte, which no Python source may hold"))]
    ZeroByte {
        /// Where.
        at: TextPlace,
    },
}

impl Failure for SourceError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }

    fn remedy(&self) -> Option<String> {
        match self {
            SourceError::Syntax { hint, .. } => hint.clone(),
            SourceError::NotUtf8 { .. } => {
                Some("save the file as UTF-8, or name its encoding in its first line, such as `# -*- coding: latin-1 -*-`".to_owned())
            }
            SourceError::ZeroByte { .. } => Some("save the file as UTF-8; an editor may have written UTF-16".to_owned()),
        }
    }
}

/// Something that a Python version has not learnt yet.
pub(super) struct Lack {
    /// Where it stands.
    pub(super) at: TextPlace,
    /// What it is, and since when Python has it.
    pub(super) what: String,
}

impl Lack {
    /// All of it.
    pub(super) fn sentence(&self) -> String {
        format!("{}: {}: the runtime will not be able to import the file", self.at, self.what)
    }
}

/// What a file turned out to be.
pub(super) enum Parsed<T> {
    /// Python; what the visitor made of it, and what the Python version of the runtime will not take.
    Seen(T, Vec<Lack>),
    /// Past our limits or in an encoding that is not known here; why.
    Unread(String),
}

/// Shows the tree of `bytes` and its text to `see`. `python` is the version (major, minor) that will run it, where it is known.
pub(super) fn with_tree<T>(
    bytes: &[u8],
    file: &str,
    python: Option<(u8, u8)>,
    see: impl FnOnce(&str, &Suite) -> T,
) -> Result<Parsed<T>, SourceError> {
    let unread = |reason: String| Ok(Parsed::Unread(format!("{file}: {reason}, so it cannot be told whether the code keeps the contract")));
    if bytes.len() > PYTHON_BYTES_MAX {
        return unread(format!("the file is {} bytes long and is not read; at most {PYTHON_BYTES_MAX} are", bytes.len()));
    }
    let (text, no_utf8) = match decode(bytes, file)? {
        Decoded::Text(text, no_utf8) => (text, no_utf8),
        Decoded::Unknown(encoding) => return unread(format!("the encoding `{}` is not known here", shown(&encoding))),
    };
    if is_too_much(&text) {
        return unread("its code is longer or nested deeper than what is read".to_owned());
    }
    stacker::grow(STACK_BYTES, || {
        let version = python.map_or(PythonVersion::latest(), |(major, minor)| PythonVersion { major, minor });
        let parsed = parse_unchecked(&text, ParseOptions::from(Mode::Module).with_target_version(version));
        if let Some(offset) = no_utf8.into_iter().find(|offset| !is_in_comment(parsed.tokens(), *offset)) {
            return Err(SourceError::NotUtf8 { at: TextPlace::new(file, &text, offset) });
        }
        if let Some(error) = parsed.errors().iter().min_by_key(|error| error.location.start()) {
            return Err(syntax_error(file, &text, error));
        }
        if let Some(offset) = mixed_indentation(&text, parsed.tokens()) {
            let at = TextPlace::new(file, &text, offset);
            let problem =
                "this is no Python 3: the line is indented with tabs and spaces in another mixture than the lines before it".to_owned();
            return Err(SourceError::Syntax { at, problem, hint: Some("indent with spaces only".to_owned()) });
        }
        let lacks = match python {
            Some(_) => lacks(file, &text, parsed.unsupported_syntax_errors()),
            None => Vec::new(),
        };
        let Some(module) = parsed.try_into_module() else {
            return unread("it is no module".to_owned());
        };
        Ok(Parsed::Seen(see(&text, module.suite()), lacks))
    })
}

enum Decoded {
    /// The text, with lines that end in `\n`, and where in it something stands that is no UTF-8.
    Text(String, Vec<usize>),
    /// It is in an encoding that is not known here.
    Unknown(String),
}

fn decode(bytes: &[u8], file: &str) -> Result<Decoded, SourceError> {
    let marked = bytes.strip_prefix(b"\xef\xbb\xbf");
    let bytes = marked.unwrap_or(bytes);
    let place = |offset: usize| {
        let before = String::from_utf8_lossy(&bytes[..offset]);
        TextPlace::new(file, &before, before.len())
    };
    if let Some(offset) = bytes.iter().position(|byte| *byte == 0) {
        return Err(SourceError::ZeroByte { at: place(offset) });
    }
    let text = match cookie(bytes).filter(|_| marked.is_none()).as_deref() {
        // What is ASCII is the same in every encoding that Python takes for source.
        _ if bytes.is_ascii() => String::from_utf8_lossy(bytes).into_owned(),
        None | Some("utf-8" | "utf8" | "utf-8-sig") => return Ok(utf8(bytes)),
        Some("latin-1" | "latin1" | "latin" | "l1" | "iso-8859-1" | "iso8859-1") => bytes.iter().map(|byte| char::from(*byte)).collect(),
        Some(other) => return Ok(Decoded::Unknown(other.to_owned())),
    };
    Ok(Decoded::Text(one_line_end(&text), Vec::new()))
}

/// UTF-8 with a mark for each part that is none: CPython's tokenizer does not mind those in a comment.
fn utf8(bytes: &[u8]) -> Decoded {
    let (mut text, mut no_utf8) = (String::new(), Vec::new());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&one_line_end(chunk.valid()));
        if !chunk.invalid().is_empty() {
            no_utf8.push(text.len());
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    Decoded::Text(text, no_utf8)
}

fn one_line_end(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn is_in_comment(tokens: &[Token], offset: usize) -> bool {
    let begun = tokens.partition_point(|token| token.start().to_usize() <= offset);
    let token = begun.checked_sub(1).map(|last| &tokens[last]);
    token.is_some_and(|token| token.kind() == TokenKind::Comment && offset < token.end().to_usize())
}

/// The encoding that one of the first two lines names, in the form that Python compares (PEP 263).
fn cookie(bytes: &[u8]) -> Option<String> {
    for line in bytes.split(|byte| *byte == b'\n').take(2) {
        let line = String::from_utf8_lossy(&line[..line.len().min(400)]);
        let trimmed = line.trim_start_matches([' ', '\t', '\x0c']);
        if let Some(comment) = trimmed.strip_prefix('#') {
            for (at, word) in comment.match_indices("coding") {
                let Some(rest) = comment[at + word.len()..].strip_prefix([':', '=']) else { continue };
                let name: String =
                    rest.trim_start_matches([' ', '\t']).chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
                if !name.is_empty() {
                    return Some(name.to_ascii_lowercase().replace('_', "-"));
                }
            }
        } else if !trimmed.trim_end().is_empty() {
            // Code in the first line: a comment in the second names nothing.
            return None;
        }
    }
    None
}

/// Whether the parser could build too deep a tree, or one too large.
fn is_too_much(text: &str) -> bool {
    let mut words = 0_usize;
    let mut brackets = 0_usize;
    let mut in_word = false;
    for byte in text.bytes() {
        let part_of_word = byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii();
        words += usize::from(!(byte.is_ascii_whitespace() || part_of_word && in_word));
        brackets += usize::from(matches!(byte, b'(' | b'[' | b'{'));
        in_word = part_of_word;
    }
    words > WORDS_MAX || brackets > BRACKETS_MAX || deepest(text) > DEPTH_MAX
}

/// A bound of the depth of the tree of `text`: of every bracket that is open the signs and keywords since its last comma, and the blocks.
fn deepest(text: &str) -> usize {
    // One open bracket, or the parameters of a `lambda`, which a colon closes and in which a comma separates nothing of what is around it.
    struct Level {
        opener: TokenKind,
        depth: usize,
    }
    let mut lexer = lexer::lex(text, Mode::Module);
    let mut levels = vec![Level { opener: TokenKind::EndOfFile, depth: 0 }];
    let (mut blocks, mut sum, mut deepest) = (0_usize, 0_usize, 0_usize);
    loop {
        let kind = lexer.next_token();
        let is_open = |levels: &[Level], opener| {
            levels.iter().rev().find(|level| level.opener != TokenKind::Lambda).is_some_and(|l| l.opener == opener)
        };
        match kind {
            TokenKind::EndOfFile => return deepest,
            TokenKind::Indent => blocks += 1,
            TokenKind::Dedent => blocks = blocks.saturating_sub(1),
            TokenKind::Rpar | TokenKind::Rsqb | TokenKind::Rbrace => {
                let opener = match kind {
                    TokenKind::Rpar => TokenKind::Lpar,
                    TokenKind::Rsqb => TokenKind::Lsqb,
                    _ => TokenKind::Lbrace,
                };
                // A bracket of another kind closes nothing, to the parser neither.
                while is_open(&levels, opener) {
                    let closed = levels.pop();
                    sum -= closed.as_ref().map_or(0, |level| level.depth);
                    if closed.is_some_and(|level| level.opener == opener) {
                        break;
                    }
                }
            }
            TokenKind::Colon if levels.last().is_some_and(|level| level.opener == TokenKind::Lambda) => {
                sum -= levels.pop().map_or(0, |level| level.depth);
            }
            TokenKind::Comma | TokenKind::Newline | TokenKind::Semi => {
                if let Some(level) = levels.last_mut() {
                    sum -= std::mem::take(&mut level.depth);
                }
            }
            _ if is_flat(kind) => {}
            _ => {
                if let Some(level) = levels.last_mut() {
                    level.depth += 1;
                    sum += 1;
                }
                if matches!(kind, TokenKind::Lpar | TokenKind::Lsqb | TokenKind::Lbrace | TokenKind::Lambda) {
                    levels.push(Level { opener: kind, depth: 0 });
                }
            }
        }
        deepest = deepest.max(sum.saturating_add(blocks));
    }
}

/// Whether a token puts nothing into anything.
fn is_flat(kind: TokenKind) -> bool {
    let is_trivia = kind.is_trivia() || kind.is_any_newline() || kind.is_interpolated_string_end();
    let is_literal = kind.is_singleton() || matches!(kind, TokenKind::Int | TokenKind::Float | TokenKind::Complex | TokenKind::Ellipsis);
    let is_text = matches!(
        kind,
        TokenKind::String | TokenKind::FStringStart | TokenKind::FStringMiddle | TokenKind::TStringStart | TokenKind::TStringMiddle
    );
    is_trivia || is_literal || is_text || matches!(kind, TokenKind::Name | TokenKind::Colon | TokenKind::Equal)
}

fn syntax_error(file: &str, text: &str, error: &ParseError) -> SourceError {
    let offset = text.floor_char_boundary(error.location.start().to_usize());
    let at = TextPlace::new(file, text, offset);
    let start = text[..offset].rfind('\n').map_or(0, |end| end + 1);
    let line = text[start..].lines().next().unwrap_or_default().trim_start();
    let is_statement = |word: &str| {
        line.strip_prefix(word).is_some_and(|rest| rest.starts_with([' ', '\t']) && !rest.trim_start().starts_with(['=', '(']))
    };
    let hint = if is_statement("print") || is_statement("exec") {
        Some("this is Python 2: write it as a call, such as `print(x)`; the runtime is Python 3".to_owned())
    } else if line.starts_with(['%', '!']) {
        Some("this is a notebook's command, which is no Python: take the line out".to_owned())
    } else {
        None
    };
    SourceError::Syntax { at, problem: format!("this is no Python 3: {}", error.error), hint }
}

/// The first line whose indentation is another with a tab of eight columns than with a tab of one: Python's TabError, which ruff leaves to a rule.
fn mixed_indentation(text: &str, tokens: &[Token]) -> Option<usize> {
    let mut blocks = vec![(0_usize, 0_usize)];
    let mut at_line_start = true;
    for token in tokens {
        match token.kind() {
            TokenKind::Comment | TokenKind::NonLogicalNewline | TokenKind::Indent | TokenKind::Dedent => continue,
            TokenKind::Newline => {
                at_line_start = true;
                continue;
            }
            TokenKind::EndOfFile => break,
            _ => {}
        }
        if !std::mem::take(&mut at_line_start) {
            continue;
        }
        let offset = token.start().to_usize();
        let line = text[..offset].rfind('\n').map_or(0, |end| end + 1);
        let mut columns = (0_usize, 0_usize);
        for byte in text[line..offset].bytes() {
            columns = match byte {
                b' ' => (columns.0 + 1, columns.1 + 1),
                b'\t' => ((columns.0 / 8 + 1) * 8, columns.1 + 1),
                // A form feed begins the line anew; a backslash joins it to the one above, whose indentation counts.
                b'\x0c' => (0, 0),
                _ => return None,
            };
        }
        let depth = blocks.len();
        while blocks.last().is_some_and(|block| columns.0 < block.0) {
            blocks.pop();
        }
        let block = blocks.last().copied().unwrap_or_default();
        let is_of_no_block = blocks.len() < depth && columns.0 != block.0;
        if is_of_no_block || columns.0.cmp(&block.0) != columns.1.cmp(&block.1) {
            return Some(offset);
        }
        if columns.0 > block.0 {
            blocks.push(columns);
        }
    }
    None
}

/// What a Python version has not learnt yet, the first three.
fn lacks(file: &str, text: &str, errors: &[ruff_python_parser::UnsupportedSyntaxError]) -> Vec<Lack> {
    let place = |error: &ruff_python_parser::UnsupportedSyntaxError| TextPlace::new(file, text, error.range().start().to_usize());
    errors.iter().take(3).map(|error| Lack { at: place(error), what: error.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_what_stands_in_each_other_and_not_beside() {
        for (text, depth) in [
            ("x = 1", 0),
            ("x = [1, 2, 3]\ny = [4]", 1),
            ("x = ((1))", 2),
            ("x = 1 + 2 + 3", 2),
            ("x = [1 + 2, 3 + 4, 5]", 2),
            ("x = f(a)(b).c[d]", 4),
            ("x = [lambda a, b=1: a, lambda c: c]", 2),
            ("x = lambda a, b=lambda c, d=lambda: 1: 2: 3", 3),
            ("x = f'{a} {b}'", 2),
            ("if a:\n  if b:\n    pass", 3),
            // A bracket closes its own kind only; the end of the file inside them counts as a sign.
            ("x = (]([(])", 5),
        ] {
            assert_eq!(deepest(text), depth, "{text}");
        }
    }

    #[test]
    fn the_cookie_is_read_as_python_reads_it() {
        for (text, encoding) in [
            ("# -*- coding: Latin-1 -*-", Some("latin-1")),
            ("#!/bin/python\n# vim: set fileencoding=iso_8859_1 :", Some("iso-8859-1")),
            ("# encoding:utf-8\n", Some("utf-8")),
            ("\n\n# coding: koi8-r", None),
            ("x = 1\n# coding: koi8-r", None),
            ("# coding koi8-r", None),
            ("x = 'coding: koi8-r'", None),
        ] {
            assert_eq!(cookie(text.as_bytes()).as_deref(), encoding, "{text:?}");
        }
    }
}
