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
/// How uv begins where there is no answer.
const NO_SOLUTION: &str = "No solution found when resolving dependencies";
/// How pip does.
const NONE_FOUND: &str = "Could not find a version that satisfies the requirement ";

/// Reads what was printed.
pub fn read(printed: &str) -> Said {
    let text = plain(printed);
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

/// uv's explanation that a package has no wheel; what follows from that is of no use to a reader, but for who depends on it.
fn without_wheel(explained: &str) -> Option<Said> {
    let said = explained.trim_start_matches("Because ").split(", we can conclude").next()?;
    let ends = [" and you require ", " and only "];
    let said = ends.iter().fold(said, |said, end| said.split(end).next().unwrap_or(said));
    let (before, after) = said.split_once(" has no ").or_else(|| said.split_once(" have no "))?;
    if !after.contains("wheel") {
        return None;
    }
    let package = before.split(' ').next_back()?.trim_matches('`').to_owned();
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
    fn what_is_not_recognised_is_passed_on_without_a_password() {
        let printed = "error: Failed to fetch: `https://ann:secret@host/simple/six/`\n  cause: dns error\n";
        let Said::Other(said) = read(printed) else { panic!("it was to be passed on") };
        assert!(said.contains("dns error") && said.contains("@host/simple/six/") && !said.contains("secret"), "{said}");
    }
}
