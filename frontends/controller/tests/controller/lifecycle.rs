//! A controller, a real Open vSwitch and real engines: from the first HELLO to everything that comes and goes.

use super::support::{
    controller::{Running, TIMERS, vnic},
    ovs::Ovs,
    vnic::Vnic,
    wait_for,
};
use cvsw_controller::{Mac, status::Status};
use cvsw_core::{
    control::{MessageType, SessionState},
    flow::Action,
};
use std::collections::BTreeSet;

const VM1: &str = "02:00:00:00:01:01";
const VM2: &str = "02:00:00:00:01:02";

fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

fn member(number: u8, extra: &str) -> String {
    format!(
        "[[network.member]]\nname = \"vm{number}\"\nmac = \"02:00:00:00:01:{number:02x}\"\nip = \"10.0.0.{number}\"\n\
         underlay_mac = \"02:00:00:01:00:{number:02x}\"\nunderlay_ip = \"192.0.2.{number}\"\n{extra}\n"
    )
}

fn blue(members: &[String]) -> String {
    let network = "[[network]]\nname = \"blue\"\nvni = 42\ngroup = \"239.1.1.42\"\n";
    format!("{TIMERS}{network}{}", members.concat())
}

fn two_members() -> String {
    blue(&[member(1, "offloads = [\"csum\"]"), member(2, "")])
}

/// SET_ENTRY and DELETE_ENTRY messages.
fn counts(vnic: &Vnic) -> (usize, usize) {
    (vnic.count(MessageType::SetEntry), vnic.count(MessageType::DeleteEntry))
}

/// The state of a vNIC that the configuration may not know yet.
fn vnic_state(status: &Status, mac: &str) -> String {
    status.vnics.iter().find(|vnic| vnic.mac == mac).map(|vnic| vnic.state.clone()).unwrap_or_default()
}

fn switch_with_ports() -> Ovs {
    let ovs = Ovs::start("00000000000000a1");
    ovs.add_port("p1", 1);
    ovs.add_port("p2", 2);
    ovs.connect();
    ovs
}

#[test]
fn vnics_get_their_state_and_the_switch_its_flows() {
    let ovs = switch_with_ports();
    let controller = Running::start(&two_members(), &[&ovs]);
    let one = Vnic::start(&ovs.port_socket("p1"), mac(VM1), true);
    let two = Vnic::start(&ovs.port_socket("p2"), mac(VM2), false);
    let status = controller.wait_converged();

    let mut flows = ovs.flows();
    flows.sort();
    let backstop = "cookie=0x43565357f0000000, priority=65535,dl_type=0xabba actions=CONTROLLER:65535";
    assert_eq!(flows, [backstop, "cookie=0x43565357f1000000, priority=1 actions=NORMAL"]);

    for (vnic, offloads) in [(&one, 1), (&two, 0)] {
        vnic.look(|seen| {
            assert_eq!(seen.state, SessionState::Connected);
            assert_eq!(seen.mtu, Some(1450));
            assert_eq!(seen.offloads, Some(offloads));
            assert_eq!(seen.flows.len(), 5);
        });
    }
    assert_eq!(status.switches.len(), 1);
    assert_eq!(status.switches[0].datapath_id, "00000000000000a1");
    let shown = vnic(&status, VM1);
    assert_eq!((shown.flows, shown.flows_confirmed, shown.mtu_sent), (5, 5, Some(1450)));
    assert_eq!((shown.port, shown.port_name.as_deref()), (Some(1), Some("p1")));
    assert_eq!(one.count(MessageType::SetEntry), 5, "nothing is sent twice");
}

#[test]
fn a_restarted_vnic_gets_everything_again() {
    let ovs = switch_with_ports();
    let controller = Running::start(&blue(&[member(1, "")]), &[&ovs]);
    for announce in [true, false] {
        drop(Vnic::start(&ovs.port_socket("p1"), mac(VM1), announce));
        let one = Vnic::start(&ovs.port_socket("p1"), mac(VM1), announce);
        wait_for(
            "the full state",
            || one.look(|seen| seen.mtu == Some(1450) && seen.flows.len() == 4).then_some(()),
            || controller.status().table(),
        );
        controller.wait_converged();
        assert!(one.count(MessageType::SetEntry) >= 4);
    }
}

#[test]
fn a_restarted_switch_gets_its_flows_and_finds_its_vnics_at_work() {
    let mut ovs = switch_with_ports();
    let controller = Running::start(&two_members(), &[&ovs]);
    let one = Vnic::start(&ovs.port_socket("p1"), mac(VM1), true);
    let _two = Vnic::start(&ovs.port_socket("p2"), mac(VM2), true);
    controller.wait_converged();
    let sent = one.count(MessageType::SetEntry);
    ovs.restart_switch();
    controller.wait("the switch to be gone", |status| status.switches.is_empty());
    controller.wait_converged();
    assert_eq!(ovs.flows().len(), 2);
    assert_eq!(one.count(MessageType::SetEntry), sent, "it had its entries all the time");
}

