//! The check `pickle`: what loading a model's pickles would run that no model needs.
//!
//! Pickles are found in files of their own (`.pkl`, joblib's, torch's before 1.6), in the zips of PyTorch, and behind the header of NumPy arrays of objects,
//! alone or in an `.npz`. Which names are suspicious follows the lists that picklescan and fickling keep in public: what starts programs, opens
//! connections, runs text as code, or reaches anything by its name. Also told: functions that were pickled as bytecode, which only the Python that wrote
//! it can load.
//!
//! It proves nothing: what is compressed as bzip2, xz or lz4 is not looked into, and names can be put together at run time. What must stay true: nothing is loaded, and what is read of one file is bounded.

use std::collections::BTreeSet;
use std::io::{Cursor, Read, Seek, SeekFrom};

use flate2::read::MultiGzDecoder;
use flate2::read::ZlibDecoder;

use super::fit::{Check, Finding, Place, Severity};
use super::pickle::{self, End, Global};
use super::zip_members;

/// Names of files that are taken for pickles, whatever they begin with: up to protocol 1 a pickle has no mark.
const EXTENSIONS: &[&str] = &["pkl", "pickle", "joblib", "pck", "pcl", "p", "pt", "pth", "dill", "sav"];

/// Pickles one after the other in one file, as torch wrote them.
const PICKLES_MAX: usize = 20;

/// Members of an archive that are looked at, and how much of each.
const MEMBERS_MAX: usize = 1_000;
const MEMBER_BYTES_MAX: u64 = 16 << 20;

/// How much of a compressed pickle is looked at.
const UNPACKED_BYTES_MAX: u64 = 16 << 20;

/// Findings of one file; a pickle may import one name any number of times.
const FINDINGS_MAX: usize = 20;

/// Modules of which nothing belongs in a model.
const MODULES: &[&str] = &[
    "os",
    "posix",
    "nt",
    "subprocess",
    "pty",
    "shutil",
    "socket",
    "ssl",
    "asyncio",
    "http",
    "httplib",
    "urllib",
    "urllib2",
    "urllib3",
    "requests",
    "httpx",
    "aiohttp",
    "ftplib",
    "smtplib",
    "telnetlib",
    "xmlrpc",
    "paramiko",
    "webbrowser",
    "ctypes",
    "importlib",
    "imp",
    "runpy",
    "codeop",
    "pdb",
    "bdb",
    "timeit",
    "cProfile",
    "pip",
    "marshal",
    "sys",
    "signal",
    "venv",
    "ensurepip",
    "pickle",
];

/// Functions that do it in modules that are otherwise harmless.
const NAMES: &[(&str, &str)] = &[
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "execfile"),
    ("builtins", "compile"),
    ("builtins", "open"),
    ("builtins", "__import__"),
    ("builtins", "getattr"),
    ("builtins", "setattr"),
    ("builtins", "delattr"),
    ("builtins", "globals"),
    ("builtins", "locals"),
    ("builtins", "vars"),
    ("builtins", "breakpoint"),
    ("builtins", "input"),
    ("io", "open"),
    ("io", "FileIO"),
    ("_io", "open"),
    ("_io", "FileIO"),
    ("_pickle", "loads"),
    ("_pickle", "load"),
    ("cloudpickle", "loads"),
    ("dill", "loads"),
    ("joblib", "load"),
    ("numpy", "load"),
    ("pandas", "read_pickle"),
    ("pandas.io.pickle", "read_pickle"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("torch.serialization", "load"),
    ("numpy.testing._private.utils", "runstring"),
    ("numpy.f2py.crackfortran", "getlincoef"),
    ("operator", "methodcaller"),
];

/// What makes a function out of bytecode.
const BYTECODE: &[(&str, &str)] = &[
    ("types", "CodeType"),
    ("types", "FunctionType"),
    ("dill._dill", "_create_code"),
    ("dill._dill", "_create_function"),
    ("cloudpickle.cloudpickle", "_builtin_type"),
    ("cloudpickle.cloudpickle", "_make_function"),
    ("cloudpickle.cloudpickle", "_make_skel_func"),
    ("cloudpickle.cloudpickle", "_fill_function"),
    ("cloudpickle.cloudpickle", "_function_setstate"),
];

/// Whether a file is worth a look, by its name (in lower case) and its first bytes.
pub(super) fn may_be(name: &str, head: &[u8]) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let is_zip = head.starts_with(ZIP) && extension != "keras";
    EXTENSIONS.contains(&extension) || is_zip || head.starts_with(ARRAY) || is_marked(head)
}

const ZIP: &[u8] = b"PK\x03\x04";
const ARRAY: &[u8] = b"\x93NUMPY";

