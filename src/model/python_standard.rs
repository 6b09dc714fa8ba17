//! Which Python has which module in its standard library.
//!
//! The list (`base-images/standard-library/modules.txt`) was asked of the interpreters themselves, and is compiled in. A module that the newest of them
//! has is taken to be in every later one.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::python_code;

const LIST: &str = include_str!("../../base-images/standard-library/modules.txt");

/// A Python version: major and minor.
pub type Version = (u8, u8);

struct Library {
    newest: Version,
    /// The first and the last version that has a module.
    modules: BTreeMap<&'static str, (Version, Version)>,
}

static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let mut library = Library { newest: (0, 0), modules: BTreeMap::new() };
    for line in LIST.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let versions: Vec<Version> = words.filter_map(python_code::python_version).collect();
        match versions[..] {
            [first, last] if name != "versions" => drop(library.modules.insert(name, (first, last))),
            _ => library.newest = versions.last().copied().unwrap_or_default(),
        }
    }
    library
});

/// What the standard library of a Python has to do with a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has it.
    Has,
    /// It had it until this version.
    Until(Version),
    /// It has it from this version on.
    Since(Version),
    /// No standard library ever had it.
    Never,
}

/// What the standard library of `python` has to do with `module`.
pub fn standing(module: &str, python: Version) -> Standing {
    let Some((first, last)) = LIBRARY.modules.get(module).copied() else {
        // Names that only the interpreter's own parts import are not in the list.
        return if module.starts_with('_') { Standing::Has } else { Standing::Never };
    };
    match () {
        () if python < first => Standing::Since(first),
        () if python > last && last < LIBRARY.newest => Standing::Until(last),
        () => Standing::Has,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_and_go() {
        for (module, python, expected) in [
            ("os", (3, 11), Standing::Has),
            ("os", (3, 99), Standing::Has),
            ("imp", (3, 11), Standing::Has),
            ("imp", (3, 12), Standing::Until((3, 11))),
            ("urllib2", (3, 11), Standing::Until((2, 7))),
            ("tomllib", (3, 10), Standing::Since((3, 11))),
            ("numpy", (3, 11), Standing::Never),
            ("_ctypes", (3, 11), Standing::Has),
        ] {
            assert_eq!(standing(module, python), expected, "{module} {python:?}");
        }
    }
}
