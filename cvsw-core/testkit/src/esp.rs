//! Two ends of an encrypted tunnel.

use crate::{ciphers::key, packet::Packet};
use cvsw_core::{
    Config, Cvsw, Direction, DropReason, Frame, Instant, Verdict,
    crypto::{Ciphers, KeyMaterial, SaConfig, SaCounters, SaError, SaEventKind, SaState, SaStatus, Suite},
    flow::text::parse_flow,
};
use zerocopy::FromZeros;

/// The sender's outer address.
pub const SENDER: [u8; 4] = [192, 0, 2, 1];
/// The receiver's outer address.
pub const RECEIVER: [u8; 4] = [192, 0, 2, 2];
/// The association that [`ENCAP`] names.
pub const SA: u32 = 7;
/// Its first SPI.
pub const SPI: u32 = 0x1001;
/// The VXLAN network.
pub const VNI: u32 = 42;
/// Bytes of the outer headers in front of the ESP header.
pub const OUTER_LEN: usize = 14 + 20;
/// Encapsulate and seal.
pub const ENCAP: &str = "in_port=HOST,actions=set_vxlan(vni=42,src=192.0.2.1,dst=192.0.2.2,\
                         eth_src=02:00:00:01:00:01,eth_dst=02:00:00:01:00:02),encrypt(sa=7)";
/// Open and decapsulate.
pub const DECAP: &str = "in_port=NET,ip,nw_proto=50,actions=decrypt,strip_vxlan(vni=42)";

/// Slots of an end's tables.
pub const SLOTS: usize = 4;
/// Room that [`End::pass`] gives in front of a frame.
pub const HEADROOM: usize = 128;
/// Room that [`End::pass`] gives behind a frame.
pub const TAILROOM: usize = 32;

/// An association with [`SA`]'s id, for packets to [`RECEIVER`].
pub const fn config(direction: Direction, spi: u32) -> SaConfig {
    SaConfig::new(SA, direction, spi, RECEIVER)
}

/// One end: an engine, its ciphers and its clock.
pub struct End<C> {
    /// The engine.
    pub engine: Box<Cvsw<16, 16, 8, SLOTS>>,
    /// Its ciphers.
    pub ciphers: C,
    /// Its time.
    pub now: Instant,
}

impl<C: Ciphers + Default> End<C> {
    /// An end with these flows and no association.
    pub fn new(flows: &[&str]) -> Self {
        let mut engine: Box<Cvsw<16, 16, 8, SLOTS>> = Cvsw::new_box_zeroed().expect("memory for an engine");
        engine.init(&Config { mac: [2, 0, 0, 0, 0, 1], ..Config::default() });
        let now = Instant::from_secs(1);
        for flow in flows {
            let flow = parse_flow(flow).unwrap_or_else(|error| panic!("`{flow}`: {error:?}"));
            engine.flow_mod(now, &flow).expect("an acceptable flow");
        }
        Self { engine, ciphers: C::default(), now }
    }

    /// A sender and a receiver with one association between them.
    pub fn pair(base: &SaConfig, key: &KeyMaterial) -> [Self; 2] {
        let mut ends = [Self::new(&[ENCAP]), Self::new(&[DECAP])];
        for (end, direction) in ends.iter_mut().zip([Direction::Tx, Direction::Rx]) {
            end.add(&SaConfig { direction, ..*base }, key).expect("an acceptable association");
        }
        ends
    }
}

impl<C: Ciphers> End<C> {
    /// Adds an association.
    pub fn add(&mut self, config: &SaConfig, key: &KeyMaterial) -> Result<(), SaError> {
        self.engine.add_sa(&mut self.ciphers, self.now, config, key)
    }

    /// Processes a frame from the host.
    pub fn send(&mut self, bytes: &[u8]) -> Result<Vec<u8>, DropReason> {
        self.pass(Direction::Tx, bytes, HEADROOM, TAILROOM)
    }

    /// Processes a frame from the network.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<u8>, DropReason> {
        self.pass(Direction::Rx, bytes, HEADROOM, TAILROOM)
    }

    /// Processes a frame with this much room around it.
    pub fn pass(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        headroom: usize,
        tailroom: usize,
    ) -> Result<Vec<u8>, DropReason> {
        let buffer = [&vec![0xa5; headroom], bytes, &vec![0x5a; tailroom]].concat();
        let mut frame = Frame::new(buffer, headroom, bytes.len()).expect("the buffer was made for it");
        match self.engine.process_with(&mut self.ciphers, self.now, direction, &mut frame) {
            Verdict::Forward => Ok(frame.bytes().to_vec()),
            Verdict::Drop(reason) => Err(reason),
            Verdict::Consumed => panic!("there is no control frame here"),
        }
    }

    /// The association with this SPI.
    pub fn sa(&self, spi: u32) -> SaStatus {
        self.engine.sas().find(|sa| sa.config.spi == spi).unwrap_or_else(|| panic!("no association {spi:#x}"))
    }

    /// The counters of the association with this SPI.
    pub fn counters(&self, spi: u32) -> SaCounters {
        self.sa(spi).counters
    }

    /// The state of the association with this SPI.
    pub fn state(&self, spi: u32) -> SaState {
        self.sa(spi).state
    }

    /// All events since the last call.
    pub fn events(&mut self) -> Vec<(u32, SaEventKind)> {
        std::iter::from_fn(|| self.engine.poll_sa_event()).map(|event| (event.spi, event.kind)).collect()
    }
}

/// Seals and opens inner frames of every length up to a jumbo frame's, in all suites, with not a byte of room to spare
/// in front of them or behind.
pub fn check_every_length<C: Ciphers + Default>() {
    const LONGEST: usize = 9000;
    const FRONT: usize = 50 + 16;
    let longest = Packet::udp4([10, 0, 0, 1], 1, [10, 0, 0, 2], 2, &[0x5a; LONGEST]).build();
    let check = &|suite: Suite| {
        let [mut sender, mut receiver] = End::<C>::pair(&config(Direction::Tx, SPI), &key(suite, 1));
        for len in 14..=longest.len() {
            let frame = &longest[..len];
            // Room for an ICV is demanded of all suites.
            let behind = Suite::padding(16 + len) + 2;
            let sealed = sender.pass(Direction::Tx, frame, FRONT, behind + 16).expect("it fits");
            assert_eq!(sealed.len(), FRONT + len + behind + suite.icv_len(), "{suite}: {len} bytes");
            assert!(receiver.pass(Direction::Rx, &sealed, 0, 0).as_deref() == Ok(frame), "{suite}: {len} bytes");
        }
    };
    std::thread::scope(|scope| {
        for suite in Suite::ALL {
            scope.spawn(move || check(suite));
        }
    });
}
