//! An uploaded archive -> a tree.
//!
//! The archive is a stranger's. Its members are read once, in order; each file is written once, under a number of our own, and hashed
//! while it is written: no path of the archive ever becomes a path on disk. Accepted are files, folders and links inside the archive;
//! everything else is refused with the member's name: paths that leave (`..`, absolute), members below a file or a link, two members
//! of one path, devices, sizes past the limits, a stream that ends early. Rules say what is left out (`ignore_rules.rs`).
//!
//! What must stay true: the same files give the same tree whether they come as a folder or as an archive; and after an error
//! nothing of the archive is on disk.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive_links::{LinkError, Node, Nodes, resolve};
use super::archive_stream::{ArchiveStream, StreamError};
use super::ignore_rules::{IGNORE_FILE, IGNORE_FILE_BYTES_MAX, IgnoreError, IgnoreRules, OLD_CLIENT_FOLDER, Selected};
use super::render::{READ_BYTES, stamp};
use super::tar_reader::{Member, MemberKind, TarError, TarReader};
use crate::fault::{Failure, Fault};
use crate::model::tree::{Limits, Tree};
use crate::oci::digest::Hasher;
use crate::oci::layer::{Content, EntryKind, LocalFile};
use crate::oci::path::{PathError, TreePath};

/// Why an archive is not a model.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream, or what it is packed with.
    #[error(transparent)]
    Stream(StreamError),
    /// The tar itself.
    #[error(transparent)]
    Tar(TarError),
    /// A path that cannot go into an image.
    #[error("in the archive, {0}")]
    Path(PathError),
    /// A link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The archive's `.hsignore`.
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
    /// Two members of one path.
    #[error("`{0}` is in the archive twice")]
    Twice(TreePath),
    /// A member below something that is no folder: written in order, it would go through a link.
    #[error("`{path}` in the archive is below `{above}`, which is no folder")]
    BelowFile {
        /// The member.
        path: TreePath,
        /// The file or link above it.
        above: TreePath,
    },
    /// A file where there are files below.
    #[error("`{0}` is a file in the archive, and a folder as well")]
    FileAndFolder(TreePath),
    /// Too many members.
    #[error("the archive has more than {entries_max} files and folders; the one past the limit is `{path}`")]
    TooMany {
        /// The limit.
        entries_max: u64,
        /// The first past it.
        path: TreePath,
    },
    /// Too many bytes.
    #[error("the archive has more than {bytes_max} bytes of files; the one past the limit is `{path}`")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
        /// The first past it.
        path: TreePath,
    },
    /// Too long names.
    #[error("the names in the archive have more than {bytes_max} bytes together; the one past the limit is `{path}`")]
    Names {
        /// The limit.
        bytes_max: u64,
        /// The first past it.
        path: TreePath,
    },
    /// Our disk.
    #[error("cannot write `{}`", .path.display())]
    Write {
        /// The staged file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Failure for ArchiveError {
    fn fault(&self) -> Fault {
        match self {
            ArchiveError::Stream(error) => error.fault(),
            ArchiveError::Tar(error) => error.fault(),
            ArchiveError::Link(error) => error.fault(),
            ArchiveError::TooMany { .. } | ArchiveError::TooLarge { .. } | ArchiveError::Names { .. } => Fault::TooLarge,
            ArchiveError::Write { .. } => Fault::Ours,
            _ => Fault::Invalid,
        }
    }
}

impl From<TarError> for ArchiveError {
    fn from(error: TarError) -> ArchiveError {
        match error {
            TarError::Read(error) => match error.downcast::<StreamError>() {
                Ok(error) => ArchiveError::Stream(error),
                Err(error) => ArchiveError::Stream(StreamError::Source(error)),
            },
            error => ArchiveError::Tar(error),
        }
    }
}

/// Reads an archive (tar, tar.gz or tar.zst) to its end and writes its files to `staging`, a folder that holds nothing else.
///
/// The tree's files are in `staging`, hashed, one file for each content that is shipped, until somebody moves them
/// (`Store::adopt`). After an error `staging` is as it was.
pub fn unpack(source: impl Read, staging: &Path, limits: &Limits) -> Result<Selected, ArchiveError> {
    let stream = ArchiveStream::open(source, limits).map_err(ArchiveError::Stream)?;
    let mut unpacker = Unpacker {
        staged: Staged { folder: staging, count: 0, buffer: vec![0; READ_BYTES] },
        limits,
        nodes: Nodes::new(),
        size_bytes: 0,
        names_bytes: 0,
    };
    let mut tar = TarReader::new(stream);
    while let Some(member) = tar.next_member()? {
        unpacker.take(member, &mut tar)?;
    }
    let selected = select(&resolve(&unpacker.nodes, limits)?)?;
    unpacker.staged.keep(&selected.tree)?;
    Ok(selected)
}

struct Unpacker<'a> {
    staged: Staged<'a>,
    limits: &'a Limits,
    nodes: Nodes,
    size_bytes: u64,
    names_bytes: u64,
}

