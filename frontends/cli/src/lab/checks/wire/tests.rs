//! Tables as tshark writes them, right and wrong.

use super::*;
use crate::lab::topology::Plan;

const RULES: [Rule; 5] =
    [Rule::VxlanOnly, Rule::OwnNetwork, Rule::Checksums, Rule::DontFragment, Rule::SourcePorts];

fn topology() -> Topology {
    Topology::new("t", Plan { pairs: 1, networks: 2, unikernels: 0, cipher: None, offloads: false }).unwrap()
}

/// A right UDP frame from the first VM to the second, with some fields replaced.
fn frame(replace: &[(&str, &str)]) -> String {
    let lab = topology();
    let (from, to) = (&lab.vms[0], &lab.vms[1]);
    let both = |outer: String, inner: String| format!("{outer},{inner}");
    let value = |field: &str| match field {
        "frame.number" => "1".into(),
        "frame.len" => "1514".into(),
        "frame.protocols" => "eth:ethertype:ip:udp:vxlan:eth:ethertype:ip:udp:data".into(),
        "eth.src" => both(from.underlay_mac.to_string(), from.mac.to_string()),
        "eth.dst" => both(to.underlay_mac.to_string(), to.mac.to_string()),
        "ip.src" => both(from.underlay_ip.to_string(), from.ip.to_string()),
        "ip.dst" => both(to.underlay_ip.to_string(), to.ip.to_string()),
        "ip.proto" => "17,17".into(),
        "ip.flags.df" | "ip.checksum.status" => "1,1".into(),
        "ip.flags.mf" | "ip.frag_offset" => "0,0".into(),
        "udp.srcport" => "50000,1234".into(),
        "udp.dstport" => "4789,7777".into(),
        "udp.checksum.status" => "3,1".into(),
        "vxlan.flags" => "0x0800".into(),
        "vxlan.vni" => "42".into(),
        _ => String::new(),
    };
    let pick = |field: &&str| {
        let other = replace.iter().find(|(name, _)| name == field);
        other.map_or_else(|| value(field), |(_, text)| (*text).to_owned())
    };
    FIELDS.iter().map(pick).collect::<Vec<_>>().join("\t") + "\n"
}

/// What turns a frame into a control frame.
fn control<'a>(header: &'a str, to: &'a str) -> [(&'a str, &'a str); 4] {
    [("frame.protocols", "eth"), ("eth.type", CONTROL_TYPE), ("eth.src", header), ("eth.dst", to)]
}

fn broken(table: &str) -> Vec<Rule> {
    let dissection = Dissection::judge(table, &topology()).unwrap();
    RULES.into_iter().filter(|rule| dissection.verdict(*rule).is_err()).collect()
}

#[test]
fn a_right_frame_passes_every_rule() {
    assert_eq!(broken(&frame(&[])), []);
}

#[test]
fn probes_are_counted_apart() {
    for probe in OTHER_PROBES.iter().chain([&PROBE_HELLO]) {
        let table = frame(&[]) + &frame(&control(probe, "ff:ff:ff:ff:ff:ff"));
        let dissection = Dissection::judge(&table, &topology()).unwrap();
        assert_eq!((dissection.vxlan, dissection.probes), (1, 1));
        assert_eq!(broken(&table), []);
    }
}

#[test]
fn an_empty_capture_passes_no_rule() {
    assert_eq!(broken(""), RULES);
}

#[test]
fn every_kind_of_wrong_frame_breaks_its_rule() {
    let cases: [(&[(&str, &str)], Rule); 14] = [
        (&[("frame.protocols", "eth:ethertype:arp")], Rule::VxlanOnly),
        (&[("frame.protocols", "eth:ethertype:ip:udp:data")], Rule::VxlanOnly),
        (&[("vxlan.flags", "0x0000")], Rule::VxlanOnly),
        (&control("21:00:00:00:00:00", "02:00:00:00:01:02"), Rule::VxlanOnly),
        (&control("23:00:00:50:00:00", "ff:ff:ff:ff:ff:ff"), Rule::VxlanOnly),
        (&[("vxlan.vni", "43")], Rule::OwnNetwork),
        (&[("eth.src", "02:00:00:01:01:01,02:00:00:00:02:01")], Rule::OwnNetwork),
        (&[("ip.dst", "198.18.2.2,10.0.0.2")], Rule::OwnNetwork),
        (&[("udp.checksum.status", "3,0")], Rule::Checksums),
        (&[("udp.checksum.status", "0,1")], Rule::Checksums),
        (&[("ip.checksum.status", "0,1")], Rule::Checksums),
        (&[("ip.flags.df", "0,1")], Rule::DontFragment),
        (&[("frame.len", "1564")], Rule::DontFragment),
        (&[("udp.srcport", "1024,1234")], Rule::SourcePorts),
    ];
    // Beside a right one of another flow.
    let right = frame(&[("udp.srcport", "50001,99")]);
    for (replace, rule) in cases {
        assert_eq!(broken(&(right.clone() + &frame(replace))), [rule], "{replace:?}");
    }
}

#[test]
fn a_flow_keeps_its_port_and_flows_differ() {
    let flow = |inner: u16, outer: u16| frame(&[("udp.srcport", &format!("{outer},{inner}"))]);
    assert_eq!(broken(&(flow(1, 50_001) + &flow(1, 50_002))), [Rule::SourcePorts]);
    let same: String = (1..=10).map(|inner| flow(inner, 50_000)).collect();
    assert_eq!(broken(&same), [Rule::SourcePorts]);
    let apart: String = (1..=10).map(|inner| flow(inner, 50_000 + inner)).collect();
    assert_eq!(broken(&apart), []);
}
