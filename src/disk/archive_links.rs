//! The links of an archive, put in the place of by what they point at.
//!
//! Nothing is linked on disk, ever: links are kept as text until the last member has been read, then each becomes the file or the folder
//! that it points at. Members whose path leads through a link were refused before that, which is how an archive would write outside its
//! folder. What a link adds counts against the limits like anything else: a few links in links can make more files than there are atoms.

use std::collections::BTreeMap;

use crate::fault::{Failure, Fault};
use crate::model::tree::{Limits, Tree};
use crate::oci::layer::EntryKind;
use crate::oci::path::{PathError, TreePath};

/// How many links may lead to one another (Linux follows 40).
const HOPS_MAX: usize = 40;

/// What an archive has at a path.
#[derive(Clone, Debug)]
pub enum Node {
    /// A file or a folder.
    Entry(EntryKind),
    /// A symbolic link, relative to the folder that it is in.
    SymbolicLink(String),
    /// A hard link, relative to the top.
    HardLink(String),
}

/// Everything in an archive by its clean path. Every folder above a node is a node, and only folders have nodes below them.
pub type Nodes = BTreeMap<String, Node>;

/// Why links cannot be put in place.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// To outside.
    #[error("the link `{path}` leaves the archive: it points at `{}`", .target.escape_debug())]
    Leaves {
        /// The link.
        path: String,
        /// What stands in it.
        target: String,
    },
    /// To nothing.
    #[error("the link `{path}` leads nowhere: it points at `{}`", .target.escape_debug())]
    Dangles {
        /// The link.
        path: String,
        /// What stands in it.
        target: String,
    },
    /// To itself, or to a folder that it is in.
    #[error("the link `{path}` has no end: it points at `{}`", .target.escape_debug())]
    Loops {
        /// The link.
        path: String,
        /// What stands in it.
        target: String,
    },
    /// What a link brings has a path that is too long.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Too many entries, with what links bring.
    #[error("with what its links bring, the archive has more than {entries_max} files and folders; the one past the limit is `{path}`")]
    TooMany {
        /// The limit.
        entries_max: u64,
        /// The first past it.
        path: TreePath,
    },
    /// Too many bytes, with what links bring.
    #[error("with what its links bring, the archive has more than {bytes_max} bytes; the file past the limit is `{path}`")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
        /// The first past it.
        path: TreePath,
    },
}

impl Failure for LinkError {
    fn fault(&self) -> Fault {
        match self {
            LinkError::TooMany { .. } | LinkError::TooLarge { .. } => Fault::TooLarge,
            _ => Fault::Invalid,
        }
    }
}

/// Puts what links point at in their places.
pub fn resolve(nodes: &Nodes, limits: &Limits) -> Result<Tree, LinkError> {
    let mut resolver = Resolver { nodes, limits, found: BTreeMap::new(), tree: Tree::new(), size_bytes: 0 };
    for path in nodes.keys() {
        resolver.place(path, path, &mut Vec::new())?;
    }
    Ok(resolver.tree)
}

struct Resolver<'a> {
    nodes: &'a Nodes,
    limits: &'a Limits,
    /// Where links lead that have been followed already.
    found: BTreeMap<String, String>,
    tree: Tree,
    size_bytes: u64,
}

