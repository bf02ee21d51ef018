//! OpenFlow messages: decode, encode, decode again.

use cvsw_core::openflow::{EncodeError, Message, StatsReply, decode_flow_mod, message_len};

/// Room for the longest OpenFlow message.
const MAX_MESSAGE: usize = 65_535;

/// What decodes must encode to a message that decodes to the same. `data` is a stream, of which the first message
/// counts; its length field is put right, so that the fuzzer need not guess it.
pub fn openflow(data: &[u8]) {
    let Some(cut) = message_len(data) else { return };
    let _ = cut.map(|len| data.get(..len).map(Message::decode));
    let Some((header, body)) = data.split_first_chunk::<4>() else { return };
    let Ok(len) = u16::try_from(data.len()) else { return };
    let mut whole = vec![1, header[1]];
    whole.extend(len.to_be_bytes());
    whole.extend(body);
    round_trip(&whole);
}

fn round_trip(bytes: &[u8]) {
    let Ok(message) = Message::decode(bytes) else { return };
    look_inside(&message);
    let mut room = vec![0; MAX_MESSAGE];
    let len = message.encode(7, &mut room).unwrap_or_else(|error| panic!("{error} in {message:?}"));
    let encoded = &room[..len];
    assert_eq!(message_len(encoded), Some(Ok(len)), "length field");
    assert_eq!(Message::decode(encoded).as_ref(), Ok(&message));
    assert_eq!(message.encode(7, &mut vec![0; len - 1]), Err(EncodeError::NoRoom), "{len} bytes in {}", len - 1);
    if let Message::FlowMod(flow) = &message {
        assert_eq!(decode_flow_mod(bytes).as_ref(), Ok(flow));
    }
}

/// Walks through what is decoded only on demand; it must end.
fn look_inside(message: &Message<'_>) {
    match message {
        Message::FeaturesReply(features) => assert!(features.ports.iter().count() <= MAX_MESSAGE / 48),
        Message::StatsReply(StatsReply::Port { entries, .. }) => assert!(entries.count() <= MAX_MESSAGE / 104 + 1),
        Message::StatsReply(StatsReply::Flow { entries, .. }) => assert!(entries.count() <= MAX_MESSAGE / 88),
        _ => {}
    }
}
