//! The grammar of one requirement (PEP 508) and of the hashes behind it, as pip has them.
//!
//! A slip (`python_versoin`, `==`, `[extra`) is told by its place, before a resolver is asked: what they say of it names their own files and columns, and they
//! say it when an upload has its number. What a requirement means is theirs. What asks for more than a package by its name has been refused already
//! (`requirements.rs`).
//!
//! What must stay true: what is refused here no resolver takes; the text is read once, from left to right.

use std::collections::BTreeSet;

use super::marker;
use super::python_package::is_name;
use super::python_version_form::{self, OPERATORS};
use crate::oci::digest::Digest;

/// What a requirement says beside its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// The SHA-256 that a wheel of it may have; empty: it has no hash.
    pub(super) hashes: BTreeSet<Digest>,
    /// Whether it names one version.
    pub(super) is_pinned: bool,
}

/// What is wrong, and how many bytes from the beginning of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) at_bytes: usize,
    pub(super) reason: String,
    pub(super) remedy: &'static str,
}

const NAME: &str = "write a package's name and, where it matters, versions: `scikit-learn>=1.3,<2`";
const EXTRAS: &str = "write extras between brackets, with commas: `package[one,two]`";
const VERSIONS: &str = "write versions as `==1.4.2`, `>=1.4,<2` or `~=1.4`, with a comma between two";
const MARKER: &str = "write a marker as `; python_version < \"3.12\"`; its variables are python_version, python_full_version, sys_platform, platform_system, \
                      platform_machine, platform_release, platform_version, platform_python_implementation, os_name, implementation_name, \
                      implementation_version, extra";
const HASH: &str = "write a hash as `--hash=sha256:` and 64 digits (`pip hash FILE` says it)";
const VARIABLE: &str = "write the value itself";

/// Reads a requirement whose name ends at `name_bytes`.
pub(super) fn check(text: &str, name_bytes: usize) -> Result<Parts, Wrong> {
    let wrong = |at_bytes: usize, reason: String, remedy| Wrong { at_bytes, reason, remedy };
    if let Some(at_bytes) = text.find("${") {
        return Err(wrong(at_bytes, "variables of the environment are not put in".to_owned(), VARIABLE));
    }
    if !is_name(&text[..name_bytes]) {
        return Err(wrong(0, "this is not a requirement".to_owned(), NAME));
    }
    let options =
        text.match_indices("--").map(|(at, _)| text[..at].trim_end().len()).find(|end| text[*end..].starts_with(char::is_whitespace));
    let (requirement, hashes) = text.split_at(options.unwrap_or(text.len()));
    let mut cursor = Cursor { text: requirement, at_bytes: name_bytes };
    cursor.skip_blanks();
    if cursor.takes("[") {
        cursor.extras()?;
    }
    let versions = cursor.versions()?;
    let rest = cursor.rest();
    if let Some(marker) = rest.strip_prefix(';') {
        let begin_bytes = requirement.len() - marker.len();
        marker::check(marker).map_err(|problem| wrong(begin_bytes + problem.at_bytes, problem.reason, MARKER))?;
    } else if !rest.is_empty() {
        let at_bytes = cursor.at_bytes;
        let is_words = versions.is_empty() && rest.starts_with(|letter: char| letter.is_alphanumeric());
        let words = || wrong(at_bytes, "this is not a requirement: a package's name is one word".to_owned(), NAME);
        return Err(if is_words { words() } else { wrong(at_bytes, format!("`{}` is not expected here", first_word(rest)), VERSIONS) });
    }
    let is_pinned = matches!(versions.as_slice(), [(operator, version)] if matches!(*operator, "==" | "===") && !version.ends_with('*'));
    Ok(Parts { hashes: read_hashes(hashes, requirement.len())?, is_pinned })
}

