//! Both ends of control protocol version 3 in memory: an engine and a controller, a virtual clock between them, and a
//! channel that loses, doubles, delays and forges what it is told to.
//!
//! [`Ends::run`] reads a program of bytes, so that the same body is a fuzz target and a property test. After every step
//! the engine is held against a model: its state must be exactly what the commands make of it that it says it has
//! decided on, one after the other, so no command is half-applied, applied twice or out of turn.

mod controller;
mod model;

use controller::Controller;
use cvsw_core::{
    Config, Cvsw, Frame, Instant,
    control::{
        ETHERTYPE, MAX_FRAME_LEN,
        v3::{ControlKeys, ControlStatus},
    },
    crypto::Portable,
    flow::Direction,
};
use model::Model;
pub use model::{Command, SLOTS};
use zerocopy::FromZeros;

/// The vNIC's address.
pub const MAC: [u8; 6] = [0x02, 0, 0, 0, 0x01, 0x01];
/// Security associations of the engine.
const SAS: usize = 4;
type Engine = Cvsw<16, 16, 16, SAS>;

/// Frames that may be under way in one direction; more are lost.
const ROOM: usize = 64;
/// Nanoseconds of a step of the clock.
const STEP: u64 = 20_000_000;
/// Steps in which a channel that goes on losing may lead to the wanted state.
const LOSSY: u32 = 5_000;
/// Steps in which an undisturbed channel must lead to the wanted state, from anywhere: what was lost last is sent again
/// after a minute at most, first a command, then the question what became of it; then the next round begins, half a
/// minute later at most.
const PATIENCE: u32 = 3 * 60 * 50;

/// Two ends and what is between them.
pub struct Ends {
    now: Instant,
    engine: Box<Engine>,
    ciphers: Portable<SAS>,
    keys: ControlKeys,
    lives: u64,
    model: Model,
    seen: ControlStatus,
    controller: Controller,
    /// Controllers that were replaced and do not know it.
    stale: Vec<Controller>,
    to_vnic: Vec<Vec<u8>>,
    to_controller: Vec<Vec<u8>>,
    /// Frames that somebody has recorded.
    recorded: Vec<Vec<u8>>,
    random: u64,
    trace: Vec<String>,
}

impl Ends {
    /// Two ends that have not met; `keyed`: both have the control key.
    pub fn new(keyed: bool) -> Self {
        let keys = if keyed { ControlKeys::derive(&[0x5a; 16]) } else { ControlKeys::NONE };
        let mut ends = Self {
            now: Instant::from_secs(1),
            engine: Engine::new_box_zeroed().expect("memory for an engine"),
            ciphers: Portable::new(),
            controller: Controller::new(keys.clone(), 1),
            stale: Vec::new(),
            keys,
            lives: 0,
            model: Model::default(),
            seen: Engine::new_box_zeroed().expect("memory for an engine").control_status(),
            to_vnic: Vec::new(),
            to_controller: Vec::new(),
            recorded: Vec::new(),
            random: 1,
            trace: Vec::new(),
        };
        ends.restart_vnic();
        ends
    }

    /// Lets a program disturb everything, then leaves the channel alone (but for one loss in `loss`, if it is not 0),
    /// until the vNIC is as wanted. The losses come to an end: of any number of messages, all may be lost.
    ///
    /// # Panics
    /// If the engine is not what its commands make of it, or never becomes as wanted.
    pub fn run(&mut self, program: &[u8], loss: u64) {
        for operation in program.chunks(2) {
            let [operation, argument] = [operation[0], operation.get(1).copied().unwrap_or(0)];
            self.operate(operation, argument.into());
        }
        let settled = (loss != 0 && self.settle(LOSSY, loss)) || self.settle(PATIENCE, 0);
        if !settled {
            self.fail("it never became as wanted");
        }
    }

