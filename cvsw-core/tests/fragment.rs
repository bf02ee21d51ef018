//! Fragments of tunnel packets: put together again by etherparse, and made only where they may be.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

use cvsw_core::{
    Config, Cvsw, Direction, DropReason, Frame, Instant, NoRoom, Verdict,
    flow::text::parse_flow,
    fragment::Fragmenter,
    mtu::{IpMtu, L2Mtu},
};
use cvsw_testkit::checksums;
use etherparse::{IpNumber, PacketBuilder, SlicedPacket, defrag::IpDefragPool};
use proptest::prelude::*;
use zerocopy::FromZeros;

/// A frame with `len` bytes behind its IPv4 header, and a VLAN tag if wanted.
fn packet(len: usize, tagged: bool, df: bool) -> Vec<u8> {
    let mut ip =
        etherparse::Ipv4Header::new(len as u16, 64, IpNumber(253), [192, 0, 2, 1], [192, 0, 2, 2]).unwrap();
    (ip.dont_fragment, ip.identification) = (df, 0x1234);
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    if tagged {
        bytes.extend([0x81, 0, 0, 7]);
    }
    bytes.extend([8, 0]);
    ip.header_checksum = ip.calc_header_checksum();
    ip.write(&mut bytes).unwrap();
    bytes.extend((0..len).map(|index| (index % 251) as u8));
    bytes
}

fn cut(bytes: &[u8], mtu: IpMtu) -> Option<Vec<Vec<u8>>> {
    let mut fragmenter = Fragmenter::new(bytes, mtu)?;
    let mut fragments = Vec::new();
    while !fragmenter.is_done() {
        assert_eq!(fragmenter.remaining() + fragments.len(), Fragmenter::new(bytes, mtu).unwrap().remaining());
        let mut frame = Frame::new(vec![0; 70_000], 128, 0).unwrap();
        fragmenter.next(bytes, &mut frame).unwrap();
        fragments.push(frame.bytes().to_vec());
    }
    Some(fragments)
}

/// What etherparse makes of `fragments`: the payload of the whole packet.
fn reassembled(fragments: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut pool = IpDefragPool::<(), ()>::new();
    let mut whole = None;
    for fragment in fragments {
        let sliced = SlicedPacket::from_ethernet(fragment).unwrap();
        assert!(whole.is_none(), "more after the last");
        whole = pool.process_sliced_packet(&sliced, (), ()).unwrap();
    }
    whole.map(|packet| packet.payload)
}

proptest! {
    #[test]
    fn fragments_are_put_together_to_what_was_cut(len in 8usize..9000, mtu in 68u16..9100, tagged: bool) {
        let bytes = packet(len, tagged, false);
        let mtu_bytes = usize::from(mtu);
        let Some(fragments) = cut(&bytes, IpMtu::new(mtu).unwrap()) else {
            prop_assert!(len + 20 <= mtu_bytes);
            return Ok(());
        };
        prop_assert!(len + 20 > mtu_bytes && fragments.len() > 1);
        let link = if tagged { 18 } else { 14 };
        for (index, fragment) in fragments.iter().enumerate() {
            prop_assert!(fragment.len() - link <= mtu_bytes);
            prop_assert_eq!(&fragment[..link], &bytes[..link]);
            // As few as possible.
            prop_assert!(index + 1 == fragments.len() || fragment.len() - link > mtu_bytes - 8);
            checksums::verify(fragment).map_err(|error| TestCaseError::fail(error.to_string()))?;
        }
        prop_assert_eq!(reassembled(&fragments).unwrap(), &bytes[link + 20..]);
    }

    /// A fragment is cut as a router would: into parts of the whole.
    #[test]
    fn fragments_of_fragments(len in 2000usize..9000, first in 576u16..1600, second in 68u16..570) {
        let bytes = packet(len, false, false);
        let outer = cut(&bytes, IpMtu::new(first).unwrap()).unwrap();
        let mtu = IpMtu::new(second).unwrap();
        let inner: Vec<_> = outer.into_iter().flat_map(|part| cut(&part, mtu).unwrap_or_else(|| vec![part])).collect();
        prop_assert_eq!(reassembled(&inner).unwrap(), &bytes[34..]);
    }

    #[test]
    fn any_bytes_are_cut_or_left(bytes in proptest::collection::vec(any::<u8>(), 0..300), mtu in 68u16..200) {
        if let Some(fragments) = cut(&bytes, IpMtu::new(mtu).unwrap()) {
            prop_assert!(fragments.iter().all(|fragment| fragment.len() <= usize::from(mtu) + 14 + 8));
        }
    }
}