/// The SHA-256 among the options behind a requirement; there are no other options than hashes.
fn read_hashes(options: &str, begin_bytes: usize) -> Result<BTreeSet<Digest>, Wrong> {
    let mut hashes = BTreeSet::new();
    let mut is_hashed = false;
    let mut rest = options;
    while !rest.trim_start().is_empty() {
        rest = rest.trim_start();
        let at_bytes = begin_bytes + options.len() - rest.len();
        let wrong = |reason: &str, remedy| Wrong { at_bytes, reason: reason.to_owned(), remedy };
        let hash = rest.strip_prefix("--hash").and_then(|rest| rest.strip_prefix(['=', ' ']));
        let hash = hash.ok_or_else(|| wrong("only `--hash` may follow a requirement", "remove the option"))?.trim_start();
        let (hash, after) = hash.split_at(hash.find(char::is_whitespace).unwrap_or(hash.len()));
        let (algorithm, hex) = hash.split_once(':').ok_or_else(|| wrong("this is no hash", HASH))?;
        let length = match algorithm {
            "sha256" => 64,
            "sha384" => 96,
            "sha512" => 128,
            _ => return Err(wrong("hashes are SHA-256, and SHA-384 or SHA-512 beside it", HASH)),
        };
        if hex.len() != length || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong(&format!("a hash of {algorithm} has {length} hexadecimal digits"), HASH));
        }
        if algorithm == "sha256" {
            hashes.extend(format!("sha256:{}", hex.to_ascii_lowercase()).parse::<Digest>().ok());
        }
        (is_hashed, rest) = (true, after);
    }
    if is_hashed && hashes.is_empty() {
        return Err(Wrong { at_bytes: begin_bytes + 1, reason: "a SHA-256 is missing among the hashes".to_owned(), remedy: HASH });
    }
    Ok(hashes)
}

