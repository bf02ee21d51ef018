//! What is compared with what, as plain data: setups, loads, and the groups that are measured together.

use cvsw_core::crypto::Suite;
use serde::{Deserialize, Serialize};
use std::fmt;

/// UDP payloads of the paper's tables, in octets.
pub const DATAGRAMS: [u32; 5] = [64, 512, 2048, 4096, 32768];
/// Numbers of pairs in the paper's Table 7 and Figure 5.
pub const PAIRS: [u8; 3] = [1, 2, 4];

/// What is between the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Underlay {
    /// An Open vSwitch in each server and a cable between them: the paper's Figure 4.
    Switch,
    /// The same, and every VM with its vNIC has an equal share of the VMs' cores to itself, whatever the number of
    /// pairs that send.
    Shares,
    /// A cable and nothing else.
    Cable,
}

/// What is done to every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Nothing.
    Null,
    /// The IPv4 destination is changed by the sender's side and changed back by the receiver's.
    Rewrite,
    /// A VLAN tag is put on and taken off.
    Vlan,
    /// VXLAN.
    Vxlan,
    /// VXLAN in ESP, AES-128 in counter mode without authentication, as in the paper.
    AesCtr,
    /// VXLAN in ESP, AES-128-GCM; for WireGuard, its own ChaCha20-Poly1305.
    AesGcm,
}

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Each VM's CVSW.
    Proposed,
    /// The same, with AF_XDP in place of AF_PACKET below.
    ProposedAfXdp,
    /// The shared virtual switch of each server; the VMs' MTU is adjusted by hand.
    Existing,
    /// The same with the VMs' MTU left at 1,500, so that outer packets are fragmented.
    ExistingFragments,
    /// Linux: the bare cable, or the kernel's `vxlan` device.
    Linux,
    /// The kernel's `vxlan` device with an inner MTU of 1,500, so that outer packets are fragmented.
    LinuxFragments,
    /// `wireguard-go`, of Debian.
    WireguardGo,
    /// `boringtun-cli`, of the crate registry.
    Boringtun,
}

/// One thing that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Setup {
    /// Where it runs.
    pub underlay: Underlay,
    /// What it does.
    pub work: Work,
    /// Who does it.
    pub way: Way,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// One TCP stream per pair.
    Tcp,
    /// One stream of UDP datagrams with so many octets of payload per pair.
    Udp(u32),
}

/// Setups that are measured in turn, so that their figures can be compared.
#[derive(Clone, Debug)]
pub struct Group {
    /// For `--only`, and part of every cell's name.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What is compared.
    pub setups: Vec<Setup>,
    /// Numbers of pairs that send at the same time.
    pub pairs: &'static [u8],
}

impl Work {
    /// The suite that it seals with.
    pub const fn suite(self) -> Option<Suite> {
        match self {
            Self::AesCtr => Some(Suite::Aes128CtrUnauthenticated),
            Self::AesGcm => Some(Suite::Aes128Gcm),
            Self::Null | Self::Rewrite | Self::Vlan | Self::Vxlan => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Rewrite => "rewrite",
            Self::Vlan => "vlan",
            Self::Vxlan => "vxlan",
            Self::AesCtr => "aes-ctr",
            Self::AesGcm => "aes-gcm",
        }
    }

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Null => "null processing",
            Self::Rewrite => "IP address rewriting",
            Self::Vlan => "VLAN push/pop",
            Self::Vxlan => "VXLAN",
            Self::AesCtr => "VXLAN + AES-CTR",
            Self::AesGcm => "VXLAN + AES-GCM",
        }
    }
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::ProposedAfXdp => "proposed-af-xdp",
            Self::Existing => "existing",
            Self::ExistingFragments => "existing-fragments",
            Self::Linux => "linux",
            Self::LinuxFragments => "linux-fragments",
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun",
        }
    }
}

impl Setup {
    /// A setup with an Open vSwitch in each server.
    pub const fn switch(work: Work, way: Way) -> Self {
        Self { underlay: Underlay::Switch, work, way }
    }

    /// A setup with an Open vSwitch in each server, and VMs of one size.
    pub const fn shares(work: Work, way: Way) -> Self {
        Self { underlay: Underlay::Shares, work, way }
    }

