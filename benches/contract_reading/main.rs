//! What reading a contract out of a large model costs, next to what the framework's own loader costs.
//!
//!     cargo bench --no-default-features --bench contract_reading
//!
//! Every measure is a process of its own, so that its peak of memory is its own: this program again for our readers, a Python for the
//! frameworks. It needs no disk to speak of, since weights are holes in sparse files, and, for the frameworks, twice the largest model of memory. Python's modules are looked for in
//! the one that `LAMINA_BENCH_PYTHON` names, else in `python3`; what is not found is left out, and the table says so.
//!
//! What must stay true: what is printed holds on any machine: bytes, and ratios of times within one run.

#![allow(missing_docs, reason = "a program")]

mod files;
mod readers;

use std::io;
use std::path::{Path, PathBuf};

use readers::{Measure, Reader};

const MIB: u64 = 1 << 20;

/// Runs of each reader; the one in the middle is kept.
const RUNS: usize = 5;

/// A model, and who reads it.
struct Case {
    title: String,
    file: PathBuf,
    make: fn(&Path, u64) -> io::Result<()>,
    /// About; the weights are nearly all of it.
    size_bytes: u64,
    readers: Vec<Reader>,
}

/// A folder that does not outlive the program.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing is left to do about a folder that stays.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn cases(folder: &Path) -> Vec<Case> {
    let case = |file: &str, make, size_mib: u64, readers: &[Reader]| Case {
        title: format!("`{file}` of {size_mib} MiB"),
        file: folder.join(file),
        make,
        size_bytes: size_mib * MIB,
        readers: readers.to_vec(),
    };
    vec![
        case("saved_model.pb", files::saved_model, 512, &[Reader::SavedModel, Reader::TensorFlow]),
        // TensorFlow's parser of text takes a hundred times the file's size of memory.
        case("saved_model.pbtxt", files::saved_model_text, 16, &[Reader::SavedModelText, Reader::TensorFlow]),
        // Below protobuf's own limit of 2 GiB, and past it.
        case("model.onnx", files::onnx, 1536, &[Reader::Onnx, Reader::OnnxPackage]),
        case("model.onnx", files::onnx, 3072, &[Reader::Onnx, Reader::OnnxPackage]),
    ]
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, measure, reader, file] = &arguments[..]
        && measure == "measure"
    {
        println!("{}", readers::measure(reader, Path::new(file))?);
        return Ok(());
    }
    if !Path::new("/proc/self/io").exists() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "bytes and memory are measured by Linux's /proc"));
    }
    let folder = Folder(std::env::temp_dir().join(format!("lamina-bench-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0)?;
    println!("| file | read by | bytes read | memory for it, MiB | time, lamina = 1 |");
    println!("|---|---|---:|---:|---:|");
    for case in cases(&folder.0) {
        (case.make)(&case.file, case.size_bytes)?;
        let mut ours = None;
        for reader in &case.readers {
            println!("| {} | {} |", case.title, row(*reader, &case.file, &mut ours)?);
        }
        std::fs::remove_file(&case.file)?;
    }
    Ok(())
}

/// The cells of a reader; `ours` is the time that the first one, which is ours, took.
fn row(reader: Reader, file: &Path, ours: &mut Option<u64>) -> io::Result<String> {
    let mut measures = Vec::new();
    for _ in 0..RUNS {
        match reader.run(file)? {
            Measure::Read(read) => measures.push(read),
            Measure::Refused(name, reason) => return Ok(format!("{name} | refused: {reason} | |")),
            Measure::Missing(name) => return Ok(format!("{name} | not measured: no Python with it was found | |")),
        }
    }
    measures.sort_by_key(|read| read.time_ns);
    let middle = &measures[RUNS / 2];
    let unit = *ours.get_or_insert(middle.time_ns.max(1));
    let memory = middle.memory_kib as f64 / 1024.0;
    Ok(format!("{} | {} | {memory:.1} | {}", middle.name, grouped(middle.bytes_read), grouped(two_digits(middle.time_ns / unit))))
}

/// What of a ratio can be said again: its first two digits.
fn two_digits(ratio: u64) -> u64 {
    let unit = 10_u64.pow(ratio.max(1).ilog10().saturating_sub(1));
    (ratio + unit / 2) / unit * unit
}

/// A number with commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}
