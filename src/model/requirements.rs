//! `requirements.txt`, as far as it has to be known before it is resolved.
//!
//! The file is pip's, and so is its grammar ("Requirements File Format"): what the requirements mean (versions, extras, markers) is left to the resolver. Here
//! it is read into lines, and what cannot be had without running somebody's code, or without leaving the model's folder, is refused by its line:
//! sources, folders, URLs, other files, settings of indexes (those are this machine's own).
//!
//! What must stay true: what comes out holds requirements and their hashes, and not one option that makes a resolver read a file or an address.

use std::fmt::Write as _;

use super::python_package::{is_name, normalised};
use crate::fault::{Failure, Fault};

/// The largest file that is read.
pub const REQUIREMENTS_BYTES_MAX: u64 = 1 << 20;
/// The file's usual name.
pub const FILE_NAME: &str = "requirements.txt";

/// What a model requires, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    /// The file with the requirements.
    pub file: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The lock beside it: its name and its bytes.
    pub lock: Option<(String, Vec<u8>)>,
}

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Where it begins, from 1 on.
    pub line: usize,
    /// The project, normalised.
    pub project: String,
    /// All of it, on one line.
    pub text: String,
}

/// A requirement that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum RequirementsError {
    /// Not text.
    #[error("`{0}` is not text in UTF-8")]
    NotText(String),
    /// A line that asks for what is not done.
    #[error("`{file}`, line {line}: `{text}`: {reason}")]
    Line {
        /// Which file.
        file: String,
        /// Which line.
        line: usize,
        /// What stands there.
        text: String,
        /// Why it is not taken.
        reason: &'static str,
        /// What to do.
        remedy: &'static str,
    },
}

impl Failure for RequirementsError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }

    fn remedy(&self) -> Option<String> {
        match self {
            RequirementsError::NotText(_) => Some("save it as UTF-8".to_owned()),
            RequirementsError::Line { remedy, .. } => Some((*remedy).to_owned()),
        }
    }
}

const BUILD_WHEEL: &str =
    "build its wheel (`pip wheel`), put that into a folder, name the folder with `--wheels`, and require the package by its name";
const WRITE_HERE: &str = "write the lines of that file into this one";
const OWN_INDEX: &str =
    "remove the line: indexes are set for this machine, in pip.conf or uv.toml, or with PIP_INDEX_URL or UV_DEFAULT_INDEX";

/// Reads a file; `file` is its name for errors.
pub fn read(file: &str, bytes: &[u8]) -> Result<Vec<Requirement>, RequirementsError> {
    let text = decoded(bytes).ok_or_else(|| RequirementsError::NotText(file.to_owned()))?;
    let mut requirements = Vec::new();
    for (line, text) in logical_lines(&text) {
        let refuse = |(reason, remedy)| {
            let text: String = text.chars().take(120).collect();
            RequirementsError::Line { file: file.to_owned(), line, text: without_secrets(&text), reason, remedy }
        };
        if let Some(option) = text.strip_prefix('-') {
            check_option(option).map_err(refuse)?;
            continue;
        }
        let project = check_requirement(&text).map_err(refuse)?;
        requirements.push(Requirement { line, project, text });
    }
    Ok(requirements)
}

/// The requirements as a file of their own.
pub fn to_text(requirements: &[Requirement]) -> String {
    requirements.iter().fold(String::new(), |mut out, requirement| {
        let _ = writeln!(out, "{}", requirement.text);
        out
    })
}

/// Windows' shells write UTF-16, and pip reads it by its mark.
fn decoded(bytes: &[u8]) -> Option<String> {
    let wide = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = rest.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16(&units).ok()
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => std::str::from_utf8(rest).ok().map(str::to_owned),
        _ => std::str::from_utf8(bytes).ok().map(str::to_owned),
    }
}

/// Lines joined where they end in `\`, without comments, and none that is empty; each with the number of its first line.
pub(super) fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut continued = false;
    for (at, line) in text.lines().enumerate() {
        let is_comment = line.trim_start().starts_with('#');
        let (line, goes_on) = match line.strip_suffix('\\') {
            Some(line) if !is_comment => (line, true),
            _ => (line, false),
        };
        let line = if is_comment { "" } else { line };
        match lines.last_mut().filter(|_| continued) {
            Some((_, before)) => {
                before.push(' ');
                before.push_str(line.trim());
            }
            None => lines.push((at + 1, line.trim().to_owned())),
        }
        continued = goes_on;
    }
    for (_, line) in &mut lines {
        *line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        // A comment begins at a `#` after a blank: `pkg#egg` is none.
        if let Some(at) = line.find(" #") {
            line.truncate(at);
        }
    }
    lines.retain(|(_, line)| !line.is_empty());
    lines
}

type Refusal = (&'static str, &'static str);

