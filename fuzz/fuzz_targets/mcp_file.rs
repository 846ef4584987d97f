#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| voicelived_fuzz::fuzzed::fuzz_mcp_file(data));
