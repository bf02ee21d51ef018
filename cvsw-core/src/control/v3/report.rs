//! What a vNIC tells when it is asked: its state, its entries, its counters.

use crate::{
    control::{SessionState, TableEntry},
    flow::FlowMod,
    frame::NoRoom,
    openflow::{EncodeError, decode_flow_mod, message_len},
    stats::ControlError,
    wire::control3 as wire,
};
use zerocopy::{
    FromBytes, IntoBytes,
    network_endian::{U16, U32, U64},
};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Subject {
    /// A page of the flow table (LIST_ENTRIES).
    Entries = 1,
    /// A page of the counters (GET).
    Statistics = 2,
    /// The state (GET).
    State = 3,
    /// A page of the security associations (GET).
    Associations = 4,
}

impl Subject {
    /// The subject with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Entries),
            2 => Some(Self::Statistics),
            3 => Some(Self::State),
            4 => Some(Self::Associations),
            _ => None,
        }
    }
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub subject: Subject,
    /// Where to begin: 0, or [`Page::next`] of the page before.
    pub from: u32,
}

impl Request {
    /// Reads the payload of LIST_ENTRIES or GET.
    ///
    /// # Errors
    /// `Length` for another length, `Data` for an unknown subject.
    pub fn parse(payload: &[u8]) -> Result<Self, ControlError> {
        let request = wire::Request::ref_from_bytes(payload).map_err(|_| ControlError::Length)?;
        match Subject::from_number(request.subject) {
            Some(subject) if request.pad == [0; 3] => Ok(Self { subject, from: request.from.get() }),
            _ => Err(ControlError::Data),
        }
    }

    /// The payload.
    pub fn to_bytes(self) -> [u8; 8] {
        let request = wire::Request { subject: self.subject as u8, pad: [0; 3], from: U32::new(self.from) };
        zerocopy::transmute!(request)
    }
}

/// The head of a REPORT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// What was asked for.
    pub subject: Subject,
    /// Whether it is the last one.
    pub last: bool,
    /// Items in it.
    pub count: u16,
    /// Where the next one begins.
    pub next: u32,
    /// Digest of the flow table, or of the associations if it is about them, when it was written: pages with different ones
    /// are of different tables.
    pub digest: u64,
}

impl Page {
    /// Bytes of the head.
    pub const LEN: usize = size_of::<wire::Page>();

    /// Reads the head of a REPORT; the items are behind it.
    ///
    /// # Errors
    /// `Length` if it is too short, `Data` for an unknown subject or flag.
    pub fn parse(payload: &[u8]) -> Result<(Self, &[u8]), ControlError> {
        let (page, items) = wire::Page::ref_from_prefix(payload).map_err(|_| ControlError::Length)?;
        let subject = Subject::from_number(page.subject).ok_or(ControlError::Data)?;
        if page.flags & !1 != 0 {
            return Err(ControlError::Data);
        }
        let (count, next, digest) = (page.count.get(), page.next.get(), page.digest.get());
        Ok((Self { subject, last: page.flags == 1, count, next, digest }, items))
    }

    /// The head.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let page = wire::Page {
            subject: self.subject as u8,
            flags: self.last.into(),
            count: U16::new(self.count),
            next: U32::new(self.next),
            digest: U64::new(self.digest),
        };
        zerocopy::transmute!(page)
    }
}

/// A listed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The entry as the ADD that would create it.
    pub flow: FlowMod,
    /// Frames that it was applied to.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Its age in nanoseconds.
    pub age: u64,
}

const NANOS_PER_SEC: u64 = 1_000_000_000;

impl Listed {
    /// Reads the entry at the front of a page's items; returns what is behind it.
    ///
    /// # Errors
    /// `Length` if it is cut off, `FlowMod` if it is none.
    pub fn parse(items: &[u8]) -> Result<(Self, &[u8]), ControlError> {
        let (counters, rest) = wire::EntryCounters::ref_from_prefix(items).map_err(|_| ControlError::Length)?;
        let len = message_len(rest).ok_or(ControlError::Length)?.map_err(|_| ControlError::FlowMod)?;
        let (message, behind) = rest.split_at_checked(len).ok_or(ControlError::Length)?;
        let flow = decode_flow_mod(message).map_err(|_| ControlError::FlowMod)?;
        let seconds = u64::from(counters.seconds.get()).saturating_mul(NANOS_PER_SEC);
        let age = seconds.saturating_add(counters.nanoseconds.get().into());
        Ok((Self { flow, packets: counters.packets.get(), bytes: counters.bytes.get(), age }, behind))
    }

    /// Writes an entry of `age` nanoseconds; returns its length.
    ///
    /// # Errors
    /// `NoRoom`, or what an entry has that cannot be said.
    pub fn emit(entry: &TableEntry<'_>, age: u64, out: &mut [u8]) -> Result<usize, EncodeError> {
        let counters = wire::EntryCounters {
            packets: U64::new(entry.packets()),
            bytes: U64::new(entry.bytes()),
            seconds: U32::new((age / NANOS_PER_SEC) as u32),
            nanoseconds: U32::new((age % NANOS_PER_SEC) as u32),
        };
        let (head, rest) = out.split_at_mut_checked(size_of::<wire::EntryCounters>()).ok_or(NoRoom)?;
        counters.write_to(head).map_err(|_| NoRoom)?;
        let len = entry.encode(0, rest)?;
        Ok(len.saturating_add(size_of::<wire::EntryCounters>()))
    }
}

/// A counter: its name in at most 255 bytes of ASCII, and its value. Those that are 0 are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value.
    pub value: u64,
}

