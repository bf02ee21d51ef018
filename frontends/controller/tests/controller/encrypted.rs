//! Keys of encrypted networks, while the VMs send and receive all the time: nothing is lost when keys are exchanged,
//! and nothing of an encrypted network is ever on the wire in clear.

use std::time::Duration;

use super::support::{
    traffic::{Traffic, assert_nothing_lost, take_traffic},
    world::{Nic, World},
};
use cvsw_controller::{Mac, config::Config};
use cvsw_core::{
    DropReason,
    control::{MessageType, SaCommand, SetSa},
    flow::Direction,
};

pub(super) const SOON: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(120);
pub(super) const MEMBERS: [u8; 3] = [1, 2, 3];
pub(super) const GCM: &str = "cipher = \"aes-128-gcm\"\n";

pub(super) fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, number])
}

/// A network of these members, with a line or two about its cipher.
pub(super) fn config(members: &[u8], cipher: &str) -> String {
    let keys = if cipher.is_empty() { "" } else { "keys_in_clear = true\n" };
    let mut text = format!("{keys}[[network]]\nname = \"blue\"\nvni = 42\ngroup = \"239.1.1.42\"\n{cipher}");
    for number in members {
        text += &format!(
            "[[network.member]]\nname = \"vm{number}\"\nmac = \"{}\"\nip = \"10.0.0.{number}\"\nunderlay_mac = \
             \"02:00:00:01:00:{number:02x}\"\nunderlay_ip = \"192.0.2.{number}\"\n",
            mac(*number)
        );
    }
    text
}

/// Three vNICs on two switches, with their keys, and traffic between all of them.
pub(super) fn world(cipher: &str) -> World {
    let mut world = World::new(&config(&MEMBERS, cipher), 1);
    world.add_switch(7, 2);
    world.add_switch(8, 1);
    for (switch, port, number) in [(0, 1, 1), (0, 2, 2), (1, 1, 3)] {
        world.plug(switch, port, Nic::with_keys(mac(number), 100 * u64::from(number)));
    }
    world.run_until_converged(SOON);
    world.traffic = Some(Traffic::default());
    world
}

pub(super) fn rotations(world: &World) -> u64 {
    world.status().encrypted.iter().map(|channel| channel.rotations).min().unwrap()
}

pub(super) fn until(world: &mut World, what: &str, mut done: impl FnMut(&World) -> bool) {
    let start = world.now;
    while !done(world) {
        assert!(world.now - start < LONG, "{what}: not in {LONG:?}\n{}", world.status().table());
        world.run(Duration::from_millis(50));
    }
}

/// SPIs of a vNIC's associations, in one direction.
pub(super) fn spis(world: &World, place: (usize, u16), direction: Direction) -> Vec<u32> {
    let engine = &world.nic(place.0, place.1).engine;
    let mut spis: Vec<_> =
        engine.sas().filter(|sa| sa.config.direction == direction).map(|sa| sa.config.spi).collect();
    spis.sort_unstable();
    spis
}

pub(super) const PLACES: [(usize, u16); 3] = [(0, 1), (0, 2), (1, 1)];

/// Each sends to two peers and to the group, and receives from two peers directly and by the group.
fn assert_only_current_keys(world: &World) {
    let mut sending: Vec<u32> = PLACES.iter().flat_map(|place| spis(world, *place, Direction::Tx)).collect();
    sending.sort_unstable();
    sending.dedup();
    assert_eq!(sending.len(), 9, "a key for each way");
    for place in PLACES {
        let own = spis(world, place, Direction::Tx);
        let receiving = spis(world, place, Direction::Rx);
        assert_eq!((own.len(), receiving.len()), (3, 4), "{place:?}");
        assert!(receiving.iter().all(|spi| sending.contains(spi) && !own.contains(spi)));
    }
}

