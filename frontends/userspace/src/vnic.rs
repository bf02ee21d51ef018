//! The vNIC: engine, two ports and a pool of buffers, one burst at a time.

use crate::{
    ciphers::FastCiphers,
    flows_file::{FlowsError, FlowsFile},
    fragments::{FragmentCounters, Fragments},
    offload::{names, refusals},
    pool::Mempool,
    port::{FrameVec, Port, PortCounters},
    sa_file::{SaFile, SaFileError},
};
use cvsw_core::{
    BURST, Config, Cvsw, FlowEntry, Instant, Stats, Verdict,
    control::{
        ControlEvent, MAX_FRAME_LEN, OffloadFlags, SessionState,
        v3::{ControlKeys, ControlStatus},
    },
    crypto::{SaEvent, SaEventKind, SaStatus},
    flow::{Direction, MacAddr},
    mtu::IpMtu,
    path_mtu::ANSWER_MAX,
};
use std::io;
use tracing::{info, warn};
use zerocopy::FromZeros;

/// Security associations of one vNIC: with a controller, up to six per peer while keys are exchanged.
pub const SAS: usize = 256;
/// The engine with this front-end's capacities: entries, cache slots, masks, security associations.
pub type Engine = Cvsw<16_384, 32_768, 128, SAS>;
/// What computes this front-end's ciphers.
pub type Ciphers = FastCiphers<SAS>;

/// A vNIC between a host port (the VM's side) and a network port.
pub struct Vnic {
    engine: Box<Engine>,
    ciphers: Box<Ciphers>,
    config: Config,
    generation: u64,
    host: Box<dyn Port>,
    net: Box<dyn Port>,
    pool: Mempool,
    frames: FrameVec,
    forward: FrameVec,
    verdicts: [Verdict; BURST],
    /// Frames received by direction.
    received: [u64; 2],
    session: SessionState,
    offload: Offloads,
    /// Cuts tunnel packets that outgrow the network port. `None`: the engine drops them.
    fragments: Option<Fragments>,
}

/// Offload features of the host port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// What the controller asked for last; `None`: nothing yet.
    pub requested: Option<OffloadFlags>,
    /// What is in force.
    pub effective: OffloadFlags,
}

/// The state of a [`Vnic`] at one moment, copied out of the packet loop.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// MAC address, EtherType of control frames, longest frame.
    pub config: Config,
    /// Control session.
    pub session: SessionState,
    /// Protocol version, epoch and so on.
    pub control: ControlStatus,
    /// IP MTU that the VM sees.
    pub mtu: Option<IpMtu>,
    /// Offload features.
    pub offload: Offloads,
    /// Name and counters of the host port.
    pub host: (String, PortCounters),
    /// Name and counters of the network port.
    pub net: (String, PortCounters),
    /// The engine's counters.
    pub stats: Stats,
    /// The flow table.
    pub flows: Vec<FlowEntry>,
    /// Security associations.
    pub sas: Vec<SaStatus>,
    /// VNIs whose frames may not travel in clear.
    pub encrypted_only: Vec<u32>,
    /// Boot generation, see [`Vnic::set_boot_generation`].
    pub generation: u64,
    /// When this was.
    pub now: Instant,
    /// Tunnel packets that were cut; `None`: none ever is.
    pub fragments: Option<FragmentCounters>,
    /// Buffers: `(free, all, bytes of each)`.
    pub pool: (usize, usize, usize),
}

