//! What is printed: two tables in Markdown, one of ratios and one of counts.

use std::fmt;

use crate::measure::{Cost, median};

/// The rows so far.
#[derive(Default)]
pub struct Table {
    ratios: Vec<String>,
    counts: Vec<String>,
}

/// Costs of a yardstick and of ours, round by round.
#[derive(Default)]
pub struct Pairs(Vec<(Cost, Cost)>);

impl Pairs {
    /// Adds a round.
    pub fn push(&mut self, yardstick: Cost, ours: Cost) {
        self.0.push((yardstick, ours));
    }

    /// The median of the yardstick's times, seconds.
    pub fn yardstick_s(&self) -> f64 {
        median(self.0.iter().map(|(yardstick, _)| yardstick.time_s))
    }

    /// The median of ours, seconds.
    pub fn ours_s(&self) -> f64 {
        median(self.0.iter().map(|(_, ours)| ours.time_s))
    }

    fn ratio(&self, of: impl Fn(&Cost) -> f64) -> f64 {
        median(self.0.iter().map(|(yardstick, ours)| of(ours) / of(yardstick)))
    }
}

impl Table {
    /// Adds a row of ratios; `bound` is what the time should keep, where this yardstick is the one that counts.
    pub fn ratio(&mut self, what: &str, yardstick: &str, pairs: &Pairs, bound: Option<&str>) {
        let (time, processors) = (pairs.ratio(|cost| cost.time_s), pairs.ratio(|cost| cost.processors_s));
        let processors = if processors.is_finite() { format!("{processors:.2}") } else { String::new() };
        let (ours_s, yardstick_s, bound) = (pairs.ours_s(), pairs.yardstick_s(), bound.unwrap_or_default());
        eprintln!("{what}: {ours_s:.3} s, {yardstick}: {yardstick_s:.3} s, ratio {time:.2}, of processors' time {processors}");
        self.ratios.push(format!("| {what} | {yardstick} | {time:.2} | {processors} | {bound} |"));
    }

    /// Adds a row of counts.
    pub fn count(&mut self, what: &str, counted: &str, bound: &str) {
        eprintln!("{what}: {counted}");
        self.counts.push(format!("| {what} | {counted} | {bound} |"));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | yardstick | time, yardstick = 1 | processors' time, yardstick = 1 | bound |\n|---|---|---:|---:|---:|")?;
        for row in &self.ratios {
            writeln!(f, "{row}")?;
        }
        writeln!(f, "\n| what | counted | bound |\n|---|---:|---:|")?;
        for row in &self.counts {
            writeln!(f, "{row}")?;
        }
        Ok(())
    }
}

/// A number with commas.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}
