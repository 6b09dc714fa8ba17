//! Environment markers: which requirements of a lock are for this target (PEP 508, "Environment Markers").
//!
//! A lock that is resolved for several machines says of some lines for which. Resolvers read markers by themselves; this is for a lock that needs none.
//! What is compared as a version is compared as numbers, which the variables of a released interpreter are.
//!
//! What must stay true: a marker that cannot be judged is an error, never a guess; nesting is bounded.

use std::cmp::Ordering;

use super::wheel_target::{Libc, Target};

/// How deep parentheses may stand in each other.
const DEPTH_MAX: usize = 16;

/// A marker that cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the marker `{0}` cannot be judged")]
pub struct MarkerError(String);

/// Whether `marker` holds on `target`.
pub fn holds(marker: &str, target: &Target) -> Result<bool, MarkerError> {
    let refuse = || MarkerError(marker.chars().take(200).collect());
    let words = words(marker).ok_or_else(refuse)?;
    let mut reader = Reader { words: &words, target, depth: 0 };
    let holds = reader.any().ok_or_else(refuse)?;
    if reader.words.is_empty() { Ok(holds) } else { Err(refuse()) }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Name(String),
    Text(String),
    Operator(String),
    Open,
    Close,
}

fn words(marker: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = marker.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, length) = match first {
            '(' => (Word::Open, 1),
            ')' => (Word::Close, 1),
            '\'' | '"' => {
                let end = rest[1..].find(first)?;
                (Word::Text(rest[1..=end].to_owned()), end + 2)
            }
            _ if first.is_ascii_alphabetic() => {
                let end = rest.find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.'))).unwrap_or(rest.len());
                (Word::Name(rest[..end].to_owned()), end)
            }
            _ => {
                let end = rest.find(|letter| !"<>=!~".contains(letter)).unwrap_or(rest.len());
                if end == 0 {
                    return None;
                }
                (Word::Operator(rest[..end].to_owned()), end)
            }
        };
        words.push(word);
        rest = rest[length..].trim_start();
    }
    Some(words)
}

struct Reader<'a> {
    words: &'a [Word],
    target: &'a Target,
    depth: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<Word> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first.clone())
    }

    fn takes(&mut self, name: &str) -> bool {
        let is_next = matches!(self.words.first(), Some(Word::Name(found)) if found == name);
        if is_next {
            self.words = &self.words[1..];
        }
        is_next
    }

    fn any(&mut self) -> Option<bool> {
        let mut holds = self.all()?;
        while self.takes("or") {
            holds |= self.all()?;
        }
        Some(holds)
    }

    fn all(&mut self) -> Option<bool> {
        let mut holds = self.one()?;
        while self.takes("and") {
            holds &= self.one()?;
        }
        Some(holds)
    }

    fn one(&mut self) -> Option<bool> {
        if self.words.first() == Some(&Word::Open) {
            self.words = &self.words[1..];
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return None;
            }
            let holds = self.any()?;
            self.depth -= 1;
            return (self.next()? == Word::Close).then_some(holds);
        }
        let (left, left_is_version) = self.value()?;
        let operator = match self.next()? {
            Word::Operator(operator) => operator,
            Word::Name(name) if name == "in" => name,
            Word::Name(name) if name == "not" && self.takes("in") => "not in".to_owned(),
            _ => return None,
        };
        let (right, right_is_version) = self.value()?;
        compare(&left, &operator, &right, left_is_version || right_is_version)
    }

    /// The value of a text or of a variable, and whether it is a version.
    fn value(&mut self) -> Option<(String, bool)> {
        let python = self.target.python;
        let full = format!("{}.{}.{}", python.major, python.minor, python.patch.unwrap_or(0));
        Some(match self.next()? {
            Word::Text(text) => (text, false),
            Word::Name(name) => match name.as_str() {
                "python_version" => (python.to_string(), true),
                "python_full_version" | "implementation_version" => (full, true),
                "sys_platform" => ("linux".to_owned(), false),
                "platform_system" => ("Linux".to_owned(), false),
                "os_name" => ("posix".to_owned(), false),
                "platform_machine" => (self.target.machine.clone(), false),
                "implementation_name" => ("cpython".to_owned(), false),
                "platform_python_implementation" => ("CPython".to_owned(), false),
                "extra" => (String::new(), false),
                // What a kernel calls itself is nothing that an image knows.
                _ => return None,
            },
            _ => return None,
        })
    }
}

fn compare(left: &str, operator: &str, right: &str, as_versions: bool) -> Option<bool> {
    match operator {
        "in" => return Some(right.contains(left)),
        "not in" => return Some(!right.contains(left)),
        "===" => return Some(left == right),
        _ => {}
    }
    if !as_versions {
        return match operator {
            "==" => Some(left == right),
            "!=" => Some(left != right),
            _ => None,
        };
    }
    if let Some(stem) = right.strip_suffix(".*") {
        let starts = left == stem || left.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.'));
        return match operator {
            "==" => Some(starts),
            "!=" => Some(!starts),
            _ => None,
        };
    }
    let (left, right) = (numbers(left)?, numbers(right)?);
    let width = left.len().max(right.len());
    let padded = |numbers: &[u64]| (0..width).map(|at| numbers.get(at).copied().unwrap_or(0)).collect::<Vec<_>>();
    let order = padded(&left).cmp(&padded(&right));
    match operator {
        "==" => Some(order == Ordering::Equal),
        "!=" => Some(order != Ordering::Equal),
        "<" => Some(order == Ordering::Less),
        "<=" => Some(order != Ordering::Greater),
        ">" => Some(order == Ordering::Greater),
        ">=" => Some(order != Ordering::Less),
        // PEP 440: at least this, and equal but for the last number.
        "~=" if right.len() > 1 => Some(order != Ordering::Less && left.starts_with(&right[..right.len() - 1])),
        _ => None,
    }
}

fn numbers(version: &str) -> Option<Vec<u64>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}

/// A marker that holds on this target's machine alone.
pub fn of_machine(target: &Target) -> String {
    // A marker has no word for the C library: a lock is for one of them.
    let (Libc::Glibc(..) | Libc::Musl(..)) = target.libc;
    format!("platform_machine == \"{}\"", target.machine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::platform::Platform;

    #[test]
    fn markers_are_judged_for_the_target_and_not_for_this_machine() {
        let target = Target::new("3.11.2".parse().unwrap(), Libc::Glibc(2, 36), &Platform::new("linux", "arm64")).unwrap();
        for (marker, expected) in [
            ("python_version < '3.12'", true),
            ("python_version >= \"3.9\" and python_version < \"3.11\"", false),
            ("python_full_version >= '3.11.1'", true),
            ("python_version == '3.*'", true),
            ("python_version ~= '3.9'", true),
            ("'3.9' <= python_version", true),
            ("sys_platform == 'win32' or os_name == 'posix'", true),
            ("(sys_platform == 'win32' or os_name == 'nt') and python_version > '3'", false),
            ("platform_machine == \"aarch64\"", true),
            ("platform_machine not in 'x86_64 amd64'", true),
            ("extra == 'test'", false),
            (of_machine(&target).as_str(), true),
        ] {
            assert_eq!(holds(marker, &target), Ok(expected), "{marker}");
        }
        let deep = format!("{}python_version > '3'{}", "(".repeat(40), ")".repeat(40));
        for marker in [
            "",
            "python_version",
            "python_version <",
            "platform_release > '5'",
            "sys_platform < 'z'",
            "python_version > '3' python",
            "'",
            "ä",
            &deep,
        ] {
            assert!(holds(marker, &target).is_err(), "{marker}");
        }
    }
}
