//! Frames of any bytes, through an engine with flows of every kind, in both directions.

use super::{Engine, engine, flows};
use cvsw_core::{
    Checksum, Frame, Gso, GsoKind, Instant, Offload, Verdict,
    flow::{Direction, FlowMod},
    trace::{Event, Observer},
};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use std::sync::LazyLock;

/// Parsed once, not per input.
static FLOWS: LazyLock<Vec<FlowMod>> = LazyLock::new(|| {
    flows(&[
        "priority=9,dl_vlan=1,actions=strip_vlan",
        "priority=8,in_port=NET,udp,tp_dst=4789,actions=strip_vxlan(vni=42),resubmit(NET)",
        "priority=7,udp,tp_dst=53,actions=mod_nw_dst:10.1.1.1,mod_tp_dst:5353,mod_nw_tos:184",
        "priority=7,tcp,actions=mod_nw_src:10.2.2.2,mod_tp_src:8080,mod_dl_src:02:00:00:00:00:99",
        "priority=6,arp,actions=mod_vlan_vid:5,mod_vlan_pcp:3",
        "priority=5,icmp,actions=drop",
        "priority=4,ipv6,actions=mod_vlan_pcp:1,resubmit(IN_PORT)",
        "priority=3,in_port=HOST,ip,actions=mod_nw_src:10.3.3.3,set_vxlan(vni=42,src=192.0.2.1,dst=192.0.2.2,\
     eth_src=02:00:00:01:00:01,eth_dst=02:00:00:01:00:02)",
    ])
});
static ENCAP: LazyLock<Vec<FlowMod>> = LazyLock::new(|| {
    flows(&["in_port=HOST,actions=set_vxlan(vni=42,src=192.0.2.1,dst=192.0.2.2,\
                     eth_src=02:00:00:01:00:01,eth_dst=02:00:00:01:00:02)"])
});
static DECAP: LazyLock<Vec<FlowMod>> = LazyLock::new(|| flows(&["in_port=NET,actions=strip_vxlan(vni=42)"]));

/// More than any encapsulation needs.
const HEADROOM: usize = 128;

/// One frame. The input is a selector (bit 0 direction, bits 1-2 checksum state, bits 3-4 kind of super-segment,
/// bit 5 no headroom), three bytes of offload values, and the frame.
pub fn frame(data: &[u8]) {
    let Some((&[selector, start, offset, size], bytes)) = data.split_first_chunk::<4>() else { return };
    let offload = offload(selector, start, offset, size, bytes.len());
    let direction = if selector & 1 == 0 { Direction::Tx } else { Direction::Rx };
    let headroom = if selector & 32 == 0 { HEADROOM } else { 0 };
    let mut engine = engine(&FLOWS);

    let (mut traced, mut steps) = (held(bytes, headroom, offload), Steps::default());
    let explained = engine.trace(Instant::ZERO, direction, &mut traced, &mut steps);
    assert_eq!(steps.verdict, Some(explained), "the trace ends with another verdict than it returns");
    assert!(steps.actions > 0 || traced.bytes() == bytes, "a change without an action");
    assert_eq!(engine.stats().direction(direction).frames, 0, "a trace was counted");

    let mut frame = held(bytes, headroom, offload);
    let verdict = engine.process(Instant::ZERO, direction, &mut frame);
    counters_add_up(&engine, direction, bytes.len(), verdict, frame.len());
    assert_eq!(verdict, explained, "trace and processing disagree");
    assert_eq!(frame.bytes(), traced.bytes(), "trace and processing disagree");
    if verdict == Verdict::Forward && direction == Direction::Tx && offload == Offload::default() {
        checksums_survive(bytes, frame.bytes());
    }
    there_and_back(bytes);
}

fn offload(selector: u8, start: u8, offset: u8, size: u8, len: usize) -> Offload {
    let checksum = match selector >> 1 & 3 {
        0 => Checksum::Complete,
        1 => Checksum::Verified,
        _ => Checksum::Partial { start: start.into(), offset: offset.into() },
    };
    let kind = match selector >> 3 & 3 {
        0 => GsoKind::None,
        1 => GsoKind::TcpV4,
        2 => GsoKind::TcpV6,
        _ => GsoKind::Udp,
    };
    if kind == GsoKind::None {
        return Offload { checksum, gso: Gso::default() };
    }
    let header_len = u16::from(start).min(u16::try_from(len).unwrap_or(u16::MAX));
    Offload { checksum, gso: Gso { kind, size: u16::from(size) * 8, header_len, ecn: false } }
}

fn held(bytes: &[u8], headroom: usize, offload: Offload) -> Frame<Vec<u8>> {
    let mut buffer = vec![0xa5; headroom];
    buffer.extend(bytes);
    let mut frame = Frame::new(buffer, headroom, bytes.len()).expect("room was made");
    frame.offload = offload;
    frame
}

/// Listens to everything, so that no step is optimised away.
#[derive(Default)]
struct Steps {
    actions: usize,
    verdict: Option<Verdict>,
}

impl Observer for Steps {
    const ENABLED: bool = true;
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Action { .. } => self.actions += 1,
            Event::Verdict(verdict) => self.verdict = Some(*verdict),
            _ => {}
        }
    }
}

fn counters_add_up(engine: &Engine, direction: Direction, len: usize, verdict: Verdict, len_after: usize) {
    let stats = engine.stats().direction(direction);
    let len = u64::try_from(len).expect("small");
    assert_eq!((stats.frames, stats.bytes), (1, len));
    assert_eq!(stats.frames, stats.forwarded + stats.consumed + stats.dropped_total());
    match verdict {
        Verdict::Forward => {
            assert_eq!(stats.forwarded, 1);
            assert_eq!(stats.forwarded_bytes, u64::try_from(len_after).expect("small"));
        }
        Verdict::Consumed => assert_eq!(stats.consumed, 1),
        Verdict::Drop(reason) => assert_eq!(stats.dropped(reason), 1, "{reason}"),
    }
}

/// Whether a frame's IPv4, TCP and UDP checksums are right, judged by etherparse; `None` if it has none.
fn checksums_right(bytes: &[u8]) -> Option<bool> {
    let packet = SlicedPacket::from_ethernet(bytes).ok()?;
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { return None };
    let header = ip.header().to_header();
    if header.calc_header_checksum() != header.header_checksum {
        return Some(false);
    }
    Some(match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).ok()? == tcp.checksum()
        }
        Some(TransportSlice::Udp(udp)) if udp.checksum() != 0 => {
            udp.to_header().calc_checksum_ipv4(&header, udp.payload()).ok()? == udp.checksum()
        }
        _ => true,
    })
}

/// A frame with right checksums still has right checksums afterwards.
fn checksums_survive(before: &[u8], after: &[u8]) {
    if checksums_right(before) == Some(true) {
        assert_ne!(checksums_right(after), Some(false), "wrong checksum in {after:02x?}");
    }
}

/// What one vNIC encapsulates, its peer restores byte by byte.
fn there_and_back(bytes: &[u8]) {
    let mut frame = held(bytes, HEADROOM, Offload::default());
    if engine(&ENCAP).process(Instant::ZERO, Direction::Tx, &mut frame) != Verdict::Forward {
        return;
    }
    assert_eq!(frame.len(), bytes.len() + 50);
    assert_eq!(checksums_right(frame.bytes()), Some(true), "outer headers");
    let verdict = engine(&DECAP).process(Instant::ZERO, Direction::Rx, &mut frame);
    assert_eq!(verdict, Verdict::Forward);
    assert_eq!(frame.bytes(), bytes);
}
