//! What follows the 14-byte header in a control frame of version 3 (`docs/src/protocol-v3.md`); all numbers big-endian.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32, U64},
};

/// Bytes of an [`Envelope`].
pub const ENVELOPE_LEN: usize = 24;
/// Bytes of the authentication tag at a message's end.
pub const TAG_LEN: usize = 16;

/// Flag (the octet that is padding in version 2): the message ends with an authentication tag.
pub const FLAG_AUTHENTICATED: u8 = 1;
/// Flag of a command: carry it out only if the one before it was carried out.
pub const FLAG_CHAINED: u8 = 2;

/// What every message of version 3 has behind the header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Envelope {
    /// The vNIC's instance; 0 in HELLO, whose sender does not know it.
    pub instance: U64,
    /// The controller's epoch.
    pub epoch: U64,
    /// Number of the command in its epoch, or of the request; an answer repeats it.
    pub sequence: U64,
}
const _: () = assert!(size_of::<Envelope>() == ENVELOPE_LEN);

/// Payload of ACK and ERROR; the answer to a SET_SA has a [`super::sa::Answer`] behind it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Answer {
    /// Type of the command.
    pub command: u8,
    /// 0 in ACK; else what `kind` and `code` mean.
    pub class: u8,
    /// OpenFlow error type, else 0.
    pub kind: U16,
    /// OpenFlow error code, or the number of another reason.
    pub code: U16,
    /// Priority of the entry in the command, else 0.
    pub priority: U16,
    /// Cookie of the entry in the command, else 0.
    pub cookie: U64,
    /// The vNIC's epoch now.
    pub epoch: U64,
    /// The last command of that epoch that the vNIC has decided on.
    pub executed: U64,
}
const _: () = assert!(size_of::<Answer>() == 32);

/// Payload of LIST_ENTRIES and GET.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Request {
    /// What is asked for.
    pub subject: u8,
    /// Zero.
    pub pad: [u8; 3],
    /// Where to begin; 0 at first.
    pub from: U32,
}
const _: () = assert!(size_of::<Request>() == 8);

/// Head of REPORT.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Page {
    /// What was asked for.
    pub subject: u8,
    /// Bit 0: this is the last page.
    pub flags: u8,
    /// Items in this page.
    pub count: U16,
    /// Where the next page begins.
    pub next: U32,
    /// Digest of the whole flow table.
    pub digest: U64,
}
const _: () = assert!(size_of::<Page>() == 16);

/// A listed security association.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Association {
    /// Its id.
    pub id: U32,
    /// Its security parameters index.
    pub spi: U32,
    /// Outer destination.
    pub destination: [u8; 4],
    /// Number of its suite.
    pub suite: u8,
    /// Bit 0: it sends; 1: 64-bit sequence numbers.
    pub flags: u8,
    /// Its state, from 1.
    pub state: u8,
    /// Zero.
    pub pad: u8,
}
const _: () = assert!(size_of::<Association>() == 16);

/// In front of each listed entry.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct EntryCounters {
    /// Frames that it was applied to.
    pub packets: U64,
    /// Their bytes.
    pub bytes: U64,
    /// Its age.
    pub seconds: U32,
    /// And the rest of it.
    pub nanoseconds: U32,
}
const _: () = assert!(size_of::<EntryCounters>() == 24);

/// Payload of REGISTER, and of a REPORT about the state.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct State {
    /// In REGISTER: of the HELLO that it answers; 0 if it answers none.
    pub challenge: U64,
    /// Digest of the flow table.
    pub digest: U64,
    /// The highest epoch that was heard; 0: none.
    pub epoch: U64,
    /// The last command of that epoch that was decided on.
    pub executed: U64,
    /// Entries in the table.
    pub entries: U32,
    /// Entries that it can hold.
    pub capacity: U32,
    /// Security associations.
    pub associations: U32,
    /// The MTU that was set last; 0: none.
    pub mtu: U16,
    /// The offloads that were set last.
    pub offload: U16,
    /// State of the session: 0 disconnected, 1 connecting, 2 connected.
    pub session: u8,
    /// Flag bits.
    pub flags: u8,
    /// Answers that are remembered: no more commands may be unanswered.
    pub window: u8,
    /// Zero.
    pub reserved: u8,
    /// The offloads that are in force.
    pub in_force: U16,
    /// Zero.
    pub pad: [u8; 2],
}
const _: () = assert!(size_of::<State>() == 56);
