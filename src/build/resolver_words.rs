//! What a resolver says when it finds nothing, as one sentence, and what it means.
//!
//! uv explains over several lines, with a drawing; pip prints `ERROR:` lines. Neither has another form for programs to read. What is not recognised is passed
//! on as it is: a sentence too much rather than a cause too little.

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
    /// What is required does not go together, or is not there.
    Unmet(String),
    /// Something else: a network, a program, a setting.
    Other(String),
}

/// The longest sentence.
const SAID_CHARS_MAX: usize = 600;

/// Reads what was printed.
pub fn read(printed: &str) -> Said {
    let text = plain(printed);
    if let Some(said) = text.find("Because ").map(|at| sentence(&text[at..])) {
        return match said.split_once(" has no ") {
            Some((before, after)) if after.contains("wheel") => Said::NoWheel { package: last_package(before), said },
            _ if said.contains("no wheels") || said.contains("usable wheel") => Said::NoWheel { package: last_package(&said), said },
            _ => Said::Unmet(said),
        };
    }
    const NONE_FOUND: &str = "Could not find a version that satisfies the requirement ";
    if let Some(at) = text.find(NONE_FOUND) {
        let rest = &text[at + NONE_FOUND.len()..];
        let (package, versions) = rest.split_once(" (from versions: ").unwrap_or((rest, ""));
        // pip names who required it in the same place.
        let package = package.split(" (from ").next().unwrap_or(package).split(" ERROR:").next().unwrap_or(package).trim().to_owned();
        let versions = versions.split(')').next().unwrap_or_default();
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
    Said::Other(shortened(text.trim_start_matches("error: ").trim_start_matches("ERROR: ")))
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

/// uv's explanation without what follows it, and without its conclusion, which is always the same.
fn sentence(text: &str) -> String {
    let text = text.split(" hint: ").next().unwrap_or(text);
    let text = text.split(", we can conclude that your requirements are unsatisfiable").next().unwrap_or(text);
    let text = text.trim_start_matches("Because ").trim_end_matches('.');
    shortened(text.split(" and you require ").next().filter(|before| before.contains("wheel")).unwrap_or(text))
}

fn last_package(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words
        .iter()
        .rev()
        .find(|word| word.chars().any(|letter| letter.is_ascii_alphanumeric()))
        .map(|word| word.trim_matches('`').to_owned())
        .unwrap_or_default()
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

    #[test]
    fn the_explanation_of_uv_is_one_sentence() {
        let printed = "error: No solution found when resolving dependencies\n  cause: Because tensorflow==1.15.0 has no wheels with a matching Python ABI tag (e.g., `cp311`) and you require tensorflow==1.15.0, we can conclude that your requirements are unsatisfiable.\n\nhint: You require CPython 3.11\n";
        let expected = Said::NoWheel {
            package: "tensorflow==1.15.0".to_owned(),
            said: "tensorflow==1.15.0 has no wheels with a matching Python ABI tag (e.g., `cp311`)".to_owned(),
        };
        assert_eq!(read(printed), expected);
        let old = "  × No solution found when resolving dependencies:\n  ╰─▶ Because only x==1\n      is available and you require x>2, we can conclude that your requirements are unsatisfiable.\n";
        assert_eq!(read(old), Said::Unmet("only x==1 is available and you require x>2".to_owned()));
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
    fn what_is_not_recognised_is_passed_on_without_a_password() {
        let printed = "error: Failed to fetch: `https://ann:secret@host/simple/six/`\n  cause: dns error\n";
        let Said::Other(said) = read(printed) else { panic!("it was to be passed on") };
        assert!(said.contains("dns error") && said.contains("@host/simple/six/") && !said.contains("secret"), "{said}");
    }
}
