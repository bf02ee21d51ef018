//! An encrypted network on the switches of several controllers, while the VMs send and receive all the time: keys are
//! exchanged across them, and whoever takes a switch over costs no packet.

use std::{collections::BTreeSet, time::Duration};

use super::support::{
    traffic::{Traffic, assert_nothing_lost, take_traffic},
    world::{Nic, STEP, World},
};
use cvsw_controller::{Mac, status::Status};
use cvsw_core::{
    Instant,
    control::v3::ControlKeys,
    crypto::{KeyMaterial, SaConfig, Suite},
    flow::Direction,
};

const SOON: Duration = Duration::from_secs(5);
/// Steps until nobody has a letter to read, and longer.
const LETTERS_TAKE: u64 = 20;
/// Histories that are played.
const SEEDS: u64 = 24;
const LONG: Duration = Duration::from_secs(120);
/// Each on a switch of its own, in this order.
const MEMBERS: [u8; 4] = [1, 2, 3, 4];

fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, number])
}

fn control_key(number: u8) -> [u8; 16] {
    [number; 16]
}

/// A network with these members; those with an even number have a control key in `keys`.
fn config(members: &[u8], keys: &std::path::Path) -> String {
    let mut text = format!(
        "keys_in_clear = true\ncontrol_keys = {keys:?}\n[[network]]\nname = \"blue\"\nvni = 42\n\
         group = \"239.1.1.42\"\ncipher = \"aes-128-gcm\"\n"
    );
    for number in members {
        text += &format!(
            "[[network.member]]\nname = \"vm{number}\"\nmac = \"{}\"\nip = \"10.0.0.{number}\"\nunderlay_mac = \
             \"02:00:00:01:00:{number:02x}\"\nunderlay_ip = \"192.0.2.{number}\"\n",
            mac(*number)
        );
    }
    text
}

fn keys() -> tempfile::TempDir {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let folder = tempfile::tempdir().unwrap();
    for number in MEMBERS.iter().filter(|number| **number % 2 == 0) {
        let path = folder.path().join(format!("{}.key", mac(*number)));
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
        file.write_all(format!("{number:02x}").repeat(16).as_bytes()).unwrap();
    }
    folder
}

/// Four vNICs on four switches; the first three switches have a controller each, the fourth that of the third.
fn world(keys: &std::path::Path) -> World {
    let mut world = World::new(&config(&MEMBERS, keys), 1);
    for number in MEMBERS {
        let switch = world.add_switch(number.into(), 1);
        let nic = if number % 2 == 0 {
            Nic::of_version_3(mac(number), 100 + u64::from(number), ControlKeys::derive(&control_key(number)))
        } else {
            Nic::with_keys(mac(number), 100 * u64::from(number))
        };
        world.plug(switch, 1, nic);
    }
    for (switch, to) in [(1, 1), (2, 2), (3, 2)] {
        while world.others.len() < to {
            world.add_controller();
        }
        world.hand_over(switch, to);
    }
    for switch in [1, 3] {
        world.announce(switch, 1);
    }
    world.run_until_converged(LONG);
    world.run(SOON);
    world.traffic = Some(Traffic::default());
    world
}

fn spis(world: &World, switch: usize, direction: Direction) -> BTreeSet<u32> {
    let sas = world.nic(switch, 1).engine.sas();
    sas.filter(|sa| sa.config.direction == direction).map(|sa| sa.config.spi).collect()
}

/// Each sends to three peers and to the group, and receives from three peers directly and by the group; and nobody has
/// anything else.
fn assert_only_current_keys(world: &World) {
    assert_current_keys(world, true);
}

/// The same, where something else is allowed if not `nothing_else`.
fn assert_current_keys(world: &World, nothing_else: bool) {
    let sending: Vec<_> = (0..MEMBERS.len()).map(|switch| spis(world, switch, Direction::Tx)).collect();
    assert!(sending.iter().all(|spis| spis.len() == 4), "{sending:x?}");
    for switch in 0..MEMBERS.len() {
        let receiving = spis(world, switch, Direction::Rx);
        let others = sending.iter().enumerate().filter(|(other, _)| *other != switch);
        let others: BTreeSet<u32> = others.flat_map(|(_, spis)| spis).copied().collect();
        assert_eq!(receiving.intersection(&others).count(), 6, "{switch}: {receiving:x?} of {sending:x?}");
        assert!(!nothing_else || receiving.len() == 6, "{switch}: {receiving:x?} of {sending:x?}");
    }
}

