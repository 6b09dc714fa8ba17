//! Where in a `contract.prototxt` a name stands for the second time.
//!
//! The parser gives no places for what it accepts, and a contract's own check knows only the path of a name. This file looks at the text
//! again, after both: it counts braces and names, and judges nothing.
//!
//! What must stay true: it makes a message better and decides nothing; a text that it does not understand has no place.

use std::collections::BTreeSet;

use super::text_place::TextPlace;

/// A message whose end has not come.
#[derive(Default)]
struct Message<'a> {
    /// The field that it is the value of.
    field: &'a str,
    /// Its name, as it is quoted, and where that begins.
    name: Option<(String, usize)>,
    /// The named messages in it, by their field and name.
    seen: BTreeSet<(&'a str, String)>,
}

/// The place of the first name that a message beside it has had; signatures and fields only.
pub fn doubled(bytes: &[u8], file: &str) -> Option<TextPlace> {
    let text = std::str::from_utf8(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)).ok()?;
    let mut open = vec![Message::default()];
    let mut word = "";
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let size = match c {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '"' | '\'' => {
                let size = quoted_bytes(rest, c);
                let message = open.last_mut()?;
                if matches!(word, "name" | "signature_name" | "field_name") {
                    // Literals side by side are one string.
                    let name = message.name.get_or_insert((String::new(), at));
                    name.0.push_str(rest.get(1..size - 1)?);
                }
                size
            }
            '{' | '<' => {
                open.push(Message { field: word, ..Message::default() });
                1
            }
            '}' | '>' => {
                let message = open.pop()?;
                word = message.field;
                if let (Some((name, place)), "signatures" | "inputs" | "outputs" | "data") = (message.name, message.field)
                    && !open.last_mut()?.seen.insert((message.field, name))
                {
                    return Some(TextPlace::new(file, text, place));
                }
                1
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let size = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                word = &rest[..size];
                size
            }
            c => c.len_utf8(),
        };
        at += size;
    }
    None
}

/// How long a literal is, both quotes included; one without an end is the rest.
fn quoted_bytes(rest: &str, quote: char) -> usize {
    let mut escaped = true;
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(doubled(text.as_bytes(), "c").map(|at| at.to_string()).as_deref(), expected);
    }

    #[test]
    fn the_second_of_two_names_is_found() {
        check("signatures { signature_name: 'f' }\nsignatures { signature_name: \"f\" }", Some("c:2:30"));
        check("signatures: [{ inputs: [{ name: 'x' }, { dtype: DT_BOOL name: 'y' },\n < name: 'x' >] }]", Some("c:2:10"));
        check("signatures { inputs { name: 'm' subfields { data { name: 'a' }\n data { name: 'a' } } } }", Some("c:2:15"));
        check("inputs { name: 'x' 'y' } # name: 'xy' }\ninputs { name: 'xy' }", Some("c:2:16"));
    }

    #[test]
    fn names_in_different_places_are_not_the_same() {
        check("signatures { inputs { name: 'x' shape { dim { name: 'n' } dim { name: 'n' } } } outputs { name: 'x' } }", None);
        check("inputs { name: 'a\\'{' } inputs { name: 'a' }", None);
        for broken in ["} } name", "inputs { name: '", "inputs { name: 'x\\", "\"", "{{{{", "ü'ü"] {
            check(broken, None);
        }
    }
}