/// Where the reader stands.
struct Cursor<'a> {
    text: &'a str,
    at_bytes: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at_bytes..]
    }

    fn wrong(&self, reason: impl Into<String>, remedy: &'static str) -> Wrong {
        Wrong { at_bytes: self.at_bytes, reason: reason.into(), remedy }
    }

    fn skip_blanks(&mut self) {
        self.at_bytes = self.text.len() - self.rest().trim_start().len();
    }

    /// Goes past `word` and the blanks behind it, if it comes next.
    fn takes(&mut self, word: &str) -> bool {
        let is_next = self.rest().starts_with(word);
        if is_next {
            self.at_bytes += word.len();
            self.skip_blanks();
        }
        is_next
    }

    /// What comes next up to one of `ends`, a blank or the end; goes past it.
    fn word(&mut self, ends: &[char]) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|letter: char| letter.is_whitespace() || ends.contains(&letter)).unwrap_or(rest.len());
        self.at_bytes += length;
        &rest[..length]
    }

    /// `one, two]`.
    fn extras(&mut self) -> Result<(), Wrong> {
        if self.takes("]") {
            return Ok(());
        }
        loop {
            let before = self.at_bytes;
            let extra = self.word(&[',', ']', ';']);
            if !is_name(extra) {
                let reason = if extra.is_empty() {
                    "an extra's name is expected here".to_owned()
                } else {
                    format!("`{extra}` is not the name of an extra")
                };
                return Err(Wrong { at_bytes: before, reason, remedy: EXTRAS });
            }
            self.skip_blanks();
            if self.takes("]") {
                return Ok(());
            }
            if !self.takes(",") {
                return Err(self.wrong("a `,` or the `]` of the extras is expected here", EXTRAS));
            }
        }
    }

    /// `>=1.3, <2`, perhaps in parentheses: each operator with its version. A comma may stand behind the last, as pip and uv let it.
    fn versions(&mut self) -> Result<Vec<(&'static str, &'a str)>, Wrong> {
        let in_parentheses = self.takes("(");
        let mut versions = Vec::new();
        while self.rest().starts_with(['<', '>', '=', '!', '~']) {
            let run = self.rest().find(|letter| !"<>=!~".contains(letter)).unwrap_or(self.rest().len());
            let written = &self.rest()[..run];
            let Some(operator) = OPERATORS.into_iter().find(|operator| *operator == written) else {
                let hint = if written == "=" { ": one version is `==`" } else { "" };
                return Err(self.wrong(format!("`{written}` compares nothing{hint}"), VERSIONS));
            };
            self.takes(operator);
            let before = self.at_bytes;
            let version = self.word(&[',', ';', ')']);
            if let Some(reason) = python_version_form::problem(operator, version) {
                let shown: String = version.chars().take(60).collect();
                let reason = if shown.is_empty() { reason.to_owned() } else { format!("`{operator}{shown}`: {reason}") };
                return Err(Wrong { at_bytes: before, reason, remedy: VERSIONS });
            }
            versions.push((operator, version));
            self.skip_blanks();
            if !self.takes(",") {
                break;
            }
        }
        if in_parentheses && !self.takes(")") {
            return Err(self.wrong("a `)` is expected here", VERSIONS));
        }
        Ok(versions)
    }
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Parts, Wrong> {
        let end = text.find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))).unwrap_or(text.len());
        check(text, end)
    }

    #[test]
    fn what_pip_reads_is_read() {
        let hash = "a".repeat(64);
        for text in [
            "six",
            "six [ a , b.c ] >= 1 , < 2 ; python_version > '3'",
            "six[]",
            "six (>=1,<2)",
            "six>=1,",
            "six~=1.4; sys_platform == 'win32'",
            "six!=1.*",
            "six>=v1.0",
        ] {
            assert_eq!(read(text), Ok(Parts::default()), "{text}");
        }
        let parts =
            read(&format!("six==1 ; os_name == 'nt' --hash=sha256:{} --hash sha512:{}", hash.to_uppercase(), "b".repeat(128))).unwrap();
        assert_eq!(parts, Parts { hashes: [format!("sha256:{hash}").parse().unwrap()].into(), is_pinned: true });
        assert!(read("six === whatever").unwrap().is_pinned);
        assert!(!read("six==1.*").unwrap().is_pinned && !read("six==1,>0").unwrap().is_pinned);
    }

    #[test]
    fn what_is_none_is_told_by_its_place() {
        for (text, at_bytes, said) in [
            ("six; python_versoin > '3'", 5, "`python_versoin` is no variable of a marker"),
            ("six;", 4, "a variable"),
            ("six==", 5, "a version is missing here"),
            ("six==,<2", 5, "a version is missing here"),
            ("six>=>1", 3, "`>=>` compares nothing"),
            ("six=1.16.0", 3, "one version is `==`"),
            ("six>=1 <2", 7, "`<2` is not expected here"),
            ("six>=1.*", 5, "`>=1.*`: `.*` goes with"),
            ("six==abc", 5, "`==abc`: this is no version"),
            ("six,>=1", 3, "`,>=1` is not expected"),
            ("six (>=1", 8, "a `)`"),
            ("six[", 4, "an extra's name is expected"),
            ("six[a", 5, "a `,` or the `]`"),
            ("six[a b]", 6, "a `,` or the `]`"),
            ("six[a,]", 6, "an extra's name is expected"),
            ("six[-a]", 4, "`-a` is not the name of an extra"),
            ("two words", 4, "this is not a requirement"),
            ("-six", 0, "this is not a requirement"),
            ("six==${VERSION}", 5, "variables of the environment"),
            ("six --pre", 4, "only `--hash`"),
            ("six --hash=sha256:12", 4, "64 hexadecimal digits"),
            ("six --hash=md5:d41d8cd98f00b204e9800998ecf8427e", 4, "hashes are SHA-256"),
            ("six --hash=12", 4, "no hash"),
            ("six==ä", 5, "no version"),
        ] {
            let wrong = read(text).unwrap_err();
            assert!(wrong.at_bytes == at_bytes && wrong.reason.contains(said), "{text}: {wrong:?}");
        }
        assert!(read(&format!("six --hash=sha512:{}", "b".repeat(128))).unwrap_err().reason.contains("SHA-256 is missing"));
    }
}
