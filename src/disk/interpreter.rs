//! A base's Python, taken out of its layers into a folder: what the interpreter needs to run by itself.
//!
//! `python`, `libraries/` (the shared libraries of the system's folders, the dynamic loader among them) and `lib/python3.11/` (the standard library). Started as
//! `libraries/LOADER --library-path libraries python`, with `PYTHONHOME` the folder, it is the base's own interpreter without a container, a root folder
//! of its own or a privilege. Nothing is run here (`build/compiler.rs` does), and nothing else of the base is taken.
//!
//! What must stay true: nothing is written outside of the folder, and no link in it leads out of it: a base is a stranger's tar as well. Every layer is read, from
//! the lowest up: what an upper one has of it, or takes away, counts.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::stream;
use super::unpack_layer;
use crate::fault::{Failure, Fault};
use crate::oci::digest::Hasher;
use crate::oci::path::TreePath;

/// What it may hold: Debian's has 30 MiB.
const BYTES_MAX: u64 = 1 << 30;
/// How layers say that a file below them is gone (image specification, "Whiteouts").
const WHITEOUT: &str = ".wh.";
/// Where systems have their shared libraries; beside these, the folders of one architecture in them.
const LIBRARY_FOLDERS: [&str; 5] = ["lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib"];
/// Parts of the standard library's folder that compiling has no use for.
const LEFT_OUT: [&str; 4] = ["site-packages", "dist-packages", "test", "ensurepip"];
/// The modules that an interpreter cannot start without.
const FIRST_MODULE: &str = "encodings/__init__.py";

/// The file that has the digest of the standard library's sources.
const MODULES: &str = "modules";
/// The one module of it that differs between two architectures.
const OF_ARCHITECTURE: &str = "_sysconfigdata";

/// An interpreter that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Where it is.
    pub folder: PathBuf,
    /// The dynamic loader that starts it.
    pub loader: PathBuf,
    /// The digest of its standard library's sources, which two architectures of one release have in common.
    pub modules: String,
}

impl Interpreter {
    /// The interpreter in a folder; `None`: it is not whole, or was not completed.
    pub fn open(folder: &Path) -> Option<Interpreter> {
        let modules = fs::read_to_string(folder.join(MODULES)).ok()?;
        Some(Interpreter { folder: folder.to_owned(), loader: Interpreter::loader(folder)?, modules })
    }

    /// Completes an interpreter that was taken out of a base; says whether it is whole.
    pub fn complete(folder: &Path) -> Result<bool, InterpreterError> {
        if Interpreter::loader(folder).is_none() {
            return Ok(false);
        }
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |source| InterpreterError::Write { path, source }
        };
        let (mut sources, mut left, mut all) = (Vec::new(), vec![folder.join("lib")], Hasher::new());
        while let Some(at) = left.pop() {
            for path in entries(&at) {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if path.is_dir() {
                    left.push(path);
                } else if name.ends_with(".py") && !name.starts_with(OF_ARCHITECTURE) {
                    sources.push(path);
                }
            }
        }
        sources.sort();
        for path in sources {
            let name = path.strip_prefix(folder).unwrap_or(&path).as_os_str().as_encoded_bytes().to_vec();
            let (_, of_file) = fs::File::open(&path).and_then(|mut file| stream::hash(&mut file)).map_err(wrong(&path))?;
            all.update(&name);
            all.update(&[0]);
            all.update(of_file.as_bytes());
        }
        let path = folder.join(MODULES);
        fs::write(&path, all.finish().hex()).map_err(wrong(&path))?;
        Ok(true)
    }

    /// The loader of an interpreter that has all its parts.
    fn loader(folder: &Path) -> Option<PathBuf> {
        let is_loader = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("ld-linux") || name.starts_with("ld-musl-")
        };
        let mut loaders: Vec<PathBuf> = entries(&folder.join("libraries")).into_iter().filter(is_loader).collect();
        loaders.sort();
        let modules = entries(&folder.join("lib"));
        let has_modules = modules.iter().any(|modules| modules.join(FIRST_MODULE).is_file());
        loaders.into_iter().find(|loader| loader.is_file()).filter(|_| folder.join("python").is_file() && has_modules)
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect()).unwrap_or_default()
}

