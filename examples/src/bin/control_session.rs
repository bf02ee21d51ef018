//! A control session from both ends: what a controller sends, and what the engine answers and asks for.
//!
//! `cargo run -p cvsw-examples --bin control_session`

use cvsw_core::{
    Config, Cvsw, Frame, Instant,
    control::{ControlMessage, ETHERTYPE, MAX_FRAME_LEN, MessageType, OffloadFlags, VERSION_2},
    flow::{Direction, text::parse_flow},
    openflow::encode_flow_mod,
};
use std::error::Error;
use zerocopy::FromZeros;

const MAC: [u8; 6] = [0x02, 0, 0, 0, 1, 1];

fn main() -> Result<(), Box<dyn Error>> {
    let mut engine = Box::new(Cvsw::<64, 64, 16>::new_zeroed());
    engine.init(&Config { mac: MAC, ..Config::default() });

    let flow = parse_flow("udp,tp_dst=9,actions=drop").map_err(|error| error.expected)?;
    let mut flow_mod = [0; MAX_FRAME_LEN];
    let len = encode_flow_mod(&flow, 1, &mut flow_mod).map_err(|_| "the flow does not fit a message")?;

    let message = |kind, data| ControlMessage { dst: MAC, version: VERSION_2, kind, data, body: &[] };
    let session = [
        message(MessageType::Hello, 0),
        message(MessageType::SetMtu, 1450),
        message(MessageType::SetOffload, OffloadFlags::CSUM),
        ControlMessage { body: &flow_mod[..len], ..message(MessageType::SetEntry, 0) },
        message(MessageType::ListEntries, 0),
    ];
    for message in session {
        println!("controller: {:?}", message.kind);
        let mut buffer = [0; MAX_FRAME_LEN];
        let len = message.emit(ETHERTYPE, &mut buffer).map_err(|_| "the message does not fit a frame")?;
        let mut frame = Frame::new(&mut buffer[..], 0, len).map_err(|_| "the buffer is too short")?;
        // A control frame counts only if it comes from the network.
        let verdict = engine.process(Instant::from_secs(1), Direction::Rx, &mut frame);
        println!("  verdict: {verdict:?}");
        let mut reply = [0; MAX_FRAME_LEN];
        while let Some(len) = engine.poll_transmit(&mut reply) {
            let reply = ControlMessage::parse(&reply[..len]).map_err(|error| error.name())?;
            println!("  vNIC: {:?}, {} bytes of body", reply.kind, reply.body.len());
        }
        while let Some(event) = engine.poll_event() {
            println!("  event: {event:?}");
        }
    }
    Ok(())
}