#[test]
fn keys_come_no_faster_than_they_are_answered() {
    let networks = (0..4).map(|network: u8| {
        let members: Vec<u8> = (1..=12).map(|member| network * 12 + member).collect();
        let text = config(&members, "cipher = \"aes-128-gcm\"\n").replace("keys_in_clear = true\n", "");
        text.replace("blue", &format!("blue{network}"))
            .replace("= 42", &format!("= {}", network + 1))
            .replace("239.1.1.42", &format!("239.1.1.{}", network + 1))
    });
    let text = format!("keys_in_clear = true\n{}", networks.collect::<String>());
    let mut world = World::new(&text, 1);
    let switch = world.add_switch(7, 48);
    for number in 1..=48 {
        world.plug(switch, number.into(), Nic::with_keys(mac(number), 1));
    }
    // To every peer a key at both ends, and to the group one at all of them.
    let keys = 48 * (11 * 2 + 12);
    let messages = world.run_at_pace(30, Duration::from_secs(120));
    assert!(messages > keys, "{messages}");
    let now = world.now;
    world.controller.rotate_keys(now);
    let again = world.run_at_pace(30, Duration::from_secs(120)) - messages;
    assert!(again > keys, "{again}");
}

#[test]
fn keys_are_exchanged_by_the_clock_without_a_loss() {
    let mut world = world(&format!("{GCM}rotate = \"10s\"\n"));
    // Some seconds after the last exchange: its old keys are gone.
    world.run(Duration::from_secs(65));
    assert!((5..=6).contains(&rotations(&world)), "{}", world.status().table());
    let traffic = take_traffic(&mut world);
    assert_nothing_lost(&traffic);
    assert!(traffic.spis.len() == 9 && traffic.spis.values().all(|spis| spis.len() >= 6), "{:?}", traffic.spis);
    assert_only_current_keys(&world);
}

#[test]
fn keys_are_exchanged_on_command_without_a_loss() {
    let mut world = world(GCM);
    world.run(Duration::from_secs(60));
    assert_eq!(rotations(&world), 0, "nobody has asked");
    for round in 1..=3 {
        let now = world.now;
        world.controller.rotate_keys(now);
        until(&mut world, "new keys", |world| rotations(world) == round);
    }
    assert_nothing_lost(&take_traffic(&mut world));
    world.run(SOON);
    assert_only_current_keys(&world);
}

#[test]
fn every_suite_is_delivered() {
    for suite in cvsw_core::crypto::Suite::ALL {
        let mut world = world(&format!("cipher = \"{suite}\"\n"));
        let now = world.now;
        world.controller.rotate_keys(now);
        until(&mut world, "new keys", |world| rotations(world) == 1);
        assert_nothing_lost(&take_traffic(&mut world));
        let mut sas = PLACES.iter().flat_map(|place| world.nic(place.0, place.1).engine.sas());
        assert!(sas.all(|sa| sa.suite == suite), "{suite}");
    }
}

#[test]
fn lost_messages_and_lost_answers_cost_time_and_no_packet() {
    for seed in 1..5 {
        let mut world = World::new(&config(&MEMBERS, GCM), seed);
        world.add_switch(7, 2);
        world.add_switch(8, 1);
        for (place, number) in PLACES.into_iter().zip(MEMBERS) {
            world.plug(place.0, place.1, Nic::with_keys(mac(number), 100 * u64::from(number)));
        }
        world.run_until_converged(SOON);
        world.traffic = Some(Traffic::default());
        world.loss = 30;
        for round in 1..=2 {
            let now = world.now;
            world.controller.rotate_keys(now);
            until(&mut world, "new keys", |world| rotations(world) >= round);
        }
        world.loss = 0;
        assert_nothing_lost(&take_traffic(&mut world));
        world.run(Duration::from_secs(20));
        assert_only_current_keys(&world);
    }
}

/// As long as a receiver has not answered, the sender goes on with the old key.
#[test]
fn the_sender_waits_for_every_receiver() {
    let mut world = world(GCM);
    let before: Vec<_> = PLACES.iter().map(|place| spis(&world, *place, Direction::Tx)).collect();
    world.loss = 100;
    let now = world.now;
    world.controller.rotate_keys(now);
    world.run(Duration::from_secs(2));
    let during: Vec<_> = PLACES.iter().map(|place| spis(&world, *place, Direction::Tx)).collect();
    assert_eq!(before, during);
    world.loss = 0;
    until(&mut world, "new keys", |world| rotations(world) == 1);
    assert_nothing_lost(&take_traffic(&mut world));
    for (place, before) in PLACES.into_iter().zip(before) {
        assert!(spis(&world, place, Direction::Tx).iter().all(|spi| !before.contains(spi)));
    }
}

