//! `cvsw replay`, judged by tshark and capinfos.

use crate::common::{Bench, Pcap, VM1, capinfos, editcap, frames, ping, tagged_udp, tcp, timed, tshark, udp};
use serde_json::{Value, json};
use std::fs;

const VXLAN: &str =
    "set_vxlan(vni=42,src=192.0.2.1,dst=192.0.2.2,eth_src=02:00:00:01:00:01,eth_dst=02:00:00:01:00:02)";

/// No checksum is wrong and nothing is malformed.
const SOUND: &str = "!(ip.checksum.status == 0) && !(udp.checksum.status == 0) && !(tcp.checksum.status == 0) \
                     && !(icmp.checksum.status == 0) && !_ws.malformed && !_ws.expert.severity == error";

type MakeFrame = fn() -> Vec<u8>;

#[test]
fn every_kind_of_flow() {
    let cases: &[(&str, MakeFrame, &str)] = &[
        ("", udp, "ip.src == 10.0.0.1 && udp.dstport == 5000 && frame.len == 86"),
        ("tcp,actions=drop", udp, "udp && ip.dst == 10.0.0.2"),
        ("udp,actions=mod_dl_src:02:00:00:00:00:aa", udp, "eth.src == 02:00:00:00:00:aa && udp"),
        ("udp,actions=mod_dl_dst:02:00:00:00:00:bb", udp, "eth.dst == 02:00:00:00:00:bb && udp"),
        ("ip,actions=mod_nw_src:172.16.1.1", udp, "ip.src == 172.16.1.1 && udp.checksum.status == 1"),
        ("ip,actions=mod_nw_dst:172.16.1.2", tcp, "ip.dst == 172.16.1.2 && tcp.checksum.status == 1"),
        ("ip,actions=mod_nw_dst:172.16.1.2", ping, "ip.dst == 172.16.1.2 && icmp.checksum.status == 1"),
        ("ip,actions=mod_nw_tos:184", udp, "ip.dsfield.dscp == 46 && ip.checksum.status == 1"),
        ("udp,actions=mod_tp_src:1234", udp, "udp.srcport == 1234 && udp.checksum.status == 1"),
        ("udp,actions=mod_tp_dst:1234", udp, "udp.dstport == 1234 && udp.checksum.status == 1"),
        ("tcp,actions=mod_tp_src:1234", tcp, "tcp.srcport == 1234 && tcp.checksum.status == 1"),
        ("tcp,actions=mod_tp_dst:8080", tcp, "tcp.dstport == 8080 && tcp.checksum.status == 1"),
        (
            "tcp,nw_src=10.0.0.0/24,tp_dst=80,actions=mod_nw_dst:10.1.1.1,mod_tp_dst:8080,mod_vlan_vid:9",
            tcp,
            "vlan.id == 9 && ip.dst == 10.1.1.1 && tcp.dstport == 8080 && tcp.checksum.status == 1",
        ),
        ("actions=mod_vlan_vid:5", udp, "vlan.id == 5 && vlan.priority == 0 && udp.dstport == 5000"),
        ("actions=mod_vlan_pcp:3", udp, "vlan.id == 0 && vlan.priority == 3 && udp.dstport == 5000"),
        ("dl_vlan=7,actions=mod_vlan_vid:8", tagged_udp, "vlan.id == 8 && frame.len == 90"),
        ("dl_vlan=7,actions=strip_vlan", tagged_udp, "!vlan && udp.dstport == 5000 && frame.len == 86"),
    ];
    for (flow, input, filter) in cases {
        let bench = Bench::new();
        let flows = bench.file("flows", flow);
        let read = bench.file("in.pcap", Pcap::default().encode(&timed(&[input()])));
        let write = bench.arg("out.pcap");
        let report = cvsw!("replay", "-d", "tx", "-f", flows, "-r", read, "-w", write, "--json").json();
        assert_eq!(report["output"]["frames"], 1, "{flow}: {report}");
        let seen = tshark(&write, &format!("({filter}) && {SOUND}"), &["frame.number"]);
        assert_eq!(seen, [["1"]], "{flow}: {:?}", tshark(&write, "frame", &["_ws.col.Info", "ip.checksum.status"]));
    }
}

