//! A rebuild: of a model that has not changed, and of one of whose small files one has.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::SHORT_ROUNDS;
use crate::measure::{cost, run};
use crate::models::{Models, SMALL_FILES};
use crate::servers::{Registry, Server, hs};
use crate::table::{Pairs, Table, grouped};

/// What is read of every folder to know what it is; not the model.
const ALWAYS_READ: &str = "contract.prototxt";

/// Both.
pub fn rows(folder: &Path, models: &Models, table: &mut Table) -> io::Result<()> {
    let (home, server) = (folder.join("home"), Registry::Docker.start(folder)?);
    fs::create_dir_all(&home)?;
    unchanged(&home, models, &server, table)?;
    one_changed(&home, models, &server, table)?;
    fs::remove_dir_all(home)
}

fn unchanged(home: &Path, models: &Models, server: &Server, table: &mut Table) -> io::Result<()> {
    build(home, &models.large, server)?;
    let asked = server.answered()?;
    build(home, &models.large, server)?;
    let requests = server.answered()? - asked;
    let opened = opened_by_a_build(home, &models.large, server)?;
    let mut pairs = Pairs::default();
    for _ in 0..SHORT_ROUNDS {
        let (version, _) = cost(None, || run(hs(home).arg("--version")))?;
        let (again, _) = cost(None, || build(home, &models.large, server))?;
        pairs.push(version, again);
    }
    let what = format!("build and push of {} again, unchanged", models.large_title);
    table.ratio(&what, "`hs --version`", &pairs, Some("≤ 5"));
    table.count(&format!("{what}: model files opened"), &opened.to_string(), "0");
    table.count(&format!("{what}: requests to the registry"), &requests.to_string(), "≤ 4");
    Ok(())
}

fn one_changed(home: &Path, models: &Models, server: &Server, table: &mut Table) -> io::Result<()> {
    let first = build(home, &models.small, server)?;
    let layers = first["images"][0]["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_files = layers.iter().filter(|layer| layer["purpose"] == "files").filter_map(|layer| layer["size_bytes"].as_u64());
    let compressed_bytes: u64 = of_files.sum();
    let changed = models.small.join("part-042/file-04242.txt");
    let before = fs::read(&changed)?;
    fs::write(&changed, "another text\n")?;
    let kept_bytes = server.kept_bytes()?;
    build(home, &models.small, server)?;
    let new_bytes = server.kept_bytes()? - kept_bytes;
    fs::write(&changed, before)?;
    let what = format!("one of {} small files changed: bytes that are new in the registry", grouped(SMALL_FILES as u64));
    let bound = format!("≤ {} (1/12 of {})", grouped(compressed_bytes / 12), grouped(compressed_bytes));
    table.count(&what, &grouped(new_bytes), &bound);
    Ok(())
}

fn arguments(model: &Path, server: &Server) -> Vec<String> {
    let name = model.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let to = format!("{}/{name}:1", server.address);
    let words = ["--quiet", "--output", "json", "build", "--name", &name, "--runtime", "scratch", "--to", &to];
    words.map(str::to_owned).into_iter().chain([model.display().to_string()]).collect()
}

fn build(home: &Path, model: &Path, server: &Server) -> io::Result<Value> {
    let printed = run(hs(home).args(arguments(model, server)))?;
    serde_json::from_str(&printed).map_err(io::Error::other)
}

/// How many files of the model a build opens, but for the one that says what it is.
fn opened_by_a_build(home: &Path, model: &Path, server: &Server) -> io::Result<usize> {
    let (trace, plain) = (home.join("trace"), hs(home));
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=open,openat,openat2", "-o"]).arg(&trace).arg(plain.get_program());
    command.args(arguments(model, server)).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(&mut command)?;
    let (text, below) = (fs::read_to_string(trace)?, format!("{}/", model.display()));
    let files = text.lines().filter(|line| !line.contains("O_DIRECTORY") && line.contains(&below));
    Ok(files.filter(|line| !line.contains(ALWAYS_READ)).count())
}
