//! Flows and keys for setups without a controller.

use super::plan::Work;
use crate::lab::topology::{UPLINK_OFPORT, Vm};
use cvsw_core::crypto::Suite;
use std::fmt::Write;
use std::net::Ipv4Addr;

const VNI: u32 = 42;
const VLAN: u16 = 100;
/// SPI of what the first server's VMs send; the other's is one more.
const FIRST_SPI: u32 = 0x1001;

/// A server's own address on the underlay, when the server itself ends the tunnels (RFC 2544's range).
pub fn server_address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, index as u8 + 1)
}

/// The address that a VM has on the way, when addresses are rewritten.
fn alias(vm: &Vm) -> Ipv4Addr {
    let [_, _, _, host] = vm.ip.octets();
    Ipv4Addr::new(10, 1, 0, host)
}

/// Flows of the vNIC of `me`, whose only correspondent is `peer`.
pub fn of_vnic(work: Work, me: &Vm, peer: &Vm) -> String {
    let (source, destination) = (me.underlay_ip, peer.underlay_ip);
    let (eth_source, eth_destination) = (me.underlay_mac, peer.underlay_mac);
    let tunnel = format!(
        "set_vxlan(vni={VNI},src={source},dst={destination},eth_src={eth_source},eth_dst={eth_destination})"
    );
    match work {
        Work::Null => String::new(),
        Work::Rewrite => format!(
            "in_port=HOST,ip,nw_dst={},actions=mod_nw_dst:{}\nin_port=NET,ip,nw_dst={},actions=mod_nw_dst:{}\n",
            peer.ip,
            alias(peer),
            alias(me),
            me.ip
        ),
        Work::Vlan => {
            format!("in_port=HOST,actions=mod_vlan_vid:{VLAN}\nin_port=NET,dl_vlan={VLAN},actions=strip_vlan\n")
        }
        Work::Vxlan => {
            format!("in_port=HOST,actions={tunnel}\nin_port=NET,udp,tp_dst=4789,actions=strip_vxlan(vni={VNI})\n")
        }
        Work::AesCtr | Work::AesGcm => format!(
            "in_port=HOST,actions={tunnel},encrypt(sa=1)\n\
             in_port=NET,ip,nw_proto=50,actions=decrypt,strip_vxlan(vni={VNI})\n"
        ),
    }
}

/// Flows of a server's switch that does the light work for its VMs; each VM has one correspondent across the uplink.
pub fn of_switch(work: Work, guests: &[&Vm]) -> Vec<String> {
    let mut flows = vec!["priority=1,actions=NORMAL".to_owned()];
    for vm in guests {
        let port = vm.ofport;
        match work {
            Work::Rewrite => {
                let [_, _, _, host] = vm.ip.octets();
                // A pair's VMs have neighbouring addresses.
                let peer = if vm.server == 0 { host + 1 } else { host - 1 };
                flows.push(format!(
                    "priority=2,in_port={port},ip,nw_dst=10.0.0.{peer},actions=mod_nw_dst:10.1.0.{peer},output:{UPLINK_OFPORT}"
                ));
                flows.push(format!(
                    "priority=2,in_port={UPLINK_OFPORT},ip,nw_dst={},actions=mod_nw_dst:{},output:{port}",
                    alias(vm),
                    vm.ip
                ));
            }
            Work::Vlan => {
                flows.push(format!("priority=2,in_port={port},actions=mod_vlan_vid:{VLAN},output:{UPLINK_OFPORT}"));
                flows.push(format!(
                    "priority=2,in_port={UPLINK_OFPORT},dl_vlan={VLAN},actions=strip_vlan,output:{port}"
                ));
            }
            Work::Null | Work::Vxlan | Work::AesCtr | Work::AesGcm => {}
        }
    }
    flows
}

/// Keys for both directions between `me` and `peer`, as a file for `cvsw port --sa`. They are made of the SPI: nothing
/// but benchmark traffic ever meets them.
pub fn associations(suite: Suite, me: &Vm, peer: &Vm) -> String {
    let mut text = String::new();
    let ways = [(1, "tx", me.server, peer.underlay_ip), (2, "rx", peer.server, me.underlay_ip)];
    for (id, direction, sender, destination) in ways {
        let spi = FIRST_SPI + sender as u32;
        let key = format!("{:02x}", spi as u8).repeat(suite.key_material_len());
        let _ = write!(
            text,
            "[[sa]]\nid = {id}\ndirection = \"{direction}\"\nspi = {spi}\ndestination = \"{destination}\"\n\
             suite = \"{suite}\"\nkey = \"{key}\"\n\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::topology::{Plan, Topology};
    use cvsw_core::flow::text::parse_flow;

    const WORKS: [Work; 6] = [Work::Null, Work::Rewrite, Work::Vlan, Work::Vxlan, Work::AesCtr, Work::AesGcm];

    #[test]
    fn a_vnic_understands_its_flows() {
        let plan = Plan { pairs: 1, networks: 1, unikernels: 0, cipher: None, offloads: true };
        let topology = Topology::new("t", plan).unwrap();
        for work in WORKS {
            let text = of_vnic(work, &topology.vms[0], &topology.vms[1]);
            let flows: Vec<_> =
                text.lines().map(|line| parse_flow(line).map_err(|error| error.to_string())).collect();
            assert!(flows.iter().all(Result::is_ok), "{text}: {flows:?}");
            assert_eq!(flows.len(), if work == Work::Null { 0 } else { 2 });
        }
    }

    #[test]
    fn what_one_end_sends_the_other_opens() {
        let plan = Plan { pairs: 1, networks: 1, unikernels: 0, cipher: None, offloads: true };
        let topology = Topology::new("t", plan).unwrap();
        let [a, b] = [(0, 1), (1, 0)]
            .map(|(me, peer)| associations(Suite::Aes128Gcm, &topology.vms[me], &topology.vms[peer]));
        let section = |text: &str, direction: &str| {
            let found = text.split("[[sa]]").find(|part| part.contains(direction)).unwrap();
            found
                .lines()
                .filter(|line| !line.starts_with("id") && !line.starts_with("direction"))
                .collect::<String>()
        };
        assert_eq!(section(&a, "\"tx\""), section(&b, "\"rx\""));
        assert_ne!(section(&a, "\"tx\""), section(&a, "\"rx\""));
    }
}
