//! The engine.
//!
//! # Grammar
//!
//! In go frames ([`Cvsw::process_burst`], [`Cvsw::process`]) and time ([`Cvsw::tick`]). Out come a verdict per
//! frame, and through [`Cvsw::poll_event`], [`Cvsw::poll_transmit`], [`Cvsw::poll_host`] and [`Cvsw::poll_sa_event`] what the engine wants
//! done outside or has to report. After each burst and each tick, call them until they return `None`. The engine never sends, sleeps, allocates or
//! reads a clock.

mod burst;
mod explain;
mod inside;
mod replica;
mod security;

use crate::{
    apply::Program,
    control::{
        ControlEvent, ETHERTYPE, OffloadFlags, Request, Session, SessionState, TableEntry,
        v3::{ControlKeys, ControlStatus},
    },
    crypto::{Ciphers, EncryptedOnly, SaTable},
    flow::{
        Command, FLAG_SEND_FLOW_REM, FlowEntry, FlowMod, FlowTable, MacAddr, Match, OfpError, RemovalReason,
        cache::FlowCache, table::Entry,
    },
    mtu::{IpMtu, L2Mtu},
    openflow::{FlowRemoved, RemovedReason, check_match},
    path_mtu::PathMtu,
    stats::{ControlError, Stats},
    time::Instant,
};
use zerocopy::FromZeros;

/// Frames that front-ends should hand over in one call.
pub const BURST: usize = 32;

const _: () = assert!(crate::control::session::ANSWERS >= BURST, "every SET_SA of a burst can be answered");

/// Look-ups that one frame may cause (the first and those by resubmit).
pub const MAX_LOOKUPS: usize = 4;

// What the documentation says about memory.
const _: () = assert!(FlowTable::<Program, 1, 1>::FLOW_BYTES == 396 && crate::flow::cache::SLOT_BYTES == 96);

/// What an engine must be told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The vNIC's MAC address: control messages are addressed to it, REGISTER carries it.
    pub mac: MacAddr,
    /// EtherType of control frames.
    pub ethertype: u16,
    /// Largest frame that the lower device takes; larger ones are dropped as `frame_too_big`. `None`: no limit.
    pub link_mtu: Option<L2Mtu>,
    /// Secret random number that keys the hash functions of table and cache, so that a sender cannot aim at
    /// one bucket.
    pub hash_seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { mac: [0; 6], ethertype: ETHERTYPE, link_mtu: None, hash_seed: 0 }
    }
}

/// One vNIC's engine. `FLOWS`: table entries (a power of two). `CACHE`: exact-match cache slots (a power of
/// two). `MASKS`: distinct masks in the table. `SAS`: security associations.
///
/// All-zero memory is an engine that was not initialised: take one from [`FromZeros::new_zeroed`] (or
/// `new_box_zeroed` with std, a zeroed allocation in the kernel, a static on bare metal) and call
/// [`Cvsw::init`].
#[derive(FromZeros)]
#[repr(C)]
pub struct Cvsw<
    const FLOWS: usize = 1024,
    const CACHE: usize = 1024,
    const MASKS: usize = 128,
    const SAS: usize = 64,
> {
    table: FlowTable<Program, FLOWS, MASKS>,
    cache: FlowCache<CACHE>,
    stats: Stats,
    sas: SaTable<SAS>,
    encrypted_only: EncryptedOnly,
    path_mtu: PathMtu,
    /// Scratch of [`Cvsw::process_burst`]; here because 3 KiB are too much for a kernel stack.
    work: [burst::Work; BURST],
    seed: u64,
    /// Largest frame for the network in bytes.
    link_mtu: u32,
    /// Longest frame with a tunnel packet that is not to be cut.
    fragment_above: u32,
    session: Session,
    ethertype: u16,
    /// IPv4 identification of the next encapsulated packet.
    ip_id: u16,
    /// Whether the table is used at all: set by the first SET_* or the first local flow.
    active: bool,
}

impl<const FLOWS: usize, const CACHE: usize, const MASKS: usize, const SAS: usize> Cvsw<FLOWS, CACHE, MASKS, SAS> {
    /// Configures a zeroed engine, or resets a used one, which must not happen while keys are in use: start again with
    /// new ciphers then, and with new keys.
    pub fn init(&mut self, config: &Config) {
        let () = FlowCache::<CACHE>::VALID;
        self.table.reset(config.hash_seed);
        self.cache.zero();
        self.stats.zero();
        self.sas.zero();
        self.encrypted_only.zero();
        self.path_mtu.zero();
        self.ip_id = 0;
        self.session.reset(config.mac);
        self.seed = config.hash_seed;
        self.set_link_mtu(config.link_mtu);
        self.fragment_outer(None);
        self.ethertype = config.ethertype;
        self.active = false;
    }

