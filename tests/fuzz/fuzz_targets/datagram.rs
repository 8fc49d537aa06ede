#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tunnel::fuzz::fuzz_datagram(data));
