//! How many of everything, where, and with which addresses.

use std::{fmt::Write as _, fs, io::Write as _, net::Ipv4Addr, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::{Context as _, bail};
use cvsw_controller::Mac;
use cvsw_core::{
    control::v3::ControlKeys,
    crypto::{Suite, vxlan_mtu},
    mtu::IpMtu,
};

/// Entries that a member has besides one for each peer: to the group, to itself, from the group, isolation.
pub const FLOWS_WITHOUT_PEERS: usize = 4;
/// More than any suite adds to an IP packet.
const MAX_OVERHEAD: u16 = 256;
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
    /// Of a hundred vNICs so many have a control key, and speak version 3.
    pub keyed: u8,
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

    /// The underlay's MTU with which all networks have this one.
    pub fn underlay_mtu(&self, mtu: u16) -> u16 {
        let fits = |underlay: &u16| {
            let inside = IpMtu::new(*underlay).and_then(|underlay| vxlan_mtu(underlay, self.cipher));
            inside.is_some_and(|inside| inside.get() == mtu)
        };
        (mtu..mtu.saturating_add(MAX_OVERHEAD)).find(fits).unwrap_or(mtu)
    }

    /// The control key of a vNIC, if it has one.
    pub fn key(&self, vnic: usize) -> Option<ControlKeys> {
        self.has_key(vnic).then(|| ControlKeys::derive(&secret(vnic)))
    }

    fn has_key(&self, vnic: usize) -> bool {
        vnic % 100 < self.keyed.into()
    }

    /// Writes the folder with the control keys.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_keys(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir(folder).context("cannot make a folder for control keys")?;
        for vnic in (0..self.vnics).filter(|vnic| self.has_key(*vnic)) {
            write_key(&folder.join(format!("{}.key", mac(vnic))), secret(vnic))?;
        }
        Ok(())
    }

    /// Writes the file with the key that all controllers have.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_cluster_key(&self, path: &Path) -> anyhow::Result<()> {
        write_key(path, secret(MAX_VNICS))
    }

    /// The configuration file; `keys` is the folder with the control keys.
    pub fn config(&self, mtu: u16, keys: Option<&Path>) -> String {
        let mut out = String::with_capacity(self.vnics * 256);
        // Writing to a string does not fail.
        let _ = self.write(&mut out, mtu, keys);
        out
    }

    fn write(&self, out: &mut String, mtu: u16, keys: Option<&Path>) -> std::fmt::Result {
        writeln!(out, "underlay_mtu = {}\nkeys_in_clear = {}", self.underlay_mtu(mtu), self.cipher.is_some())?;
        if let Some(keys) = keys {
            writeln!(out, "control_keys = {keys:?}")?;
        }
        for (number, first) in (0..self.vnics).step_by(self.members).enumerate() {
            let vni = number + 1;
            writeln!(out, "[[network]]\nname = \"net{vni}\"\nvni = {vni}")?;
            writeln!(out, "group = \"{}\"", Ipv4Addr::from(0xef00_0000 + u32::try_from(vni).unwrap_or(0)))?;
            if let Some(cipher) = self.cipher {
                writeln!(out, "cipher = \"{}\"", cipher.name())?;
            }
            let members = first..self.vnics.min(first + self.members);
            for vnic in members.clone() {
                self.write_member(out, vnic, vnic - first)?;
            }
        }
        Ok(())
    }

    fn write_member(&self, out: &mut String, vnic: usize, index: usize) -> std::fmt::Result {
        let inside = Ipv4Addr::from(0xac10_0001 + u32::try_from(index).unwrap_or(0));
        writeln!(
            out,
            "[[network.member]]\nname = \"v{vnic}\"\nmac = \"{}\"\nip = \"{inside}\"\nunderlay_mac = \"{}\"\n\
             underlay_ip = \"{}\"\nflows = {:?}",
            mac(vnic),
            numbered_mac(0xc6, vnic),
            Ipv4Addr::from(0x0a00_0001 + u32::try_from(vnic).unwrap_or(0)),
            self.extra_flows(vnic),
        )
    }

    /// A vNIC's flows besides those that follow from its network.
    pub fn extra_flows(&self, vnic: usize) -> Vec<String> {
        let first = vnic - vnic % self.members;
        let members = self.vnics.min(first + self.members) - first;
        let extra = self.flows - (members - 1 + FLOWS_WITHOUT_PEERS);
        (1000..).take(extra).map(extra_flow).collect()
    }
}

fn write_key(path: &Path, key: [u8; 16]) -> anyhow::Result<()> {
    let hex: String = key.iter().map(|octet| format!("{octet:02x}")).collect();
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(hex.as_bytes())?)
}

/// A flow that no other part of the configuration has.
pub fn extra_flow(port: usize) -> String {
    format!("priority=40000,in_port=HOST,udp,tp_dst={port},actions=drop")
}

/// Whoever runs this knows all of them.
fn secret(vnic: usize) -> [u8; 16] {
    (vnic as u128 + 1).to_be_bytes()
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
        Layout { switches: 3, vnics: 40, members: 17, flows: 22, cipher: None, keyed: 30 }
    }

    #[test]
    fn every_vnic_has_one_place_and_as_many_flows_as_asked_for() {
        let layout = layout();
        layout.check().unwrap();
        let mut placed: Vec<_> = (0..3).flat_map(|switch| layout.on_switch(switch).map(|(_, vnic)| vnic)).collect();
        placed.sort_unstable();
        assert_eq!(placed, (0..40).collect::<Vec<_>>());
        for cipher in [None, Some(Suite::Aes128Gcm), Some(Suite::Aes256CtrHmacSha256)] {
            let layout = Layout { cipher, ..layout.clone() };
            let loaded = Config::parse("sim.toml", &layout.config(1400, None)).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);
            let desired = derive::desired(&loaded.config);
            assert_eq!(desired.len(), 40);
            for vnic in 0..40 {
                let desired = &desired[&mac(vnic)];
                assert_eq!(desired.flows.len(), 22);
                assert_eq!(desired.mtu.map(|mtu| mtu.get()), Some(1400));
            }
        }
        assert_eq!((0..40).filter(|vnic| layout.key(*vnic).is_some()).count(), 30);
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
