//! The controller against switches and engines in memory, with a clock of its own: time-outs, losses, storms, and
//! whatever else happens in the wrong order.

use std::time::Duration;

use super::support::world::{Nic, STEP, World};
use cvsw_controller::{Mac, derive};
use cvsw_core::{
    Instant,
    control::MessageType,
    flow::{Command, FlowMod},
    openflow::{ErrorMessage, Message, PacketIn},
};

pub(super) fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, number])
}

/// A configuration with these members in one network, each with an extra flow to this port if it is not 0.
pub(super) fn config(members: &[u8], extra: u16, mtu: u16) -> String {
    let mut text = format!("[[network]]\nname = \"blue\"\nvni = 42\ngroup = \"239.1.1.42\"\nmtu = {mtu}\n");
    for number in members {
        let flow = format!("\"priority=50000,in_port=HOST,udp,tp_dst={extra},actions=drop\"");
        let flows = if extra == 0 { String::new() } else { flow };
        text += &format!(
            "[[network.member]]\nname = \"vm{number}\"\nmac = \"{}\"\nip = \"10.0.0.{number}\"\nunderlay_mac = \
             \"02:00:00:01:00:{number:02x}\"\nunderlay_ip = \"192.0.2.{number}\"\nflows = [{flows}]\n",
            mac(*number)
        );
    }
    text
}

pub(super) const SOON: Duration = Duration::from_secs(5);
pub(super) const LONG: Duration = Duration::from_secs(600);

#[test]
fn the_handshake_comes_in_the_right_order_and_once() {
    let mut world = World::new(&config(&[1], 0, 1450), 1);
    let switch = world.add_switch(7, 2);
    world.plug(switch, 1, Nic::new(mac(1)));
    world.run_until_converged(SOON);
    let got = &world.switches[switch].got;
    for (message, count) in [("HELLO", 1), ("FEATURES_REQUEST", 1), ("SET_CONFIG", 1), ("FLOW_MOD", 2)] {
        assert_eq!(got.get(message), Some(&count), "{message}: {got:?}");
    }
    let wanted = derive::switch_flows(world.controller.config());
    assert_eq!(world.switches[switch].flows, wanted);
    world.check_ready_vnics();
}

#[test]
fn only_what_is_owned_is_managed_and_only_while_the_lease_lasts() {
    let mut world = World::new(&config(&[1], 0, 1450), 1);
    world.controller.stand_by(100);
    let switch = world.add_switch(7, 1);
    world.plug(switch, 1, Nic::new(mac(1)));
    world.run(SOON);
    let sent = |world: &World, what| world.switches[switch].got.get(what).copied().unwrap_or(0);
    assert_eq!((sent(&world, "VENDOR"), sent(&world, "FLOW_MOD"), sent(&world, "PACKET_OUT")), (1, 0, 0));
    assert_eq!(world.controller.datapaths().into_iter().collect::<Vec<_>>(), [7]);

    world.controller.own(world.now, 7, 5);
    assert!(world.controller.owned().is_empty(), "there is no lease");
    world.controller.lease_lasts(world.now + LONG);
    world.controller.own(world.now, 7, 5);
    world.run_until_converged(SOON);
    world.check_ready_vnics();
    assert_eq!((sent(&world, "VENDOR"), sent(&world, "FLOW_MOD")), (2, 2));
    assert_eq!(world.controller.epoch(), 105);
    world.run(LONG);
    assert!(world.controller.owned().is_empty(), "nobody has renewed the lease");
    assert_eq!((world.status().vnics[0].state.as_str(), sent(&world, "VENDOR")), ("absent", 3));
    assert!(world.switches[switch].connection.is_some(), "it stays connected");

    // Whoever goes on after he was stopped knows it before he does anything else.
    world.controller.lease_lasts(world.now + SOON);
    world.controller.own(world.now, 7, 9);
    world.run_until_converged(SOON);
    let before = sent(&world, "PACKET_OUT");
    world.now += LONG;
    world.reconfigure(&config(&[1], 9, 1300)).unwrap();
    world.send_frame(switch, 1, &[&mac(1).0[..], &[0x22, 0, 0, 0, 0, 0, 0xab, 0xba]].concat());
    world.run(SOON);
    assert_eq!(sent(&world, "PACKET_OUT"), before);

    world.controller.lease_lasts(world.now + LONG);
    world.controller.own(world.now, 7, 12);
    world.run_until_converged(SOON);
    world.controller.disown(world.now, 7);
    assert_eq!(world.status().vnics[0].state, "absent");
}

