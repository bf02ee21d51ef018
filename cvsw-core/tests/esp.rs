//! ESP through the engine: what one end seals, the other opens; everything else is dropped and counted.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use cvsw_core::{
    Config, Cvsw, Direction, DropReason, Frame, Instant, Verdict,
    crypto::{KeyMaterial, Portable, SaConfig, Suite},
    flow::text::parse_flow,
};
use cvsw_testkit::{checksums, hex, packet::Packet};
use zerocopy::FromZeros;

const HEADROOM: usize = 128;
const TAILROOM: usize = 32;
const NOW: Instant = Instant::from_secs(1);
const RECEIVER: [u8; 4] = [192, 0, 2, 2];
const SPI: u32 = 0x1001;

/// One end: an engine and its ciphers.
struct End {
    engine: Box<Cvsw<16, 16, 8, 4>>,
    ciphers: Portable<4>,
}

impl End {
    fn new(flows: &[&str]) -> Self {
        let mut engine: Box<Cvsw<16, 16, 8, 4>> = Cvsw::new_box_zeroed().unwrap();
        engine.init(&Config { mac: [2, 0, 0, 0, 0, 1], ..Config::default() });
        for flow in flows {
            engine.flow_mod(NOW, &parse_flow(flow).unwrap()).unwrap();
        }
        Self { engine, ciphers: Portable::new() }
    }

    fn sender() -> Self {
        Self::new(&["in_port=HOST,actions=set_vxlan(vni=42,src=192.0.2.1,dst=192.0.2.2,\
                     eth_src=02:00:00:01:00:01,eth_dst=02:00:00:01:00:02),encrypt(sa=7)"])
    }

    fn receiver() -> Self {
        Self::new(&["in_port=NET,ip,nw_proto=50,actions=decrypt,strip_vxlan(vni=42)"])
    }

    fn add(&mut self, config: &SaConfig, key: &KeyMaterial) {
        self.engine.add_sa(&mut self.ciphers, NOW, config, key).unwrap();
    }

    fn pass(&mut self, direction: Direction, bytes: &[u8]) -> Result<Vec<u8>, DropReason> {
        let buffer = [&[0xa5; HEADROOM][..], bytes, &[0x5a; TAILROOM]].concat();
        let mut frame = Frame::new(buffer, HEADROOM, bytes.len()).unwrap();
        match self.engine.process_with(&mut self.ciphers, NOW, direction, &mut frame) {
            Verdict::Forward => Ok(frame.bytes().to_vec()),
            Verdict::Drop(reason) => Err(reason),
            Verdict::Consumed => panic!("no control frame"),
        }
    }
}

fn key(suite: Suite) -> KeyMaterial {
    let bytes: Vec<u8> = (1..=suite.key_material_len() as u8).collect();
    KeyMaterial::new(suite, &bytes).unwrap()
}

fn inner(payload: usize) -> Vec<u8> {
    Packet::udp4([10, 0, 0, 1], 1000, [10, 0, 0, 2], 2000, &vec![0x77; payload]).build()
}

#[test]
fn opens_what_it_sealed() {
    for suite in Suite::ALL {
        for extended_sequence in [false, true] {
            if extended_sequence && !suite.is_authenticated() {
                continue;
            }
            let (mut sender, mut receiver) = (End::sender(), End::receiver());
            let config = SaConfig { extended_sequence, ..SaConfig::new(7, Direction::Tx, SPI, RECEIVER) };
            sender.add(&config, &key(suite));
            receiver.add(&SaConfig { direction: Direction::Rx, ..config }, &key(suite));
            for len in 0..200 {
                let frame = inner(len);
                let sealed = sender.pass(Direction::Tx, &frame).unwrap();
                assert_eq!(checksums::verify(&sealed), Ok(()), "{suite}\n{}", hex::dump(&sealed));
                assert_eq!(sealed.len(), 14 + 20 + 30 + frame.len() - 14 + suite.overhead(30 + frame.len() - 14));
                assert_eq!(receiver.pass(Direction::Rx, &sealed), Ok(frame), "{suite}, {len}");
                let again = if suite.is_authenticated() { Err(DropReason::EspReplay) } else { Ok(inner(len)) };
                assert_eq!(receiver.pass(Direction::Rx, &sealed), again);
            }
        }
    }
}