/// States of all ways, as a controller has them.
fn states(world: &mut World, at: usize) -> Vec<(String, usize)> {
    let now = world.now;
    let status = Status::of(world.controller_at(at), now);
    let mut states: Vec<_> = status.encrypted.into_iter().map(|channel| channel.state).collect();
    states.sort_unstable();
    states.chunk_by(|a, b| a == b).map(|same| (same[0].clone(), same.len())).collect()
}

#[test]
fn every_pair_has_its_key_across_controllers() {
    let keys = keys();
    let mut world = world(keys.path());
    world.run(SOON);
    assert_nothing_lost(&take_traffic(&mut world));
    assert_only_current_keys(&world);
    let state = |name: &str, count| (name.to_owned(), count);
    assert_eq!(states(&mut world, 0), [state("elsewhere", 12), state("encrypted", 4)]);
    assert_eq!(states(&mut world, 2), [state("elsewhere", 8), state("encrypted", 8)]);
}

#[test]
fn keys_are_exchanged_across_controllers_without_a_loss() {
    let keys = keys();
    let mut world = world(keys.path());
    for loss in [0, 30] {
        let before = take_traffic(&mut world);
        world.loss = loss;
        let now = world.now;
        (0..3).for_each(|at| world.controller_at(at).rotate_keys(now));
        world.run(Duration::from_secs(40));
        world.loss = 0;
        world.run_until_converged(LONG);
        world.run(SOON);
        let during = take_traffic(&mut world);
        assert_nothing_lost(&during);
        world.run(SOON);
        let after = take_traffic(&mut world);
        assert_nothing_lost(&after);
        assert_only_current_keys(&world);
        for (way, spis) in &after.spis {
            assert!(before.spis.get(way).is_none_or(|before| spis.is_disjoint(before)), "{way:?} has its old key");
        }
    }
}

/// One lets go of a switch, as when controllers share anew.
#[test]
fn a_switch_that_is_handed_over_costs_nothing() {
    let keys = keys();
    let mut world = world(keys.path());
    for (switch, to) in [(0, 1), (3, 0), (1, 2), (0, 0), (1, 1), (3, 2)] {
        world.hand_over(switch, to);
        world.run_until_converged(LONG);
        world.run(SOON);
        assert_nothing_lost(&take_traffic(&mut world));
        assert_only_current_keys(&world);
    }
}

/// A switch goes to and fro faster than controllers read their letters, which are read writer by writer.
#[test]
fn letters_that_cross_each_other_do_no_harm() {
    let keys = keys();
    let mut world = world(keys.path());
    for (switch, over) in [(0, 1), (0, 2), (1, 2), (3, 0), (2, 1)] {
        let home = world.switches[switch].at;
        for to in [over, home] {
            world.hand_over(switch, to);
            world.settle();
        }
        world.run_until_converged(LONG);
        let now = world.now;
        (0..3).for_each(|at| world.controller_at(at).rotate_keys(now));
        world.run(Duration::from_secs(20));
        world.run_until_converged(LONG);
        world.run(SOON);
        take_traffic(&mut world);
        world.run(SOON);
        assert_nothing_lost(&take_traffic(&mut world));
        assert!(states(&mut world, home).iter().all(|(state, _)| state != "waiting"));
    }
}

/// One dies, at any moment of an exchange, and after a while the others have its switches.
#[test]
fn a_controller_that_dies_costs_nothing() {
    for steps in [0, 1, 2, 5, 8] {
        let keys = keys();
        let mut world = world(keys.path());
        let now = world.now;
        (0..3).for_each(|at| world.controller_at(at).rotate_keys(now));
        world.loss = 20;
        world.run(Duration::from_millis(50 * steps));
        world.loss = 0;
        world.stopped.insert(2);
        world.run(Duration::from_secs(3));
        world.hand_over(2, 0);
        world.run(Duration::from_secs(1));
        world.hand_over(3, 1);
        world.run_until_converged(LONG);
        world.run(SOON);
        assert_nothing_lost(&take_traffic(&mut world));
        let now = world.now;
        (0..2).for_each(|at| world.controller_at(at).rotate_keys(now));
        world.run_until_converged(LONG);
        world.run(SOON);
        assert_nothing_lost(&take_traffic(&mut world));
        for switch in 0..MEMBERS.len() {
            assert_eq!(spis(&world, switch, Direction::Tx).len(), 4);
        }
    }
}

