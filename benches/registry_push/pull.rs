//! A layer that exists only as a recipe, pulled from `hs serve`, against `nginx` serving the same bytes as a file.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::SHORT_ROUNDS;
use crate::measure::{cost, run};
use crate::models::Models;
use crate::servers::{Registry, hs, nginx};
use crate::table::{Pairs, Table};

/// One row.
pub fn rows(folder: &Path, models: &Models, table: &mut Table) -> io::Result<()> {
    let (home, served) = (folder.join("home"), folder.join("served"));
    fs::create_dir_all(&home)?;
    fs::create_dir_all(&served)?;
    let registry = Registry::Lamina.start(folder)?;
    let base = format!("http://{}", registry.address);
    run(hs(&home).args(["--quiet", "upload", "--name", "single", "--runtime", "scratch", "--server", &base]).arg(&models.single))?;
    let manifest = run(Command::new("curl").args(["-sSf", &format!("{base}/v2/single/manifests/1")]))?;
    let manifest: Value = serde_json::from_str(&manifest).map_err(io::Error::other)?;
    let layers = manifest["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let largest = layers.iter().max_by_key(|layer| layer["size"].as_u64()).and_then(|layer| layer["digest"].as_str());
    let of_ours = format!("{base}/v2/single/blobs/{}", largest.ok_or_else(|| io::Error::other("an image without layers"))?);
    run(Command::new("curl").args(["-sSf", "-o"]).arg(served.join("layer")).arg(&of_ours))?;
    let other = nginx(folder, &served)?;
    let of_nginx = format!("http://{}/layer", other.address);
    let mut pairs = Pairs::default();
    for _ in 0..SHORT_ROUNDS {
        let pull = |server: u32, url: &str| cost(Some(server), || run(Command::new("curl").args(["-sSf", "-o", "/dev/null", url])));
        let (theirs, _) = pull(other.process(), &of_nginx)?;
        let (ours, _) = pull(registry.process(), &of_ours)?;
        pairs.push(theirs, ours);
    }
    // 0.9 × the speed is 1.11 × the time.
    table.ratio("pull of a layer that is a recipe from `hs serve`", "`nginx` serving it as a file", &pairs, Some("≤ 1.11"));
    fs::remove_dir_all(home)?;
    fs::remove_dir_all(served)
}
