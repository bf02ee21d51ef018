//! Version 3 of the control protocol against switches and engines in memory: losses, forgeries, moves, takeovers.

use std::{fmt::Write as _, fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use super::support::world::{Nic, World};
use cvsw_controller::{
    Mac,
    config::Config,
    events::{Reporter, What},
    state::SESSION_BITS,
    status::Status,
};
use cvsw_core::{
    DropReason, Frame, Instant, Verdict,
    control::{
        MessageType, OffloadFlags,
        v3::{ControlKeys, Kind, Message},
    },
    flow::{Direction, text::parse_flow},
};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(600);

fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, number])
}

fn keys(number: u8) -> ControlKeys {
    ControlKeys::derive(&[number; 16])
}

/// A folder with the keys of these vNICs.
fn key_folder(numbers: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in numbers {
        let path = folder.path().join(format!("{}.key", mac(*number)));
        fs::write(&path, format!("{number:02x}").repeat(16)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    folder
}

fn config(top: &str, network: &str, members: &[u8], extra: &str) -> String {
    let mut text = format!("{top}\n[[network]]\nname = \"blue\"\nvni = 42\ngroup = \"239.1.1.42\"\n{network}\n");
    for number in members {
        write!(
            text,
            "[[network.member]]\nname = \"vm{number}\"\nmac = \"{}\"\nip = \"10.0.0.{number}\"\nunderlay_mac = \
             \"02:00:00:01:00:{number:02x}\"\nunderlay_ip = \"192.0.2.{number}\"\nflows = [{extra}]\n",
            mac(*number)
        )
        .unwrap();
    }
    text
}

/// The line of a configuration that names the folder.
fn with_keys(folder: &TempDir) -> String {
    format!("control_keys = {:?}", folder.path())
}

/// Two vNICs with keys on one switch.
struct Pair {
    world: World,
    folder: TempDir,
    switch: usize,
}

impl Pair {
    fn new(network: &str, loss: u64) -> Self {
        let folder = key_folder(&[1, 2]);
        let mut world = World::new(&config(&with_keys(&folder), network, &[1, 2], ""), 3);
        world.loss = loss;
        let switch = world.add_switch(7, 4);
        for number in [1, 2] {
            world.plug(switch, number.into(), Nic::of_version_3(mac(number), number.into(), keys(number)));
            world.announce(switch, number.into());
        }
        Self { world, folder, switch }
    }

    fn reconfigure(&mut self, extra: &str) {
        let text = config(&with_keys(&self.folder), "", &[1, 2], extra);
        self.world.reconfigure(&text).unwrap();
    }
}

fn shown(status: &Status, number: u8) -> &cvsw_controller::status::VnicStatus {
    status.vnics.iter().find(|vnic| vnic.mac == mac(number).to_string()).unwrap()
}

fn reasons(status: &Status) -> Vec<(u16, &str)> {
    status.refused.iter().map(|refused| (refused.port, refused.reason.as_str())).collect()
}

#[test]
fn the_time_that_a_large_change_takes_is_not_taken_for_that_of_the_vnics() {
    let numbers: Vec<u8> = (1..=70).collect();
    let folder = key_folder(&numbers);
    let (blue, red) = numbers.split_at(35);
    let networks = |mtu: u16| {
        let network = format!("mtu = {mtu}");
        let other = config("", &network, red, "").replace("blue", "red").replace("= 42", "= 43");
        config(&with_keys(&folder), &network, blue, "") + &other.replace("239.1.1.42", "239.1.1.43")
    };
    let mut world = World::new(&networks(1400), 3);
    let switch = world.add_switch(7, 70);
    for number in 1..=70 {
        world.plug(switch, number.into(), Nic::of_version_3(mac(number), number.into(), keys(number)));
        world.announce(switch, number.into());
    }
    world.run_until_converged(SOON);
    world.reconfigure(&networks(1300)).unwrap();
    // On a busy machine, with many more of them.
    world.now += Duration::from_secs(3);
    world.run(SOON);
    world.check_ready_vnics();
    assert_eq!(world.controller.repeated(), 0, "nothing was lost");
}

#[test]
fn vnics_with_keys_get_their_state_once() {
    let mut pair = Pair::new("", 0);
    pair.world.run_until_converged(SOON);
    pair.world.run(Duration::from_secs(90));
    pair.world.check_ready_vnics();
    let status = pair.world.status();
    for number in [1, 2] {
        let vnic = shown(&status, number);
        assert_eq!((vnic.protocol, vnic.authenticated, vnic.errors.len()), (Some(3), true, 0), "{vnic:?}");
        assert_eq!((vnic.flows, vnic.flows_confirmed), (5, 5));
        assert_eq!(pair.world.count(mac(number), MessageType::SetEntry), 5, "each is sent once");
        assert_eq!(pair.world.count(mac(number), MessageType::ListEntries), 0, "digests are enough");
        let nic = pair.world.nic(pair.switch, number.into());
        assert_eq!(nic.engine.stats().control_duplicates, 0);
        assert_eq!(nic.engine.control_status().executed, 7);
    }
    assert_eq!(reasons(&status), []);
}

#[test]
fn what_a_vnic_cannot_do_is_known_to_the_controller() {
    let folder = key_folder(&[1]);
    let text =
        config(&with_keys(&folder), "", &[1], "").replace("flows =", "offloads = [\"csum\", \"ufo\"]\nflows =");
    let mut world = World::new(&text, 3);
    let switch = world.add_switch(7, 4);
    world.plug(switch, 1, Nic::of_version_3(mac(1), 1, keys(1)));
    world.announce(switch, 1);
    world.run_until_converged(LONG);
    // Its kernel has no UDP segmentation offload.
    let nic = world.switches[switch].ports.get_mut(&1).unwrap().as_mut().unwrap();
    nic.engine.set_offload_in_force(OffloadFlags(OffloadFlags::CSUM));
    world.run(Duration::from_secs(90));
    let status = world.status();
    let vnic = shown(&status, 1);
    assert_eq!(vnic.offloads_effective.as_deref(), Some(&["csum".to_owned()][..]));
    assert!(vnic.offloads_refused.keys().eq(["ufo"]), "{:?}", vnic.offloads_refused);
    assert!(status.converged, "it has all that it can have");
}

#[test]
fn counters_come_now_and_then_and_quickly_while_somebody_looks() {
    let mut pair = Pair::new("", 10);
    pair.world.run_until_converged(LONG);
    let count = |pair: &Pair| {
        let status = pair.world.status();
        let counters = shown(&status, 1).counters.clone();
        counters.map_or(0, |counters| counters.drops.get("rx_policy").copied().unwrap_or(0))
    };
    let isolated = |pair: &mut Pair| {
        let mut frame = Frame::new(vec![0xff; 200], 100, 60).unwrap();
        let nic = pair.world.switches[pair.switch].ports.get_mut(&1).unwrap().as_mut().unwrap();
        let verdict = nic.engine.process(Instant::ZERO, Direction::Rx, &mut frame);
        assert_eq!(verdict, Verdict::Drop(DropReason::Policy));
    };
    isolated(&mut pair);
    pair.world.run(Duration::from_secs(90));
    assert_eq!(count(&pair), 1);
    let status = pair.world.status();
    let vnic = shown(&status, 1);
    assert_eq!((vnic.mtu_effective, vnic.offloads_effective.as_deref()), (vnic.mtu, Some(&[][..])));
    assert!(vnic.counters.as_ref().unwrap().others["control_accepted"] > 0);

    isolated(&mut pair);
    for _ in 0..10 {
        let now = pair.world.now;
        pair.world.controller.watch(now, mac(1));
        pair.world.run(Duration::from_secs(1));
    }
    assert_eq!(count(&pair), 2, "not after half a minute");
    let drops: Vec<_> = pair.world.controller.counters().drops.iter().collect();
    assert_eq!(drops, [("rx", "policy", 2)], "each is added once");
    assert!(pair.world.status().converged);
}

#[test]
fn losses_only_cost_time() {
    let mut pair = Pair::new("", 30);
    pair.world.run_until_converged(LONG);
    pair.reconfigure("\"priority=50000,in_port=HOST,udp,tp_dst=9,actions=drop\"");
    pair.world.run_until_converged(LONG);
    pair.world.check_ready_vnics();
    assert_eq!(pair.world.nic(pair.switch, 1).engine.flow_count(), 6);
}

#[test]
fn only_differences_are_sent() {
    let mut pair = Pair::new("", 0);
    pair.world.run_until_converged(SOON);
    pair.reconfigure("\"priority=50000,in_port=HOST,udp,tp_dst=9,actions=drop\"");
    pair.world.run_until_converged(SOON);
    pair.reconfigure("");
    pair.world.run_until_converged(SOON);
    pair.world.check_ready_vnics();
    for number in [1, 2] {
        assert_eq!(pair.world.count(mac(number), MessageType::SetEntry), 6);
        assert_eq!(pair.world.count(mac(number), MessageType::DeleteEntry), 1);
    }
}

/// Somebody changes a table behind the controller's back: the next look at the digest finds it.
#[test]
fn a_table_that_was_changed_is_made_good() {
    let mut pair = Pair::new("", 0);
    pair.world.run_until_converged(SOON);
    let nic = pair.world.switches[pair.switch].ports.get_mut(&1).and_then(Option::as_mut).unwrap();
    nic.engine.flow_mod(Instant::ZERO, &parse_flow("priority=7,arp,actions=drop").unwrap()).unwrap();
    let first = nic.engine.flows().find(|entry| entry.flow.priority == 30_000).unwrap().flow;
    let removal = cvsw_core::flow::FlowMod { command: cvsw_core::flow::Command::DeleteStrict, ..first };
    nic.engine.flow_mod(Instant::ZERO, &removal).unwrap();
    pair.world.run(Duration::from_secs(40));
    pair.world.check_ready_vnics();
    assert!(pair.world.status().converged);
    assert_eq!(pair.world.count(mac(1), MessageType::SetEntry), 6, "the missing one");
    assert_eq!(pair.world.count(mac(1), MessageType::DeleteEntry), 1, "the surplus one");
    assert_eq!(pair.world.count(mac(2), MessageType::SetEntry), 5);
}

#[test]
fn who_has_not_the_key_does_not_get_in() {
    let mut pair = Pair::new("", 0);
    pair.world.run_until_converged(SOON);
    // Without a key (version 2), with another key, with version 3 but no key: all with the address of the first.
    pair.world.plug(pair.switch, 3, Nic::new(mac(1)));
    pair.world.plug(pair.switch, 4, Nic::of_version_3(mac(1), 99, keys(9)));
    pair.world.plug(pair.switch, 5, Nic::of_version_3(mac(1), 98, ControlKeys::NONE));
    pair.world.run(Duration::from_secs(20));
    let status = pair.world.status();
    let refused = reasons(&status);
    for expected in [(3, "downgrade"), (4, "tag"), (5, "unauthenticated")] {
        assert!(refused.contains(&expected), "{refused:?}");
    }
    assert!(refused.iter().all(|(port, _)| *port >= 3), "{refused:?}");
    assert!(status.converged, "{}", status.table());
    assert_eq!(shown(&status, 1).port, Some(1), "the one with the key stays");
    for port in [3, 4, 5] {
        assert_eq!(pair.world.nic(pair.switch, port).engine.flow_count(), 0);
    }
    let counted = &pair.world.controller.counters().refused_registers;
    assert!(
        ["downgrade", "tag", "unauthenticated"].iter().all(|reason| counted.get(reason).is_some_and(|n| *n > 0))
    );
    assert!(status.table().contains("REFUSED"), "{}", status.table());
    let mut reporter = Reporter::default();
    let mut told = || {
        let news = reporter.news(&mut pair.world.controller);
        let refused = news.into_iter().filter_map(|what| match what {
            What::RegisterRefused { port, reason, .. } => Some((port, reason)),
            _ => None,
        });
        refused.collect::<Vec<_>>()
    };
    let first = told();
    for (port, reason) in [(3, "downgrade"), (4, "tag"), (5, "unauthenticated")] {
        assert!(first.contains(&(port, reason.to_owned())), "{first:?}");
    }
    assert_eq!(told(), [], "each is told of once");
}

/// A REGISTER that was recorded on one port is worth nothing on another, nor later on its own.
#[test]
fn a_recorded_register_is_refused() {
    let mut pair = Pair::new("", 0);
    pair.world.run_until_converged(SOON);
    let mut recorder = Nic::of_version_3(mac(1), 50, keys(1));
    recorder.engine.announce();
    let mut out = [0; 1500];
    let len = recorder.engine.poll_transmit(&mut out).unwrap();
    let announcement = out[..len].to_vec();
    assert_eq!(Message::parse(&announcement).unwrap().header.kind, Kind::Register);
    let mut forged = announcement.clone();
    // The challenge of an answer that was given long ago.
    forged[38..46].copy_from_slice(&[7; 8]);
    for port in [1, 3] {
        pair.world.send_frame(pair.switch, port, &forged);
        pair.world.send_frame(pair.switch, port, &announcement);
    }
    pair.world.run(Duration::from_secs(3));
    let status = pair.world.status();
    assert_eq!(reasons(&status), [(1, "tag"), (3, "tag")], "the challenge is under the tag");
    assert!(status.converged, "an announcement only asks for a HELLO: {}", status.table());
    assert_eq!(shown(&status, 1).port, Some(1));
}

/// It need not wait until it is silent where it was: it has its key with it.
#[test]
fn a_vnic_that_moves_is_followed_at_once() {
    let mut pair = Pair::new("", 0);
    let other = pair.world.add_switch(8, 1);
    pair.world.run_until_converged(SOON);
    let before = pair.world.count(mac(1), MessageType::SetEntry);
    let nic = pair.world.switches[pair.switch].ports.insert(1, None).flatten().unwrap();
    pair.world.plug(other, 1, nic);
    pair.world.announce(other, 1);
    // HELLOs on one port are some time apart.
    pair.world.run(Duration::from_secs(1));
    assert!(pair.world.status().converged);
    let status = pair.world.status();
    assert_eq!(shown(&status, 1).switch.as_deref(), Some("0000000000000008"));
    assert_eq!(pair.world.count(mac(1), MessageType::SetEntry), before, "it brought its state along");
    pair.world.check_ready_vnics();
}

#[test]
fn a_vnic_that_starts_anew_gets_everything_anew() {
    let mut pair = Pair::new("", 0);
    pair.world.run_until_converged(SOON);
    let fresh = Nic::of_version_3(mac(1), 77, keys(1));
    pair.world.switches[pair.switch].ports.insert(1, Some(fresh));
    pair.world.announce(pair.switch, 1);
    pair.world.run(Duration::from_secs(1));
    assert!(pair.world.status().converged);
    pair.world.check_ready_vnics();
    assert_eq!(pair.world.count(mac(1), MessageType::SetEntry), 10);
    assert_eq!(shown(&pair.world.status(), 1).registrations, 2);
}

/// A silent vNIC is shown as such, and found when it is back, even if nobody heard that it started anew.
#[test]
fn a_silent_vnic_is_shown_and_found_again() {
    let mut pair = Pair::new("", 0);
    pair.world.run_until_converged(SOON);
    let nic = pair.world.switches[pair.switch].ports.insert(1, None).flatten();
    let first = pair.world.sent_in(mac(1), Duration::from_secs(60));
    let status = pair.world.status();
    assert_eq!(shown(&status, 1).state, "silent");
    pair.world.run(Duration::from_secs(240));
    // A HELLO in half a minute, a question in a whole one.
    let later = pair.world.sent_in(mac(1), Duration::from_secs(300));
    assert!((14..=18).contains(&later) && first > later / 5, "it is asked ever less often: {first}, {later}");
    assert!(shown(&status, 1).last_contact_seconds.unwrap() > 30.0);
    drop(nic);
    let fresh = Nic::of_version_3(mac(1), 78, keys(1));
    pair.world.switches[pair.switch].ports.insert(1, Some(fresh));
    pair.world.run_until_converged(Duration::from_secs(60));
    pair.world.check_ready_vnics();
}

/// The new controller finds everything as it should be and sends nothing; the old one can do nothing any more.
#[test]
fn a_takeover_sends_nothing_and_fences_the_old_controller() {
    let mut pair = Pair::new("", 0);
    pair.world.run_until_converged(SOON);
    let mut old = pair.world.replace_controller();
    pair.world.run_until_converged(SOON);
    assert_eq!(pair.world.count(mac(1), MessageType::SetEntry), 5, "digests are equal");
    assert_eq!(
        pair.world.nic(pair.switch, 1).engine.control_status().epoch >> SESSION_BITS,
        2,
        "it has been asked"
    );
    // The old one has noticed nothing, and is let at the same connection.
    let stale = Config::parse("w", &config(&with_keys(&pair.folder), "mtu = 1000", &[1, 2], "")).unwrap();
    old.reconfigure(pair.world.now, stale.config, Vec::new()).unwrap();
    std::mem::swap(&mut pair.world.controller, &mut old);
    pair.world.run(Duration::from_secs(10));
    let nic = pair.world.nic(pair.switch, 1);
    assert_eq!((nic.mtu, nic.engine.flow_count()), (Some(1450), 5), "nothing of what the old one wants");
    assert_eq!(nic.engine.control_status().epoch >> SESSION_BITS, 2);
    let status = pair.world.status();
    assert!(!status.converged);
    let errors = &shown(&status, 1).errors;
    assert!(errors.iter().any(|error| error.contains("another controller, with epoch 2")), "{errors:?}");
}

/// Keys of an encrypted network travel wrapped: nobody has to allow them in clear.
#[test]
fn an_encrypted_network_needs_no_keys_in_clear() {
    for loss in [0, 20] {
        let mut pair = Pair::new("cipher = \"aes-128-gcm\"", loss);
        pair.world.run_until_converged(LONG);
        pair.world.check_ready_vnics();
        let first = pair.world.status();
        assert!(first.encrypted.iter().all(|channel| channel.state == "encrypted"), "{}", first.table());
        for port in [1, 2] {
            let engine = &pair.world.nic(pair.switch, port).engine;
            assert_eq!(engine.encrypted_only().collect::<Vec<_>>(), [42]);
            // To the peer and to the group, and from both.
            assert!(engine.sas().count() >= 4);
        }
        pair.world.controller.rotate_keys(pair.world.now);
        pair.world.run(Duration::from_secs(10));
        pair.world.run_until_converged(LONG);
        let second = pair.world.status();
        assert!(second.encrypted.iter().all(|channel| channel.rotations >= 1), "{}", second.table());
    }
}

#[test]
fn a_cipher_needs_a_control_key_or_permission() {
    let folder = key_folder(&[1]);
    let text = config(&with_keys(&folder), "cipher = \"aes-128-gcm\"", &[1, 2], "");
    let errors = Config::parse("w", &text).unwrap_err().to_string();
    assert!(errors.contains("those for vm2") && errors.contains("02:00:00:00:01:02.key"), "{errors}");
}

#[test]
fn version_3_can_be_required_or_offered() {
    // Required: whoever speaks version 2 only is refused.
    let mut world = World::new(&config("version_3 = \"require\"", "", &[1, 2], ""), 5);
    let switch = world.add_switch(7, 2);
    world.plug(switch, 1, Nic::of_version_3(mac(1), 1, ControlKeys::NONE));
    world.plug(switch, 2, Nic::new(mac(2)));
    world.run(Duration::from_secs(10));
    let status = world.status();
    let states = [1, 2].map(|number| shown(&status, number).state.clone());
    assert_eq!(states, ["ready", "absent"], "{}", status.table());
    assert_eq!((shown(&status, 1).protocol, shown(&status, 1).authenticated), (Some(3), false));

    // Offered: each as it can.
    let mut world = World::new(&config("version_3 = \"offer\"", "", &[1, 2], ""), 5);
    let switch = world.add_switch(7, 2);
    world.plug(switch, 1, Nic::of_version_3(mac(1), 1, ControlKeys::NONE));
    world.plug(switch, 2, Nic::new(mac(2)));
    world.run_until_converged(SOON);
    world.check_ready_vnics();
    let status = world.status();
    assert_eq!([1, 2].map(|number| shown(&status, number).protocol), [Some(3), Some(2)]);
}

/// A table that is too small: the error names the entry, and the vNIC is shown as diverged.
#[test]
fn a_refused_entry_is_shown() {
    let flows: Vec<_> = (0..70)
        .map(|port| format!("\"priority=50000,in_port=HOST,udp,tp_dst={},actions=drop\"", port + 1))
        .collect();
    let folder = key_folder(&[1]);
    let mut world = World::new(&config(&with_keys(&folder), "", &[1], &flows.join(",")), 5);
    let switch = world.add_switch(7, 1);
    world.plug(switch, 1, Nic::of_version_3(mac(1), 1, keys(1)));
    world.run(Duration::from_secs(30));
    let status = world.status();
    let vnic = shown(&status, 1);
    assert_eq!(vnic.state, "diverged", "{}", status.table());
    assert!(vnic.errors.iter().any(|error| error.contains("OFPFMFC_ALL_TABLES_FULL")), "{:?}", vnic.errors);
}

#[test]
fn key_files_are_checked() {
    let folder = key_folder(&[1]);
    let parse = || Config::parse("w", &config(&with_keys(&folder), "", &[1], ""));
    assert!(parse().is_ok());
    let path = folder.path().join(format!("{}.key", mac(1)));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let errors = parse().unwrap_err().to_string();
    assert!(errors.contains("chmod 600") && !errors.contains("0101"), "{errors}");
    fs::remove_file(&path).unwrap();
    fs::write(folder.path().join("vm1.key"), "x").unwrap();
    let errors = parse().unwrap_err().to_string();
    assert!(errors.contains("is no address"), "{errors}");
    let none = config("control_keys = \"/nonexistent\"", "", &[1], "");
    assert!(Config::parse("w", &none).unwrap_err().to_string().contains("/nonexistent"));
    assert!(!Path::new("/nonexistent").exists());
}

/// What a part in a cluster does, without one: the only switch is this controller's, since this revision of the store.
fn owned_since(revision: u64) -> Pair {
    let mut pair = Pair::new("", 0);
    let now = pair.world.now;
    let controller = &mut pair.world.controller;
    controller.stand_by(1000);
    controller.lease_lasts(LONG * 2);
    controller.own(now, 7, revision);
    let again = pair.switch;
    pair.world.disconnect(again);
    pair.world.connect(again);
    for port in [1, 2] {
        pair.world.announce(again, port);
    }
    pair
}

#[test]
fn a_vnic_from_a_switch_of_another_controller_with_a_higher_epoch_is_managed_as_soon_as_the_epoch_is_raised() {
    let (mut here, mut there) = (owned_since(5), owned_since(9));
    here.world.run_until_converged(SOON);
    there.world.run_until_converged(SOON);
    assert_eq!(here.world.controller.take_outrun(), None);

    let nic = there.world.unplug(there.switch, 1).unwrap();
    here.world.unplug(here.switch, 1);
    here.world.run(SOON);
    here.world.plug(here.switch, 3, nic);
    here.world.announce(here.switch, 3);
    here.world.run(SOON);
    assert_ne!(shown(&here.world.status(), 1).state, "ready");
    assert!(reasons(&here.world.status()).contains(&(3, "stale_epoch")), "{:?}", here.world.status().refused);
    assert_eq!(here.world.controller.take_outrun(), Some((7, 9)), "it obeys that revision's controller");

    let now = here.world.now;
    here.world.controller.raise_epoch(now, 12);
    here.world.run_until_converged(SOON);
    assert_eq!(here.world.controller.epoch(), 1012);
    assert_eq!(shown(&here.world.status(), 1).port, Some(3));
    assert_eq!(here.world.controller.take_outrun(), None);
}
