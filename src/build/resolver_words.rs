//! What a resolver says when it finds nothing, as one sentence, and what it means.
//!
//! uv explains over several lines, with a drawing; pip prints `ERROR:` lines, and leaves what happened on the way to its log. Neither has another form for programs to
//! read. What is not recognised is passed on as it is: a sentence too much rather than a cause too little.
//!
//! What must stay true: that a package has no wheel, or is not there, is said only where the index answered (`index_trouble.rs`).

use super::index_trouble::{self, PipLog, Trouble};
use crate::model::python_package::normalised;

/// What a failure means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A package is there, and has no wheel that fits.
    NoWheel {
        /// Which, with what was required of it.
        package: String,
        /// The sentence.
        said: String,
    },
    /// There is no such package.
    NoPackage {
        /// Its name.
        package: String,
        /// Who was asked.
        said: &'static str,
    },
    /// What is required does not go together, or is not there.
    Unmet(String),
    /// An index did not answer as one.
    Index(Trouble),
    /// What there is has another hash than is required, or none.
    Hash(String),
    /// Something else: a network, a program, a setting.
    Other(String),
}

/// The longest sentence.
const SAID_CHARS_MAX: usize = 600;
/// The most extras that are warned of.
const EXTRAS_MAX: usize = 20;
/// How uv begins where there is no answer.
const NO_SOLUTION: &str = "No solution found when resolving dependencies";
/// How pip does.
const NONE_FOUND: &str = "Could not find a version that satisfies the requirement ";

/// How a resolver's own fault is told: what it stumbled over is not in its words.
pub const STUMBLED: &str = "it stumbled over something: ";
/// No index has it.
const NO_INDEX_HAS_IT: &str = "no index that was asked has one of this name";
/// Nor has a folder.
const NO_FOLDER_HAS_IT: &str = "it is in no folder of wheels, and no index was asked";

/// Reads what was printed, and what pip's log says of indexes; it is empty for uv.
pub fn read(printed: &str, log: &PipLog) -> Said {
    let printed = &without_warnings(printed);
    let text = plain(printed);
    if let Some(trouble) = index_trouble::of_uv(&text) {
        return Said::Index(trouble);
    }
    if let Some(said) = without_package(&text) {
        return said;
    }
    if let Some(explained) = text.find("Because ").map(|at| &text[at..]) {
        return without_wheel(explained).unwrap_or_else(|| Said::Unmet(sentence(explained)));
    }
    // What contradicts itself needs no explanation.
    if let Some(at) = text.find(NO_SOLUTION) {
        return Said::Unmet(sentence(text[at + NO_SOLUTION.len()..].trim_start_matches([':', ' '])));
    }
    if let Some(at) = text.find(NONE_FOUND) {
        let rest = &text[at + NONE_FOUND.len()..];
        let (package, versions) = rest.split_once(" (from versions: ").unwrap_or((rest, ""));
        // pip names who required it in the same place.
        let package = package.split(" (from ").next().unwrap_or(package).split(" ERROR:").next().unwrap_or(package).trim().to_owned();
        let versions = versions.split(')').next().unwrap_or_default();
        let name_end = package.find(|letter: char| !(letter.is_ascii_alphanumeric() || "-_.".contains(letter))).unwrap_or(package.len());
        let project = normalised(&package[..name_end]);
        if let Some(trouble) = log.trouble(&project) {
            return Said::Index(trouble);
        }
        if log.is_unknown(&project) && matches!(versions, "" | "none") {
            return Said::NoPackage { package: project, said: NO_INDEX_HAS_IT };
        }
        let said = if matches!(versions, "" | "none") {
            "pip found no version of it that has one".to_owned()
        } else {
            format!("the versions that have one are {versions}")
        };
        return Said::NoWheel { package, said: shortened(&said) };
    }
    if text.contains("ResolutionImpossible") || text.contains("conflicting dependencies") {
        return Said::Unmet(shortened(&text.replace("ERROR: ", "")));
    }
    if text.contains("DO NOT MATCH THE HASHES") {
        return Said::Hash(mismatch(&text));
    }
    if let Some(at) = text.find("In --require-hashes mode").or_else(|| text.find("Hashes are required in --require-hashes mode")) {
        return Said::Hash(shortened(&text[at..]));
    }
    if let Some(trouble) = log.broken(&text) {
        return Said::Index(trouble);
    }
    // Of a program that stumbled the last line tells most.
    let last = printed.trim_end().lines().next_back().filter(|_| printed.contains("Traceback (most recent call last)"));
    Said::Other(match last {
        Some(last) => format!("{STUMBLED}{}", shortened(&plain(last))),
        None => shortened(text.trim_start_matches("error: ").trim_start_matches("ERROR: ")),
    })
}

