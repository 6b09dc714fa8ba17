//! Where an image is or shall go, as `--to`, `--runtime` and the arguments of `hs` write it.
//!
//! A registry's reference, or a local form with its scheme: `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:REF]`: the words of
//! skopeo, which users know. Only words: whether a folder is there is asked by whoever opens it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::reference::{Reference, ReferenceError};

/// A place for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A repository of a registry.
    Registry(Reference),
    /// An OCI image layout folder.
    Layout {
        /// The folder.
        folder: PathBuf,
        /// The name in its index.
        tag: Option<String>,
    },
    /// The same as a tar file.
    OciArchive {
        /// The file.
        file: PathBuf,
        /// The name in its index.
        tag: Option<String>,
    },
    /// What `docker load` takes.
    DockerArchive {
        /// The file.
        file: PathBuf,
        /// `name:tag` for the loaded image.
        reference: Option<Reference>,
    },
}

impl FromStr for Location {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Location, ReferenceError> {
        if let Some(rest) = text.strip_prefix("oci:") {
            let (folder, tag) = path_and_tag(text, rest)?;
            return Ok(Location::Layout { folder, tag });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (file, tag) = path_and_tag(text, rest)?;
            return Ok(Location::OciArchive { file, tag });
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            if rest.is_empty() || rest.starts_with(':') {
                return Err(ReferenceError::new(text, "it names no file"));
            }
            let (file, reference) = rest.split_once(':').map_or((rest, None), |(file, reference)| (file, Some(reference)));
            return Ok(Location::DockerArchive { file: file.into(), reference: reference.map(str::parse).transpose()? });
        }
        // skopeo's word for what is the plain form here.
        text.strip_prefix("docker://").unwrap_or(text).parse().map(Location::Registry)
    }
}

/// As skopeo splits them: the path ends at the first colon, and the name in the index may have more of them (`name:tag`).
fn path_and_tag(text: &str, rest: &str) -> Result<(PathBuf, Option<String>), ReferenceError> {
    let (path, tag) = rest.split_once(':').unwrap_or((rest, ""));
    if path.is_empty() {
        return Err(ReferenceError::new(text, "it names no path"));
    }
    // A slash after a colon is nearly always a path with a colon in it, which this form cannot say.
    let word = |c: char| c.is_ascii_alphanumeric() || "-._:@+".contains(c);
    if !tag.chars().all(word) {
        return Err(ReferenceError::new(text, "what follows the first `:` is the image's name in it: letters, digits and `-._:@+`"));
    }
    Ok((path.into(), (!tag.is_empty()).then(|| tag.to_owned())))
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = |f: &mut fmt::Formatter<'_>, scheme, path: &PathBuf, tag: Option<String>| {
            write!(f, "{scheme}:{}", path.display())?;
            tag.map_or(Ok(()), |tag| write!(f, ":{tag}"))
        };
        match self {
            Location::Registry(reference) => reference.fmt(f),
            Location::Layout { folder, tag } => local(f, "oci", folder, tag.clone()),
            Location::OciArchive { file, tag } => local(f, "oci-archive", file, tag.clone()),
            Location::DockerArchive { file, reference } => local(f, "docker-archive", file, reference.as_ref().map(Reference::to_string)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms() {
        let parse = |text: &str| text.parse::<Location>().unwrap();
        assert_eq!(parse("oci:/a/b:c"), Location::Layout { folder: "/a/b".into(), tag: Some("c".to_owned()) });
        assert_eq!(parse("oci:/a/b:c:1"), Location::Layout { folder: "/a/b".into(), tag: Some("c:1".to_owned()) });
        assert_eq!(parse("oci-archive:x.tar"), Location::OciArchive { file: "x.tar".into(), tag: None });
        let reference: Reference = "m:1".parse().unwrap();
        assert_eq!(parse("docker-archive:x.tar:m:1"), Location::DockerArchive { file: "x.tar".into(), reference: Some(reference) });
        assert_eq!(parse("127.0.0.1:5000/m:1").to_string(), "127.0.0.1:5000/m:1");
        for wrong in ["docker-archive:x.tar:UPPER/x", "oci:", "oci::t", "oci:/a:b/c", "oci-archive:x:a b", "docker-archive:"] {
            assert!(wrong.parse::<Location>().is_err(), "{wrong}");
        }
    }
}