#[test]
fn a_large_change_comes_no_faster_than_a_switch_is_to_be_given_messages() {
    const RATE: usize = 40;
    let members: Vec<u8> = (1..=8).collect();
    let limited = |extra| format!("control_rate = {RATE}\n{}", config(&members, extra, 1450));
    let mut world = World::new(&limited(0), 1);
    let switch = world.add_switch(7, 8);
    for number in &members {
        world.plug(switch, u16::from(*number), Nic::new(mac(*number)));
    }
    let sent = |world: &World| world.switches[switch].got.get("PACKET_OUT").copied().unwrap_or(0);
    let (mut before, mut most, mut shown) = (0, 0, false);
    let start = world.now;
    while !world.status().converged {
        assert!(world.now - start < LONG, "{}", world.status().table());
        for _ in 0..20 {
            world.run(STEP);
            shown |= world.status().table().contains("up, limited");
        }
        most = most.max(sent(&world) - before);
        before = sent(&world);
    }
    world.check_ready_vnics();
    // What is begun is finished: the messages of one vNIC, and the HELLOs of the ports, come on top.
    assert!(most <= 2 * RATE, "{most} in a second");
    assert!(shown, "people see why it takes long");

    // Without the limit it is a matter of a moment.
    world.reconfigure(&config(&members, 9, 1450)).unwrap();
    world.run_until_converged(SOON);
    world.check_ready_vnics();
    assert!(!world.status().switches[0].limited);
}

#[test]
fn nobody_is_taken_for_silent_who_waits_behind_others() {
    let members: Vec<u8> = (1..=40).collect();
    let mut world = World::new(&config(&members, 0, 1450), 1);
    let switch = world.add_switch(7, 40);
    for number in members {
        world.plug(switch, number.into(), Nic::new(mac(number)));
    }
    // 600 a second; all at once would take three times as long as an answer may.
    let messages = world.run_at_pace(30, LONG);
    assert!(messages > 40 * 45, "{messages}");
}

#[test]
fn nobody_is_forgotten_whose_switch_is_to_be_given_nothing_when_there_is_a_turn() {
    let members: Vec<u8> = (1..=40).collect();
    let mut world = World::new(&format!("control_rate = 300\n{}", config(&members, 0, 1450)), 1);
    for (datapath_id, members) in (7..).zip(members.chunks(4)) {
        let switch = world.add_switch(datapath_id, 4);
        for (port, number) in (1..).zip(members) {
            world.plug(switch, port, Nic::new(mac(*number)));
        }
    }
    // Every switch is slow, so that the window is full, and a second vNIC's batch is more than its switch may be given then.
    let messages = world.run_at_pace(10, Duration::from_secs(60));
    assert!(messages > 40 * 45, "{messages}");
}

#[test]
fn a_switch_without_vnics_is_not_flooded() {
    let mut world = World::new(&config(&[1], 0, 1450), 1);
    let switch = world.add_switch(7, 4);
    world.run(Duration::from_secs(60));
    let sent = world.switches[switch].got["PACKET_OUT"];
    // Every two seconds on each of four ports.
    assert!((100..=132).contains(&sent), "{sent}");
}

#[test]
fn another_switch_that_passes_hellos_on_causes_no_storm() {
    let mut world = World::new(&config(&[], 0, 1450), 1);
    let switch = world.add_switch(7, 2);
    let hello = [[0xff; 6].as_slice(), &[0x21, 0, 0, 0, 0, 0, 0xab, 0xba]].concat();
    for _ in 0..600 {
        world.send_frame(switch, 1, &hello);
        world.run(Duration::from_millis(100));
    }
    let sent = world.switches[switch].got["PACKET_OUT"];
    assert!(sent < 80, "{sent} in 60 s on two ports");
}

