//! Python's sources to bytecode, by a base's own interpreter run as a mere program.
//!
//! `disk/interpreter.rs` has taken it out of the base; here it is started on this machine's kernel, without a container and with no variable of the user's, and told
//! by `compile.py` to compile. No code of a package or of a model is run: compiling reads a source and writes what it means.
//!
//! What must stay true: the bytecode follows from the interpreter, the source and its path, whatever the machine: no library of this machine's is loaded, and the
//! limits are the same everywhere. A source that is not valid is left out as installers leave it out; an interpreter that fails on one is an error, never a file
//! that is silently not there.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::disk::interpreter::Interpreter;
use crate::disk::wheel::WheelFileError;
use crate::fault::{Failure, Fault};
use crate::oci::path::TreePath;

/// Where an interpreter has its libraries.
const LIBRARIES: &str = "libraries";
const SCRIPT: &str = include_str!("compile.py");
/// The longest line of an answer: a message of Python's.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// The largest bytecode of one source that is believed.
const COMPILED_BYTES_MAX: u64 = 256 << 20;
/// What a source may take of memory, and of a processor: those of real packages need a tenth of it.
const MEMORY_BYTES_MAX: u64 = 2 << 30;
const PROCESSOR_S_MAX: u64 = 60;
/// What all sources of a wheel may take of a processor: TensorFlow's take twenty seconds.
const WHEEL_PROCESSOR_S_MAX: u64 = 900;

/// Why there is no bytecode.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It does not start.
    #[error("the Python of the base cannot be run on this machine to compile the packages")]
    Start(#[source] io::Error),
    /// What it may use cannot be said.
    #[error("the limits of this process do not let the Python of the base be given its own ({MEMORY_BYTES_MAX} bytes of memory)")]
    Limits(#[source] io::Error),
    /// A source cannot be read.
    #[error(transparent)]
    Source(#[from] WheelFileError),
    /// It stopped, or said something else.
    #[error("the Python of the base stopped while it compiled `{path}`{said}")]
    Stopped {
        /// The source at hand.
        path: String,
        /// What it wrote, as the end of a sentence.
        said: String,
    },
}

impl Failure for CompileError {
    fn fault(&self) -> Fault {
        match self {
            CompileError::Source(error) => error.fault(),
            CompileError::Start(_) | CompileError::Limits(_) => Fault::Usage,
            CompileError::Stopped { .. } => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            CompileError::Source(error) => error.remedy(),
            CompileError::Start(error) => Some(start_remedy(error).to_owned()),
            CompileError::Limits(_) => Some("raise them (`ulimit -v`, `ulimit -t`), or build with `--no-bytecode`".to_owned()),
            CompileError::Stopped { .. } => Some("require another version of the package, or build with `--no-bytecode`".to_owned()),
        }
    }
}

/// ENOEXEC: a program for another processor.
const NO_EXECUTABLE: i32 = 8;

fn start_remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(NO_EXECUTABLE) => {
            "build on a machine with the base's processor, or with `--no-bytecode`: a container then compiles what it imports at each start"
        }
        _ if error.kind() == io::ErrorKind::PermissionDenied => {
            "the cache may lie on a file system that runs no programs: name another folder in XDG_CACHE_HOME, or build with `--no-bytecode`"
        }
        _ => "build with `--no-bytecode`: a container then compiles what it imports at each start",
    }
}

/// Whether an interpreter finds all of its libraries in its own folder, and none of this machine's.
pub fn is_self_contained(interpreter: &Interpreter) -> Result<bool, CompileError> {
    let output = command(interpreter, &["--list"]).and_then(|mut command| command.stdin(Stdio::null()).output());
    let output = output.map_err(CompileError::Start)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
        return Err(CompileError::Start(io::Error::other(format!("its loader ends with {}: {said}", output.status))));
    }
    // `libz.so.1 => libraries/libz.so.1 (0x…)`, of what is nowhere `=> not found`, and of the loader the path that it was started by.
    let folder = fs::canonicalize(&interpreter.folder).map_err(CompileError::Start)?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut found = listed.lines().filter_map(|line| line.split_once("=> ")).map(|(_, place)| place);
    Ok(found.all(|place| place.starts_with(LIBRARIES) || Path::new(place).starts_with(&folder)))
}

