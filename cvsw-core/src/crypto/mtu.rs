//! The MTU inside a tunnel.

use super::Suite;
use crate::{
    mtu::IpMtu,
    wire::{esp, ethernet, ipv4, udp, vxlan},
};

/// The largest inner IP packet whose VXLAN packet over IPv4 still fits into an IP packet of `underlay` bytes,
/// encrypted with `suite` if there is one; the inner frame untagged. `None` if that is below [`IpMtu::MIN`].
pub const fn vxlan_mtu(underlay: IpMtu, suite: Option<Suite>) -> Option<IpMtu> {
    let room = (underlay.get() as usize).saturating_sub(ipv4::LEN);
    let datagram = match suite {
        None => room,
        Some(suite) => {
            let sealed = room.saturating_sub(esp::LEN).saturating_sub(suite.icv_len());
            // What is encrypted is a multiple of the alignment and ends with the trailer.
            sealed.saturating_sub(sealed % esp::ALIGNMENT).saturating_sub(esp::TRAILER_LEN)
        }
    };
    let headers = udp::LEN.saturating_add(vxlan::LEN).saturating_add(ethernet::LEN);
    IpMtu::new(datagram.saturating_sub(headers) as u16)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;

    /// The textbook figure without encryption, and by hand: 1500 = 20 IPv4 + 8 ESP + 8 IV + (8 UDP + 8 VXLAN + 14
    /// Ethernet + n + padding + 2) + 16 ICV with the parenthesis a multiple of 4: 1448, so n = 1416; without
    /// ICV 1464, so n = 1432.
    #[test]
    fn ethernet_underlay() {
        let of = |suite| vxlan_mtu(IpMtu::ETHERNET, suite).map(IpMtu::get);
        assert_eq!(of(None), Some(1450));
        for suite in Suite::ALL {
            assert_eq!(of(Some(suite)), Some(if suite.is_authenticated() { 1416 } else { 1432 }), "{suite}");
        }
    }

    #[test]
    fn too_small_an_underlay_has_no_mtu() {
        for suite in [None].into_iter().chain(Suite::ALL.map(Some)) {
            assert_eq!(vxlan_mtu(IpMtu::MIN, suite), None);
        }
    }

    /// One byte more would not fit, for every suite and every underlay.
    #[test]
    fn exact_to_the_byte() {
        for underlay in (0..=u16::MAX).filter_map(IpMtu::new) {
            for suite in [None].into_iter().chain(Suite::ALL.map(Some)) {
                let packet = |inner: usize| {
                    let datagram = inner + 14 + 8 + 8;
                    20 + datagram + suite.map_or(0, |suite| suite.overhead(datagram))
                };
                let underlay_len = usize::from(underlay.get());
                match vxlan_mtu(underlay, suite) {
                    Some(inner) => {
                        assert!(packet(usize::from(inner.get())) <= underlay_len, "{underlay:?} {suite:?}");
                        assert!(packet(usize::from(inner.get()) + 1) > underlay_len, "{underlay:?} {suite:?}");
                    }
                    None => assert!(packet(usize::from(IpMtu::MIN.get())) > underlay_len, "{underlay:?} {suite:?}"),
                }
            }
        }
    }
}
