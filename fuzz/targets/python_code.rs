//! libFuzzer's door to `readers::python_code`.

#![no_main]

#[path = "../readers.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| readers::python_code(bytes));
