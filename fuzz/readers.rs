//! The bodies of the fuzz targets: each gives a stranger's bytes to one reader and asserts what must be true of whatever it makes of them.
//!
//! libFuzzer calls them through `targets/`; `tests/contract/fuzz_corpus.rs` includes this file too and replays the corpus without it. A panic is a
//! finding; so is a run past the limits of `run.sh`. A new target is a function here, a file in `targets/`, a `[[bin]]` in `Cargo.toml` and a row
//! in [`READERS`].

use std::io::Cursor;

use lamina::contract::change::Change;
use lamina::contract::change::changes;
use lamina::contract::compare::differences;
use lamina::contract::contract::Contract;
use lamina::contract::contract::Field;
use lamina::contract::contract::Shape;
use lamina::contract::contract::Signature;
use lamina::contract::dtype::DataType;
use lamina::contract::file_kind;
use lamina::contract::keras;
use lamina::contract::onnx;
use lamina::contract::print::print;
use lamina::contract::reading::Reading;
use lamina::contract::sample;
use lamina::contract::saved_model_meta::Tags;
use lamina::contract::spark;
use lamina::contract::spark_metadata::MetadataFile;
use lamina::contract::table::table;
use lamina::contract::verdict::Verdict;
use lamina::contract::wire;
use lamina::contract::wire::Dialect;
use lamina::contract::wire::WireError;
use lamina::fault::Failure;
use lamina::fault::one_line;
use lamina::model::fit_judge;
use lamina::model::fit_judge::Ground;
use lamina::model::fit_judge::Packages;
use lamina::model::fit_scan;
use lamina::model::fit_scan::Facts;
use lamina::model::fit_scan::Look;
use lamina::model::foreign::recognise;
use lamina::model::framework::ReadSeek;
use lamina::model::pickle;
use lamina::model::requirements_lock::Lock;
use lamina::model::runtime::RuntimeList;
use lamina::model::tree::Tree;
use lamina::model::wheel_target::Target;
use lamina::oci::layer::Content;
use lamina::oci::layer::EntryKind;
use lamina::oci::path::TreePath;
use lamina::oci::platform::Platform;

/// A target: it takes bytes, and panics where something is not true of them.
#[allow(dead_code, reason = "as below")]
pub type Reader = fn(&[u8]);

/// Every target, by the name of its corpus folder.
#[allow(dead_code, reason = "each target names its own; the replay names all")]
pub const READERS: [(&str, Reader); 16] = [
    ("change", change),
    ("definition", definition),
    ("file_kind", file_kind),
    ("fit", fit),
    ("foreign", foreign),
    ("keras_archive", keras_archive),
    ("keras_hdf5", keras_hdf5),
    ("keras_json", keras_json),
    ("onnx", onnx),
    ("python_code", python_code),
    ("requirements", requirements),
    ("saved_model", saved_model),
    ("saved_model_text", saved_model_text),
    ("spark", spark),
    ("text", text),
    ("wire", wire),
];

/// What the files of a model say of its fit: the same bytes under the names that the checks go by.
pub fn fit(bytes: &[u8]) {
    const NAMES: [&str; 8] = ["saved_model.pb", "saved_model.pbtxt", "m.onnx", "m.h5", "m.keras", "m.pkl", "src/func_main.py", "notes.txt"];
    let open = |content: &Content| match content {
        Content::Inline(bytes) => Ok(Box::new(Cursor::new(bytes.to_vec())) as Box<dyn ReadSeek>),
        Content::Local(_) => Err(std::io::ErrorKind::NotFound.into()),
    };
    for name in NAMES {
        let (path, content) = (TreePath::new(name).expect("a constant path"), Content::Inline(bytes.into()));
        let look = Look { path: &path, size_bytes: bytes.len() as u64, content: &content, is_text: true };
        let facts = fit_scan::look(&look, Some((3, 11)), &open);
        for finding in &facts.findings {
            let line = finding.to_string();
            assert!(!line.chars().any(char::is_control) && line.len() < 10_000, "{line:?}");
        }
        let mut tree = Tree::new();
        tree.insert(path.clone(), EntryKind::File { size_bytes: bytes.len() as u64, executable: false, content });
        let facts = Facts { files: [(name.to_owned(), facts)].into(), unseen: 0 };
        for runtime in RuntimeList::compiled_in().runtimes {
            let ground = Ground { runtime: Some(&runtime), certain: true, packages: Packages::Nothing };
            for finding in fit_judge::judge(&facts, &tree, &ground) {
                assert!(!finding.to_string().chars().any(char::is_control), "{finding}");
            }
        }
    }
}

