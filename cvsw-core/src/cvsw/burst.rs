//! The packet path: `control? -> parse -> cache, else table -> actions -> verdict`, for bursts.
//!
//! A burst goes through in stages (parse all, look up all, run all), so that the memory accesses of different
//! frames overlap. A control frame splits the burst, since it may change the table: what arrived before it is
//! processed with the old table, what arrived behind it with the new one.

use super::{BURST, Cvsw, MAX_LOOKUPS};
use crate::{
    apply::{self, Context, Next, Program},
    control::{ControlKind, control_kind},
    crypto::{Ciphers, NoCiphers},
    flow::{Direction, FlowId, FlowTable, RESUBMIT_IN_PORT, cache::FlowCache, hash::hash_key, table::Lookup},
    fragment,
    frame::{Buffer, Frame, GsoKind},
    parse::{Parsed, parse_into, parse_plain},
    path_mtu::Fit,
    stats::{ControlError, DropReason},
    time::Instant,
    trace::{NoTrace, Observer},
    verdict::Verdict,
    wire::ethernet::ETHERTYPE_IPV4,
};
use core::hint::black_box;
use zerocopy::FromZeros;

/// Entries that the processor's first-level cache keeps anyway.
const NEAR: usize = 64;

/// What the stages tell each other about one frame. All-zero memory is one that was not parsed.
#[derive(FromZeros)]
#[repr(C)]
pub(super) struct Work {
    pub(super) parsed: Parsed,
    /// Hash of the parsed key.
    hash: u64,
    /// `FlowKey::is_wide` of the parsed key.
    wide: bool,
    found: Found,
}

/// What the look-up stage found for one frame.
#[derive(Clone, Copy, FromZeros)]
#[repr(u8)]
enum Found {
    /// No entry, or the table is not active: the frame passes.
    Nothing = 0,
    /// Too short to be a frame.
    Short,
    /// This entry.
    Entry(FlowId),
    /// Larger than the MTU that the VM is held to.
    TooBig,
    /// Not in the cache; only during the look-up stage.
    Missing,
}

impl From<Option<FlowId>> for Found {
    #[inline]
    fn from(answer: Option<FlowId>) -> Self {
        answer.map_or(Self::Nothing, Self::Entry)
    }
}

impl Work {
    /// Whether the frame is to be looked up.
    #[inline]
    const fn is_wanted(&self) -> bool {
        !matches!(self.found, Found::Short | Found::TooBig)
    }

    #[inline]
    const fn is_missing(&self) -> bool {
        matches!(self.found, Found::Missing)
    }

    #[inline]
    const fn entry(&self) -> Option<FlowId> {
        match self.found {
            Found::Entry(id) => Some(id),
            _ => None,
        }
    }
}

impl<const FLOWS: usize, const CACHE: usize, const MASKS: usize, const SAS: usize> Cvsw<FLOWS, CACHE, MASKS, SAS> {
    /// Processes one frame, without ciphers: what demands encryption is dropped.
    pub fn process<B: Buffer>(&mut self, now: Instant, direction: Direction, frame: &mut Frame<B>) -> Verdict {
        let mut verdict = Verdict::Consumed;
        self.process_burst(now, direction, core::slice::from_mut(frame), core::slice::from_mut(&mut verdict));
        verdict
    }

    /// Processes one frame.
    pub fn process_with<B: Buffer, C: Ciphers>(
        &mut self,
        ciphers: &mut C,
        now: Instant,
        direction: Direction,
        frame: &mut Frame<B>,
    ) -> Verdict {
        let mut verdict = Verdict::Consumed;
        let (frames, verdicts) = (core::slice::from_mut(frame), core::slice::from_mut(&mut verdict));
        self.process_burst_with(ciphers, now, direction, frames, verdicts);
        verdict
    }

    /// Processes frames without ciphers, as [`Cvsw::process_burst_with`]: what demands encryption is dropped.
    pub fn process_burst<B: Buffer>(
        &mut self,
        now: Instant,
        direction: Direction,
        frames: &mut [Frame<B>],
        verdicts: &mut [Verdict],
    ) -> usize {
        self.process_burst_with(&mut NoCiphers, now, direction, frames, verdicts)
    }

