//! How many of everything, where, and with which addresses.

use std::{fmt::Write as _, net::Ipv4Addr};

use anyhow::bail;
use cvsw_controller::Mac;
use cvsw_core::crypto::Suite;

/// Entries that a member has besides one for each peer: to the group, to itself, from the group, isolation.
pub const FLOWS_WITHOUT_PEERS: usize = 4;
/// What VXLAN adds to an IP packet.
pub const UNDERLAY_OVERHEAD: u16 = cvsw_controller::config::VXLAN_OVERHEAD;
/// vNICs of all switches: their addresses have three octets for a number.
const MAX_VNICS: usize = 1 << 20;
/// Ports that fit a FEATURES_REPLY.
const MAX_PORTS: usize = 1300;

/// A world, from its numbers.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Switches.
    pub switches: usize,
    /// vNICs of all switches.
    pub vnics: usize,
    /// Members of a network; the last one may have fewer.
    pub members: usize,
    /// Entries of each vNIC: one for each peer, those that every member has, and extra ones up to this number.
    pub flows: usize,
    /// How all networks are encrypted.
    pub cipher: Option<Suite>,
}

/// What changes while the world lives.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// MTU of all networks.
    pub mtu: u16,
    /// These vNICs have one entry more, with this number in it.
    pub marked: Option<(usize, u16)>,
}

impl Layout {
    /// Checks the numbers.
    ///
    /// # Errors
    /// Which number is out of range, and what would do.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.switches == 0 || self.vnics == 0 || self.members == 0 {
            bail!("--switches, --vnics and --members must be at least 1");
        }
        if self.vnics > MAX_VNICS {
            bail!("--vnics {} is more than {MAX_VNICS}", self.vnics);
        }
        let ports = self.vnics.div_ceil(self.switches);
        if ports > MAX_PORTS {
            let switches = self.vnics.div_ceil(MAX_PORTS);
            bail!("{ports} vNICs on one switch are more than {MAX_PORTS}: use --switches {switches} or more");
        }
        let least = self.members.min(self.vnics) - 1 + FLOWS_WITHOUT_PEERS;
        if self.flows < least {
            bail!(
                "a member of a network of {} has {least} entries, more than --flows {}: use fewer --members",
                self.members,
                self.flows
            );
        }
        if self.flows > crate::vnic::MAX_FLOWS {
            bail!("--flows {} is more than a simulated vNIC's {}", self.flows, crate::vnic::MAX_FLOWS);
        }
        Ok(())
    }

    /// The vNICs on a switch, with their ports.
    pub fn on_switch(&self, switch: usize) -> impl Iterator<Item = (u16, usize)> {
        (switch..self.vnics).step_by(self.switches).zip(1..).map(|(vnic, port)| (port, vnic))
    }

    /// The configuration file.
    pub fn config(&self, wanted: &Wanted) -> String {
        let mut out = String::with_capacity(self.vnics * 256);
        // Writing to a string does not fail.
        let _ = self.write(&mut out, wanted);
        out
    }

    fn write(&self, out: &mut String, wanted: &Wanted) -> std::fmt::Result {
        match self.cipher {
            Some(_) => writeln!(out, "keys_in_clear = true")?,
            None => writeln!(out, "underlay_mtu = {}", wanted.mtu + UNDERLAY_OVERHEAD)?,
        }
        for (number, first) in (0..self.vnics).step_by(self.members).enumerate() {
            let vni = number + 1;
            writeln!(out, "[[network]]\nname = \"net{vni}\"\nvni = {vni}")?;
            writeln!(out, "group = \"{}\"", Ipv4Addr::from(0xef00_0000 + u32::try_from(vni).unwrap_or(0)))?;
            if let Some(cipher) = self.cipher {
                writeln!(out, "mtu = {}\ncipher = \"{}\"", wanted.mtu, cipher.name())?;
            }
            let members = first..self.vnics.min(first + self.members);
            for vnic in members.clone() {
                self.write_member(out, vnic, vnic - first, members.len(), wanted)?;
            }
        }
        Ok(())
    }

    fn write_member(
        &self,
        out: &mut String,
        vnic: usize,
        index: usize,
        members: usize,
        wanted: &Wanted,
    ) -> std::fmt::Result {
        let inside = Ipv4Addr::from(0xac10_0001 + u32::try_from(index).unwrap_or(0));
        writeln!(
            out,
            "[[network.member]]\nname = \"v{vnic}\"\nmac = \"{}\"\nip = \"{inside}\"\nunderlay_mac = \"{}\"\n\
             underlay_ip = \"{}\"",
            mac(vnic),
            numbered_mac(0xc6, vnic),
            Ipv4Addr::from(0x0a00_0001 + u32::try_from(vnic).unwrap_or(0)),
        )?;
        let extra = self.flows - (members - 1 + FLOWS_WITHOUT_PEERS);
        let ports = (0..extra).map(|number| number + 1000).chain(self.mark(vnic, wanted));
        let mut first = true;
        for port in ports {
            let open = if first { "flows = [" } else { ", " };
            write!(out, "{open}\"priority=40000,in_port=HOST,udp,tp_dst={port},actions=drop\"")?;
            first = false;
        }
        if first { Ok(()) } else { writeln!(out, "]") }
    }

    fn mark(&self, vnic: usize, wanted: &Wanted) -> Option<usize> {
        wanted.marked.filter(|(marked, _)| *marked == vnic).map(|(_, port)| usize::from(port))
    }
}

/// The address of a vNIC.
pub fn mac(vnic: usize) -> Mac {
    numbered_mac(0xc5, vnic)
}

fn numbered_mac(family: u8, number: usize) -> Mac {
    let [.., a, b, c] = number.to_be_bytes();
    Mac([0x02, family, 0, a, b, c])
}

#[cfg(test)]
mod tests {
    use super::*;
    use cvsw_controller::{config::Config, derive};

    fn layout() -> Layout {
        Layout { switches: 3, vnics: 40, members: 17, flows: 22, cipher: None }
    }

    #[test]
    fn every_vnic_has_one_place_and_as_many_flows_as_asked_for() {
        let layout = layout();
        layout.check().unwrap();
        let mut placed: Vec<_> = (0..3).flat_map(|switch| layout.on_switch(switch).map(|(_, vnic)| vnic)).collect();
        placed.sort_unstable();
        assert_eq!(placed, (0..40).collect::<Vec<_>>());
        let wanted = Wanted { mtu: 1400, marked: Some((39, 7)) };
        let loaded = Config::parse("sim.toml", &layout.config(&wanted)).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);
        let desired = derive::desired(&loaded.config);
        assert_eq!(desired.len(), 40);
        for vnic in 0..40 {
            let desired = &desired[&mac(vnic)];
            assert_eq!(desired.flows.len(), if vnic == 39 { 23 } else { 22 });
            assert_eq!(desired.mtu.map(|mtu| mtu.get()), Some(1400));
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_refused_with_ones_that_can() {
        let with = |change: fn(&mut Layout)| {
            let mut layout = layout();
            change(&mut layout);
            layout.check().unwrap_err().to_string()
        };
        assert!(with(|l| l.flows = 19).contains("20 entries"));
        assert!(with(|l| l.switches = 0).contains("--switches"));
        assert!(with(|l| l.vnics = 5000).contains("--switches 4"));
        assert!(with(|l| l.flows = 1000).contains("simulated vNIC"));
    }
}
