//! A vNIC driver in miniature: an engine in static memory, one flow, one frame each way. No allocation.
//!
//! `cargo run -p cvsw-examples --bin embed`

use cvsw_core::{
    Config, Cvsw, Frame, Instant, Verdict,
    flow::{Direction, text::parse_flow},
};
use static_cell::StaticCell;
use zerocopy::FromZeros;

/// 64 entries, 64 cache slots, 16 kinds of wildcards: sizes are part of the type.
type Engine = Cvsw<64, 64, 16>;
static ENGINE: StaticCell<Engine> = StaticCell::new();

/// Room that the driver leaves in front of a frame, for encapsulation.
const HEADROOM: usize = 64;
const MAC: [u8; 6] = [0x02, 0, 0, 0, 1, 1];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = ENGINE.init_with(Engine::new_zeroed);
    engine.init(&Config { mac: MAC, ..Config::default() });
    let now = Instant::from_secs(1);
    let flow = parse_flow("in_port=HOST,dl_type=0x88b5,actions=mod_vlan_vid:42").map_err(|e| e.expected)?;
    engine.flow_mod(now, &flow)?;

    // The driver's receive buffer: headroom, then 60 bytes of frame.
    let mut buffer = [0u8; HEADROOM + 60];
    buffer[HEADROOM + 12..HEADROOM + 14].copy_from_slice(&[0x88, 0xb5]);
    for direction in Direction::ALL {
        let mut frame = Frame::new(&mut buffer[..], HEADROOM, 60).map_err(|_| "the buffer is too short")?;
        match engine.process(now, direction, &mut frame) {
            Verdict::Forward => println!("{}: forward {} bytes", direction.name(), frame.len()),
            Verdict::Consumed => println!("{}: a control frame", direction.name()),
            Verdict::Drop(reason) => println!("{}: drop, {reason}", direction.name()),
        }
    }
    let stats = engine.stats().direction(Direction::Rx);
    println!("rx: {} frames, {} matched no entry", stats.frames, stats.missed);
    Ok(())
}
