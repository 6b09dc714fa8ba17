//! A local folder -> a tree.
//!
//! The walk looks at every file once (its type, size, mode and stamp) and opens none; reading is `render.rs`' part. A symbolic link to
//! something inside the folder becomes that file or folder; one that leaves it is refused unless the caller follows links, since a
//! model with half of `/etc` in it is nobody's wish. Hard links are just files; empty folders stay; what is neither a file nor a
//! folder is refused. Rules say what is left out (`ignore_rules.rs`).
//!
//! What must stay true: the same folder gives the same tree and, where it is refused, the same error, whatever order the file system
//! lists it in.

use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ignore_rules::{IGNORE_FILE, IGNORE_FILE_BYTES_MAX, IgnoreError, IgnoreRules, OLD_CLIENT_FOLDER, Selected};
use super::render::stamp;
use crate::fault::{Failure, Fault};
use crate::model::tree::{Limits, Tree};
use crate::oci::layer::{Content, EntryKind, LocalFile};
use crate::oci::path::{PathError, TreePath};

/// How a folder is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct FolderOptions {
    /// Links that leave the folder become what they point at.
    pub follow_links: bool,
    /// What the model may measure.
    pub limits: Limits,
}

/// Why a folder is not a model.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is no such folder.
    #[error("`{}` is not a folder that can be read", .path.display())]
    Root {
        /// What was named.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file or folder in it cannot be looked at.
    #[error("cannot read `{}`", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A name that cannot go into an image.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The rules of the folder.
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
    /// A link out of the folder.
    #[error("the link `{path}` leaves the model folder: it points at `{}`", .target.display())]
    LinkLeaves {
        /// The link.
        path: TreePath,
        /// What stands in it.
        target: PathBuf,
    },
    /// A link to nothing, or to itself.
    #[error("the link `{path}` leads nowhere: it points at `{}`", .target.display())]
    LinkDangles {
        /// The link.
        path: TreePath,
        /// What stands in it.
        target: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A link to a folder that it is in.
    #[error("the link `{path}` points at `{}`, a folder that it is in itself: the model would have no end", .target.display())]
    LinkLoops {
        /// The link.
        path: TreePath,
        /// What stands in it.
        target: PathBuf,
    },
    /// A device, a socket, a pipe.
    #[error("`{path}` is a {what}: only files and folders can go into an image")]
    Special {
        /// Which.
        path: TreePath,
        /// What it is.
        what: &'static str,
    },
    /// Too many entries.
    #[error("the model has more than {entries_max} files and folders; the one past the limit is `{path}`")]
    TooMany {
        /// The limit.
        entries_max: u64,
        /// The first past it.
        path: TreePath,
    },
    /// Too many bytes.
    #[error("the model has more than {bytes_max} bytes; the file past the limit is `{path}`")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
        /// The first past it.
        path: TreePath,
    },
}

