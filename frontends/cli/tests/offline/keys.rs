//! `cvsw replay --sa` and `cvsw trace --sa`: Wireshark opens what they seal, they open what they sealed, and say of
//! everything else why not.

use crate::common::{Bench, Pcap, Run, frames, ping, run, tagged_udp, tcp, timed, tshark, tshark_with, udp};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt as _};

const ENCAP: &str = "in_port=HOST,actions=set_vxlan(vni=42,src=192.0.2.1,dst=192.0.2.2,eth_src=02:00:00:01:00:01,\
                     eth_dst=02:00:00:01:00:02),encrypt(sa=7)";
const DECAP: &str = "in_port=NET,ip,nw_proto=50,actions=decrypt,strip_vxlan(vni=42)";

/// Suite, octets of AES key, HMAC or not, and Wireshark's names for it.
const SUITES: [(&str, usize, bool, &str, &str); 6] = [
    ("aes-128-gcm", 16, false, "AES-GCM with 16 octet ICV [RFC4106]", "NULL"),
    ("aes-256-gcm", 32, false, "AES-GCM with 16 octet ICV [RFC4106]", "NULL"),
    ("aes-128-ctr-hmac-sha-256-128", 16, true, "AES-CTR [RFC3686]", "HMAC-SHA-256-128 [RFC4868]"),
    ("aes-256-ctr-hmac-sha-256-128", 32, true, "AES-CTR [RFC3686]", "HMAC-SHA-256-128 [RFC4868]"),
    ("aes-128-ctr-unauthenticated", 16, false, "AES-CTR [RFC3686]", "NULL"),
    ("aes-256-ctr-unauthenticated", 32, false, "AES-CTR [RFC3686]", "NULL"),
];

fn digits(count: usize, seed: u8) -> String {
    (0..count as u8).map(|at| format!("{:02x}", at.wrapping_mul(7) ^ seed)).collect()
}

/// AES key with salt, and HMAC key, in hexadecimal.
fn key((_, aes, hmac, ..): (&str, usize, bool, &str, &str), seed: u8) -> (String, String) {
    (digits(aes + 4, seed), if hmac { digits(32, !seed) } else { String::new() })
}

/// A file of one association, for both directions.
fn associations(suite: (&str, usize, bool, &str, &str), direction: &str, seed: u8, more: &str) -> String {
    let ((cipher, mac), name) = (key(suite, seed), suite.0);
    format!(
        "encrypted_only = [42]\n[[sa]]\nid = 7\ndirection = \"{direction}\"\nspi = 0x1001\ndestination = \"192.0.2.2\"\n\
         suite = \"{name}\"\nkey = \"{cipher}{mac}\"\n{more}\n"
    )
}

