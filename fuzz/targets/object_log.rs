#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    zrs_fuzz::object_log(bytes);
    zrs_fuzz::object_log_heads(bytes);
});
