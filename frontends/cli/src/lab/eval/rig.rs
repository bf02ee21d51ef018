//! A laboratory for one setup: built, reachable, with every process on its core.

use super::cpu::{self, Placement};
use super::flows;
use super::plan::{Setup, Underlay, Way, Work};
use crate::lab::build::Lab;
use crate::lab::cgroup;
use crate::lab::checks::{control, reach, throughput};
use crate::lab::netns::{self, End};
use crate::lab::ovs::{Relay, Uplink};
use crate::lab::process::{self, wait_for};
use crate::lab::topology::{
    BRIDGE, Plan, UNDERLAY_MTU, UPLINK, UPLINK_OFPORT, VM_NIC, VXLAN_OVERHEAD, Vm, namespace_prefix,
};
use anyhow::{Context, Result};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(15);
/// Fragments of datagrams that lost another one wait for this many seconds. Linux's 30 let what an overloaded way loses
/// fill the memory for reassembly (4 MiB) within two seconds, and then nothing arrives for half a minute, whatever the
/// way carries: what a run measures would depend on the run before.
pub const REASSEMBLY_SECONDS: u32 = 1;
/// And may take this much memory.
pub const REASSEMBLY_BYTES: u32 = 512 << 20;
/// What WireGuard adds to a packet over IPv4: 20 + 8 + 16 + 16 octets.
const WIREGUARD_OVERHEAD: u16 = 60;
const WIREGUARD_PORT: &str = "51820";
/// The bridge that carries the tunnels of a switch which encapsulates.
const OUTER_BRIDGE: &str = "br-outer";
/// The cable between a switch and the program at its position that encrypts.
const CIPHER_CABLE: [&str; 2] = ["cipher", "cipher-nic"];

/// A setup that runs.
pub struct Rig {
    /// What it is.
    pub setup: Setup,
    /// Where it is.
    pub lab: Lab,
}

impl Rig {
    /// Builds it, with `pairs` pairs, and waits until every pair can talk.
    pub fn build(setup: Setup, pairs: u8, placement: Placement, relay: Relay) -> Result<Self> {
        let plan = Plan { pairs, networks: 1, unikernels: 0, cipher: setup.work.suite(), offloads: true };
        let mut rig = Self { setup, lab: Lab::new(plan)? };
        rig.lab.switches.iter_mut().for_each(|switch| switch.relay = relay);
        match (setup.underlay, setup.way) {
            (Underlay::Switch | Underlay::Shares, Way::Proposed) => rig.proposed()?,
            (Underlay::Switch | Underlay::Shares, _) => rig.existing()?,
            (Underlay::Cable, Way::Proposed | Way::ProposedAfXdp) => rig.vnics_on_cable()?,
            (Underlay::Cable, _) => rig.linux()?,
        }
        rig.reassemble_promptly()?;
        rig.inhabit()?;
        cpu::pin(&rig.lab, placement)?;
        if setup.underlay == Underlay::Shares {
            rig.share_out(placement)?;
        }
        Ok(rig)
    }

    /// Gives every VM, with its vNIC, an equal share of the VMs' cores and no more, however many of them are busy.
    fn share_out(&self, placement: Placement) -> Result<()> {
        let cores = cpu::cores();
        for (index, vm) in self.lab.topology.vms.iter().enumerate() {
            let own = placement.cores(cpu::Part::Application, vm.server, cores).len();
            let share = if own == 0 { cores } else { own } as f64 / self.lab.topology.vms.len() as f64;
            let group = cgroup::create(&self.lab.topology.id, &vm.name, share)?;
            for process in self.lab.processes() {
                if cpu::vm(&self.lab.topology, &process.name) == Some(index) {
                    cgroup::join(&group, process.pid)?;
                }
            }
        }
        Ok(())
    }

    /// The control group of a VM's programs, if it has a share of its own.
    pub fn group(&self, vm: &Vm) -> Result<Option<PathBuf>> {
        (self.setup.underlay == Underlay::Shares).then(|| cgroup::path(&self.lab.topology.id, &vm.name)).transpose()
    }

    /// Lets no run hand fragments on to the next, see [`REASSEMBLY_SECONDS`].
    fn reassemble_promptly(&self) -> Result<()> {
        let script = format!(
            "echo {REASSEMBLY_SECONDS} > /proc/sys/net/ipv4/ipfrag_time && \
             echo {REASSEMBLY_BYTES} > /proc/sys/net/ipv4/ipfrag_high_thresh"
        );
        let namespaces = netns::list(&namespace_prefix(&self.lab.topology.id))?;
        namespaces.iter().try_for_each(|name| netns::tool(name, "sh", ["-c", &script]).run().map(drop))
    }