#[test]
fn a_restarted_controller_finds_the_vnics_at_work() {
    let ovs = switch_with_ports();
    let mut controller = Running::start(&two_members(), &[&ovs]);
    let one = Vnic::start(&ovs.port_socket("p1"), mac(VM1), true);
    let _two = Vnic::start(&ovs.port_socket("p2"), mac(VM2), true);
    controller.wait_converged();
    let sent = one.count(MessageType::SetEntry);
    controller.end();
    controller.write_config(&blue(&[member(1, "offloads = [\"csum\", \"tso\"]"), member(2, ""), member(3, "")]));
    controller.resume();
    let status =
        controller.wait("two vNICs", |status| [VM1, VM2].iter().all(|mac| vnic(status, mac).state == "ready"));
    assert!(!status.converged, "the third member is absent");
    assert_eq!(one.count(MessageType::SetEntry), sent + 1, "only the way to the new member is sent");
    assert_eq!(one.look(|seen| seen.offloads), Some(3));
}

#[test]
fn only_the_differences_of_a_changed_file_are_sent() {
    let ovs = switch_with_ports();
    let controller = Running::start(&two_members(), &[&ovs]);
    let one = Vnic::start(&ovs.port_socket("p1"), mac(VM1), true);
    let two = Vnic::start(&ovs.port_socket("p2"), mac(VM2), true);
    controller.wait_converged();
    let before = counts(&one);
    let other = counts(&two);

    controller.write_config(&blue(&[member(1, "offloads = [\"csum\"]"), member(2, ""), member(3, "")]));
    let added = |status: &Status| status.config.generation == 2 && vnic(status, VM1).flows_confirmed == 6;
    controller.wait("the new member's flow", added);
    assert_eq!(counts(&one), (before.0 + 1, before.1));
    assert_eq!(counts(&two), (other.0 + 1, other.1));

    controller.write_config(&two_members().replace("vni = 42\n", "vni = 42\nmtu = 1400\n"));
    controller.wait("the old flows", |status| status.config.generation == 3 && status.converged);
    assert_eq!(counts(&one), (before.0 + 1, before.1 + 1));
    one.look(|seen| assert_eq!((seen.mtu, seen.flows.len()), (Some(1400), 5)));
}

#[test]
fn a_bad_file_changes_nothing_and_says_what_is_wrong() {
    let ovs = switch_with_ports();
    let controller = Running::start(&two_members(), &[&ovs]);
    let one = Vnic::start(&ovs.port_socket("p1"), mac(VM1), true);
    let _two = Vnic::start(&ovs.port_socket("p2"), mac(VM2), true);
    controller.wait_converged();
    let before = counts(&one);
    controller.write_config(&two_members().replace("vni = 42", "vni = 42000000"));
    let status = controller.wait("the error", |status| status.config.error.is_some());
    let error = status.config.error.clone().unwrap();
    assert!(error.contains("c.toml:8:7") && error.contains("use a number from 1 to 16777215"), "{error}");
    assert!(!status.converged && status.vnics.iter().all(|vnic| vnic.state == "ready"));
    assert_eq!((status.config.generation, counts(&one)), (1, before));
    assert!(status.table().contains("c.toml:8:7"));
    controller.write_config(&two_members());
    let status = controller.wait_converged();
    assert_eq!((status.config.generation, counts(&one)), (2, before));
}

#[test]
fn a_port_takes_its_vnic_with_it_and_brings_it_back() {
    let ovs = switch_with_ports();
    let controller = Running::start(&blue(&[member(1, "")]), &[&ovs]);
    let one = Vnic::start(&ovs.port_socket("p1"), mac(VM1), true);
    controller.wait_converged();
    ovs.remove_port("p1");
    let status = controller.wait("the vNIC to be gone", |status| vnic(status, VM1).state == "absent");
    assert_eq!(status.switches[0].ports.len(), 1);
    let sent = one.count(MessageType::SetEntry);
    ovs.add_port("p1", 7);
    let status = controller.wait_converged();
    assert_eq!(vnic(&status, VM1).port, Some(7));
    assert_eq!(one.count(MessageType::SetEntry), sent, "it had its entries all the time");
}

#[test]
fn lost_frames_and_lost_entries_are_made_good() {
    let ovs = switch_with_ports();
    let controller = Running::start(&blue(&[member(1, "")]), &[&ovs]);
    let one = Vnic::start(&ovs.port_socket("p1"), mac(VM1), false);
    one.fault(|faults| faults.lose = Some(MessageType::SetEntry));
    controller.wait_converged();
    assert_eq!(one.count(MessageType::SetEntry), 4, "the lost one was sent again (and is not counted when lost)");
    one.fault(|faults| faults.clear_table = true);
    wait_for(
        "the entries",
        || (one.count(MessageType::SetEntry) == 8).then_some(()),
        || controller.status().table(),
    );
    controller.wait_converged();
    assert_eq!(one.look(|seen| seen.flows.len()), 4);
}

