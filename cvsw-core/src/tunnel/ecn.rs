//! Congestion marks and service classes across a tunnel (RFC 6040, RFC 2983).
//!
//! Encapsulation copies the whole ToS octet outwards: the ECN bits as RFC 6040's normal mode asks, the DSCP by
//! RFC 2983's uniform model, so that the underlay sees the class that the VM asked for. Decapsulation merges
//! the outer congestion mark into the inner packet and leaves the inner DSCP alone.

use crate::wire::ipv4::ECN_MASK;

/// The sender does not understand congestion marks.
pub const NOT_ECT: u8 = 0;
/// ECN-capable transport, codepoint 1.
pub const ECT_1: u8 = 1;
/// ECN-capable transport, codepoint 0.
pub const ECT_0: u8 = 2;
/// Congestion experienced.
pub const CE: u8 = 3;

/// The ECN bits of an inner packet after decapsulation (RFC 6040, figure 4); `None`: drop it. Of both
/// arguments only the two ECN bits count.
pub const fn decapsulate(inner: u8, outer: u8) -> Option<u8> {
    match (inner & ECN_MASK, outer & ECN_MASK) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (_, CE) => Some(CE),
        (ECT_0, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6040, figure 4, row by row; columns Not-ECT, ECT(0), ECT(1), CE.
    #[test]
    fn figure_4() {
        let table = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(row) {
                assert_eq!(decapsulate(0xb8 | inner, 0x40 | outer), expected, "inner {inner}, outer {outer}");
            }
        }
    }
}
