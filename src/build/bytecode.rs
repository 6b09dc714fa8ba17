//! The bytecode of a model's packages: a layer of its own above theirs.
//!
//! Without it a container compiles all that it imports at each start, since neither its user nor a read-only root could keep the result. It comes from the
//! base's own interpreter (`compiler.rs`), once for each wheel and base: an archive beside the wheel in the cache (`disk/bytecode_cache.rs`), whose members are
//! ranges of the layer. A layer of its own, because a patch of the base's Python changes the bytecode and leaves the packages as they are.
//!
//! What must stay true: the layer follows from the wheels and the base alone. Only a base that this machine's owner vouches for is run (`base.rs`).

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::task::JoinHandle;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::compiler::{self, CompileError};
use crate::disk::bytecode_cache::{BytecodeCache, BytecodeCacheError, Python};
use crate::disk::interpreter::{Extraction, Interpreter, InterpreterError};
use crate::disk::wheel::{Laid, Wheel, WheelFileError};
use crate::disk::zip_directory::{self, ZipError, ZipMember};
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;
use crate::oci::image::Base;
use crate::oci::layer::RecipeError;
use crate::oci::packed::{Body, Member, PackedFile, PackedLayer};
use crate::oci::path::TreePath;
use crate::oci::splice::SplicedFile;
use crate::progress::{Event, Listener};
use crate::registry::source::{Source, SourceError};

/// The most interpreters at once: each takes a core, and may take 2 GiB.
const AT_ONCE_MAX: usize = 4;

/// The interpreter that bytecode is made with.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// Where in the base it is: `/usr/bin/python3.11`.
    pub interpreter: String,
    /// The base.
    pub base: Base,
    /// The same runtime for other platforms. Where the base's own Python cannot be run here, one of theirs can stand in: bytecode is the same on all.
    pub siblings: Vec<Base>,
    /// Where their layers are.
    pub source: Source,
}