#[test]
fn a_vnic_that_does_not_answer_is_shown_with_its_age_and_asked_ever_less_often() {
    let mut world = World::new(&config(&[1], 0, 1450), 1);
    let switch = world.add_switch(7, 1);
    world.plug(switch, 1, Nic::new(mac(1)));
    world.run_until_converged(SOON);
    world.switches[switch].ports.insert(1, None);
    let first = world.sent_in(mac(1), Duration::from_secs(60));
    let vnic = world.status().vnics.remove(0);
    assert_eq!((vnic.state.as_str(), vnic.last_contact_seconds.unwrap() > 30.0), ("silent", true));
    assert!(vnic.errors.iter().any(|error| error.contains("does not answer")), "{:?}", vnic.errors);
    // A question and a HELLO in half a minute, and not less often.
    let later = world.sent_in(mac(1), Duration::from_secs(300));
    assert!(
        (16..=20).contains(&later) && first > later / 5,
        "{first} in the first minute, {later} in five later ones"
    );
    world.plug(switch, 1, Nic::new(mac(1)));
    world.run_until_converged(Duration::from_secs(60));
}

#[test]
fn a_vnic_that_registers_all_the_time_gets_its_state_once_a_second() {
    let mut world = World::new(&config(&[1], 0, 1450), 1);
    let switch = world.add_switch(7, 1);
    world.plug(switch, 1, Nic::new(mac(1)));
    world.run_until_converged(SOON);
    let before = world.count(mac(1), MessageType::SetEntry);
    let register = [&mac(1).0[..], &[0x22, 0, 0, 0, 0, 0, 0xab, 0xba]].concat();
    for _ in 0..1000 {
        world.send_frame(switch, 1, &register);
        world.run(Duration::from_millis(50));
    }
    let sent = world.count(mac(1), MessageType::SetEntry) - before;
    assert!(sent <= 51 * 4, "{sent} entries in 50 s");
    world.run_until_converged(SOON);
}

#[test]
fn an_entry_that_times_out_stays_away_until_its_vnic_begins_anew() {
    let timed = config(&[1], 9, 1450).replace("tp_dst=9,", "tp_dst=9,hard_timeout=20,");
    let mut world = World::new(&timed, 1);
    let switch = world.add_switch(7, 1);
    world.plug(switch, 1, Nic::new(mac(1)));
    world.run_until_converged(SOON);
    let all = world.nic(switch, 1).engine.flow_count();
    world.check_ready_vnics();
    let sent = world.count(mac(1), MessageType::SetEntry);

    world.run(Duration::from_secs(21));
    assert_eq!(world.nic(switch, 1).engine.flow_count(), all - 1, "its time is up");
    let status = world.status();
    let vnic = &status.vnics[0];
    assert_eq!((vnic.flows, vnic.flows_confirmed, vnic.flows_expired), (all, all - 1, 1));
    assert_eq!((vnic.state.as_str(), status.converged), ("ready", true), "that is how it was wanted");
    world.run(LONG);
    assert_eq!(world.count(mac(1), MessageType::SetEntry), sent, "nothing is sent again");
    assert!(world.status().vnics[0].errors.is_empty());

    // Another entry in its place is another matter, and so is a vNIC that has nothing.
    world.reconfigure(&timed.replace("hard_timeout=20", "hard_timeout=30")).unwrap();
    world.run_until_converged(SOON);
    assert_eq!(world.nic(switch, 1).engine.flow_count(), all);
    world.run(Duration::from_secs(31));
    assert_eq!(world.nic(switch, 1).engine.flow_count(), all - 1);
    world.restart(switch, 1);
    world.run_until_converged(SOON);
    assert_eq!(world.nic(switch, 1).engine.flow_count(), all);
}

#[test]
fn a_silent_switch_is_given_up_and_its_vnics_with_it() {
    let mut world = World::new(&config(&[1], 0, 1450), 1);
    let switch = world.add_switch(7, 1);
    world.plug(switch, 1, Nic::new(mac(1)));
    world.run_until_converged(SOON);
    world.run(Duration::from_secs(60));
    assert!(world.status().converged, "echo keeps the connection");
    world.switches[switch].alive = false;
    world.run(Duration::from_secs(11));
    assert_eq!(world.closed, ["the switch does not answer ECHO_REQUEST"]);
    assert_eq!(world.status().vnics[0].state, "absent");
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let mut world = World::new(&config(&[1], 0, 1450), 1);
    let switch = world.add_switch(7, 1);
    world.switches[switch].alive = false;
    world.run(Duration::from_secs(11));
    assert_eq!(world.closed, ["the OpenFlow handshake was not completed in time"]);
}

