//! The check `pickle`: what loading a model's pickles would run that no model needs.
//!
//! Every file is looked at by its content. A pickle has no mark up to protocol 1, and none that it must have later, so a file is one when Python's unpickler
//! would run it as far as a call: texts and weights end it within a few bytes (`pickle_machine.rs`). Where the name or the first bytes say that it is one, the
//! call is not waited for. Looked into are also zips (PyTorch's, `.npz`), NumPy arrays of objects, and what joblib packs (`unpacked.rs`). Which names are
//! suspicious is in `pickle_names.rs`. Also told: functions that were pickled as bytecode, which only the Python that wrote it can load, and what could not be
//! looked at.
//!
//! It proves nothing: names can be put together at run time. What must stay true: nothing is loaded, what is read of one file is bounded, and what was left out for a bound
//! is said.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Seek, SeekFrom};

use super::fit::{Check, Finding, Place, Severity};
use super::pickle::{End, Global, Pickles, Scan};
use super::pickle_names::{self, Verdict};
use super::unpacked::{self, Forward, Packing};
use super::zip_members;

/// Names of files that are pickles, whatever they begin with.
const EXTENSIONS: &[&str] = &["pkl", "pickle", "joblib", "pck", "pcl", "p", "pt", "pth", "dill", "sav"];

/// What a compressed one ends with.
const PACKED: &[&str] = &["gz", "z", "bz2", "xz", "lzma", "lz4", "zst", "zip"];

/// Pickles one after the other in one file, as torch wrote them.
const PICKLES_MAX: usize = 10_000;

/// Pickles inside of a pickle that are looked at: the tensors of a model that was pickled without torch's own means.
const INNER_MAX: usize = 2_000;

/// How much of a member of an archive is unpacked.
const MEMBER_BYTES_MAX: u64 = 16 << 20;

/// Findings of one file; a pickle may import one name any number of times.
const FINDINGS_MAX: usize = 20;

const ZIP: &[u8] = b"PK\x03\x04";

const DISTRUST: &str = "let nothing load it unless you know who made it";

/// What is suspicious in a file, if it holds pickles; `None` where it is something else.
pub(super) fn check<R: Read + Seek>(file: &str, mut source: R, size_bytes: u64) -> Option<Vec<Finding>> {
    let mut head = Vec::new();
    (&mut source).take(16).read_to_end(&mut head).ok()?;
    source.seek(SeekFrom::Start(0)).ok()?;
    let name = file.rsplit('/').next().unwrap_or(file).to_ascii_lowercase();
    let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, ""));
    let extension = if PACKED.contains(&extension) { stem.rsplit_once('.').map_or("", |(_, extension)| extension) } else { extension };
    let is_named = EXTENSIONS.contains(&extension);
    let mut found = Found { file: file.to_owned(), is_named, findings: Vec::new(), seen: BTreeSet::new() };
    let is_one = match Packing::of(&head) {
        // The layers of a Keras archive are another check's.
        _ if head.starts_with(ZIP) && name.ends_with(".keras") => false,
        _ if head.starts_with(ZIP) => found.zip(source),
        Some(packing) => found.packed(packing, source, size_bytes),
        None => found.plain(source, size_bytes),
    };
    (is_one || !found.findings.is_empty()).then_some(found.findings)
}

/// Where pickles inside of others are; `None`: not among the file's own bytes.
type Inner = BTreeSet<Option<(u64, u64)>>;

/// The findings of one file.
struct Found {
    file: String,
    /// Whether its name is that of a pickle.
    is_named: bool,
    findings: Vec<Finding>,
    seen: BTreeSet<(String, String)>,
}

impl Found {
    /// The members of a zip: those that are called as pickles are, and others that are some.
    fn zip<R: Read + Seek>(&mut self, source: R) -> bool {
        let is_wanted = |name: &str| [".pkl", ".npy", ".pickle", ".joblib"].iter().any(|end| name.ends_with(end));
        let (is_named, mut has_pickles) = (self.is_named, false);
        let is_whole = zip_members::each(source, is_wanted, |name, member| {
            let inside = format!("in `{}`", shown(name));
            self.is_named = is_wanted(name);
            match member {
                Some(member) => {
                    let mut stream = Forward::new(member, MEMBER_BYTES_MAX);
                    let (is_one, inner) = self.pickles(&inside, &mut stream, u64::MAX);
                    self.broken(&inside, &stream, is_one, "is packed in a way that cannot be read");
                    // Not in an archive: torch has its own place for them there.
                    self.inner(&inside, std::io::empty(), inner.into_iter().map(|_| None).collect());
                    has_pickles |= is_one;
                }
                None if self.is_named => self.add(0, &inside, "cannot be unpacked, and was not looked into", DISTRUST),
                None => {}
            }
        });
        self.is_named = is_named;
        if !is_whole && (is_named || has_pickles) {
            self.add(0, "", "is an archive that cannot be read to its end, and not all of it was looked into", DISTRUST);
        }
        has_pickles
    }