#[test]
fn another_cipher_takes_the_first_one_s_place() {
    let mut world = world(GCM);
    world.reconfigure(&config(&MEMBERS, "cipher = \"aes-256-ctr-hmac-sha-256-128\"\n")).unwrap();
    world.run_until_converged(LONG);
    world.run(SOON);
    assert_nothing_lost(&take_traffic(&mut world));
    assert_only_current_keys(&world);
    let mut sas = PLACES.iter().flat_map(|place| world.nic(place.0, place.1).engine.sas());
    assert!(sas.all(|sa| sa.suite == cvsw_core::crypto::Suite::Aes256CtrHmacSha256));
}

#[test]
fn a_cipher_that_is_removed_leaves_nothing_behind() {
    let mut world = world(GCM);
    world.reconfigure(&config(&MEMBERS, "")).unwrap();
    world.run_until_converged(LONG);
    world.run(Duration::from_secs(5));
    take_traffic(&mut world);
    world.run(SOON);
    let traffic = take_traffic(&mut world);
    assert_eq!((traffic.losses(), traffic.clear), (0, traffic.sent), "{:?}", traffic.lost);
    for (switch, port) in PLACES {
        let engine = &world.nic(switch, port).engine;
        assert_eq!((engine.sas().count(), engine.encrypted_only().count()), (0, 0), "{switch} {port}");
    }
}

#[test]
fn a_network_that_gets_a_cipher_is_encrypted_from_then_on() {
    let mut world = world("");
    world.run(SOON);
    let traffic = take_traffic(&mut world);
    assert_eq!((traffic.losses(), traffic.clear), (0, traffic.sent), "{:?}", traffic.lost);
    world.reconfigure(&config(&MEMBERS, GCM)).unwrap();
    world.run_until_converged(LONG);
    take_traffic(&mut world);
    world.run(SOON);
    assert_nothing_lost(&take_traffic(&mut world));
    assert_only_current_keys(&world);
    for (switch, port) in PLACES {
        assert_eq!(world.nic(switch, port).engine.encrypted_only().collect::<Vec<_>>(), [42]);
    }
}

/// Another controller, or another life of the same one, that knows nothing but the configuration.
fn restart_controller(world: &mut World) {
    let text = config(&MEMBERS, GCM);
    let loaded = Config::parse("world.toml", &text).unwrap_or_else(|errors| panic!("{errors}"));
    world.controller = cvsw_controller::state::Controller::new(loaded.config, loaded.warnings);
}

#[test]
fn a_restarted_controller_replaces_every_key_without_a_loss() {
    let mut world = world(GCM);
    world.run(SOON);
    let before = take_traffic(&mut world);
    assert_nothing_lost(&before);
    world.disconnect(0);
    world.disconnect(1);
    restart_controller(&mut world);
    // Without a controller they go on.
    world.run(Duration::from_secs(30));
    assert_nothing_lost(&take_traffic(&mut world));
    world.connect(0);
    world.connect(1);
    world.run_until_converged(LONG);
    world.run(SOON);
    assert_nothing_lost(&take_traffic(&mut world));
    world.run(SOON);
    let after = take_traffic(&mut world);
    assert_nothing_lost(&after);
    assert_only_current_keys(&world);
    for (way, spis) in &after.spis {
        assert!(spis.is_disjoint(&before.spis[way]), "{way:?} goes on with an old key");
    }
}

/// The vNICs come to the new controller one by one; until the last one is there, or for ten seconds, nobody changes over to a
/// key that it does not have.
#[test]
fn a_new_key_waits_for_receivers_that_come_late() {
    let mut world = world(GCM);
    world.run(SOON);
    let before = take_traffic(&mut world);
    world.disconnect(0);
    world.disconnect(1);
    restart_controller(&mut world);
    world.connect(0);
    world.run(Duration::from_secs(6));
    let during = take_traffic(&mut world);
    assert_nothing_lost(&during);
    let group = [239, 1, 1, 42];
    for number in [1, 2] {
        let way = (mac(number), group);
        assert_eq!(during.spis[&way], before.spis[&way], "the third one has not come");
    }
    world.connect(1);
    world.run_until_converged(LONG);
    world.run(SOON);
    assert_nothing_lost(&take_traffic(&mut world));
    assert_only_current_keys(&world);
}