impl Bench {
    /// Writes a file of keys that nobody else may read.
    fn keys(&self, name: &str, text: &str) -> String {
        let path = self.file(name, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our own file");
        path
    }
}

/// Frames of several kinds and their sealed form in a capture.
fn sealed(bench: &Bench, suite: (&str, usize, bool, &str, &str), more: &str) -> (Vec<Vec<u8>>, String, Value) {
    let inner = vec![udp(), tcp(), ping(), tagged_udp()];
    let (read, wire) = (bench.file("in.pcap", Pcap::default().encode(&timed(&inner))), bench.arg("wire.pcap"));
    let (flows, sa) = (bench.file("encap", ENCAP), bench.keys("tx", &associations(suite, "tx", 1, more)));
    let report = cvsw!("replay", "-d", "tx", "-f", flows, "--sa", sa, "-r", read, "-w", wire, "--json");
    assert_quiet(&report, suite);
    (inner, wire, report.json())
}

fn open(bench: &Bench, wire: &str, sa: &str) -> Run {
    let (flows, out) = (bench.file("decap", format!("{DECAP}\npriority=0,actions=drop\n")), bench.arg("out.pcap"));
    cvsw!("replay", "-d", "rx", "-f", flows, "--sa", sa, "-r", wire, "-w", out, "--json")
}

/// No key is in the output.
fn assert_quiet(run: &Run, suite: (&str, usize, bool, &str, &str)) {
    let (cipher, _) = key(suite, 1);
    for text in [&run.stdout, &run.stderr] {
        assert!(!text.replace(' ', "").contains(&cipher[..16]), "{text}");
    }
}

#[test]
fn wireshark_opens_what_replay_seals_and_replay_opens_it_again() {
    for suite in SUITES {
        let (name, .., cipher_name, mac_name) = suite;
        let bench = Bench::new();
        let (inner, wire, report) = sealed(&bench, suite, "");
        assert_eq!(report["output"]["frames"], 4, "{name}: {report}");
        assert_eq!((&report["sas"][0]["packets"], &report["sas"][0]["suite"]), (&json!(4), &json!(name)));

        let closed = tshark(&wire, "frame", &["frame.protocols", "esp.sequence"]);
        let expected: Vec<_> =
            (1..=4).map(|number| vec!["eth:ethertype:ip:esp".to_owned(), number.to_string()]).collect();
        assert_eq!(closed, expected, "{name}");

        let (cipher, mac) = key(suite, 1);
        let mac = if mac.is_empty() { mac } else { format!("0x{mac}") };
        let keys = format!(
            "uat:esp_sa:\"IPv4\",\"192.0.2.1\",\"192.0.2.2\",\"0x00001001\",\"{cipher_name}\",\"0x{cipher}\",\
             \"{mac_name}\",\"{mac}\""
        );
        let options = ["esp.enable_encryption_decode:TRUE", "esp.enable_authentication_check:TRUE", &keys];
        let good = if name.contains("unauthenticated") { "!esp.icv_bad" } else { "esp.icv_good == 1" };
        let filter = format!(
            "vxlan.vni == 42 && {good} && !(ip.checksum.status == 0) && !(udp.checksum.status == 0) \
             && !(tcp.checksum.status == 0) && !(icmp.checksum.status == 0) && !_ws.malformed"
        );
        assert_eq!(tshark_with(&wire, &options, &filter, &["frame.number"]).len(), 4, "{name}");

        let sa = bench.keys("rx", &associations(suite, "rx", 1, ""));
        let back = open(&bench, &wire, &sa);
        assert_quiet(&back, suite);
        assert_eq!(back.json()["output"]["frames"], 4, "{name}: {back:?}");
        assert_eq!(frames(&bench.arg("out.pcap")), inner, "{name}");
    }
}

#[test]
fn extended_sequence_numbers_must_be_extended_on_both_sides() {
    for suite in &SUITES[..4] {
        let bench = Bench::new();
        let more = "extended_sequence = true";
        let (inner, wire, _) = sealed(&bench, *suite, more);
        let sa = bench.keys("rx", &associations(*suite, "rx", 1, more));
        assert_eq!(open(&bench, &wire, &sa).json()["output"]["frames"], 4);
        assert_eq!(frames(&bench.arg("out.pcap")), inner);
        let sa = bench.keys("rx", &associations(*suite, "rx", 1, ""));
        assert_eq!(open(&bench, &wire, &sa).json()["drop_reasons"], json!({"esp_auth": 4}), "{}", suite.0);
    }
}

#[test]
fn what_cannot_be_opened_is_counted_with_its_reason() {
    let bench = Bench::new();
    let suite = SUITES[0];
    let (inner, wire, _) = sealed(&bench, suite, "");
    let packets = frames(&wire);
    let rx = bench.keys("rx", &associations(suite, "rx", 1, ""));
    let capture = |name: &str, packets: &[Vec<u8>]| bench.file(name, Pcap::default().encode(&timed(packets)));

    let twice = capture("twice", &[packets.clone(), packets.clone()].concat());
    let report = open(&bench, &twice, &rx).json();
    assert_eq!((&report["output"]["frames"], &report["drop_reasons"]), (&json!(4), &json!({"esp_replay": 4})));
    assert_eq!(report["sas"][0]["drops"]["replayed"], 4);

    let flipped: Vec<_> = packets
        .iter()
        .map(|packet| {
            let mut packet = packet.clone();
            *packet.last_mut().unwrap() ^= 1;
            packet
        })
        .collect();
    let report = open(&bench, &capture("flipped", &flipped), &rx).json();
    assert_eq!((&report["drop_reasons"], &report["output"]["frames"]), (&json!({"esp_auth": 4}), &json!(0)));
    assert_eq!(report["sas"][0]["drops"]["auth_failed"], 4);

    let other = bench.keys("other", &associations(suite, "rx", 2, ""));
    assert_eq!(open(&bench, &wire, &other).json()["drop_reasons"], json!({"esp_auth": 4}));
    let elsewhere = bench.keys("else", &associations(suite, "rx", 1, "").replace("0x1001", "0x1002"));
    assert_eq!(open(&bench, &wire, &elsewhere).json()["drop_reasons"], json!({"esp_no_sa": 4}));

    // The network is "encrypted only": its frames in clear are refused, and so is sending them so.
    let clear = bench.arg("clear.pcap");
    let flows = bench.file("clear", ENCAP.replace(",encrypt(sa=7)", ""));
    let read = capture("in", &inner);
    let tx = bench.keys("tx", &associations(suite, "tx", 1, ""));
    let refused = cvsw!("replay", "-d", "tx", "-f", flows, "--sa", tx, "-r", read, "--json").json();
    assert_eq!(refused["drop_reasons"], json!({"clear_text_refused": 4}));
    cvsw!("replay", "-d", "tx", "-f", flows, "-r", read, "-w", clear, "--json").json();
    let decap = bench.file("any", "in_port=NET,udp,tp_dst=4789,actions=strip_vxlan(vni=42)");
    let report = cvsw!("replay", "-d", "rx", "-f", decap, "--sa", rx, "-r", clear, "--json").json();
    assert_eq!(report["drop_reasons"], json!({"clear_text_refused": 4}));

    // A limit in packets.
    let flows = bench.file("encap", ENCAP);
    let few = bench.keys("few", &associations(suite, "tx", 1, "hard = { packets = 3 }"));
    let report = cvsw!("replay", "-d", "tx", "-f", flows, "--sa", few, "-r", read, "--json").json();
    assert_eq!((&report["output"]["frames"], &report["drop_reasons"]), (&json!(3), &json!({"esp_expired": 1})));
    assert_eq!(report["sas"][0]["state"], "expired");
}

#[test]
fn trace_tells_what_is_inside() {
    let bench = Bench::new();
    let suite = SUITES[2];
    let (inner, wire, _) = sealed(&bench, suite, "");
    let decap = "in_port=NET,ip,nw_proto=50,actions=decrypt,strip_vxlan(vni=42),resubmit:NET\n\
                 priority=9,tun_id=42,udp,tp_dst=5000,actions=drop\npriority=1,tun_id=42,actions=mod_nw_tos:4\n";
    let flows = bench.file("decap", decap);
    let sa = bench.keys("rx", &associations(suite, "rx", 1, ""));
    let run = cvsw!("trace", "-d", "rx", "-f", flows, "--sa", sa, "-r", wire, "--frame", 2, "--json");
    assert_quiet(&run, suite);
    let trace = run.json();
    let steps = |kind: &str| -> Vec<Value> {
        trace["steps"].as_array().unwrap().iter().filter(|step| step["step"] == kind).cloned().collect()
    };
    let lookups = steps("lookup");
    assert_eq!((lookups.len(), &lookups[0]["fields"]["nw_proto"]), (2, &json!("50")), "{trace}");
    assert_eq!((&lookups[1]["fields"]["tun_id"], &lookups[1]["fields"]["tp_dst"]), (&json!("42"), &json!("80")));
    let actions = steps("action");
    let names: Vec<_> = actions.iter().map(|action| action["action"].as_str().unwrap()).collect();
    assert_eq!(names, ["decrypt", "strip_vxlan(vni=42)", "resubmit:2", "mod_nw_tos:4"], "{trace}");
    assert_eq!(trace["output"].as_str().unwrap().len(), 2 * inner[1].len());

    let wrong = bench.keys("other", &associations(suite, "rx", 2, ""));
    let trace = cvsw!("trace", "-d", "rx", "-f", flows, "--sa", wrong, "-r", wire, "--json").json();
    let verdict = trace["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(*verdict, json!({"step": "verdict", "verdict": "drop", "drop_reason": "esp_auth"}));
    let text = cvsw!("trace", "-d", "rx", "-f", flows, "-r", wire).stdout;
    assert!(text.contains("esp_no_sa") || text.contains("esp_no_key"), "without any key: {text}");

    let flows = bench.file("encap", ENCAP);
    let sa = bench.keys("tx", &associations(suite, "tx", 1, ""));
    let read = bench.file("in.pcap", Pcap::default().encode(&timed(&inner)));
    let run = cvsw!("trace", "-d", "tx", "-f", flows, "--sa", sa, "-r", read, "--frame", 3, "--json");
    assert_quiet(&run, suite);
    // The first packet under this key: the same as the first of a replay that begins with this frame.
    let single = bench.file("one.pcap", Pcap::default().encode(&timed(&inner[2..3])));
    let out = bench.arg("one-wire.pcap");
    cvsw!("replay", "-d", "tx", "-f", flows, "--sa", sa, "-r", single, "-w", out, "--json").json();
    let expected: String = frames(&out)[0].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(run.json()["output"], json!(expected));
}

#[test]
fn keys_that_others_may_read_are_refused_by_every_command() {
    let bench = Bench::new();
    let sa = bench.file("keys.toml", associations(SUITES[0], "tx", 1, ""));
    let (flows, read) =
        (bench.file("encap", ENCAP), bench.file("in.pcap", Pcap::default().encode(&timed(&[udp()]))));
    let out = bench.arg("out.pcap");
    let commands: [&[&str]; 3] = [
        &["replay", "-d", "tx", "-f", &flows, "-r", &read, "-w", &out, "--sa", &sa],
        &["trace", "-d", "tx", "-f", &flows, "-r", &read, "--sa", &sa],
        &[
            "port",
            "--host",
            &format!("pcap:read={read}"),
            "--net",
            &format!("pcap:write={out}"),
            "--mac",
            "02:00:00:00:00:01",
            "--flows",
            &flows,
            "--sa",
            &sa,
        ],
    ];
    for mode in [0o640, 0o604, 0o620, 0o644] {
        fs::set_permissions(&sa, fs::Permissions::from_mode(mode)).unwrap();
        for command in commands {
            let refused = run(command, "");
            assert_eq!(refused.code, 1, "{mode:o} {command:?}: {refused:?}");
            let message = format!("its permissions are {mode:o}");
            assert!(
                refused.stderr.contains(&message) && refused.stderr.contains("chmod 600"),
                "{}",
                refused.stderr
            );
            assert_quiet(&refused, SUITES[0]);
        }
        let state = bench.path("keys.toml.state");
        assert!(!state.exists(), "nothing was begun");
    }
    fs::set_permissions(&sa, fs::Permissions::from_mode(0o600)).unwrap();
    let accepted = run(commands[0], "");
    assert_eq!(accepted.code, 0, "{accepted:?}");
    assert_eq!(frames(&out).len(), 1);
}

#[test]
fn a_mistake_in_a_file_of_keys_names_its_line_and_no_key() {
    let bench = Bench::new();
    let good = associations(SUITES[0], "tx", 1, "");
    let read = bench.file("in.pcap", Pcap::default().encode(&timed(&[udp()])));
    for (old, new, message) in [
        ("aes-128-gcm", "aes-192-gcm", ":7: there is no such cipher suite"),
        ("key = \"", "key = \"00", ":8: the key has the wrong length"),
        ("id = 7", "id = 7\nid2 = 7", ":4: unknown field `id2`"),
        ("0x1001", "0x10", "association 7 is refused"),
    ] {
        let sa = bench.keys("bad", &good.replace(old, new));
        let refused = cvsw!("replay", "-d", "tx", "-r", read, "--sa", sa);
        assert_eq!(refused.code, 1, "{new}: {refused:?}");
        assert!(refused.stderr.contains(message), "{new}: {}", refused.stderr);
        assert_quiet(&refused, SUITES[0]);
    }
    let missing = cvsw!("replay", "-d", "tx", "-r", read, "--sa", bench.arg("missing"));
    assert!(missing.code == 1 && missing.stderr.contains("No such file"), "{missing:?}");
}
