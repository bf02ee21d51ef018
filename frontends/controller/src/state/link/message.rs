//! Messages of a session of version 3, as bytes and for people.

use std::sync::Arc;

use cvsw_core::{
    control::v3::{Header, Kind, Outgoing, Subject},
    flow::FlowMod,
    openflow::{EncodeError, encode_flow_mod},
};

use super::{Link, Sent};
use crate::{mac::Mac, plan::Command, state::switch::deletion};

impl Link {
    /// Writes a message; returns its name, and its length.
    pub(super) fn write(
        &self,
        outgoing: &Outgoing,
        mac: Mac,
        ethertype: u16,
        out: &mut [u8],
    ) -> (&'static str, Result<usize, EncodeError>) {
        let keys = self.session.keys();
        let header = |kind, sequence, chained, data| self.session.header(mac.0, kind, sequence, chained, data);
        let bytes = |header: Header, out: &mut [u8], payload: &[u8]| {
            header.emit_bytes(ethertype, keys, out, payload).map_err(EncodeError::from)
        };
        let (sequence, token, chained) = match *outgoing {
            Outgoing::Request { sequence, request } => {
                let (kind, what) = match request.subject {
                    Subject::Entries => (Kind::ListEntries, "LIST_ENTRIES"),
                    Subject::Statistics | Subject::State | Subject::Associations => (Kind::Get, "GET"),
                };
                return (what, bytes(header(kind, sequence, false, 0), out, &request.to_bytes()));
            }
            Outgoing::Command { sequence, token, chained } => (sequence, token, chained),
        };
        let flow = |kind, flow: &FlowMod, out: &mut [u8]| {
            header(kind, sequence, chained, 0).emit(ethertype, keys, out, |room| encode_flow_mod(flow, 0, room))
        };
        let mut all = self.work.iter().flat_map(|work| &work.sent);
        let Some((_, sent)) = all.find(|(sent, _)| *sent == token) else {
            return ("a command", Err(EncodeError::NoRoom));
        };
        match sent {
            Sent::Order(order) => {
                let header = header(Kind::SetSa, sequence, chained, 0);
                let written = header.emit(ethertype, keys, out, |room| order.emit_wrapped(keys, room));
                ("SET_SA", written.map_err(EncodeError::from))
            }
            Sent::Command(Command::SetMtu(mtu)) => {
                ("SET_MTU", bytes(header(Kind::SetMtu, sequence, chained, mtu.get()), out, &[]))
            }
            Sent::Command(Command::SetOffload(flags)) => {
                ("SET_OFFLOAD", bytes(header(Kind::SetOffload, sequence, chained, flags.0), out, &[]))
            }
            Sent::Command(Command::Set(entry)) => ("SET_ENTRY", flow(Kind::SetEntry, entry, out)),
            Sent::Command(Command::Delete(entry)) => {
                ("DELETE_ENTRY", flow(Kind::DeleteEntry, &deletion(entry), out))
            }
        }
    }
}

/// A command, for an error about it.
pub(super) fn describe(command: &Command) -> String {
    let entry =
        |what: &str, flow: &Arc<FlowMod>| format!("{what} (priority {}, cookie {:#x})", flow.priority, flow.cookie);
    match command {
        Command::SetMtu(mtu) => format!("SET_MTU {}", mtu.get()),
        Command::SetOffload(flags) => format!("SET_OFFLOAD {:#x}", flags.0),
        Command::Set(flow) => entry("SET_ENTRY", flow),
        Command::Delete(flow) => entry("DELETE_ENTRY", flow),
    }
}
