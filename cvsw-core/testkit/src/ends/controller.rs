//! A small controller of one vNIC around the core's session.

use super::{
    MAC, TYPE,
    model::{Command, SLOTS, entry, impossible, protection},
};
use cvsw_core::{
    Instant, NoRoom,
    control::{
        MAX_FRAME_LEN,
        v3::{
            ControlKeys, ControllerSession, Convergence, Event, Kind, Known, Listed, Message, Outgoing, State,
            Step, TableDigest, Wanted, hello,
        },
    },
    flow::{Command as FlowCommand, FlowMod},
    openflow::encode_flow_mod,
};
use std::collections::{BTreeMap, VecDeque};

/// Pause before a repetition.
const TIMEOUT: u64 = 100_000_000;
/// Pause between two HELLOs to a vNIC that is not there.
const HELLO: u64 = 500_000_000;
/// Repetitions after which a vNIC may have started anew.
const SILENT: u32 = 4;
/// Pause between two questions whether all is well.
const PERIOD: u64 = 2_000_000_000;

#[derive(Debug)]
pub struct Controller {
    session: ControllerSession<8>,
    keys: ControlKeys,
    epoch: u64,
    convergence: Convergence,
    desired: BTreeMap<u16, FlowMod>,
    mtu: u16,
    offload: u16,
    believed: BTreeMap<u16, FlowMod>,
    believed_parameters: (u16, Option<u16>),
    listed: BTreeMap<u16, FlowMod>,
    queue: VecDeque<Command>,
    /// What follows is chained to what was submitted last.
    chain: bool,
    challenge: u64,
    hello_at: Instant,
    /// Every command that was sent, by instance.
    log: BTreeMap<u64, Vec<(Command, bool)>>,
}

impl Controller {
    pub fn new(keys: ControlKeys, epoch: u64) -> Self {
        Self {
            session: ControllerSession::new(keys.clone(), epoch, TIMEOUT),
            keys,
            epoch,
            convergence: Convergence::default(),
            desired: (0..4).map(|slot| (slot + 1, entry(slot, 0))).collect(),
            mtu: 1450,
            offload: 3,
            believed: BTreeMap::new(),
            believed_parameters: (0, None),
            listed: BTreeMap::new(),
            queue: VecDeque::new(),
            chain: false,
            challenge: 0,
            hello_at: Instant::ZERO,
            log: BTreeMap::new(),
        }
    }

    /// Another controller that wants the same and knows nothing.
    pub fn successor(&self, epoch: u64) -> Self {
        let desired = self.desired.clone();
        Self { desired, mtu: self.mtu, offload: self.offload, ..Self::new(self.keys.clone(), epoch) }
    }

    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub const fn desired(&self) -> &BTreeMap<u16, FlowMod> {
        &self.desired
    }

    pub const fn parameters(&self) -> (u16, Option<u16>) {
        (self.mtu, Some(self.offload))
    }

    pub fn is_settled(&self) -> bool {
        self.convergence.is_settled() && self.queue.is_empty()
    }

    /// The command that was sent to an instance as number `sequence`, and whether it was chained.
    pub fn sent(&self, instance: u64, sequence: u64) -> Option<(&Command, bool)> {
        let (command, chained) = self.log.get(&instance)?.get(usize::try_from(sequence).ok()?.checked_sub(1)?)?;
        Some((command, *chained))
    }

    /// Wants something else.
    pub fn want(&mut self, argument: usize) {
        let (slot, variant) = ((argument as u16) % SLOTS, (argument as u16) / SLOTS % 4);
        match variant {
            0 => drop(self.desired.remove(&(slot + 1))),
            variant => drop(self.desired.insert(slot + 1, entry(slot, variant))),
        }
        if argument >= 200 {
            self.mtu = 1000 + argument as u16;
            self.offload = argument as u16 & 0x1f;
        }
        if self.convergence.wanted_changed() {
            self.plan();
        }
    }

