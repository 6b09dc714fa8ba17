//! libFuzzer's door to `readers::foreign`.

#![no_main]

#[path = "../readers.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| readers::foreign(bytes));
