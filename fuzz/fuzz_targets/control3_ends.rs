#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| cvsw_testkit::ends::converge(data));
