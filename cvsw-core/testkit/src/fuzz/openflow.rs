//! OpenFlow messages: decode, encode, decode again.

use cvsw_core::openflow::{decode_flow_mod, encode_flow_mod};

/// Room for the longest OpenFlow message.
const MAX_MESSAGE: usize = 65_535;

/// What decodes must encode to a message that decodes to the same.
pub fn openflow(data: &[u8]) {
    let Ok(flow) = decode_flow_mod(data) else { return };
    let mut message = vec![0; MAX_MESSAGE];
    let len = encode_flow_mod(&flow, 7, &mut message).expect("room for any message");
    let message = &message[..len];
    assert_eq!(message[..2], [1, 14], "version and type");
    assert_eq!(usize::from(u16::from_be_bytes([message[2], message[3]])), len, "length field");
    assert_eq!(decode_flow_mod(message).as_ref(), Ok(&flow), "{data:02x?}");
    assert!(encode_flow_mod(&flow, 7, &mut vec![0; len - 1]).is_err(), "wrote {len} bytes into {}", len - 1);
}
