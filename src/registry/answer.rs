//! What a registry said when it said no: the status, and what its body tells.
//!
//! The body of an error is JSON of one shape by the distribution specification ("Error codes"), and in practice also
//! HTML of a proxy, plain text, or nothing. It is read up to [`BODY_BYTES_MAX`] and never trusted: control characters
//! are taken out, since the text ends on a terminal. The envelope's types are oci-client's, which keep codes that the
//! specification does not know. What a status means for a retry is the table [`TRANSIENT`]; nothing else decides that.

use std::fmt;
use std::time::Duration;

use oci_client::errors::{OciEnvelope, OciErrorCode};
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::oci::digest::Digest;

/// The most that is read of an error's body.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// The most of a body that is not JSON that is shown.
const SHOWN_CHARS_MAX: usize = 300;

/// Statuses that often pass by themselves. 499 and 520 to 524 are those of nginx and Cloudflare in front of registries
/// (go-containerregistry retries 499 and 522 for the same reason).
const TRANSIENT: [u16; 14] = [408, 425, 429, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529];

/// An answer that is not the hoped-for one.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The codes and messages of the body, as the registry ordered them.
    pub diagnostics: Vec<Diagnostic>,
    /// The pause that the registry asks for.
    pub retry_after: Option<Duration>,
}

/// One entry of an error's body.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// `MANIFEST_UNKNOWN` and the like; empty where the body was not JSON.
    pub code: String,
    /// The registry's words.
    pub message: String,
    /// The digests in its detail, in whatever member they stand; each registry has its own.
    pub digests: Vec<Digest>,
}

impl Answer {
    /// Reads a status, its headers and (the first part of) its body.
    pub fn new(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Answer {
        let diagnostics = if let Ok(envelope) = serde_json::from_slice::<OciEnvelope>(body) {
            envelope
                .errors
                .into_iter()
                .map(|error| Diagnostic {
                    code: code_text(&error.code),
                    message: printable(&error.message),
                    digests: digests_in(&error.detail.to_string()),
                })
                .collect()
        } else {
            let message = printable(&String::from_utf8_lossy(body));
            if message.is_empty() { Vec::new() } else { vec![Diagnostic { code: String::new(), message, digests: Vec::new() }] }
        };
        Answer { status, diagnostics, retry_after: retry_after(headers) }
    }

    /// Whether the same request may well succeed a moment later.
    pub fn is_transient(&self) -> bool {
        TRANSIENT.contains(&self.status.as_u16())
    }

    /// Whether the body names this code.
    pub fn has_code(&self, code: &str) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.code == code)
    }

    /// Whether the body names this blob as what it is about.
    pub fn names(&self, digest: Digest) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.digests.contains(&digest))
    }

    /// Whether the body says so, in whatever case.
    pub fn says(&self, words: &str) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.message.to_ascii_lowercase().contains(words))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        for (number, diagnostic) in self.diagnostics.iter().enumerate() {
            f.write_str(if number == 0 { ": " } else { "; " })?;
            match (diagnostic.code.as_str(), diagnostic.message.as_str()) {
                ("", message) => f.write_str(message)?,
                (code, "") => f.write_str(code)?,
                (code, message) => write!(f, "{code}: {message}")?,
            }
        }
        Ok(())
    }
}

/// Every `sha256:…` in a text; how many there can be is bounded by how much of a body is read.
fn digests_in(text: &str) -> Vec<Digest> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != ':').filter_map(|word| word.parse().ok()).collect()
}

fn code_text(code: &OciErrorCode) -> String {
    match serde_json::to_value(code) {
        Ok(serde_json::Value::String(text)) => printable(&text),
        _ => String::new(),
    }
}

/// One line without control characters; tags of HTML pages are left out, their words stay.
fn printable(text: &str) -> String {
    let mut words = String::new();
    let mut inside_tag = false;
    let is_page = text.trim_start().starts_with('<');
    for character in text.chars() {
        match character {
            '<' if is_page => inside_tag = true,
            '>' if is_page => {
                inside_tag = false;
                words.push(' ');
            }
            _ if inside_tag => {}
            _ if character.is_control() => words.push(' '),
            _ => words.push(character),
        }
        // Enough for what is shown, even where half of it is spaces.
        if words.len() > 8 * SHOWN_CHARS_MAX {
            break;
        }
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN_CHARS_MAX).collect()
}

/// `Retry-After` in seconds, or as a date, which is measured against the answer's own `Date`: the two clocks are one.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp().as_second());
    let seconds = date(text)?.checked_sub(date(headers.get(DATE)?.to_str().ok()?)?)?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer::new(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn every_kind_of_body_is_one_line() {
        for (status, body, text) in [
            (
                404,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
                "404 Not Found: MANIFEST_UNKNOWN: manifest unknown",
            ),
            (403, r#"{"errors":[{"code":"DENIED"},{"code":"QUOTA","message":"full"}]}"#, "403 Forbidden: DENIED; QUOTA: full"),
            (
                413,
                "<html>\r\n<head><title>413 Request Entity Too Large</title></head></html>",
                "413 Payload Too Large: 413 Request Entity Too Large",
            ),
            (502, "", "502 Bad Gateway"),
            (404, "404 page not found\n", "404 Not Found: 404 page not found"),
            (500, r#"{"errors":[]}"#, "500 Internal Server Error"),
            (500, "\u{1b}[31mred\u{7}", "500 Internal Server Error: [31mred"),
        ] {
            assert_eq!(answer(status, body).to_string(), text);
        }
        assert!(answer(500, &"x".repeat(BODY_BYTES_MAX)).to_string().len() < 400);
    }

    #[test]
    fn the_digests_of_a_detail_are_found_in_every_form() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let body = format!(
            r#"{{"errors":[{{"code":"MANIFEST_BLOB_UNKNOWN","detail":"{one}"}},{{"code":"MANIFEST_BLOB_UNKNOWN","detail":{{"Digest":["{two}"]}}}}]}}"#
        );
        let answer = answer(400, &body);
        assert!(answer.names(one) && answer.names(two) && !answer.names(Digest::of(b"3")));
    }

    #[test]
    fn what_passes_is_a_table() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(answer(status, "").is_transient(), "{status}");
        }
        for status in [400, 401, 403, 404, 405, 413, 416, 501, 507] {
            assert!(!answer(status, "").is_transient(), "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert(RETRY_AFTER, "Wed, 21 Oct 2026 07:28:30 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), None);
        headers.insert(DATE, "Wed, 21 Oct 2026 07:28:00 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(30)));
        headers.insert(RETRY_AFTER, "Wed, 21 Oct 2026 07:27:00 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::ZERO));
        headers.insert(RETRY_AFTER, "soon".parse().unwrap());
        assert_eq!(retry_after(&headers), None);
    }
}
