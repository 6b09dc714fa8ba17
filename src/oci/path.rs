//! A safe relative path: what a file may be called in a model, in a layer and on disk.
//!
//! A [`TreePath`] is made once, where a path enters (a folder walk, an archive entry, a recipe), and is believed from there on.
//! It has at least one component, `/` between them, and nothing that could leave its root or mean something else to
//! somebody downstream: no `..`, no absolute path, no control characters (they break listings and logs), no `.wh.` names
//! (an overlay reads those as deletions: image-spec, "Whiteouts"). It does not know where its root is and touches no disk.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest path, in bytes: Linux' PATH_MAX (interface, "Limits").
pub const PATH_BYTES_MAX: usize = 4096;
/// The longest component, in bytes: NAME_MAX of every common file system.
pub const COMPONENT_BYTES_MAX: usize = 255;

/// A safe relative path of UTF-8 components joined by `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Box<str>);

/// Why a path is not acceptable.
#[derive(Debug, thiserror::Error)]
#[error("path `{}` is refused: {reason}", .path.escape_debug())]
pub struct PathError {
    /// The path as it came.
    pub path: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl crate::fault::Failure for PathError {
    fn fault(&self) -> crate::fault::Fault {
        crate::fault::Fault::Invalid
    }
}

impl TreePath {
    /// Reads a path. Leading `./`, doubled and trailing slashes, which archivers write, mean nothing and are dropped.
    pub fn new(text: &str) -> Result<TreePath, PathError> {
        let refuse = |reason| Err(PathError { path: text.chars().take(300).collect(), reason });
        if text.starts_with('/') {
            return refuse("it is absolute");
        }
        let mut clean = String::with_capacity(text.len());
        for component in text.split('/').filter(|component| !matches!(*component, "" | ".")) {
            if component == ".." {
                return refuse("it leaves the folder with `..`");
            }
            if component.starts_with(".wh.") {
                return refuse("a name that begins with `.wh.` means a deletion in an image layer");
            }
            if component.len() > COMPONENT_BYTES_MAX {
                return refuse("a name in it is longer than 255 bytes");
            }
            if component.chars().any(char::is_control) {
                return refuse("it has a control character");
            }
            if !clean.is_empty() {
                clean.push('/');
            }
            clean.push_str(component);
        }
        if clean.is_empty() {
            return refuse("it names no file");
        }
        if clean.len() > PATH_BYTES_MAX {
            return refuse("it is longer than 4096 bytes");
        }
        Ok(TreePath(clean.into()))
    }

    /// Reads a path of the local file system.
    pub fn from_local(path: &Path) -> Result<TreePath, PathError> {
        match path.to_str() {
            Some(text) => TreePath::new(text),
            None => Err(PathError { path: path.to_string_lossy().into_owned(), reason: "it is not UTF-8" }),
        }
    }

    /// The path with `/` between its components.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components, outermost first; at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The folder that this is in; `None` at the top.
    pub fn parent(&self) -> Option<TreePath> {
        self.0.rsplit_once('/').map(|(parent, _)| TreePath(parent.into()))
    }

    /// Every folder above this, outermost first.
    pub fn ancestors(&self) -> impl Iterator<Item = TreePath> {
        self.0.match_indices('/').map(|(at, _)| TreePath(self.0[..at].into()))
    }

    /// `self/below`.
    pub fn join(&self, below: &TreePath) -> TreePath {
        TreePath(format!("{}/{}", self.0, below.0).into())
    }

    /// Whether this is `folder` itself or lies below it.
    pub fn is_within(&self, folder: &TreePath) -> bool {
        self.strip(folder).is_some()
    }

    /// What remains below `folder`: `Some("")` for the folder itself, `None` when it lies elsewhere.
    pub fn strip(&self, folder: &TreePath) -> Option<&str> {
        let rest = self.0.strip_prefix(&*folder.0)?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
    }

    /// Where this is on the local disk, below `root`.
    pub fn below(&self, root: &Path) -> PathBuf {
        root.join(&*self.0)
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for TreePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TreePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TreePath, D::Error> {
        let text = String::deserialize(deserializer)?;
        TreePath::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archivers_forms_mean_the_same_path() {
        for text in ["src/func_main.py", "./src/func_main.py", "src//func_main.py", "src/./func_main.py", "src/func_main.py/"] {
            assert_eq!(TreePath::new(text).unwrap().as_str(), "src/func_main.py", "{text}");
        }
    }

    #[test]
    fn what_could_harm_is_refused() {
        let long = format!("{}/x", "a".repeat(256));
        let deep = "a/".repeat(2049);
        for text in
            ["", ".", "/", "/etc/passwd", "..", "a/../../b", "a/..", ".wh.a", "a/.wh..wh..opq", "a\nb", "a\0b", "\u{7f}", &long, &deep]
        {
            assert!(TreePath::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn folders_above_and_within() {
        let path = TreePath::new("a/b/c").unwrap();
        let above: Vec<_> = path.ancestors().map(|p| p.to_string()).collect();
        assert_eq!(above, ["a", "a/b"]);
        assert_eq!(path.strip(&TreePath::new("a").unwrap()), Some("b/c"));
        assert!(!TreePath::new("ab/c").unwrap().is_within(&TreePath::new("a").unwrap()));
    }
}