    /// The IP MTU of the VMs, as it should be.
    pub fn mtu(&self) -> u16 {
        match (self.setup.way, self.setup.work) {
            (Way::ExistingFragments | Way::LinuxFragments, _) | (_, Work::Null | Work::Rewrite | Work::Vlan) => {
                UNDERLAY_MTU
            }
            (Way::WireguardGo | Way::Boringtun, _) => UNDERLAY_MTU - WIREGUARD_OVERHEAD,
            _ => self.lab.topology.inner_mtu(),
        }
    }

    /// The work in the VMs' vNICs; Open vSwitch forwards.
    fn proposed(&mut self) -> Result<()> {
        self.lab.lay_cable()?;
        (0..self.lab.topology.servers.len()).try_for_each(|server| self.lab.start_server(server))?;
        if matches!(self.setup.work, Work::Vxlan | Work::AesCtr | Work::AesGcm) {
            (0..self.lab.topology.vms.len()).try_for_each(|vm| self.lab.start_vnic(vm))?;
            self.lab.start_controller()?;
            control::switches_connected(&mut self.lab)?;
            control::all_registered(&mut self.lab)?;
            return control::tunnel_mtu(&self.lab).map(drop);
        }
        for switch in &self.lab.switches {
            switch.add_flow(BRIDGE, "priority=1,actions=NORMAL")?;
        }
        for index in 0..self.lab.topology.vms.len() {
            let nic = self.lab.topology.vms[index].nic_interface();
            self.start_static_vnic(index, &format!("af_packet:{nic}"))?;
        }
        Ok(())
    }

    /// vNICs whose network side is the cable itself.
    fn vnics_on_cable(&mut self) -> Result<()> {
        self.lab.lay_cable()?;
        let backend = if self.setup.way == Way::ProposedAfXdp { "af_xdp" } else { "af_packet" };
        for index in 0..self.lab.topology.vms.len() {
            netns::create(&self.lab.topology.vms[index].namespace)?;
            self.start_static_vnic(index, &format!("{backend}:{UPLINK}"))?;
        }
        self.set_mtu()
    }

    /// A vNIC without a controller, with this network port: flows, keys and offloads are given at its start.
    fn start_static_vnic(&mut self, index: usize, port: &str) -> Result<()> {
        let (me, peer) = (&self.lab.topology.vms[index], &self.lab.topology.vms[index ^ 1]);
        let more = self.port_arguments(&me.name, &flows::of_vnic(self.setup.work, me, peer), me, peer)?;
        self.lab.start_vnic_on(index, port, &more)
    }

    /// Arguments of a `cvsw port` named `name` with these flows, and keys for what goes from `me` to `peer` and back.
    fn port_arguments(&self, name: &str, flows: &str, me: &Vm, peer: &Vm) -> Result<Vec<String>> {
        let mut arguments = vec!["--offload=csum,tso,ufo,gso,gro".to_owned()];
        let path = self.file(&format!("{name}.flows"), flows)?;
        arguments.push(format!("--flows={}", path.display()));
        if let Some(suite) = self.setup.work.suite() {
            let path = self.file(&format!("{name}.keys"), &flows::associations(suite, me, peer))?;
            arguments.push(format!("--sa={}", path.display()));
        }
        Ok(arguments)
    }

    /// A file of the laboratory that is its owner's alone.
    fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.lab.directory.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// The work in the shared switch; the VMs have ordinary NICs.
    fn existing(&mut self) -> Result<()> {
        self.lab.lay_cable()?;
        for index in 0..self.lab.topology.servers.len() {
            let server = &self.lab.topology.servers[index];
            for vm in self.lab.topology.guests(index) {
                netns::create(&vm.namespace)?;
                let switch_end = End { namespace: &server.namespace, interface: vm.switch_interface() };
                netns::cable(switch_end, End { namespace: &vm.namespace, interface: VM_NIC }, UNDERLAY_MTU)?;
                netns::ip(&vm.namespace, &format!("link set {VM_NIC} arp on address {}", vm.mac))?;
            }
            self.lab.start_switch(index)?;
            self.configure_switch(index)
                .map_err(|error| process::with_log(error, "ovs-vswitchd", &self.lab.switches[index].log()))?;
        }
        self.set_mtu()
    }

    fn configure_switch(&mut self, index: usize) -> Result<()> {
        match (self.setup.work, self.setup.way) {
            (Work::Vxlan, Way::ExistingFragments) => self.kernel_tunnel(index),
            (Work::Vxlan, _) => self.switch_tunnel(index),
            (Work::AesCtr | Work::AesGcm, _) => self.cipher_at_switch(index),
            (work, _) => {
                let switch = &self.lab.switches[index];
                switch.add_bridge(&self.lab.topology, index, Uplink::Cable(UPLINK))?;
                let guests: Vec<&Vm> = self.lab.topology.guests(index).collect();
                flows::of_switch(work, &guests).iter().try_for_each(|flow| switch.add_flow(BRIDGE, flow))
            }
        }
    }