/// TensorFlow's `saved_model.pb`; the rules choose the meta graph, or tags that real models have.
pub fn saved_model(bytes: &[u8]) {
    for tags in [Tags::default(), Tags::new(["serve"])] {
        match lamina::contract::saved_model::read(Cursor::new(bytes), bytes.len() as u64, &tags) {
            Ok(reading) => check_reading(&reading, "tensorflow:"),
            Err(error) => check_error(&error),
        }
    }
}

/// `saved_model.pbtxt`, in the same way.
pub fn saved_model_text(bytes: &[u8]) {
    for tags in [Tags::default(), Tags::new(["serve"])] {
        match lamina::contract::saved_model_text::read(Cursor::new(bytes), bytes.len() as u64, &tags) {
            Ok(reading) => check_reading(&reading, "tensorflow:"),
            Err(error) => check_error(&error),
        }
    }
}

/// An ONNX model, and the files beside it that it names: where there is a contract, there are those.
pub fn onnx(bytes: &[u8]) {
    let files = onnx::external_files(Cursor::new(bytes), bytes.len() as u64);
    match onnx::read(Cursor::new(bytes), bytes.len() as u64) {
        Ok(reading) => {
            check_reading(&reading, "onnx:");
            assert!(files.is_ok());
        }
        Err(error) => check_error(&error),
    }
    if let Err(error) = files {
        check_error(&error);
    }
}

/// A Keras `.h5` file.
pub fn keras_hdf5(bytes: &[u8]) {
    check_keras(keras::read_h5(Cursor::new(bytes.to_vec()), bytes.len() as u64));
}

/// A `.keras` archive.
pub fn keras_archive(bytes: &[u8]) {
    check_keras(keras::read_archive(Cursor::new(bytes)));
}

/// What `model.to_json()` gives.
pub fn keras_json(bytes: &[u8]) {
    check_keras(keras::read_json(bytes));
}

fn check_keras(reading: Result<Reading, keras::KerasError>) {
    match reading {
        Ok(reading) => check_reading(&reading, "keras:"),
        Err(error) => check_error(&error),
    }
}

/// The metadata files of a saved Spark pipeline. A line `== PATH` begins each; what stands before the first such line is `metadata/part-00000`.
pub fn spark(bytes: &[u8]) {
    let mut sections = split(bytes, b"\n== ").into_iter();
    let first = sections.next().map(|first| first.strip_prefix(b"== ").map_or(Some(("metadata/part-00000", first)), named));
    let sections = first.into_iter().chain(sections.map(named)).flatten();
    let files: Vec<MetadataFile<'_>> = sections.map(|(path, bytes)| MetadataFile { path, bytes }).collect();
    match spark::read(&files) {
        Ok(reading) => check_reading(&reading, "spark:"),
        Err(error) => check_error(&error),
    }
}

/// A file of another framework: its name is the first line, what follows is in it.
pub fn foreign(bytes: &[u8]) {
    let Some((name, content)) = named(bytes) else { return };
    if let Some(foreign) = recognise(name, content, content.len() as u64) {
        let model_type = foreign.model_type();
        assert!(model_type.len() <= 200 && !model_type.chars().any(char::is_control), "{model_type:?}");
        assert!(!foreign.what.is_empty() && !foreign.sentence("model.bin").contains('\n') && !foreign.remedy().ends_with('.'));
    }
    let scan = pickle::globals(content);
    assert!(scan.end_offset <= content.len() && scan.globals.len() <= pickle::GLOBALS_MAX);
    assert!(pickle::sklearn_version(content).is_none_or(|version| !version.is_empty() && version.len() <= 32));
}

/// A file of any kind: what is said of it is one short line.
pub fn file_kind(bytes: &[u8]) {
    let kind = file_kind::tell(&mut Cursor::new(bytes), bytes.len() as u64);
    assert_eq!(kind == Some(file_kind::FileKind::Empty), bytes.is_empty());
    let Some(kind) = kind else { return };
    let line = kind.to_string();
    assert!(!line.is_empty() && line.chars().count() <= 200 && !line.chars().any(char::is_control), "{line:?}");
    assert!(kind.remedy().is_none_or(|remedy| !remedy.ends_with('.')));
    // It judges by the beginning alone.
    let beginning = &bytes[..bytes.len().min(file_kind::LOOKED_AT_BYTES as usize)];
    assert_eq!(file_kind::tell(&mut Cursor::new(beginning), beginning.len() as u64), Some(kind));
}