/// Who does not come is not waited for without end: the others get new keys.
#[test]
fn a_new_key_does_not_wait_for_ever() {
    let mut world = world(GCM);
    world.run(SOON);
    world.disconnect(0);
    world.disconnect(1);
    restart_controller(&mut world);
    world.connect(0);
    world.run(Duration::from_secs(20));
    let before = take_traffic(&mut world);
    world.run(SOON);
    let after = take_traffic(&mut world);
    let between = (mac(1), [192, 0, 2, 2]);
    assert!(before.spis[&between].len() == 2 && after.spis[&between].len() == 1, "{:?}", before.spis[&between]);
    assert!(after.lost.keys().all(|(_, reason)| *reason == DropReason::EspNoSa), "{:?}", after.lost);
    world.connect(1);
    world.run_until_converged(LONG);
    take_traffic(&mut world);
    world.run(SOON);
    assert_nothing_lost(&take_traffic(&mut world));
    assert_only_current_keys(&world);
}

/// A key was on its way when the controller ended: some receivers have it, the sender does not.
#[test]
fn a_controller_that_ends_amid_an_exchange_costs_nothing() {
    for steps in 1..8 {
        let mut world = world(GCM);
        world.run(SOON);
        let now = world.now;
        world.controller.rotate_keys(now);
        world.loss = 50;
        world.run(Duration::from_millis(50 * steps));
        world.loss = 0;
        world.disconnect(0);
        world.disconnect(1);
        restart_controller(&mut world);
        world.connect(0);
        world.connect(1);
        world.run_until_converged(LONG);
        world.run(SOON);
        assert_nothing_lost(&take_traffic(&mut world));
    }
}

#[test]
fn a_switch_that_connects_again_costs_nothing() {
    let mut world = world(GCM);
    world.run(SOON);
    world.disconnect(1);
    world.run(SOON);
    world.connect(1);
    world.run_until_converged(LONG);
    world.run(SOON);
    assert_nothing_lost(&take_traffic(&mut world));
    assert_only_current_keys(&world);
}

#[test]
fn a_vnic_that_starts_anew_gets_keys_that_it_never_had() {
    let mut world = world(GCM);
    world.run(SOON);
    let had: Vec<u32> =
        [Direction::Tx, Direction::Rx].into_iter().flat_map(|way| spis(&world, (0, 1), way)).collect();
    assert_nothing_lost(&take_traffic(&mut world));
    world.restart(0, 1);
    world.run_until_converged(LONG);
    let change = take_traffic(&mut world);
    assert_eq!(change.clear, 0);
    world.run(SOON);
    assert_nothing_lost(&take_traffic(&mut world));
    let has: Vec<u32> =
        [Direction::Tx, Direction::Rx].into_iter().flat_map(|way| spis(&world, (0, 1), way)).collect();
    assert!(has.len() == 7 && has.iter().all(|spi| !had.contains(spi)), "{had:x?} {has:x?}");
    assert_only_current_keys(&world);
}

/// A restart that nobody announced shows in the next answer.
#[test]
fn a_silent_restart_is_noticed_by_its_generation() {
    let mut world = world(GCM);
    let nic = world.switches[0].ports.get_mut(&1).unwrap().as_mut().unwrap();
    // The hypervisor has restored a snapshot: everything is there, but the numbers may be used elsewhere.
    nic.engine.set_boot_generation(999);
    world.run(Duration::from_millis(100));
    let stale = world.traffic.as_ref().unwrap().lost.get(&("sending", DropReason::EspStale)).copied();
    assert!(stale.is_some_and(|count| count > 0), "it does not send with the old numbers");
    world.run(LONG);
    take_traffic(&mut world);
    world.run(SOON);
    assert_nothing_lost(&take_traffic(&mut world));
    assert_only_current_keys(&world);
}

#[test]
fn an_association_that_a_vnic_has_lost_is_replaced() {
    let mut world = world(GCM);
    let lost = spis(&world, (0, 2), Direction::Rx)[0];
    let nic = world.switches[0].ports.get_mut(&2).unwrap().as_mut().unwrap();
    nic.engine.remove_sa(&mut *nic.ciphers, lost).unwrap();
    world.run(LONG);
    take_traffic(&mut world);
    world.run(SOON);
    assert_nothing_lost(&take_traffic(&mut world));
    assert_only_current_keys(&world);
}

