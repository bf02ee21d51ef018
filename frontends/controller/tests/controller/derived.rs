//! What the derived flows do, judged by engines that carry frames between the members of two networks which have the
//! same addresses inside.

use std::collections::BTreeMap;

use cvsw_controller::{Mac, config::Config, derive};
use cvsw_core::{Cvsw, DropReason, Frame, Instant, Verdict, flow::Direction};
use zerocopy::FromZeros as _;

const TWO_NETWORKS: &str = r#"
[[network]]
name = "blue"
vni = 42
group = "239.129.1.42"
[[network.member]]
name = "vm1"
mac = "02:00:00:00:01:01"
ip = "10.0.0.1"
underlay_mac = "02:00:00:01:00:01"
underlay_ip = "192.0.2.1"
flows = ["priority=50000,in_port=HOST,udp,tp_dst=9,actions=drop"]
[[network.member]]
name = "vm2"
mac = "02:00:00:00:01:02"
ip = "10.0.0.2"
underlay_mac = "02:00:00:01:00:02"
underlay_ip = "192.0.2.2"
[[network]]
name = "red"
vni = 43
mtu = 1300
group = "239.129.1.42"
[[network.member]]
name = "vm1"
mac = "02:00:00:00:02:01"
ip = "10.0.0.1"
underlay_mac = "02:00:00:02:00:01"
underlay_ip = "192.0.2.3"
[[network.member]]
name = "vm2"
mac = "02:00:00:00:02:02"
ip = "10.0.0.2"
underlay_mac = "02:00:00:02:00:02"
underlay_ip = "192.0.2.4"
"#;

const BLUE1: [u8; 6] = [2, 0, 0, 0, 1, 1];
const BLUE2: [u8; 6] = [2, 0, 0, 0, 1, 2];
const RED1: [u8; 6] = [2, 0, 0, 0, 2, 1];
const RED2: [u8; 6] = [2, 0, 0, 0, 2, 2];
const BROADCAST: [u8; 6] = [0xff; 6];

struct Engines(BTreeMap<Mac, Box<Cvsw>>);

impl Engines {
    fn new() -> Self {
        let config = Config::parse("two.toml", TWO_NETWORKS).unwrap_or_else(|errors| panic!("{errors}")).config;
        let engine = |desired: &derive::Desired| {
            let mut engine = Cvsw::new_box_zeroed().unwrap();
            engine.init(&cvsw_core::Config::default());
            for flow in &desired.flows {
                engine.flow_mod(Instant::ZERO, &flow).unwrap();
            }
            engine
        };
        Self(derive::desired(&config).iter().map(|(mac, desired)| (*mac, engine(desired))).collect())
    }

    fn process(&mut self, mac: [u8; 6], direction: Direction, bytes: &[u8]) -> Result<Vec<u8>, DropReason> {
        let buffer = [&[0; 128], bytes].concat();
        let mut frame = Frame::new(buffer, 128, bytes.len()).unwrap();
        match self.0.get_mut(&Mac(mac)).unwrap().process(Instant::ZERO, direction, &mut frame) {
            Verdict::Forward => Ok(frame.bytes().to_vec()),
            Verdict::Drop(reason) => Err(reason),
            Verdict::Consumed => panic!("not a control frame"),
        }
    }

    /// Which members get a frame that `sender` sends, and the frame on the wire between them.
    fn carry(&mut self, sender: [u8; 6], frame: &[u8]) -> (Vec<[u8; 6]>, Vec<u8>) {
        let wire = self.process(sender, Direction::Tx, frame).unwrap();
        let mut receivers = Vec::new();
        for mac in [BLUE1, BLUE2, RED1, RED2].into_iter().filter(|mac| *mac != sender) {
            match self.process(mac, Direction::Rx, &wire) {
                Ok(received) => {
                    assert_eq!(received, frame, "it comes out as it went in");
                    receivers.push(mac);
                }
                Err(reason) => {
                    assert!(matches!(reason, DropReason::Policy | DropReason::VxlanVni), "{reason}");
                }
            }
        }
        (receivers, wire)
    }
}

fn frame(dst: [u8; 6], src: [u8; 6]) -> Vec<u8> {
    [&dst[..], &src, &[0x88, 0xb6], &[0x5a; 100]].concat()
}

#[test]
fn unicast_goes_to_its_peer_only() {
    let (receivers, wire) = Engines::new().carry(BLUE1, &frame(BLUE2, BLUE1));
    assert_eq!(receivers, [BLUE2]);
    // Outer Ethernet, IPv4 addresses, UDP destination port, VNI.
    assert_eq!(wire[..12], [2, 0, 0, 1, 0, 2, 2, 0, 0, 1, 0, 1]);
    assert_eq!(wire[26..34], [192, 0, 2, 1, 192, 0, 2, 2]);
    assert_eq!((&wire[36..38], &wire[46..49]), (&[0x12, 0xb5][..], &[0, 0, 42][..]));
}

#[test]
fn broadcast_multicast_and_unknown_stay_in_the_network() {
    for dst in [BROADCAST, [0x33, 0x33, 0, 0, 0, 1], [2, 9, 9, 9, 9, 9], RED2] {
        let (receivers, wire) = Engines::new().carry(BLUE1, &frame(dst, BLUE1));
        assert_eq!(receivers, [BLUE2], "to {dst:02x?}");
        // RFC 1112 section 6.4: the low 23 bits of 239.129.1.42.
        assert_eq!(wire[..6], [0x01, 0x00, 0x5e, 0x01, 0x01, 0x2a]);
        assert_eq!(wire[30..34], [239, 129, 1, 42]);
        let (receivers, wire) = Engines::new().carry(RED2, &frame(dst, RED2));
        assert_eq!((receivers.as_slice(), wire[48]), (&[RED1][..], 43));
    }
}

#[test]
fn nothing_gets_in_beside_the_tunnel() {
    let mut engines = Engines::new();
    for dst in [BLUE1, BROADCAST, [2, 0, 0, 1, 0, 1]] {
        assert_eq!(engines.process(BLUE1, Direction::Rx, &frame(dst, BLUE2)), Err(DropReason::Policy));
    }
}

#[test]
fn extra_flows_come_before_the_derived_ones() {
    let discard = |port: u8| {
        let ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        [&BLUE2[..], &BLUE1, &[8, 0], &ip, &[0, 1, 0, port, 0, 8, 0, 0]].concat()
    };
    let mut engines = Engines::new();
    assert_eq!(engines.process(BLUE1, Direction::Tx, &discard(9)), Err(DropReason::Policy));
    assert_eq!(engines.carry(BLUE1, &discard(10)).0, [BLUE2]);
}
