//! SET_SA with its key wrapped.

use super::keys::{ControlKeys, WRAP_BLOCK, WRAP_OVERHEAD};
use crate::{
    control::keys::{SaCommand, SetSa},
    crypto::{MAX_KEY_MATERIAL, Suite},
    frame::NoRoom,
    stats::ControlError,
    wire::sa as wire,
};
use zerocopy::{FromBytes, IntoBytes, network_endian::U16};
use zeroize::Zeroizing;

/// Most bytes of key material, filled up for wrapping.
const MAX_PADDED: usize = MAX_KEY_MATERIAL.next_multiple_of(WRAP_BLOCK);
/// Longest payload of a SET_SA.
pub const MAX_SET_SA: usize = wire::COMMAND_LEN + MAX_PADDED + WRAP_OVERHEAD;

impl SetSa {
    /// Reads the payload of a SET_SA of version 3. Who has a control key takes wrapped keys only; who has none cannot
    /// unwrap any.
    ///
    /// # Errors
    /// Those of [`SetSa::parse`]; `KeyWrap` if the key is not wrapped, or was wrapped by somebody else.
    pub fn parse_wrapped(keys: &ControlKeys, payload: &[u8]) -> Result<Self, ControlError> {
        let (command, wrapped) = wire::Command::ref_from_prefix(payload).map_err(|_| ControlError::Length)?;
        let is_wrapped = command.flags & wire::FLAG_WRAPPED != 0;
        if command.operation != wire::operation::ADD || (!is_wrapped && !keys.is_set()) {
            return Self::parse(payload);
        }
        if !is_wrapped {
            return Err(ControlError::KeyWrap);
        }
        if wrapped.len() != usize::from(command.key_len.get()) {
            return Err(ControlError::Length);
        }
        let suite = Suite::from_number(command.suite).ok_or(ControlError::Data)?;
        let mut clear = Zeroizing::new([0; MAX_SET_SA]);
        let (head, material) = clear.split_at_mut_checked(wire::COMMAND_LEN).ok_or(ControlError::Length)?;
        let len = keys.unwrap(wrapped, material).map_err(|_| ControlError::KeyWrap)?;
        let (material, rest) =
            material.split_at_mut_checked(suite.key_material_len()).ok_or(ControlError::Length)?;
        let filled = len.checked_sub(material.len()).and_then(|filled| rest.get(..filled));
        if filled.is_none_or(|filled| filled.len() >= WRAP_BLOCK || filled.iter().any(|byte| *byte != 0)) {
            return Err(ControlError::Length);
        }
        let plain = wire::Command {
            flags: command.flags & !wire::FLAG_WRAPPED,
            key_len: U16::new(material.len() as u16),
            ..*command
        };
        plain.write_to(head).map_err(|_| ControlError::Length)?;
        let len = wire::COMMAND_LEN.saturating_add(suite.key_material_len());
        Self::parse(clear.get(..len).ok_or(ControlError::Length)?)
    }

    /// Writes the payload of a SET_SA of version 3, its key wrapped if there is a control key; returns its length.
    ///
    /// # Errors
    /// `NoRoom`; [`MAX_SET_SA`] bytes are always enough.
    pub fn emit_wrapped(&self, keys: &ControlKeys, out: &mut [u8]) -> Result<usize, NoRoom> {
        if !keys.is_set() || !matches!(self.command, SaCommand::Add(..)) {
            return self.emit(out);
        }
        let mut clear = Zeroizing::new([0; MAX_SET_SA]);
        let len = self.emit(&mut *clear)?;
        let material = clear.get(wire::COMMAND_LEN..).ok_or(NoRoom)?;
        let padded = len.saturating_sub(wire::COMMAND_LEN).next_multiple_of(WRAP_BLOCK);
        let (head, rest) = out.split_at_mut_checked(wire::COMMAND_LEN).ok_or(NoRoom)?;
        let wrapped = keys.wrap(material.get(..padded).ok_or(NoRoom)?, rest).map_err(|_| NoRoom)?;
        let (command, _) = wire::Command::ref_from_prefix(&*clear).map_err(|_| NoRoom)?;
        let command = wire::Command {
            flags: command.flags | wire::FLAG_WRAPPED,
            key_len: U16::new(wrapped as u16),
            ..*command
        };
        command.write_to(head).map_err(|_| NoRoom)?;
        Ok(wire::COMMAND_LEN.saturating_add(wrapped))
    }
}
