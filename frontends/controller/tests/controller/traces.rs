//! What the controller tells of frames in an encrypted network, whose keys it has forgotten: nothing that is not so.

use std::time::Duration;

use cvsw_controller::api::trace::Traced;
use cvsw_core::flow::Direction;
use cvsw_trace::{Trace, parse_hex};
use serde_json::{Value, json};

use super::{
    encrypted::{GCM, MEMBERS, PLACES, SOON, config, mac, rotations, spis, until, world},
    support::world::{Nic, World},
};

/// A broadcast, for the group.
const ALL: [u8; 6] = [0xff; 6];

fn traced(world: &World, number: u8) -> Traced {
    Traced::of(&world.controller, world.now, mac(number)).unwrap()
}

/// What a vNIC's VM sends to an address.
fn frame(from: u8, to: [u8; 6]) -> Vec<u8> {
    [&to[..], &mac(from).0, &[0x08, 0x06], &[from; 46]].concat()
}

fn sent(world: &World, from: u8, to: [u8; 6]) -> Value {
    json!(traced(world, from).run(Direction::Tx, frame(from, to)).unwrap())
}

/// What becomes of these bytes, which come out of the network.
fn received(world: &World, at: u8, bytes: &[u8]) -> Trace {
    traced(world, at).receiving(&world.controller, bytes).run(Direction::Rx, bytes.to_vec()).unwrap()
}

/// What becomes at one vNIC of what another's VM sends.
fn followed(world: &World, from: u8, to: [u8; 6], at: u8) -> anyhow::Result<Trace> {
    let vnic = traced(world, at).receiving_from(&world.controller, traced(world, from));
    vnic.run(Direction::Rx, frame(from, to))
}

fn bytes(trace: &Value, which: &str) -> Vec<u8> {
    parse_hex(trace[which].as_str().unwrap()).unwrap()
}

fn verdict(trace: &Value) -> [&Value; 2] {
    let last = trace["steps"].as_array().unwrap().last().unwrap();
    [&last["verdict"], &last["drop_reason"]]
}

/// The controller tells under which SPI a frame leaves, or that there is none.
#[test]
fn a_trace_seals_what_the_vnic_seals() {
    let world = world(GCM);
    let mut spis_used = Vec::new();
    for (to, destination) in [(mac(2).0, [192, 0, 2, 2]), (mac(3).0, [192, 0, 2, 3]), (ALL, [239, 1, 1, 42])] {
        let sent = sent(&world, 1, to);
        assert_eq!(verdict(&sent)[0], "forward", "{sent}");
        let packet = bytes(&sent, "output");
        assert_eq!((packet[23], &packet[30..34]), (50, &destination[..]), "ESP to where it should go");
        spis_used.push(u32::from_be_bytes(packet[34..38].try_into().unwrap()));
    }
    spis_used.sort_unstable();
    assert_eq!(spis_used, spis(&world, (0, 1), Direction::Tx));
    let mut lonely = World::new(&config(&MEMBERS, GCM), 1);
    lonely.add_switch(7, 2);
    lonely.plug(0, 1, Nic::with_keys(mac(1), 100));
    lonely.run(SOON);
    assert_eq!(verdict(&sent(&lonely, 1, mac(2).0))[1], "esp_no_sa", "there is nobody else");
    let error = followed(&lonely, 1, mac(2).0, 2).unwrap_err().to_string();
    assert!(error.contains("02:00:00:00:01:01 does not let it out: esp_no_sa"), "{error}");
}