#[test]
fn an_unknown_vnic_gets_nothing_until_the_file_knows_it() {
    let ovs = switch_with_ports();
    let controller = Running::start(&blue(&[member(1, "")]), &[&ovs]);
    let two = Vnic::start(&ovs.port_socket("p2"), mac(VM2), true);
    let status = controller.wait("the unknown vNIC", |status| !status.unknown.is_empty());
    let unknown = &status.unknown[0];
    assert_eq!((unknown.mac.as_str(), unknown.port, unknown.reason.as_str()), (VM2, 2, "not_in_configuration"));
    two.look(|seen| assert_eq!((seen.state, seen.mtu), (SessionState::Connecting, None)));
    controller.write_config(&two_members());
    let status = controller.wait("the known vNIC", |status| vnic_state(status, VM2) == "ready");
    assert_eq!(status.unknown, []);
    assert_eq!(two.look(|seen| seen.flows.len()), 5);
}

#[test]
fn a_member_that_leaves_the_file_drops_everything() {
    let ovs = switch_with_ports();
    let controller = Running::start(&two_members(), &[&ovs]);
    let one = Vnic::start(&ovs.port_socket("p1"), mac(VM1), true);
    let two = Vnic::start(&ovs.port_socket("p2"), mac(VM2), true);
    controller.wait_converged();
    controller.write_config(&blue(&[member(1, "offloads = [\"csum\"]")]));
    let status = controller.wait("the change", |status| status.config.generation == 2 && status.converged);
    assert_eq!(vnic(&status, VM2).network, None);
    assert_eq!(one.look(|seen| seen.flows.len()), 4);
    two.look(|seen| {
        assert_eq!(seen.flows.len(), 2);
        assert!(seen.flows.iter().all(|flow| flow.actions.is_empty()), "{:?}", seen.flows);
    });
}

#[test]
fn an_address_has_one_holder_until_it_is_silent() {
    let ovs = switch_with_ports();
    let controller = Running::start(&blue(&[member(1, "")]), &[&ovs]);
    let one = Vnic::start(&ovs.port_socket("p1"), mac(VM1), true);
    controller.wait_converged();
    let twin = Vnic::start(&ovs.port_socket("p2"), mac(VM1), true);
    let status = controller.wait("the conflict", |status| !status.unknown.is_empty());
    assert_eq!(status.unknown[0].reason, "address_in_use");
    assert_eq!(vnic(&status, VM1).port, Some(1));
    // The holder answers the question whether it is there, more than once.
    let listed = one.count(MessageType::ListEntries);
    wait_for("two answers", || (one.count(MessageType::ListEntries) > listed + 2).then_some(()), String::new);
    assert_eq!(vnic(&controller.status(), VM1).port, Some(1));
    assert_eq!(twin.look(|seen| seen.flows.len()), 0);
    one.fault(|faults| faults.mute = true);
    let status = controller.wait("the move", |status| vnic(status, VM1).port == Some(2) && status.converged);
    assert_eq!(status.unknown, []);
    assert_eq!(twin.look(|seen| seen.flows.len()), 4);
}

#[test]
fn control_frames_do_not_go_from_vm_to_vm() {
    let ovs = switch_with_ports();
    let controller = Running::start(&two_members(), &[&ovs]);
    let one = Vnic::start(&ovs.port_socket("p1"), mac(VM1), true);
    let two = Vnic::start(&ovs.port_socket("p2"), mac(VM2), true);
    controller.wait_converged();
    // SET_MTU 68 to the neighbour, to everybody, with a VLAN tag around it; then a frame that must arrive.
    let forged = |dst: [u8; 6]| [&dst[..], &[0x25, 0, 0, 0, 0, 68, 0xab, 0xba], &[0; 46]].concat();
    let tagged = [&mac(VM2).0[..], &[2, 0, 0, 0, 1, 1, 0x81, 0, 0, 0, 0xab, 0xba], &[0; 42]].concat();
    let marker = [&mac(VM2).0[..], &[2, 0, 0, 0, 1, 1, 0x88, 0xb6], &[7; 46]].concat();
    let frames = vec![forged(mac(VM2).0), forged([0xff; 6]), tagged.clone(), marker.clone()];
    one.fault(|faults| faults.inject = frames.clone());
    let arrived = || two.look(|seen| seen.frames.contains(&marker)).then_some(());
    wait_for("the ordinary frame, which was sent last", arrived, || controller.status().table());
    for frame in &frames[..3] {
        assert!(!two.look(|seen| seen.frames.contains(frame)), "{frame:02x?}");
    }
    // The switch gave all three to the controller instead.
    let status = controller.wait("the refused frames", |status| {
        let bad = &status.counters["bad_control"];
        bad["type"] == 1 && bad["address"] == 1 && bad["other_ethertype"] == 1
    });
    assert!(status.converged && two.look(|seen| seen.mtu) == Some(1450));
}