/// The interpreter, with words for its loader. Paths are relative to its folder: the loader and Python split theirs at colons.
fn command(interpreter: &Interpreter, words: &[&str]) -> io::Result<Command> {
    let folder = fs::canonicalize(&interpreter.folder)?;
    let loader = interpreter.loader.file_name().ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(folder.join(LIBRARIES).join(loader));
    // glibc's would else look a library up in the list of this machine's.
    if loader.to_string_lossy().starts_with("ld-linux") {
        command.arg("--inhibit-cache");
    }
    command.args(["--library-path", LIBRARIES]).args(words).arg("./python").current_dir(folder);
    // A set of constants is written in the order of its hashes. Not `.`: before 3.13 that becomes `.lib`.
    command.env_clear().env("PYTHONHOME", "./").env("PYTHONHASHSEED", "0").env("LC_ALL", "C.UTF-8");
    Ok(command)
}

/// A source to be compiled.
pub struct Source<'a> {
    /// Its place below the folder of packages.
    pub path: &'a TreePath,
    /// Reads it.
    pub read: Box<dyn FnOnce() -> Result<Vec<u8>, WheelFileError> + Send + 'a>,
}

/// Takes the bytecode of a source: its path, the tag of the interpreter's bytecode, the bytes.
pub type Sink<'a> = &'a mut dyn FnMut(&TreePath, &str, &[u8]) -> io::Result<()>;

/// Compiles `sources`, which lie below `folder` in the image. Gives the paths that are not valid sources for this Python.
pub fn compile(interpreter: &Interpreter, folder: &str, sources: Vec<Source<'_>>, sink: Sink<'_>) -> Result<Vec<TreePath>, CompileError> {
    let mut child = start(interpreter, folder)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else { unreachable!("all are pipes") };
    let paths: Vec<TreePath> = sources.iter().map(|source| source.path.clone()).collect();
    let talked = thread::scope(|scope| {
        // A thread that cannot be had drops its pipe, and so ends the other's talk.
        let feeding = thread::Builder::new().spawn_scoped(scope, move || feed(stdin, sources));
        let complaining = thread::Builder::new().spawn_scoped(scope, move || last_line(stderr));
        let taken = take(stdout, &paths, sink);
        if taken.is_err() {
            // What it has not read yet is not waited for.
            let _ = child.kill();
        }
        let fed = feeding.map(|feeding| feeding.join().unwrap_or(Ok(())));
        let complaint = complaining.map(|complaining| complaining.join().unwrap_or_default());
        Ok((taken, fed?, complaint?))
    });
    let _ = child.wait();
    let (taken, fed, complaint) = talked.map_err(CompileError::Start)?;
    match (taken, fed) {
        // A source that cannot be read is the cause, and the interpreter's end the consequence.
        (_, Err(error)) => Err(error.into()),
        (Ok(left_out), Ok(())) => Ok(left_out),
        (Err(Broken { path: None, .. }), _) => Err(CompileError::Start(io::Error::other(complaint))),
        (Err(Broken { path: Some(path), how }), _) => {
            let said = [how, complaint].iter().filter(|text| !text.is_empty()).fold(String::new(), |said, text| said + ": " + text);
            Err(CompileError::Stopped { path: path.to_string(), said })
        }
    }
}

