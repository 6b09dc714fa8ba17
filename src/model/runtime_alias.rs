//! The names of the ancestor's runtime images, and which of our runtimes stands in their place.
//!
//! From 2018 to 2021 models named images of Docker Hub: `hydrosphere/serving-runtime-python:3.6-latest` in the seed era, `…-python-3.7:3.0.3` at the end,
//! with or without a tag or a digest. They are mapped by the repository's name; the version in the name or in the tag picks ours, where we have it. Where the name has
//! the version, the tag is a release of the ancestor's, and from 2.3 on its runtimes of Python gave functions NumPy arrays: an entry may be for a release and what
//! came after it. The table is part of the runtime list (`aliases` in `base-images/runtimes.yaml`); the settings put their own before it.
//!
//! What must stay true: a reference with a registry's host means that image and no other; and a version that differs is said.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One name of another time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    /// The repository without host and tag; with `-*` at its end also what is called so with a version behind it.
    pub image: String,
    /// Only for this release of the ancestor's, and later ones: `2.3`. A tag that is no release (`latest`, `dev`) is none of them.
    #[serde(default)]
    pub from_release: Option<String>,
    /// The runtime's name in the list, or `scratch`.
    pub runtime: String,
}

/// What a name of another time comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meant {
    /// The runtime's name.
    pub runtime: String,
    /// The version in the name or the tag: `3.6`, `1.13.1`.
    pub version: Option<String>,
    /// The release that decided: `2.3.2` by an entry for 2.3 and later.
    pub release: Option<String>,
}

/// Looks a name up: first among the settings' own (`own`, whole names or names without a tag), then in the table.
pub fn look_up(asked: &str, own: &BTreeMap<String, String>, table: &[Alias]) -> Option<Meant> {
    let (name, tag) = parts(asked)?;
    if let Some(runtime) = own.get(asked).or_else(|| own.get(name)) {
        return Some(Meant { runtime: runtime.clone(), version: None, release: None });
    }
    table.iter().find_map(|alias| {
        let version = match alias.image.strip_suffix("-*") {
            Some(image) if name != image => Some(name.strip_prefix(image)?.strip_prefix('-').filter(|version| is_version(version))?),
            Some(_) => None,
            None => (name == alias.image).then_some(None)?,
        };
        let of_tag = tag.map(|tag| tag.split('-').next().unwrap_or(tag)).filter(|tag| is_version(tag));
        let release = match &alias.from_release {
            // Where the name has the version, the tag is the ancestor's own release.
            Some(first) => Some(of_tag.filter(|release| version.is_some() && numbers(release) >= numbers(first))?),
            None => None,
        };
        let (version, release) = (version.or(of_tag).map(str::to_owned), release.map(str::to_owned));
        Some(Meant { runtime: alias.runtime.clone(), version, release })
    })
}

fn is_version(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// A version's numbers, for comparing; one that is too long for a number is newer than all.
fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map(|number| number.parse().unwrap_or(u64::MAX)).collect()
}

/// The repository and the tag of a reference that names no registry: its first part is no host.
fn parts(asked: &str) -> Option<(&str, Option<&str>)> {
    let tagged = asked.split('@').next().unwrap_or(asked);
    let (name, tag) = match tagged.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (tagged, None),
    };
    let is_host = name.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost");
    (!is_host && !name.contains(':')).then_some((name, tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::runtime::RuntimeList;

    #[test]
    fn every_name_of_the_ancestor_is_known() {
        let list = RuntimeList::compiled_in();
        for (asked, runtime, version) in [
            ("hydrosphere/serving-runtime-python:3.4-latest", "serving-runtime-python", Some("3.4")),
            ("hydrosphere/serving-runtime-python:3.6-latest", "serving-runtime-python", Some("3.6")),
            ("hydrosphere/serving-runtime-python", "serving-runtime-python", None),
            ("hydrosphere/serving-runtime-python:latest", "serving-runtime-python", None),
            ("hydrosphere/serving-runtime-python-3.6:2.1.0", "serving-runtime-python", Some("3.6")),
            ("hydrosphere/serving-runtime-python-3.6:2.2.1", "serving-runtime-python", Some("3.6")),
            ("hydrosphere/serving-runtime-python-3.6:2.3", "serving-runtime-python-numpy", Some("3.6")),
            ("hydrosphere/serving-runtime-python-3.6:2.3.2", "serving-runtime-python-numpy", Some("3.6")),
            ("hydrosphere/serving-runtime-python-3.7:2.10.0-rc1", "serving-runtime-python-numpy", Some("3.7")),
            ("hydrosphere/serving-runtime-python-3.7:3.0.3", "serving-runtime-python-numpy", Some("3.7")),
            ("serving-runtime-python-3.8:3.0.3@sha256:0000", "serving-runtime-python-numpy", Some("3.8")),
            ("hydrosphere/serving-runtime-python-3.7:latest", "serving-runtime-python", Some("3.7")),
            ("hydrosphere/serving-runtime-python-3.7", "serving-runtime-python", Some("3.7")),
            ("hydrosphere/serving-runtime-python-3.8:dev@sha256:0000", "serving-runtime-python", Some("3.8")),
            ("hydrosphere/serving-runtime-python-3.8@sha256:0000", "serving-runtime-python", Some("3.8")),
            ("serving-runtime-python:3.5-latest", "serving-runtime-python", Some("3.5")),
            ("hydrosphere/serving-runtime-tensorflow:1.7.0-latest", "serving-runtime-tensorflow", Some("1.7.0")),
            ("hydrosphere/serving-runtime-tensorflow-1.13.1:2.3.0", "serving-runtime-tensorflow", Some("1.13.1")),
            ("hydrosphere/serving-runtime-dummy:latest", "scratch", None),
        ] {
            let meant = look_up(asked, &BTreeMap::new(), &list.aliases).unwrap_or_else(|| panic!("{asked}"));
            assert_eq!((meant.runtime.as_str(), meant.version.as_deref()), (runtime, version), "{asked}");
            assert_eq!(meant.release.is_some(), runtime.ends_with("-numpy"), "{asked}");
        }
    }

    #[test]
    fn an_exact_reference_and_a_strangers_name_are_not_mapped() {
        let list = RuntimeList::compiled_in();
        for asked in [
            "docker.io/hydrosphere/serving-runtime-python:3.6-latest",
            "localhost/hydrosphere/serving-runtime-python",
            "127.0.0.1:5000/serving-runtime-python:3.6",
            "hydrosphere/serving-runtime-spark:2.1-latest",
            "hydrosphere/serving-runtime-python-gpu:1",
            "acme/serving-runtime-python:3.6",
            "oci:dir:serving-runtime-python:3.6",
        ] {
            assert_eq!(look_up(asked, &BTreeMap::new(), &list.aliases), None, "{asked}");
        }
        let own: BTreeMap<String, String> = [("acme/old".to_owned(), "serving-runtime-python".to_owned())].into();
        assert_eq!(look_up("acme/old:7", &own, &[]).unwrap().runtime, "serving-runtime-python");
        assert_eq!(look_up("acme/older:7", &own, &[]), None);
    }
}
