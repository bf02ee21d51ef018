//! What the tests run on: a "VM" with a cvsw on its NIC, and a peer at the other end of the wire.

use crate::{net::Namespace, system::run};
use anyhow::Result;

/// Two namespaces joined by a wire. `vm` has the lower device `eth0` and `cvsw0` on top of it with 10.0.0.1/24;
/// `peer` has `eth0` with 10.0.0.2/24.
pub struct Pair {
    /// The namespace with the cvsw.
    pub vm: Namespace,
    /// The other end.
    pub peer: Namespace,
}

/// MAC address of `cvsw0` and its lower device.
pub const VM_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// MAC address of the peer.
pub const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

impl Pair {
    /// Joined by a veth pair.
    pub fn veth() -> Result<Self> {
        Self::veth_with_queues(1)
    }

    /// Joined by a veth pair of which each end has so many queues.
    pub fn veth_with_queues(queues: u32) -> Result<Self> {
        let (vm, peer) = (Namespace::new("vm")?, Namespace::new("peer")?);
        let queues = format!("numtxqueues {queues} numrxqueues {queues}");
        run(&format!("ip link add eth0 netns vm {queues} type veth peer name eth0 {queues} netns peer"))?;
        Self::on(vm, peer)
    }

    /// Joined already: each of the namespaces has a device `eth0`.
    pub fn on(vm: Namespace, peer: Namespace) -> Result<Self> {
        let pair = Self { vm, peer };
        pair.configure()?;
        Ok(pair)
    }

    /// Joined by two NICs of the machine on one wire; they go back when the namespaces end.
    pub fn nics(first: &str, second: &str) -> Result<Self> {
        let (vm, peer) = (Namespace::new("vm")?, Namespace::new("peer")?);
        run(&format!("ip link set {first} netns vm name eth0"))?;
        run(&format!("ip link set {second} netns peer name eth0"))?;
        Self::on(vm, peer)
    }

    /// Replaces the flow table of `cvsw0`: one flow a line, in `ovs-ofctl` syntax.
    pub fn flows(&self, text: &str) -> Result<()> {
        std::fs::write("/tmp/test.flows", text)?;
        self.vm.run("cvsw ctl --dev cvsw0 flows clear")?;
        self.vm.run("cvsw ctl --dev cvsw0 flows load /tmp/test.flows")?;
        Ok(())
    }

    fn configure(&self) -> Result<()> {
        self.vm.run_all(
            "ip link set eth0 address 02:00:00:00:00:01
             ip link set eth0 mtu 1500
             ip link set eth0 up
             ip link add link eth0 name cvsw0 type cvsw
             ip address add 10.0.0.1/24 dev cvsw0
             ip link set cvsw0 up",
        )?;
        self.peer.run_all(
            "ip link set eth0 address 02:00:00:00:00:02
             ip link set eth0 mtu 1500
             ip address add 10.0.0.2/24 dev eth0
             ip link set eth0 up",
        )?;
        // No address resolution in captures.
        self.vm.run("ip neighbour add 10.0.0.2 lladdr 02:00:00:00:00:02 dev cvsw0 nud permanent")?;
        self.peer.run("ip neighbour add 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent")?;
        crate::system::wait_for("carrier of cvsw0", || {
            Ok(self.vm.run("ip link show dev cvsw0")?.contains("LOWER_UP"))
        })
    }
}
