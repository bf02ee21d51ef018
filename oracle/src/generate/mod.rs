//! Random cases. Values come from small sets, so that flows meet frames, and flows meet flows.

mod change;
mod frame;
mod nxm;

use crate::case::{Case, Step};
use cvsw_core::Direction;
use fastrand::Rng;

/// MAC addresses.
const MACS: [[u8; 6]; 4] =
    [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [0x00, 0x1b, 0x21, 0xff, 0x00, 0x80], [0xff; 6]];
/// IPv4 addresses: neighbours at several prefix lengths.
const IPV4: [[u8; 4]; 6] =
    [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 1, 1], [138, 0, 0, 1], [192, 0, 2, 255], [0, 0, 0, 0]];
/// Ports, ICMP types and codes, all in one: a flow for ICMP type 8 then also meets frames.
const PORTS: [u16; 8] = [0, 1, 8, 53, 80, 256, 4789, 65535];
/// ToS octets, some with ECN bits.
const TOS: [u8; 6] = [0, 0x04, 0xb8, 0xfc, 0x03, 0xb9];
/// VLAN ids.
const VIDS: [u16; 5] = [0, 1, 5, 0x7ff, 0xfff];
/// IP protocols: ICMP, TCP, UDP, IGMP, GRE, ICMPv6, SCTP.
const PROTOCOLS: [u8; 7] = [1, 6, 17, 2, 47, 58, 132];

/// The case number `index` of the run with `seed`.
pub fn case(seed: u64, index: u64) -> Case {
    let mut rng = Rng::with_seed(mix(seed, index));
    let rng = &mut rng;
    let mut case = Case::default();
    let mut cookie = 0;
    for _ in 0..rng.usize(1..4) {
        for _ in 0..rng.usize(1..6) {
            cookie += 1;
            case.steps.push(Step::Change(change::flow_mod(rng, cookie)));
        }
        let direction = if rng.bool() { Direction::Tx } else { Direction::Rx };
        let frames = (0..rng.usize(1..9)).map(|_| frame::frame(rng)).collect();
        case.steps.push(Step::Frames(direction, frames));
    }
    case
}

/// A seed per case (the finaliser of splitmix64).
fn mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One of a list.
fn pick<T: Copy>(rng: &mut Rng, list: &[T]) -> T {
    list[rng.usize(..list.len())]
}

/// True once in `n` times.
fn one_in(rng: &mut Rng, n: u32) -> bool {
    rng.u32(..n) == 0
}
