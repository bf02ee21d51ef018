//! What the tests of actions share.

use cvsw_core::{
    Checksum, Frame,
    apply::{Next, Program},
    flow::{Action, Tunnel},
    parse::{Transport, parse},
    trace::{Effect, Event, NoTrace, Observer},
};
use cvsw_testkit::{hex, program::run};

/// Room in front of every frame: enough for an encapsulation and two tags.
pub const HEADROOM: usize = 64;

pub const TUNNEL: Tunnel = Tunnel {
    eth_dst: [0x02, 0, 0, 1, 0, 2],
    eth_src: [0x02, 0, 0, 1, 0, 1],
    dst: [192, 0, 2, 2],
    src: [192, 0, 2, 1],
    vni: 42,
};

/// A frame with [`HEADROOM`].
pub fn frame(bytes: &[u8]) -> Frame<Vec<u8>> {
    let buffer = [&[0xa5; HEADROOM][..], bytes].concat();
    Frame::new(buffer, HEADROOM, bytes.len()).expect("the buffer was made for it")
}

/// The frame with its TCP or UDP checksum left for later, as a sender with checksum offload gives it.
pub fn partial(bytes: &[u8]) -> Frame<Vec<u8>> {
    let mut frame = frame(bytes);
    let headers = parse(bytes, 1, 0).expect("an Ethernet header").headers;
    let offset = match headers.transport {
        Transport::Tcp => 16,
        Transport::Udp => 6,
        other => panic!("{other:?} has no pseudo-header"),
    };
    let start = usize::from(headers.transport_offset);
    // Complete minus payload is the pseudo-header's sum: ~checksum = pseudo + rest.
    let field = start + offset;
    let complete = u16::from_be_bytes([bytes[field], bytes[field + 1]]);
    let mut rest = bytes[start..].to_vec();
    rest[offset..offset + 2].fill(0);
    let pseudo = ones_add(!complete, !ones_sum(&rest));
    frame.bytes_mut()[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
    frame.offload.checksum = Checksum::Partial { start: start as u16, offset: offset as u16 };
    frame
}

fn ones_add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

fn ones_sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |sum, pair| ones_add(sum, u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
}

/// Compiles and runs `actions` on a frame from the host.
pub fn run_on(actions: &[Action], frame: &mut Frame<Vec<u8>>) -> Next {
    let program = Program::compile(actions).expect("valid actions");
    let parsed = parse(frame.bytes(), 1, 0).expect("an Ethernet header");
    run(&program, &mut 0x4321, frame, &parsed, &mut NoTrace)
}

/// The bytes after `actions`, which must forward the frame.
pub fn changed(actions: &[Action], bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame(bytes);
    assert_eq!(run_on(actions, &mut frame), Next::Forward, "{actions:?} on\n{}", hex::dump(bytes));
    frame.bytes().to_vec()
}

/// Runs `actions` and returns the result and what each action did.
pub fn observed(actions: &[Action], frame: &mut Frame<Vec<u8>>) -> (Next, Vec<(Action, Effect, Vec<u8>)>) {
    struct Steps(Vec<(Action, Effect, Vec<u8>)>);
    impl Observer for Steps {
        const ENABLED: bool = true;
        fn event(&mut self, event: &Event<'_>) {
            if let Event::Action { action, effect, bytes } = event {
                self.0.push((**action, *effect, bytes.to_vec()));
            }
        }
    }
    let program = Program::compile(actions).expect("valid actions");
    let parsed = parse(frame.bytes(), 1, 0).expect("an Ethernet header");
    let mut steps = Steps(Vec::new());
    let next = run(&program, &mut 0, frame, &parsed, &mut steps);
    (next, steps.0)
}