fn start(interpreter: &Interpreter, folder: &str) -> Result<Child, CompileError> {
    let mut command = command(interpreter, &[]).map_err(CompileError::Start)?;
    // No user's packages, no site, no bytecode of its own; warnings about sources are the packages' makers' matter.
    command.args(["-s", "-S", "-B", "-W", "ignore", "-c", SCRIPT]).arg(format!("/{folder}/"));
    command.args([MEMORY_BYTES_MAX, WHEEL_PROCESSOR_S_MAX].map(|most| most.to_string()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(CompileError::Start)?;
    // It waits for the first source: what a package's source costs is bounded before there is one.
    let limits = [(Resource::As, MEMORY_BYTES_MAX), (Resource::Cpu, PROCESSOR_S_MAX), (Resource::Core, 0)];
    let process = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let limited = process.ok_or(Errno::SRCH).and_then(|process| {
        limits.into_iter().try_for_each(|(resource, most)| {
            prlimit(Some(process), resource, Rlimit { current: Some(most), maximum: Some(most) }).map(drop)
        })
    });
    match limited {
        // One that has ended already says so by its pipes.
        Ok(()) | Err(Errno::SRCH) => Ok(child),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(CompileError::Limits(error.into()))
        }
    }
}

/// Writes the sources. A pipe that is closed is not its failure: the interpreter has stopped, and the other end says why.
fn feed(stdin: ChildStdin, sources: Vec<Source<'_>>) -> Result<(), WheelFileError> {
    let mut stdin = io::BufWriter::with_capacity(1 << 16, stdin);
    for source in sources {
        let bytes = (source.read)()?;
        let written = writeln!(stdin, "{} {}", bytes.len(), source.path).and_then(|()| stdin.write_all(&bytes));
        if written.is_err() {
            break;
        }
    }
    Ok(())
}

/// Where the answers ended; `None`: before the first.
struct Broken<'a> {
    path: Option<&'a TreePath>,
    how: String,
}

fn take<'a>(stdout: ChildStdout, paths: &'a [TreePath], sink: Sink<'_>) -> Result<Vec<TreePath>, Broken<'a>> {
    let mut answers = BufReader::new(stdout);
    let tag = line(&mut answers).ok().filter(|tag| is_tag(tag)).ok_or(Broken { path: None, how: String::new() })?;
    let mut left_out = Vec::new();
    for path in paths {
        let broken = |how: String| Broken { path: Some(path), how };
        let answer = line(&mut answers).map_err(|error| broken(error.to_string()))?;
        let (word, rest) = answer.split_once(' ').unwrap_or((&answer, ""));
        match word {
            "compiled" => {
                let size_bytes = rest.parse().ok().filter(|size_bytes| *size_bytes <= COMPILED_BYTES_MAX);
                let size_bytes = size_bytes.ok_or_else(|| broken(format!("it announced `{rest}` bytes")))?;
                let mut bytes = Vec::new();
                let read = answers.by_ref().take(size_bytes).read_to_end(&mut bytes).map_err(|error| broken(error.to_string()))?;
                if read as u64 != size_bytes {
                    return Err(broken("its answer is cut".to_owned()));
                }
                sink(path, &tag, &bytes).map_err(|error| broken(error.to_string()))?;
            }
            "left" => left_out.push(path.clone()),
            "died" => return Err(broken(rest.to_owned())),
            _ => return Err(broken(String::new())),
        }
    }
    Ok(left_out)
}

/// `cpython-311`, and nothing that would lead elsewhere as part of a file's name.
fn is_tag(tag: &str) -> bool {
    !tag.is_empty() && tag.len() < 64 && tag.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_')
}

fn line(answers: &mut BufReader<ChildStdout>) -> io::Result<String> {
    let mut line = Vec::new();
    answers.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    match line.pop() {
        Some(b'\n') => String::from_utf8(line).map_err(|_| io::Error::other("its answer is no text")),
        _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
    }
}

/// The last line of what it complained of; all of it is read, or it would wait for a reader.
fn last_line(stderr: ChildStderr) -> String {
    let (mut complaint, mut rest) = (Vec::new(), stderr);
    let _ = rest.by_ref().take(LINE_BYTES_MAX).read_to_end(&mut complaint);
    let _ = io::copy(&mut rest, &mut io::sink());
    String::from_utf8_lossy(&complaint).lines().last().unwrap_or_default().trim().to_owned()
}