/// What uv says on the way is no cause.
fn without_warnings(printed: &str) -> String {
    printed.lines().filter(|line| !line.starts_with("warning: ")).fold(String::new(), |kept, line| kept + line + "\n")
}

/// The extras that are required and that no package has, in uv's words.
pub fn extras(printed: &str) -> Vec<String> {
    let warnings = printed.lines().filter_map(|line| line.strip_prefix("warning: "));
    warnings.filter(|warning| warning.contains("does not have an extra named")).take(EXTRAS_MAX).map(shortened).collect()
}

/// uv's words for a name that nobody has.
fn without_package(text: &str) -> Option<Said> {
    let known = [
        (" was not found in the package registry", NO_INDEX_HAS_IT),
        (" was not found in the provided package locations", NO_FOLDER_HAS_IT),
        (" was not found in the cache", NO_FOLDER_HAS_IT),
    ];
    let (before, said) = known.iter().find_map(|(words, said)| Some((text.split_once(words)?.0, *said)))?;
    let package = before.rsplit([' ', '`']).next()?.split(['{', '[']).next()?.to_owned();
    Some(Said::NoPackage { package, said })
}

/// What pip wanted and what it got: `PACKAGE from PLACE: Expected sha256 A Got B`.
fn mismatch(text: &str) -> String {
    let after = |word: &str| text.split_once(word)?.1.split_whitespace().next();
    let package = text.find(" from ").and_then(|_| text.split(": Expected ").next()?.rsplit_once(" from ")?.0.split(' ').next_back());
    match (package, after("Expected sha256 "), after("Got ")) {
        (Some(package), Some(expected), Some(got)) => format!("`{package}` must be sha256:{expected}, and what there is is sha256:{got}"),
        _ => shortened(text.trim_start_matches("ERROR: ")),
    }
}

/// One line, without the drawing and without passwords.
fn plain(printed: &str) -> String {
    let words = printed
        .split_whitespace()
        .map(|word| word.trim_matches(|letter| "×╰─▶│├┬".contains(letter)))
        .filter(|word| !word.is_empty() && *word != "cause:");
    words.map(without_secrets).collect::<Vec<_>>().join(" ")
}

fn without_secrets(word: &str) -> String {
    match (word.find("://"), word.rfind('@')) {
        (Some(begin), Some(end)) if begin < end => format!("{}…{}", &word[..begin + 3], &word[end..]),
        _ => word.to_owned(),
    }
}

/// uv's explanation that a package has no wheel; what follows from that is of no use to a reader, but for who depends on it.
fn without_wheel(explained: &str) -> Option<Said> {
    let said = explained.trim_start_matches("Because ").split(", we can conclude").next()?;
    let ends = [" and you require ", " and only "];
    let said = ends.iter().fold(said, |said, end| said.split(end).next().unwrap_or(said));
    if let Some((_, package)) = said.split_once("there are no versions of ") {
        let package = package.split([' ', '{']).next()?.to_owned();
        return Some(Said::NoWheel { package, said: "the index has no file of it".to_owned() });
    }
    let (before, after) = said.split_once(" has no ").or_else(|| said.split_once(" have no "))?;
    if !after.contains("wheel") {
        return None;
    }
    let package = before.split(' ').next_back()?.trim_matches('`').split('{').next()?.to_owned();
    let said = match after.strip_prefix("usable wheels") {
        Some(rest) => format!("none of its files is one{rest}"),
        None => said.to_owned(),
    };
    Some(Said::NoWheel { package, said: shortened(&said) })
}

/// uv's explanation without what follows it, and without its conclusion, which is always the same.
fn sentence(text: &str) -> String {
    let text = text.split(" hint: ").next().unwrap_or(text);
    let text = text.split(", we can conclude that your requirements are unsatisfiable").next().unwrap_or(text);
    shortened(text.trim_start_matches("Because ").trim_end_matches('.'))
}