impl Vnic {
    /// A vNIC with `mac` as its address between `host` and `net`, with `buffers` buffers and its hash functions
    /// keyed by `hash_seed`.
    pub fn new(
        host: Box<dyn Port>,
        net: Box<dyn Port>,
        mac: MacAddr,
        ethertype: u16,
        buffers: usize,
        hash_seed: u64,
    ) -> io::Result<Self> {
        let config = Config { mac, ethertype, link_mtu: net.link_mtu(), hash_seed };
        let mut engine = Engine::new_box_zeroed().map_err(|_| io::ErrorKind::OutOfMemory)?;
        engine.init(&config);
        let offload = Offloads { requested: None, effective: host.offload() };
        engine.set_offload_in_force(offload.effective);
        let largest = [host.mtu(), net.mtu()].into_iter().flatten().max().unwrap_or(IpMtu::ETHERNET);
        Ok(Self {
            engine,
            ciphers: Box::default(),
            config,
            generation: 0,
            host,
            net,
            pool: Mempool::new(buffers, Mempool::buffer_size_for(usize::from(largest.get()))),
            frames: FrameVec::with_capacity(BURST),
            forward: FrameVec::with_capacity(BURST),
            verdicts: [Verdict::Forward; BURST],
            received: [0; 2],
            session: SessionState::default(),
            offload,
            fragments: None,
        })
    }

    /// From now on, tunnel packets that outgrow the network port's MTU are cut into fragments instead of dropped.
    ///
    /// # Errors
    /// `Unsupported` if that port has no MTU.
    pub fn fragment_outer(&mut self) -> io::Result<()> {
        let mtu = self.net.mtu().ok_or_else(|| {
            let text = format!("{} has no MTU that packets could be cut to", self.net.name());
            io::Error::new(io::ErrorKind::Unsupported, text)
        })?;
        self.engine.fragment_outer(Some(mtu));
        self.fragments = Some(Fragments::new(mtu));
        Ok(())
    }

    /// Both ports, host first.
    pub fn ports(&self) -> [&dyn Port; 2] {
        [&*self.host, &*self.net]
    }

    /// Tells the controller, at the next step, that a vNIC has come up.
    pub fn announce(&mut self) {
        self.engine.announce();
    }

    /// Puts the flows of a file into the table.
    pub fn load_flows(&mut self, now: Instant, flows: &FlowsFile) -> Result<(), FlowsError> {
        flows.install(&mut *self.engine, now)
    }

    /// Gives the security associations of a file to the engine.
    pub fn load_sas(&mut self, now: Instant, file: &SaFile) -> Result<(), SaFileError> {
        file.install(&mut *self.engine, &mut *self.ciphers, now)
    }

    /// Whether keys are taken from control messages, where they travel in clear.
    pub fn accept_keys_in_clear(&mut self, on: bool) {
        self.engine.accept_keys_in_clear(on);
    }

    /// Speaks version 3 of the control protocol and, as there is a key, nothing else. `instance`: a random number that
    /// tells this process from every other.
    pub fn set_control_key(&mut self, instance: u64, keys: ControlKeys) {
        self.engine.enable_version_3(instance, keys);
    }

