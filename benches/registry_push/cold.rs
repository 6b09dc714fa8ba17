//! The large model, cold: nothing is remembered and the registry is empty. Against hashing its files, and against putting them into the same registry.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use crate::ROUNDS;
use crate::measure::{Cost, Footprint, cost, run, run_weighed};
use crate::models::Models;
use crate::servers::{Registry, Server, hs};
use crate::table::{Pairs, Table, grouped};

/// As many as `hs build` sends at a time (`registry/send_layer.rs`).
const AT_ONCE: usize = 4;

/// Both registries, both yardsticks; and what the build held and wrote.
pub fn rows(folder: &Path, models: &Models, table: &mut Table) -> io::Result<()> {
    let blobs = digests(&models.weights())?;
    let mut footprints = Vec::new();
    for registry in [Registry::Docker, Registry::Lamina] {
        let (mut hashing, mut putting) = (Pairs::default(), Pairs::default());
        for _ in 0..ROUNDS {
            let hashed = hash(&models.weights())?;
            let server = registry.start(folder)?;
            let (put, ()) = cost(Some(server.process()), || put_all(&blobs, &server))?;
            drop(server);
            let server = registry.start(folder)?;
            let (ours, footprint) = build(folder, &models.large, &server)?;
            footprints.push(footprint);
            hashing.push(hashed, ours);
            putting.push(put, ours);
        }
        let what = format!("cold build and push of {} into {}", models.large_title, registry.name());
        let longer_is_put = putting.yardstick_s() > hashing.yardstick_s();
        let bound = |counts: bool| counts.then_some("≤ 1.15");
        table.ratio(&what, "bare PUT of the same blobs, as many at a time", &putting, bound(longer_is_put));
        table.ratio(&what, "`openssl dgst -sha256` of the files", &hashing, bound(!longer_is_put));
    }
    let most = |of: fn(&Footprint) -> u64| footprints.iter().map(of).max().unwrap_or_default();
    let what = format!("cold build and push of {}", models.large_title);
    table.count(&format!("{what}: memory, KiB"), &grouped(most(|footprint| footprint.resident_kib)), "≤ 65,536");
    table.count(&format!("{what}: bytes written to disks"), &grouped(most(|footprint| footprint.written_bytes)), "< 1,048,576");
    Ok(())
}

/// A build for a user who has never built anything.
pub fn build(folder: &Path, model: &Path, server: &Server) -> io::Result<(Cost, Footprint)> {
    let home = folder.join("home");
    fs::create_dir_all(&home)?;
    let mut command = hs(&home);
    command
        .args(["--quiet", "build", "--name", "model", "--runtime", "scratch", "--to", &format!("{}/model:1", server.address)])
        .arg(model);
    let (cost, (_, footprint)) = cost(Some(server.process()), || run_weighed(&command))?;
    fs::remove_dir_all(home)?;
    Ok((cost, footprint))
}

fn hash(files: &[PathBuf]) -> io::Result<Cost> {
    Ok(cost(None, || run(Command::new("openssl").args(["dgst", "-sha256"]).args(files)))?.0)
}

/// The files and their SHA-256, in hex.
fn digests(files: &[PathBuf]) -> io::Result<Vec<(PathBuf, String)>> {
    let printed = run(Command::new("openssl").args(["dgst", "-sha256", "-r"]).args(files))?;
    let hex = printed.lines().map(|line| line.split(' ').next().unwrap_or_default().to_owned());
    Ok(files.iter().cloned().zip(hex).collect())
}

/// The files as blobs: a session, and the whole body in one request, which is the least that a registry asks.
fn put_all(blobs: &[(PathBuf, String)], server: &Server) -> io::Result<()> {
    let waiting = Mutex::new(blobs.iter());
    let next = || waiting.lock().map_or(None, |mut waiting| waiting.next());
    let put_some = || -> io::Result<()> {
        while let Some((file, hex)) = next() {
            put(file, hex, server)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(put_some)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| io::Error::other("a thread died"))?)
    })
}

fn put(file: &Path, hex: &str, server: &Server) -> io::Result<()> {
    let base = format!("http://{}", server.address);
    let opened =
        run(Command::new("curl").args(["-sSf", "-X", "POST", "-D", "-", "-o", "/dev/null", &format!("{base}/v2/bare/blobs/uploads/")]))?;
    let location = opened.lines().find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("location")));
    let location = location.map(|(_, value)| value.trim()).ok_or_else(|| io::Error::other("an upload without a Location"))?;
    let location = if location.starts_with('/') { format!("{base}{location}") } else { location.to_owned() };
    let mark = if location.contains('?') { '&' } else { '?' };
    let url = format!("{location}{mark}digest=sha256:{hex}");
    run(Command::new("curl")
        .args(["-sSf", "-o", "/dev/null", "-H", "Content-Type: application/octet-stream", "-H", "Expect:", "-T"])
        .arg(file)
        .arg(url))?;
    Ok(())
}