fn shortened(text: &str) -> String {
    let text = text.trim();
    let mut short: String = text.chars().take(SAID_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(printed: &str) -> Said {
        super::read(printed, &PipLog::default())
    }

    #[test]
    fn the_explanation_of_uv_is_one_sentence() {
        let printed = "error: No solution found when resolving dependencies\n  cause: Because tensorflow==1.15.0 has no wheels with a matching Python ABI tag (e.g., `cp311`) and you require tensorflow==1.15.0, we can conclude that your requirements are unsatisfiable.\n\nhint: You require CPython 3.11\n";
        let expected = Said::NoWheel {
            package: "tensorflow==1.15.0".to_owned(),
            said: "tensorflow==1.15.0 has no wheels with a matching Python ABI tag (e.g., `cp311`)".to_owned(),
        };
        assert_eq!(read(printed), expected);
        for (printed, package, said) in [
            ("Because all versions of b have no usable wheels and you require b, we can conclude that …", "b", "none of its files is one"),
            (
                "Because all versions of b have no usable wheels and all versions of a depend on b, we can conclude that all versions of a cannot be used. And because you require a, we can conclude …",
                "b",
                "none of its files is one and all versions of a depend on b",
            ),
            (
                "Because b==1.0 has no wheels with a matching Python ABI tag (e.g., `cp311`) and only b==1.0 is available, we can conclude …",
                "b==1.0",
                "b==1.0 has no wheels with a matching Python ABI tag (e.g., `cp311`)",
            ),
        ] {
            assert_eq!(read(printed), Said::NoWheel { package: package.to_owned(), said: said.to_owned() });
        }
        let old = "  × No solution found when resolving dependencies:\n  ╰─▶ Because only x==1\n      is available and you require x>2, we can conclude that your requirements are unsatisfiable.\n";
        assert_eq!(read(old), Said::Unmet("only x==1 is available and you require x>2".to_owned()));
        let short = "error: No solution found when resolving dependencies\n  cause: you require x<1 and x>=1, which are incompatible\n";
        assert_eq!(read(short), Said::Unmet("you require x<1 and x>=1, which are incompatible".to_owned()));
    }

    #[test]
    fn the_errors_of_pip_are_one_sentence() {
        let printed = "ERROR: Could not find a version that satisfies the requirement pyspark==3.3.0 (from versions: none)\nERROR: No matching distribution found for pyspark==3.3.0\n";
        let expected = Said::NoWheel { package: "pyspark==3.3.0".to_owned(), said: "pip found no version of it that has one".to_owned() };
        assert_eq!(read(printed), expected);
        let printed = "ERROR: Could not find a version that satisfies the requirement six>9 (from versions: 1.16.0, 1.17.0)\n";
        assert!(matches!(read(printed), Said::NoWheel { said, .. } if said == "the versions that have one are 1.16.0, 1.17.0"));
    }

    #[test]
    fn a_name_that_nobody_has_is_told_as_that() {
        let printed = "error: No solution found when resolving dependencies\n  cause: Because nosuch was not found in the package registry and you require nosuch{python_full_version < '4'}, we can conclude that your requirements are unsatisfiable.\n";
        assert_eq!(read(printed), Said::NoPackage { package: "nosuch".to_owned(), said: NO_INDEX_HAS_IT });
        let printed = "ERROR: Could not find a version that satisfies the requirement NoSuch>1 (from versions: none)\n";
        let mut log = PipLog::default();
        log.line("Could not fetch URL https://host/simple/nosuch/: 404 Client Error: Not Found for url: https://host/ - skipping");
        assert_eq!(super::read(printed, &log), Said::NoPackage { package: "nosuch".to_owned(), said: NO_INDEX_HAS_IT });
        let mut log = PipLog::default();
        log.line("Could not fetch URL https://host/simple/nosuch/: connection error: [Errno 111] Connection refused - skipping");
        assert!(matches!(super::read(printed, &log), Said::Index(Trouble { host, .. }) if host == "host"));
        let empty = "error: No solution\n  cause: Because there are no versions of six{os_name == 'posix'} and you require six, we can conclude that …\n";
        assert_eq!(read(empty), Said::NoWheel { package: "six".to_owned(), said: "the index has no file of it".to_owned() });
    }

    #[test]
    fn hashes_that_are_others_are_told_with_both() {
        let printed = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package versions, please update the hashes. Otherwise, examine the package contents carefully; someone may have tampered with them.\n    six==1.17.0 from file:///w/six-1.17.0-py2.py3-none-any.whl (from -r requirements.in (line 1)):\n        Expected sha256 00ab\n             Got        11cd\n";
        assert_eq!(read(printed), Said::Hash("`six==1.17.0` must be sha256:00ab, and what there is is sha256:11cd".to_owned()));
        let printed = "ERROR: In --require-hashes mode, all requirements must have their versions pinned with ==. These do not:\n    b from https://host/b.whl\n";
        assert!(matches!(read(printed), Said::Hash(said) if said.contains("pinned")));
        let crashed = "ERROR: Exception:\nTraceback (most recent call last):\n  File \"x.py\", line 1\nOSError: it is a directory\n";
        assert_eq!(read(crashed), Said::Other(format!("{STUMBLED}OSError: it is a directory")));
    }

    #[test]
    fn what_is_not_recognised_is_passed_on_without_a_password() {
        let printed = "error: Invalid settings of `https://ann:secret@host/simple/six/`\n  cause: too odd\n";
        let Said::Other(said) = read(printed) else { panic!("it was to be passed on") };
        assert!(said.contains("too odd") && said.contains("@host/simple/six/") && !said.contains("secret"), "{said}");
    }
}
