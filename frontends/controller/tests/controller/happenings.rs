//! Whatever happens, in whatever order, the network becomes what it should be, and the controller goes on.

use std::time::Duration;

use super::{
    simulated::{LONG, SOON, clear_table, config, mac},
    support::world::{Nic, World},
};
use proptest::prelude::*;

/// Something that happens to a network.
#[derive(Clone, Debug)]
enum Happening {
    Restart { port: u16 },
    Unplug { port: u16 },
    Plug { port: u16 },
    Disconnect { switch: usize },
    Connect { switch: usize },
    Reconfigure { members: Vec<u8>, extra: u16, mtu: u16 },
    ClearTable { port: u16 },
    Wait { millis: u64 },
    Loss { per_cent: u64 },
    Frame { port: u16, bytes: Vec<u8> },
    Message { bytes: Vec<u8> },
}

fn happening() -> impl Strategy<Value = Happening> {
    let port = 1..=3u16;
    let header = (0..=22u8, prop::collection::vec(any::<u8>(), 0..80));
    prop_oneof![
        port.clone().prop_map(|port| Happening::Restart { port }),
        port.clone().prop_map(|port| Happening::Unplug { port }),
        port.clone().prop_map(|port| Happening::Plug { port }),
        (0..2usize).prop_map(|switch| Happening::Disconnect { switch }),
        (0..2usize).prop_map(|switch| Happening::Connect { switch }),
        (prop::sample::subsequence(vec![1, 2, 3, 9], 1..=4), 0..3u16, 1400..1403u16)
            .prop_map(|(members, extra, mtu)| Happening::Reconfigure { members, extra, mtu }),
        port.clone().prop_map(|port| Happening::ClearTable { port }),
        (0..5000u64).prop_map(|millis| Happening::Wait { millis }),
        (0..50u64).prop_map(|per_cent| Happening::Loss { per_cent }),
        (port, 0x20..0x38u8, prop::collection::vec(any::<u8>(), 0..100)).prop_map(|(port, kind, body)| {
            let len = u16::try_from(body.len()).unwrap().to_be_bytes();
            let head = [&mac(port as u8).0[..], &[kind, 0], &len, &[0, 0, 0xab, 0xba]].concat();
            Happening::Frame { port, bytes: [head, body].concat() }
        }),
        header.prop_map(|(kind, body)| {
            let len = u16::try_from(body.len() + 8).unwrap().to_be_bytes();
            Happening::Message { bytes: [&[1, kind][..], &len, &[0; 4], &body].concat() }
        }),
    ]
}

fn happen(world: &mut World, happening: Happening) {
    match happening {
        Happening::Restart { port } => {
            if let Some(nic) = world.switches[0].ports.get_mut(&port) {
                *nic = Some(Nic::new(mac(port as u8)));
            }
        }
        Happening::Unplug { port } => drop(world.unplug(0, port)),
        Happening::Plug { port } => world.plug(0, port, Nic::new(mac(port as u8))),
        Happening::Disconnect { switch } => world.disconnect(switch),
        Happening::Connect { switch } => world.connect(switch),
        Happening::Reconfigure { members, extra, mtu } => world.reconfigure(&config(&members, extra, mtu)).unwrap(),
        Happening::ClearTable { port } => clear_table(world, port),
        Happening::Wait { millis } => world.run(Duration::from_millis(millis)),
        Happening::Loss { per_cent } => world.loss = per_cent,
        Happening::Frame { port, bytes } => world.send_frame(0, port, &bytes),
        Happening::Message { bytes } => world.send_raw(0, &bytes),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, afterwards every vNIC gets exactly what it should have.
    #[test]
    fn the_network_converges_after_anything(seed: u64, happenings in prop::collection::vec(happening(), 0..40)) {
        let mut world = World::new(&config(&[1, 2, 3], 0, 1450), seed);
        let switch = world.add_switch(7, 0);
        world.add_switch(8, 3);
        for port in 1..=3u16 {
            world.plug(switch, port, Nic::new(mac(port as u8)));
        }
        for event in happenings {
            happen(&mut world, event);
            world.settle();
        }
        world.loss = 0;
        world.connect(switch);
        world.settle();
        for port in 1..=3u16 {
            world.unplug(switch, port);
            world.plug(switch, port, Nic::new(mac(port as u8)));
        }
        world.reconfigure(&config(&[1, 2, 3], 9, 1400)).unwrap();
        world.run_until_converged(LONG);
        world.check_ready_vnics();
        // And it stays so.
        world.run(Duration::from_secs(100));
        prop_assert!(world.status().converged);
        world.check_ready_vnics();
    }

    /// No sequence of bytes from a switch makes the controller panic or listen to it more than to others.
    #[test]
    fn no_message_breaks_the_controller(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..50)) {
        let mut world = World::new(&config(&[1], 0, 1450), 1);
        let good = world.add_switch(7, 1);
        let bad = world.add_switch(8, 1);
        world.plug(good, 1, Nic::new(mac(1)));
        world.settle();
        for message in messages {
            world.send_raw(bad, &message);
            world.settle();
        }
        world.run_until_converged(SOON);
        world.check_ready_vnics();
    }
}
