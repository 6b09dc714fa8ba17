//! A place in a text that a person wrote: file, line, column, the line itself and a caret below it.
//!
//! Every error about a contract's text or a model's YAML shows its place in this one form. It knows no format.
//!
//! What must stay true: what is shown is one terminal line, whatever the text holds.

use std::fmt;

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
    /// The place at a byte offset; inside a character it is that character's.
    pub fn new(file: &str, text: &str, offset: usize) -> TextPlace {
        const EXCERPT_CHARACTERS_MAX: usize = 60;
        let (before, after) = text.split_at(text.floor_char_boundary(offset));
        let line_before = before.rsplit('\n').next().unwrap_or_default();
        let line_after = after.split(['\n', '\r']).next().unwrap_or_default();
        let column = line_before.chars().count() + 1;
        let skipped = (column - 1).saturating_sub(EXCERPT_CHARACTERS_MAX);
        let left = line_before.chars().skip(skipped);
        let excerpt = left.chain(line_after.chars().take(EXCERPT_CHARACTERS_MAX)).map(|c| if c.is_control() { ' ' } else { c }).collect();
        TextPlace { file: file.to_owned(), line: before.matches('\n').count() + 1, column, excerpt, caret: column - 1 - skipped }
    }

    /// The place at a line and a column, both from 1; past the end of either it is that end.
    pub fn at(file: &str, text: &str, line: usize, column: usize) -> TextPlace {
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
    pub fn with(&self, problem: &str) -> String {
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