#[test]
fn a_live_switch_is_not_evicted_by_another_with_its_datapath_id() {
    let mut world = World::new(&config(&[1], 0, 1450), 1);
    let switch = world.add_switch(7, 1);
    world.plug(switch, 1, Nic::new(mac(1)));
    world.run_until_converged(SOON);
    let impostor = world.add_switch(7, 1);
    world.run(SOON);
    assert_eq!(world.switches[impostor].connection, None);
    assert!(world.closed[0].contains("0000000000000007"), "{:?}", world.closed);
    assert!(world.status().converged);
    // A switch that was restarted without a goodbye is in the same place, but nobody answers for the old one.
    world.switches[switch].alive = false;
    world.connect(impostor);
    world.run(Duration::from_secs(3));
    world.connect(impostor);
    world.run(Duration::from_secs(1));
    assert!(world.switches[impostor].connection.is_some(), "{:?}", world.closed);
}

#[test]
fn a_switch_that_ignores_barriers_does_not_stop_the_push() {
    let mut world = World::new(&config(&[1], 0, 1450), 1);
    let switch = world.add_switch(7, 1);
    world.switches[switch].barriers = false;
    world.plug(switch, 1, Nic::new(mac(1)));
    world.run_until_converged(Duration::from_secs(60));
    assert!(world.status().vnics[0].errors[0].contains("BARRIER_REQUEST"));
}

#[test]
fn an_error_names_the_message_that_caused_it() {
    let mut world = World::new(&config(&[1], 0, 1450), 1);
    let switch = world.add_switch(7, 1);
    world.switches[switch].barriers = false;
    world.plug(switch, 1, Nic::new(mac(1)));
    world.settle();
    // HELLO, FEATURES_REQUEST, SET_CONFIG, two FLOW_MODs, two STATS_REQUESTs, a barrier, HELLO on port 1, then SET_MTU.
    let error = ErrorMessage { kind: 2, code: 4, data: &[] };
    world.send(switch, 10, &Message::Error(error));
    world.send(switch, 99_999, &Message::Error(ErrorMessage { kind: 3, code: 0, data: &[] }));
    let status = world.status();
    let expected = "the switch refused PACKET_OUT (SET_MTU to 02:00:00:00:01:01 on port 1) (xid 10): OFPBAC_BAD_OUT_PORT (type 2, code 4)";
    assert_eq!(status.vnics[0].errors, [expected]);
    assert_eq!(status.switches[0].errors[0], expected);
    assert!(status.switches[0].errors[1].contains("an unknown message (xid 99999): OFPFMFC_ALL_TABLES_FULL"));
    assert!(status.table().contains(expected));
}

#[test]
fn a_vnic_with_too_small_a_table_is_shown_as_diverged() {
    let members: Vec<u8> = (1..=80).collect();
    let mut world = World::new(&config(&members, 0, 1450), 1);
    let switch = world.add_switch(7, 1);
    world.plug(switch, 1, Nic::new(mac(1)));
    world.run(Duration::from_secs(10));
    let status = world.status();
    assert_eq!((status.vnics[0].state.as_str(), status.vnics[0].flows), ("diverged", 83));
    assert!(status.vnics[0].flows_confirmed <= 64);
    assert!(status.vnics[0].errors[0].contains("still differs"), "{:?}", status.vnics[0].errors);
    let before = world.count(mac(1), MessageType::SetEntry);
    world.run(Duration::from_secs(300));
    let sent = world.count(mac(1), MessageType::SetEntry) - before;
    assert!(sent < 20 * 30, "ever less often: {sent}");
}

#[test]
fn the_ethertype_cannot_change_under_way() {
    let mut world = World::new(&config(&[1], 0, 1450), 1);
    let error = world.reconfigure(&format!("ethertype = 0x88b5\n{}", config(&[1], 0, 1450))).unwrap_err();
    assert!(error.contains("0xabba") && error.contains("0x88b5"), "{error}");
    assert_eq!(world.controller.config().ethertype, 0xabba);
}

#[test]
fn too_many_unknown_vnics_are_counted_not_kept() {
    let mut world = World::new(&config(&[], 0, 1450), 1);
    let switch = world.add_switch(7, 1);
    world.settle();
    for number in 0..100 {
        let register = [&mac(number).0[..], &[0x22, 0, 0, 0, 0, 0, 0xab, 0xba]].concat();
        world.send_frame(switch, 1, &register);
    }
    let status = world.status();
    assert_eq!(status.unknown.len(), 16);
    assert_eq!(status.counters["claims_refused"], 84);
    world.unplug(switch, 1);
    assert_eq!(world.status().unknown, []);
}

