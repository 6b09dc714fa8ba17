//! A large model: memory does not grow with it, and nothing of it is written that need not be.
//!
//! 8 files of 512 MiB where what runs is what is shipped (a release build); 8 of 16 MiB otherwise, under the same bounds. The bytes are random, so nothing packs and nothing is
//! the same twice. All of it lies below the target folder and goes with the test, also when it fails.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, Serve, tool};
use crate::support::outside::{CONTRACT, listing, tags};

const FILES: usize = 8;
const FILE_BYTES: u64 = if cfg!(debug_assertions) { 16 << 20 } else { 512 << 20 };
const MODEL_BYTES: u64 = FILES as u64 * FILE_BYTES;

/// What a process may hold in memory, whatever the size of the model.
const RESIDENT_KIB_MAX: u64 = 64 << 10;
/// What a build may write that sends its image away: what is remembered of it, and none of the weights.
const BUILD_WRITES_BYTES_MAX: u64 = 1 << 20;
/// What a service may write beside the model: its catalog with the log, the small layer, the documents.
const SERVICE_WRITES_BYTES_MAX: u64 = 10 << 20;

/// A folder for gigabytes: in the build's own file system, since a temporary one may be small or in memory.
fn work_folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("large-model-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Writes random bytes, which nothing makes smaller; a different sequence for each seed.
fn write_noise(path: &Path, seed: u64) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed + 1);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut block = [0; 8192];
    for _ in 0..FILE_BYTES / block.len() as u64 {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
        file.write_all(&block).unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
}

fn weights(number: usize) -> String {
    format!("weights-{number}.bin")
}

/// The model: a folder with nothing but its weights and its contract.
fn write_large_model(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for number in 0..FILES {
        write_noise(&folder.join(weights(number)), number as u64);
    }
    fs::write(folder.join("contract.prototxt"), CONTRACT).unwrap();
}

/// The sums of the weights, by another program than ours.
fn sums(folder: &Path) -> Vec<String> {
    let sum = |number| tool("openssl", &["dgst", "-sha256", "-r", folder.join(weights(number)).to_str().unwrap()]);
    (0..FILES).map(|number| sum(number).split(' ').next().unwrap().to_owned()).collect()
}

/// `hs build` to a registry under GNU time: its result, the most KiB that it held and the bytes that it wrote.
fn timed_build(home: &Home, model: &Path, destination: &str) -> (Value, u64, u64) {
    let measured = home.path().join("measured");
    let arguments = ["--output", "json", "build", "--name", "large", "--version", "1", "--runtime", "scratch", "--to", destination];
    let inner = home.command();
    let mut command = Command::new("/usr/bin/time");
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // %O counts blocks of 512 bytes (getrusage(2), ru_oublock).
    command.args(["-q", "-f", "%M %O", "-o"]).arg(&measured).arg(inner.get_program()).args(arguments).arg(model);
    let output = command.output().expect("these tests need Debian's package time");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&measured).unwrap();
    let (resident_kib, blocks) = text.trim().split_once(' ').unwrap();
    (serde_json::from_slice(&output.stdout).unwrap(), resident_kib.parse().unwrap(), blocks.parse::<u64>().unwrap() * 512)
}

/// What a process wrote to disks so far (proc(5): bytes that it caused to be sent to storage; sockets are not in it), and what it took back before they
/// got there.
fn written_bytes(process: u32) -> u64 {
    number_of(&format!("/proc/{process}/io"), "write_bytes:")
}

/// The most memory that a process has held, KiB.
fn resident_kib_max(process: u32) -> u64 {
    number_of(&format!("/proc/{process}/status"), "VmHWM:")
}

