//! What a vNIC would do to a frame: an engine with its wanted state, for one frame.
//!
//! The controller forgets keys as soon as they are delivered. What is sealed here is sealed under the SPI in use with a key of
//! the trace's own; so what another vNIC's VM sends can be followed to where it arrives, and what was captured in the real
//! network cannot be opened.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use cvsw_core::{
    Config, Cvsw, Instant, Verdict, association_of,
    crypto::{KeyMaterial, MAX_KEY_MATERIAL, Portable, SaConfig},
    flow::Direction,
};
use cvsw_trace::{Association, Parser, Recorder, Step, Trace, empty_frame, load};
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
    origin: Origin,
}

/// Where the frame comes from.
enum Origin {
    /// It is as it was given, ...
    Given,
    /// ... and sealed with this.
    Sealed(Association),
    /// This vNIC's VM sends it.
    Sent(Box<Traced>, Vec<(ChannelStatus, Association)>),
}

/// Keys of a trace, by SPI.
#[derive(Default)]
struct Keys(BTreeMap<u32, KeyMaterial>);

impl Keys {
    fn of(&mut self, channel: &ChannelStatus, spi: u32) -> anyhow::Result<&KeyMaterial> {
        match self.0.entry(spi) {
            Entry::Occupied(made) => Ok(made.into_mut()),
            Entry::Vacant(free) => {
                let mut material = Zeroizing::new([0; MAX_KEY_MATERIAL]);
                getrandom::fill(&mut *material)?;
                let material = material.get(..channel.suite.key_material_len()).context("a key is too long")?;
                let key = KeyMaterial::new(channel.suite, material).map_err(|error| anyhow!("no key: {error}"))?;
                Ok(free.insert(key))
            }
        }
    }
}

/// What an engine has done to a frame.
struct Done {
    verdict: Verdict,
    steps: Vec<Step>,
    bytes: Vec<u8>,
}

impl Traced {
    /// The vNIC as it should be now; `None`: it is neither wanted nor in quarantine.
    pub fn of(controller: &Controller, now: Duration, mac: Mac) -> Option<Self> {
        let desired = controller.desired_of(mac)?;
        let channels = controller.keys().iter_of(now, mac).collect();
        Some(Self { mac, desired, channels, origin: Origin::Given })
    }

    /// It is to receive these bytes, which may be sealed.
    #[must_use]
    pub fn receiving(self, controller: &Controller, bytes: &[u8]) -> Self {
        let association = association_of(bytes)
            .map(|(destination, spi)| controller.keys().association(self.mac, destination.into(), spi));
        Self { origin: association.map_or(Origin::Given, Origin::Sealed), ..self }
    }

    /// It is to receive what this vNIC makes of the frame.
    #[must_use]
    pub fn receiving_from(self, controller: &Controller, sender: Self) -> Self {
        let keys = controller.keys();
        let here = sender.channels.iter().filter(|channel| keys.receives(channel.id, self.mac));
        let with_key = here.filter_map(|channel| {
            let (spi, _) = channel.key?;
            Some((channel.clone(), keys.association(self.mac, channel.id.destination, spi)))
        });
        let opened = with_key.collect();
        Self { origin: Origin::Sent(Box::new(sender), opened), ..self }
    }

    /// Traces a frame.
    ///
    /// # Errors
    /// It is too long, the vNIC's entries do not fit into an engine, or its sender does not let it out.
    pub fn run(&self, direction: Direction, bytes: Vec<u8>) -> anyhow::Result<Trace> {
        let mut keys = Keys::default();
        let (bytes, association) = match &self.origin {
            Origin::Given => (bytes, None),
            Origin::Sealed(association) => (bytes, Some(association)),
            Origin::Sent(sender, opened) => {
                let bytes = sender.send(&bytes, &mut keys)?;
                let spi = association_of(&bytes).map(|(_, spi)| spi);
                let with = opened.iter().find(|(channel, _)| channel.key.map(|(spi, _)| spi) == spi);
                (bytes, with.map(|(_, association)| association))
            }
        };
        let done = self.step_through(direction, &bytes, &mut keys)?;
        let trace = Trace::new(direction, bytes, done.steps, &done.bytes);
        Ok(match association {
            Some(association) => trace.sealed(association.clone()),
            None => trace,
        })
    }

    /// What it makes of a frame of its VM.
    fn send(&self, bytes: &[u8], keys: &mut Keys) -> anyhow::Result<Vec<u8>> {
        let done = self.step_through(Direction::Tx, bytes, keys)?;
        match done.verdict {
            Verdict::Forward => Ok(done.bytes),
            Verdict::Drop(reason) => {
                bail!("{} does not let it out: {}; trace it there, with the direction tx", self.mac, reason.name())
            }
            Verdict::Consumed => bail!("{} does not let it out: it is a control frame", self.mac),
        }
    }

    fn step_through(&self, direction: Direction, bytes: &[u8], keys: &mut Keys) -> anyhow::Result<Done> {
        let mut ciphers = Box::new(Portable::<SAS>::new());
        let mut engine = self.engine(&mut ciphers, keys)?;
        let mut frame = empty_frame()?;
        load(&mut frame, bytes)?;
        let mut recorder = Recorder::new(Parser::new(direction)?, bytes);
        let verdict = engine.trace_with(&mut *ciphers, Instant::ZERO, direction, &mut frame, &mut recorder);
        Ok(Done { verdict, steps: recorder.steps, bytes: frame.bytes().to_vec() })
    }

    fn engine(&self, ciphers: &mut Portable<SAS>, keys: &mut Keys) -> anyhow::Result<Box<Engine>> {
        let mut engine: Box<Engine> = Engine::new_box_zeroed().map_err(|_| anyhow!("out of memory"))?;
        engine.init(&Config { mac: self.mac.0, ..Config::default() });
        for flow in &self.desired.flows {
            engine.flow_mod(Instant::ZERO, &flow)?;
        }
        engine.set_mtu(self.desired.mtu);
        let sent = self.channels.iter().map(|channel| (channel, Direction::Tx));
        let opened = match &self.origin {
            Origin::Sent(_, opened) => opened.as_slice(),
            Origin::Given | Origin::Sealed(_) => &[],
        };
        for (channel, direction) in sent.chain(opened.iter().map(|(channel, _)| (channel, Direction::Rx))) {
            let Some((spi, _)) = channel.key else { continue };
            let destination = channel.id.destination;
            let id = if direction == Direction::Tx { sending_id(destination) } else { spi };
            let config = SaConfig::new(id, direction, spi, destination.octets());
            engine
                .add_sa(ciphers, Instant::ZERO, &config, keys.of(channel, spi)?)
                .map_err(|error| anyhow!("no security association for {destination}: {error}"))?;
        }
        Ok(engine)
    }
}