    /// Whether the vNIC becomes as wanted within `steps`, if one frame of `loss` is lost (0: none).
    fn settle(&mut self, steps: u32, loss: u64) -> bool {
        for _ in 0..steps {
            if self.is_converged() {
                return true;
            }
            self.pass(STEP);
            for to_vnic in [true, false] {
                while let Some(frame) = self.take(to_vnic, 0) {
                    if loss == 0 || !self.next_random().is_multiple_of(loss) {
                        self.deliver(to_vnic, &frame);
                    }
                }
            }
        }
        self.is_converged()
    }

    /// Whether the vNIC is as wanted, and the controller knows it.
    pub fn is_converged(&self) -> bool {
        self.controller.is_settled()
            && self.model.flows == *self.controller.desired()
            && self.model.parameters() == self.controller.parameters()
            && self.model.encrypted_only
            && self.model.associations == 1
    }

    /// Commands that were answered from memory.
    pub fn duplicates(&self) -> u64 {
        self.engine.control_status().duplicates
    }

    /// Clock of the world, in nanoseconds.
    pub fn elapsed(&self) -> u64 {
        self.now.as_nanos()
    }

    fn operate(&mut self, operation: u8, argument: u64) {
        let at = argument as usize;
        match operation % 16 {
            0..=2 => self.pass(STEP * (1 + argument % 8)),
            3 | 4 => self.arrive(true, at),
            5 | 6 => self.arrive(false, at),
            7 => drop(self.take(argument & 1 == 0, at / 2)),
            8 => {
                let queue = if argument & 1 == 0 { &mut self.to_vnic } else { &mut self.to_controller };
                if let Some(frame) = queue.get(at / 2 % queue.len().max(1)).cloned() {
                    queue.push(frame);
                }
            }
            9 => self.controller.want(at),
            10 => self.controller.spoil(),
            11 => {
                if let Some(frame) = self.recorded.get(at % self.recorded.len().max(1)).cloned() {
                    self.deliver(true, &frame);
                    self.deliver(false, &frame);
                }
            }
            12 => self.forge(argument),
            13 if argument < 64 => self.restart_vnic(),
            14 if argument < 64 => self.replace_controller(),
            _ => {
                // Everything under way arrives, in any order.
                for to_vnic in [true, false] {
                    for _ in 0..ROOM {
                        let at = self.next_random() as usize;
                        self.arrive(to_vnic, at);
                    }
                }
            }
        }
    }

    fn arrive(&mut self, to_vnic: bool, at: usize) {
        if let Some(frame) = self.take(to_vnic, at) {
            self.deliver(to_vnic, &frame);
        }
    }

    fn take(&mut self, to_vnic: bool, at: usize) -> Option<Vec<u8>> {
        let queue = if to_vnic { &mut self.to_vnic } else { &mut self.to_controller };
        (!queue.is_empty()).then(|| queue.remove(at % queue.len()))
    }

    /// Time passes, and both ends do what is due.
    fn pass(&mut self, nanos: u64) {
        self.now = Instant::from_nanos(self.now.as_nanos() + nanos);
        self.engine.tick(self.now);
        for controller in std::iter::once(&mut self.controller).chain(&mut self.stale) {
            controller.poll(self.now, &mut self.to_vnic);
        }
        self.after();
    }

    fn deliver(&mut self, to_vnic: bool, frame: &[u8]) {
        if self.recorded.len() < ROOM {
            self.recorded.push(frame.to_vec());
        }
        if to_vnic {
            let mut bytes = frame.to_vec();
            let mut held = Frame::new(&mut bytes[..], 0, frame.len()).expect("the frame fills its buffer");
            let _ = self.engine.process_with(&mut self.ciphers, self.now, Direction::Rx, &mut held);
        } else {
            for controller in std::iter::once(&mut self.controller).chain(&mut self.stale) {
                controller.receive(self.now, frame, &mut self.to_vnic);
            }
        }
        self.after();
    }

