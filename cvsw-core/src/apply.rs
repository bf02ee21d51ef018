//! Runs a compiled action list on a frame.

use crate::{
    flow::{Action, ActionList, OfpError},
    frame::{Buffer, Frame},
    parse::Parsed,
    stats::DropReason,
    trace::Observer,
};
use zerocopy::{FromZeros, Immutable, KnownLayout};

/// A compiled action list: everything that can be checked has been checked.
#[derive(Clone, Copy, Debug, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
pub struct Program {
    len: u8,
}

/// What to do with the frame after its actions ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Forward it in its direction.
    Forward,
    /// Look it up again.
    Resubmit {
        /// The `in_port` of the second look-up (never `OFPP_IN_PORT`).
        in_port: u16,
        /// VNI of the tunnel that was removed, or the one the frame had before.
        tun_id: u32,
    },
    /// Drop it.
    Drop(DropReason),
}

/// Engine state that actions need: counters for header fields.
#[derive(Clone, Copy, Debug, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
pub struct Context {
    /// IPv4 identification of the next encapsulated packet.
    pub ip_id: u16,
}

impl Program {
    /// Checks and compiles an action list.
    pub fn compile(_actions: &[Action]) -> Result<Self, OfpError> {
        unimplemented!()
    }

    /// The action list that this program was compiled from.
    pub fn actions(&self) -> ActionList {
        unimplemented!()
    }
}

/// Runs `program` on `frame`, which `parsed` describes.
pub fn run<B: Buffer, O: Observer>(
    _program: &Program,
    _context: &mut Context,
    _frame: &mut Frame<B>,
    _parsed: &Parsed,
    _observer: &mut O,
) -> Next {
    unimplemented!()
}
