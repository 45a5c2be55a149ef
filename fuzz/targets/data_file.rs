#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zrs_fuzz::data_file(bytes));