fn number_of(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {path}: {text}"));
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn slow_a_large_model_goes_to_a_registry_in_64_mib_and_comes_back() {
    let work = work_folder();
    let model = work.path().join("model");
    write_large_model(&model);
    let registry = DockerRegistry::start_in(work.path());
    let home = Home::new();
    let destination = format!("{}/large:1", registry.address());
    let (result, resident_kib, written) = timed_build(&home, &model, &destination);
    eprintln!("hs build of {MODEL_BYTES} bytes: {resident_kib} KiB resident, {written} bytes written, {} ms", result["duration_ms"]);
    assert!(resident_kib <= RESIDENT_KIB_MAX, "{resident_kib} KiB resident");
    assert!(written <= BUILD_WRITES_BYTES_MAX, "{written} bytes written");
    let sent = result["transfer"]["sent_bytes"].as_u64().unwrap();
    assert!((MODEL_BYTES..MODEL_BYTES + (1 << 20)).contains(&sent), "{result:#}");
    assert_eq!(registry.uploads_left("large"), 0);

    let layout = format!("oci:{}:1", work.path().join("layout").display());
    tool("skopeo", &["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", &format!("docker://{destination}"), &layout]);
    let bundle = work.path().join("bundle");
    tool("umoci", &["unpack", "--rootless", "--image", layout.strip_prefix("oci:").unwrap(), bundle.to_str().unwrap()]);
    fs::remove_dir_all(work.path().join("layout")).unwrap();
    let files = bundle.join("rootfs/model/files");
    assert_eq!(sums(&files), sums(&model));
    let mut names: Vec<_> = fs::read_dir(&files).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut expected: Vec<_> = (0..FILES).map(weights).collect();
    expected.insert(0, "contract.prototxt".to_owned());
    assert_eq!(names, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_large_upload_is_written_once_and_sent_on_in_64_mib() {
    let work = work_folder();
    let model = work.path().join("model");
    write_large_model(&model);
    let registry = DockerRegistry::start_in(work.path());
    let data = work.path().join("data");
    let home = Home::new().with("HS_DATA_DIR", data.to_str().unwrap());
    let service = Serve::start(&home, &["--registry", registry.address()]);
    let before = written_bytes(service.process());
    let arguments = ["upload", model.to_str().unwrap(), "--name", "large", "--runtime", "scratch", "--server", &service.url()];
    let version = home.json(arguments);
    assert_eq!(version["status"], "Finished", "{version:#}");
    let (written, resident_kib) = (written_bytes(service.process()) - before, resident_kib_max(service.process()));
    eprintln!("hs serve, {MODEL_BYTES} bytes uploaded: {resident_kib} KiB resident, {written} bytes written");
    assert!(resident_kib <= RESIDENT_KIB_MAX, "{resident_kib} KiB resident");
    // A data folder in memory causes no writes to storage, and then there is nothing to count but what lies there.
    if written > 0 {
        assert!((MODEL_BYTES..MODEL_BYTES + SERVICE_WRITES_BYTES_MAX).contains(&written), "{written} bytes written for {MODEL_BYTES}");
    }
    // Once, as content: the layers exist as recipes, and nothing is left of the way in but the name that each file had as a blob.
    let kept = listing(&data).into_iter().filter(|(_, size_bytes)| *size_bytes >= 1 << 20);
    let (blobs, kept): (Vec<(String, u64)>, Vec<_>) = kept.partition(|(name, _)| name.starts_with("blobs/"));
    let identity = |name: &str| fs::metadata(data.join(name)).unwrap().ino();
    assert!(blobs.iter().all(|(name, _)| identity(name) == identity(&name.replace("blobs/", "content/"))), "{blobs:?}");
    assert_eq!(kept.len(), FILES, "{kept:?}");
    assert!(kept.iter().all(|(name, size_bytes)| name.starts_with("content/") && *size_bytes == FILE_BYTES), "{kept:?}");
    assert_eq!(fs::read_dir(data.join("uploads")).unwrap().count(), 0);
    let mut stored: Vec<PathBuf> = kept.iter().map(|(name, _)| data.join(name)).collect();
    stored.sort();
    let mut expected = sums(&model);
    expected.sort();
    let names: Vec<_> = stored.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(names, expected);
    assert_eq!(tags(registry.address(), "large").await, [1]);
    let inspected = tool("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{}/large:1", registry.address())]);
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(version["digest"], inspected["Digest"]);
}
