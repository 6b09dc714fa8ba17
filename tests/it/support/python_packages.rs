//! Python's own tools, real wheels, and an index of the simplest kind.
//!
//! pip and uv come from the package index once, into the build's own folder for temporary files, and so do the wheels: whoever comes first fetches them, under a
//! lock. From there on tests have no network: an index is a folder that Python's own HTTP server lists, as PEP 503 wants it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lamina::oci::digest::Digest;

use super::hs::{Home, tool};
use super::{models, outside};

/// The resolvers that lamina knows.
pub const RESOLVERS: [&str; 2] = ["uv", "pip"];
/// uv, whose answers' form is young.
const UV: &str = "uv==0.13.9";
/// What the wheels are fetched for: the runtime `serving-runtime-python:3.11` on x86_64.
const TARGET: [&str; 19] = [
    "--only-binary=:all:",
    "--python-version=3.11",
    "--implementation=cp",
    "--abi=cp311",
    "--abi=abi3",
    "--abi=none",
    "--platform=manylinux_2_5_x86_64",
    "--platform=manylinux1_x86_64",
    "--platform=manylinux_2_12_x86_64",
    "--platform=manylinux2010_x86_64",
    "--platform=manylinux_2_17_x86_64",
    "--platform=manylinux2014_x86_64",
    "--platform=manylinux_2_24_x86_64",
    "--platform=manylinux_2_27_x86_64",
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux_2_31_x86_64",
    "--platform=manylinux_2_34_x86_64",
    "--platform=linux_x86_64",
    "--disable-pip-version-check",
];
/// Pure (six), with a start script (tabulate), with a script of its own (jmespath), compiled for the stable ABI (psutil) and for one Python (MarkupSafe).
pub const SMALL: [&str; 5] = ["six==1.17.0", "tabulate==0.9.0", "jmespath==1.0.1", "psutil==6.1.1", "MarkupSafe==3.0.2"];
/// A release before that of [`SMALL`].
pub const OLDER: [&str; 1] = ["tabulate==0.8.10"];

/// A hundred megabytes with what it requires.
pub const SCIKIT_LEARN: [&str; 2] = ["numpy==1.26.4", "scikit-learn==1.5.2"];

/// A program of a virtual environment: `python`, `pip` or `uv`.
pub fn program(name: &str) -> PathBuf {
    let environment = shared("python-tools", UV, |folder| {
        let path = folder.to_str().unwrap();
        tool("/usr/bin/python3", &["-m", "venv", "--copies", path]);
        tool(folder.join("bin/python").to_str().unwrap(), &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV]);
        // pip's own names the folder that it was installed in.
        fs::write(folder.join("bin/pip"), "#!/bin/sh\nexec \"$(dirname \"$0\")/python\" -m pip \"$@\"\n").unwrap();
    });
    environment.join("bin").join(name)
}

/// A folder with the wheels of these requirements, and of what these require where `dependencies` says so.
pub fn wheels(requirements: &[&str], dependencies: bool) -> PathBuf {
    let text = requirements.join(" ");
    shared("wheels", &format!("{text} {dependencies} {TARGET:?}"), |folder| {
        let mut words = vec!["download", "--quiet", "--dest", folder.to_str().unwrap()];
        words.extend((!dependencies).then_some("--no-deps"));
        tool(program("pip").to_str().unwrap(), &[&words, &TARGET[..], requirements].concat());
    })
}

/// A folder with wheels for the same runtime on another machine, in Python's words for it.
pub fn wheels_of(machine: &str, requirements: &[&str]) -> PathBuf {
    let target = TARGET.map(|word| word.replace("x86_64", machine));
    shared("wheels", &format!("{requirements:?} {target:?}"), |folder| {
        let mut words = vec!["download", "--quiet", "--no-deps", "--dest", folder.to_str().unwrap()];
        words.extend(target.iter().map(String::as_str).chain(requirements.iter().copied()));
        tool(program("pip").to_str().unwrap(), &words);
    })
}