    /// Puts a command in front that no vNIC carries out; what is behind it must not be carried out either, and be made
    /// good later.
    pub fn spoil(&mut self) {
        if self.convergence.is_pushing() {
            self.queue.push_front(Command::Set(impossible()));
        }
    }

    pub fn receive(&mut self, now: Instant, frame: &[u8], out: &mut Vec<Vec<u8>>) {
        let Ok(message) = Message::parse(frame) else { return };
        if message.header.kind == Kind::Register {
            self.registered(now, &message, out);
        } else {
            match self.session.receive(now, &message) {
                Ok(event) => self.happened(now, event),
                Err(_) => return,
            }
        }
        self.work(now, out);
    }

    pub fn poll(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        let lost = self.session.instance() == 0 || self.session.unheard() >= SILENT;
        if lost && now >= self.hello_at && self.session.fenced().is_none() {
            self.hello(now, out);
        }
        self.work(now, out);
    }

    fn hello(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        self.challenge = now.as_nanos() ^ self.epoch << 56 | 1;
        self.hello_at = Instant::from_nanos(now.as_nanos() + HELLO);
        let mut frame = [0; 64];
        let len = hello(TYPE, [0xff; 6], self.epoch, self.challenge, &mut frame).expect("room for a HELLO");
        out.push(frame[..len].to_vec());
    }

    fn registered(&mut self, now: Instant, message: &Message<'_>, out: &mut Vec<Vec<u8>>) {
        let Ok(registered) = self.session.register(message, self.challenge) else {
            if self.session.is_announcement(message) && self.session.fenced().is_none() {
                self.hello(now, out);
            }
            return;
        };
        if registered.fresh {
            self.convergence = Convergence::default();
            self.queue = protection().into();
            self.chain = false;
        }
        self.told(now, &registered.state);
    }

    fn told(&mut self, now: Instant, state: &State) {
        let known = self.convergence.told(now, state, &self.wanted(), PERIOD);
        if known != Known::Nothing {
            self.believed_parameters = (state.mtu, state.offload);
        }
        match known {
            Known::Empty => self.believed.clear(),
            Known::Wanted => self.believed = self.desired.clone(),
            Known::Listing => self.listed.clear(),
            Known::Listed | Known::Nothing => {}
        }
        if matches!(known, Known::Empty | Known::Wanted) {
            self.plan();
        }
    }

    fn wanted(&self) -> Wanted {
        let mut digest = TableDigest::default();
        let mut scratch = [0; MAX_FRAME_LEN];
        for flow in self.desired.values() {
            digest.add(flow, &mut scratch).expect("an entry can be written");
        }
        let (mtu, offload) = (Some(self.mtu), Some(self.offload));
        Wanted { digest: digest.value(), entries: self.desired.len() as u32, mtu, offload }
    }

    /// The differences: additions before deletions. What protects stays in front.
    fn plan(&mut self) {
        self.queue.retain(|command| matches!(command, Command::Sa(_)));
        // What is under way is believed to happen; if it does not, the next round finds it.
        let (mtu, offload) = self.believed_parameters;
        self.queue.extend((mtu != self.mtu).then_some(Command::Mtu(self.mtu)));
        self.queue.extend((offload != Some(self.offload)).then_some(Command::Offload(self.offload)));
        for (name, flow) in &self.desired {
            if self.believed.get(name) != Some(flow) {
                self.queue.push_back(Command::Set(flow.clone()));
            }
        }
        for (name, flow) in &self.believed {
            if !self.desired.contains_key(name) {
                self.queue
                    .push_back(Command::Delete(FlowMod { command: FlowCommand::DeleteStrict, ..flow.clone() }));
            }
        }
    }