/// One that was stopped goes on: it has lost its switches, and what it knew.
#[test]
fn a_controller_that_was_stopped_changes_nothing_when_it_goes_on() {
    let keys = keys();
    let mut world = world(keys.path());
    let now = world.now;
    world.controller_at(2).rotate_keys(now);
    world.stopped.insert(2);
    world.run(Duration::from_secs(3));
    world.hand_over(2, 0);
    world.hand_over(3, 1);
    world.run_until_converged(LONG);
    world.run(SOON);
    world.resume(2);
    world.run(Duration::from_secs(30));
    assert_nothing_lost(&take_traffic(&mut world));
    world.hand_over(2, 2);
    world.run_until_converged(LONG);
    world.run(SOON);
    assert_nothing_lost(&take_traffic(&mut world));
}

/// A vNIC of version 2 cannot say what it has, only what it has not; and its sender's controller does not ask it all the time.
#[test]
fn what_a_vnic_of_version_2_lacks_comes_back() {
    let keys = keys();
    let mut world = world(keys.path());
    let (of_sender, all) = (spis(&world, 1, Direction::Tx), spis(&world, 0, Direction::Rx));
    let lost: Vec<_> = all.intersection(&of_sender).copied().collect();
    assert_eq!(lost.len(), 2, "from one sender by itself and by the group");
    for spi in &lost {
        let nic = world.switches[0].ports.get_mut(&1).unwrap().as_mut().unwrap();
        nic.engine.remove_sa(&mut *nic.ciphers, *spi).unwrap();
    }
    world.run(LONG);
    take_traffic(&mut world);
    world.run(SOON);
    assert_nothing_lost(&take_traffic(&mut world));
    assert_only_current_keys(&world);
    assert!(spis(&world, 1, Direction::Tx).is_disjoint(&lost.into_iter().collect()), "there are others");
}

/// Both are vNICs of version 3, on switches of different controllers; nobody asks them all the time.
#[test]
fn what_a_vnic_has_too_much_goes_and_what_it_lacks_comes_back() {
    let keys = keys();
    let mut world = world(keys.path());
    let surplus = 0xf0aa_bbcc;
    let all = spis(&world, 3, Direction::Rx);
    let of_sender = spis(&world, 0, Direction::Tx);
    for switch in [1, 3] {
        let nic = world.switches[switch].ports.get_mut(&1).unwrap().as_mut().unwrap();
        let key = KeyMaterial::new(Suite::Aes128Gcm, &[9; 20]).unwrap();
        let config = SaConfig::new(surplus, Direction::Rx, surplus, [192, 0, 2, 77]);
        nic.engine.add_sa(&mut *nic.ciphers, Instant::ZERO, &config, &key).unwrap();
        if switch == 3 {
            // One of a sender with another controller.
            let lost = all.intersection(&of_sender).next().unwrap();
            nic.engine.remove_sa(&mut *nic.ciphers, *lost).unwrap();
        }
    }
    assert!(spis(&world, 1, Direction::Rx).contains(&surplus));
    world.run(LONG);
    take_traffic(&mut world);
    world.run(SOON);
    assert_nothing_lost(&take_traffic(&mut world));
    assert_only_current_keys(&world);
}

/// A vNIC that starts anew gets keys that it never had, of whatever controller.
#[test]
fn a_restart_is_known_to_the_other_controllers() {
    let keys = keys();
    let mut world = world(keys.path());
    for switch in [0, 1] {
        let had: BTreeSet<u32> =
            [Direction::Tx, Direction::Rx].into_iter().flat_map(|way| spis(&world, switch, way)).collect();
        world.restart(switch, 1);
        world.run_until_converged(LONG);
        world.run(SOON);
        take_traffic(&mut world);
        world.run(SOON);
        assert_nothing_lost(&take_traffic(&mut world));
        assert_only_current_keys(&world);
        let has: BTreeSet<u32> =
            [Direction::Tx, Direction::Rx].into_iter().flat_map(|way| spis(&world, switch, way)).collect();
        assert!(has.len() == 10 && has.is_disjoint(&had), "{has:x?} {had:x?}");
    }
}

#[test]
fn a_member_that_leaves_keeps_no_key() {
    let keys = keys();
    let mut world = world(keys.path());
    for members in [&MEMBERS[..3], &MEMBERS[..], &MEMBERS[1..], &MEMBERS[..]] {
        let text = config(members, keys.path());
        for at in 0..3 {
            let loaded = cvsw_controller::config::Config::parse("world.toml", &text).unwrap();
            let now = world.now;
            world.controller_at(at).reconfigure(now, loaded.config, loaded.warnings).unwrap();
            world.run(Duration::from_secs(1));
        }
        world.run_until_converged(LONG);
        world.run(SOON);
        for (switch, number) in MEMBERS.iter().enumerate().filter(|(_, number)| !members.contains(number)) {
            assert_eq!(world.nic(switch, 1).engine.sas().count(), 0, "{number} has left");
        }
    }
    take_traffic(&mut world);
    world.run(SOON);
    assert_nothing_lost(&take_traffic(&mut world));
    assert_only_current_keys(&world);
}