impl Failure for FolderError {
    fn fault(&self) -> Fault {
        match self {
            FolderError::Root { .. } => Fault::Usage,
            FolderError::TooMany { .. } | FolderError::TooLarge { .. } => Fault::TooLarge,
            _ => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        let text = match self {
            FolderError::LinkLeaves { .. } => "put the file into the folder, name it in `.hsignore`, or use `--follow-links`",
            FolderError::LinkDangles { .. } | FolderError::LinkLoops { .. } | FolderError::Special { .. } => {
                "remove it, or name it in `.hsignore`"
            }
            FolderError::TooMany { .. } | FolderError::TooLarge { .. } => {
                "name what the model does not need in `.hsignore`, or list what it needs under `payload`"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// Lists what a model folder ships. No file but `.hsignore` is opened.
pub fn read_folder(root: &Path, options: &FolderOptions) -> Result<Selected, FolderError> {
    let refuse = |source| FolderError::Root { path: root.to_owned(), source };
    let local = fs::canonicalize(root).map_err(refuse)?;
    let metadata = fs::metadata(&local).map_err(refuse)?;
    if !metadata.is_dir() {
        return Err(refuse(io::ErrorKind::NotADirectory.into()));
    }
    let hsignore = read_hsignore(&local)?;
    let rules = IgnoreRules::new(hsignore.as_deref(), local.join(OLD_CLIENT_FOLDER).is_dir())?;
    let mut walk = Walk { root: local, rules, options: *options, selected: Selected::default(), size_bytes: 0, folders: Vec::new() };
    walk.enter(None, walk.root.clone(), &metadata)?;
    while let Some(folder) = walk.folders.last_mut() {
        match folder.names.pop() {
            Some(name) => {
                let local = folder.local.join(&name);
                let path = match &folder.path {
                    Some(above) => TreePath::from_local(&Path::new(above.as_str()).join(&name))?,
                    None => TreePath::from_local(Path::new(&name))?,
                };
                walk.visit(path, local)?;
            }
            None => drop(walk.folders.pop()),
        }
    }
    walk.selected.left_out.sort();
    Ok(walk.selected)
}

fn read_hsignore(root: &Path) -> Result<Option<Vec<u8>>, FolderError> {
    let path = root.join(IGNORE_FILE);
    let unreadable = |source| FolderError::Unreadable { path: path.clone(), source };
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(unreadable(io::Error::other("it is not a regular file"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(&path).map_err(unreadable)?;
    file.take(IGNORE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(Some(bytes))
}

struct Walk {
    root: PathBuf,
    rules: IgnoreRules,
    options: FolderOptions,
    selected: Selected,
    size_bytes: u64,
    /// The folders that we are in, outermost first: a list and no recursion, since depth is the folder's choice.
    folders: Vec<OpenFolder>,
}

struct OpenFolder {
    /// `None` for the root.
    path: Option<TreePath>,
    local: PathBuf,
    device_and_inode: (u64, u64),
    /// What is still to be visited, last first.
    names: Vec<std::ffi::OsString>,
}

impl Walk {
    fn visit(&mut self, path: TreePath, local: PathBuf) -> Result<(), FolderError> {
        if self.rules.leave_out(&path, false) {
            self.selected.left_out.push(path);
            return Ok(());
        }
        let unreadable = |source| FolderError::Unreadable { path: local.clone(), source };
        let metadata = fs::symlink_metadata(&local).map_err(unreadable)?;
        if metadata.is_symlink() {
            return self.visit_link(path, &local);
        }
        self.add(path, local, &metadata, None)
    }

    fn visit_link(&mut self, path: TreePath, local: &Path) -> Result<(), FolderError> {
        let unreadable = |source| FolderError::Unreadable { path: local.to_owned(), source };
        let target = fs::read_link(local).map_err(unreadable)?;
        let real = match fs::canonicalize(local) {
            Ok(real) => real,
            Err(source) => return Err(FolderError::LinkDangles { path, target, source }),
        };
        if !self.options.follow_links && !real.starts_with(&self.root) {
            return Err(FolderError::LinkLeaves { path, target });
        }
        let metadata = fs::metadata(&real).map_err(unreadable)?;
        self.add(path, real, &metadata, Some(target))
    }

    /// Adds what is at `local`; `link` is the text of the link that led there.
    fn add(&mut self, path: TreePath, local: PathBuf, metadata: &Metadata, link: Option<PathBuf>) -> Result<(), FolderError> {
        if metadata.is_dir() && self.rules.leave_out(&path, true) {
            self.selected.left_out.push(path);
            return Ok(());
        }
        if self.selected.tree.len() as u64 >= self.options.limits.entries_max {
            return Err(FolderError::TooMany { entries_max: self.options.limits.entries_max, path });
        }
        if metadata.is_dir() {
            if let Some(target) = link {
                let identity = (metadata.dev(), metadata.ino());
                if self.folders.iter().any(|folder| folder.device_and_inode == identity) {
                    return Err(FolderError::LinkLoops { path, target });
                }
            }
            self.selected.tree.insert(path.clone(), EntryKind::Folder);
            return self.enter(Some(path), local, metadata);
        }
        if let Some(what) = special(metadata) {
            return Err(FolderError::Special { path, what });
        }
        let size_bytes = metadata.len();
        self.size_bytes = self.size_bytes.saturating_add(size_bytes);
        if self.size_bytes > self.options.limits.unpacked_bytes_max {
            return Err(FolderError::TooLarge { bytes_max: self.options.limits.unpacked_bytes_max, path });
        }
        let content = Content::Local(Arc::new(LocalFile { path: local, stamp: stamp(metadata), digest: None }));
        let executable = metadata.permissions().mode() & 0o111 != 0;
        self.selected.tree.insert(path, EntryKind::File { size_bytes, executable, content });
        Ok(())
    }

    fn enter(&mut self, path: Option<TreePath>, local: PathBuf, metadata: &Metadata) -> Result<(), FolderError> {
        let unreadable = |source| FolderError::Unreadable { path: local.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&local).map_err(unreadable)? {
            names.push(entry.map_err(unreadable)?.file_name());
        }
        names.sort();
        names.reverse();
        self.folders.push(OpenFolder { path, local, device_and_inode: (metadata.dev(), metadata.ino()), names });
        Ok(())
    }
}

/// A file by itself, as the tree of a folder that holds nothing else.
pub fn one_file(file: &Path) -> Result<Tree, FolderError> {
    let unreadable = |source| FolderError::Unreadable { path: file.to_owned(), source };
    let metadata = fs::metadata(file).map_err(unreadable)?;
    let name = file.file_name().map_or(file, Path::new);
    let path = TreePath::from_local(name)?;
    if let Some(what) = special(&metadata) {
        return Err(FolderError::Special { path, what });
    }
    let content = Content::Local(Arc::new(LocalFile { path: file.to_owned(), stamp: stamp(&metadata), digest: None }));
    let mut tree = Tree::new();
    tree.insert(path, EntryKind::File { size_bytes: metadata.len(), executable: false, content });
    Ok(tree)
}

fn special(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        None
    } else if kind.is_fifo() {
        Some("named pipe")
    } else if kind.is_socket() {
        Some("socket")
    } else {
        Some("device")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        root
    }

    fn check(root: &Path, options: &FolderOptions, expected: &str) {
        let text = match read_folder(root, options) {
            Ok(selected) => selected.tree.nodes().map(|(path, _)| path.as_str()).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn files_folders_and_links_inside() {
        let root = folder(&["src/func_main.py", "a.txt", ".keras/w", ".git/config", "target/model/files/x", ".env"]);
        fs::create_dir(root.path().join("empty")).unwrap();
        fs::set_permissions(root.path().join("a.txt"), fs::Permissions::from_mode(0o500)).unwrap();
        symlink("src", root.path().join("lib")).unwrap();
        symlink(root.path().join("a.txt"), root.path().join("src/absolute")).unwrap();
        let options = FolderOptions::default();
        let expected = ".keras .keras/w a.txt empty lib lib/absolute lib/func_main.py src src/absolute src/func_main.py";
        check(root.path(), &options, expected);
        let selected = read_folder(root.path(), &options).unwrap();
        let left_out: Vec<_> = selected.left_out.iter().map(TreePath::as_str).collect();
        assert_eq!(left_out, [".env", ".git", "target"]);
        let linked = selected.tree.get(&TreePath::new("lib/absolute").unwrap()).unwrap();
        assert!(matches!(linked, EntryKind::File { size_bytes: 5, executable: true, .. }));
        fs::write(root.path().join(".hsignore"), "*.txt\nlib\n").unwrap();
        check(root.path(), &options, ".keras .keras/w empty src src/absolute src/func_main.py");
    }

    #[test]
    fn links_that_leave_dangle_or_loop_are_refused_with_their_target() {
        let outside = folder(&["secret"]);
        let target = outside.path().join("secret");
        let root = folder(&["a/f"]);
        let (strict, following) = (FolderOptions::default(), FolderOptions { follow_links: true, ..FolderOptions::default() });
        let link = root.path().join("a/l");
        symlink(&target, &link).unwrap();
        check(root.path(), &strict, &format!("the link `a/l` leaves the model folder: it points at `{}`", target.display()));
        check(root.path(), &following, "a a/f a/l");
        for (target, text) in [
            ("gone", "the link `a/l` leads nowhere: it points at `gone`"),
            ("l", "the link `a/l` leads nowhere: it points at `l`"),
            ("..", "the link `a/l` points at `..`, a folder that it is in itself: the model would have no end"),
            ("../a", "the link `a/l` points at `../a`, a folder that it is in itself: the model would have no end"),
        ] {
            fs::remove_file(&link).unwrap();
            symlink(target, &link).unwrap();
            check(root.path(), &strict, text);
            check(root.path(), &following, text);
        }
    }

    #[test]
    fn what_is_no_file_and_what_is_too_much_is_refused() {
        let root = folder(&["a/1", "a/2"]);
        let with = |limits| FolderOptions { limits, ..FolderOptions::default() };
        check(root.path(), &with(Limits { entries_max: 3, ..Limits::default() }), "a a/1 a/2");
        let text = "the model has more than 2 files and folders; the one past the limit is `a/2`";
        check(root.path(), &with(Limits { entries_max: 2, ..Limits::default() }), text);
        let text = "the model has more than 5 bytes; the file past the limit is `a/2`";
        check(root.path(), &with(Limits { unpacked_bytes_max: 5, ..Limits::default() }), text);
        rustix::fs::mknodat(rustix::fs::CWD, root.path().join("pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        check(root.path(), &FolderOptions::default(), "`pipe` is a named pipe: only files and folders can go into an image");
        fs::remove_file(root.path().join("pipe")).unwrap();
        fs::write(root.path().join("a/\u{1}"), "").unwrap();
        check(root.path(), &FolderOptions::default(), "path `a/\\u{1}` is refused: it has a control character");
        let nowhere = root.path().join("nowhere");
        check(&nowhere, &FolderOptions::default(), &format!("`{}` is not a folder that can be read", nowhere.display()));
    }
}