#[test]
fn vxlan_there_and_back() {
    let bench = Bench::new();
    let inner = [udp(), tcp(), ping(), tagged_udp()];
    let read = bench.file("in.pcap", Pcap::default().encode(&timed(&inner)));
    let (wire, out) = (bench.arg("wire.pcap"), bench.arg("out.pcap"));
    let encap = bench.file("encap", format!("in_port=HOST,actions={VXLAN}"));
    let decap = bench.file("decap", "in_port=NET,udp,tp_dst=4789,actions=strip_vxlan(vni=42)");
    let there = cvsw!("replay", "-d", "tx", "-f", encap, "-r", read, "-w", wire, "--json").json();
    assert_eq!(there["output"], json!({"frames": 4, "bytes": inner.iter().map(|f| f.len() + 50).sum::<usize>()}));
    let outer = format!(
        "vxlan.vni == 42 && vxlan.flag_i == 1 && ip.src == 192.0.2.1 && ip.dst == 192.0.2.2 && udp.dstport == 4789 \
         && eth.dst == 02:00:00:01:00:02 && {SOUND}"
    );
    assert_eq!(tshark(&wire, &outer, &["frame.number"]).len(), 4);
    let back = cvsw!("replay", "-d", "rx", "-f", decap, "-r", wire, "-w", out, "--json").json();
    assert_eq!(back["output"]["frames"], 4, "{back}");
    assert_eq!(frames(&out), inner);
}

#[test]
fn time_stamps_are_kept() {
    for (nanos, first, last) in
        [(true, "1700000000.123456789", "1700000003.000000001"), (false, "1700000000.123456", "1700000003.000000")]
    {
        let bench = Bench::new();
        let input = [(1_700_000_000_123_456_789, udp()), (1_700_000_003_000_000_001, tcp())];
        let read = bench.file("in.pcap", Pcap { nanos, ..Pcap::default() }.encode(&input));
        let write = bench.arg("out.pcap");
        cvsw!("replay", "-d", "tx", "-r", read, "-w", write, "--json").json();
        assert_eq!(capinfos(&write, "-c"), "2");
        assert_eq!(capinfos(&write, "-a"), first);
        assert_eq!(capinfos(&write, "-e"), last);
        assert_eq!(fs::read(&read).unwrap()[24..], fs::read(&write).unwrap()[24..]);
    }
}

#[test]
fn every_format_gives_the_same() {
    let bench = Bench::new();
    let input = [(1_700_000_000_123_456_000, udp()), (1_700_000_003_000_001_000, tcp())];
    let little = bench.file("little.pcap", Pcap::default().encode(&input));
    let big = bench.file("big.pcap", Pcap { big_endian: true, ..Pcap::default() }.encode(&input));
    let micro = bench.file("micro.pcap", Pcap { big_endian: true, nanos: false, ..Pcap::default() }.encode(&input));
    let (ng, ng_micro) = (bench.arg("ng"), bench.arg("ng-micro"));
    editcap(&["-F", "pcapng", &little, &ng]);
    editcap(&["-F", "pcapng", &micro, &ng_micro]);
    for file in [little, big, micro, ng, ng_micro] {
        let write = bench.arg("out.pcap");
        let report = cvsw!("replay", "-d", "tx", "-r", file, "-w", write, "--json").json();
        assert_eq!(report["output"], json!({"frames": 2, "bytes": udp().len() + tcp().len()}));
        assert_eq!(frames(&write), [udp(), tcp()], "{file}");
        assert_eq!(
            tshark(&write, "frame", &["frame.time_epoch"]),
            [["1700000000.123456000"], ["1700000003.000001000"]]
        );
    }
}

#[test]
fn drops_carry_their_reason() {
    let bench = Bench::new();
    let control = [&[0xff; 6][..], &[0x21, 0, 0, 0, 0, 0, 0xab, 0xba], &[0; 46]].concat();
    let input = [udp(), tcp(), control.clone(), vec![0; 5]];
    let read = bench.file("in.pcap", Pcap::default().encode(&timed(&input)));
    let flows = bench.file("flows", "udp,actions=drop\ntcp,actions=mod_nw_dst:10.9.9.9,strip_vxlan\n");
    let drops = bench.arg("drops.pcapng");
    let report = cvsw!("replay", "-d", "tx", "-f", flows, "-r", read, "--drops", drops, "--json").json();
    assert_eq!(report["dropped"]["frames"], 4);
    assert_eq!(
        report["drop_reasons"],
        json!({"policy": 1, "tunnel_not_udp": 1, "control_from_host": 1, "frame_too_short": 1})
    );
    assert_eq!(capinfos(&drops, "-t"), "pcapng");
    assert_eq!(
        tshark(&drops, "frame", &["frame.comment", "frame.len", "frame.time_epoch"]),
        [
            ["policy", &udp().len().to_string(), "1.000000000"],
            ["tunnel_not_udp", &tcp().len().to_string(), "1.000001000"],
            ["control_from_host", "60", "1.000002000"],
            ["frame_too_short", "5", "1.000003000"],
        ]
    );
    // As they came: the second was rewritten before it was dropped.
    assert_eq!(tshark(&drops, "ip.dst == 10.0.0.2", &["frame.number"]), [["1"], ["2"]]);
}