    /// What joblib has packed.
    fn packed<R: Read + Seek>(&mut self, packing: Packing, mut source: R, size_bytes: u64) -> bool {
        if packing == Packing::Zstd {
            // Nothing that loads pickles tells it by itself: only the name does.
            if self.is_named {
                self.add(0, "", "is compressed with zstd, which is not looked into", "compress it with gzip or xz in place of it");
            }
            return self.is_named;
        }
        let bytes_max = unpacked::unpacked_bytes_max(size_bytes);
        let mut stream = Forward::unpacked(packing, &mut source, bytes_max);
        let (is_one, inner) = self.pickles("(unpacked)", &mut stream, u64::MAX);
        self.broken("", &stream, is_one, &format!("is compressed with {}, and cannot be unpacked here", packing.word()));
        drop(stream);
        // A stream is gone forward in, so it is unpacked once more.
        if !inner.is_empty() && source.seek(SeekFrom::Start(0)).is_ok() {
            self.inner("(unpacked)", Forward::unpacked(packing, source, bytes_max), inner);
        }
        is_one
    }

    /// What lies there as it is.
    fn plain<R: Read + Seek>(&mut self, mut source: R, size_bytes: u64) -> bool {
        let (is_one, inner) = self.pickles("", &mut source, size_bytes);
        self.inner("", source, inner);
        is_one
    }

    /// Says that a stream was not looked at to its end, where it holds a pickle, or may.
    fn broken(&mut self, inside: &str, stream: &Forward<'_>, is_one: bool, cannot: &str) {
        let Some(failure) = stream.failure() else { return };
        let (at, is_one) = (stream.unpacked_bytes(), is_one || self.is_named);
        match failure.kind() {
            ErrorKind::FileTooLarge if is_one => {
                let what = format!("was unpacked up to byte {at}, and what comes after that was not looked into");
                self.add(at, inside, &what, DISTRUST);
            }
            ErrorKind::OutOfMemory => {
                let what = format!("{cannot}: that takes more memory than its highest level (-9) does");
                self.add(at, inside, &what, "compress it anew");
            }
            _ if is_one => self.add(at, inside, &format!("{cannot} past byte {at} ({failure})"), DISTRUST),
            _ => {}
        }
    }

    /// The pickles that `source` begins with, behind the header of an array where it is one: whether there are any, and where those inside of them are.
    fn pickles<R: Read + Seek>(&mut self, inside: &str, source: R, end: u64) -> (bool, Inner) {
        let mut pickles = Pickles::new(source, 0, end);
        match pickles.pass_array_header() {
            Some(is_array) => self.each(inside, pickles, self.is_named || is_array),
            None => (false, Inner::new()),
        }
    }

    /// Pickles inside of others, front to back: those of tensors that were pickled without torch's own means.
    fn inner<R: Read + Seek>(&mut self, inside: &str, mut source: R, inner: Inner) {
        for (number, range) in inner.into_iter().enumerate() {
            let within = format!("{inside} in a pickle inside").trim_start().to_owned();
            let is_read = match range {
                Some((start, end)) if number < INNER_MAX && source.seek(SeekFrom::Start(start)).is_ok() => {
                    let mut pickles = Pickles::new(&mut source, start, end);
                    // What torch writes in there is no archive.
                    !pickles.starts_with(ZIP) && self.each(&within, pickles, true).1.is_empty()
                }
                _ => false,
            };
            if !is_read {
                let at = range.map_or(0, |(start, _)| start);
                self.add(at, inside, "holds a pickle in a pickle, which was not looked into", "save the model with `torch.save`");
                break;
            }
        }
    }

    /// Pickles behind each other; whether there are any, and where those inside of them are.
    fn each<R: Read + Seek>(&mut self, inside: &str, mut pickles: Pickles<R>, is_said: bool) -> (bool, Inner) {
        let (mut is_one, mut inner) = (false, Inner::new());
        for number in 0..=PICKLES_MAX {
            let (at, is_said) = (pickles.at(), is_said && number == 0 || pickles.is_marked());
            let scan = pickles.scan();
            let runs = scan.called && (!scan.globals.is_empty() || scan.unresolved > 0);
            is_one |= is_said || runs || scan.end == End::Limit;
            if is_said || runs || scan.end == End::Limit {
                self.judge(&scan, at, inside);
            }
            inner.extend(scan.inner.into_iter().map(|range| range.map(|range| (range.start, range.end))));
            if scan.end != End::Stop {
                break;
            }
            if number == PICKLES_MAX {
                self.add(at, inside, "holds more pickles behind each other than are looked at", DISTRUST);
            }
        }
        (is_one, inner)
    }