/// `contract.protobin`, in every dialect.
pub fn wire(bytes: &[u8]) {
    for dialect in [None, Some(Dialect::V1), Some(Dialect::V2), Some(Dialect::V3)] {
        match wire::decode(bytes, dialect) {
            Ok((contract, found)) => {
                assert!(dialect.is_none_or(|asked| asked == found));
                check_contract(&contract, found);
            }
            Err(error) => check_error(&error),
        }
    }
}

/// `contract.prototxt`.
pub fn text(bytes: &[u8]) {
    match lamina::contract::text::parse(bytes, "contract.prototxt") {
        Ok(contract) => check_contract(&contract, Dialect::V1),
        Err(error) => check_error(&error),
    }
}

/// `requirements.txt`, or a lock of it in either form, and the command that names it.
pub fn requirements(bytes: &[u8]) {
    match lamina::model::requirements::read("requirements.txt", bytes) {
        Ok(read) => {
            let text = lamina::model::requirements::to_text(&read);
            let again = lamina::model::requirements::read("requirements.txt", text.as_bytes()).expect("what is given on is read again");
            assert_eq!(read.iter().map(|one| &one.text).collect::<Vec<_>>(), again.iter().map(|one| &one.text).collect::<Vec<_>>());
        }
        Err(error) => check_error(&error),
    }
    match lamina::model::requirements_lock::read("requirements.lock", bytes) {
        Ok(lock) => {
            let again =
                lamina::model::requirements_lock::read("requirements.lock", lock.to_text().as_bytes()).expect("what is kept is read again");
            let pins =
                |lock: &Lock| lock.packages.iter().map(|package| (package.project.clone(), package.version.clone())).collect::<Vec<_>>();
            assert_eq!(pins(&lock), pins(&again));
            let target = Target::new("3.11".parse().unwrap(), "glibc 2.36".parse().unwrap(), &Platform::new("linux", "amd64")).unwrap();
            match lock.of_target(&target) {
                Ok(packages) => packages.iter().for_each(|package| drop(package.choose(&target).map_err(|error| check_error(&error)))),
                Err(error) => check_error(&error),
            }
        }
        Err(error) => check_error(&error),
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(lamina::model::install_command::requirements_of(text));
    }
}

/// `serving.yaml`.
pub fn definition(bytes: &[u8]) {
    match lamina::model::definition::read("serving.yaml", bytes) {
        Ok(definition) => assert!(definition.warnings.iter().all(|warning| !warning.is_empty())),
        Err(error) => check_error(&error),
    }
}

/// `src/func_main.py`, against a contract with names that are and are not Python's.
pub fn python_code(bytes: &[u8]) {
    let field = |name: &str| Field::new(name, DataType::Double, Shape::scalar());
    let signature = |name: &str, inputs: &[&str]| Signature {
        name: name.to_owned(),
        inputs: inputs.iter().map(|name| field(name)).collect(),
        outputs: vec![field("y")],
    };
    let signatures = vec![signature("infer", &["x"]), signature("predict", &["my-input", "class"]), signature("f", &[])];
    let contract = Contract { model_name: String::new(), signatures };
    for python in [None, Some((3, 7))] {
        match lamina::model::python_code::check(bytes, "src/func_main.py", &contract, python) {
            Ok(warnings) => assert!(warnings.iter().all(|warning| warning.starts_with("src/func_main.py"))),
            Err(error) => {
                check_error(&error);
                assert!(error.to_string().starts_with("src/func_main.py"), "{error}");
            }
        }
    }
}