/// Protocol 2 and later: the opcode that names the protocol, and from 4 on the opcode of a frame.
fn is_marked(head: &[u8]) -> bool {
    matches!(head, [0x80, 2 | 3, ..] | [0x80, 4 | 5, 0x95, ..])
}

/// What is suspicious in a file that may hold pickles.
pub(super) fn check<R: Read + Seek>(file: &str, mut source: R, size_bytes: u64) -> Vec<Finding> {
    let mut head = Vec::new();
    if (&mut source).take(16).read_to_end(&mut head).is_err() {
        return Vec::new();
    }
    let mut found = Found { file: file.to_owned(), findings: Vec::new(), seen: BTreeSet::new() };
    if head.starts_with(ZIP) {
        let wanted = |name: &str| [".pkl", ".npy", ".pickle", ".joblib"].iter().any(|end| name.ends_with(end));
        zip_members::each(source, MEMBERS_MAX, MEMBER_BYTES_MAX, wanted, |name, bytes| {
            let size_bytes = bytes.len() as u64;
            found.pickles(&format!("in `{}`", shown(name)), Cursor::new(bytes), size_bytes);
        });
    } else if head.starts_with(b"\x1f\x8b") {
        found.unpacked(MultiGzDecoder::new(from_start(source)));
    } else if matches!(head[..], [0x78, flags, ..] if u16::from_be_bytes([0x78, flags]).is_multiple_of(31)) {
        found.unpacked(ZlibDecoder::new(from_start(source)));
    } else {
        found.pickles("", source, size_bytes);
    }
    found.findings
}

fn from_start<R: Read + Seek>(mut source: R) -> R {
    // A source that cannot go back gives bytes that are no stream of theirs, which ends the unpacking.
    let _ = source.seek(SeekFrom::Start(0));
    source
}

/// The findings of one file.
struct Found {
    file: String,
    findings: Vec<Finding>,
    seen: BTreeSet<(String, String)>,
}

impl Found {
    fn unpacked(&mut self, stream: impl Read) {
        let mut bytes = Vec::new();
        // What was unpacked before the stream broke is looked at.
        let _ = stream.take(UNPACKED_BYTES_MAX).read_to_end(&mut bytes);
        let size_bytes = bytes.len() as u64;
        self.pickles("(unpacked)", Cursor::new(bytes), size_bytes);
    }

    /// The pickles that `source` begins with, behind the header of an array where it is one.
    fn pickles<R: Read + Seek>(&mut self, inside: &str, mut source: R, size_bytes: u64) {
        let Some(mut at) = first_pickle(&mut source, size_bytes) else { return };
        for _ in 0..PICKLES_MAX {
            let scan = pickle::scan(&mut source, at, size_bytes);
            for global in &scan.globals {
                self.judge(global, inside);
            }
            if scan.unresolved > 0 {
                let what = format!("has {} imports whose names cannot be followed, which no pickler writes", scan.unresolved);
                self.add(at, inside, &what, "let nothing load it unless you know who made it");
            }
            at = scan.end_offset as u64 + 1;
            let mut next = [0; 2];
            let read = source.seek(SeekFrom::Start(at)).and_then(|_| source.read_exact(&mut next));
            if scan.end != End::Stop || at >= size_bytes || read.is_err() || !matches!(next, [0x80, 2..=5]) {
                return;
            }
        }
    }

    fn judge(&mut self, global: &Global, inside: &str) {
        let name = format!("{}.{}", global.module, global.name);
        let (problem, remedy) = if is_suspicious(global) {
            let problem = format!("imports `{}`, which is run when it is loaded, and which no model needs", shown(&name));
            (problem, "let nothing load it unless you know who made it, and save the model again where it was trained")
        } else if BYTECODE.contains(&(global.module.as_str(), global.name.as_str())) {
            let problem =
                format!("holds a function as bytecode (`{}`), which only the Python version that wrote it can load", shown(&name));
            (problem, "put the function into a module below `src/` and pickle the model without it")
        } else {
            return;
        };
        if self.seen.insert((name, inside.to_owned())) {
            self.add(global.offset as u64, inside, &problem, remedy);
        }
    }

    fn add(&mut self, offset: u64, inside: &str, problem: &str, remedy: &str) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding {
                check: Check::Pickle,
                file: self.file.clone(),
                place: Place::Byte(offset),
                what: format!("{inside} {problem}").trim_start().to_owned(),
                remedy: remedy.to_owned(),
                severity: Severity::Warning,
            });
        }
    }
}

/// A stranger's name, on one line.
fn shown(name: &str) -> String {
    const CHARACTERS_MAX: usize = 120;
    name.chars().take(CHARACTERS_MAX).flat_map(char::escape_debug).collect()
}

