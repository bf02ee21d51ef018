//! What a vNIC would do to a frame: an engine with its wanted state, for one frame.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use cvsw_core::{
    Config, Cvsw, Instant,
    crypto::{KeyMaterial, MAX_KEY_MATERIAL, Portable, SaConfig},
    flow::Direction,
};
use cvsw_trace::{Parser, Recorder, Trace, empty_frame, load};
use zerocopy::FromZeros as _;
use zeroize::Zeroizing;

use crate::{
    derive::Desired,
    keys::{ChannelStatus, sending_id},
    mac::Mac,
    state::Controller,
};

/// Security associations of the engine, as many as those of a `cvsw port`.
const SAS: usize = 256;
/// As large as that of a `cvsw port`, but for the cache, which one frame does not need.
type Engine = Cvsw<16_384, 1, 128, SAS>;

/// A vNIC of which a frame is to be traced.
pub struct Traced {
    mac: Mac,
    desired: Arc<Desired>,
    /// What it sends with.
    channels: Vec<ChannelStatus>,
}

impl Traced {
    /// The vNIC as it should be now; `None`: it is neither wanted nor in quarantine.
    pub fn of(controller: &Controller, now: Duration, mac: Mac) -> Option<Self> {
        let desired = controller.desired_of(mac)?;
        let channels = controller.keys().iter_of(now, mac).collect();
        Some(Self { mac, desired, channels })
    }

    /// Traces a frame.
    ///
    /// # Errors
    /// It is too long, or the vNIC's entries do not fit into an engine.
    pub fn run(&self, direction: Direction, bytes: Vec<u8>) -> anyhow::Result<Trace> {
        let mut engine: Box<Engine> = Engine::new_box_zeroed().map_err(|_| anyhow!("out of memory"))?;
        engine.init(&Config { mac: self.mac.0, ..Config::default() });
        for flow in &self.desired.flows {
            engine.flow_mod(Instant::ZERO, &flow)?;
        }
        engine.set_mtu(self.desired.mtu);
        let mut ciphers = Box::new(Portable::<SAS>::new());
        for channel in &self.channels {
            let Some((spi, _)) = channel.key else { continue };
            let destination = channel.id.destination;
            let config = SaConfig::new(sending_id(destination), Direction::Tx, spi, destination.octets());
            let mut material = Zeroizing::new([0; MAX_KEY_MATERIAL]);
            getrandom::fill(&mut *material)?;
            let material = material.get(..channel.suite.key_material_len()).context("a key is too long")?;
            let key = KeyMaterial::new(channel.suite, material).map_err(|error| anyhow!("no key: {error}"))?;
            engine
                .add_sa(&mut *ciphers, Instant::ZERO, &config, &key)
                .map_err(|error| anyhow!("no security association for {destination}: {error}"))?;
        }
        let mut frame = empty_frame()?;
        load(&mut frame, &bytes)?;
        let mut recorder = Recorder::new(Parser::new(direction)?, &bytes);
        // The verdict is also the last step.
        let _ = engine.trace_with(&mut *ciphers, Instant::ZERO, direction, &mut frame, &mut recorder);
        Ok(Trace::new(direction, bytes, recorder.steps, frame.bytes()))
    }
}
