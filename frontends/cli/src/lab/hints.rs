//! What a person can do with a laboratory that was left up.

use super::build::Lab;
use super::topology::BRIDGE;

/// The commands, ready to be copied.
pub fn how_to_use(lab: &Lab) -> String {
    let topology = &lab.topology;
    let program = lab.program().display();
    let (vm, peer) = (&topology.vms[0], &topology.vms[1]);
    let (server, switch) = (&topology.servers[0], &lab.switches[0]);
    let vms: Vec<&str> = topology.vms.iter().map(|vm| vm.name.as_str()).collect();
    format!(
        "\nThe laboratory is left up. VMs: {vms}.\n\
         \x20 enter a VM             ip netns exec {vm_ns} bash\n\
         \x20 ping its peer          ip netns exec {vm_ns} ping {peer_ip}\n\
         \x20 counters of its vNIC   {program} stats {stats}\n\
         \x20 what is registered     {program} controller-status {status}\n\
         \x20 flows of Open vSwitch  OVS_RUNDIR={ovs} ovs-ofctl dump-flows {BRIDGE}\n\
         \x20 watch the link         ip netns exec {server_ns} tshark -n -i uplink\n\
         \x20 logs and settings      {directory}\n\
         \x20 take it down           {program} lab down {id}",
        vms = vms.join(", "),
        vm_ns = vm.namespace,
        peer_ip = peer.ip,
        stats = lab.stats_socket(vm).display(),
        status = lab.status_socket().display(),
        ovs = switch.run_directory().display(),
        server_ns = server.namespace,
        directory = lab.directory.display(),
        id = topology.id,
    )
}
