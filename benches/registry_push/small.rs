//! Ten thousand small files, cold, against GNU tar piped into two `openssl` and a `gzip`: the same archive, the same level, both digests.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::ROUNDS;
use crate::cold;
use crate::measure::{cost, run};
use crate::models::{Models, SMALL_FILES};
use crate::servers::Registry;
use crate::table::{Pairs, Table, grouped};

/// `$1` is the folder; `$2` a pipe with a name, since a shell's own cannot be waited for.
const PIPELINE: &str = r#"
openssl dgst -sha256 < "$2" > /dev/null &
tar -C "$1" -cf - . | tee "$2" | gzip -6 | openssl dgst -sha256 > /dev/null
wait
"#;

/// The time, and the memory for ten thousand entries.
pub fn rows(folder: &Path, models: &Models, table: &mut Table) -> io::Result<()> {
    let pipe = folder.join("pipe");
    run(Command::new("mkfifo").arg(&pipe))?;
    let (mut pairs, mut resident_kib) = (Pairs::default(), 0);
    for _ in 0..ROUNDS {
        let (piped, _) = cost(None, || run(Command::new("sh").args(["-c", PIPELINE, "sh"]).arg(&models.small).arg(&pipe)))?;
        let server = Registry::Docker.start(folder)?;
        let (ours, footprint) = cold::build(folder, &models.small, &server)?;
        resident_kib = resident_kib.max(footprint.resident_kib);
        pairs.push(piped, ours);
    }
    fs::remove_file(pipe)?;
    let files = grouped(SMALL_FILES as u64);
    let what = format!("cold build and push of {files} small files");
    table.ratio(&what, "`tar`, `openssl dgst -sha256` of both forms and `gzip -6` in a pipe", &pairs, Some("≤ 1.2"));
    let bound = format!("≤ {}", grouped((64 << 10) + SMALL_FILES as u64));
    table.count(&format!("{what}: memory, KiB"), &grouped(resident_kib), &bound);
    Ok(())
}