#[test]
fn bad_control_frames_are_counted_by_reason() {
    let mut world = World::new(&config(&[1], 0, 1450), 1);
    let switch = world.add_switch(7, 1);
    world.settle();
    let frame =
        |kind: u8, len: u8, body: &[u8]| [&mac(1).0[..], &[kind, 0, 0, len, 0, 0, 0xab, 0xba], body].concat();
    let frames = [
        ("length", frame(0x22, 9, &[])),
        ("length", frame(0x22, 4, &[0; 4])),
        ("type", frame(0x29, 0, &[])),
        ("type", frame(0x25, 0, &[])),
        ("version", frame(0x32, 0, &[])),
        ("flow_mod", frame(0x27, 8, &[1, 14, 0, 8, 0, 0, 0, 0])),
        ("other_ethertype", vec![0; 60]),
        ("other_ethertype", vec![]),
        ("address", [&[0xff; 6][..], &[0x22, 0, 0, 0, 0, 0, 0xab, 0xba]].concat()),
    ];
    for (_, frame) in &frames {
        world.send_frame(switch, 1, frame);
    }
    let part = PacketIn { buffer_id: Some(1), total_len: 61, in_port: 1, reason: 0, data: &frame(0x22, 0, &[]) };
    world.send(switch, 0, &Message::PacketIn(part));
    let counted = world.controller.counters().bad_control.clone();
    assert_eq!(counted.get("truncated"), Some(&1));
    for (reason, _) in &frames {
        let expected = frames.iter().filter(|(other, _)| other == reason).count() as u64;
        assert_eq!(counted.get(reason), Some(&expected), "{reason}: {counted:?}");
    }
    assert_eq!(world.status().vnics[0].state, "absent");
}

#[test]
fn a_restarted_vnic_gets_its_parameters_at_once() {
    let mut world = World::new(&config(&[1], 0, 1450), 1);
    let switch = world.add_switch(7, 1);
    world.plug(switch, 1, Nic::new(mac(1)));
    world.run_until_converged(SOON);
    world.run(SOON);
    world.restart(switch, 1);
    world.run(Duration::from_millis(100));
    assert_eq!(world.nic(switch, 1).mtu, Some(1450));
    assert!(world.status().converged);
    world.check_ready_vnics();
}

pub(super) fn clear_table(world: &mut World, port: u16) {
    if let Some(Some(nic)) = world.switches[0].ports.get_mut(&port) {
        let all = FlowMod { command: Command::Delete, ..FlowMod::default() };
        nic.engine.flow_mod(Instant::ZERO, &all).unwrap();
    }
}

#[test]
fn entries_that_are_lost_come_back_with_the_first_keepalive() {
    let mut world = World::new(&config(&[1], 0, 1450), 1);
    let switch = world.add_switch(7, 1);
    world.plug(switch, 1, Nic::new(mac(1)));
    world.run_until_converged(SOON);
    clear_table(&mut world, 1);
    world.run(Duration::from_secs(31));
    assert_eq!(world.nic(switch, 1).engine.flow_count(), 4);
}

#[test]
fn a_port_that_comes_up_is_looked_at_once() {
    let mut world = World::new(&config(&[1], 0, 1450), 1);
    let switch = world.add_switch(7, 1);
    world.settle();
    world.link(switch, 1, false);
    world.run(Duration::from_millis(2400));
    *world.switches[switch].ports.get_mut(&1).unwrap() = Some(Nic::new(mac(1)));
    world.link(switch, 1, true);
    world.settle();
    assert!(world.status().converged);
}

#[test]
fn the_second_vnic_with_an_address_takes_over_when_the_first_ones_port_goes() {
    let mut world = World::new(&config(&[1], 0, 1450), 1);
    let switch = world.add_switch(7, 2);
    world.plug(switch, 1, Nic::new(mac(1)));
    world.run_until_converged(SOON);
    world.plug(switch, 2, Nic::new(mac(1)));
    world.run(SOON);
    assert_eq!((world.status().vnics[0].port, world.status().unknown.len()), (Some(1), 1));
    world.unplug(switch, 1);
    world.settle();
    assert_eq!((world.status().vnics[0].port, world.status().unknown.len()), (Some(2), 0));
    assert!(world.status().converged);
    world.check_ready_vnics();
}