/// Of a sealed frame it is told whose it is and who can open it; that it is dropped is said only where it is.
#[test]
fn what_comes_sealed_is_told_and_not_guessed() {
    let mut world = world(GCM);
    let packet = bytes(&sent(&world, 2, mac(1).0), "output");
    let spi = u32::from_be_bytes(packet[34..38].try_into().unwrap());
    let sealed = |state: &str, here: bool| {
        json!({"step": "sealed", "spi": format!("{spi:#010x}"), "destination": "192.0.2.1", "vni": 42,
               "sender": "02:00:00:00:01:02", "suite": "aes-128-gcm", "state": state, "here": here})
    };
    let trace = received(&world, 1, &packet);
    let (text, trace) = (trace.to_string(), json!(trace));
    assert_eq!(trace["steps"][0], sealed("in_use", true));
    assert_eq!(verdict(&trace), [&json!("unknown"), &Value::Null], "{trace}");
    assert!(trace.to_string().contains("\"effect\":\"unknown\"") && !trace.to_string().contains("esp_no_sa"));
    assert!(
        text.contains("of 02:00:00:00:01:02 in the network with VNI 42, in use; this vNIC has it")
            && text.contains("verdict: unknown"),
        "{text}"
    );
    // Its receiver is another one; and nobody has such a key.
    let elsewhere = json!(received(&world, 3, &packet));
    assert_eq!(elsewhere["steps"][0], sealed("in_use", false));
    assert_eq!(verdict(&elsewhere)[0], "drop", "{elsewhere}");
    let mut strange = packet.clone();
    strange[34..38].copy_from_slice(&0xf123_4567_u32.to_be_bytes());
    let trace = received(&world, 1, &strange);
    assert!(trace.to_string().contains("SPI 0xf1234567 to 192.0.2.1\n  of no association"), "{trace}");
    assert_eq!(verdict(&json!(trace)), [&json!("drop"), &json!("esp_no_sa")]);

    // An exchanged key is kept for what is under way, and then it is nobody's.
    let now = world.now;
    world.controller.rotate_keys(now);
    until(&mut world, "new keys", |world| rotations(world) == 1);
    assert!(spis(&world, PLACES[0], Direction::Rx).contains(&spi), "the vNIC says so, too");
    assert_eq!(json!(received(&world, 1, &packet))["steps"][0], sealed("leaving", true));
    world.run(Duration::from_secs(10));
    assert!(!spis(&world, PLACES[0], Direction::Rx).contains(&spi));
    let gone = json!(received(&world, 1, &packet));
    assert_eq!((&gone["steps"][0]["sender"], verdict(&gone)[1]), (&Value::Null, &json!("esp_no_sa")));
    // A key on its way is known, too; with losses it is so for a while.
    world.loss = 50;
    let coming = |world: &World| {
        let keys = world.controller.keys();
        let of_each = spis(world, PLACES[0], Direction::Rx).into_iter();
        let mut told = of_each.map(|spi| keys.association(mac(1), [192, 0, 2, 1].into(), spi));
        told.any(|association| association.known.is_some_and(|known| known.state == "coming"))
    };
    let mut seen = false;
    for round in 2..20 {
        let now = world.now;
        world.controller.rotate_keys(now);
        until(&mut world, "new keys", |world| {
            seen |= coming(world);
            seen || rotations(world) >= round
        });
    }
    assert!(seen);
}

/// What a VM sends is followed to where it arrives: sealed by the one, opened and judged by the other.
#[test]
fn what_another_vnic_sends_is_followed_to_where_it_arrives() {
    for cipher in [GCM, ""] {
        let world = world(cipher);
        let spi = |trace: &Value| trace["steps"][0]["spi"].clone();
        for (to, at) in [(mac(1).0, 1), (ALL, 1), (ALL, 3)] {
            let trace = json!(followed(&world, 2, to, at).unwrap());
            assert_eq!(verdict(&trace)[0], "forward", "{trace}");
            assert_eq!(bytes(&trace, "output"), frame(2, to), "what was sent is what arrives");
            assert_ne!(bytes(&trace, "input"), frame(2, to), "by way of the tunnel");
            if !cipher.is_empty() {
                let spi = u32::from_str_radix(&spi(&trace).as_str().unwrap()[2..], 16).unwrap();
                assert!(spis(&world, (0, 2), Direction::Tx).contains(&spi), "with its sender's own SPI");
                assert!(spis(&world, PLACES[usize::from(at) - 1], Direction::Rx).contains(&spi));
            }
        }
        // It is not for this one, whichever way it came here.
        let trace = json!(followed(&world, 2, mac(3).0, 1).unwrap());
        assert_eq!(verdict(&trace)[0], "drop", "{trace}");
        let unknown = json!(followed(&world, 2, [2; 6], 1).unwrap());
        assert_eq!(verdict(&unknown)[0], "forward", "unknown destinations go to the group");
    }
}
