//! The form of versions and of what compares them (PEP 440).
//!
//! Which of two versions is the newer is a resolver's to know. Here it is told whether a text is a version at all, and whether an operator takes it: a slip is
//! refused by its place in the file, before anybody is asked.
//!
//! What must stay true: what pip and uv read is accepted, the permissive spellings of the PEP ("Normalization") among it.

/// The operators, the longer before those that they begin with.
pub(super) const OPERATORS: [&str; 8] = ["===", "~=", "==", "!=", "<=", ">=", "<", ">"];

/// What the form of a version tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    /// How many numbers the release has.
    release: usize,
    /// Whether there is more than the release.
    has_suffix: bool,
    /// Whether it ends in a local label.
    has_local: bool,
}

/// Whether a text is a version.
pub(super) fn is_version(text: &str) -> bool {
    form(text).is_some()
}

/// What is wrong with a version behind an operator; `None`: nothing.
pub(super) fn problem(operator: &str, version: &str) -> Option<&'static str> {
    if operator == "===" {
        return version.is_empty().then_some("a version is missing here");
    }
    if version.is_empty() {
        return Some("a version is missing here");
    }
    let (stem, is_wild) = version.strip_suffix(".*").map_or((version, false), |stem| (stem, true));
    let Some(form) = form(stem) else {
        return Some(if stem.contains('*') { "`.*` stands at the end of a version, and once" } else { "this is no version" });
    };
    match operator {
        "==" | "!=" if is_wild && (form.has_suffix || form.has_local) => Some("`.*` stands behind numbers and dots alone"),
        "==" | "!=" => None,
        _ if is_wild => Some("`.*` goes with `==` and `!=` alone"),
        _ if form.has_local => Some("a local label (`+…`) goes with `==` and `!=` alone"),
        "~=" if form.release < 2 => Some("`~=` wants two numbers at least: `~=1.4`"),
        _ => None,
    }
}

/// Reads a version from its beginning to its end.
fn form(text: &str) -> Option<Form> {
    let lower = text.to_ascii_lowercase();
    let mut rest = Rest(lower.strip_prefix('v').unwrap_or(&lower));
    if let Some((epoch, after)) = rest.0.split_once('!') {
        is_number(epoch).then_some(())?;
        rest = Rest(after);
    }
    rest.number()?;
    let mut release = 1;
    while rest.0.strip_prefix('.').is_some_and(|after| after.starts_with(|letter: char| letter.is_ascii_digit())) {
        rest.0 = &rest.0[1..];
        rest.number()?;
        release += 1;
    }
    let before = rest.0;
    rest.label(&["alpha", "a", "beta", "b", "preview", "pre", "rc", "c"]);
    // `1.0-1` is a post-release, as old tools wrote it.
    let implicit = rest.0.strip_prefix('-').filter(|after| after.starts_with(|letter: char| letter.is_ascii_digit()));
    match implicit {
        Some(after) => {
            rest.0 = after;
            rest.number()?;
        }
        None => rest.label(&["post", "rev", "r"]),
    }
    rest.label(&["dev"]);
    let has_suffix = rest.0.len() < before.len();
    let Some(local) = rest.0.strip_prefix('+') else {
        return rest.0.is_empty().then_some(Form { release, has_suffix, has_local: false });
    };
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    local.split(['.', '-', '_']).all(is_word).then_some(Form { release, has_suffix, has_local: true })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What of a version is still to be read.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn number(&mut self) -> Option<()> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        self.0 = &self.0[digits..];
        (digits > 0).then_some(())
    }

    /// One of some words with a number behind it or none; separators may stand before either.
    fn label(&mut self, words: &[&str]) {
        let separated = |text: &'_ str| text.strip_prefix(['.', '-', '_']).map_or(text.len(), str::len);
        let text = &self.0[self.0.len() - separated(self.0)..];
        let Some(after) = words.iter().find_map(|word| text.strip_prefix(word)) else { return };
        let number = &after[after.len() - separated(after)..];
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        let left = if digits > 0 { &number[digits..] } else { after };
        self.0 = &self.0[self.0.len() - left.len()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_pep_calls_a_version_is_one_and_nothing_else() {
        for text in [
            "1",
            "1.17.0",
            "v1.0",
            "1!1.0",
            "1.0a1",
            "1.0.RC1",
            "1.0-rc.1",
            "1.0rc",
            "1.0.post1.dev2+a.b",
            "1.0-1",
            "1.0.dev",
            "2.0_beta_3",
            "1.0-r4",
            "1.0-preview",
            "2024.1.1",
            "1.0+ubuntu-1",
            "1.0.post",
        ] {
            assert!(is_version(text), "{text}");
        }
        for text in
            ["", "abc", "1.", ".1", "1..0", "1.0final", "2004d", "1.0+", "1.0+a..b", "!1", "a!1", "1.0 1", "1.0rc1rc2", "1.0-", "1.*", "ä"]
        {
            assert!(!is_version(text), "{text}");
        }
    }

    #[test]
    fn an_operator_takes_what_it_can_compare() {
        for (operator, version) in
            [("==", "1.*"), ("!=", "1!2.3.*"), ("==", "1.0+local"), ("~=", "1.4"), ("===", "anything"), (">=", "1.0.dev")]
        {
            assert_eq!(problem(operator, version), None, "{operator}{version}");
        }
        for (operator, version, said) in [
            ("==", "", "is missing"),
            ("===", "", "is missing"),
            ("==", "abc", "no version"),
            (">=", "1.*", "`.*` goes with"),
            ("==", "1.*.2", "at the end"),
            ("==", "1.0rc1.*", "numbers and dots"),
            ("==", "1.*.*", "at the end"),
            (">", "1.0+local", "a local label"),
            ("~=", "1", "two numbers"),
        ] {
            assert!(problem(operator, version).unwrap().contains(said), "{operator}{version}");
        }
    }
}
