//! Bodies of the control messages about security associations (`docs/src/encryption.md`); all numbers big-endian.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32, U64},
};

/// Bytes of a [`Command`].
pub const COMMAND_LEN: usize = 24;
/// Bytes of an [`Answer`].
pub const ANSWER_LEN: usize = 32;

/// Operation numbers.
pub mod operation {
    #![allow(missing_docs, reason = "the names of the protocol")]
    pub const ADD: u8 = 1;
    pub const REMOVE: u8 = 2;
    pub const QUERY: u8 = 3;
    pub const REQUIRE: u8 = 4;
    pub const FLUSH: u8 = 5;
}

/// Bit of [`Command::flags`]: the association sends. In REQUIRE: encryption is required.
pub const FLAG_ON: u8 = 1;
/// Bit of [`Command::flags`]: 64-bit sequence numbers.
pub const FLAG_EXTENDED: u8 = 2;
/// Bit of [`Command::flags`]: the key material is wrapped (version 3).
pub const FLAG_WRAPPED: u8 = 0x80;

/// What a controller wants; key material may follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Command {
    /// One of [`operation`].
    pub operation: u8,
    /// Number of the cipher suite in ADD, else 0.
    pub suite: u8,
    /// Flag bits.
    pub flags: u8,
    /// Zero.
    pub pad: u8,
    /// Comes back in the answer.
    pub transaction: U32,
    /// Id of the association; in REQUIRE the VNI.
    pub id: U32,
    /// Security parameters index in ADD, else 0.
    pub spi: U32,
    /// Outer IPv4 destination in ADD, else 0.
    pub destination: [u8; 4],
    /// Anti-replay window in ADD; 0: the default.
    pub window: U16,
    /// Bytes of key material that follow.
    pub key_len: U16,
}
const _: () = assert!(size_of::<Command>() == COMMAND_LEN);

/// What became of it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Answer {
    /// As in the command.
    pub operation: u8,
    /// 0: done; else why not.
    pub result: u8,
    /// State of the association; 0 if there is none.
    pub state: u8,
    /// Zero.
    pub pad: u8,
    /// As in the command.
    pub transaction: U32,
    /// As in the command.
    pub id: U32,
    /// SPI of the association with this id, else 0.
    pub spi: U32,
    /// Boot generation of the vNIC.
    pub generation: U64,
    /// Packets sealed or opened by the association.
    pub packets: U64,
}
const _: () = assert!(size_of::<Answer>() == ANSWER_LEN);
