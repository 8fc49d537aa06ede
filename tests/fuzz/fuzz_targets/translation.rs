#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tunnel::packet::fuzz::fuzz_translate(data));
