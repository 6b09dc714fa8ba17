//! libFuzzer's door to `readers::saved_model_text`.

#![no_main]

#[path = "../readers.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| readers::saved_model_text(bytes));