impl<'a> Counter<'a> {
    /// Reads the counter at the front of a page's items: length of the name, name, value. Returns what is behind it.
    ///
    /// # Errors
    /// `Length` if it is cut off, `Data` if the name is not ASCII.
    pub fn parse(items: &'a [u8]) -> Result<(Self, &'a [u8]), ControlError> {
        let (len, rest) = items.split_first().ok_or(ControlError::Length)?;
        let (name, rest) = rest.split_at_checked(usize::from(*len)).ok_or(ControlError::Length)?;
        let (value, rest) = rest.split_first_chunk().ok_or(ControlError::Length)?;
        let name = core::str::from_utf8(name).ok().filter(|name| name.is_ascii()).ok_or(ControlError::Data)?;
        Ok((Self { name, value: u64::from_be_bytes(*value) }, rest))
    }

    /// Writes a counter whose name comes in two parts; returns its length.
    ///
    /// # Errors
    /// `NoRoom`.
    pub fn emit(parts: [&str; 2], value: u64, out: &mut [u8]) -> Result<usize, NoRoom> {
        let [first, second] = parts.map(str::as_bytes);
        let name_len = first.len().saturating_add(second.len());
        let (head, rest) = out.split_first_mut().ok_or(NoRoom)?;
        *head = u8::try_from(name_len).map_err(|_| NoRoom)?;
        let (to_first, rest) = rest.split_at_mut_checked(first.len()).ok_or(NoRoom)?;
        let (to_second, rest) = rest.split_at_mut_checked(second.len()).ok_or(NoRoom)?;
        to_first.copy_from_slice(first);
        to_second.copy_from_slice(second);
        *rest.first_chunk_mut().ok_or(NoRoom)? = value.to_be_bytes();
        Ok(name_len.saturating_add(9))
    }
}

/// What a vNIC says about itself in REGISTER and when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The challenge that REGISTER answers; 0: none.
    pub challenge: u64,
    /// Digest of the flow table.
    pub digest: u64,
    /// The highest epoch that it has heard; 0: none.
    pub epoch: u64,
    /// The last command of that epoch that it decided on.
    pub executed: u64,
    /// Entries in its table.
    pub entries: u32,
    /// Entries that fit.
    pub capacity: u32,
    /// Security associations.
    pub associations: u32,
    /// The MTU that was set last; 0: none.
    pub mtu: u16,
    /// The offloads that were set last, if any were.
    pub offload: Option<u16>,
    /// The offloads that are in force, if it knows: what it was asked for and cannot do is not among them.
    pub in_force: Option<u16>,
    /// State of its session.
    pub session: SessionState,
    /// It has a control key.
    pub has_key: bool,
    /// It takes keys for security associations.
    pub takes_keys: bool,
    /// Commands that may be unanswered.
    pub window: u8,
}

const HAS_KEY: u8 = 1;
const OFFLOAD_SET: u8 = 2;
const TAKES_KEYS: u8 = 4;
const IN_FORCE_KNOWN: u8 = 8;

impl State {
    /// Bytes of it.
    pub const LEN: usize = size_of::<wire::State>();

    /// Reads it.
    ///
    /// # Errors
    /// `Length` for another length, `Data` for an unknown session state, unknown flags, or a window of 0.
    pub fn parse(payload: &[u8]) -> Result<Self, ControlError> {
        let state = wire::State::ref_from_bytes(payload).map_err(|_| ControlError::Length)?;
        let session = match state.session {
            0 => SessionState::Disconnected,
            1 => SessionState::Connecting,
            2 => SessionState::Connected,
            _ => return Err(ControlError::Data),
        };
        let known = HAS_KEY | OFFLOAD_SET | TAKES_KEYS | IN_FORCE_KNOWN;
        if state.flags & !known != 0 || state.window == 0 || (state.reserved, state.pad) != (0, [0; 2]) {
            return Err(ControlError::Data);
        }
        Ok(Self {
            challenge: state.challenge.get(),
            digest: state.digest.get(),
            epoch: state.epoch.get(),
            executed: state.executed.get(),
            entries: state.entries.get(),
            capacity: state.capacity.get(),
            associations: state.associations.get(),
            mtu: state.mtu.get(),
            offload: (state.flags & OFFLOAD_SET != 0).then_some(state.offload.get()),
            in_force: (state.flags & IN_FORCE_KNOWN != 0).then_some(state.in_force.get()),
            session,
            has_key: state.flags & HAS_KEY != 0,
            takes_keys: state.flags & TAKES_KEYS != 0,
            window: state.window,
        })
    }

    /// The bytes.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let flag = |on: bool, bit| if on { bit } else { 0 };
        let state = wire::State {
            challenge: U64::new(self.challenge),
            digest: U64::new(self.digest),
            epoch: U64::new(self.epoch),
            executed: U64::new(self.executed),
            entries: U32::new(self.entries),
            capacity: U32::new(self.capacity),
            associations: U32::new(self.associations),
            mtu: U16::new(self.mtu),
            offload: U16::new(self.offload.unwrap_or(0)),
            session: self.session as u8,
            flags: flag(self.has_key, HAS_KEY)
                | flag(self.offload.is_some(), OFFLOAD_SET)
                | flag(self.in_force.is_some(), IN_FORCE_KNOWN)
                | flag(self.takes_keys, TAKES_KEYS),
            window: self.window,
            reserved: 0,
            in_force: U16::new(self.in_force.unwrap_or(0)),
            pad: [0; 2],
        };
        zerocopy::transmute!(state)
    }
}