#[test]
fn stale_entries_of_an_earlier_controller_go_and_others_stay() {
    let ovs = switch_with_ports();
    let flows = [
        "cookie=0x43565357f0000000,priority=65535,dl_type=0x88b5,actions=CONTROLLER:65535",
        "cookie=0x43565357f1000000,priority=7,actions=NORMAL",
        "cookie=0x1,priority=9,dl_type=0x88b6,actions=CONTROLLER:65535",
    ];
    for flow in flows {
        ovs.ofctl("add-flow", &[flow]);
    }
    let _controller = Running::start(&two_members(), &[&ovs]);
    let expected = [
        "cookie=0x1, priority=9,dl_type=0x88b6 actions=CONTROLLER:65535",
        "cookie=0x43565357f0000000, priority=65535,dl_type=0xabba actions=CONTROLLER:65535",
        "cookie=0x43565357f1000000, priority=1 actions=NORMAL",
    ];
    let good =
        |flows: &Vec<String>| flows.len() == 3 && expected.iter().all(|flow| flows.iter().any(|f| f == flow));
    wait_for("the stale flows to go", || Some(ovs.flows()).filter(good), || ovs.flows().join("\n"));
}

#[test]
fn a_vnic_moves_to_another_switch() {
    let (a, b) = (switch_with_ports(), Ovs::start("00000000000000b2"));
    b.add_port("p1", 1);
    b.connect();
    let controller = Running::start(&blue(&[member(1, "")]), &[&a, &b]);
    let old = Vnic::start(&a.port_socket("p1"), mac(VM1), true);
    controller.wait_converged();
    let new = Vnic::start(&b.port_socket("p1"), mac(VM1), true);
    controller.wait("the second one", |status| !status.unknown.is_empty());
    drop(old);
    a.remove_port("p1");
    let there = |status: &Status| vnic(status, VM1).switch.as_deref() == Some("00000000000000b2");
    controller.wait("the move", |status| there(status) && status.converged);
    assert_eq!(new.look(|seen| seen.flows.len()), 4);
}

/// The outer destinations that a vNIC's table has.
fn outer_destinations(nic: &Vnic) -> BTreeSet<[u8; 4]> {
    let of = |action: &Action| match action {
        Action::SetVxlan(tunnel) => Some(tunnel.dst),
        _ => None,
    };
    nic.look(|seen| seen.flows.iter().flat_map(|flow| flow.actions.iter().filter_map(of)).collect())
}

#[test]
fn the_peers_of_a_vnic_that_moves_follow_its_outer_address() {
    let (a, b) = (switch_with_ports(), Ovs::start("00000000000000b4"));
    b.add_port("p1", 1);
    b.connect();
    let controller = Running::start(&two_members(), &[&a, &b]);
    let one = Vnic::start(&a.port_socket("p1"), mac(VM1), true);
    let old = Vnic::start(&a.port_socket("p2"), mac(VM2), true);
    controller.wait_converged();
    assert!(outer_destinations(&one).contains(&[192, 0, 2, 2]));
    let begun = one.count(MessageType::Hello);

    // The VM starts on the other server, and is told to be at an address of that server's network.
    drop(old);
    a.remove_port("p2");
    let new = Vnic::start(&b.port_socket("p1"), mac(VM2), true);
    controller.write_config(&two_members().replace("\"192.0.2.2\"", "\"198.51.100.2\""));
    let there = |status: &Status| vnic(status, VM2).switch.as_deref() == Some("00000000000000b4");
    controller.wait("the move", |status| there(status) && status.converged && status.config.generation == 2);
    let [peer, moved] = [&one, &new].map(outer_destinations);
    assert!(peer.contains(&[198, 51, 100, 2]) && !peer.contains(&[192, 0, 2, 2]), "{peer:?}");
    assert!(moved.contains(&[192, 0, 2, 1]), "{moved:?}");
    assert_eq!(one.count(MessageType::Hello), begun, "the peer was not disturbed otherwise");
}

#[test]
fn tcp_works_as_well() {
    let ovs = Ovs::start("00000000000000c3");
    ovs.add_port("p1", 1);
    let controller = Running::listening(&blue(&[member(1, "")]), vec!["tcp:127.0.0.1:0".parse().unwrap()]);
    ovs.set_controller(&controller.addresses()[0].to_string());
    let _one = Vnic::start(&ovs.port_socket("p1"), mac(VM1), true);
    controller.wait_converged();
}
