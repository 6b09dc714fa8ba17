//! libFuzzer's door to `readers::file_kind`.

#![no_main]

#[path = "../readers.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| readers::file_kind(bytes));