    fn judge(&mut self, scan: &Scan, at: u64, inside: &str) {
        for global in &scan.globals {
            self.judge_import(global, inside);
        }
        for attribute in &scan.attributes {
            let problem = match &attribute.name {
                Some(name) if pickle_names::is_suspicious_attribute(name) => {
                    format!("fetches `{}` of what it has made when it is loaded, which no model needs", shown(name))
                }
                Some(_) => continue,
                None => "fetches something by a name that cannot be followed when it is loaded, which no pickler writes".to_owned(),
            };
            if self.seen.insert((problem.clone(), inside.to_owned())) {
                self.add(attribute.offset as u64, inside, &problem, DISTRUST);
            }
        }
        if scan.unresolved > 0 {
            let what = format!("has {} imports whose names cannot be followed, which no pickler writes", scan.unresolved);
            self.add(at, inside, &what, DISTRUST);
        }
        if matches!(scan.end, End::Limit | End::RawArray) {
            self.add(scan.end_offset as u64, inside, "is a pickle that was looked at up to here and no further", DISTRUST);
        }
    }

    fn judge_import(&mut self, global: &Global, inside: &str) {
        let name = format!("{}.{}", global.module, global.name).trim_end_matches('.').to_owned();
        let (problem, remedy) = match pickle_names::judge(global) {
            Verdict::Harmless => return,
            Verdict::Suspicious => {
                let problem = format!("imports `{}`, which is run when it is loaded, and which no model needs", shown(&name));
                (problem, "let nothing load it unless you know who made it, and save the model again where it was trained")
            }
            Verdict::Bytecode => {
                let problem =
                    format!("holds a function as bytecode (`{}`), which only the Python version that wrote it can load", shown(&name));
                (problem, "put the function into a module below `src/` and pickle the model without it")
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Write as _};

    fn found(file: &str, bytes: &[u8]) -> Vec<String> {
        check(file, Cursor::new(bytes), bytes.len() as u64).unwrap_or_default().iter().map(Finding::problem).collect()
    }

    const EVIL: &[u8] = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x8c\x04true\x85R.";
    const NOTHING: Vec<String> = Vec::new();

    #[test]
    fn what_a_pickle_would_run_is_named_with_its_place() {
        let expected = "`m.pkl` at byte 16 imports `os.system`, which is run when it is loaded, and which no model needs";
        assert_eq!(found("m.pkl", EVIL), [expected]);
        assert!(found("m.pkl", b"c__builtin__\neval\n(S'1'\ntR.")[0].contains("at byte 0 imports `__builtin__.eval`"));
        assert!(found("m.pkl", b"cnumpy\ntesting.os.system\n.")[0].contains("`numpy.testing.os.system`"));
        assert!(found("m.pkl", b"cdill._dill\n_create_code\n.")[0].contains("as bytecode"));
        assert_eq!(found("m.pkl", b"csklearn.svm\nSVC\n)\x81}b."), NOTHING);
    }

    #[test]
    fn a_file_of_any_name_is_looked_at_and_a_text_is_no_pickle() {
        for evil in [
            EVIL,
            &EVIL[2..],
            b"cos\nsystem\n(S'true'\ntR.",
            b"(S'true'\nios\nsystem\n.",
            b"(cos\nsystem\nS'true'\no.",
            // What has been called by then has run.
            b"cos\nsystem\n(S'true'\ntRgarbage",
            b"\x80\x01I1\n0cos\nsystem\n(S'true'\ntR.",
        ] {
            for name in ["weights.bin", "README", "notes.txt", "a.png", "m.onnx"] {
                assert!(found(name, evil).first().is_some_and(|said| said.contains("`os.system`")), "{name} {evil:?}");
            }
        }
        for text in [
            "cos\ncosine\ncosmic\n",
            "class os\nsystem\n",
            "import os\nos.system('x')\n",
            "(os, system)\n",
            "I,d\n1,2\n",
            "N.\n",
            "Salary\n.\n",
        ] {
            assert_eq!(check("words.txt", Cursor::new(text), text.len() as u64), None, "{text}");
        }
    }

    #[test]
    fn an_attribute_is_told_where_it_leads_somewhere() {
        let bound = b"\x80\x03cbuiltins\ngetattr\nq\0csklearn.svm\nSVC\n)\x81X\x07\0\0\0predict\x86R.";
        assert_eq!(found("m.pkl", bound), NOTHING);
        let globals = b"\x80\x03cbuiltins\ngetattr\ncbuiltins\ngetattr\ncm\nf\nX\x0b\0\0\0__globals__\x86RX\x03\0\0\0get\x86R.";
        assert!(found("m.pkl", globals)[0].contains("imports `m.f.__globals__`"), "{:?}", found("m.pkl", globals));
        let made = b"\x80\x03cbuiltins\ngetattr\ncm\nf\n)RX\x06\0\0\0system\x86R.";
        assert!(found("m.pkl", made)[0].contains("fetches `system` of what it has made"), "{:?}", found("m.pkl", made));
        let handed_on = b"\x80\x03cfunctools\nreduce\ncbuiltins\ngetattr\n]\x86R.";
        assert!(found("m.pkl", handed_on)[0].contains("by a name that cannot be followed"), "{:?}", found("m.pkl", handed_on));
    }

    #[test]
    fn pickles_are_found_behind_each_other_in_arrays_and_in_each_other() {
        for before in [b"\x80\x02N.".as_slice(), b"I01\n."] {
            let two = [before, EVIL].concat();
            assert!(found("weights", &two)[0].contains(&format!("at byte {} ", before.len() + 16)), "{:?}", found("weights", &two));
        }
        let header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n";
        let array = [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header, EVIL].concat();
        assert!(found("a.npy", &array)[0].contains("os.system"));
        let plain = [b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8'}".as_slice(), EVIL].concat();
        assert_eq!(found("a.npy", &plain), NOTHING);
        let load =
            |bytes: &[u8]| [b"\x80\x03ctorch.storage\n_load_from_bytes\nC".as_slice(), &[bytes.len() as u8], bytes, b"\x85R."].concat();
        assert!(found("m.pkl", &load(EVIL))[0].contains("in a pickle inside imports `os.system`"), "{:?}", found("m.pkl", &load(EVIL)));
        assert_eq!(found("m.pkl", &load(b"\x80\x02N.\x80\x02].weights")), NOTHING);
        assert!(found("m.pkl", &load(b"PK\x03\x04"))[0].contains("not looked into"));
    }

    #[test]
    fn what_is_packed_is_unpacked_as_far_as_it_may_be() {
        let packed = |bytes: &[u8]| {
            let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            packed.write_all(bytes).unwrap();
            packed.finish().unwrap()
        };
        assert!(found("m", &packed(EVIL))[0].contains(" (unpacked) imports `os.system`"));
        let text = packed(b"a text of many words, and no pickle");
        assert_eq!(check("notes.z", Cursor::new(&text), text.len() as u64), None);
        // Behind 17 MiB that nobody needs; behind more than is unpacked of so little; cut.
        let behind =
            |bytes: u32| packed(&[b"\x80\x03B".as_slice(), &bytes.to_le_bytes(), &vec![0; bytes as usize], b"0", &EVIL[2..]].concat());
        assert!(found("m", &behind(15 << 20))[0].contains("imports `os.system`"));
        assert!(found("m", &behind(40 << 20))[0].contains("was unpacked up to byte 16777216"), "{:?}", found("m", &behind(40 << 20)));
        let cut = behind(1 << 20);
        assert!(found("m", &cut[..cut.len() - 30])[0].contains("cannot be unpacked here past byte"));
        assert!(found("m.pkl.zst", b"\x28\xb5\x2f\xfd\x04\0")[0].contains("compressed with zstd"));
        assert_eq!(found("data.zst", b"\x28\xb5\x2f\xfd\x04\0"), NOTHING);
    }

    #[test]
    fn a_zip_is_looked_into_whatever_its_members_are_called() {
        let zip = |name: &str, bytes: &[u8]| {
            let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
            zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
            zip.finish().unwrap().into_inner()
        };
        for name in ["archive/data.pkl", "archive/weights"] {
            let bytes = zip(name, EVIL);
            assert!(
                found("m.pt", &bytes)[0].contains(&format!("at byte 16 in `{name}` imports `os.system`")),
                "{:?}",
                found("m.pt", &bytes)
            );
        }
        assert_eq!(found("m.zip", &zip("a.txt", b"cos\nsystem\n")), NOTHING);
        let mut broken = zip("archive/data.pkl", EVIL);
        broken.truncate(60);
        assert!(found("m.pt", &broken)[0].contains("cannot be read to its end"));
        assert_eq!(found("data.zip", &broken), NOTHING);
    }

    #[test]
    fn what_was_not_looked_at_for_a_bound_is_told() {
        let long = [b"N0".repeat(1_000_001).as_slice(), EVIL].concat();
        assert!(found("weights.bin", &long)[0].contains("looked at up to here and no further"), "{:?}", found("weights.bin", &long));
    }
}