/// Why no interpreter comes out of a base.
#[derive(Debug, thiserror::Error)]
pub enum InterpreterError {
    /// The path of the interpreter makes no sense.
    #[error("`{0}` is not where an interpreter is: `/usr/bin/python3.11` would be one")]
    Path(String),
    /// A layer cannot be read.
    #[error("reading the layers of the base")]
    Read(#[source] io::Error),
    /// A layer of a type that is not known.
    #[error("the base has a layer of the type `{0}`, which cannot be read here")]
    Type(String),
    /// The disk.
    #[error("writing `{}`", .path.display())]
    Write {
        /// What was written.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// More than an interpreter has.
    #[error("the interpreter and its libraries have more than {BYTES_MAX} bytes")]
    TooLarge,
}

impl Failure for InterpreterError {
    fn fault(&self) -> Fault {
        match self {
            InterpreterError::Path(_) | InterpreterError::Type(_) => Fault::Invalid,
            InterpreterError::Read(_) => Fault::Remote,
            InterpreterError::Write { .. } => Fault::Ours,
            InterpreterError::TooLarge => Fault::TooLarge,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            InterpreterError::Path(_) => {
                Some("correct `bytecode_interpreter` of the runtime's entry, or build with `--no-bytecode`".to_owned())
            }
            InterpreterError::Type(_) | InterpreterError::TooLarge => Some("build with `--no-bytecode`".to_owned()),
            InterpreterError::Read(_) | InterpreterError::Write { .. } => None,
        }
    }
}

/// An interpreter that is being taken out of layers.
pub struct Extraction {
    /// Where in the base it is.
    interpreter: TreePath,
    /// Where in the base its standard library is.
    modules: TreePath,
    folder: PathBuf,
    left_bytes: u64,
}

impl Extraction {
    /// Begins one into an empty folder. `interpreter` is a path of the base: `/usr/bin/python3.11`.
    pub fn begin(interpreter: &str, folder: &Path) -> Result<Extraction, InterpreterError> {
        let refused = || InterpreterError::Path(interpreter.to_owned());
        let path = TreePath::new(interpreter.strip_prefix('/').ok_or_else(refused)?).map_err(|_| refused())?;
        let name = path.file_name();
        let has_version = name.strip_prefix("python").is_some_and(|version| version.contains('.'));
        let prefix = path.parent().and_then(|folder| folder.parent()).filter(|_| has_version).ok_or_else(refused)?;
        let modules = TreePath::new(&format!("{prefix}/lib/{name}")).map_err(|_| refused())?;
        Ok(Extraction { interpreter: path, modules, folder: folder.to_owned(), left_bytes: BYTES_MAX })
    }

    /// Takes what there is of it in a layer, whose blob is read to its end.
    pub fn add(&mut self, media_type: &str, blob: &mut dyn Read) -> Result<(), InterpreterError> {
        let tar = unpack_layer::tar_of(media_type, blob).map_err(InterpreterError::Read)?;
        let mut tar = tar.ok_or_else(|| InterpreterError::Type(media_type.to_owned()))?;
        let mut archive = tar::Archive::new(&mut tar);
        for entry in archive.entries().map_err(InterpreterError::Read)? {
            self.take(entry.map_err(InterpreterError::Read)?)?;
        }
        // Whoever gives the blob compares it with its digest when its last byte is read.
        io::copy(&mut tar, &mut io::sink()).map_err(InterpreterError::Read)?;
        drop(tar);
        io::copy(blob, &mut io::sink()).map_err(InterpreterError::Read)?;
        Ok(())
    }

    fn take(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), InterpreterError> {
        let text = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let text = text.trim_start_matches("./").trim_end_matches('/');
        let (above, name) = text.rsplit_once('/').unwrap_or(("", text));
        let gone = name.strip_prefix(WHITEOUT).map(|name| format!("{above}/{name}"));
        // What we would not write ourselves is not needed.
        let Ok(path) = TreePath::new(gone.as_deref().unwrap_or(text)) else { return Ok(()) };
        let Some(place) = self.place(&path) else { return Ok(()) };
        if gone.is_some() {
            return remove(&place);
        }
        let wrong = |source| InterpreterError::Write { path: place.clone(), source };
        let linked = entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned()).unwrap_or_default();
        match entry.header().entry_type() {
            tar::EntryType::Regular => {
                make_room(&place)?;
                let mode = if entry.header().mode().map_err(InterpreterError::Read)? & 0o100 == 0 { 0o644 } else { 0o755 };
                let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&place).map_err(wrong)?;
                self.left_bytes = self.left_bytes.checked_sub(entry.size()).ok_or(InterpreterError::TooLarge)?;
                io::copy(&mut entry, &mut file).map_err(wrong)?;
            }
            // A hard link names a path of the base, which was here before it.
            tar::EntryType::Link => {
                let of_base = TreePath::new(linked.trim_start_matches("./").trim_start_matches('/')).ok();
                if let Some(first) = of_base.and_then(|path| self.place(&path)).filter(|first| *first != place && first.is_file()) {
                    make_room(&place)?;
                    fs::hard_link(first, &place).map_err(wrong)?;
                }
            }
            // Libraries have a short name and a long one, in one folder or in two that are one here.
            tar::EntryType::Symlink if self.is_library(&path) => {
                let name = linked.rsplit('/').next().unwrap_or_default();
                if !name.is_empty() && name != ".." && name != path.file_name() {
                    make_room(&place)?;
                    std::os::unix::fs::symlink(name, &place).map_err(wrong)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Where a path of the base goes; `None`: it is not wanted.
    fn place(&self, path: &TreePath) -> Option<PathBuf> {
        if *path == self.interpreter {
            return Some(self.folder.join("python"));
        }
        if let Some(module) = path.strip(&self.modules) {
            let first = module.split('/').next().unwrap_or_default();
            let is_wanted = !module.is_empty() && !LEFT_OUT.contains(&first) && !first.starts_with("config-");
            return is_wanted.then(|| self.folder.join("lib").join(self.modules.file_name()).join(module));
        }
        self.is_library(path).then(|| self.folder.join("libraries").join(path.file_name()))
    }

    fn is_library(&self, path: &TreePath) -> bool {
        let Some(folder) = path.parent() else { return false };
        let is_system = |folder: &str| LIBRARY_FOLDERS.contains(&folder);
        let of_architecture = folder.parent().is_some_and(|above| is_system(above.as_str())) && folder.file_name().contains("-linux-");
        path.file_name().contains(".so") && (is_system(folder.as_str()) || of_architecture)
    }
}

/// What an upper layer has takes the place of what a lower one had.
fn make_room(place: &Path) -> Result<(), InterpreterError> {
    remove(place)?;
    let wrong = |source| InterpreterError::Write { path: place.to_owned(), source };
    fs::create_dir_all(place.parent().unwrap_or(place)).map_err(wrong)
}

fn remove(place: &Path) -> Result<(), InterpreterError> {
    let wrong = |source| InterpreterError::Write { path: place.to_owned(), source };
    match fs::symlink_metadata(place) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(place).map_err(wrong),
        Ok(_) => fs::remove_file(place).map_err(wrong),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory || error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(wrong(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::manifest::media;

    enum Entry<'a> {
        File(&'a str, &'a [u8]),
        Link(&'a str, &'a str, tar::EntryType),
    }

    fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for entry in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            header.set_size(0);
            match entry {
                Entry::File(path, bytes) => {
                    header.set_size(bytes.len() as u64);
                    // Not `set_path`: it refuses what a stranger may well write.
                    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
                    header.set_cksum();
                    builder.append(&header, *bytes).unwrap();
                }
                Entry::Link(path, target, kind) => {
                    header.set_entry_type(*kind);
                    builder.append_link(&mut header, path, target).unwrap();
                }
            }
        }
        builder.into_inner().unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut left = vec![folder.to_owned()];
        while let Some(at) = left.pop() {
            for entry in entries(&at) {
                let is_folder = fs::symlink_metadata(&entry).unwrap().is_dir();
                if is_folder { left.push(entry) } else { found.push(entry.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()) }
            }
        }
        found.sort();
        found
    }

    const LOWEST: [Entry<'_>; 8] = [
        Entry::File("./usr/bin/python3.11", b"ELF"),
        Entry::Link("usr/bin/python3", "python3.11", tar::EntryType::Symlink),
        Entry::File("usr/lib/python3.11/encodings/__init__.py", b""),
        Entry::File("usr/lib/python3.11/test/large.py", b"no"),
        Entry::File("usr/lib/python3/dist-packages/numpy.so", b"no"),
        Entry::File("usr/lib/x86_64-linux-gnu/libz.so.1.2", b"z"),
        Entry::Link("usr/lib/x86_64-linux-gnu/libz.so.1", "libz.so.1.2", tar::EntryType::Symlink),
        Entry::File("etc/passwd", b"no"),
    ];

    #[test]
    fn what_an_interpreter_needs_is_taken_from_all_layers() {
        let folder = tempfile::tempdir().unwrap();
        let mut extraction = Extraction::begin("/usr/bin/python3.11", folder.path()).unwrap();
        extraction.add(media::OCI_LAYER, &mut tar(&LOWEST).as_slice()).unwrap();
        assert!(!Interpreter::complete(folder.path()).unwrap(), "there is no loader");
        let upper = [
            Entry::File("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", b"loader"),
            Entry::Link("lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", tar::EntryType::Symlink),
            Entry::Link("usr/lib/libz.so.2", "usr/lib/x86_64-linux-gnu/libz.so.1.2", tar::EntryType::Link),
            Entry::File("usr/lib/x86_64-linux-gnu/.wh.libz.so.1", b""),
            Entry::File("usr/bin/python3.11", b"newer"),
        ];
        extraction.add(media::OCI_LAYER, &mut tar(&upper).as_slice()).unwrap();
        assert_eq!(Interpreter::open(folder.path()), None, "not before it is completed");
        assert!(Interpreter::complete(folder.path()).unwrap());
        let interpreter = Interpreter::open(folder.path()).unwrap();
        assert_eq!(interpreter.loader, folder.path().join("libraries/ld-linux-x86-64.so.2"));
        let expected = [
            "lib/python3.11/encodings/__init__.py",
            "libraries/ld-linux-x86-64.so.2",
            "libraries/libz.so.1.2",
            "libraries/libz.so.2",
            "modules",
            "python",
        ];
        assert_eq!(names(folder.path()), expected);
        assert_eq!(fs::read(folder.path().join("python")).unwrap(), b"newer");
    }

    #[test]
    fn nothing_is_written_outside_of_the_folder() {
        let around = tempfile::tempdir().unwrap();
        let folder = around.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let mut extraction = Extraction::begin("/usr/bin/python3.11", &folder).unwrap();
        let layer = [
            Entry::File("usr/lib/../../../x.so", b"out"),
            Entry::Link("usr/lib/a.so", "../..", tar::EntryType::Symlink),
            Entry::Link("usr/lib/b.so", "/etc/passwd", tar::EntryType::Link),
            Entry::Link("usr/lib/python3.11/encodings", "/", tar::EntryType::Symlink),
            // A link, and then a file of its name: the file takes the link's place, and is not written where it points at.
            Entry::Link("usr/lib/c.so", "x/d.so", tar::EntryType::Symlink),
            Entry::File("usr/lib/c.so", b"c"),
        ];
        extraction.add(media::OCI_LAYER, &mut tar(&layer).as_slice()).unwrap();
        assert_eq!(names(around.path()), ["folder/libraries/c.so"]);
        assert!(!Interpreter::complete(&folder).unwrap());
        for path in ["usr/bin/python3.11", "/usr/bin/python3", "/python3.11", "/usr/../python3.11"] {
            assert!(matches!(Extraction::begin(path, &folder), Err(InterpreterError::Path(_))), "{path}");
        }
    }
}
