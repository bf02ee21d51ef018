//! `cvsw trace`.

use crate::common::{Bench, Pcap, tcp, timed, udp};
use serde_json::{Value, json};

const FLOWS: &str = "\
priority=300,in_port=NET,actions=drop
priority=200,ip,nw_dst=10.9.0.0/16,actions=drop
priority=100,udp,actions=mod_nw_dst:172.16.1.2,mod_vlan_vid:5
priority=50,ip,actions=drop
";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}

fn steps<'a>(trace: &'a Value, kind: &str) -> Vec<&'a Value> {
    trace["steps"].as_array().unwrap().iter().filter(|step| step["step"] == kind).collect()
}

#[test]
fn json_tells_everything() {
    let bench = Bench::new();
    let flows = bench.file("flows", FLOWS);
    let trace = cvsw!("trace", "-d", "tx", "-f", flows, "--hex", hex(&udp()), "--json").json();
    assert_eq!(trace["direction"], "tx");
    let lookups = steps(&trace, "lookup");
    assert_eq!(lookups.len(), 1);
    let fields = json!({
        "in_port": "HOST", "dl_src": "02:00:00:00:01:01", "dl_dst": "02:00:00:00:01:02", "dl_type": "0x0800",
        "nw_src": "10.0.0.1", "nw_dst": "10.0.0.2", "nw_proto": "17", "tp_src": "4000", "tp_dst": "5000",
    });
    assert_eq!(lookups[0]["fields"], fields);
    let entries: Vec<_> = steps(&trace, "entry")
        .iter()
        .map(|entry| (entry["priority"].as_u64().unwrap(), entry["result"].as_str().unwrap(), &entry["mismatch"]))
        .collect();
    let in_port = json!({"field": "in_port", "frame": "HOST", "entry": "NET"});
    let nw_dst = json!({"field": "nw_dst", "frame": "10.0.0.2", "entry": "10.9.0.0/16"});
    assert_eq!(
        entries,
        [
            (300, "mismatch", &in_port),
            (200, "mismatch", &nw_dst),
            (100, "matched", &Value::Null),
            (50, "shadowed", &Value::Null)
        ]
    );
    let actions = steps(&trace, "action");
    assert_eq!(actions.len(), 2);
    assert_eq!(actions[0]["action"], "mod_nw_dst:172.16.1.2");
    assert_eq!(actions[0]["effect"], "applied");
    assert_eq!(
        actions[0]["change"]["fields"],
        json!([{"field": "nw_dst", "before": "10.0.0.2", "after": "172.16.1.2"}])
    );
    // The IPv4 checksum, the address, the UDP checksum.
    let offsets: Vec<_> =
        actions[0]["change"]["bytes"].as_array().unwrap().iter().map(|c| c["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, [24, 30, 40]);
    assert_eq!(actions[1]["change"]["length"], json!({"before": 86, "after": 90}));
    assert_eq!(actions[1]["change"]["bytes"], json!([{"offset": 12, "before": "", "after": "81 00 00 05"}]));
    assert_eq!(steps(&trace, "verdict"), [&json!({"step": "verdict", "verdict": "forward"})]);
    assert_eq!(trace["input"], hex(&udp()).replace(' ', ""));
    assert_eq!(trace["output"].as_str().unwrap().len(), 2 * 90);
}

#[test]
fn text_tells_the_same() {
    let bench = Bench::new();
    let flows = bench.file("flows", FLOWS);
    let read = bench.file("in.pcap", Pcap::default().encode(&timed(&[tcp(), udp()])));
    let run = cvsw!("trace", "-d", "tx", "-f", flows, "--read", read, "--frame", 2);
    assert_eq!(run.code, 0, "{run:?}");
    let expected = [
        "frame: tx, 86 bytes",
        "look-up 1",
        "  nw_dst       10.0.0.2",
        "    no: in_port is HOST, not NET",
        "    no: nw_dst is 10.0.0.2, not 10.9.0.0/16",
        "    matches",
        "    would match too, but the entry above was chosen",
        "  action mod_nw_dst:172.16.1.2",
        "    nw_dst       10.0.0.2 -> 172.16.1.2",
        "  action mod_vlan_vid:5",
        "    length       86 -> 90",
        "    byte 12      inserted 81 00 00 05",
        "verdict: forward",
        "the frame now, 90 bytes",
    ];
    for line in expected {
        assert!(run.stdout.lines().any(|other| other == line), "{line:?} in\n{}", run.stdout);
    }
    let first = cvsw!("trace", "-d", "tx", "-f", flows, "--read", read);
    assert!(first.stdout.contains("no: nw_proto is 6, not 17"), "{}", first.stdout);
    assert!(first.stdout.ends_with("verdict: drop (policy)\nthe frame is unchanged\n"), "{}", first.stdout);
}

#[test]
fn a_second_look_up_after_decapsulation() {
    let bench = Bench::new();
    let encap = bench.file(
        "encap",
        "actions=set_vxlan(vni=42,src=192.0.2.1,dst=192.0.2.2,eth_src=02:00:00:01:00:01,eth_dst=02:00:00:01:00:02)",
    );
    let read = bench.file("in.pcap", Pcap::default().encode(&timed(&[udp()])));
    let wire = bench.arg("wire.pcap");
    cvsw!("replay", "-d", "tx", "-f", encap, "-r", read, "-w", wire, "--json").json();
    let decap = bench.file(
        "decap",
        "priority=9,udp,tp_dst=4789,actions=strip_vxlan(vni=42),resubmit:NET\npriority=8,tun_id=42,udp,tp_dst=5000,actions=drop",
    );
    let trace = cvsw!("trace", "-d", "rx", "-f", decap, "-r", wire, "--json").json();
    let lookups = steps(&trace, "lookup");
    assert_eq!(lookups.len(), 2, "{trace}");
    assert_eq!(lookups[1]["fields"]["tun_id"], "42");
    assert_eq!(lookups[1]["fields"]["tp_dst"], "5000");
    assert_eq!(steps(&trace, "verdict"), [&json!({"step": "verdict", "verdict": "drop", "drop_reason": "policy"})]);
    let other = bench.file("other", "udp,tp_dst=4789,actions=strip_vxlan(vni=43)");
    let trace = cvsw!("trace", "-d", "rx", "-f", other, "-r", wire, "--json").json();
    let action = steps(&trace, "action")[0];
    assert_eq!((&action["effect"], &action["drop_reason"]), (&json!("dropped"), &json!("vxlan_vni")));
    assert_eq!(steps(&trace, "verdict")[0]["drop_reason"], "vxlan_vni");
}

#[test]
fn an_inactive_table_and_a_miss() {
    let bench = Bench::new();
    let bypass = cvsw!("trace", "-d", "tx", "--hex", hex(&udp()));
    assert!(bypass.stdout.contains("the flow table is not active"), "{}", bypass.stdout);
    assert!(bypass.stdout.ends_with("verdict: forward\nthe frame is unchanged\n"), "{}", bypass.stdout);
    let flows = bench.file("flows", "arp,actions=drop");
    let miss = cvsw!("trace", "-d", "tx", "-f", flows, "--hex", hex(&udp()));
    assert!(miss.stdout.contains("no: dl_type is 0x0800, not 0x0806"), "{}", miss.stdout);
    assert!(miss.stdout.contains("no entry matches"), "{}", miss.stdout);
}

#[test]
fn a_long_table_is_cut_and_says_so() {
    let bench = Bench::new();
    let mut flows: String =
        (1..=300).map(|i| format!("priority={},tcp,tp_dst={i},actions=drop\n", 1000 + i)).collect();
    flows += "priority=1,udp,actions=mod_nw_tos:4\n";
    let file = bench.file("flows", &flows);
    let trace = cvsw!("trace", "-d", "tx", "-f", file, "--hex", hex(&udp()), "--json").json();
    let kinds: Vec<_> =
        trace["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(kinds[kinds.len() - 3..], ["omitted", "action", "verdict"]);
    assert!(steps(&trace, "entry").len() < 300);
    let short = bench.file("short", flows[flows.len() - 200..].split_once('\n').unwrap().1);
    let trace = cvsw!("trace", "-d", "tx", "-f", short, "--hex", hex(&udp()), "--json").json();
    assert!(steps(&trace, "omitted").is_empty());
}

#[test]
fn bad_input_is_an_error() {
    let bench = Bench::new();
    let read = bench.file("in.pcap", Pcap::default().encode(&timed(&[udp()])));
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--hex", "02 0"], 1, "the last byte is incomplete"),
        (&["--hex", "02 zz"], 1, "character 4 is 'z'"),
        (&["--read", &read, "--frame", "2"], 1, "there is no frame 2; the file has 1 frame"),
        (&["--read", &read, "--frame", "0"], 1, "numbered from 1"),
        (&["--read", &read, "--hex", "02"], 2, "cannot be used with"),
        (&[], 2, "required"),
        (&["--hex", "02", "--mac", "02:00"], 2, "is not a MAC address"),
        (&["--hex", "02", "--ethertype", "0x10"], 2, "is not an EtherType (0x600-0xffff)"),
    ];
    for (args, code, message) in cases {
        let run = crate::common::run(&[&["trace", "--direction", "tx"], *args].concat(), "");
        assert_eq!(run.code, *code, "{args:?}: {run:?}");
        assert!(run.stderr.contains(message), "{args:?}: {}", run.stderr);
    }
}