    /// Open vSwitch's own VXLAN: a tunnel port, and a second bridge with the server's underlay address.
    fn switch_tunnel(&self, index: usize) -> Result<()> {
        let (switch, server) = (&self.lab.switches[index], &self.lab.topology.servers[index]);
        let tunnel = "vxlan0";
        switch.configure(&format!(
            "add-br {OUTER_BRIDGE} -- set bridge {OUTER_BRIDGE} datapath_type=netdev \
             -- add-port {OUTER_BRIDGE} {UPLINK} -- set interface {UPLINK} ofport_request={UPLINK_OFPORT}{}",
            switch.relay.of_port()
        ))?;
        netns::ip(&server.namespace, &format!("addr add {}/24 dev {OUTER_BRIDGE}", flows::server_address(index)))?;
        netns::ip(&server.namespace, &format!("link set {OUTER_BRIDGE} up"))?;
        switch.add_bridge(&self.lab.topology, index, Uplink::Tunnel(tunnel))?;
        switch.configure(&format!(
            "set interface {tunnel} type=vxlan options:remote_ip={} options:local_ip={} options:key={}",
            flows::server_address(1 - index),
            flows::server_address(index),
            self.lab.topology.networks[0].vni
        ))?;
        switch.add_flow(BRIDGE, "priority=1,actions=NORMAL")
    }

    /// The kernel's `vxlan` device as a port of Open vSwitch: its userspace datapath cannot fragment outer packets.
    fn kernel_tunnel(&self, index: usize) -> Result<()> {
        let (switch, server) = (&self.lab.switches[index], &self.lab.topology.servers[index]);
        let vni = self.lab.topology.networks[0].vni;
        netns::ip(&server.namespace, &format!("link set {UPLINK} arp on"))?;
        netns::ip(&server.namespace, &format!("addr add {}/24 dev {UPLINK}", flows::server_address(index)))?;
        let addresses =
            format!("local {} remote {}", flows::server_address(index), flows::server_address(1 - index));
        netns::ip(&server.namespace, &format!("link add vxlan0 type vxlan id {vni} dstport 4789 {addresses}"))?;
        netns::ip(&server.namespace, &format!("link set vxlan0 mtu {UNDERLAY_MTU} up"))?;
        switch.add_bridge(&self.lab.topology, index, Uplink::Tunnel("vxlan0"))?;
        switch.add_flow(BRIDGE, "priority=1,actions=NORMAL")
    }

    /// One process between the switch and the uplink, through which the frames of all VMs pass.
    fn cipher_at_switch(&mut self, index: usize) -> Result<()> {
        let (name, namespace) = {
            let server = &self.lab.topology.servers[index];
            (server.name, server.namespace.clone())
        };
        let end = |interface| End { namespace: &namespace, interface };
        netns::cable(end(CIPHER_CABLE[0]), end(CIPHER_CABLE[1]), UNDERLAY_MTU)?;
        let switch = &self.lab.switches[index];
        switch.add_bridge(&self.lab.topology, index, Uplink::Cable(CIPHER_CABLE[0]))?;
        switch.add_flow(BRIDGE, "priority=1,actions=NORMAL")?;
        // Any VM of a server can stand for it: its underlay address becomes the server's.
        let (me, peer) = (&self.lab.topology.vms[index], &self.lab.topology.vms[1 - index]);
        let flows = flows::of_vnic(self.setup.work, me, peer);
        let mut arguments = vec![
            "port".to_owned(),
            format!("--host=af_packet:{}", CIPHER_CABLE[1]),
            format!("--net=af_packet:{UPLINK}"),
            format!("--mac={}", me.underlay_mac),
        ];
        arguments.extend(self.port_arguments(name, &flows, me, peer)?);
        let command = netns::command(&namespace, self.lab.program(), arguments);
        self.lab.start(&format!("AES of {name}"), command, &format!("aes-{name}"))?.wait_for_line("ready", LIMIT)
    }

    /// Linux alone between two VMs: the cable ends in them.
    fn linux(&mut self) -> Result<()> {
        let [a, b] = [0, 1].map(|index| self.lab.topology.vms[index].clone());
        netns::create(&a.namespace)?;
        netns::create(&b.namespace)?;
        let bare = self.setup.work == Work::Null;
        let interface = if bare { VM_NIC } else { UPLINK };
        let end = |vm| End { namespace: vm, interface };
        netns::cable(end(&a.namespace), end(&b.namespace), UNDERLAY_MTU)?;
        for (index, vm) in [&a, &b].into_iter().enumerate() {
            netns::ip(&vm.namespace, &format!("link set {interface} arp on"))?;
            if bare {
                continue;
            }
            netns::ip(&vm.namespace, &format!("addr add {}/24 dev {UPLINK}", flows::server_address(index)))?;
            if matches!(self.setup.way, Way::Linux | Way::LinuxFragments) {
                self.kernel_vxlan(index, vm)?;
            }
        }
        if matches!(self.setup.way, Way::WireguardGo | Way::Boringtun) {
            self.wireguard(&[a, b])?;
        }
        self.set_mtu()
    }