    /// Writes the next control frame that is to be sent to the network into `out` and returns its length.
    /// Call until `None` after each burst and tick. `out` must hold [`crate::control::MAX_FRAME_LEN`] bytes; in
    /// a shorter one a frame that does not fit stays queued and the answer is `None`.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> Option<usize> {
        let Self { table, stats, sas, session, ethertype, .. } = self;
        session.poll_transmit(*ethertype, out, &inside::View { table, stats, sas }).unwrap_or(None)
    }

    /// The next thing to be done outside. Call until `None` after each burst and tick.
    pub fn poll_event(&mut self) -> Option<ControlEvent> {
        self.session.poll_event()
    }

    /// Queues a HELLO to the controller: call when the vNIC comes up, so that the controller finds it at once.
    pub fn announce(&mut self) {
        self.session.announce();
    }

    /// Speaks protocol version 3 from now on, beside version 2 as long as `keys` are not set, else alone. `instance` is a
    /// random number, not 0, that tells this life of the vNIC from every other: commands that were recorded in another
    /// one are refused.
    pub fn enable_version_3(&mut self, instance: u64, keys: ControlKeys) {
        self.session.enable_version_3(instance, keys);
    }

    /// How this vNIC is controlled.
    pub const fn control_status(&self) -> ControlStatus {
        self.session.status()
    }

    /// The host's side has these offloads now, whatever it was asked for: the controller is told so in protocol version 3. A
    /// front-end calls it at its start and when it has carried out [`ControlEvent::SetOffload`].
    pub fn set_offload_in_force(&mut self, features: OffloadFlags) {
        self.session.set_offload_in_force(features);
    }

    /// The lower device takes other frames now: see [`Config::link_mtu`].
    pub fn set_link_mtu(&mut self, link_mtu: Option<L2Mtu>) {
        self.link_mtu = link_mtu.map_or(u32::MAX, L2Mtu::get);
    }

    /// Policy: tunnel packets that the vNIC makes and that are longer than `above` are passed, ready to be cut by a
    /// [`crate::fragment::Fragmenter`], which the front-end then must do. `None`, the default: they are dropped if they
    /// exceed [`Config::link_mtu`].
    pub fn fragment_outer(&mut self, above: Option<IpMtu>) {
        self.fragment_above = above.map_or(u32::MAX, |mtu| mtu.l2().get());
    }

    /// The VM's packets must fit `mtu` from now on, whatever its interface says: the MSS of TCP connections is lowered to
    /// it, and packets that are larger are dropped and answered ([`crate::path_mtu`]). `None`, the default: no such
    /// care. A front-end calls it when a controller's MTU has been set ([`ControlEvent::SetMtu`]).
    pub fn set_mtu(&mut self, mtu: Option<IpMtu>) {
        self.path_mtu.set(mtu);
    }

    /// Writes the next frame that the engine itself has for the host into `out` and returns its length: an answer to a
    /// packet that was too big. Call until `None` after each transmitted burst. `out` must hold
    /// [`crate::path_mtu::ANSWER_MAX`] bytes.
    pub fn poll_host(&mut self, out: &mut [u8]) -> Option<usize> {
        self.path_mtu.poll(out)
    }

    /// The vNIC has another MAC address now: see [`Config::mac`].
    pub const fn set_mac(&mut self, mac: MacAddr) {
        self.session.set_mac(mac);
    }

    /// State of the control session.
    pub const fn session_state(&self) -> SessionState {
        self.session.state()
    }

    /// Lets time pass: expires entries. Call about once a second, or more often.
    pub fn tick(&mut self, now: Instant) {
        let Self { table, stats, session, .. } = self;
        table.expire(now, |matching, entry, reason| {
            stats.expired = stats.expired.wrapping_add(1);
            session.table_changed();
            report(session, now, matching, entry, reason);
        });
        self.count_lost_removals();
        self.sas.tick(now);
    }

    /// Changes the flow table locally (not by a controller) and makes it active.
    pub fn flow_mod(&mut self, now: Instant, flow_mod: &FlowMod) -> Result<(), OfpError> {
        self.change(now, flow_mod)?;
        self.active = true;
        Ok(())
    }

    /// Every entry of the table as an ADD, with its counters, in no particular order.
    pub fn flows(&self) -> impl Iterator<Item = FlowEntry> + '_ {
        let entry_of = |(_, entry)| TableEntry::new(self.table.matching(entry), entry);
        self.table.iter().map(entry_of).map(|entry| entry.to_flow_entry())
    }

    /// The first entry at or behind index `from`, with the index to go on from: for a listing in parts, between
    /// which the table may change.
    pub fn next_flow(&self, from: u32) -> Option<(u32, TableEntry<'_>)> {
        inside::next_entry(&self.table, from)
    }

    /// Number of entries in the table.
    pub const fn flow_count(&self) -> usize {
        self.table.len()
    }

    /// The counters.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    fn change(&mut self, now: Instant, flow: &FlowMod) -> Result<(), OfpError> {
        self.session.table_changed();
        match flow.command {
            Command::Delete | Command::DeleteStrict => {
                self.delete(now, flow);
                Ok(())
            }
            _ => {
                check_match(&flow.matching)?;
                self.put(now, flow)
            }
        }
    }

    #[inline(never)]
    fn delete(&mut self, now: Instant, flow: &FlowMod) {
        let Self { table, session, .. } = self;
        let removed =
            |matching: &Match, entry: &Entry<Program>| report(session, now, matching, entry, RemovalReason::Delete);
        if flow.command == Command::Delete {
            table.delete(flow, removed);
        } else {
            table.delete_strict(flow, removed);
        }
        self.count_lost_removals();
    }

    /// Adds or modifies.
    #[inline(never)]
    fn put(&mut self, now: Instant, flow: &FlowMod) -> Result<(), OfpError> {
        let compiled = Program::compile(&flow.actions);
        // By reference: a program on the stack is enough.
        let program = compiled.as_ref().map_err(|error| *error)?;
        match flow.command {
            Command::Modify => self.table.modify(now, flow, program),
            Command::ModifyStrict => self.table.modify_strict(now, flow, program),
            _ => self.table.add(now, flow, program),
        }
    }

    fn count_lost_removals(&mut self) {
        self.stats.removals_lost = self.stats.removals_lost.wrapping_add(self.session.take_lost_removals());
    }

    /// Takes one control frame from the network. Out of line, so that the stack that it needs is not the packet path's.
    #[cold]
    #[inline(never)]
    fn control<C: Ciphers>(&mut self, ciphers: &mut C, now: Instant, frame: &[u8]) -> Result<(), ControlError> {
        let received = self.session.receive(now, frame);
        self.stats.control_duplicates = self.session.status().duplicates;
        match received? {
            Request::None => {}
            Request::FlowMod { message, deletes } => self.control_flow(now, message, deletes)?,
            Request::SetSa(body) => self.control_sa(ciphers, now, body)?,
        }
        self.active |= self.session.state() == SessionState::Connected;
        Ok(())
    }

    /// Carries out a change of the table that a controller wants. Out of line: a whole flow is on the stack here.
    #[inline(never)]
    fn control_flow(&mut self, now: Instant, message: &[u8], deletes: bool) -> Result<(), ControlError> {
        let mut flow = FlowMod::default();
        self.session.read_flow(message, deletes, &mut flow)?;
        let result = self.change(now, &flow);
        self.session.changed(&flow, result);
        result.map_err(|error| match error {
            OfpError::TableFull | OfpError::Overlap => ControlError::Table,
            _ => ControlError::FlowMod,
        })
    }
}

/// Reports the end of an entry that asked for it (SEND_FLOW_REM).
fn report(session: &mut Session, now: Instant, matching: &Match, entry: &Entry<Program>, reason: RemovalReason) {
    if entry.flags & FLAG_SEND_FLOW_REM == 0 {
        return;
    }
    let lived = now.nanos_since(entry.created);
    session.flow_removed(&FlowRemoved {
        matching: *matching,
        cookie: entry.cookie,
        priority: entry.priority,
        reason: match reason {
            RemovalReason::IdleTimeout => RemovedReason::IdleTimeout,
            RemovalReason::HardTimeout => RemovedReason::HardTimeout,
            RemovalReason::Delete => RemovedReason::Delete,
        },
        duration_sec: (lived / NANOS_PER_SEC) as u32,
        duration_nsec: (lived % NANOS_PER_SEC) as u32,
        idle_timeout: entry.idle_timeout,
        packets: entry.packets,
        bytes: entry.bytes,
    });
}

const NANOS_PER_SEC: u64 = 1_000_000_000;