    /// Fetches what the engine sends, and compares it with the model.
    fn after(&mut self) {
        while self.engine.poll_event().is_some() {}
        let mut out = [0; MAX_FRAME_LEN];
        while let Some(len) = self.engine.poll_transmit(&mut out) {
            self.to_controller.push(out[..len].to_vec());
        }
        self.to_vnic.truncate(ROOM);
        self.to_controller.truncate(ROOM);
        self.compare();
    }

    fn compare(&mut self) {
        let status = self.engine.control_status();
        if (status.epoch, status.executed) != (self.seen.epoch, self.seen.executed) {
            let expected = if status.epoch == self.seen.epoch { self.seen.executed + 1 } else { 1 };
            let asked = status.epoch > self.seen.epoch && status.executed == 0;
            if (status.executed != expected && !asked) || status.epoch < self.seen.epoch {
                self.fail(&format!("from {:?} to {status:?}", self.seen));
            }
            if self.seen.epoch != status.epoch {
                self.model.last_done = true;
            }
            self.seen = status;
            if asked {
                return;
            }
            let sender = std::iter::once(&self.controller)
                .chain(&self.stale)
                .find(|controller| controller.epoch() == status.epoch);
            match sender.and_then(|controller| controller.sent(status.instance, status.executed)) {
                Some((command, chained)) => {
                    self.trace.push(format!("{}:{} {command:?} chained {chained}", status.epoch, status.executed));
                    self.model.apply(command, chained);
                }
                None => self.fail("it has executed what nobody has sent"),
            }
        }
        self.seen = status;
        let flows = self.engine.flows().map(|entry| (entry.flow.priority, entry.flow)).collect();
        let encrypted_only = self.engine.encrypted_only().any(|vni| vni == model::VNI);
        let same = self.model.flows == flows
            && self.model.associations == self.engine.sas().count()
            && self.model.encrypted_only == encrypted_only;
        if !same {
            self.fail(&format!("it has {flows:?}, {} associations, {encrypted_only}", self.engine.sas().count()));
        }
    }

    fn restart_vnic(&mut self) {
        self.lives += 1;
        self.trace.push(format!("vNIC starts, life {}", self.lives));
        self.ciphers = Portable::new();
        self.engine.init(&Config { mac: MAC, ..Config::default() });
        self.engine.accept_keys_in_clear(!self.keys.is_set());
        self.engine.enable_version_3(0x1000 + self.lives, self.keys.clone());
        self.engine.announce();
        self.model = Model::default();
        self.seen = self.engine.control_status();
        self.after();
    }

    fn replace_controller(&mut self) {
        let epoch = self.controller.epoch() + 1;
        self.trace.push(format!("controller {epoch} takes over"));
        let new = self.controller.successor(epoch);
        self.stale.push(std::mem::replace(&mut self.controller, new));
    }

    /// A frame that was recorded, with one bit changed. Without keys nothing could tell it from a true one.
    fn forge(&mut self, argument: u64) {
        if !self.keys.is_set() || self.recorded.is_empty() {
            return;
        }
        let at = argument as usize % self.recorded.len();
        let mut frame = self.recorded[at].clone();
        let bit = self.next_random() as usize % (8 * frame.len());
        frame[bit / 8] ^= 1 << (bit % 8);
        self.deliver(true, &frame);
        self.deliver(false, &frame);
    }

    /// SplitMix64.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fail(&self, why: &str) -> ! {
        panic!(
            "{why}\nmodel: {:?}\nengine: {:?}\ncontroller: {:?}\nhistory: {:#?}",
            self.model,
            self.engine.control_status(),
            self.controller,
            self.trace
        );
    }
}

/// EtherType of both ends.
const TYPE: u16 = ETHERTYPE;

/// The body of the fuzz target and of the property test: the first byte says whether there are keys, and how much is lost
/// in the end.
pub fn converge(program: &[u8]) {
    let Some((first, program)) = program.split_first() else { return };
    let loss = [0, 2, 3, 8][usize::from(first >> 1 & 3)];
    Ends::new(first & 1 == 1).run(program, loss);
}
