//! Two controllers, a cluster of etcd nodes (that wants certificates), and real Open vSwitches that are connected to both.

use std::{collections::BTreeSet, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use cvsw_controller::{Mac, cluster::first, config::Listen, status::Status, store::etcd::TlsFiles};
use cvsw_core::{control::MessageType, flow::Direction};
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
        let share = Share { store: etcd.store(), tls: tls.clone(), name: name.to_owned(), key: None };
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

/// SPIs of a vNIC's associations, in one direction.
fn spis(vnic: &Vnic, direction: Direction) -> BTreeSet<u32> {
    vnic.look(|seen| {
        let sas = seen.sas.iter().filter(|sa| sa.config.direction == direction);
        sas.map(|sa| sa.config.spi).collect()
    })
}

/// SPIs that the vNICs send with, if both have two (to each other and to the group) that the other one receives.
fn keys([one, two]: [&Vnic; 2]) -> Option<BTreeSet<u32>> {
    let way = |sender: &Vnic, receiver: &Vnic| {
        let sending = spis(sender, Direction::Tx);
        (sending.len() == 2 && sending.is_subset(&spis(receiver, Direction::Rx))).then_some(sending)
    };
    Some(&way(one, two)? | &way(two, one)?)
}

/// A file with the key of a cluster.
fn cluster_key(folder: &std::path::Path) -> PathBuf {
    let path = folder.join("cluster.key");
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(b"00112233445566778899aabbccddeeff").unwrap();
    path
}

/// Each controller has one of two switches, and on each is one of two members. Then one of the controllers ends.
#[test]
fn an_encrypted_network_on_the_switches_of_two_controllers() {
    let folder = tempfile::tempdir().unwrap();
    let etcd = Etcd::start().unwrap();
    let names = ["one", "two"].map(str::to_owned);
    let id_of = |name: &String| (0xf1..).find(|id| first(&names, *id) == Some(name)).unwrap();
    let switches = names.each_ref().map(|name| Ovs::start(&format!("{:016x}", id_of(name))));
    switches.iter().for_each(|ovs| ovs.add_port("p1", 1));
    let socket = |ovs: &Ovs, name: &str| ovs.path().join(format!("{name}.sock"));
    let member = |number: u8| {
        format!(
            "[[network.member]]\nname = \"vm{number}\"\nmac = \"02:00:00:00:01:0{number}\"\nip = \"10.0.0.{number}\"\n\
             underlay_mac = \"02:00:00:01:00:0{number}\"\nunderlay_ip = \"192.0.2.{number}\"\n"
        )
    };
    let network = "[[network]]\nname = \"blue\"\nvni = 42\ngroup = \"239.1.1.42\"\n\
                   cipher = \"aes-128-gcm\"\n";
    let config = format!("keys_in_clear = true\n{TIMERS}{network}{}{}", member(1), member(2));
    let key = Some(cluster_key(folder.path()));
    let mut controllers = names.each_ref().map(|name| {
        let listen = switches.iter().map(|ovs| Listen::Unix(socket(ovs, name))).collect();
        let share = Share { store: etcd.store(), tls: TlsFiles::default(), name: name.clone(), key: key.clone() };
        Running::sharing(&config, listen, share)
    });
    for ovs in &switches {
        let targets = names.each_ref().map(|name| format!("unix:{}", socket(ovs, name).display()));
        ovs.vsctl(&["set-controller", "br0", &targets[0], &targets[1]]);
    }
    let vnic = |ovs: &Ovs, number: u8| {
        Vnic::with_keys(&ovs.port_socket("p1"), Mac([2, 0, 0, 0, 1, number]), u64::from(number))
    };
    let vnics = [vnic(&switches[0], 1), vnic(&switches[1], 2)];
    let tables = || controllers.iter().map(|controller| controller.status().table()).collect::<String>();
    let both = || controllers.iter().all(|controller| controller.status().switches.iter().any(|s| s.up));
    let pair = [&vnics[0], &vnics[1]];
    // Who came last makes keys necessary once more.
    let is_calm =
        |status: &Status| status.encrypted.iter().all(|way| ["encrypted", "elsewhere"].contains(&&*way.state));
    let calm = || controllers.iter().all(|controller| is_calm(&controller.status()));
    let before = wait_for("a switch for each, and keys", || keys(pair).filter(|_| both() && calm()), tables);

    controllers[0].end();
    let sent = |vnic: &Vnic| spis(vnic, Direction::Tx);
    let (others, mut broken) = (sent(pair[1]), 0);
    let look = || {
        broken += usize::from(keys(pair).is_none());
        (sent(pair[0]).is_disjoint(&before) && keys(pair).is_some()).then_some(())
    };
    wait_for("new keys of the other one", look, || controllers[1].status().table());
    assert_eq!((broken, sent(pair[1])), (0, others), "a key that one end had not, or one that was changed in vain");
    controllers[1].wait_converged();
}
