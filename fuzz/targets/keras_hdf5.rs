//! libFuzzer's door to `readers::keras_hdf5`.

#![no_main]

#[path = "../readers.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| readers::keras_hdf5(bytes));
