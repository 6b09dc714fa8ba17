//! `requirements.txt`, as far as it has to be known before it is resolved.
//!
//! The file is pip's, and so is its grammar ("Requirements File Format"): what the requirements mean is left to the resolver. Here it is read into lines
//! (`requirements_text.rs`), what is no requirement is refused by its place (`requirement_line.rs`), and so is what cannot be had without running somebody's code, or
//! without leaving the model's folder: sources, folders, URLs, other files, settings of indexes (those are this machine's own).
//!
//! What must stay true: what comes out holds requirements and their hashes, and not one option that makes a resolver read a file or an address.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::python_package::normalised;
use super::requirement_line::{self, Parts, Wrong};
use super::requirements_text::{LogicalLine, decode, logical_lines};
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;

/// The largest file that is read.
pub const REQUIREMENTS_BYTES_MAX: u64 = 1 << 20;
/// The file's usual name.
pub const FILE_NAME: &str = "requirements.txt";

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Where it begins, from 1 on.
    pub line: usize,
    /// The project, normalised.
    pub project: String,
    /// All of it, on one line.
    pub text: String,
    /// The SHA-256 that its wheel may have; empty: any.
    pub hashes: BTreeSet<Digest>,
}

/// A requirement that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum RequirementsError {
    /// Not text.
    #[error("`{0}` is not text in UTF-8 or UTF-16")]
    NotText(String),
    /// A line that asks for what is not done.
    #[error("`{file}`, line {line}, column {column}: `{text}`: {reason}")]
    Line {
        /// Which file.
        file: String,
        /// Which line, from 1 on.
        line: usize,
        /// Which of its letters, from 1 on.
        column: usize,
        /// What stands there.
        text: String,
        /// Why it is not taken.
        reason: String,
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
            RequirementsError::NotText(_) => Some("save it as UTF-8, or as UTF-16 with a mark".to_owned()),
            RequirementsError::Line { remedy, .. } => Some((*remedy).to_owned()),
        }
    }
}

const BUILD_WHEEL: &str =
    "build its wheel (`pip wheel`), put that into a folder, name the folder with `--wheels`, and require the package by its name";
const FREEZE: &str = "write the package with its version, as `pip list --format=freeze` does: `numpy==1.26.4`; where no index has it, build its wheel \
                      (`pip wheel`) and name the wheel's folder with `--wheels`";
const PIN: &str = "write the version that the hash is of: `numpy==1.26.4 --hash=sha256:…`";
const HASH_ALL: &str = "give every requirement its version and its hash (`uv pip compile --generate-hashes` writes them), or none";
const WRITE_HERE: &str = "write the lines of that file into this one";
const OWN_INDEX: &str =
    "remove the line: indexes are set for this machine, in pip.conf or uv.toml, or with PIP_INDEX_URL or UV_DEFAULT_INDEX";

/// Reads a file; `file` is its name for errors.
pub fn read(file: &str, bytes: &[u8]) -> Result<Vec<Requirement>, RequirementsError> {
    let text = decode(bytes).ok_or_else(|| RequirementsError::NotText(file.to_owned()))?;
    let refuse = |line: &LogicalLine, Wrong { at_bytes, reason, remedy }: Wrong| {
        let text: String = line.text.chars().take(120).collect();
        let (line, column) = line.place(at_bytes);
        RequirementsError::Line { file: file.to_owned(), line, column, text: without_secrets(&text), reason, remedy }
    };
    let (mut requirements, mut unhashed, mut wants_hashes) = (Vec::new(), None, false);
    for line in logical_lines(&text) {
        if let Some(option) = line.text.strip_prefix('-') {
            wants_hashes |= check_option(option).map_err(|refusal| refuse(&line, wrong(refusal)))?;
            continue;
        }
        let (project, Parts { hashes, is_pinned }) = check_requirement(&line.text).map_err(|wrong| refuse(&line, wrong))?;
        if !hashes.is_empty() && !is_pinned {
            return Err(refuse(&line, wrong(("a hash is of one version, and this requirement names none", PIN))));
        }
        wants_hashes |= !hashes.is_empty();
        unhashed = unhashed.or_else(|| hashes.is_empty().then(|| line.clone()));
        requirements.push(Requirement { line: line.line, project, text: line.text, hashes });
    }
    match unhashed.filter(|_| wants_hashes) {
        // As in pip ("Hash-checking Mode"): a file that proves some of what it installs proves nothing.
        Some(line) => Err(refuse(&line, wrong(("this requirement has no hash, and others have", HASH_ALL)))),
        None => Ok(requirements),
    }
}

/// The requirements as a file of their own.
pub fn to_text(requirements: &[Requirement]) -> String {
    requirements.iter().fold(String::new(), |mut out, requirement| {
        let _ = writeln!(out, "{}", requirement.text);
        out
    })
}

