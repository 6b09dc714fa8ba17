//! What building and pushing costs, next to what the work costs by itself: hashing the files, putting the bytes into the registry, compressing them.
//!
//!     cargo bench --bench registry_push
//!
//! It needs Debian's packages curl, docker-registry, nginx-light, openssl, strace and time, 13 GB of disk and a quarter of an hour. `LAMINA_BENCH_MODEL_MIB` is for
//! smaller machines: the size of the large model, 4096 where it is not set. `LAMINA_BENCH_FOLDER` is where everything lies, the build's own folder where it is not.
//!
//! What must stay true: a yardstick is another program, it runs in the same minute as ours, the two in turn, and what is printed is the median of the
//! ratios, pair by pair. Both measures are printed: time, and the processors' time of all processes, registries included, which a busy machine disturbs less.

#![allow(missing_docs, reason = "a program")]

mod cold;
mod measure;
mod models;
mod pull;
mod rebuild;
mod servers;
mod small;
mod table;

use std::io;
use std::path::PathBuf;

use models::Models;
use table::Table;

/// Rounds of each row: one run of each yardstick, one of ours.
const ROUNDS: usize = 5;
/// Runs of rows that take milliseconds.
const SHORT_ROUNDS: usize = 25;

/// A folder that does not outlive the program.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing is left to do about a folder that stays.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[expect(clippy::disallowed_methods, reason = "a program of its own")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn main() -> io::Result<()> {
    let model_mib = match variable("LAMINA_BENCH_MODEL_MIB") {
        Some(text) => text.parse().map_err(io::Error::other)?,
        None => 4096,
    };
    let below = variable("LAMINA_BENCH_FOLDER").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let folder = Folder(below.join(format!("registry-push-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0)?;
    eprintln!("making the models");
    let models = Models::make(&folder.0, model_mib)?;
    let mut table = Table::default();
    cold::rows(&folder.0, &models, &mut table)?;
    rebuild::rows(&folder.0, &models, &mut table)?;
    small::rows(&folder.0, &models, &mut table)?;
    pull::rows(&folder.0, &models, &mut table)?;
    println!("{table}");
    Ok(())
}
