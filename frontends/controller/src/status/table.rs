//! The controller's state for people.

use std::fmt::Write as _;

use super::{EncryptedStatus, RefusedStatus, Status, SwitchStatus, UnknownStatus, VnicStatus};

impl Status {
    /// A table for people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write_table(&mut out);
        out
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        let verdict = if self.converged { "converged" } else { "NOT converged" };
        writeln!(out, "{verdict}; configuration {} in force", self.config.generation)?;
        if let Some(error) = &self.config.error {
            writeln!(out, "\nthe configuration file was changed but cannot be used:\n{error}")?;
        }
        for warning in &self.config.warnings {
            writeln!(out, "\n{warning}")?;
        }
        out.push('\n');
        columns(out, SWITCH_HEAD, self.switches.iter().map(switch_row));
        out.push('\n');
        columns(out, VNIC_HEAD, self.vnics.iter().map(vnic_row));
        if !self.encrypted.is_empty() {
            out.push('\n');
            let head = ["ENCRYPTED", "TO", "SUITE", "STATE", "SPI", "AGE", "PACKETS", "ROTATIONS"];
            columns(out, head, self.encrypted.iter().map(encrypted_row));
        }
        write_refusals(out, &self.unknown, &self.refused);
        let switch_errors = self.switches.iter().flat_map(|s| s.errors.iter().map(|error| (&s.datapath_id, error)));
        let vnic_errors = self.vnics.iter().flat_map(|v| v.errors.iter().map(|error| (&v.mac, error)));
        for (index, (who, error)) in switch_errors.chain(vnic_errors).enumerate() {
            writeln!(out, "{}{who}: {error}", if index == 0 { "\nerrors so far\n" } else { "" })?;
        }
        Ok(())
    }
}

pub(crate) fn encrypted_row(channel: &EncryptedStatus) -> [String; 8] {
    [
        channel.sender.clone(),
        channel.destination.clone(),
        channel.suite.clone(),
        channel.state.clone(),
        channel.spi.clone().unwrap_or_else(|| "-".to_owned()),
        channel.age_seconds.map_or_else(|| "-".to_owned(), age),
        channel.packets.to_string(),
        channel.rotations.to_string(),
    ]
}

pub(crate) const VNIC_HEAD: [&str; 11] =
    ["VNIC", "NAME", "STATE", "PROTOCOL", "SWITCH", "PORT", "MTU", "OFFLOADS", "FLOWS", "KEYS", "HEARD"];

pub(crate) fn vnic_row(vnic: &VnicStatus) -> [String; 11] {
    let ways: usize = vnic.encryption.values().sum();
    let encrypted = vnic.encryption.get("encrypted").unwrap_or(&0);
    let show = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let port = match (&vnic.port, &vnic.port_name) {
        (Some(number), Some(name)) => format!("{number} ({name})"),
        _ => "-".to_owned(),
    };
    [
        vnic.mac.clone(),
        format!("{}/{}", vnic.network.as_deref().unwrap_or("QUARANTINE"), vnic.name),
        vnic.state.clone(),
        show(vnic.protocol.map(|version| format!("{version}{}", if vnic.authenticated { " (key)" } else { "" }))),
        show(vnic.switch.clone()),
        port,
        show(vnic.mtu.map(|mtu| mtu.to_string())),
        show(vnic.offloads.as_ref().filter(|names| !names.is_empty()).map(|names| offloads(names, vnic))),
        format!("{}/{}", vnic.flows_confirmed, vnic.flows),
        if ways == 0 { "clear".to_owned() } else { format!("{encrypted}/{ways}") },
        show(vnic.last_contact_seconds.map(age)),
    ]
}

/// `csum,tso`, or `csum,tso (not tso)` if it does not have them all.
fn offloads(names: &[String], vnic: &VnicStatus) -> String {
    let refused: Vec<&str> = vnic.offloads_refused.keys().map(String::as_str).collect();
    let not = if refused.is_empty() { String::new() } else { format!(" (not {})", refused.join(",")) };
    format!("{}{not}", names.join(","))
}

pub(crate) fn age(seconds: f64) -> String {
    format!("{seconds:.1} s")
}

/// Left-aligned columns, as wide as their widest cell.
pub(crate) fn columns<const N: usize>(out: &mut String, head: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
}

pub(crate) const SWITCH_HEAD: [&str; 5] = ["SWITCH", "STATE", "PEER", "PORTS", "CONNECTED"];

pub(crate) fn switch_row(switch: &SwitchStatus) -> [String; 5] {
    let state = match (switch.up, switch.limited) {
        (false, _) => "handshake",
        (true, false) => "up",
        (true, true) => "up, limited",
    };
    [
        switch.datapath_id.clone(),
        state.to_owned(),
        switch.peer.clone(),
        switch.ports.len().to_string(),
        age(switch.connected_seconds),
    ]
}

/// vNICs that were not let in, if there are any.
pub(crate) fn write_refusals(out: &mut String, unknown: &[UnknownStatus], refused: &[RefusedStatus]) {
    if !unknown.is_empty() {
        out.push('\n');
        let rows = unknown.iter().map(|unknown| {
            let (port, age) = (unknown.port.to_string(), age(unknown.since_seconds));
            [unknown.mac.clone(), unknown.switch.clone(), port, age, unknown.reason.clone()]
        });
        columns(out, ["NOT ADMITTED", "SWITCH", "PORT", "SINCE", "REASON"], rows);
    }
    if !refused.is_empty() {
        out.push('\n');
        let rows = refused.iter().map(|refused| {
            let (port, times) = (refused.port.to_string(), refused.times.to_string());
            let age = age(refused.seconds_ago);
            [refused.mac.clone(), refused.switch.clone(), port, times, age, refused.reason.clone()]
        });
        columns(out, ["REFUSED", "SWITCH", "PORT", "TIMES", "LAST", "REASON"], rows);
    }
}
