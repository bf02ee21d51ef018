//! The image: everything is in the library.
#![no_std]
#![no_main]

use core as _;
use cvsw_unikernel as _;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    cvsw_unikernel::sys::die(info)
}
