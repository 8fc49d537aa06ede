#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| linkspan::run::fuzz_path_states(data));
