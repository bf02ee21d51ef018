//! A cursor over the caller's buffer.

use crate::{frame::NoRoom, wire::openflow as wire};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    network_endian::{U16, U32},
};

/// Writes one message from front to back.
pub(super) struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        let end = self.len.checked_add(bytes.len()).ok_or(NoRoom)?;
        self.out.get_mut(self.len..end).ok_or(NoRoom)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    /// Appends a wire structure.
    pub fn put<T: IntoBytes + Immutable>(&mut self, value: &T) -> Result<(), NoRoom> {
        self.bytes(value.as_bytes())
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Changes a structure that was written at `offset`.
    pub fn patch<T>(&mut self, offset: usize, change: impl FnOnce(&mut T)) -> Result<(), NoRoom>
    where
        T: FromBytes + IntoBytes + KnownLayout + Immutable + zerocopy::Unaligned,
    {
        let written = self.out.get_mut(offset..self.len).ok_or(NoRoom)?;
        let (value, _) = T::mut_from_prefix(written).map_err(|_| NoRoom)?;
        change(value);
        Ok(())
    }

    /// Fills in the length of the message, which must start the buffer, and returns it.
    pub fn finish(mut self) -> Result<usize, NoRoom> {
        let length = u16::try_from(self.len).map_err(|_| NoRoom)?;
        self.patch(0, |header: &mut wire::Header| header.length = U16::new(length))?;
        Ok(self.len)
    }
}

/// A header whose length [`Writer::finish`] fills in.
pub(super) fn header(kind: u8, xid: u32) -> wire::Header {
    wire::Header { version: wire::VERSION, kind, length: U16::new(0), xid: U32::new(xid) }
}
