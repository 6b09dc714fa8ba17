//! Environment markers: which requirements of a lock are for this target (PEP 508, "Environment Markers").
//!
//! A lock that is resolved for several machines says of some lines for which. Resolvers read markers by themselves; judging is for a lock that needs none. That a
//! text is a marker at all is told for `requirements.txt` too ([`check`]), by the place of what is wrong.
//! What is compared as a version is compared as numbers, which the variables of a released interpreter are.
//!
//! What must stay true: a marker that cannot be judged is an error, never a guess; nesting is bounded.

use std::cmp::Ordering;

use super::python_version_form;
use super::wheel_target::{Libc, Target};

/// How deep parentheses may stand in each other.
const DEPTH_MAX: usize = 16;
/// Every variable.
const VARIABLES: [&str; 12] = [
    "python_version",
    "python_full_version",
    "sys_platform",
    "platform_system",
    "platform_machine",
    "platform_release",
    "platform_version",
    "platform_python_implementation",
    "os_name",
    "implementation_name",
    "implementation_version",
    "extra",
];

/// A marker that cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the marker `{0}` cannot be judged")]
pub struct MarkerError(String);

/// What is wrong with a text that should be a marker, and how many bytes from its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) at_bytes: usize,
    pub(super) reason: String,
}

/// Whether `marker` holds on `target`.
pub fn holds(marker: &str, target: &Target) -> Result<bool, MarkerError> {
    let read = read(marker, &|one: &Comparison| one.holds(target).ok_or_else(|| one.problem("this cannot be judged")));
    read.map_err(|_| MarkerError(marker.chars().take(200).collect()))
}

/// Whether `marker` is one.
pub(super) fn check(marker: &str) -> Result<(), Problem> {
    read(marker, &|one: &Comparison| one.check().map(|()| true)).map(drop)
}

fn read(marker: &str, judge: &dyn Fn(&Comparison) -> Result<bool, Problem>) -> Result<bool, Problem> {
    let words = words(marker)?;
    let mut reader = Reader { words: &words, end_bytes: marker.len(), depth: 0, judge };
    let holds = reader.any()?;
    match reader.words.first() {
        None => Ok(holds),
        Some(_) => Err(reader.problem("`and`, `or` or the end of the marker is expected here")),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Name(String),
    Text(String),
    Operator(String),
    Open,
    Close,
}

fn words(marker: &str) -> Result<Vec<(usize, Word)>, Problem> {
    let mut words = Vec::new();
    let mut rest = marker.trim_start();
    while let Some(first) = rest.chars().next() {
        let at_bytes = marker.len() - rest.len();
        let problem = |reason: String| Problem { at_bytes, reason };
        let (word, length) = match first {
            '(' => (Word::Open, 1),
            ')' => (Word::Close, 1),
            '\'' | '"' => {
                let end = rest[1..].find(first).ok_or_else(|| problem(format!("the text that begins here has no `{first}` at its end")))?;
                (Word::Text(rest[1..=end].to_owned()), end + 2)
            }
            _ if first.is_ascii_alphabetic() => {
                let end = rest.find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.'))).unwrap_or(rest.len());
                (Word::Name(rest[..end].to_owned()), end)
            }
            _ => {
                let end = rest.find(|letter| !"<>=!~".contains(letter)).unwrap_or(rest.len());
                if end == 0 {
                    return Err(problem(format!("`{}` means nothing in a marker: texts stand in quotes", first.escape_debug())));
                }
                (Word::Operator(rest[..end].to_owned()), end)
            }
        };
        words.push((at_bytes, word));
        rest = rest[length..].trim_start();
    }
    Ok(words)
}

struct Reader<'a> {
    words: &'a [(usize, Word)],
    end_bytes: usize,
    depth: usize,
    judge: &'a dyn Fn(&Comparison) -> Result<bool, Problem>,
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Variable(&'static str),
}

/// Two sides and what compares them.
struct Comparison {
    at_bytes: usize,
    left: Value,
    operator: String,
    right: Value,
}

impl Reader<'_> {
    /// A problem with what comes next.
    fn problem(&self, reason: &str) -> Problem {
        Problem { at_bytes: self.words.first().map_or(self.end_bytes, |(at_bytes, _)| *at_bytes), reason: reason.to_owned() }
    }

    fn next(&mut self, expected: &str) -> Result<Word, Problem> {
        let ((_, first), rest) = self.words.split_first().ok_or_else(|| self.problem(expected))?;
        self.words = rest;
        Ok(first.clone())
    }

    fn takes(&mut self, word: &Word) -> bool {
        let is_next = self.words.first().is_some_and(|(_, found)| found == word);
        if is_next {
            self.words = &self.words[1..];
        }
        is_next
    }

    fn takes_name(&mut self, name: &str) -> bool {
        self.takes(&Word::Name(name.to_owned()))
    }

    fn any(&mut self) -> Result<bool, Problem> {
        let mut holds = self.all()?;
        while self.takes_name("or") {
            holds |= self.all()?;
        }
        Ok(holds)
    }

    fn all(&mut self) -> Result<bool, Problem> {
        let mut holds = self.one()?;
        while self.takes_name("and") {
            holds &= self.one()?;
        }
        Ok(holds)
    }

    fn one(&mut self) -> Result<bool, Problem> {
        let too_deep = self.problem("parentheses stand too deep in each other");
        if self.takes(&Word::Open) {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(too_deep);
            }
            let holds = self.any()?;
            self.depth -= 1;
            let unclosed = self.problem("a `)` is expected here");
            return if self.takes(&Word::Close) { Ok(holds) } else { Err(unclosed) };
        }
        let at_bytes = self.problem("").at_bytes;
        let left = self.value()?;
        let expected = self.problem("what compares is expected here, such as `>=`, `==` or `in`");
        let operator = match self.next(&expected.reason)? {
            Word::Operator(operator) if python_version_form::OPERATORS.contains(&operator.as_str()) => operator,
            Word::Name(name) if name == "in" => name,
            Word::Name(name) if name == "not" && self.takes_name("in") => "not in".to_owned(),
            _ => return Err(expected),
        };
        let right = self.value()?;
        (self.judge)(&Comparison { at_bytes, left, operator, right })
    }

    /// A text or a variable, of which some have older spellings.
    fn value(&mut self) -> Result<Value, Problem> {
        let here = self.problem("a variable, or a text in quotes, is expected here");
        match self.next(&here.reason)? {
            Word::Text(text) => Ok(Value::Text(text)),
            Word::Name(name) => {
                let spelled = name.replace('.', "_");
                let spelled = if spelled == "python_implementation" { "platform_python_implementation" } else { spelled.as_str() };
                let found = VARIABLES.into_iter().find(|variable| *variable == spelled);
                let name: String = name.chars().take(60).collect();
                found.map(Value::Variable).ok_or_else(|| Problem { reason: format!("`{name}` is no variable of a marker"), ..here })
            }
            _ => Err(here),
        }
    }
}

