#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| linkspan::site::fuzz_site(data));