    /// The security associations, in no particular order.
    pub fn sas(&self) -> impl Iterator<Item = SaStatus> + '_ {
        self.engine.sas()
    }

    /// A number that changes when this vNIC starts anew or its VM is restored: associations from before the change
    /// no longer send.
    pub fn set_boot_generation(&mut self, generation: u64) {
        self.generation = generation;
        self.engine.set_boot_generation(generation);
    }

    /// A port's descriptor may have reported an error condition: clears it, or returns the error of a port that is gone.
    pub fn poll_error(&mut self, host: bool, net: bool) -> io::Result<()> {
        for (port, reported) in [(&mut self.host, host), (&mut self.net, net)] {
            if reported {
                port.poll_error().map_err(|error| lost(&**port, &error))?;
            }
        }
        Ok(())
    }

    /// Runs at most one burst in each direction to completion, then does what the engine wants done. Returns the
    /// number of frames that moved; 0 means that there was nothing to do.
    ///
    /// An error means that a port is gone for good.
    pub fn step(&mut self, now: Instant) -> io::Result<usize> {
        let mut moved = 0;
        for direction in Direction::ALL {
            moved += self.run_direction(now, direction)?;
        }
        for port in [&mut self.host, &mut self.net] {
            if port.tx_pending() {
                port.flush().map_err(|error| lost(&**port, &error))?;
            }
        }
        Ok(moved + self.serve_engine()?)
    }

    /// Lets time pass in the engine, and follows an MTU that the VM set by itself; about once a second.
    pub fn tick(&mut self, now: Instant) -> io::Result<usize> {
        if let Some(mtu) = self.host.mtu() {
            self.pool.grow(Mempool::buffer_size_for(usize::from(mtu.get())));
        }
        self.engine.tick(now);
        self.serve_engine()
    }

    /// Frames that came from the VM, and from the network, so far.
    pub const fn received(&self) -> [u64; 2] {
        self.received
    }

    /// A copy of everything that people ask about.
    pub fn snapshot(&mut self, now: Instant) -> Snapshot {
        Snapshot {
            config: self.config,
            session: self.session,
            control: self.engine.control_status(),
            mtu: self.host.mtu(),
            offload: self.offload,
            host: (self.host.name().to_owned(), self.host.counters()),
            net: (self.net.name().to_owned(), self.net.counters()),
            stats: self.engine.stats().clone(),
            flows: self.engine.flows().collect(),
            sas: self.engine.sas().collect(),
            encrypted_only: self.engine.encrypted_only().collect(),
            generation: self.generation,
            now,
            fragments: self.fragments.as_ref().map(Fragments::counters),
            pool: (self.pool.available(), self.pool.capacity(), self.pool.buffer_size()),
        }
    }

    /// Brings everything that was sent to its destination; the last call.
    pub fn close(&mut self) -> io::Result<()> {
        self.host.close()?;
        self.net.close()
    }

    fn run_direction(&mut self, now: Instant, direction: Direction) -> io::Result<usize> {
        let (from, to) = match direction {
            Direction::Tx => (&mut self.host, &mut self.net),
            Direction::Rx => (&mut self.net, &mut self.host),
        };
        let received = from.rx_burst(&mut self.pool, &mut self.frames).map_err(|error| lost(&**from, &error))?;
        if received == 0 {
            return Ok(0);
        }
        self.received[usize::from(direction == Direction::Rx)] += received as u64;
        let processed = self.engine.process_burst_with(
            &mut *self.ciphers,
            now,
            direction,
            &mut self.frames,
            &mut self.verdicts,
        );
        debug_assert_eq!(processed, received, "a burst never exceeds the verdicts");
        if self.verdicts.iter().take(received).all(|verdict| *verdict == Verdict::Forward) {
            // `forward` is empty between bursts.
            std::mem::swap(&mut self.frames, &mut self.forward);
        } else {
            for (frame, verdict) in self.frames.drain(..).zip(&self.verdicts) {
                match verdict {
                    Verdict::Forward => self.forward.push(frame),
                    Verdict::Consumed | Verdict::Drop(_) => self.pool.put(frame),
                }
            }
        }
        if !to.capabilities().checksum {
            complete_checksums(&mut self.forward);
        }
        let sent = match &mut self.fragments {
            Some(fragments) if direction == Direction::Tx => {
                fragments.send(&mut **to, &mut self.pool, &mut self.forward)
            }
            _ => to.tx_burst(&mut self.pool, &mut self.forward),
        };
        sent.map_err(|error| lost(&**to, &error))?;
        Ok(received)
    }

    /// Applies the engine's events and sends its own frames: control frames, and answers to the VM (a burst at most, so
    /// that a long listing does not stop the traffic).
    fn serve_engine(&mut self) -> io::Result<usize> {
        while let Some(event) = self.engine.poll_event() {
            self.apply(event);
        }
        while let Some(event) = self.engine.poll_sa_event() {
            report_sa(&event);
        }
        Ok(self.send_own(Direction::Tx)? + self.send_own(Direction::Rx)?)
    }

    /// Sends the frames that the engine itself has for one side.
    fn send_own(&mut self, direction: Direction) -> io::Result<usize> {
        let (port, most) = match direction {
            Direction::Tx => (&mut self.net, MAX_FRAME_LEN),
            Direction::Rx => (&mut self.host, ANSWER_MAX),
        };
        let mut sent = 0;
        while sent < BURST {
            let Some(mut frame) = self.pool.take() else { break };
            let room = frame.tailroom().min(most);
            let len = frame.set_len(room).ok().and_then(|()| match direction {
                Direction::Tx => self.engine.poll_transmit(frame.bytes_mut()),
                Direction::Rx => self.engine.poll_host(frame.bytes_mut()),
            });
            match len {
                Some(len) if frame.set_len(len).is_ok() => self.forward.push(frame),
                _ => {
                    self.pool.put(frame);
                    break;
                }
            }
            sent += 1;
        }
        if sent > 0 {
            port.tx_burst(&mut self.pool, &mut self.forward).map_err(|error| lost(&**port, &error))?;
        }
        Ok(sent)
    }

    fn apply(&mut self, event: ControlEvent) {
        match event {
            ControlEvent::Session(state) => {
                info!(state = state.name(), "control session");
                self.session = state;
            }
            ControlEvent::SetMtu(mtu) => {
                self.pool.grow(Mempool::buffer_size_for(usize::from(mtu.get())));
                match self.host.set_mtu(mtu) {
                    Ok(()) => {
                        self.engine.set_mtu(Some(mtu));
                        info!(mtu = mtu.get(), port = self.host.name(), "MTU set");
                    }
                    Err(error) => {
                        warn!(mtu = mtu.get(), port = self.host.name(), %error, "MTU refused; the old one stays");
                    }
                }
            }
            ControlEvent::SetOffload(requested) => self.set_offload(requested),
        }
    }

    /// Switches offload features of the host port, as SET_OFFLOAD does; what cannot be had is logged and shown by
    /// [`Vnic::snapshot`].
    pub fn set_offload(&mut self, requested: OffloadFlags) {
        let effective = self.host.set_offload(requested);
        self.offload.requested = Some(requested);
        self.engine.set_offload_in_force(*effective.as_ref().unwrap_or(&self.offload.effective));
        match effective {
            Ok(effective) => {
                self.offload.effective = effective;
                if effective == requested {
                    info!(offload = %names(effective), port = self.host.name(), "offloads set");
                } else {
                    for (feature, reason) in refusals(requested, effective) {
                        warn!(feature, reason, effective = %names(effective), port = self.host.name(), "offload refused");
                    }
                }
            }
            Err(error) => {
                warn!(requested = %names(requested), %error, port = self.host.name(), "offloads refused");
            }
        }
    }
}

/// Says what happened to a security association. Never its key, which is elsewhere.
fn report_sa(event: &SaEvent) {
    let SaEvent { id, spi, direction, kind } = *event;
    let (spi, direction) = (format_args!("{spi:#x}"), direction.name());
    match kind {
        SaEventKind::SoftLimit => info!(id, %spi, direction, "association near its end: it wants a new key"),
        SaEventKind::HardLimit => warn!(id, %spi, direction, "association at its limit: its packets are dropped"),
        SaEventKind::Exhausted => warn!(id, %spi, direction, "no sequence number left: its packets are dropped"),
        SaEventKind::StaleGeneration => {
            warn!(id, %spi, direction, "the VM was restored or cloned: nothing is sent until there is a new key");
        }
    }
}

/// An error that names its port.
fn lost(port: &dyn Port, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", port.name()))
}

/// Fills in the checksums that a sender left to its NIC. A frame whose metadata is malformed stays as it is and
/// is refused, and counted, by the port.
fn complete_checksums(frames: &mut FrameVec) {
    for frame in frames {
        let _ = frame.complete_checksum();
    }
}
