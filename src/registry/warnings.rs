//! What a registry wants its users to know: `Warning` headers (distribution 1.1, "Warnings"), each told once.
//!
//! `Warning: 299 - "your storage is almost full"` may come with any answer. Code and agent are always these two; anything else is not for users and is left
//! out. What must stay true: a registry's words are bounded, in length and in number, and hold no control characters, since they end on a terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{HeaderMap, WARNING};

/// The most bytes that one answer's warnings may have together; the specification's own limit.
const ANSWER_BYTES_MAX: usize = 4096;

/// The most different warnings of one registry.
const WARNINGS_MAX: usize = 16;

/// What registries warned of, in one run of the program: whoever speaks to them, each text is told once, by whoever takes it first. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// By registry.
    all: BTreeMap<String, BTreeSet<String>>,
    /// Registry and text, in the order in which they came.
    untold: Vec<(String, String)>,
}

impl Heard {
    /// What nobody was told yet: a line for each, with the registry's name.
    pub fn take(&self) -> Vec<String> {
        self.take_where(|_| true).into_iter().map(line).collect()
    }

    /// The same of one registry.
    pub fn take_of(&self, registry: &str) -> Vec<String> {
        self.take_where(|found| found == registry).into_iter().map(line).collect()
    }

    /// The same in its own words alone.
    pub fn texts_of(&self, registry: &str) -> Vec<String> {
        self.take_where(|found| found == registry).into_iter().map(|(_, text)| text).collect()
    }

    fn take_where(&self, wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, left) = std::mem::take(&mut state.untold).into_iter().partition(|(registry, _)| wanted(registry));
        state.untold = left;
        taken
    }

    /// Keeps what an answer of `registry` warns of.
    pub fn hear(&self, registry: &str, headers: &HeaderMap) {
        let mut left_bytes = ANSWER_BYTES_MAX;
        for value in headers.get_all(WARNING) {
            let Some(rest_bytes) = left_bytes.checked_sub(value.len()) else { return };
            left_bytes = rest_bytes;
            let Some(text) = text_of(&String::from_utf8_lossy(value.as_bytes())) else { continue };
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let all = state.all.entry(registry.to_owned()).or_default();
            if all.len() < WARNINGS_MAX && all.insert(text.clone()) {
                state.untold.push((registry.to_owned(), text));
            }
        }
    }
}

fn line((registry, text): (String, String)) -> String {
    format!("registry {registry} says: {text}")
}

/// The text of `299 - "text"` (RFC 7234, 5.5), on one line; nothing where it has another form.
fn text_of(value: &str) -> Option<String> {
    let quoted = value.trim().strip_prefix("299")?.trim_start().strip_prefix('-')?.trim_start().strip_prefix('"')?;
    let mut text = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => break,
            '\\' => text.push(characters.next()?),
            other => text.push(other),
        }
    }
    // A date may not follow; what does is another form.
    if !characters.as_str().trim().is_empty() {
        return None;
    }
    // What turns the direction of a line hides as well as control characters do.
    let hides = |c: char| c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let text: String = text.chars().map(|c| if hides(c) { ' ' } else { c }).collect();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn only_the_form_of_the_specification_is_a_warning() {
        for (value, text) in [
            (r#"299 - "almost full""#, Some("almost full")),
            (r#" 299  -  "a \"quoted\" \\ word" "#, Some(r#"a "quoted" \ word"#)),
            ("299 - \"red \u{1b}[31m\u{202e}and\tgone\"", Some("red [31m and gone")),
            (r#"199 - "other code""#, None),
            (r#"299 proxy "other agent""#, None),
            (r#"299 - "dated" "Wed, 21 Oct 2015 07:28:00 GMT""#, None),
            (r#"299 - "no end"#, None),
            (r#"299 - "no end\"#, None),
            (r#"299 - """#, None),
            ("", None),
        ] {
            assert_eq!(text_of(value).as_deref(), text, "{value}");
        }
    }

    #[test]
    fn each_is_told_once_and_there_are_not_too_many() {
        let warnings = Heard::default();
        let of = |texts: &[String]| {
            texts.iter().map(|text| (WARNING, HeaderValue::from_str(&format!("299 - \"{text}\"")).unwrap())).collect::<HeaderMap>()
        };
        let (one, two) = ("one".to_owned(), "two".to_owned());
        warnings.hear("host", &of(std::slice::from_ref(&one)));
        // Further values of one name are what `append` makes.
        let mut both = of(std::slice::from_ref(&one));
        both.append(WARNING, HeaderValue::from_static("299 - \"two\""));
        warnings.hear("host", &both);
        assert!(warnings.take_of("other").is_empty());
        assert_eq!(warnings.take_of("host"), [one, two].map(|text| format!("registry host says: {text}")));
        warnings.hear("host", &both);
        assert!(warnings.take().is_empty());
        warnings.hear("host", &of(&["x".repeat(ANSWER_BYTES_MAX)]));
        assert!(warnings.take().is_empty(), "larger than warnings may be");
        for number in 0..100 {
            warnings.hear("host", &of(&[number.to_string()]));
        }
        assert_eq!(warnings.take().len(), WARNINGS_MAX - 2);
        warnings.hear("other", &both);
        assert_eq!(warnings.clone().take().len(), 2, "another registry's are its own");
    }
}