/// The SHA-256 that the wheel of each project may have, where requirements have hashes.
pub fn hashes(requirements: &[Requirement]) -> BTreeMap<String, BTreeSet<Digest>> {
    let mut hashes: BTreeMap<String, BTreeSet<Digest>> = BTreeMap::new();
    for requirement in requirements.iter().filter(|requirement| !requirement.hashes.is_empty()) {
        hashes.entry(requirement.project.clone()).or_default().extend(&requirement.hashes);
    }
    hashes
}

type Refusal = (&'static str, &'static str);

fn wrong((reason, remedy): Refusal) -> Wrong {
    Wrong { at_bytes: 0, reason: reason.to_owned(), remedy }
}

/// Whether an option asks for hashes, which is all that one can do here.
fn check_option(option: &str) -> Result<bool, Refusal> {
    let name = option.trim_start_matches('-').split(['=', ' ']).next().unwrap_or_default();
    match name {
        // Only wheels are taken in any case.
        "only-binary" | "prefer-binary" => Ok(false),
        "require-hashes" => Ok(true),
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

fn check_requirement(text: &str) -> Result<(String, Parts), Wrong> {
    const SOURCES: [&str; 4] = ["git+", "hg+", "svn+", "bzr+"];
    let name_end = text.find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))).unwrap_or(text.len());
    let (name, rest) = text.split_at(name_end);
    // Options may name addresses, and are refused as what they are.
    let requirement = text.split(" --").next().unwrap_or(text);
    if SOURCES.iter().any(|source| requirement.contains(source)) {
        return Err(wrong(("sources are not installed: no user code is run in a build", BUILD_WHEEL)));
    }
    if rest.trim_start().starts_with('@') {
        return Err(wrong(("a package is required by its name, not by an address", FREEZE)));
    }
    if requirement.contains("://") {
        return Err(wrong(("a package is required by its name, not by an address", BUILD_WHEEL)));
    }
    if text.starts_with(['.', '/', '~'])
        || text.contains('\\')
        || rest.starts_with('/')
        || name.ends_with(".whl")
        || name.ends_with(".gz")
        || name.ends_with(".zip")
    {
        return Err(wrong(("a file or a folder is not installed: a package is required by its name", BUILD_WHEEL)));
    }
    Ok((normalised(name), requirement_line::check(text, name_end)?))
}

/// An address in a message must not show the password in it.
fn without_secrets(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(begin), Some(end)) if begin < end => format!("{}…{}", &text[..begin + 3], &text[end..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_read_and_comments_are_not() {
        let text = "# what it needs\nnumpy>=1.20 ,<3  # not 3\n\n\tScikit_Learn[tests] == 1.3 ; python_version > '3.6'\nclick==8.1.7 \\\n    ; os_name == 'posix'\n--prefer-binary\nsix";
        let read = read("requirements.txt", text.as_bytes()).unwrap();
        let found: Vec<_> =
            read.iter().map(|requirement| (requirement.line, requirement.project.as_str(), requirement.text.as_str())).collect();
        let expected = [
            (2, "numpy", "numpy>=1.20 ,<3"),
            (4, "scikit-learn", "Scikit_Learn[tests] == 1.3 ; python_version > '3.6'"),
            (5, "click", "click==8.1.7 ; os_name == 'posix'"),
            (8, "six", "six"),
        ];
        assert_eq!(found, expected);
        assert!(matches!(super::read("r", b"\x80"), Err(RequirementsError::NotText(_))));
    }

    #[test]
    fn a_slip_is_told_by_its_line_and_column() {
        let hash = format!("--hash=sha256:{}", "a".repeat(64));
        for (text, said) in [
            (
                "numpy; python_versoin > \"3\"",
                "`r`, line 2, column 8: `numpy; python_versoin > \"3\"`: `python_versoin` is no variable of a marker",
            ),
            ("numpy \\\n   ==\n", "`r`, line 3, column 6: `numpy ==`: a version is missing here"),
            ("numpy [a\n", "`r`, line 2, column 9: `numpy [a`: a `,` or the `]` of the extras is expected here"),
        ] {
            assert_eq!(read("r", format!("six\n{text}").as_bytes()).unwrap_err().to_string(), said);
        }
        for (text, said) in [
            (format!("six\nnumpy==1 {hash}\n"), "`r`, line 1, column 1: `six`: this requirement has no hash, and others have"),
            (format!("numpy {hash}\n"), "a hash is of one version"),
            ("--require-hashes\nsix==1\n".to_owned(), "line 2, column 1: `six==1`: this requirement has no hash"),
        ] {
            let error = read("r", text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let read = read("r", format!("numpy==1 {hash}").as_bytes()).unwrap();
        assert_eq!(hashes(&read)["numpy"].len(), 1);
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
            ("six==1 --find-links https://host/", "only `--hash`"),
            ("--extra-index-url https://ann:se@secret@host/simple", "where packages come from"),
            ("two words", "not a requirement"),
            ("!", "not a requirement"),
        ] {
            let error = read("requirements.txt", format!("six\n{text}\n").as_bytes()).unwrap_err();
            let message = error.to_string();
            assert!(message.contains("line 2") && message.contains(reason) && error.remedy().is_some(), "{text}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }
}