    /// A setup on the bare cable.
    pub const fn cable(work: Work, way: Way) -> Self {
        Self { underlay: Underlay::Cable, work, way }
    }

    /// For people, in a table about its underlay.
    pub fn title(self) -> String {
        match (self.way, self.work) {
            (Way::Proposed, work) => format!("CVSW, {}", work.title()),
            (Way::ProposedAfXdp, work) => format!("CVSW on AF_XDP, {}", work.title()),
            (Way::Existing, work) => format!("existing, {}", work.title()),
            (Way::ExistingFragments, work) => format!("existing, {}, MTU 1,500", work.title()),
            (Way::Linux, Work::Vxlan) => "kernel vxlan device".to_owned(),
            (Way::Linux, _) => "Linux alone".to_owned(),
            (Way::LinuxFragments, _) => "kernel vxlan device, inner MTU 1,500".to_owned(),
            (Way::WireguardGo, _) => "wireguard-go".to_owned(),
            (Way::Boringtun, _) => "boringtun".to_owned(),
        }
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let underlay = match self.underlay {
            Underlay::Switch => "switch",
            Underlay::Shares => "shares",
            Underlay::Cable => "cable",
        };
        write!(f, "{underlay}-{}-{}", self.work.name(), self.way.name())
    }
}

impl Load {
    /// UDP by rising size, then TCP: the columns of every table.
    pub fn all() -> impl Iterator<Item = Self> {
        DATAGRAMS.into_iter().map(Self::Udp).chain([Self::Tcp])
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("TCP"),
            Self::Udp(octets) => write!(f, "UDP {octets}"),
        }
    }
}

/// Everything that there is to measure.
pub fn groups() -> Vec<Group> {
    let both = |work| [Setup::switch(work, Way::Proposed), Setup::switch(work, Way::Existing)];
    let own = [Work::Null, Work::Rewrite, Work::Vlan, Work::Vxlan, Work::AesCtr, Work::AesGcm];
    let mut cable = vec![Setup::cable(Work::Null, Way::Linux)];
    cable.extend(own.map(|work| Setup::cable(work, Way::Proposed)));
    cable.push(Setup::cable(Work::Vxlan, Way::ProposedAfXdp));
    cable.extend([Way::Linux, Way::LinuxFragments].map(|way| Setup::cable(Work::Vxlan, way)));
    cable.extend([Way::WireguardGo, Way::Boringtun].map(|way| Setup::cable(Work::AesGcm, way)));
    let fragments = Setup::switch(Work::Vxlan, Way::ExistingFragments);
    let one = &PAIRS[..1];
    vec![
        Group {
            name: "table5",
            title: "Table 5: light work through Open vSwitch",
            setups: [Work::Null, Work::Rewrite, Work::Vlan].into_iter().flat_map(both).collect(),
            pairs: one,
        },
        Group {
            name: "table6",
            title: "Table 6: VXLAN through Open vSwitch",
            setups: both(Work::Vxlan).into_iter().chain([fragments]).collect(),
            pairs: one,
        },
        Group {
            name: "table7",
            title: "Table 7 and Figure 5: VXLAN and AES-CTR through Open vSwitch",
            setups: both(Work::AesCtr).to_vec(),
            pairs: &PAIRS,
        },
        Group {
            name: "table7-gcm",
            title: "The same with AES-GCM",
            setups: both(Work::AesGcm).to_vec(),
            pairs: &PAIRS,
        },
        Group {
            name: "shares",
            title: "Figure 5 with VMs of one size: each has an eighth of the VMs' cores",
            setups: [Way::Proposed, Way::Existing].map(|way| Setup::shares(Work::AesCtr, way)).to_vec(),
            pairs: &PAIRS,
        },
        Group {
            name: "cable",
            title: "On a bare cable, beside what one would use instead",
            setups: cable,
            pairs: one,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_tell_setups_apart() {
        let groups = groups();
        let names: Vec<String> = groups.iter().flat_map(|group| &group.setups).map(ToString::to_string).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        assert!(names.contains(&"switch-vxlan-existing-fragments".to_owned()));
        assert_eq!(Load::all().last(), Some(Load::Tcp));
    }
}
