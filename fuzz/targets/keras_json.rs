//! libFuzzer's door to `readers::keras_json`.

#![no_main]

#[path = "../readers.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| readers::keras_json(bytes));
