//! Files of QEMU's firmware configuration (its docs/specs/fw_cfg).

use crate::sys::{firmware_byte, firmware_select};

const SIGNATURE: u16 = 0;
const DIRECTORY: u16 = 0x19;
/// More would be a lie.
const MOST_FILES: u32 = 1024;

/// Reads the file of that name into `out`; its length. `None`: there is no such file, or it does not fit.
pub fn file(name: &str, out: &mut [u8]) -> Option<usize> {
    firmware_select(SIGNATURE);
    if bytes::<4>() != *b"QEMU" {
        return None;
    }
    firmware_select(DIRECTORY);
    let files = u32::from_be_bytes(bytes()).min(MOST_FILES);
    let (size, item) = (0..files).find_map(|_| {
        let size = u32::from_be_bytes(bytes());
        let item = u16::from_be_bytes(bytes());
        let _reserved: [u8; 2] = bytes();
        let found: [u8; 56] = bytes();
        let found = core::ffi::CStr::from_bytes_until_nul(&found).ok()?;
        (found.to_bytes() == name.as_bytes()).then_some((size as usize, item))
    })?;
    let out = out.get_mut(..size)?;
    firmware_select(item);
    out.iter_mut().for_each(|byte| *byte = firmware_byte());
    Some(size)
}

fn bytes<const N: usize>() -> [u8; N] {
    core::array::from_fn(|_| firmware_byte())
}
