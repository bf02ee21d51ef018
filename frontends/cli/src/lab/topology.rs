//! What the laboratory consists of, as plain data: the paper's Figure 4 and nothing that touches the system.

use anyhow::{Result, ensure};
use cvsw_core::{control::OffloadFlags, crypto::Suite};
use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// Largest number of pairs in one network: the inner addresses are `10.0.0.1` to `10.0.0.180`.
pub const MAX_PAIRS: u8 = 90;
/// Largest number of unikernels: the inner addresses are `10.0.0.181` to `10.0.0.196`.
pub const MAX_UNIKERNELS: u8 = 16;
/// Largest number of networks (one per entry of [`NETWORK_NAMES`]).
pub const MAX_NETWORKS: u8 = 6;
/// IP MTU of the link between the servers, as on a physical Ethernet.
pub const UNDERLAY_MTU: u16 = 1500;
/// What VXLAN over IPv4 adds in front of the inner IP packet: 14 + 20 + 8 + 8 octets (RFC 7348 section 5).
pub const VXLAN_OVERHEAD: u16 = 50;
/// Name of the tenant NIC inside every VM.
pub const VM_NIC: &str = "eth0";
/// Name of either end of the cable between the servers, inside the server's namespace.
pub const UPLINK: &str = "uplink";
/// Name of the Open vSwitch bridge of every server.
pub const BRIDGE: &str = "br0";
/// OpenFlow port number of the uplink; the VMs follow.
pub const UPLINK_OFPORT: u16 = 1;

const NETWORK_NAMES: [&str; MAX_NETWORKS as usize] = ["blue", "red", "green", "gold", "pink", "teal"];
const FIRST_VNI: u32 = 42;
const SERVER_NAMES: [&str; 2] = ["server-a", "server-b"];

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What the user asked for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Pairs of VMs in the first network; every further network has one pair.
    pub pairs: u8,
    /// Number of virtual networks.
    pub networks: u8,
    /// Unikernels in the first network, on the servers in turn.
    pub unikernels: u8,
    /// How the networks are encrypted.
    pub cipher: Option<Suite>,
    /// Whether the controller switches every offload of the VMs' NICs on.
    pub offloads: bool,
}

/// A server: one namespace with an Open vSwitch of its own.
#[derive(Clone, Debug)]
pub struct Server {
    /// `server-a`, `server-b`.
    pub name: &'static str,
    /// The network namespace that plays it.
    pub namespace: String,
    /// OpenFlow datapath identifier of its bridge.
    pub datapath_id: u64,
}

/// A virtual network.
#[derive(Clone, Debug)]
pub struct Network {
    /// `blue`, `red`, ...
    pub name: &'static str,
    /// VXLAN network identifier.
    pub vni: u32,
    /// Underlay multicast group for broadcast, multicast and unknown destinations (RFC 7348 section 4.2).
    pub group: Ipv4Addr,
    /// An inner address that only the second VM of the first pair has, for the test that others cannot reach it.
    pub landmark: Ipv4Addr,
}

/// A virtual machine: one namespace whose only tenant NIC is the vNIC.
#[derive(Clone, Debug)]
pub struct Vm {
    /// `blue-1a`: network, pair, server.
    pub name: String,
    /// The network namespace that plays it.
    pub namespace: String,
    /// Index into [`Topology::networks`].
    pub network: usize,
    /// Index into [`Topology::servers`].
    pub server: usize,
    /// The vNIC's MAC address, seen inside the virtual network only.
    pub mac: Mac,
    /// Its IPv4 address inside the virtual network (/24). Networks share these addresses on purpose.
    pub ip: Ipv4Addr,
    /// Source MAC address of its tunnel packets.
    pub underlay_mac: Mac,
    /// Source IPv4 address of its tunnel packets.
    pub underlay_ip: Ipv4Addr,
    /// OpenFlow port number on its server's bridge.
    pub ofport: u16,
}