    fn kernel_vxlan(&self, index: usize, vm: &Vm) -> Result<()> {
        let (own, peer) = (flows::server_address(index), flows::server_address(1 - index));
        let vni = self.lab.topology.networks[0].vni;
        let device = format!("link add {VM_NIC} type vxlan id {vni} dstport 4789 local {own} remote {peer}");
        // Without a `dev`, so that the inner MTU may be one that makes fragments.
        netns::ip(&vm.namespace, &device)?;
        netns::ip(&vm.namespace, &format!("link set {VM_NIC} up")).map(drop)
    }

    fn wireguard(&mut self, vms: &[Vm; 2]) -> Result<()> {
        let mut keys = Vec::new();
        for vm in vms {
            let private = process::Tool::new("wg", ["genkey"]).run()?;
            let file = self.file(&format!("{}.wireguard", vm.name), &private)?;
            let derive = ["-c", "wg pubkey < \"$0\"", &file.display().to_string()].map(str::to_owned);
            keys.push((file, process::Tool::new("sh", derive).run()?.trim().to_owned()));
        }
        for (index, vm) in vms.iter().enumerate() {
            let nic = self.nic(vm);
            let (program, arguments) = match self.setup.way {
                Way::Boringtun => ("boringtun-cli", vec!["--foreground", "--disable-drop-privileges", &nic]),
                _ => ("wireguard-go", vec!["-f", &nic]),
            };
            let command: Command = netns::command(&vm.namespace, program, arguments);
            let (name, file) = (format!("tunnel of {}", vm.name), format!("tunnel-{}", vm.name));
            let socket = PathBuf::from(format!("/var/run/wireguard/{nic}.sock"));
            self.lab
                .start(&name, command, &file)?
                .wait_for("its socket", LIMIT, || Ok(fs::exists(&socket)?.then_some(())))?;
            let endpoint = format!("{}:{WIREGUARD_PORT}", flows::server_address(1 - index));
            let private = keys[index].0.display().to_string();
            let setting: [&str; 13] = [
                "set",
                &nic,
                "listen-port",
                WIREGUARD_PORT,
                "private-key",
                &private,
                "peer",
                &keys[1 - index].1,
                "allowed-ips",
                "10.0.0.0/24",
                "endpoint",
                &endpoint,
                "persistent-keepalive",
            ];
            netns::tool(&vm.namespace, "wg", setting.into_iter().chain(["0"])).run()?;
            netns::ip(&vm.namespace, &format!("link set {nic} up"))?;
        }
        Ok(())
    }

    /// The VM's interface. WireGuard's control sockets are not in a network namespace, so their names are this lab's own.
    pub fn nic(&self, vm: &Vm) -> String {
        match self.setup.way {
            Way::WireguardGo | Way::Boringtun => format!("wg{}{}", self.lab.topology.id, vm.server),
            _ => VM_NIC.to_owned(),
        }
    }

    fn set_mtu(&self) -> Result<()> {
        for vm in &self.lab.topology.vms {
            netns::ip(&vm.namespace, &format!("link set {} mtu {}", self.nic(vm), self.mtu()))?;
        }
        Ok(())
    }

    /// Addresses, and programs that answer; then every pair must hear each other.
    fn inhabit(&mut self) -> Result<()> {
        for index in 0..self.lab.topology.vms.len() {
            let vm = &self.lab.topology.vms[index];
            netns::ip(&vm.namespace, &format!("addr add {}/24 dev {}", vm.ip, self.nic(vm)))?;
        }
        throughput::start_servers(&mut self.lab)?;
        for pair in self.lab.topology.pairs().collect::<Vec<_>>() {
            self.lab.start_answerer(pair.b)?;
            let (from, to) = (&self.lab.topology.vms[pair.a], &self.lab.topology.vms[pair.b]);
            wait_for(&format!("an answer of {} to {}", to.name, from.name), LIMIT, || {
                Ok(reach::ping(from, to.ip, &["-c", "1", "-W", "1"])?.received)
                    .map(|count| (count > 0).then_some(()))
            })?;
        }
        self.lab.check_processes()?;
        Ok(())
    }
}

const _: () = assert!(UPLINK_OFPORT == 1 && VXLAN_OVERHEAD == 50);