#[test]
fn what_must_stay_whole_is_not_cut() {
    let mtu = IpMtu::new(576).unwrap();
    assert!(Fragmenter::new(&packet(1000, false, true), mtu).is_none(), "don't fragment");
    assert!(Fragmenter::new(&packet(556, false, false), mtu).is_none(), "it fits");
    let mut v6 = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([1; 16], [2; 16], 64).udp(1, 2);
    builder.write(&mut v6, &[0; 1000]).unwrap();
    assert!(Fragmenter::new(&v6, mtu).is_none(), "IPv6");
    let mut options = packet(1000, false, false);
    options[14] = 0x46;
    assert!(Fragmenter::new(&options, mtu).is_none(), "options");
    assert!(Fragmenter::new(&packet(1000, false, false)[..800], mtu).is_none(), "truncated");
}

#[test]
fn a_fragment_without_room_can_be_made_again() {
    let bytes = packet(2000, false, false);
    let mut fragmenter = Fragmenter::new(&bytes, IpMtu::ETHERNET).unwrap();
    let mut small = Frame::new(vec![0; 200], 128, 0).unwrap();
    assert_eq!(fragmenter.next(&bytes, &mut small), Err(NoRoom));
    assert_eq!(fragmenter.remaining(), 2);
    let mut large = Frame::new(vec![0; 2000], 128, 0).unwrap();
    fragmenter.next(&bytes, &mut large).unwrap();
    assert_eq!((large.len(), fragmenter.remaining()), (14 + 20 + 1480, 1));
}

/// An engine above a link of MTU 1,500 that puts all frames into a tunnel, plain or behind a VLAN tag.
fn engine(actions: &str, fragment: bool) -> Box<Cvsw<64, 64, 8>> {
    let mut engine = Cvsw::<64, 64, 8>::new_box_zeroed().unwrap();
    engine.init(&Config { link_mtu: Some(L2Mtu::new(1518)), ..Config::default() });
    engine.fragment_outer(fragment.then_some(IpMtu::ETHERNET));
    engine.flow_mod(Instant::ZERO, &parse_flow(&format!("in_port=HOST,actions={actions}")).unwrap()).unwrap();
    engine
}

const TUNNEL: &str =
    "set_vxlan(vni=42,src=192.0.2.1,dst=192.0.2.2,eth_src=02:00:00:01:00:01,eth_dst=02:00:00:01:00:02)";

fn transmit(engine: &mut Cvsw<64, 64, 8>, bytes: &[u8]) -> (Verdict, Vec<u8>) {
    let buffer = [&[0; 128], bytes, &[0; 64]].concat();
    let mut frame = Frame::new(buffer, 128, bytes.len()).unwrap();
    let verdict = engine.process(Instant::ZERO, Direction::Tx, &mut frame);
    (verdict, frame.bytes().to_vec())
}

#[test]
fn tunnel_packets_are_cut_only_if_policy_asks() {
    let inner = packet(1480, false, true);
    let (verdict, _) = transmit(&mut engine(TUNNEL, false), &inner);
    assert_eq!(verdict, Verdict::Drop(DropReason::FrameTooBig), "no policy");
    for actions in [TUNNEL.to_owned(), format!("{TUNNEL},mod_vlan_vid:7")] {
        let mut engine = engine(&actions, true);
        let (verdict, outer) = transmit(&mut engine, &inner);
        assert_eq!(verdict, Verdict::Forward, "{actions}");
        checksums::verify(&outer).unwrap();
        let fragments = cut(&outer, IpMtu::ETHERNET).unwrap();
        assert_eq!(fragments.len(), 2);
        let whole = reassembled(&fragments).unwrap();
        // Behind UDP's and VXLAN's headers, the VM's frame as it was, its own don't-fragment bit included.
        assert_eq!(whole[16..], inner, "{actions}");
        // One that fits keeps the bit outside.
        let (verdict, outer) = transmit(&mut engine, &packet(1400, false, false));
        assert_eq!(verdict, Verdict::Forward);
        let sliced = SlicedPacket::from_ethernet(&outer).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else { panic!("{sliced:?}") };
        assert!(ip.header().dont_fragment());
    }
}

#[test]
fn the_vms_own_packets_are_never_cut() {
    for actions in ["mod_nw_tos:0", "mod_vlan_vid:9"] {
        let (verdict, _) = transmit(&mut engine(actions, true), &packet(1600, false, true));
        assert!(matches!(verdict, Verdict::Drop(_)), "{actions}: {verdict:?}");
    }
}