impl Vm {
    /// The switch's end of the VM's virtual cable: a port of the server's bridge.
    pub fn switch_interface(&self) -> &str {
        &self.name
    }

    /// Its IPv6 address inside the virtual network (/64): a unique local one (RFC 4193) with the last octet of the other.
    pub fn ip6(&self) -> Ipv6Addr {
        let [.., host] = self.ip.octets();
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host))
    }

    /// The vNIC's end of the same cable: where `cvsw port` sends and receives encapsulated frames.
    pub fn nic_interface(&self) -> String {
        format!("{}-nic", self.name)
    }
}

/// Two VMs of one network on different servers: indices into [`Topology::vms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The VM on the first server.
    pub a: usize,
    /// The VM on the second server.
    pub b: usize,
}

/// The whole laboratory.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Short identifier, part of every namespace's name.
    pub id: String,
    /// The two servers.
    pub servers: Vec<Server>,
    /// The virtual networks.
    pub networks: Vec<Network>,
    /// How they are encrypted.
    pub cipher: Option<Suite>,
    /// Whether the controller switches every offload of the VMs' NICs on.
    pub offloads: bool,
    /// All VMs, grouped by network and pair; a pair's VMs are neighbours.
    pub vms: Vec<Vm>,
    /// Virtual machines without an operating system; their namespace is the server's, where QEMU runs.
    pub unikernels: Vec<Vm>,
}

/// First part of the name of every namespace that belongs to laboratory `id`.
pub fn namespace_prefix(id: &str) -> String {
    format!("cvsw-{id}-")
}

impl Topology {
    /// Lays out the laboratory `id` for a plan. Fails when the plan asks for more than the address plan holds.
    pub fn new(id: &str, plan: Plan) -> Result<Self> {
        ensure!(
            (1..=MAX_PAIRS).contains(&plan.pairs),
            "--pairs must be between 1 and {MAX_PAIRS}, not {}",
            plan.pairs
        );
        ensure!(
            (1..=MAX_NETWORKS).contains(&plan.networks),
            "--networks must be between 1 and {MAX_NETWORKS}, not {}",
            plan.networks
        );
        ensure!(
            plan.unikernels <= MAX_UNIKERNELS,
            "--unikernel must be at most {MAX_UNIKERNELS}, not {}",
            plan.unikernels
        );
        let prefix = namespace_prefix(id);
        let servers: Vec<Server> = SERVER_NAMES
            .iter()
            .zip(1..)
            .map(|(name, number)| Server { name, namespace: format!("{prefix}{name}"), datapath_id: number })
            .collect();
        let networks: Vec<Network> = NETWORK_NAMES
            .iter()
            .zip(0..plan.networks)
            .map(|(name, index)| Network {
                name,
                vni: FIRST_VNI + u32::from(index),
                group: Ipv4Addr::new(239, 1, 1, FIRST_VNI as u8 + index),
                landmark: Ipv4Addr::new(10, 0, 0, 200 + index),
            })
            .collect();
        let mut vms = Vec::new();
        for (network_index, network) in networks.iter().enumerate() {
            let pairs = if network_index == 0 { plan.pairs } else { 1 };
            for (pair, side) in (0..pairs).flat_map(|pair| [(pair, 0_u8), (pair, 1)]) {
                vms.push(vm(&prefix, network, network_index as u8, pair, side));
            }
        }
        let unikernels = (0..plan.unikernels).map(|number| unikernel(&servers, &networks[0], number)).collect();
        let mut topology = Self {
            id: id.to_owned(),
            servers,
            networks,
            cipher: plan.cipher,
            offloads: plan.offloads,
            vms,
            unikernels,
        };
        topology.number_ports();
        Ok(topology)
    }