fn check_option(option: &str) -> Result<(), Refusal> {
    let name = option.trim_start_matches('-').split(['=', ' ']).next().unwrap_or_default();
    match name {
        // Only wheels are taken in any case.
        "only-binary" | "prefer-binary" | "require-hashes" => Ok(()),
        "e" | "editable" => Err(("a folder of sources is not installed: no user code is run in a build", BUILD_WHEEL)),
        "r" | "requirement" | "c" | "constraint" => Err(("another file is not read", WRITE_HERE)),
        "i" | "index-url" | "pypi-url" | "extra-index-url" | "no-index" | "f" | "find-links" | "trusted-host" => {
            Err(("a model does not choose where packages come from", OWN_INDEX))
        }
        // `-r file` and `-efolder` may stand without a blank.
        _ if option.starts_with('e') => Err(("a folder of sources is not installed: no user code is run in a build", BUILD_WHEEL)),
        _ if option.starts_with(['r', 'c']) => Err(("another file is not read", WRITE_HERE)),
        "no-binary" => Err(("only wheels are installed: no user code is run in a build", "remove the line")),
        "pre" => Err(("pre-releases are not taken wholesale", "require the pre-release that you mean: `package>=2.0rc1`")),
        _ => Err(("this option is not known here", "remove the line")),
    }
}

fn check_requirement(text: &str) -> Result<String, Refusal> {
    const SOURCES: [&str; 4] = ["git+", "hg+", "svn+", "bzr+"];
    let name_end = text.find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))).unwrap_or(text.len());
    let (name, rest) = text.split_at(name_end);
    if SOURCES.iter().any(|source| text.contains(source)) {
        return Err(("sources are not installed: no user code is run in a build", BUILD_WHEEL));
    }
    if text.contains("://") || rest.trim_start().starts_with('@') {
        return Err(("a package is required by its name, not by an address", BUILD_WHEEL));
    }
    if text.starts_with(['.', '/', '~'])
        || text.contains('\\')
        || rest.starts_with('/')
        || name.ends_with(".whl")
        || name.ends_with(".gz")
        || name.ends_with(".zip")
    {
        return Err(("a file or a folder is not installed: a package is required by its name", BUILD_WHEEL));
    }
    let rest = rest.trim_start();
    // What follows may be hashes; any other option would be the installer's.
    if rest.split(' ').any(|word| word.starts_with("--") && !word.starts_with("--hash=") && word != "--hash") {
        return Err(("only `--hash` may follow a requirement", "remove the option"));
    }
    let is_whole = !rest.starts_with('[') || rest.contains(']');
    let assigns = rest.starts_with('=') && !rest.starts_with("==");
    let goes_on = rest.is_empty() || rest.starts_with(['[', '=', '<', '>', '!', '~', ';', '(', ',']) || rest.starts_with("--hash");
    if !is_name(name) || !goes_on || !is_whole || assigns {
        return Err(("this is not a requirement", "write a package's name and, where it matters, versions: `scikit-learn>=1.3,<2`"));
    }
    Ok(normalised(name))
}

/// An address in a message must not show the password in it.
fn without_secrets(text: &str) -> String {
    match (text.find("://"), text.find('@')) {
        (Some(begin), Some(end)) if begin < end => format!("{}…{}", &text[..begin + 3], &text[end..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_read_and_comments_are_not() {
        let text = "# what it needs\nnumpy>=1.20 ,<3  # not 3\n\n\tScikit_Learn[tests] == 1.3 ; python_version > '3.6'\nclick==8.1.7 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n--prefer-binary\nsix";
        let read = read("requirements.txt", text.as_bytes()).unwrap();
        let found: Vec<_> =
            read.iter().map(|requirement| (requirement.line, requirement.project.as_str(), requirement.text.as_str())).collect();
        let expected = [
            (2, "numpy", "numpy>=1.20 ,<3"),
            (4, "scikit-learn", "Scikit_Learn[tests] == 1.3 ; python_version > '3.6'"),
            (5, "click", "click==8.1.7 --hash=sha256:aa --hash=sha256:bb"),
            (9, "six", "six"),
        ];
        assert_eq!(found, expected);
        let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain("six\r\n".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        assert_eq!(super::read("r", &wide).unwrap()[0].project, "six");
        assert!(matches!(super::read("r", b"\x80"), Err(RequirementsError::NotText(_))));
    }

    #[test]
    fn what_would_run_code_or_leave_the_folder_is_refused_by_its_line() {
        for (text, reason) in [
            ("-e .", "no user code is run"),
            ("--editable=./x", "no user code is run"),
            ("git+https://user:secret@host/x.git", "no user code is run"),
            ("x @ git+https://host/x.git", "no user code is run"),
            ("x @ https://host/x-1-py3-none-any.whl", "not by an address"),
            ("https://host/x.tar.gz", "not by an address"),
            ("./wheels/x-1-py3-none-any.whl", "a file or a folder"),
            ("x-1-py3-none-any.whl", "a file or a folder"),
            ("packages/x", "a file or a folder"),
            ("-r other.txt", "another file"),
            ("-rother.txt", "another file"),
            ("-c constraints.txt", "another file"),
            ("--extra-index-url https://host/simple", "where packages come from"),
            ("-f /etc", "where packages come from"),
            ("--pre", "pre-releases"),
            ("--no-binary :all:", "only wheels"),
            ("six --config-settings=x", "only `--hash`"),
            ("two words", "not a requirement"),
            ("six=1.16.0", "not a requirement"),
            ("six = 1.16", "not a requirement"),
            ("six[", "not a requirement"),
            ("!", "not a requirement"),
        ] {
            let error = read("requirements.txt", format!("six\n{text}\n").as_bytes()).unwrap_err();
            let message = error.to_string();
            assert!(message.contains("line 2") && message.contains(reason) && error.remedy().is_some(), "{text}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }
}
