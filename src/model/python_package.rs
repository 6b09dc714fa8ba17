//! The names of Python's packages and of wheels.
//!
//! A project has one name and many spellings (PEP 503); the name of a wheel says what it is and what it was made for (PEP 427, "File name convention").
//! Names come from strangers: from indexes, locks and folders.
//!
//! What must stay true: two spellings of one project are equal once they have been through [`normalised`]; a wheel's name is one component of a path.

/// The one spelling of a project's name (PEP 503): lower case, `-` for every run of `-`, `_` and `.`.
pub fn normalised(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for letter in name.chars() {
        if matches!(letter, '-' | '_' | '.') {
            if !out.ends_with('-') {
                out.push('-');
            }
        } else {
            out.push(letter.to_ascii_lowercase());
        }
    }
    out
}

/// Whether a text is a project's name (PEP 508, "Names").
pub fn is_name(text: &str) -> bool {
    let ends = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    ends(text.chars().next())
        && ends(text.chars().next_back())
        && text.len() <= 200
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))
}

/// What the name of a wheel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WheelName {
    /// The name itself.
    pub file_name: String,
    /// The project, normalised.
    pub project: String,
    /// Its version, as it stands there.
    pub version: String,
    /// Tells builds of one version apart: a number and what follows it.
    pub build: Option<(u64, String)>,
    tags: [Vec<String>; 3],
}

/// Not the name of a wheel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a wheel: expected `NAME-VERSION-PYTHON-ABI-PLATFORM.whl`")]
pub struct WheelNameError(String);

impl WheelName {
    /// Reads a file's name.
    pub fn parse(file_name: &str) -> Result<WheelName, WheelNameError> {
        let refuse = || WheelNameError(file_name.chars().take(200).collect::<String>().escape_debug().to_string());
        // The version may have `+`, `!` and, since it is a path's component in indexes, nothing else.
        let is_word =
            |part: &&str| !part.is_empty() && part.chars().all(|letter| letter.is_ascii_alphanumeric() || "._+!".contains(letter));
        let stem = file_name.strip_suffix(".whl").filter(|_| file_name.len() <= 255).ok_or_else(refuse)?;
        let parts: Vec<&str> = stem.split('-').collect();
        if !parts.iter().all(is_word) || !is_name(parts[0]) {
            return Err(refuse());
        }
        let (build, tags) = match parts.as_slice() {
            [_, _, tags @ ..] if tags.len() == 3 => (None, tags),
            [_, _, build, tags @ ..] if tags.len() == 3 => {
                let digits = build.bytes().take_while(u8::is_ascii_digit).count();
                let number = build[..digits].parse().map_err(|_| refuse())?;
                (Some((number, build[digits..].to_owned())), tags)
            }
            _ => return Err(refuse()),
        };
        let split = |part: &str| part.split('.').map(str::to_owned).collect();
        Ok(WheelName {
            file_name: file_name.to_owned(),
            project: normalised(parts[0]),
            version: parts[1].to_owned(),
            build,
            tags: [split(tags[0]), split(tags[1]), split(tags[2])],
        })
    }

    /// Every `python-abi-platform` that it was made for: each of the three may be a set (PEP 425, "Compressed Tag Sets").
    pub fn tags(&self) -> impl Iterator<Item = String> {
        let [pythons, abis, platforms] = &self.tags;
        let pairs = pythons.iter().flat_map(move |python| abis.iter().map(move |abi| (python, abi)));
        pairs.flat_map(move |(python, abi)| platforms.iter().map(move |platform| format!("{python}-{abi}-{platform}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_one_name() {
        for spelling in ["Scikit_Learn", "scikit-learn", "scikit.learn", "SCIKIT--_learn"] {
            assert_eq!(normalised(spelling), "scikit-learn");
        }
        for text in ["numpy", "a", "A1._-b"] {
            assert!(is_name(text), "{text}");
        }
        for text in ["", "-a", "a-", "a b", "a/b", "ä"] {
            assert!(!is_name(text), "{text}");
        }
    }

    #[test]
    fn the_name_of_a_wheel_is_read() {
        let wheel = WheelName::parse("Scikit_learn-1.9.1+local.1-2abc-cp311.cp312-abi3.none-manylinux_2_27_x86_64.whl").unwrap();
        assert_eq!(
            (wheel.project.as_str(), wheel.version.as_str(), wheel.build.clone()),
            ("scikit-learn", "1.9.1+local.1", Some((2, "abc".to_owned())))
        );
        assert_eq!(wheel.tags().count(), 4);
        for name in [
            "x.whl",
            "x-1.tar.gz",
            "x-1-py3-none.whl",
            "../x-1-py3-none-any.whl",
            "x-1-b-py3-none-any.whl",
            "x-1-1-1-py3-none-any.whl",
            "x--py3-none-any.whl",
        ] {
            assert!(WheelName::parse(name).is_err(), "{name}");
        }
    }
}
