//! A piece of work, measured: the time on the clock, and the processors' time of all processes that did it.
//!
//! Processes are measured as the system accounts for them (proc(5)): those that were started for the work by what this program's ended children have used,
//! a registry that goes on by what it used meanwhile.

use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Linux counts processors' time in hundredths of a second, whatever its own clock.
const TICKS_PER_S: f64 = 100.0;

/// What a piece of work took.
#[derive(Clone, Copy)]
pub struct Cost {
    /// Seconds.
    pub time_s: f64,
    /// Seconds of all processors, in user and system mode.
    pub processors_s: f64,
}

/// What a process held and wrote.
#[derive(Clone, Copy)]
pub struct Footprint {
    /// The most memory that it held, KiB.
    pub resident_kib: u64,
    /// Bytes that it caused to be written to disks.
    pub written_bytes: u64,
}

/// Measures `work`; `server` is a process that does a part of it.
pub fn cost<T>(server: Option<u32>, work: impl FnOnce() -> io::Result<T>) -> io::Result<(Cost, T)> {
    let ticks = || -> io::Result<u64> {
        let own = fields("self", 15..17)?;
        Ok(own + server.map_or(Ok(0), |process| fields(&process.to_string(), 13..15))?)
    };
    let before = ticks()?;
    let began = Instant::now();
    let done = work()?;
    let time_s = began.elapsed().as_secs_f64();
    Ok((Cost { time_s, processors_s: (ticks()? - before) as f64 / TICKS_PER_S }, done))
}

/// The sum of some fields of `/proc/…/stat`; the name of the program, which may hold anything, is the second.
fn fields(process: &str, which: std::ops::Range<usize>) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = text.rsplit_once(')').map_or("", |(_, after)| after);
    let numbers = after_name.split_whitespace().skip(which.start - 2).take(which.len());
    Ok(numbers.filter_map(|number| number.parse::<u64>().ok()).sum())
}

/// Runs a program, which must succeed, and gives what it printed.
pub fn run(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| named(command, &error.to_string()))?;
    if !output.status.success() {
        return Err(named(command, &String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The same under GNU time, which tells what the program held and wrote.
pub fn run_weighed(command: &Command) -> io::Result<(String, Footprint)> {
    let told = std::env::temp_dir().join(format!("registry-push-time-{}", std::process::id()));
    let mut timed = Command::new("/usr/bin/time");
    timed.args(["-q", "-f", "%M %O", "-o"]).arg(&told).arg(command.get_program()).args(command.get_args()).env_clear();
    timed.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let printed = run(&mut timed)?;
    let text = fs::read_to_string(&told)?;
    fs::remove_file(&told)?;
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
    let mut number = || numbers.next().ok_or_else(|| named(&timed, &text));
    // Blocks of 512 bytes (getrusage(2), ru_oublock).
    let footprint = Footprint { resident_kib: number()?, written_bytes: number()? * 512 };
    Ok((printed, footprint))
}

fn named(command: &Command, what: &str) -> io::Error {
    io::Error::other(format!("{}: {what}", command.get_program().display()))
}

/// The middle of some numbers.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
