//! A place in a text that a person wrote: file, line, column, and the line itself with a caret below the place.
//!
//! What errors about texts have in common. It reads no text: whoever found the place gives what stands around it.
//!
//! What must stay true: the excerpt is one line of a terminal, whatever the text holds, and the caret is below the character.

use std::fmt;

/// How much of the line is shown to the left and to the right of the place.
pub(crate) const EXCERPT_CHARACTERS_MAX: usize = 60;

/// A place in a text, with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPlace {
    /// What the file is called in messages.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The line around the place, on one line of a terminal.
    excerpt: String,
    /// How many characters of the excerpt are left of the place.
    caret: usize,
}

impl TextPlace {
    /// The place `offset` bytes into a text that is in memory.
    pub(crate) fn new(file: &str, text: &str, offset: usize) -> TextPlace {
        let (before, after) = text.split_at(text.floor_char_boundary(offset));
        let line_before = before.rsplit('\n').next().unwrap_or_default();
        TextPlace::in_line(file, before.matches('\n').count() + 1, line_before.chars().count() + 1, line_before, after)
    }

    /// The place between `before` and `after`, the ends of a line as far as they are at hand.
    pub(crate) fn in_line(file: &str, line: usize, column: usize, before: &str, after: &str) -> TextPlace {
        let skipped = before.chars().count().saturating_sub(EXCERPT_CHARACTERS_MAX);
        let left = before.chars().skip(skipped);
        let right = after.split(['\n', '\r']).next().unwrap_or_default().chars().take(EXCERPT_CHARACTERS_MAX);
        let caret = left.clone().count();
        let excerpt = left.chain(right).map(|c| if c.is_control() { ' ' } else { c }).collect();
        TextPlace { file: file.to_owned(), line, column, excerpt, caret }
    }

    /// The place at a line and a column, both from 1; past the end of either it is that end.
    pub(crate) fn at(file: &str, text: &str, line: usize, column: usize) -> TextPlace {
        let mut offset = 0;
        for (number, content) in text.split_inclusive('\n').enumerate() {
            if number + 1 == line {
                let inside = content.trim_end_matches(['\n', '\r']).char_indices().nth(column.saturating_sub(1));
                offset += inside.map_or(content.trim_end_matches(['\n', '\r']).len(), |(inside, _)| inside);
                break;
            }
            offset += content.len();
        }
        TextPlace::new(file, text, offset)
    }

    /// `problem` at this place, with the line and a caret below it.
    pub(crate) fn with(&self, problem: &str) -> String {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let caret = " ".repeat(self.caret);
        format!("{self}: {problem}\n{margin} |\n{number} | {}\n{margin} | {caret}^", self.excerpt)
    }
}

impl fmt::Display for TextPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_and_a_column_are_the_offset_that_they_name() {
        let text = "a: 1\r\nüb: [\n\nend";
        for (line, column, offset) in [(1, 1, 0), (2, 2, 8), (2, 6, 12), (4, 1, 14), (4, 99, 17), (9, 1, 17), (1, 99, 4)] {
            assert_eq!(TextPlace::at("f", text, line, column), TextPlace::new("f", text, offset), "{line}:{column}");
        }
        assert_eq!(TextPlace::at("f", text, 2, 2).with("no"), "f:2:2: no\n  |\n2 | üb: [\n  |  ^");
    }
}