/// A folder that is made once of what `made_of` says; it appears whole or not at all.
fn shared(name: &str, made_of: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(root).unwrap();
    let folder = root.join(format!("{name}-{}", &Digest::of(made_of.as_bytes()).hex()[..16]));
    let lock = File::create(root.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if !folder.exists() {
        let parts = tempfile::tempdir_in(root).unwrap();
        let made = parts.path().join("made");
        fs::create_dir(&made).unwrap();
        make(&made);
        fs::rename(made, &folder).unwrap();
    }
    folder
}

/// What `pip install --target` makes of a lock and a folder of wheels.
pub fn installed_by_pip(lock: &Path, wheels: &Path, to: &Path) {
    let (lock, wheels, to) = (lock.to_str().unwrap(), wheels.to_str().unwrap(), to.to_str().unwrap());
    let words = ["install", "--quiet", "--target", to, "--no-compile", "--no-deps", "--require-hashes", "--no-index"];
    tool(program("pip").to_str().unwrap(), &[&words, &TARGET[..], &["--find-links", wheels, "-r", lock]].concat());
}

/// A user with an imported base for Python models and one resolver or none; without an index, and with no way to the network's.
pub fn user(resolver: &str) -> Home {
    let path = |name: &str| if name == resolver { program(name).to_str().unwrap().to_owned() } else { "off".to_owned() };
    let home = Home::new().with("HS_UV", path("uv")).with("HS_PIP", path("pip")).with("PIP_NO_INDEX", "1").with("UV_OFFLINE", "1");
    outside::import_small_base(&home);
    home
}

/// The same with an index.
pub fn user_of(resolver: &str, index: &Index) -> Home {
    let path = |name: &str| if name == resolver { program(name).to_str().unwrap().to_owned() } else { "off".to_owned() };
    let home = Home::new().with("HS_UV", path("uv")).with("HS_PIP", path("pip")).with("PIP_INDEX_URL", index.url());
    outside::import_small_base(&home);
    home
}

/// A small Python model with these requirements.
pub fn model(folder: &Path, requirements: &str) {
    models::small(folder);
    let definition = "model:\n  name: m\n  type: \"python:3.11\"\n  contract: contract.prototxt\n  payload: [src/, requirements.txt]\n";
    fs::write(folder.join("serving.yaml"), definition).unwrap();
    fs::write(folder.join("requirements.txt"), requirements).unwrap();
}

/// The layer of packages in what `hs build` or a version's report says.
pub fn layer(document: &serde_json::Value) -> serde_json::Value {
    let layers = document["images"][0]["layers"].as_array().unwrap();
    let found: Vec<_> = layers.iter().filter(|layer| layer["purpose"] == "requirements").collect();
    assert_eq!(found.len(), 1, "{document:#}");
    found[0].clone()
}

/// A wheel of version 1.0 that is made here, with these files.
pub fn made_wheel(project: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let info = format!("{project}-1.0.dist-info");
    let metadata = format!("Metadata-Version: 2.1\nName: {}\nVersion: 1.0\n", project.replace('_', "-"));
    let tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    let record = files.iter().fold(String::new(), |record, (path, _)| record + *path + ",,\n");
    let own = [("METADATA", metadata.as_str()), ("WHEEL", tags), ("RECORD", &record)].map(|(name, text)| (format!("{info}/{name}"), text));
    for (name, text) in files.iter().map(|(path, text)| ((*path).to_owned(), *text)).chain(own) {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// An index: a folder for each project, listed by Python's own HTTP server; stopped with the value.
pub struct Index {
    folder: tempfile::TempDir,
    server: Child,
    port: u16,
}

impl Index {
    /// One that has these wheels.
    pub fn of(wheels: &Path) -> Index {
        let folder = tempfile::tempdir().unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(program("python"));
        command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(folder.path());
        let mut server = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let port = said.split(" port ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        let index = Index { folder, server, port: port.unwrap_or_else(|| panic!("{said}")) };
        for wheel in fs::read_dir(wheels).unwrap() {
            index.add(&wheel.unwrap().path());
        }
        index
    }

    /// Takes a wheel in.
    pub fn add(&self, wheel: &Path) {
        let name = wheel.file_name().unwrap().to_str().unwrap();
        self.write(name, &fs::read(wheel).unwrap());
    }

    /// Takes a file of any project in, in the place of one of the same name.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        let project = name.split('-').next().unwrap().to_lowercase();
        let folder = self.folder.path().join("simple").join(project);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/simple/", self.port)
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        fs::read_to_string(self.folder.path().join("log"))
            .unwrap()
            .lines()
            .filter(|line| line.contains("\"GET ") || line.contains("\"HEAD "))
            .count()
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