/// Where the first pickle begins: behind the header of an array of objects, else at the beginning; `None` where there is none.
fn first_pickle<R: Read + Seek>(source: &mut R, size_bytes: u64) -> Option<u64> {
    const HEADER_BYTES_MAX: u64 = 64 << 10;
    let mut head = Vec::new();
    source.seek(SeekFrom::Start(0)).ok()?;
    (&mut *source).take(12).read_to_end(&mut head).ok()?;
    if !head.starts_with(ARRAY) {
        return (size_bytes > 0).then_some(0);
    }
    // Version 1 has two bytes for the header's length, later ones four (NumPy, `format.py`).
    let (start, header_bytes) = match *head.get(6)? {
        1 => (10, u64::from(u16::from_le_bytes(head.get(8..10)?.try_into().ok()?))),
        _ => (12, u64::from(u32::from_le_bytes(head.get(8..12)?.try_into().ok()?))),
    };
    let mut header = Vec::new();
    source.seek(SeekFrom::Start(start)).ok()?;
    (&mut *source).take(header_bytes.min(HEADER_BYTES_MAX)).read_to_end(&mut header).ok()?;
    // `'descr': '|O'`, alone or in a structure.
    let has_objects = header.windows(2).any(|window| window == b"|O");
    has_objects.then_some(start + header_bytes).filter(|at| *at < size_bytes)
}

fn is_suspicious(global: &Global) -> bool {
    let module = match global.module.as_str() {
        "__builtin__" => "builtins",
        module => module,
    };
    let root = module.split('.').next().unwrap_or_default();
    // `os.path` only puts paths together.
    if module == "posixpath" || module == "ntpath" || module == "os.path" {
        return false;
    }
    // From protocol 4 on a name may have dots and lead through any module to another: `numpy` and `testing.os.system`.
    let leads_to = |part: &str| ["os", "posix", "subprocess", "socket", "sys", "builtins", "importlib", "ctypes"].contains(&part);
    let last = global.name.rsplit('.').next().unwrap_or_default();
    let through = global.name.contains('.') && (global.name.split('.').any(leads_to) || NAMES.contains(&("builtins", last)));
    MODULES.contains(&root) || NAMES.contains(&(module, global.name.as_str())) || through
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, bytes: &[u8]) -> Vec<String> {
        check(file, Cursor::new(bytes), bytes.len() as u64).iter().map(Finding::problem).collect()
    }

    const EVIL: &[u8] = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x8c\x04true\x85R.";

    #[test]
    fn what_a_pickle_would_run_is_named_with_its_place() {
        let expected = "`m.pkl` at byte 16 imports `os.system`, which is run when it is loaded, and which no model needs";
        assert_eq!(found("m.pkl", EVIL), [expected]);
        assert!(found("m.pkl", b"c__builtin__\neval\n(S'1'\ntR.")[0].contains("at byte 0 imports `__builtin__.eval`"));
        assert!(found("m.pkl", b"cnumpy\ntesting.os.system\n.")[0].contains("`numpy.testing.os.system`"));
        assert!(found("m.pkl", b"cdill._dill\n_create_code\n.")[0].contains("as bytecode"));
        for harmless in
            ["csklearn.svm\nSVC\n.", "ccollections\nOrderedDict\n.", "c_codecs\nencode\n.", "cnumpy.core.multiarray\n_reconstruct\n."]
        {
            assert_eq!(found("m.pkl", harmless.as_bytes()), Vec::<String>::new());
        }
    }

    #[test]
    fn pickles_are_found_behind_each_other_in_arrays_and_packed() {
        let two = [b"\x80\x02N.".as_slice(), EVIL].concat();
        assert!(found("m.pt", &two)[0].contains("at byte 20 "), "{:?}", found("m.pt", &two));
        let header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n";
        let array = [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header, EVIL].concat();
        assert!(found("a.npy", &array)[0].contains("os.system"));
        let plain = [b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8'}".as_slice(), EVIL].concat();
        assert_eq!(found("a.npy", &plain), Vec::<String>::new());
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut packed, EVIL).unwrap();
        assert!(found("m.joblib", &packed.finish().unwrap())[0].contains(" (unpacked) imports `os.system`"));
    }

    #[test]
    fn a_zip_of_torch_is_looked_into() {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("archive/data.pkl", zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, EVIL).unwrap();
        let bytes = zip.finish().unwrap().into_inner();
        assert!(found("m.pt", &bytes)[0].contains("at byte 16 in `archive/data.pkl` imports `os.system`"), "{:?}", found("m.pt", &bytes));
    }
}