/// Why there is no bytecode.
#[derive(Debug, thiserror::Error)]
pub enum BytecodeError {
    /// The base's layers cannot be had.
    #[error("fetching the Python of the base, which compiles the packages")]
    Base(#[from] SourceError),
    /// There is no interpreter in them.
    #[error(transparent)]
    Interpreter(#[from] InterpreterError),
    /// It does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// What it made cannot be kept.
    #[error(transparent)]
    Cache(#[from] BytecodeCacheError),
    /// A wheel cannot be read.
    #[error(transparent)]
    Wheel(#[from] WheelFileError),
    /// An archive of the cache is damaged.
    #[error("the bytecode in `{path}` is damaged")]
    Archive {
        /// Where it is.
        path: String,
        /// What is wrong.
        #[source]
        source: ZipError,
    },
    /// The files cannot lie in one folder.
    #[error("laying out the bytecode")]
    Paths(#[from] RecipeError),
    /// Work in the background died.
    #[error("compiling the packages stopped")]
    Stopped(#[from] tokio::task::JoinError),
}

impl BytecodeError {
    fn inner(&self) -> Option<&dyn Failure> {
        Some(match self {
            BytecodeError::Base(error) => error,
            BytecodeError::Interpreter(error) => error,
            BytecodeError::Compile(error) => error,
            BytecodeError::Cache(error) => error,
            BytecodeError::Wheel(error) => error,
            BytecodeError::Archive { .. } | BytecodeError::Paths(_) | BytecodeError::Stopped(_) => return None,
        })
    }
}

impl Failure for BytecodeError {
    fn fault(&self) -> Fault {
        self.inner().map_or(Fault::Ours, Failure::fault)
    }

    fn remedy(&self) -> Option<String> {
        match self {
            BytecodeError::Archive { .. } => Some("remove that file: it is made again".to_owned()),
            other => other.inner().and_then(Failure::remedy),
        }
    }
}

impl Compiler {
    /// What the Python of a base is remembered by: the base's manifest, and where in it that is.
    fn name_of(&self, base: &Base) -> Digest {
        Digest::of(format!("{} {}", base.manifest.document.digest, self.interpreter).as_bytes())
    }

    /// The bytecode of every wheel, in their order, compiled for `folder` where the cache has none; where that cannot be written to, below `scratch`. `None`: the
    /// base has no whole Python where the list says.
    pub async fn archives(
        &self,
        laid: &Arc<Laid>,
        folder: &'static str,
        (cache, scratch): (&BytecodeCache, &Path),
        listener: &Listener,
    ) -> Result<Option<Vec<SplicedFile>>, BytecodeError> {
        let name = self.name_of(&self.base);
        let found: Vec<Option<SplicedFile>> = laid.wheels().iter().map(|wheel| cache.find(&wheel.digest(), &name)).collect();
        let missing = found.iter().filter(|found| found.is_none()).count();
        if missing == 0 {
            return Ok(Some(found.into_iter().flatten().collect()));
        }
        let (cache, scratch) = (cache.clone(), scratch.to_owned());
        let cache = tokio::task::spawn_blocking(move || cache.or_in(&scratch)).await?;
        let Some(interpreter) = self.runnable(&cache).await? else { return Ok(None) };
        listener(Event::Note(format!("compiling {missing} packages with the base's Python")));
        let make = |at: usize| {
            let (laid, interpreter, cache) = (laid.clone(), interpreter.clone(), cache.clone());
            tokio::task::spawn_blocking(move || compile(&interpreter, &laid.wheels()[at], folder, &cache, &name))
        };
        Ok(Some(complete(found, laid.clone(), &make).await?))
    }

    /// An interpreter for the base that can be run here: its own, else that of a sibling with the same standard library. `None`: the base has none.
    async fn runnable(&self, cache: &BytecodeCache) -> Result<Option<Interpreter>, BytecodeError> {
        let (own, modules) = match self.started(&self.base, cache).await {
            Ok(None) => return Ok(None),
            Ok(Some(interpreter)) => return Ok(Some(interpreter)),
            Err((error, None)) => return Err(error),
            Err((error, Some(interpreter))) => (error, interpreter.modules),
        };
        for sibling in &self.siblings {
            if let Ok(Some(interpreter)) = self.started(sibling, cache).await
                && interpreter.modules == modules
            {
                return Ok(Some(interpreter));
            }
        }
        Err(own)
    }

    /// The interpreter of a base, once it has been seen to start; `None`: there is none, or not all of it. An error has the interpreter that cannot be run here.
    async fn started(&self, base: &Base, cache: &BytecodeCache) -> Result<Option<Interpreter>, (BytecodeError, Option<Interpreter>)> {
        let was_there = cache.interpreter(&self.name_of(base)).is_some();
        let first = self.look(base, cache).await;
        match first {
            // A crash of the machine may have left it half written: it is taken out of the base once more.
            Err((BytecodeError::Compile(_), Some(_))) if was_there => {
                cache.forget_interpreter(&self.name_of(base));
                self.look(base, cache).await
            }
            other => other,
        }
    }

    async fn look(&self, base: &Base, cache: &BytecodeCache) -> Result<Option<Interpreter>, (BytecodeError, Option<Interpreter>)> {
        let Python::Here(interpreter) = self.interpreter(base, cache).await.map_err(|error| (error, None))? else { return Ok(None) };
        let to_start = interpreter.clone();
        let looked = tokio::task::spawn_blocking(move || compiler::is_self_contained(&to_start)).await;
        match looked.map_err(|error| (error.into(), None))? {
            Ok(is_whole) => Ok(is_whole.then_some(interpreter)),
            Err(error) => Err((error.into(), Some(interpreter))),
        }
    }

    /// The base's interpreter on this machine, taken out of its layers where it is not here yet.
    async fn interpreter(&self, base: &Base, cache: &BytecodeCache) -> Result<Python, BytecodeError> {
        let (name, of_cache) = (self.name_of(base), cache.clone());
        if let Some(found) = tokio::task::spawn_blocking(move || of_cache.interpreter(&name)).await? {
            return Ok(found);
        }
        let draft = cache.interpreter_draft()?;
        let mut extraction = Extraction::begin(&self.interpreter, draft.path())?;
        for layer in &base.manifest.layers {
            let blob = self.source.blob(layer).await?;
            let mut reader = SyncIoBridge::new(StreamReader::new(blob));
            let media_type = layer.media_type.clone();
            let adding = move || extraction.add(&media_type, &mut reader).map(|()| extraction);
            extraction = tokio::task::spawn_blocking(adding).await??;
        }
        let (of_cache, folder) = (cache.clone(), draft.path().to_owned());
        let keeping = move || -> Result<Python, BytecodeError> {
            Interpreter::complete(&folder)?;
            Ok(of_cache.keep_interpreter(draft, &name)?)
        };
        tokio::task::spawn_blocking(keeping).await?
    }
}

/// Fills the gaps: as many wheels at a time as there are cores, the one with the most sources first, since one that is begun last is waited for alone.
async fn complete(
    mut found: Vec<Option<SplicedFile>>,
    laid: Arc<Laid>,
    make: &impl Fn(usize) -> JoinHandle<Result<SplicedFile, BytecodeError>>,
) -> Result<Vec<SplicedFile>, BytecodeError> {
    let missing: Vec<usize> = (0..found.len()).filter(|at| found[*at].is_none()).collect();
    let weighing = move || -> Result<Vec<(u64, usize)>, WheelFileError> {
        let weight = |at: usize| Ok((laid.wheels()[at].sources()?.iter().map(|(_, file)| file.size_bytes).sum(), at));
        missing.into_iter().map(weight).collect()
    };
    let mut in_turn = tokio::task::spawn_blocking(weighing).await??;
    in_turn.sort_by(|one, other| other.cmp(one));
    let at_once = thread::available_parallelism().map_or(1, NonZero::get).min(AT_ONCE_MAX);
    let making = stream::iter(in_turn).map(async |(_, at)| Ok::<_, BytecodeError>((at, make(at).await??)));
    for (at, archive) in making.buffer_unordered(at_once).try_collect::<Vec<_>>().await? {
        found[at] = Some(archive);
    }
    Ok(found.into_iter().flatten().collect())
}

/// The bytecode of a wheel, into the cache.
fn compile(
    interpreter: &Interpreter,
    wheel: &Wheel,
    folder: &str,
    cache: &BytecodeCache,
    python: &Digest,
) -> Result<SplicedFile, BytecodeError> {
    let sources = wheel.sources()?;
    let mut writer = cache.writer()?;
    let to_compile = sources.iter().map(|(path, file)| compiler::Source { path, read: Box::new(move || wheel.read_file(path, file)) });
    if !sources.is_empty() {
        compiler::compile(interpreter, folder, to_compile.collect(), &mut |path, tag, bytes| {
            // One whose name would be too long has none, and is compiled by whoever imports it.
            place_of(path, tag).map_or(Ok(()), |place| writer.add(&place, bytes).map_err(io::Error::other))
        })?;
    }
    Ok(writer.commit(&wheel.digest(), python)?)
}

/// Where the bytecode of a source lies (PEP 3147): `a/b.py` -> `a/__pycache__/b.cpython-311.pyc`.
fn place_of(source: &TreePath, tag: &str) -> Option<TreePath> {
    let stem = source.file_name().strip_suffix(".py")?;
    let folder = source.parent().map_or_else(String::new, |folder| format!("{folder}/"));
    TreePath::new(&format!("{folder}__pycache__/{stem}.{tag}.pyc")).ok()
}

/// The source of what lies there.
fn source_of(bytecode: &TreePath) -> Option<TreePath> {
    let (stem, _tag) = bytecode.file_name().strip_suffix(".pyc")?.rsplit_once('.')?;
    let folder = bytecode.parent()?.parent().map_or_else(String::new, |folder| format!("{folder}/"));
    TreePath::new(&format!("{folder}{stem}.py")).ok()
}

/// The layer of all archives below `root`: of each source that is installed, its bytecode.
pub fn layer(laid: &Laid, archives: Vec<SplicedFile>, root: &TreePath, modified_s: u64) -> Result<PackedLayer, BytecodeError> {
    let mut files = Vec::new();
    for (archive, spliced) in archives.iter().enumerate() {
        let damaged = |source| BytecodeError::Archive { path: spliced.local.path.display().to_string(), source };
        let file = File::open(&spliced.local.path).map_err(|error| damaged(ZipError::Read(error)))?;
        for member in zip_directory::read(&file, spliced.size_bytes).map_err(damaged)? {
            let ZipMember { name, deflated, crc32, size_bytes, offset_bytes, packed_bytes, .. } = member;
            let path = TreePath::new(&name).map_err(|_| damaged(ZipError::Damaged("a path")))?;
            // Of two wheels with one source, the one whose source is installed; and never in the way of a file of a package.
            if source_of(&path).and_then(|source| laid.owner(&source)) == Some(archive) && laid.has_room(&path) {
                let body = Body::Member(Member { archive, offset_bytes, packed_bytes, deflated, crc32 });
                files.push((root.join(&path), PackedFile { size_bytes, executable: false, body }));
            }
        }
    }
    Ok(PackedLayer::new(archives, files.into_iter().collect(), modified_s)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytecode_lies_where_an_interpreter_looks_for_it() {
        for (source, bytecode) in [
            ("six.py", "__pycache__/six.cpython-311.pyc"),
            ("numpy/core/__init__.py", "numpy/core/__pycache__/__init__.cpython-311.pyc"),
            ("a/b.c.py", "a/__pycache__/b.c.cpython-311.pyc"),
        ] {
            let (source, bytecode) = (TreePath::new(source).unwrap(), TreePath::new(bytecode).unwrap());
            assert_eq!(place_of(&source, "cpython-311"), Some(bytecode.clone()));
            assert_eq!(source_of(&bytecode), Some(source));
        }
    }
}
