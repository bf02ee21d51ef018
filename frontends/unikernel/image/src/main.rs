//! The image: everything is in the library.
#![cfg_attr(not(unix), no_std, no_main)]

#[cfg(not(unix))]
use cvsw_unikernel as _;

#[cfg(not(unix))]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    cvsw_unikernel::console::panic(info)
}

/// Cargo builds programs beside tests; this one is of no use on a host.
#[cfg(unix)]
fn main() -> std::process::ExitCode {
    eprintln!("this is the program of a machine without an operating system: `cargo xtask unikernel` builds it");
    std::process::ExitCode::FAILURE
}