#[test]
fn members_that_leave_and_come_back_leave_no_keys_behind() {
    let mut world = world(GCM);
    for _ in 0..20 {
        world.reconfigure(&config(&MEMBERS[..2], GCM)).unwrap();
        world.run_until_converged(LONG);
        world.run(SOON);
        assert_eq!(world.nic(1, 1).engine.sas().count(), 0, "who has left keeps no key");
        world.reconfigure(&config(&MEMBERS, GCM)).unwrap();
        world.run_until_converged(LONG);
        world.run(SOON);
    }
    assert_eq!(world.traffic.as_ref().unwrap().clear, 0);
    take_traffic(&mut world);
    world.run(SOON);
    assert_nothing_lost(&take_traffic(&mut world));
    assert_only_current_keys(&world);
}

/// The others lose nothing when one goes and when it comes back.
#[test]
fn the_others_lose_nothing_when_one_is_unplugged() {
    let mut world = world(GCM);
    let nic = world.unplug(1, 1).unwrap();
    world.run(SOON);
    let without = take_traffic(&mut world);
    let allowed = |reason: &DropReason| *reason == DropReason::EspNoSa;
    assert!(without.lost.keys().all(|(_, reason)| allowed(reason)), "{:?}", without.lost);
    let status = world.status();
    let ways = |at: usize| status.vnics[at].encryption.clone();
    let counts =
        |states: &[(&str, usize)]| states.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    assert_eq!(ways(0), counts(&[("encrypted", 2), ("waiting", 1)]), "to the one that is there, and to the group");
    assert_eq!(ways(2), counts(&[("waiting", 3)]));
    assert!(status.table().contains("2/3"), "{}", status.table());
    let between: Vec<_> = status.encrypted.into_iter().filter(|channel| channel.state == "waiting").collect();
    assert_eq!(between.len(), 5, "to and from the one that is gone: {between:?}");
    world.plug(1, 1, nic);
    world.run_until_converged(LONG);
    take_traffic(&mut world);
    world.run(SOON);
    assert_nothing_lost(&take_traffic(&mut world));
    assert_only_current_keys(&world);
}

#[test]
fn a_vnic_that_refuses_keys_is_named_and_sends_nothing() {
    let mut world = World::new(&config(&MEMBERS[..2], GCM), 1);
    let switch = world.add_switch(7, 2);
    world.plug(switch, 1, Nic::with_keys(mac(1), 1));
    world.plug(switch, 2, Nic::new(mac(2)));
    world.traffic = Some(Traffic::default());
    world.run(Duration::from_secs(30));
    let status = world.status();
    assert!(!status.converged);
    let errors = status.vnics.iter().find(|vnic| vnic.name == "vm2").unwrap().errors.join("\n");
    assert!(errors.contains("--accept-keys-in-clear"), "{errors}");
    let traffic = world.traffic.take().unwrap();
    // Before they got their flows their frames left as they were; those are not ours to judge.
    assert!(traffic.lost.keys().any(|(_, reason)| *reason == DropReason::EspNoSa), "{:?}", traffic.lost);
    assert_eq!(world.nic(switch, 2).engine.sas().count(), 0);
    // A message with a key is not sent more often than every few seconds.
    assert!(world.count(mac(2), MessageType::SetSa) < 60, "{}", world.count(mac(2), MessageType::SetSa));
}

/// An answer that nobody asked for, and one that is no answer, change nothing.
#[test]
fn odd_answers_change_nothing() {
    let mut world = world(GCM);
    let before = spis(&world, (0, 1), Direction::Tx);
    let body = {
        let mut body = [0; 64];
        let message = SetSa { transaction: 77, command: SaCommand::Flush };
        let len = message.emit(&mut body).unwrap();
        body[..len].to_vec()
    };
    for (kind, body) in [(0x2a, vec![]), (0x2a, vec![0xff; 32]), (0x2a, vec![0; 31]), (0x29, body)] {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        let head = [&mac(1).0[..], &[kind, 0], &len, &[0, 0, 0xab, 0xba]].concat();
        world.send_frame(0, 1, &[head, body].concat());
        world.run(SOON);
    }
    assert_nothing_lost(&take_traffic(&mut world));
    assert_eq!(spis(&world, (0, 1), Direction::Tx), before);
}