impl Resolver<'_> {
    /// Puts the node at `from` to `to`. `through` has the folders that links on the way here led to.
    fn place(&mut self, from: &str, to: &str, through: &mut Vec<String>) -> Result<(), LinkError> {
        match &self.nodes[from] {
            Node::Entry(entry) => self.insert(to, entry),
            Node::SymbolicLink(_) | Node::HardLink(_) => {
                let found = self.follow(from, 0)?;
                // The top itself has no node; it is a folder that every link is in.
                let Some(Node::Entry(entry)) = self.nodes.get(&found) else { return Err(self.loops(from)) };
                self.insert(to, entry)?;
                if *entry != EntryKind::Folder {
                    return Ok(());
                }
                if through.contains(&found) || through.len() >= HOPS_MAX {
                    return Err(self.loops(from));
                }
                let below = format!("{found}/");
                through.push(found);
                let nodes = self.nodes;
                for path in nodes.range(below.clone()..).map(|(path, _)| path).take_while(|path| path.starts_with(&below)) {
                    // Below a link there is nothing else, so this cannot meet what is there already.
                    self.place(path, &format!("{to}/{}", &path[below.len()..]), through)?;
                }
                through.pop();
                Ok(())
            }
        }
    }

    fn insert(&mut self, to: &str, entry: &EntryKind) -> Result<(), LinkError> {
        let path = TreePath::new(to)?;
        if let EntryKind::File { size_bytes, .. } = entry {
            self.size_bytes = self.size_bytes.saturating_add(*size_bytes);
            if self.size_bytes > self.limits.unpacked_bytes_max {
                return Err(LinkError::TooLarge { bytes_max: self.limits.unpacked_bytes_max, path });
            }
        }
        if self.tree.len() as u64 >= self.limits.entries_max {
            return Err(LinkError::TooMany { entries_max: self.limits.entries_max, path });
        }
        self.tree.insert(path, entry.clone());
        Ok(())
    }

    /// The path of the file or folder that the link at `path` leads to; empty for the top.
    fn follow(&mut self, path: &str, hops: usize) -> Result<String, LinkError> {
        if let Some(found) = self.found.get(path) {
            return Ok(found.clone());
        }
        if hops >= HOPS_MAX {
            return Err(self.loops(path));
        }
        let (mut at, target) = match &self.nodes[path] {
            Node::SymbolicLink(target) => (path.rsplit_once('/').map_or("", |(above, _)| above).to_owned(), target),
            Node::HardLink(target) => (String::new(), target),
            Node::Entry(_) => return Ok(path.to_owned()),
        };
        let refuse = || (path.to_owned(), target.clone());
        let leaves = || {
            let (path, target) = refuse();
            LinkError::Leaves { path, target }
        };
        if target.starts_with('/') {
            return Err(leaves());
        }
        for component in target.split('/').filter(|component| !matches!(*component, "" | ".")) {
            if component == ".." {
                at = match at.rsplit_once('/') {
                    Some((above, _)) => above.to_owned(),
                    None if at.is_empty() => return Err(leaves()),
                    None => String::new(),
                };
                continue;
            }
            if !at.is_empty() {
                at.push('/');
            }
            at.push_str(component);
            match self.nodes.get(&at) {
                Some(Node::Entry(_)) => {}
                Some(_) => at = self.follow(&at, hops + 1)?,
                None => {
                    let (path, target) = refuse();
                    return Err(LinkError::Dangles { path, target });
                }
            }
        }
        self.found.insert(path.to_owned(), at.clone());
        Ok(at)
    }

    fn loops(&self, path: &str) -> LinkError {
        let target = match &self.nodes[path] {
            Node::SymbolicLink(target) | Node::HardLink(target) => target.clone(),
            Node::Entry(_) => String::new(),
        };
        LinkError::Loops { path: path.to_owned(), target }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::layer::Content;

    fn nodes(list: &[(&str, &str)]) -> Nodes {
        let file = || EntryKind::File { size_bytes: 1, executable: false, content: Content::Inline([7].into()) };
        let node = |text: &str| match text {
            "file" => Node::Entry(file()),
            "folder" => Node::Entry(EntryKind::Folder),
            target => target.strip_prefix('=').map_or_else(|| Node::SymbolicLink(target.into()), |target| Node::HardLink(target.into())),
        };
        list.iter().map(|(path, text)| ((*path).to_owned(), node(text))).collect()
    }

    fn check(list: &[(&str, &str)], expected: &str) {
        let text = match resolve(&nodes(list), &Limits { entries_max: 100, ..Limits::default() }) {
            Ok(tree) => tree.nodes().map(|(path, _)| path.as_str()).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn links_become_what_they_point_at() {
        check(&[("a", "folder"), ("a/f", "file"), ("l", "a/f"), ("a/u", "../l"), ("h", "=./a/f")], "a a/f a/u h l");
        check(&[("a", "folder"), ("a.x", "file"), ("a/f", "file"), ("l", "a"), ("m", "l/f")], "a a.x a/f l l/f m");
        check(
            &[("a", "folder"), ("a/b", "folder"), ("a/b/f", "file"), ("c", "folder"), ("c/l", "../a/b"), ("k", "c/l/../b/f")],
            "a a/b a/b/f c c/l c/l/f k",
        );
    }

    #[test]
    fn links_that_leave_dangle_or_loop_are_refused() {
        check(&[("l", "/etc/passwd")], "the link `l` leaves the archive: it points at `/etc/passwd`");
        check(&[("a", "folder"), ("a/l", "../../x")], "the link `a/l` leaves the archive: it points at `../../x`");
        check(&[("l", "=../x")], "the link `l` leaves the archive: it points at `../x`");
        check(&[("l", "gone")], "the link `l` leads nowhere: it points at `gone`");
        check(&[("f", "file"), ("l", "f/x")], "the link `l` leads nowhere: it points at `f/x`");
        check(&[("l", "m"), ("m", "l")], "the link `l` has no end: it points at `m`");
        check(&[("l", "l")], "the link `l` has no end: it points at `l`");
        check(&[("a", "folder"), ("a/l", "..")], "the link `a/l` has no end: it points at `..`");
        check(&[("a", "folder"), ("a/l", "../a")], "the link `a/l` has no end: it points at `../a`");
        check(&[("a", "folder"), ("a/l", "../b"), ("b", "folder"), ("b/l", "../a")], "the link `a/l` has no end: it points at `../b`");
    }

    #[test]
    fn links_in_links_cannot_outgrow_the_limits() {
        let mut list = vec![("a0".to_owned(), "folder".to_owned()), ("a0/f".to_owned(), "file".to_owned())];
        for level in 1..20 {
            list.push((format!("b{level}"), "folder".to_owned()));
            list.push((format!("b{level}/l"), format!("../{}", if level == 1 { "a0".to_owned() } else { format!("b{}", level - 1) })));
            list.push((format!("b{level}/m"), format!("../{}", if level == 1 { "a0".to_owned() } else { format!("b{}", level - 1) })));
        }
        let list: Vec<(&str, &str)> = list.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let error = resolve(&nodes(&list), &Limits::default()).unwrap_err();
        assert!(matches!(error, LinkError::TooMany { entries_max: 200_000, .. }), "{error}");
    }
}