    /// Processes frames; `verdicts` gets one verdict per frame and must be at least as long as `frames`
    /// (frames without a verdict slot are not touched). Returns the number of frames processed. `ciphers` is what
    /// the engine's security associations were added with.
    pub fn process_burst_with<B: Buffer, C: Ciphers>(
        &mut self,
        ciphers: &mut C,
        now: Instant,
        direction: Direction,
        frames: &mut [Frame<B>],
        verdicts: &mut [Verdict],
    ) -> usize {
        let count = frames.len().min(verdicts.len());
        let mut start = 0usize;
        while let Some(frames @ [_, ..]) = frames.get_mut(start..count) {
            let verdicts = verdicts.get_mut(start..count).unwrap_or_default();
            let (plain, control) = self.parse_all(direction, frames);
            // Never `None`: `plain` is at most the length of both.
            let Some((frames, next_frame)) = frames.split_at_mut_checked(plain) else { break };
            let Some((verdicts, next_verdict)) = verdicts.split_at_mut_checked(plain) else { break };
            self.run_stages(ciphers, now, direction, frames, verdicts);
            start = start.saturating_add(plain);
            if let (Some(kind), Some(frame), Some(verdict)) =
                (control, next_frame.first(), next_verdict.first_mut())
            {
                *verdict = self.take_control(ciphers, now, direction, frame, kind);
                start = start.saturating_add(1);
            }
        }
        count
    }

    /// The first stage: the number of frames before the first control frame (at most [`BURST`]), which are parsed,
    /// and the kind of that control frame, if there is one.
    #[inline(never)] // each stage has the processor's registers for itself
    fn parse_all<B: Buffer>(&mut self, direction: Direction, frames: &[Frame<B>]) -> (usize, Option<ControlKind>) {
        let (seed, ethertype, active) = (self.seed, self.ethertype, self.active);
        // A plain frame is IPv4: no control frame, unless somebody has chosen that EtherType for them.
        let plain = active && ethertype != ETHERTYPE_IPV4;
        for ((frame, work), at) in frames.iter().zip(&mut self.work).zip(0usize..) {
            let bytes = frame.bytes();
            work.found = Found::Nothing;
            if plain && parse_plain(&mut work.parsed, bytes, direction.in_port()) {
                work.hash = hash_key(seed, &work.parsed.key);
                work.wide = false;
                continue;
            }
            if let Some(kind) = control_kind(bytes, ethertype) {
                return (at, Some(kind));
            }
            if active {
                if parse_into(&mut work.parsed, bytes, direction.in_port(), 0) {
                    work.hash = hash_key(seed, &work.parsed.key);
                    work.wide = work.parsed.key.is_wide();
                } else {
                    work.found = Found::Short;
                }
            }
        }
        (frames.len().min(BURST), None)
    }

    /// Look up all, run all: at most [`BURST`] frames that have been parsed, none of them a control frame.
    #[inline(never)]
    fn run_stages<B: Buffer, C: Ciphers>(
        &mut self,
        ciphers: &mut C,
        now: Instant,
        direction: Direction,
        frames: &mut [Frame<B>],
        verdicts: &mut [Verdict],
    ) {
        let limited = self.path_mtu.is_set();
        if limited && direction == Direction::Tx {
            self.limit_all(now, frames);
        }
        if self.active {
            self.find_all(now, frames);
        }
        let mut tally = Tally::default();
        for ((frame, verdict), index) in frames.iter_mut().zip(verdicts).zip(0usize..) {
            tally.arrived(frame.len());
            *verdict = match self.work.get(index).map_or(Found::Nothing, |work| work.found) {
                Found::Entry(id) if self.rewrite(frame, index, id) => self.fit(direction, frame),
                Found::Entry(id) => self.execute(ciphers, now, direction, frame, index, id, &mut NoTrace),
                // Nothing is missing after the look-up stage.
                Found::Nothing | Found::Missing => {
                    tally.missed = tally.missed.wrapping_add(1);
                    self.fit(direction, frame)
                }
                Found::Short => Verdict::Drop(DropReason::FrameTooShort),
                Found::TooBig => Verdict::Drop(DropReason::PacketTooBig),
            };
            if limited && direction == Direction::Rx && *verdict == Verdict::Forward {
                self.path_mtu.clamp(frame);
            }
            match *verdict {
                Verdict::Forward => tally.left(frame.len()),
                Verdict::Consumed => {}
                Verdict::Drop(reason) => self.count_drop(direction, reason),
            }
        }
        self.add_tally(direction, &tally);
    }

