//! libFuzzer's door to `readers::fit`.

#![no_main]

#[path = "../readers.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| readers::fit(bytes));