    fn happened(&mut self, now: Instant, event: Event<'_>) {
        match event {
            Event::State(state) => self.told(now, &state),
            Event::Page(page, items) => {
                let known = self.convergence.page(&page);
                if known == Known::Listing {
                    return self.listed.clear();
                }
                let mut rest = items;
                while !rest.is_empty() {
                    let Ok((entry, behind)) = Listed::parse(rest) else { break };
                    self.listed.insert(entry.flow.priority, entry.flow);
                    rest = behind;
                }
                if known == Known::Listed {
                    self.believed = std::mem::take(&mut self.listed);
                    self.plan();
                }
            }
            Event::Removed(_) => self.convergence.check(),
            Event::Answered { answer, .. } if answer.refusal.is_some() => self.chain = false,
            Event::Answered { .. } | Event::Nothing | Event::Fenced(_) => {}
        }
    }

    fn work(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        match self.convergence.step(now) {
            Step::Nothing => {}
            Step::Ask(request) if self.queue.is_empty() => drop(self.session.ask(request)),
            Step::Ask(request) => {
                // Protection first, whatever the table is like.
                self.push();
                self.session.ask(request);
            }
            Step::Push => {
                self.push();
                if self.queue.is_empty() && self.session.is_idle() {
                    self.convergence.pushed();
                }
            }
        }
        while let Some(outgoing) = self.session.poll(now) {
            let mut frame = [0; MAX_FRAME_LEN];
            let len = self.write(&outgoing, &mut frame).expect("room for any message");
            out.push(frame[..len].to_vec());
        }
    }

    fn push(&mut self) {
        let instance = self.session.instance();
        while self.session.has_room() {
            let Some(command) = self.queue.pop_front() else { break };
            let chained = self.chain;
            let sequence = self.session.submit(0, chained).expect("there is room");
            match &command {
                Command::Set(flow) if flow.priority <= SLOTS => {
                    self.believed.insert(flow.priority, flow.clone());
                }
                Command::Delete(flow) => drop(self.believed.remove(&flow.priority)),
                Command::Mtu(mtu) => self.believed_parameters.0 = *mtu,
                Command::Offload(offload) => self.believed_parameters.1 = Some(*offload),
                Command::Set(_) | Command::Sa(_) => {}
            }
            // Adding the association again fails if it is there, which is no reason to stop.
            self.chain = !matches!(command, Command::Sa(_));
            let log = self.log.entry(instance).or_default();
            assert_eq!(sequence, log.len() as u64 + 1, "numbers are used in order");
            log.push((command, chained));
        }
    }

    fn write(&self, outgoing: &Outgoing, out: &mut [u8]) -> Result<usize, NoRoom> {
        let (sequence, chained) = match *outgoing {
            Outgoing::Request { sequence, request } => {
                let kind = match request.subject {
                    cvsw_core::control::v3::Subject::Entries => Kind::ListEntries,
                    _ => Kind::Get,
                };
                let header = self.session.header(MAC, kind, sequence, false, 0);
                return header.emit_bytes(TYPE, &self.keys, out, &request.to_bytes());
            }
            Outgoing::Command { sequence, chained, .. } => (sequence, chained),
        };
        let (command, _) = self.sent(self.session.instance(), sequence).expect("it was submitted");
        let header = |kind, data| self.session.header(MAC, kind, sequence, chained, data);
        let flow = |kind, flow: &FlowMod, out: &mut [u8]| {
            header(kind, 0).emit(TYPE, &self.keys, out, |room| encode_flow_mod(flow, 0, room).map_err(|_| NoRoom))
        };
        match command {
            Command::Mtu(mtu) => header(Kind::SetMtu, *mtu).emit_bytes(TYPE, &self.keys, out, &[]),
            Command::Offload(features) => {
                header(Kind::SetOffload, *features).emit_bytes(TYPE, &self.keys, out, &[])
            }
            Command::Set(entry) => flow(Kind::SetEntry, entry, out),
            Command::Delete(entry) => flow(Kind::DeleteEntry, entry, out),
            Command::Sa(set_sa) => {
                header(Kind::SetSa, 0).emit(TYPE, &self.keys, out, |room| set_sa.emit_wrapped(&self.keys, room))
            }
        }
    }
}