    /// Keeps the VM's frames within its MTU.
    #[inline(never)]
    fn limit_all<B: Buffer>(&mut self, now: Instant, frames: &mut [Frame<B>]) {
        for (frame, work) in frames.iter_mut().zip(&mut self.work) {
            let fit = self.path_mtu.inspect(now, frame);
            if fit == Fit::Answered {
                self.stats.too_big_answered = self.stats.too_big_answered.wrapping_add(1);
            }
            if fit != Fit::Fits {
                work.found = Found::TooBig;
            }
        }
    }

    /// The second stage. Each of its steps first reads what the step needs for all frames, and decides nothing on it: so
    /// the processor waits for the memory of all frames at once, not for that of one after the other.
    #[inline(never)]
    fn find_all<B: Buffer>(&mut self, now: Instant, frames: &[Frame<B>]) {
        let generation = self.table.generation();
        let Self { cache, table, work, .. } = self;
        let work = work.get_mut(..frames.len()).unwrap_or_default();
        black_box(work.iter().fold(0, |read, work| read ^ cache.touch(work.hash)));
        let (mut hits, mut misses) = (0u64, false);
        for work in work.iter_mut().filter(|work| work.is_wanted()) {
            match cache.get(work.hash, &work.parsed.key, work.wide, generation) {
                Some(answer) => {
                    hits = hits.wrapping_add(1);
                    work.found = answer.into();
                }
                None => (work.found, misses) = (Found::Missing, true),
            }
        }
        if misses {
            hits = hits.wrapping_add(look_up_missing(table, cache, work, &mut self.stats.cache_misses));
        }
        self.stats.cache_hits = self.stats.cache_hits.wrapping_add(hits);
        if table.len() > NEAR {
            black_box(work.iter().fold(0, |read, work| read ^ work.entry().map_or(0, |id| table.touch(id))));
        }
        // The entries' counters and what their actions need lie side by side, so the frames are counted here.
        for (frame, work) in frames.iter().zip(work) {
            if let Some(id) = work.entry() {
                table.hit(id, now, frame.len());
                if let Some(program) = table.payload(id) {
                    program.fetch();
                }
            }
        }
    }

    /// Runs the entry's actions if they only rewrite header fields.
    #[inline]
    fn rewrite<B: Buffer>(&self, frame: &mut Frame<B>, slot: usize, id: FlowId) -> bool {
        let (Some(program), Some(work)) = (self.table.payload(id), self.work.get(slot)) else { return false };
        let all = program.only_rewrites();
        if all {
            program.rewrite(frame, &work.parsed.headers);
        }
        all
    }

