//! What is left out of a model: the defaults, and what its `.hsignore` says.
//!
//! One set of rules serves folders, where a folder that is left out is not even entered, and archives, where the rules are known only
//! when the last entry has been read; so both give the same tree. `.hsignore` is read at the top of the model only and has
//! gitignore's syntax; its lines come after the defaults, so `!.env` brings a default back. Nothing is read here.
//!
//! What must stay true: a dot-file is shipped unless a rule names it (users have models in `.keras`).

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::fault::{Failure, Fault};
use crate::model::tree::Tree;
use crate::oci::layer::EntryKind;
use crate::oci::path::TreePath;

/// The file with the user's own rules.
pub const IGNORE_FILE: &str = ".hsignore";
/// The largest `.hsignore` that is read. Those of real projects have a few hundred bytes.
pub const IGNORE_FILE_BYTES_MAX: u64 = 1 << 20;
/// What no model wants in its image (interface, section 3).
const DEFAULTS: [&str; 6] = [".git", ".venv", "__pycache__", ".hs*", ".env", ".DS_Store"];
/// Where the client of 2018 packs, in the model folder itself, and never cleans up. Its `target/` is known by this folder in it: a
/// user's own `target/` may well have a `model/`, or an archive, which must not vanish.
pub const OLD_CLIENT_FOLDER: &str = "target/model/files";

/// The files of a model, and what was left out of it by a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// What is shipped.
    pub tree: Tree,
    /// What is not: files, and folders with all that is below them.
    pub left_out: Vec<TreePath>,
}

/// The rules for one model.
#[derive(Debug)]
pub struct IgnoreRules(Gitignore);

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IgnoreError {
    /// A line is not a pattern.
    #[error("`{IGNORE_FILE}`, line {line}: `{pattern}` is not a pattern")]
    Pattern {
        /// Its number, from 1.
        line: usize,
        /// The line.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: ignore::Error,
    },
    /// All lines together.
    #[error("the patterns of `{IGNORE_FILE}` cannot be used together")]
    Together(#[source] ignore::Error),
    /// It is no text.
    #[error("`{IGNORE_FILE}` is not UTF-8 text")]
    NotText,
    /// It is too long.
    #[error("`{IGNORE_FILE}` is larger than {IGNORE_FILE_BYTES_MAX} bytes")]
    TooLarge,
}

impl Failure for IgnoreError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }
}

impl IgnoreRules {
    /// The defaults and then the lines of an `.hsignore`. `old_client` says that [`OLD_CLIENT_FOLDER`] is there.
    pub fn new(hsignore: Option<&[u8]>, old_client: bool) -> Result<IgnoreRules, IgnoreError> {
        let text = std::str::from_utf8(hsignore.unwrap_or_default()).map_err(|_| IgnoreError::NotText)?;
        if text.len() as u64 > IGNORE_FILE_BYTES_MAX {
            return Err(IgnoreError::TooLarge);
        }
        let mut builder = GitignoreBuilder::new("");
        let defaults = DEFAULTS.into_iter().chain(old_client.then_some("/target/")).map(|pattern| (0, pattern));
        let theirs = text.trim_start_matches('\u{feff}').lines().enumerate().map(|(at, pattern)| (at + 1, pattern));
        for (line, pattern) in defaults.chain(theirs) {
            let refuse = |source| IgnoreError::Pattern { line, pattern: pattern.to_owned(), source };
            builder.add_line(None, pattern).map_err(refuse)?;
        }
        builder.build().map(IgnoreRules).map_err(IgnoreError::Together)
    }

    /// Whether a rule names this file or folder. What is below a folder that is left out is not asked about.
    pub fn leave_out(&self, path: &TreePath, is_folder: bool) -> bool {
        self.0.matched(path.as_str(), is_folder).is_ignore()
    }

    /// Takes out of a tree what the rules name, with all that is below it.
    pub fn select(&self, tree: &Tree) -> Selected {
        let mut selected = Selected::default();
        for (path, node) in tree.nodes() {
            // A folder comes before what is in it, but not always next to it: `a` and `a/b` can have `a.txt` between them.
            if path.ancestors().any(|above| selected.left_out.binary_search(&above).is_ok()) {
                continue;
            }
            if self.leave_out(path, *node == EntryKind::Folder) {
                selected.left_out.push(path.clone());
            } else {
                selected.tree.insert(path.clone(), node.clone());
            }
        }
        selected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::layer::Content;

    fn tree(paths: &[&str]) -> Tree {
        let mut tree = Tree::new();
        for path in paths {
            let path_ = TreePath::new(path).unwrap();
            for above in path_.ancestors() {
                tree.insert(above, EntryKind::Folder);
            }
            let file = EntryKind::File { size_bytes: 0, executable: false, content: Content::Inline([].into()) };
            tree.insert(path_, if path.ends_with('/') { EntryKind::Folder } else { file });
        }
        tree
    }

    fn kept(hsignore: &str, old_client: bool, paths: &[&str]) -> Vec<String> {
        let rules = IgnoreRules::new(Some(hsignore.as_bytes()), old_client).unwrap();
        let selected = rules.select(&tree(paths));
        selected.tree.nodes().map(|(path, _)| path.to_string()).collect()
    }

    #[test]
    fn the_defaults_go_and_other_dot_files_stay() {
        let paths = [
            ".git/config",
            ".venv/bin/python",
            "a/__pycache__/x.pyc",
            ".hs/m/x",
            ".hs-target/m",
            ".hsignore",
            ".env",
            "a/.DS_Store",
            ".keras/w",
            ".environment",
            "target/model/files/x",
            "a.txt",
        ];
        assert_eq!(kept("", true, &paths), [".environment", ".keras", ".keras/w", "a", "a.txt"]);
        let with_target = kept("", false, &paths);
        assert!(with_target.contains(&"target/model/files/x".to_owned()));
    }

    #[test]
    fn the_users_lines_win() {
        let paths = ["data/x.csv", "data/keep.csv", "logs/a", "b/logs", ".env", "w.bin"];
        let lines = "# big\n*.csv\n!keep.csv\nlogs/\n!.env\n";
        assert_eq!(kept(lines, false, &paths), [".env", "b", "b/logs", "data", "data/keep.csv", "w.bin"]);
        assert_eq!(kept("\u{feff}/w.bin\r\n", false, &["w.bin", "b/w.bin"]), ["b", "b/w.bin"]);
    }

    #[test]
    fn what_is_no_pattern_is_named_with_its_line() {
        let error = IgnoreRules::new(Some(b"ok\n{a"), false).unwrap_err();
        assert_eq!(error.to_string(), "`.hsignore`, line 2: `{a` is not a pattern");
        assert!(matches!(IgnoreRules::new(Some(b"\xff"), false), Err(IgnoreError::NotText)));
    }
}