#[test]
fn truncated_frames_are_counted_and_not_processed() {
    let bench = Bench::new();
    let whole = bench.file("whole.pcap", Pcap::default().encode(&timed(&[udp(), vec![0xff; 40], tcp()])));
    for format in ["nsecpcap", "pcapng"] {
        let read = bench.arg("short");
        editcap(&["-F", format, "-s", "60", &whole, &read]);
        let (write, drops) = (bench.arg("out.pcap"), bench.arg("drops.pcapng"));
        let run = cvsw!("replay", "-d", "tx", "-r", read, "-w", write, "--drops", drops, "--json");
        let report = run.json();
        assert_eq!(report["input"], json!({"frames": 3, "bytes": 160}));
        assert_eq!(report["truncated"], json!({"frames": 2, "bytes": 120}));
        assert_eq!(report["output"], json!({"frames": 1, "bytes": 40}));
        assert!(run.stderr.contains("2 frames truncated"), "{}", run.stderr);
        assert_eq!(frames(&write), [vec![0xff; 40]]);
        assert_eq!(
            tshark(&drops, "frame", &["frame.comment", "frame.len", "frame.cap_len"]),
            [["truncated capture: 60 of 86 bytes", "86", "60"], ["truncated capture: 60 of 98 bytes", "98", "60"]]
        );
    }
}

#[test]
fn timeouts_follow_the_time_stamps() {
    let bench = Bench::new();
    let second = 1_000_000_000;
    let at = |tenths: u64| (1000 * second + tenths * second / 10, udp());
    let input: Vec<_> = [0, 9, 18, 27, 39, 40].map(at).to_vec();
    let read = bench.file("in.pcap", Pcap::default().encode(&input));
    let replay = |flow: &str| {
        let flows = bench.file("flows", flow);
        cvsw!("replay", "-d", "tx", "-f", flows, "-r", read, "--json").json()
    };
    let idle = replay("udp,idle_timeout=1,actions=drop");
    assert_eq!((&idle["dropped"]["frames"], &idle["missed"], &idle["expired"]), (&json!(4), &json!(2), &json!(1)));
    assert_eq!(idle["flows"], json!([]));
    let hard = replay("udp,hard_timeout=2,actions=drop");
    assert_eq!((&hard["dropped"]["frames"], &hard["missed"], &hard["expired"]), (&json!(3), &json!(3), &json!(1)));
    let never = replay("udp,actions=drop");
    assert_eq!((&never["dropped"]["frames"], &never["expired"]), (&json!(6), &json!(0)));
    assert_eq!(never["flows"][0]["packets"], 6);
    assert_eq!(never["flows"][0]["bytes"], 6 * udp().len());
}

#[test]
fn time_that_runs_back_is_no_error() {
    let bench = Bench::new();
    let input = [(5_000_000_000, udp()), (1_000_000_000, tcp()), (6_000_000_000, ping())];
    let read = bench.file("in.pcap", Pcap::default().encode(&input));
    let write = bench.arg("out.pcap");
    let report = cvsw!("replay", "-d", "tx", "-r", read, "-w", write, "--json").json();
    assert_eq!(report["output"]["frames"], 3);
    assert_eq!(frames(&write), [udp(), tcp(), ping()]);
}

#[test]
fn order_is_kept_over_many_bursts() {
    let bench = Bench::new();
    let input: Vec<_> = (0..200u16)
        .map(|i| {
            let mut frame = udp();
            frame[70..72].copy_from_slice(&i.to_be_bytes());
            // Without a checksum the payload may be anything.
            frame[40..42].fill(0);
            frame
        })
        .collect();
    let read = bench.file("in.pcap", Pcap::default().encode(&timed(&input)));
    let flows = bench.file("flows", "udp,actions=mod_dl_dst:02:00:00:00:00:bb");
    let write = bench.arg("out.pcap");
    cvsw!("replay", "-d", "tx", "-f", flows, "-r", read, "-w", write, "--json").json();
    let seen: Vec<_> = frames(&write).iter().map(|frame| frame[70..72].to_vec()).collect();
    let sent: Vec<_> = input.iter().map(|frame| frame[70..72].to_vec()).collect();
    assert_eq!(seen, sent);
}

