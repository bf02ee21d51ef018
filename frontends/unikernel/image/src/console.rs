//! The serial port: what must get out without a decoder, before the machine ends with the code of failure.

use crate::sys;
use core::{
    fmt::{self, Write},
    panic::PanicInfo,
};

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(sys::serial);
        Ok(())
    }
}

/// Prints where and why.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Console, "{info}");
    sys::exit(false)
}

/// Prints which processor exception it was, at which instruction, and the address of the last page fault.
pub fn exception(vector: u64, address: u64, page: u64) -> ! {
    let _ = writeln!(Console, "exception {vector} at {address:#x}, CR2 {page:#x}");
    sys::exit(false)
}