impl Value {
    fn is_version(&self) -> bool {
        matches!(self, Value::Variable("python_version" | "python_full_version" | "implementation_version"))
    }

    /// What it is on a target.
    fn on(&self, target: &Target) -> Option<String> {
        let python = target.python;
        let name = match self {
            Value::Text(text) => return Some(text.clone()),
            Value::Variable(name) => *name,
        };
        Some(match name {
            "python_version" => python.to_string(),
            "python_full_version" | "implementation_version" => {
                format!("{}.{}.{}", python.major, python.minor, python.patch.unwrap_or(0))
            }
            "sys_platform" => "linux".to_owned(),
            "platform_system" => "Linux".to_owned(),
            "os_name" => "posix".to_owned(),
            "platform_machine" => target.machine.clone(),
            "implementation_name" => "cpython".to_owned(),
            "platform_python_implementation" => "CPython".to_owned(),
            "extra" => String::new(),
            // What a kernel calls itself is nothing that an image knows.
            _ => return None,
        })
    }
}

impl Comparison {
    fn problem(&self, reason: &str) -> Problem {
        Problem { at_bytes: self.at_bytes, reason: reason.to_owned() }
    }

    fn holds(&self, target: &Target) -> Option<bool> {
        let as_versions = self.left.is_version() || self.right.is_version();
        compare(&self.left.on(target)?, &self.operator, &self.right.on(target)?, as_versions)
    }

    /// Whether it can mean anything.
    fn check(&self) -> Result<(), Problem> {
        let text = match (&self.left, &self.right) {
            (Value::Text(_), Value::Text(_)) => return Err(self.problem("two texts are compared: one side is a variable")),
            (Value::Text(text), _) | (_, Value::Text(text)) => text,
            _ => return Ok(()),
        };
        let as_versions = self.left.is_version() || self.right.is_version();
        let is_version = python_version_form::is_version(text.strip_suffix(".*").unwrap_or(text));
        match self.operator.as_str() {
            "in" | "not in" | "===" => Ok(()),
            "~=" if !as_versions => Err(self.problem("`~=` compares versions")),
            _ if as_versions && !is_version => {
                let text: String = text.chars().take(60).collect();
                Err(self.problem(&format!("`{}` is no version, and a version is compared with it", text.escape_debug())))
            }
            _ => Ok(()),
        }
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

    #[test]
    fn what_is_no_marker_is_told_by_its_place() {
        for marker in [
            "python_version<'3.12'",
            "os.name == 'posix' and python_implementation == \"CPython\"",
            "platform_release >= '5' or sys_platform > 'a'",
            "python_version in '3.9 3.10' and python_version >= '3.*'",
            "extra == 'test'",
        ] {
            assert_eq!(check(marker), Ok(()), "{marker}");
        }
        for (marker, at_bytes, said) in [
            ("", 0, "a variable, or a text in quotes"),
            (" python_versoin > '3'", 1, "`python_versoin` is no variable"),
            ("python_version > 3", 17, "`3` means nothing"),
            ("python_version => '3'", 15, "what compares"),
            ("python_version", 14, "what compares"),
            ("python_version > '3", 17, "has no `'`"),
            ("(python_version > '3'", 21, "a `)`"),
            ("python_version > '3' python", 21, "`and`, `or`"),
            ("not python_version > '3'", 0, "`not` is no variable"),
            ("'3' > '2'", 0, "two texts"),
            ("python_version > 'three'", 0, "`three` is no version"),
            ("sys_platform ~= 'linux'", 0, "compares versions"),
        ] {
            let problem = check(marker).unwrap_err();
            assert!(problem.at_bytes == at_bytes && problem.reason.contains(said), "{marker}: {problem:?}");
        }
    }
}