#[test]
fn the_report_adds_up() {
    let bench = Bench::new();
    let hello = control_frame(1, 0, &[]);
    let input = [udp(), tcp(), ping(), hello, vec![1; 4], udp()];
    let whole = bench.file("whole", Pcap::default().encode(&timed(&input)));
    let read = bench.arg("in.pcapng");
    editcap(&["-F", "pcapng", "-s", "90", &whole, &read]);
    let flows = bench.file("flows", "udp,actions=drop\npriority=5,icmp,actions=mod_nw_tos:4");
    let run = cvsw!("replay", "-d", "rx", "-f", flows, "-r", read, "--json");
    let report = run.json();
    let count = |name: &str| report[name]["frames"].as_u64().unwrap();
    assert_eq!(count("input"), 6);
    assert_eq!(count("input"), count("truncated") + count("output") + count("consumed") + count("dropped"));
    assert_eq!((count("truncated"), count("output"), count("consumed"), count("dropped")), (1, 1, 1, 3));
    let reasons = report["drop_reasons"].as_object().unwrap().values().map(|n| n.as_u64().unwrap());
    assert_eq!(reasons.sum::<u64>(), count("dropped"));
    let hits = report["flows"].as_array().unwrap().iter().map(|flow| flow["packets"].as_u64().unwrap());
    assert_eq!(hits.sum::<u64>(), 3);
    assert_eq!(report["missed"], 0);
    let text = cvsw!("replay", "-d", "rx", "-f", flows, "-r", read);
    for part in
        ["in         6 frames", "policy                   2", "consumed   1 frame, 60 bytes", "truncated  1 frame"]
    {
        assert!(text.stdout.contains(part), "{part:?} in {}", text.stdout);
    }
}

/// A version-2 control frame to VM1, padded to Ethernet's minimum.
fn control_frame(kind: u8, data: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = VM1.to_vec();
    frame.extend([0x20 | kind, 0]);
    frame.extend((body.len() as u16).to_be_bytes());
    frame.extend(data.to_be_bytes());
    frame.extend([0xab, 0xba]);
    frame.extend(body);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// SET_ENTRY: `udp` is dropped. OpenFlow 1.0, byte by byte.
fn set_entry_drop_udp() -> Vec<u8> {
    let mut body = vec![1, 14, 0, 72, 0, 0, 0, 1];
    // Wildcards: everything but dl_type (bit 4) and nw_proto (bit 5); prefixes of 32 wildcarded bits.
    body.extend(0x0038_20cf_u32.to_be_bytes());
    body.extend([0; 18]);
    body.extend([0x08, 0x00, 0, 17, 0, 0]);
    body.extend([0; 12]);
    // Cookie, ADD, no timeouts, priority 100, no buffer, no output port, no flags.
    body.extend([0; 8]);
    body.extend([0, 0, 0, 0, 0, 0, 0, 100]);
    body.extend([0xff; 6]);
    body.extend([0, 0]);
    control_frame(3, 0, &body)
}

fn control_session(bench: &Bench, mac: &str) -> (Value, String) {
    let session = [
        control_frame(1, 0, &[]),
        control_frame(5, 1450, &[]),
        control_frame(6, 1, &[]),
        set_entry_drop_udp(),
        udp(),
    ];
    let control = bench.file("control.pcap", Pcap::default().encode(&timed(&session)));
    let read = bench.file("in.pcap", Pcap::default().encode(&timed(&[udp(), tcp()])));
    let replies = bench.arg("replies.pcap");
    let args = ["replay", "-d", "tx", "--mac", mac, "-c", &control, "-r", &read, "--replies", &replies, "--json"];
    let run = crate::common::run(&args, "");
    (run.json(), run.stderr)
}

#[test]
fn control_frames_make_a_session() {
    let bench = Bench::new();
    let (report, stderr) = control_session(&bench, "02:00:00:00:01:01");
    assert_eq!(report["control"], json!({"frames": 5, "accepted": 4, "refused": {}, "ignored": 1}));
    assert!(stderr.contains("1 frame without the control EtherType ignored"), "{stderr}");
    assert_eq!(
        report["events"],
        json!(["session CONNECTING", "session CONNECTED", "set_mtu 1450", "set_offload csum"])
    );
    assert_eq!(report["drop_reasons"], json!({"policy": 1}));
    assert_eq!(report["flows"][0]["packets"], 1);
    // REGISTER: type 2, our own address in the destination.
    let replies = frames(&bench.arg("replies.pcap"));
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0][..14], [2, 0, 0, 0, 1, 1, 0x22, 0, 0, 0, 0, 0, 0xab, 0xba]);
}

