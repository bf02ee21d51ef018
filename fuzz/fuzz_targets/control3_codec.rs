#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| cvsw_testkit::fuzz::control3_codec(data));