    /// The MTU that fits into the link's: RFC 7348's textbook 1450 in clear. Encrypted, 20 octets of IPv4, 16 of ESP header
    /// and IV, and 16 of the integrity check value if there is one go around a multiple of 4 octets that holds 30 octets
    /// of UDP, VXLAN and inner Ethernet and ends with 2 of trailer.
    pub fn inner_mtu(&self) -> u16 {
        match self.cipher {
            None => UNDERLAY_MTU - VXLAN_OVERHEAD,
            Some(suite) if suite.is_authenticated() => 1416,
            Some(_) => 1432,
        }
    }

    /// The pairs, in order.
    pub fn pairs(&self) -> impl Iterator<Item = Pair> + '_ {
        (0..self.vms.len()).step_by(2).map(|a| Pair { a, b: a + 1 })
    }

    /// The VMs of a network.
    pub fn members(&self, network: usize) -> impl Iterator<Item = &Vm> {
        self.vms.iter().filter(move |vm| vm.network == network)
    }

    /// Everything that has a vNIC: VMs, then unikernels.
    pub fn vnics(&self) -> impl Iterator<Item = &Vm> {
        self.vms.iter().chain(&self.unikernels)
    }

    /// The VMs of a server.
    pub fn guests(&self, server: usize) -> impl Iterator<Item = &Vm> {
        self.vms.iter().filter(move |vm| vm.server == server)
    }

    /// The network a VM belongs to.
    pub fn network_of(&self, vm: &Vm) -> &Network {
        &self.networks[vm.network]
    }

    /// The controller's configuration file for this laboratory (TOML), with the unix sockets where it listens, and the
    /// folder of the control keys, if it is encrypted.
    pub fn controller_config(&self, sockets: &[PathBuf], control_keys: &Path) -> String {
        let listen: Vec<String> = sockets.iter().map(|socket| format!("\"unix:{}\"", socket.display())).collect();
        let mut text = format!("listen = [{}]\nunderlay_mtu = {UNDERLAY_MTU}\n", listen.join(", "));
        if self.cipher.is_some() {
            let _ = writeln!(text, "control_keys = \"{}\"", control_keys.display());
            if !self.unikernels.is_empty() {
                // They have no control key, and nobody but the laboratory is on its control channel.
                text.push_str("keys_in_clear = true\n");
            }
        }
        for (index, network) in self.networks.iter().enumerate() {
            let _ = write!(
                text,
                "\n[[network]]\nname = \"{}\"\nvni = {}\nmtu = \"auto\"\ngroup = \"{}\"\n",
                network.name, network.vni, network.group
            );
            if let Some(suite) = self.cipher {
                let _ = writeln!(text, "cipher = \"{suite}\"");
            }
            for vm in self.vnics().filter(|vm| vm.network == index) {
                let _ = write!(
                    text,
                    "\n[[network.member]]\nname = \"{}\"\nmac = \"{}\"\nip = \"{}\"\n\
                     underlay_mac = \"{}\"\nunderlay_ip = \"{}\"\n",
                    vm.name, vm.mac, vm.ip, vm.underlay_mac, vm.underlay_ip
                );
                if self.offloads {
                    let names: Vec<String> =
                        OffloadFlags::NAMES.iter().map(|(_, name)| format!("\"{name}\"")).collect();
                    let _ = writeln!(text, "offloads = [{}]", names.join(", "));
                }
            }
        }
        text
    }

    fn number_ports(&mut self) {
        let mut next = vec![UPLINK_OFPORT; self.servers.len()];
        for vm in self.vms.iter_mut().chain(&mut self.unikernels) {
            next[vm.server] += 1;
            vm.ofport = next[vm.server];
        }
    }
}