/// A vNIC moves to a port of another controller's switch and back, in the middle of an exchange; what it was still to do is lost
/// with the place that it leaves. `told`: the one where it is speaks of it before the other one has seen it leave.
#[test]
fn a_vnic_that_moves_to_another_controllers_switch_has_its_keys_there() {
    for told in [true, false] {
        let keys = keys();
        let mut world = world(keys.path());
        for (home, guest) in [(0, 1), (1, 2), (2, 0), (3, 0)] {
            for (from, to) in [((home, 1), (guest, 2)), ((guest, 2), (home, 1))] {
                if MEMBERS[home].is_multiple_of(2) {
                    // One of version 3 obeys nobody with a lower epoch; a cluster sees to that.
                    let at = world.switches[to.0].at;
                    world.hand_over(to.0, at);
                    world.run_until_converged(LONG);
                }
                let now = world.now;
                (0..3).for_each(|at| world.controller_at(at).rotate_keys(now));
                world.run(STEP);
                move_vnic(&mut world, from, to, told);
                world.run_until_converged(LONG);
                take_traffic(&mut world);
                world.run(SOON);
                assert_nothing_lost(&take_traffic(&mut world));
            }
            assert_only_current_keys(&world);
        }
    }
}

fn move_vnic(world: &mut World, from: (usize, u16), to: (usize, u16), told: bool) {
    let nic = world.switches[from.0].ports.insert(from.1, None).flatten().unwrap();
    if !told {
        world.unplug(from.0, from.1);
        world.run(STEP * 4);
    }
    world.plug(to.0, to.1, nic);
    world.announce(to.0, to.1);
    if told {
        world.run(STEP * 4);
        world.unplug(from.0, from.1);
    }
}

/// Whatever happens to controllers and their letters, in whatever order, in the end everybody has its keys. And nothing else, if no
/// letter was lost or came to somebody who has the switch no more: who has made a key that is to go may be the only one that
/// knows of it.
#[test]
fn whatever_controllers_go_through_the_keys_are_right_in_the_end() {
    for seed in 0..SEEDS {
        let (keys, lossless) = (keys(), seed % 2 == 0);
        let mut world = world(keys.path());
        world.reseed(seed);
        world.post.sloth = 60;
        for _ in 0..12 {
            misfortune(&mut world, lossless);
            let steps = world.below(30) + if lossless { LETTERS_TAKE } else { 0 };
            world.run(STEP * u32::try_from(steps).unwrap());
        }
        (world.post.sloth, world.loss) = (0, 0);
        for at in world.stopped.clone() {
            world.resume(at);
        }
        for switch in 0..MEMBERS.len() {
            let (at, connection) = (world.switches[switch].at, world.switches[switch].connection);
            if connection.is_none() {
                world.hand_over(switch, at);
            }
        }
        // Shown if it fails.
        println!("seed {seed}");
        world.run_until_converged(LONG);
        world.run(LONG);
        take_traffic(&mut world);
        world.run(SOON);
        assert_nothing_lost(&take_traffic(&mut world));
        assert_current_keys(&world, lossless);
    }
}

/// One of the things that happen.
fn misfortune(world: &mut World, lossless: bool) {
    let (at, to) = (below(world, 3), below(world, 3));
    let switch = below(world, MEMBERS.len());
    match below(world, 7) {
        0 => {
            let now = world.now;
            world.controller_at(at).rotate_keys(now);
        }
        1 | 2 if !world.stopped.contains(&to) => world.hand_over(switch, to),
        3 => world.loss = below(world, 30) as u64,
        _ if lossless => {}
        4 if world.stopped.len() < 2 => {
            world.stopped.insert(at);
        }
        5 if world.stopped.contains(&at) => world.resume(at),
        // Its lease is over, and nobody saw it being away.
        6 if !world.stopped.contains(&at) => {
            for switch in 0..MEMBERS.len() {
                if world.switches[switch].at == at {
                    world.disconnect(switch);
                }
            }
            world.begin_session(at);
        }
        _ => {}
    }
}

fn below(world: &mut World, end: usize) -> usize {
    usize::try_from(world.below(end as u64)).unwrap()
}
