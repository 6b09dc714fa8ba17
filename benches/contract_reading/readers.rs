//! Who reads, and how one reading is measured: bytes by the process's own count of them, memory by its peak, time around the call alone.
//!
//! The frameworks' loaders are asked for as little as they can give: a parsed message, no session, no variables, no external weights.
//! What a Python holds before it reads (a framework imported is hundreds of MiB) is not counted, and neither is the time to import it.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use lamina::contract::onnx;
use lamina::contract::saved_model;
use lamina::contract::saved_model_meta::Tags;
use lamina::contract::saved_model_text;
use serde_json::{Value, json};

/// A reader of contracts.
#[derive(Clone, Copy, PartialEq)]
pub enum Reader {
    SavedModel,
    SavedModelText,
    Onnx,
    TensorFlow,
    OnnxPackage,
}

/// What came of one reading.
pub enum Measure {
    Read(Read),
    /// The reader's name, and what it said.
    Refused(String, String),
    /// The reader's name.
    Missing(String),
}

/// One reading.
pub struct Read {
    pub name: String,
    pub time_ns: u64,
    pub bytes_read: u64,
    /// How far the peak of the process was above what it held before.
    pub memory_kib: u64,
}

/// Both measure in the same way as [`measure`]; `load` is what differs.
const PYTHON: &str = r"
import json, sys, time

def field(file, name):
    for line in open(file):
        if line.startswith(name + ':'):
            return int(line.split()[1])

def measured(name, load):
    before = field('/proc/self/status', 'VmRSS'), field('/proc/self/io', 'rchar')
    began = time.perf_counter_ns()
    try:
        loaded = load()
    except Exception as error:
        print(json.dumps({'name': name, 'refused': type(error).__name__ + ': ' + str(error).strip().split('\n')[0]}))
        return
    time_ns = time.perf_counter_ns() - began
    read = field('/proc/self/io', 'rchar') - before[1]
    print(json.dumps({'name': name, 'time_ns': time_ns, 'bytes_read': read, 'memory_kib': field('/proc/self/status', 'VmHWM') - before[0]}))
";

const TENSORFLOW: &str = r"
import os
os.environ.update(TF_CPP_MIN_LOG_LEVEL='3', CUDA_VISIBLE_DEVICES='-1')
import tensorflow
from tensorflow.python.saved_model import loader_impl
folder = os.path.dirname(sys.argv[1])
measured('TensorFlow ' + tensorflow.__version__ + ', `loader_impl.parse_saved_model`', lambda: loader_impl.parse_saved_model(folder))
";

const ONNX: &str = r"
import onnx
load = lambda: onnx.load(sys.argv[1], load_external_data=False)
measured('onnx ' + onnx.__version__ + ', `onnx.load(…, load_external_data=False)`', load)
";

impl Reader {
    /// One reading of `file` by a process of its own.
    pub fn run(self, file: &Path) -> io::Result<Measure> {
        let (name, script) = match self {
            Reader::SavedModel => return ours("saved_model", file),
            Reader::SavedModelText => return ours("saved_model_text", file),
            Reader::Onnx => return ours("onnx", file),
            Reader::TensorFlow => ("TensorFlow", TENSORFLOW),
            Reader::OnnxPackage => ("onnx", ONNX),
        };
        #[expect(clippy::disallowed_methods, reason = "a program of its own")]
        let python = std::env::var("LAMINA_BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let output = match Command::new(python).args(["-c", &format!("{PYTHON}{script}")]).arg(file).output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Measure::Missing(name.to_owned())),
            output => output?,
        };
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("ModuleNotFoundError") {
            return Ok(Measure::Missing(name.to_owned()));
        }
        measure_of(&output.stdout, &said)
    }
}

fn ours(reader: &str, file: &Path) -> io::Result<Measure> {
    let output = Command::new(std::env::current_exe()?).args(["measure", reader]).arg(file).output()?;
    measure_of(&output.stdout, &String::from_utf8_lossy(&output.stderr))
}

/// What a measuring process printed.
fn measure_of(stdout: &[u8], stderr: &str) -> io::Result<Measure> {
    let line = stdout.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
    let said: Value = serde_json::from_slice(line).map_err(|_| io::Error::other(format!("the measuring process failed: {stderr}")))?;
    let name = said["name"].as_str().unwrap_or_default().to_owned();
    if let Some(reason) = said["refused"].as_str() {
        return Ok(Measure::Refused(name, reason.replace('|', "\\|")));
    }
    let number = |key: &str| said[key].as_u64().unwrap_or_default();
    Ok(Measure::Read(Read { name, time_ns: number("time_ns"), bytes_read: number("bytes_read"), memory_kib: number("memory_kib") }))
}

/// Reads `file` in this process and says what it took.
pub fn measure(reader: &str, file: &Path) -> io::Result<Value> {
    let (held_kib, read_before) = (of_process("status", "VmRSS")?, of_process("io", "rchar")?);
    let began = Instant::now();
    let source = File::open(file)?;
    let size_bytes = source.metadata()?.len();
    let read = match reader {
        "saved_model" => saved_model::read(source, size_bytes, &Tags::default()).map_err(io::Error::other),
        "saved_model_text" => saved_model_text::read(source, size_bytes, &Tags::default()).map_err(io::Error::other),
        "onnx" => onnx::read(source, size_bytes).map_err(io::Error::other),
        _ => Err(io::Error::other(format!("no reader `{reader}`"))),
    };
    let time_ns = began.elapsed().as_nanos() as u64;
    let bytes_read = of_process("io", "rchar")? - read_before;
    let memory_kib = of_process("status", "VmHWM")? - held_kib;
    assert_eq!(read?.contract.signatures.len(), 1);
    Ok(json!({"name": "**lamina**", "time_ns": time_ns, "bytes_read": bytes_read, "memory_kib": memory_kib}))
}

/// A number that Linux keeps of this process.
fn of_process(file: &str, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/self/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("/proc/self/{file} has no {name}")))
}
