//! Which bytes of a blob a request asks for (RFC 9110, "Range").
//!
//! One range of bytes is answered; several at once, other units and what cannot be read are ignored, as the RFC allows: the client then
//! gets the whole and sees that it does.

use std::ops::Range;

use super::registry_error::RegistryError;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// The blob.
    All,
    /// Some of it; not empty.
    Part(Range<u64>),
}

/// Reads a `Range` header for a blob of `size_bytes`.
pub fn asked(header: Option<&str>, size_bytes: u64) -> Result<Asked, RegistryError> {
    let Some((first, last)) = header.and_then(|text| text.trim().strip_prefix("bytes=")).and_then(|range| range.split_once('-')) else {
        return Ok(Asked::All);
    };
    let number = |text: &str| match text {
        "" => Some(None),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => Some(Some(text.parse::<u64>().unwrap_or(u64::MAX))),
        _ => None,
    };
    let range = match (number(first), number(last)) {
        (Some(Some(first)), Some(Some(last))) if first <= last => first..last.saturating_add(1).min(size_bytes),
        (Some(Some(first)), Some(None)) => first..size_bytes,
        (Some(None), Some(Some(last_bytes))) => size_bytes.saturating_sub(last_bytes)..size_bytes,
        _ => return Ok(Asked::All),
    };
    if range.is_empty() { Err(RegistryError::Range { size_bytes }) } else { Ok(Asked::Part(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_answered_and_what_is_not_one_is_ignored() {
        let check = |header, expected: Option<Asked>| assert_eq!(asked(header, 10).ok(), expected, "{header:?}");
        check(None, Some(Asked::All));
        check(Some("bytes=0-0"), Some(Asked::Part(0..1)));
        check(Some("bytes=2-100"), Some(Asked::Part(2..10)));
        check(Some("bytes=9-"), Some(Asked::Part(9..10)));
        check(Some("bytes=-3"), Some(Asked::Part(7..10)));
        check(Some("bytes=-99999999999999999999999"), Some(Asked::Part(0..10)));
        check(Some("bytes=10-"), None);
        check(Some("bytes=-0"), None);
        for ignored in ["bytes=5-4", "bytes=0-1,3-4", "items=0-1", "bytes=x-1", "bytes=1", "bytes=-"] {
            check(Some(ignored), Some(Asked::All));
        }
    }
}
