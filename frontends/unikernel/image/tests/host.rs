//! The parts of the image that need no machine: command line, keys, status page.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has found something")]

use cvsw_core::{
    Config as EngineConfig, Cvsw, Direction, Instant,
    control::{OffloadFlags, SessionState},
    crypto::{KeyMaterial, Portable, SaConfig, Suite},
    flow::text::parse_flow,
    mtu::IpMtu,
};
use cvsw_smoltcp::Parameters;
use cvsw_unikernel::{
    config::{BadWord, Config},
    keys::{self, Line},
    nic::Counters,
    page::{self, Status},
};
use serde_json::Value;
use zerocopy::FromZeros;

#[test]
fn a_command_line_is_read() {
    let flow = "in_port=HOST,actions=set_vxlan(vni=42,src=192.0.2.1)";
    let line =
        format!("console ip=10.0.0.5/24 ip=fd00::5/64  flow={flow} ethertype=0x88b5 exit=1 accept-keys-in-clear=1");
    let config = Config::parse(&line).unwrap();
    let addresses: Vec<_> = config.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.5/24", "fd00::5/64"]);
    assert_eq!(config.flows[..], [flow]);
    assert_eq!(config.ethertype, Some(0x88b5));
    assert!(config.may_exit && config.accept_keys_in_clear);
    assert_eq!(Config::parse("").unwrap(), Config::default());
}

#[test]
fn a_bad_word_is_named() {
    for word in [
        "ip=10.0.0.5",
        "ip=10.0.0.5/33",
        "ethertype=abba",
        "ethertype=0xabbaa",
        "mac=02:00:00:00:00:01",
        "exit=yes",
        "accept-keys-in-clear=",
    ] {
        let BadWord { word: named, expected } = Config::parse(word).unwrap_err();
        assert_eq!(named, word);
        assert!(!expected.is_empty());
    }
    let many = "ip=10.0.0.5/24 ".repeat(5);
    assert_eq!(Config::parse(&many).unwrap_err().expected, "four addresses at most");
}

#[test]
fn keys_are_read() {
    let text = "# comment\n\n\
                sa id=7 direction=tx spi=0x1001 destination=192.0.2.2 suite=aes-128-gcm last-sequence=9 \
                key=000102030405060708090a0b0c0d0e0fa0a1a2a3\r\n\
                encrypted-only vni=42";
    let lines: Vec<_> = keys::parse(text).collect::<Result<_, _>>().unwrap();
    let [Line::Association(config, key), Line::EncryptedOnly(42)] = &lines[..] else { panic!("{lines:?}") };
    let expected = SaConfig { last_sequence: 9, ..SaConfig::new(7, Direction::Tx, 0x1001, [192, 0, 2, 2]) };
    assert_eq!(*config, expected);
    assert_eq!((key.suite(), key.cipher_key()[15], key.salt()), (Suite::Aes128Gcm, 15, [0xa0, 0xa1, 0xa2, 0xa3]));
}

#[test]
fn bad_keys_are_refused_by_line_number() {
    let good = "sa id=7 direction=rx spi=0x1001 destination=192.0.2.2 suite=aes-128-gcm key=";
    for (line, expected) in [
        (format!("{good}00"), "digits"),
        (format!("{good}{}", "0g".repeat(20)), "digits"),
        (format!("{good}{}", "+1".repeat(20)), "digits"),
        (format!("{good}{}", "00".repeat(200)), "digits"),
        (good.replace("direction=rx", "direction=up"), "direction"),
        (good.replace("spi=0x1001", ""), "spi"),
        (good.replace("aes-128-gcm", "rot13"), "suite"),
        (good.replace("192.0.2.2", "192.0.2"), "destination"),
        ("encrypted-only vni=x".to_owned(), "vni"),
        ("association".to_owned(), "`sa`"),
    ] {
        let text = format!("# first\n{line}");
        let (number, problem) = keys::parse(&text).next().unwrap().unwrap_err();
        assert_eq!(number, 2, "{line}");
        assert!(problem.contains(expected), "{line}: {problem}");
    }
}

/// A page of an engine with a flow and an association.
fn page(path: &str) -> String {
    let mut engine: Box<Cvsw<64, 64, 16, 4>> = Cvsw::new_box_zeroed().unwrap();
    engine.init(&EngineConfig { hash_seed: 1, ..EngineConfig::default() });
    engine.flow_mod(Instant::ZERO, &parse_flow("priority=3,in_port=NET,arp,actions=drop").unwrap()).unwrap();
    let key = KeyMaterial::new(Suite::Aes128Gcm, &[0xab; 20]).unwrap();
    let sa = SaConfig::new(7, Direction::Rx, 0x1001, [192, 0, 2, 2]);
    assert!(engine.require_encryption(42, true));
    engine.add_sa(&mut Portable::<4>::new(), Instant::ZERO, &sa, &key).unwrap();
    let mut bytes = [0_u8; 60];
    bytes[12..14].copy_from_slice(&[8, 6]);
    let mut frame = cvsw_core::Frame::new(&mut bytes[..], 0, 60).unwrap();
    let _ = engine.process(Instant::ZERO, Direction::Rx, &mut frame);
    let status = Status {
        uptime_ms: 1234,
        mac: [2, 0, 0, 0, 0, 0xb5],
        parameters: Parameters {
            session: SessionState::Connected,
            mtu: IpMtu::new(1450).unwrap(),
            refused_mtu: IpMtu::new(9000),
            offload_requested: Some(OffloadFlags(OffloadFlags::CSUM | OffloadFlags::GRO)),
            offload_effective: OffloadFlags(0),
        },
        mtu: 1450,
        stats: engine.stats(),
        nic: Counters { rx_frames: 1, rx_bad_length: 2, ..Counters::default() },
        flow_count: engine.flow_count(),
        encrypted_only: engine.encrypted_only().collect(),
    };
    let mut text = String::new();
    page::answer(&mut text, path, &status, engine.flows(), engine.sas()).unwrap();
    text
}

#[test]
fn the_status_is_json() {
    let text = page("/status.json");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    let json: Value = serde_json::from_str(body).unwrap();
    for (pointer, expected) in [
        ("/mac", "02:00:00:00:00:b5".into()),
        ("/session", "CONNECTED".into()),
        ("/mtu", 1450.into()),
        ("/refused_mtu", 9000.into()),
        ("/offload_requested", "csum,gro".into()),
        ("/offload_effective", "".into()),
        ("/nic/rx_bad_length", 2.into()),
        ("/engine/rx/frames", 1.into()),
        ("/engine/rx/drops/policy", 1.into()),
        ("/flow_count", 1.into()),
        ("/flows/0/packets", 1.into()),
        ("/flows/0/flow", "priority=3,arp,in_port=NET actions=drop".into()),
        ("/encrypted_only/0", 42.into()),
        ("/sas/0/spi", 0x1001.into()),
        ("/sas/0/suite", "aes-128-gcm".into()),
    ] {
        assert_eq!(json.pointer(pointer), Some::<&Value>(&expected), "{pointer} in {body}");
    }
    assert!(!text.contains("abab"), "the key is on the page");
}

#[test]
fn people_get_a_page_and_strays_a_hint() {
    let text = page("/");
    for part in ["text/html", "Session CONNECTED, MTU 1450", "priority=3,arp,in_port=NET actions=drop packets=1"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(page("/etc/passwd").starts_with("HTTP/1.0 404"));
}