fn vm(prefix: &str, network: &Network, network_index: u8, pair: u8, side: u8) -> Vm {
    let number = pair + 1;
    let name = format!("{}-{number}{}", network.name, if side == 0 { 'a' } else { 'b' });
    let host = 2 * pair + side + 1;
    Vm {
        namespace: format!("{prefix}{name}"),
        name,
        network: usize::from(network_index),
        server: usize::from(side),
        mac: Mac([0x02, 0, 0, 0, network_index + 1, host]),
        ip: Ipv4Addr::new(10, 0, 0, host),
        underlay_mac: Mac([0x02, 0, 0, 1, network_index + 1, host]),
        // RFC 2544's range for benchmark networks: no address of a real network is at stake.
        underlay_ip: Ipv4Addr::new(198, 18, network_index + 1, host),
        ofport: 0,
    }
}

/// Unikernel `number` of the first network. The first one is on the second server: across the link from `blue-1a`.
fn unikernel(servers: &[Server], network: &Network, number: u8) -> Vm {
    let server = usize::from(1 - number % 2);
    let host = 2 * MAX_PAIRS + number + 1;
    Vm {
        namespace: servers[server].namespace.clone(),
        name: format!("{}-u{}", network.name, number + 1),
        network: 0,
        server,
        mac: Mac([0x02, 0, 0, 0, 1, host]),
        ip: Ipv4Addr::new(10, 0, 0, host),
        underlay_mac: Mac([0x02, 0, 0, 1, 1, host]),
        underlay_ip: Ipv4Addr::new(198, 18, 1, host),
        ofport: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn networks_share_inner_addresses_and_nothing_else() {
        let lab = Topology::new("t", Plan { pairs: 2, networks: 2, unikernels: 0, cipher: None, offloads: false })
            .unwrap();
        assert_eq!(lab.vms.len(), 6);
        assert_eq!(lab.pairs().count(), 3);
        let [blue, red] = [&lab.vms[0], &lab.vms[4]];
        assert_eq!((blue.network, red.network), (0, 1));
        assert_eq!(blue.ip, red.ip);
        let unique: HashSet<String> = lab
            .vms
            .iter()
            .flat_map(|vm| {
                [vm.mac.to_string(), vm.underlay_mac.to_string(), vm.underlay_ip.to_string(), vm.name.clone()]
            })
            .collect();
        assert_eq!(unique.len(), 4 * lab.vms.len());
    }

    #[test]
    fn a_pair_spans_both_servers_and_ports_are_unique_per_switch() {
        let lab = Topology::new(
            "t",
            Plan {
                pairs: MAX_PAIRS,
                networks: MAX_NETWORKS,
                unikernels: MAX_UNIKERNELS,
                cipher: None,
                offloads: false,
            },
        )
        .unwrap();
        for pair in lab.pairs() {
            assert_eq!((lab.vms[pair.a].server, lab.vms[pair.b].server), (0, 1));
            assert_eq!(lab.vms[pair.a].network, lab.vms[pair.b].network);
        }
        let ports: HashSet<_> = lab.vnics().map(|vm| (vm.server, vm.ofport)).collect();
        assert_eq!(ports.len(), lab.vnics().count());
        let addresses: HashSet<_> = lab.vnics().map(|vm| (vm.mac, vm.underlay_ip)).collect();
        assert_eq!(addresses.len(), lab.vnics().count());
        assert!(lab.vnics().all(|vm| vm.ofport > UPLINK_OFPORT));
        // IFNAMSIZ is 16 with the terminating zero.
        assert!(lab.vms.iter().all(|vm| vm.nic_interface().len() <= 15));
        assert!(lab.networks.iter().all(|network| lab.vnics().all(|vm| vm.ip != network.landmark)));
    }

    #[test]
    fn plans_beyond_the_address_plan_are_refused() {
        for (pairs, networks) in [(0, 1), (MAX_PAIRS + 1, 1), (1, 0), (1, MAX_NETWORKS + 1)] {
            let error = Topology::new("t", Plan { pairs, networks, unikernels: 0, cipher: None, offloads: false })
                .unwrap_err();
            assert!(error.to_string().contains("must be between"), "{error}");
        }
    }
}