#[test]
fn control_frames_to_another_vnic_are_refused_with_a_hint() {
    let bench = Bench::new();
    let (report, stderr) = control_session(&bench, "02:00:00:00:01:99");
    assert_eq!(report["control"]["refused"], json!({"not_for_us": 4}));
    assert_eq!(report["output"]["frames"], 2);
    assert!(stderr.contains("--mac"), "{stderr}");
}

#[test]
fn bad_captures_are_refused_with_the_reason() {
    let bench = Bench::new();
    let good = Pcap::default().encode(&timed(&[udp(), tcp()]));
    let cases = [
        ("missing", bench.arg("missing.pcap"), "No such file"),
        ("empty", bench.file("empty", ""), "the file is empty"),
        ("text", bench.file("text", "hello, world"), "neither pcap nor pcapng (starts with 68 65 6c 6c)"),
        ("gzip", bench.file("gzip", [0x1f, 0x8b, 8, 0]), "run gunzip"),
        ("cooked", bench.file("cooked", Pcap { linktype: 113, ..Pcap::default() }.encode(&[])), "link type 113"),
        ("header", bench.file("header", &good[..20]), "ends in the middle"),
        (
            "cut",
            bench.file("cut", &good[..good.len() - 1]),
            "malformed after 1 frames: the file ends in the middle",
        ),
    ];
    for (name, file, message) in cases {
        let run = cvsw!("replay", "-d", "tx", "-r", file, "--json");
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{name}: {run:?}");
        assert!(run.stderr.contains(message) && run.stderr.contains(&file), "{name}: {}", run.stderr);
    }
    let cooked = bench.file("cooked", Pcap { linktype: 113, ..Pcap::default() }.encode(&timed(&[udp()])));
    let cooked_ng = bench.arg("cooked.pcapng");
    editcap(&["-F", "pcapng", &cooked, &cooked_ng]);
    let run = cvsw!("replay", "-d", "tx", "-r", cooked_ng);
    assert!(run.code == 1 && run.stderr.contains("link type 113"), "{run:?}");
}

#[test]
fn an_output_never_overwrites_the_input() {
    let bench = Bench::new();
    let bytes = Pcap::default().encode(&timed(&[udp()]));
    let read = bench.file("in.pcap", &bytes);
    for option in ["--write", "--drops", "--replies"] {
        let run = cvsw!("replay", "-d", "tx", "-r", read, option, read);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains(&format!("{option} and --read both name")), "{}", run.stderr);
        assert_eq!(fs::read(&read).unwrap(), bytes);
    }
    let out = bench.arg("out");
    let run = cvsw!("replay", "-d", "tx", "-r", read, "--write", out, "--drops", out);
    assert!(run.code == 1 && run.stderr.contains("--write and --drops both name"), "{run:?}");
    let run = cvsw!("replay", "-d", "tx", "-r", read, "--write", bench.arg("no/such/folder"));
    assert!(run.code == 1 && run.stderr.contains("no/such/folder"), "{run:?}");
}

#[test]
fn an_empty_capture_is_fine() {
    let bench = Bench::new();
    let read = bench.file("in.pcap", Pcap::default().encode(&[]));
    let flows = bench.file("flows", "udp,actions=drop");
    let write = bench.arg("out.pcap");
    let report = cvsw!("replay", "-d", "tx", "-f", flows, "-r", read, "-w", write, "--json").json();
    assert_eq!(report["input"]["frames"], 0);
    assert_eq!(capinfos(&write, "-c"), "0");
}

#[test]
fn frames_over_the_link_mtu_are_dropped() {
    let bench = Bench::new();
    let read = bench.file("in.pcap", Pcap::default().encode(&timed(&[udp(), tcp()])));
    let report = cvsw!("replay", "-d", "tx", "-r", read, "--link-mtu", "90", "--json").json();
    assert_eq!(report["drop_reasons"], json!({"frame_too_big": 1}));
}
