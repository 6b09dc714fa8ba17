//! The text of `requirements.txt` and of locks: its encoding and its lines, as pip has them.
//!
//! Windows' shells write UTF-16 (`pip freeze > requirements.txt`), its editors begin UTF-8 with a mark, and lines may end in any of three ways; pip reads all of it
//! ("Requirements File Format", "Encoding" and "Line continuations"). What a line means is not known here.
//!
//! What must stay true: every place in a joined line can be told as the line and the column that an editor shows.

/// A line as it is meant: joined where it goes on, without its comment, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogicalLine {
    /// Where it begins, from 1 on.
    pub(super) line: usize,
    /// What stands there.
    pub(super) text: String,
    pieces: Vec<Piece>,
}

/// What one line of the file gives to a line that is joined.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    begin_bytes: usize,
    line: usize,
    column: usize,
}

impl LogicalLine {
    /// The line and the column, each from 1 on, of what stands `at_bytes` from the beginning.
    pub(super) fn place(&self, at_bytes: usize) -> (usize, usize) {
        let before = self.pieces.iter().rev().find(|piece| piece.begin_bytes <= at_bytes);
        let Some(Piece { begin_bytes, line, column }) = before else { return (self.line, 1) };
        let letters = self.text.get(*begin_bytes..at_bytes.min(self.text.len())).map_or(0, |text| text.chars().count());
        (*line, column + letters)
    }
}

/// The text of a file; `None`: it is none. A mark at its beginning tells the encoding, and UTF-8 needs none.
pub(super) fn decode(bytes: &[u8]) -> Option<String> {
    let wide = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, odd) = rest.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
        String::from_utf16(&units).ok().filter(|_| odd.is_empty())
    };
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => std::str::from_utf8(rest).ok().map(str::to_owned),
        _ => std::str::from_utf8(bytes).ok().map(str::to_owned),
    };
    // UTF-16 without a mark is UTF-8 with a zero at every other place.
    text.filter(|text| !text.contains('\0'))
}

/// Lines joined where they end in `\`, without comments, and none that is empty.
pub(super) fn logical_lines(text: &str) -> Vec<LogicalLine> {
    let mut lines: Vec<LogicalLine> = Vec::new();
    let mut continued = false;
    for (at, whole) in physical_lines(text).enumerate() {
        let is_comment = whole.trim_start().starts_with('#');
        let (line, goes_on) = match whole.strip_suffix('\\') {
            Some(line) if !is_comment => (line, true),
            _ => (whole, false),
        };
        let indent = line.len() - line.trim_start().len();
        let column = line[..indent].chars().count() + 1;
        let piece = |begin_bytes| Piece { begin_bytes, line: at + 1, column };
        let line = if is_comment { "" } else { line.trim() };
        match lines.last_mut().filter(|_| continued) {
            Some(joined) => {
                joined.text.push(' ');
                joined.pieces.push(piece(joined.text.len()));
                joined.text.push_str(line);
            }
            None => lines.push(LogicalLine { line: at + 1, text: line.to_owned(), pieces: vec![piece(0)] }),
        }
        continued = goes_on;
    }
    for line in &mut lines {
        // A comment begins at a `#` after a blank: `pkg#egg` is none.
        let comment = line.text.match_indices('#').map(|(at, _)| at).find(|at| line.text[..*at].ends_with(char::is_whitespace));
        let end = line.text[..comment.unwrap_or(line.text.len())].trim_end().len();
        line.text.truncate(end);
    }
    lines.retain(|line| !line.text.is_empty());
    lines
}

/// The lines of a file, whatever ends them.
fn physical_lines(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_the_encoding() {
        let wide = |text: &str, unit: fn(u16) -> [u8; 2], mark: [u8; 2]| {
            [&mark[..], &text.encode_utf16().flat_map(unit).collect::<Vec<_>>()].concat()
        };
        for bytes in [
            b"six\r\n".to_vec(),
            b"\xef\xbb\xbfsix\r\n".to_vec(),
            wide("six\r\n", u16::to_le_bytes, [0xff, 0xfe]),
            wide("six\r\n", u16::to_be_bytes, [0xfe, 0xff]),
        ] {
            assert_eq!(decode(&bytes).as_deref(), Some("six\r\n"), "{bytes:?}");
        }
        let without_mark = wide("six\r\n", u16::to_le_bytes, [0xff, 0xfe])[2..].to_vec();
        let lone_half = vec![0xff, 0xfe, 0x00, 0xd8];
        for bytes in [b"\x80".to_vec(), without_mark, lone_half, vec![0xff, 0xfe, b's']] {
            assert_eq!(decode(&bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn lines_are_joined_and_every_place_is_known() {
        let text = "# what it needs\nnumpy \\\r\n\t>=1.20 ,\\\n  # and\n<3\t# not 3\rsix\r\n\n x#y \\\n\n";
        let lines = logical_lines(text);
        let found: Vec<_> = lines.iter().map(|line| (line.line, line.text.as_str())).collect();
        assert_eq!(found, [(2, "numpy >=1.20 ,"), (5, "<3"), (6, "six"), (8, "x#y")]);
        assert_eq!(lines[0].place(0), (2, 1));
        assert_eq!(lines[0].place(lines[0].text.find(">=").unwrap()), (3, 2));
        assert_eq!(lines[0].place(lines[0].text.find(',').unwrap()), (3, 9));
        assert_eq!((lines[3].place(2), lines[3].place(900)), ((8, 4), (9, 1)));
    }
}