/// Two contracts, a line `==` between them, each as text or in any dialect: what changed from one to the other, and back.
pub fn change(bytes: &[u8]) {
    let halves = split(bytes, b"\n==\n");
    let read = |half: &&[u8]| {
        let contract = lamina::contract::text::parse(half, "contract.prototxt").ok();
        contract.or_else(|| Some(wire::decode(half, None).ok()?.0)).filter(|contract| contract.validate().is_ok())
    };
    let contracts: Vec<Contract> = halves.iter().take(2).filter_map(read).collect();
    for contract in &contracts {
        assert!(changes(contract, contract).is_empty(), "{contract:?}");
        assert!(differences(contract, contract).is_empty(), "{contract:?}");
        assert!(!table(contract).is_empty());
        check_samples(contract);
    }
    if let [old, new] = &contracts[..] {
        type Of = fn(&Change) -> (Verdict, Verdict);
        let sorted = |changes: &[Change], of: Of| {
            let mut verdicts: Vec<_> = changes.iter().map(of).collect();
            verdicts.sort_unstable();
            verdicts
        };
        let there = sorted(&changes(old, new), |change| (change.judgements.callers.verdict, change.judgements.callees.verdict));
        let back = sorted(&changes(new, old), |change| (change.judgements.callees.verdict, change.judgements.callers.verdict));
        assert_eq!(there, back, "{old:?}\nagainst\n{new:?}");
    }
}

/// A contract that a reader of a framework's file gave: valid, without a name, and to be had in the seed era's dialect.
fn check_reading(reading: &Reading, model_type: &str) {
    assert!(reading.model_type.starts_with(model_type), "{}", reading.model_type);
    assert!(reading.contract.model_name.is_empty());
    assert_eq!(reading.contract.validate(), Ok(()));
    check_contract(&reading.contract, Dialect::V1);
}

/// Any contract: written and read again it is the same, but for what the warnings say; so is its text where it is valid.
fn check_contract(contract: &Contract, dialect: Dialect) {
    match wire::encode(contract, dialect) {
        Ok(encoded) => {
            let (again, found) = wire::decode(&encoded.bytes, Some(dialect)).expect("what we wrote can be read");
            assert_eq!(found, dialect);
            assert!(!encoded.warnings.is_empty() || again == *contract, "{contract:?}\nis read as\n{again:?}");
            let twice = wire::encode(&again, dialect).expect("what we read can be written");
            assert_eq!(twice.bytes, encoded.bytes);
        }
        Err(error) => {
            // The same contract can be longer in our form than in the stranger's; and what is no valid contract need not be one in a dialect.
            let may_be = matches!(error, WireError::TooLarge { .. } | WireError::NoOutputs { .. } | WireError::Dtype { .. });
            assert!(may_be || contract.validate().is_err(), "a contract that dialect {dialect} cannot say: {}", one_line(&error));
            check_error(&error);
        }
    }
    if let Err(error) = contract.validate() {
        check_error(&error);
        return;
    }
    let text = print(contract);
    if text.len() <= lamina::contract::text::TEXT_BYTES_MAX {
        let again =
            lamina::contract::text::parse(text.as_bytes(), "printed").unwrap_or_else(|error| panic!("{}\n{text}", one_line(&error)));
        assert!(again == *contract, "{contract:?}\nprinted is\n{text}\nand read as\n{again:?}");
    }
}

/// The examples for a valid contract: a request in every form, or an error that says why not.
fn check_samples(contract: &Contract) {
    for signature in contract.signatures.iter().take(2) {
        match sample::json(signature) {
            Ok(json) => assert!(json.as_object().is_some_and(|members| members.len() == signature.inputs.len())),
            Err(error) => check_error(&error),
        }
        for dialect in [Dialect::V1, Dialect::V3] {
            if let Err(error) = sample::encoded("model", signature, dialect) {
                check_error(&error);
            }
        }
    }
}

/// An error: every text of it can be made, says something, and is no longer than a screen can show.
fn check_error(error: &dyn Failure) {
    const TEXT_BYTES_MAX: usize = 64 << 10;
    let line = one_line(error);
    assert!(
        !line.is_empty() && line.len() <= TEXT_BYTES_MAX,
        "{} bytes of error: {}",
        line.len(),
        &line[..line.floor_char_boundary(1_000)]
    );
    let remedy = error.remedy();
    assert!(remedy.is_none_or(|remedy| !remedy.is_empty() && !remedy.ends_with('.')));
}

/// The parts between the separators.
fn split<'a>(bytes: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(separator.len()).position(|window| window == separator) {
        parts.push(&rest[..at]);
        rest = &rest[at + separator.len()..];
    }
    parts.push(rest);
    parts
}

/// A name, which is the first line, and what follows it; a name is text.
fn named(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}
