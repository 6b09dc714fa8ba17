//! libFuzzer's door to `readers::definition`.

#![no_main]

#[path = "../readers.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| readers::definition(bytes));