    /// Runs the entry's actions, and those of the entries that it resubmits to. `slot` is where the frame's
    /// last parse lies in the scratch.
    #[allow(clippy::too_many_arguments, reason = "one frame and everything that is done to it")]
    pub(super) fn execute<B: Buffer, C: Ciphers, O: Observer>(
        &mut self,
        ciphers: &mut C,
        now: Instant,
        direction: Direction,
        frame: &mut Frame<B>,
        slot: usize,
        first: FlowId,
        observer: &mut O,
    ) -> Verdict {
        let mut id = first;
        let mut came_decrypted = false;
        let mut uncovered = false;
        for _ in 0..MAX_LOOKUPS {
            let (Some(work), Some(program)) = (self.work.get_mut(slot), self.table.payload(id)) else { break };
            uncovered |= program.uncovers();
            let mut context = Context {
                now,
                ip_id: &mut self.ip_id,
                sas: &mut self.sas,
                ciphers,
                encrypted_only: &self.encrypted_only,
            };
            match apply::run(program, &mut context, frame, &work.parsed, came_decrypted, observer) {
                Next::Forward => {
                    let verdict = if uncovered { self.leave(direction, frame) } else { self.fit(direction, frame) };
                    let ours = program.encapsulates() && direction == Direction::Tx;
                    if ours && frame.len() > self.fragment_above as usize {
                        return Self::leave_to_be_cut(frame, verdict);
                    }
                    return verdict;
                }
                Next::Drop(reason) => return Verdict::Drop(reason),
                Next::Resubmit { in_port, tun_id, decrypted } => {
                    // "Keep the port" is the port of arrival, also behind a resubmit that named another.
                    let in_port = if in_port == RESUBMIT_IN_PORT { direction.in_port() } else { in_port };
                    if !parse_into(&mut work.parsed, frame.bytes(), in_port, tun_id) {
                        return Verdict::Drop(DropReason::FrameTooShort);
                    }
                    came_decrypted = decrypted;
                }
            }
            let next = if O::ENABLED { self.consider(direction, slot, observer) } else { self.find(slot) };
            match next {
                Some(next) => id = next,
                None => return self.leave(direction, frame),
            }
            if !O::ENABLED {
                self.table.hit(id, now, frame.len());
            }
        }
        Verdict::Drop(DropReason::ResubmitLimit)
    }

    /// One look-up of what was parsed into this place of the scratch.
    fn find(&mut self, slot: usize) -> Option<FlowId> {
        let Self { table, cache, stats, work, .. } = self;
        let key = &work.get(slot)?.parsed.key;
        let hash = hash_key(self.seed, key);
        let generation = table.generation();
        if let Some(answer) = cache.get(hash, key, key.is_wide(), generation) {
            stats.cache_hits = stats.cache_hits.wrapping_add(1);
            return answer;
        }
        stats.cache_misses = stats.cache_misses.wrapping_add(1);
        let answer = table.lookup(key);
        cache.put(hash, key, generation, answer);
        answer
    }

    /// The last checks before a frame goes on in its direction.
    pub(super) fn leave<B: Buffer>(&self, direction: Direction, frame: &Frame<B>) -> Verdict {
        // Actions may have uncovered a control frame (from a tunnel, or from under a VLAN tag).
        if control_kind(frame.bytes(), self.ethertype).is_some() {
            return Verdict::Drop(match direction {
                Direction::Tx => DropReason::ControlFromHost,
                Direction::Rx => DropReason::ControlFromTunnel,
            });
        }
        self.fit(direction, frame)
    }

    /// The last check of a frame that cannot have become a control frame.
    #[inline]
    fn fit<B: Buffer>(&self, direction: Direction, frame: &Frame<B>) -> Verdict {
        let too_big = frame.len() > self.link_mtu as usize && frame.offload.gso.kind == GsoKind::None;
        if direction == Direction::Tx && too_big {
            return Verdict::Drop(DropReason::FrameTooBig);
        }
        Verdict::Forward
    }

