//! Two controllers, a cluster of etcd nodes that wants certificates, and a real Open vSwitch that is connected to both.

use cvsw_controller::{Mac, config::Listen, store::etcd::TlsFiles};
use cvsw_core::control::MessageType;
use cvsw_sim::etcd::Etcd;

use super::support::{
    authority::Authority,
    controller::{Running, Share, TIMERS},
    ovs::Ovs,
    vnic::Vnic,
    wait_for,
};

const NETWORK: &str = "[[network]]\nname = \"blue\"\nvni = 42\ngroup = \"239.1.1.42\"\n\
     [[network.member]]\nname = \"vm1\"\nmac = \"02:00:00:00:01:01\"\nip = \"10.0.0.1\"\n\
     underlay_mac = \"02:00:00:01:00:01\"\nunderlay_ip = \"192.0.2.1\"\n";

/// The role of each controller, as Open vSwitch has it.
fn roles(ovs: &Ovs) -> Vec<(String, String)> {
    let table = ovs.vsctl(&["--format=csv", "--no-headings", "--columns=target,role", "list", "controller"]);
    let row = |line: &str| line.split_once(',').map(|(target, role)| (target.replace('"', ""), role.to_owned()));
    table.lines().filter_map(row).collect()
}

/// The controller that Open vSwitch obeys, when the other one is a slave.
fn master(ovs: &Ovs) -> Option<String> {
    let roles = roles(ovs);
    let has = |wanted: &str| roles.iter().find(|(_, role)| role == wanted).map(|(target, _)| target.clone());
    has("master").filter(|_| has("slave").is_some())
}

#[test]
fn open_vswitch_obeys_one_of_two_and_the_other_one_when_that_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (path, authority) = (folder.path(), Authority::new(folder.path()));
    ["127.0.0.1", "controller"].iter().for_each(|name| authority.issue(name, path));
    let etcd = Etcd::start_with_tls(path).unwrap();
    let identity = Some((path.join("controller.crt"), path.join("controller.key")));
    let tls = TlsFiles { ca: Some(path.join("ca.crt")), identity };
    let ovs = Ovs::start("00000000000000f1");
    ovs.add_port("p1", 1);
    let socket = |name: &str| ovs.path().join(format!("{name}.sock"));
    let start = |name: &str| {
        let listen = vec![Listen::Unix(socket(name))];
        let share = Share { store: etcd.store(), tls: tls.clone(), name: name.to_owned() };
        Running::sharing(&format!("{TIMERS}{NETWORK}"), listen, share)
    };
    let mut controllers = ["one", "two"].map(|name| (name, start(name)));
    let targets = ["one", "two"].map(|name| format!("unix:{}", socket(name).display()));
    ovs.vsctl(&["set-controller", "br0", &targets[0], &targets[1]]);
    let mac: Mac = "02:00:00:00:01:01".parse().unwrap();
    let vnic = Vnic::start(&ovs.port_socket("p1"), mac, true);

    let first = wait_for("a master and a slave", || master(&ovs), || format!("{:?}", roles(&ovs)));
    wait_for(
        "the vNIC's entries",
        || vnic.look(|seen| (seen.flows.len() == 4).then_some(())),
        || format!("{:?}", roles(&ovs)),
    );
    let busy = controllers.iter_mut().find(|(name, _)| first.contains(name)).unwrap();
    busy.1.wait_converged();
    busy.1.end();
    let next = || roles(&ovs).into_iter().find(|(target, role)| role == "master" && *target != first);
    wait_for("the other one to be the master", next, || format!("{:?}", roles(&ovs)));
    let (_, other) = controllers.iter().find(|(name, _)| !first.contains(name)).unwrap();
    other.wait_converged();
    assert_eq!(vnic.count(MessageType::SetEntry), 4, "it was found at work: nothing is sent again");
}
