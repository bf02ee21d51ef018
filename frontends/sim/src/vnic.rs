//! One vNIC: the core's engine with a small table, and the interface that it controls.

use std::sync::atomic::{AtomicU16, Ordering};

use cvsw_controller::Mac;
use cvsw_core::{
    Cvsw, Frame, Instant,
    control::v3::ControlKeys,
    control::{ControlEvent, MAX_FRAME_LEN},
    crypto::{CipherError, Ciphers, KeyMaterial, PacketHeader, SaStatus},
    flow::{Direction, FlowMod},
};
use zerocopy::FromZeros as _;

/// Entries that a vNIC has room for, besides those that are about to go.
pub const MAX_FLOWS: usize = 48;

/// The engine: room for 64 entries of 16 kinds, no cache, since no packets come, and 128 security associations.
type Engine = Cvsw<64, 1, 16, 128>;

/// Memory of one engine in bytes.
pub const ENGINE_BYTES: usize = size_of::<Engine>();

/// What can be seen of a vNIC without stopping it.
#[derive(Debug, Default)]
pub struct Seen {
    /// MTU that was set last; 0: none yet.
    pub mtu: AtomicU16,
    /// Entries in the table.
    pub flows: AtomicU16,
}

/// A vNIC.
pub struct Vnic {
    /// Its address.
    pub mac: Mac,
    engine: Box<Engine>,
    mtu: Option<u16>,
    offloads: Option<u16>,
}

impl Vnic {
    /// A vNIC that has just been started; with a control key it speaks version 3. `None`: there is no memory for it.
    pub fn new(mac: Mac, seed: u64, key: Option<ControlKeys>) -> Option<Self> {
        let mut engine = Engine::new_box_zeroed().ok()?;
        engine.init(&cvsw_core::Config { mac: mac.0, hash_seed: seed, ..Default::default() });
        engine.accept_keys_in_clear(true);
        if let Some(key) = key {
            engine.enable_version_3(seed, key);
        }
        Some(Self { mac, engine, mtu: None, offloads: None })
    }

    /// A frame comes from the network. Its answers go to `send`.
    pub fn deliver(&mut self, now: Instant, bytes: &mut [u8], seen: &Seen, send: impl FnMut(&[u8])) {
        let len = bytes.len();
        let Ok(mut frame) = Frame::new(bytes, 0, len) else { return };
        // A control frame ends in the engine, whatever it says about it.
        let _ = self.engine.process_with(&mut KeptKeys, now, Direction::Rx, &mut frame);
        self.settle(seen, send);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant, seen: &Seen, send: impl FnMut(&[u8])) {
        self.engine.tick(now);
        self.settle(seen, send);
    }

    /// Its entries.
    pub fn flows(&self) -> impl Iterator<Item = FlowMod> + '_ {
        self.engine.flows().map(|entry| entry.flow)
    }

    /// Its security associations.
    pub fn associations(&self) -> impl Iterator<Item = SaStatus> + '_ {
        self.engine.sas()
    }

    /// MTU that was set last.
    pub const fn mtu(&self) -> Option<u16> {
        self.mtu
    }

    /// Offloads that were set last.
    pub const fn offloads(&self) -> Option<u16> {
        self.offloads
    }

    fn settle(&mut self, seen: &Seen, mut send: impl FnMut(&[u8])) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                ControlEvent::SetMtu(mtu) => {
                    self.mtu = Some(mtu.get());
                    seen.mtu.store(mtu.get(), Ordering::Relaxed);
                }
                ControlEvent::SetOffload(flags) => self.offloads = Some(flags.0),
                ControlEvent::Session(_) => {}
            }
        }
        seen.flows.store(u16::try_from(self.engine.flow_count()).unwrap_or(u16::MAX), Ordering::Relaxed);
        let mut out = [0; MAX_FRAME_LEN];
        while let Some(len) = self.engine.poll_transmit(&mut out) {
            send(&out[..len]);
        }
    }
}

/// Takes every key and forgets it: no packet is ever sealed here.
struct KeptKeys;

impl Ciphers for KeptKeys {
    fn install(&mut self, _: usize, _: &KeyMaterial) -> Result<(), CipherError> {
        Ok(())
    }

    fn remove(&mut self, _: usize) {}

    fn seal(&mut self, _: usize, _: &PacketHeader, _: &mut [u8]) -> Result<(), CipherError> {
        Err(CipherError::NoKey)
    }

    fn open(&mut self, _: usize, _: &PacketHeader, _: &mut [u8]) -> Result<(), CipherError> {
        Err(CipherError::NoKey)
    }
}