impl Unpacker<'_> {
    fn take<R: Read>(&mut self, member: Member, tar: &mut TarReader<R>) -> Result<(), ArchiveError> {
        // `tar c .` begins with the folder itself.
        if member.kind == MemberKind::Folder
            && member.path.split('/').all(|component| matches!(component, "" | "."))
            && !member.path.starts_with('/')
        {
            return Ok(());
        }
        let path = TreePath::new(&member.path).map_err(ArchiveError::Path)?;
        self.make_way(&path, &member.kind)?;
        let node = match member.kind {
            MemberKind::Folder => Node::Entry(EntryKind::Folder),
            MemberKind::SymbolicLink(target) => Node::SymbolicLink(self.counted(target, &path)?),
            MemberKind::HardLink(target) => Node::HardLink(self.counted(target, &path)?),
            MemberKind::File { size_bytes, executable } => {
                self.size_bytes = self.size_bytes.saturating_add(size_bytes);
                if self.size_bytes > self.limits.unpacked_bytes_max {
                    return Err(ArchiveError::TooLarge { bytes_max: self.limits.unpacked_bytes_max, path });
                }
                let content = Content::Local(Arc::new(self.staged.write(tar)?));
                Node::Entry(EntryKind::File { size_bytes, executable, content })
            }
        };
        self.add(&path, node)
    }

    /// Checks that nothing is in the way of `path` and adds the folders above it.
    fn make_way(&mut self, path: &TreePath, kind: &MemberKind) -> Result<(), ArchiveError> {
        match self.nodes.get(path.as_str()) {
            None => {}
            Some(Node::Entry(EntryKind::Folder)) if *kind == MemberKind::Folder => {}
            Some(Node::Entry(EntryKind::Folder)) => return Err(ArchiveError::FileAndFolder(path.clone())),
            Some(_) => return Err(ArchiveError::Twice(path.clone())),
        }
        for above in path.ancestors() {
            match self.nodes.get(above.as_str()) {
                None => self.add(&above, Node::Entry(EntryKind::Folder))?,
                Some(Node::Entry(EntryKind::Folder)) => {}
                Some(_) => return Err(ArchiveError::BelowFile { path: path.clone(), above }),
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &TreePath, node: Node) -> Result<(), ArchiveError> {
        let name = self.counted(path.as_str().to_owned(), path)?;
        self.nodes.insert(name, node);
        if self.nodes.len() as u64 > self.limits.entries_max {
            return Err(ArchiveError::TooMany { entries_max: self.limits.entries_max, path: path.clone() });
        }
        Ok(())
    }

    fn counted(&mut self, name: String, path: &TreePath) -> Result<String, ArchiveError> {
        self.names_bytes += name.len() as u64;
        let bytes_max = self.limits.name_bytes_max();
        if self.names_bytes > bytes_max {
            return Err(ArchiveError::Names { bytes_max, path: path.clone() });
        }
        Ok(name)
    }
}

/// What the rules leave of a tree, those of its own `.hsignore` among them, as in a folder.
pub fn select(tree: &Tree) -> Result<Selected, ArchiveError> {
    Ok(rules_of(tree)?.select(tree))
}

fn rules_of(tree: &Tree) -> Result<IgnoreRules, ArchiveError> {
    let mut bytes = Vec::new();
    let hsignore = match tree.file(IGNORE_FILE) {
        Some((_, Content::Inline(inline))) => Some(&**inline),
        Some((_, Content::Local(file))) => {
            let failed = |source| ArchiveError::Write { path: file.path.clone(), source };
            let open = File::open(&file.path).map_err(failed)?;
            open.take(IGNORE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
            Some(&*bytes)
        }
        None => None,
    };
    let old_client = TreePath::new(OLD_CLIENT_FOLDER).is_ok_and(|path| tree.get(&path) == Some(&EntryKind::Folder));
    Ok(IgnoreRules::new(hsignore, old_client)?)
}

/// The files written so far, called `0`, `1`, …; removed on drop unless they are kept.
struct Staged<'a> {
    folder: &'a Path,
    count: u64,
    buffer: Vec<u8>,
}

impl Staged<'_> {
    fn write<R: Read>(&mut self, tar: &mut TarReader<R>) -> Result<LocalFile, ArchiveError> {
        let path = self.folder.join(self.count.to_string());
        let failed = |source| ArchiveError::Write { path: path.clone(), source };
        let mut file = File::options().write(true).create_new(true).open(&path).map_err(failed)?;
        self.count += 1;
        let mut hasher = Hasher::new();
        let buffer = &mut self.buffer;
        loop {
            // Small reads from a decoder become large writes.
            let mut filled = 0;
            while filled < buffer.len() {
                match tar.read_data(&mut buffer[filled..])? {
                    0 => break,
                    length => filled += length,
                }
            }
            if filled == 0 {
                break;
            }
            hasher.update(&buffer[..filled]);
            file.write_all(&buffer[..filled]).map_err(failed)?;
        }
        let metadata = file.metadata().map_err(failed)?;
        Ok(LocalFile { path, stamp: stamp(&metadata), digest: Some(hasher.finish()) })
    }

    /// Keeps what the tree points at and removes the rest.
    fn keep(&mut self, tree: &Tree) -> Result<(), ArchiveError> {
        let wanted: BTreeSet<&Path> = tree
            .nodes()
            .filter_map(|(_, node)| match node {
                EntryKind::File { content: Content::Local(file), .. } => Some(file.path.as_path()),
                _ => None,
            })
            .collect();
        for number in 0..self.count {
            let path = self.folder.join(number.to_string());
            if !wanted.contains(path.as_path()) {
                fs::remove_file(&path).map_err(|source| ArchiveError::Write { path, source })?;
            }
        }
        self.count = 0;
        Ok(())
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        for number in 0..self.count {
            // Nothing can be done about one that cannot be removed; the caller removes the folder as well.
            let _ = fs::remove_file(self.folder.join(number.to_string()));
        }
    }
}