    /// The verdict on a tunnel packet that is to be cut if it does not fit.
    #[cold]
    #[inline(never)]
    fn leave_to_be_cut<B: Buffer>(frame: &mut Frame<B>, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Forward | Verdict::Drop(DropReason::FrameTooBig) if fragment::permit(frame.bytes_mut()) => {
                Verdict::Forward
            }
            verdict => verdict,
        }
    }

    /// A control frame: honoured from the network only.
    #[cold]
    #[inline(never)]
    fn take_control<B: Buffer, C: Ciphers>(
        &mut self,
        ciphers: &mut C,
        now: Instant,
        direction: Direction,
        frame: &Frame<B>,
        kind: ControlKind,
    ) -> Verdict {
        let mut tally = Tally::default();
        tally.arrived(frame.len());
        self.add_tally(direction, &tally);
        if direction == Direction::Tx {
            self.count_drop(direction, DropReason::ControlFromHost);
            return Verdict::Drop(DropReason::ControlFromHost);
        }
        let result = match kind {
            ControlKind::Plain => self.control(ciphers, now, frame.bytes()),
            ControlKind::Tagged => Err(ControlError::Tagged),
        };
        let stats = &mut self.stats;
        stats.direction_mut(direction).consumed = stats.direction(direction).consumed.wrapping_add(1);
        match result {
            Ok(()) => stats.control_accepted = stats.control_accepted.wrapping_add(1),
            Err(error) => {
                if let Some(count) = stats.control_errors.get_mut(error.index()) {
                    *count = count.wrapping_add(1);
                }
            }
        }
        Verdict::Consumed
    }

    fn count_drop(&mut self, direction: Direction, reason: DropReason) {
        if let Some(count) = self.stats.direction_mut(direction).drops.get_mut(reason.index()) {
            *count = count.wrapping_add(1);
        }
    }

    fn add_tally(&mut self, direction: Direction, tally: &Tally) {
        let stats = self.stats.direction_mut(direction);
        stats.frames = stats.frames.wrapping_add(tally.frames);
        stats.bytes = stats.bytes.wrapping_add(tally.bytes);
        stats.forwarded = stats.forwarded.wrapping_add(tally.forwarded);
        stats.forwarded_bytes = stats.forwarded_bytes.wrapping_add(tally.forwarded_bytes);
        stats.missed = stats.missed.wrapping_add(tally.missed);
    }
}

/// Look-ups that wait for memory together, each for a bucket and then an entry. More of them would wait less, but
/// each needs a place in the stack frame of a kernel's packet path, which has 2 KiB in all.
const WAVE: usize = 4;

/// Looks up what the cache could not answer, and tells it. Returns the number of those that it could answer by then,
/// since the same key came more than once; adds the others to `misses`.
#[inline(never)]
fn look_up_missing<const FLOWS: usize, const CACHE: usize, const MASKS: usize>(
    table: &FlowTable<Program, FLOWS, MASKS>,
    cache: &mut FlowCache<CACHE>,
    work: &mut [Work],
    misses: &mut u64,
) -> u64 {
    let generation = table.generation();
    let mut known = 0u64;
    for work in work.chunks_mut(WAVE) {
        let answers = look_up_wave(table, work);
        for (work, answer) in work.iter_mut().filter(|work| work.is_missing()).zip(answers) {
            work.found = answer.into();
            if cache.get(work.hash, &work.parsed.key, work.wide, generation).is_some() {
                known = known.wrapping_add(1);
            } else {
                *misses = misses.wrapping_add(1);
                cache.put(work.hash, &work.parsed.key, generation, answer);
            }
        }
    }
    known
}

/// The entries for the missing of `work`, in their order.
#[inline]
fn look_up_wave<const FLOWS: usize, const MASKS: usize>(
    table: &FlowTable<Program, FLOWS, MASKS>,
    work: &[Work],
) -> [Option<FlowId>; WAVE] {
    let mut lookups: heapless::Vec<Lookup<'_>, WAVE> = heapless::Vec::new();
    for work in work.iter().filter(|work| work.is_missing()) {
        // There are no more than `WAVE`.
        let _ = lookups.push(Lookup::new(&work.parsed.key));
    }
    table.lookup_all(&mut lookups);
    let mut answers = [None; WAVE];
    for (answer, lookup) in answers.iter_mut().zip(&lookups) {
        *answer = lookup.found();
    }
    answers
}

/// Counters of one run through the stages, kept in registers until its end.
#[derive(Default)]
struct Tally {
    frames: u64,
    bytes: u64,
    forwarded: u64,
    forwarded_bytes: u64,
    missed: u64,
}

impl Tally {
    #[inline]
    fn arrived(&mut self, len: usize) {
        self.frames = self.frames.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(len as u64);
    }

    #[inline]
    fn left(&mut self, len: usize) {
        self.forwarded = self.forwarded.wrapping_add(1);
        self.forwarded_bytes = self.forwarded_bytes.wrapping_add(len as u64);
    }
}
