//! Our side: one engine, asked the same as the switch.

use crate::{
    bridge::{Answer, Refusal, Removed},
    judge,
    known::{self, Known},
    spec::FLOWS,
    wire::Listed,
};
use cvsw_core::{
    Config, Cvsw, Direction, DropReason, Frame, Instant, Verdict,
    control::{ControlMessage, ETHERTYPE, HEADER_LEN, MAX_FRAME_LEN, MessageType, VERSION_2},
    flow::{Action, Command, FlowKey, FlowMod},
    openflow::{FlowRemoved, decode_flow_mod},
    trace::{Considered, Effect, Event, Observer},
};
use std::time::Duration;
use zerocopy::FromZeros;

/// Bytes in front of a frame, for tags.
const HEADROOM: usize = 64;

/// The vNIC's address.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 99];

/// The engine under test.
pub struct Engine {
    cvsw: Box<Cvsw<FLOWS, 256, 64>>,
    now: Instant,
}

/// What the engine did with a frame.
#[derive(Debug)]
pub struct Done {
    /// What it said.
    pub verdict: Verdict,
    /// The frame afterwards.
    pub bytes: Vec<u8>,
    /// Some look-up found nothing: the vNIC forwards, a switch drops.
    pub missed: bool,
}

impl Engine {
    /// An engine with an empty table.
    pub fn new(seed: u64) -> Self {
        // `new_box_zeroed` fails only without memory.
        let mut cvsw: Box<Cvsw<FLOWS, 256, 64>> = Cvsw::new_box_zeroed().expect("memory for one engine");
        cvsw.init(&Config { mac: MAC, hash_seed: seed, ..Config::default() });
        let mut engine = Self { cvsw, now: Instant::ZERO };
        // Removals are reported to a controller that has said HELLO.
        let hello = ControlMessage { dst: MAC, version: VERSION_2, kind: MessageType::Hello, data: 0, body: &[] };
        let mut frame = [0; HEADER_LEN];
        hello.emit(ETHERTYPE, &mut frame).expect("a header has room for a header");
        engine.frame(Direction::Rx, &frame, false);
        engine.take_removed();
        engine
    }

    /// The removals reported since the last call.
    pub fn take_removed(&mut self) -> Vec<Removed> {
        let mut out = [0; MAX_FRAME_LEN];
        let mut removed = Vec::new();
        while let Some(len) = self.cvsw.poll_transmit(&mut out) {
            let report = out.get(HEADER_LEN..len).and_then(|body| FlowRemoved::decode(body).ok());
            removed.extend(report.as_ref().map(Removed::of));
        }
        removed
    }

    /// Takes the bytes of a flow change.
    pub fn change(&mut self, bytes: &[u8]) -> Answer {
        let flow = decode_flow_mod(bytes).map_err(Refusal::ours)?;
        self.cvsw.flow_mod(self.now, &flow).map_err(Refusal::ours)
    }

    /// What a change is answered with, for people. It is carried out.
    pub fn answer(&mut self, bytes: &[u8]) -> String {
        judge::name(self.change(bytes))
    }

    /// Lets time pass.
    pub fn wait(&mut self, time: Duration) {
        self.now = Instant::from_nanos(self.now.nanos_since(Instant::ZERO).saturating_add(time.as_nanos() as u64));
        self.cvsw.tick(self.now);
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        let all = FlowMod { command: Command::Delete, ..FlowMod::default() };
        // A DELETE of everything is always possible.
        let _ = self.cvsw.flow_mod(self.now, &all);
    }

    /// The table.
    pub fn list(&self) -> Vec<Listed> {
        self.cvsw.flows().map(|entry| Listed::from_entry(&entry)).collect()
    }

    /// What would happen to a frame; nothing is counted.
    pub fn foresee(&mut self, direction: Direction, bytes: &[u8]) -> Foreseen {
        let mut buffer = buffer(bytes);
        let mut seen = Seen { drop_eligible: has_dei(bytes), ..Seen::default() };
        if let Ok(mut frame) = Frame::new(buffer.as_mut_slice(), HEADROOM, bytes.len()) {
            let verdict = self.cvsw.trace(self.now, direction, &mut frame, &mut seen);
            if verdict == Verdict::Drop(DropReason::ResubmitLimit) {
                seen.known = Some(Known::ResubmitDepth);
            }
        }
        Foreseen { ambiguous: seen.ambiguous, missed: seen.missed, known: seen.known }
    }

    /// Processes a frame.
    pub fn frame(&mut self, direction: Direction, bytes: &[u8], missed: bool) -> Done {
        let mut buffer = buffer(bytes);
        let mut frame =
            Frame::new(buffer.as_mut_slice(), HEADROOM, bytes.len()).expect("the buffer was made for it");
        let verdict = self.cvsw.process(self.now, direction, &mut frame);
        Done { verdict, bytes: frame.bytes().to_vec(), missed }
    }
}

fn buffer(bytes: &[u8]) -> Vec<u8> {
    [&[0; HEADROOM], bytes].concat()
}

/// What a trace says about a frame before it is sent.
pub struct Foreseen {
    /// Two entries of the same priority match: what happens then is not defined.
    pub ambiguous: bool,
    /// Some look-up finds nothing.
    pub missed: bool,
    /// It meets a known difference.
    pub known: Option<Known>,
}

#[derive(Default)]
struct Seen {
    chosen: u16,
    key: FlowKey,
    drop_eligible: bool,
    lookups: u32,
    changed_length: bool,
    imagined: bool,
    uncovered: bool,
    ambiguous: bool,
    missed: bool,
    known: Option<Known>,
}

impl Observer for Seen {
    const ENABLED: bool = true;

    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Parsed { key, .. } => {
                self.lookups += 1;
                self.key = **key;
                if self.lookups > 1 && self.imagined {
                    self.known = Some(Known::ImaginedFields);
                } else if self.lookups > 1 && self.changed_length {
                    self.known = Some(Known::BytesAfterTag);
                }
            }
            Event::Entry { priority, result: Considered::Matched, .. } => self.chosen = *priority,
            Event::Entry { priority, result: Considered::Shadowed, .. } => {
                self.ambiguous |= *priority == self.chosen
            }
            Event::Bypass | Event::Miss => self.missed = true,
            Event::Action { action, effect, bytes } => {
                if *effect == Effect::Applied {
                    self.changed_length |=
                        matches!(action, Action::SetVlanVid(_) | Action::SetVlanPcp(_) | Action::StripVlan);
                }
                self.imagined |= *effect == Effect::NotApplicable && !matches!(action, Action::StripVlan);
                if self.uncovered {
                    self.known = Some(Known::InnerTag);
                }
                self.uncovered =
                    matches!(action, Action::StripVlan) && *effect == Effect::Applied && tci(bytes).is_some();
                self.known = self.known.or(known::of_action(action, *effect, &self.key, self.drop_eligible));
                self.drop_eligible |= has_dei(bytes);
            }
            _ => {}
        }
    }
}

/// The TCI of a frame's outermost tag.
fn tci(frame: &[u8]) -> Option<u16> {
    match frame.get(12..16)? {
        &[0x81, 0x00, hi, lo] | &[0x88, 0xa8, hi, lo] => Some(u16::from_be_bytes([hi, lo])),
        _ => None,
    }
}

/// Whether a frame's outermost tag has its DEI (CFI) bit set.
fn has_dei(frame: &[u8]) -> bool {
    tci(frame).is_some_and(|tci| tci & 0x1000 != 0)
}
