//! Flow text as `ovs-ofctl` reads it: every spelling that it accepts for what we support, one by one and mixed at random.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

use cvsw_core::flow::text::{DisplayFlow, parse_flow};
use proptest::{
    prelude::{Strategy, any, prop},
    strategy::ValueTree,
    test_runner::TestRunner,
};
use std::process::Command;

/// Flows that `ovs-ofctl parse-flow` accepts.
const SPELLINGS: &[&str] = &[
    "in_port=1 actions=drop",
    "in_port=LOCAL actions=drop",
    "eth_type=0x0800,ip_proto=6,tcp_dst=80 actions=drop",
    "dl_type=0x800 actions=2",
    "ip,nw_src=10.0.0.0/255.255.255.0 actions=output:1",
    "ip,ip_src=10.0.0.0/24,ip_dst=10.0.0.1 actions=output(1)",
    "ip,nw_src=* actions=drop",
    "dl_vlan=0xffff actions=drop",
    "dl_vlan=5 actions=drop",
    "vlan_vid=0x1005/0x1fff actions=drop",
    "vlan_vid=0x1000/0x1000 actions=drop",
    "vlan_vid=0x1005 actions=drop",
    "vlan_pcp=3 actions=drop",
    "vlan_vid=0x1005,vlan_pcp=3 actions=drop",
    "dl_vlan_pcp=3 actions=drop",
    "vlan_tci=0 actions=drop",
    "vlan_tci=0x1005/0x1fff actions=drop",
    "vlan_tci=0x1000/0x1000 actions=drop",
    "ip,nw_tos=184 actions=drop",
    "ip,ip_dscp=46 actions=drop",
    "ip,nw_tos=0xb8 actions=drop",
    "ip,ip_frag=no actions=drop",
    "ip,ip_frag=yes actions=drop",
    "ip,ip_frag=first actions=drop",
    "ip,ip_frag=later actions=drop",
    "ip,ip_frag=not_later actions=drop",
    "tcp,tcp_flags=+syn-ack actions=drop",
    "tcp,tcp_flags=0x2/0x12 actions=drop",
    "tcp,tcp_flags=syn actions=drop",
    "tcp,tcp_flags=syn|ack actions=drop",
    "tcp,tcp_flags=2 actions=drop",
    "tcp,tcp_flags=+[200] actions=drop",
    "tcp6,tcp_src=80/0xff00 actions=drop",
    "tcp,tp_src=0x50 actions=drop",
    "udp,udp_dst=4789 actions=drop",
    "sctp,sctp_dst=5 actions=drop",
    "icmp,icmp_type=8,icmp_code=0 actions=drop",
    "icmp6,icmp_type=135,icmp_code=0 actions=drop",
    "icmp6,icmpv6_type=135 actions=drop",
    "arp,arp_op=1,arp_spa=10.0.0.1,arp_tpa=10.0.0.0/8 actions=drop",
    "arp,nw_proto=1,nw_src=1.2.3.4 actions=drop",
    "rarp,arp_op=3 actions=drop",
    "ipv6,ipv6_src=2001:db8::/32,ipv6_dst=::1 actions=drop",
    "ipv6,ipv6_dst=2001:db8::1/ffff:ffff:: actions=drop",
    "tun_id=5 actions=drop",
    "tun_id=0x5/0xff actions=drop",
    "tunnel_id=0x5 actions=drop",
    "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 actions=drop",
    "eth_src=02:00:00:00:00:01 actions=drop",
    "cookie=0x5,priority=7,idle_timeout=5,hard_timeout=6,send_flow_rem,check_overlap,arp actions=drop",
    "arp,actions=drop",
    "arp,action=drop",
    "arp actions=",
    "arp actions=mod_vlan_vid:5,mod_vlan_pcp:3,strip_vlan",
    "arp actions=mod_vlan_vid=5",
    "arp actions=set_vlan_vid:5",
    "arp actions=set_vlan_pcp:5",
    "arp actions=pop_vlan",
    "vlan_tci=0x1000/0x1000 actions=pop_vlan",
    "arp actions=mod_dl_src:02:00:00:00:00:01,mod_dl_dst:02:00:00:00:00:02",
    "ip actions=mod_nw_src:10.0.0.1,mod_nw_dst:10.0.0.2,mod_nw_tos:184",
    "tcp actions=mod_tp_src:80,mod_tp_dst:0x50",
    "ip actions=set_field:10.0.0.1->nw_src",
    "ip actions=set_field:10.0.0.1->ip_src",
    "arp actions=set_field:02:00:00:00:00:01->eth_src",
    "arp actions=set_field:02:00:00:00:00:01->dl_dst",
    "tcp actions=set_field:80->tcp_dst",
    "udp actions=set_field:80->udp_src",
    "ip actions=set_field:184->nw_tos",
    "ip actions=set_field:46->ip_dscp",
    "dl_vlan=5 actions=set_field:4101->vlan_vid",
    "dl_vlan=5 actions=set_field:3->vlan_pcp",
    "arp actions=resubmit:1",
    "arp actions=resubmit(1)",
    "arp actions=resubmit(,0)",
    "arp actions=resubmit(1,)",
    "arp actions=enqueue:1:2",
    "arp actions=enqueue(1,2)",
    "arp actions=enqueue:1q2",
    "arp actions=controller:128",
    "arp actions=CONTROLLER",
    "arp actions=controller",
    "arp actions=controller(max_len=128)",
    "arp actions=controller:65535",
    "arp actions=normal",
    "arp actions=NORMAL",
    "arp actions=output:NORMAL",
    "arp actions=flood",
    "arp actions=all",
    "arp actions=local",
    "arp actions=in_port",
    "arp actions=IN_PORT",
    "arp actions=1,2",
    "arp actions=1 2",
    "arp actions=drop",
    "priority=1 arp actions=drop",
    "ip,nw_proto=6,tp_dst=80 actions=drop",
    "ip,nw_proto=0x6 actions=drop",
    "dl_type=2048,nw_proto=17,tp_dst=53 actions=drop",
    "ip,nw_src=10.0.0.1/0.0.0.255 actions=drop",
    "dl_src=* actions=drop",
    "in_port=* actions=drop",
    "actions=drop",
    "priority=0,actions=NORMAL",
    "ip,priority=5 actions=drop",
    "cookie=5 actions=drop",
    "duration=5s,arp actions=drop",
    "n_packets=0,n_bytes=0,idle_age=5,hard_age=6,arp actions=drop",
    "send_flow_rem actions=drop",
    "ipv6,nw_proto=58 actions=drop",
    "tcp,nw_frag=no actions=drop",
    "ip,nw_frag=no actions=drop",
    "sctp6 actions=drop",
    "udp6,udp_src=1 actions=drop",
    "tcp,tcp_flags=0x002 actions=drop",
];

/// What `ovs-ofctl` makes of flows, one description each.
fn described(flows: &[String]) -> Vec<String> {
    let file = std::env::temp_dir().join(format!("cvsw-spellings-{}-{}", std::process::id(), flows.len()));
    std::fs::write(&file, flows.join("\n") + "\n").unwrap();
    let output =
        Command::new("ovs-ofctl").args(["--timeout=60", "-F", "nxm,openflow10", "parse-flows"]).arg(&file).output();
    let _ = std::fs::remove_file(&file);
    let output = output.unwrap_or_else(|error| panic!("ovs-ofctl is needed (Debian: openvswitch-common): {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let lines = printed.lines().filter_map(|line| line.split_once("FLOW_MOD")?.1.split_once("): "));
    lines.map(|(_, description)| description.to_owned()).collect()
}

/// `ovs-ofctl` must understand what we print as it understands what we read.
fn judge(flows: &[String]) {
    let printed: Vec<String> = flows
        .iter()
        .map(|flow| match parse_flow(flow) {
            Ok(parsed) => DisplayFlow(&parsed).to_string(),
            Err(error) => panic!("{flow}: {error}"),
        })
        .collect();
    let (theirs, ours) = (described(flows), described(&printed));
    assert_eq!((theirs.len(), ours.len()), (flows.len(), flows.len()));
    for ((theirs, ours), flow) in theirs.iter().zip(ours).zip(flows) {
        assert_eq!(*theirs, ours, "{flow}");
    }
}

#[test]
fn every_spelling_is_read_as_ovs_ofctl_reads_it() {
    let unread: Vec<_> = SPELLINGS.iter().filter_map(|flow| Some((flow, parse_flow(flow).err()?))).collect();
    assert!(unread.is_empty(), "{unread:#?}");
    judge(&SPELLINGS.iter().map(|flow| (*flow).to_owned()).collect::<Vec<_>>());
}

/// Fields that go together, in all their spellings; one of each group.
const PROFILES: &[&[&[&str]]] = &[
    &[
        &["tcp", "eth_type=0x0800,nw_proto=6", "dl_type=0x800,ip_proto=0x6", "ip,nw_proto=6"],
        &["", "nw_src=10.0.0.0/8", "ip_src=10.1.0.0/255.255.0.0", "nw_src=10.0.0.9/0.0.0.255", "ip_src=*"],
        &["", "nw_dst=192.0.2.1", "ip_dst=192.0.2.0/24"],
        &["", "tp_src=80", "tcp_src=0x50", "tcp_src=80/0xfff0"],
        &["", "tp_dst=80/0xff00", "tcp_dst=443"],
        &[
            "",
            "tcp_flags=+syn-ack",
            "tcp_flags=syn|ack",
            "tcp_flags=0x10/0x12",
            "tcp_flags=0x12",
            "tcp_flags=+[800]-ns",
        ],
        &["", "nw_tos=184", "ip_dscp=46", "nw_tos=0x20"],
    ],
    &[
        &["udp6", "ipv6,nw_proto=17", "dl_type=0x86dd,ip_proto=17"],
        &["", "ipv6_src=2001:db8::/32", "ipv6_src=::1", "ipv6_src=2001:db8::1/ffff::ffff"],
        &["", "ipv6_dst=fe80::1", "ipv6_dst=*"],
        &["", "udp_src=53", "tp_src=53"],
        &["", "udp_dst=4789", "tp_dst=0x12b5/0xff"],
        &["", "ip_frag=no", "nw_frag=first", "ip_frag=not_later", "ip_frag=yes"],
    ],
    &[
        &["arp", "dl_type=0x0806", "rarp"],
        &["", "arp_op=1", "nw_proto=2"],
        &["", "arp_spa=10.0.0.1", "nw_src=10.0.0.0/24"],
        &["", "arp_tpa=10.0.0.0/255.0.0.0", "nw_dst=10.0.0.1"],
    ],
    &[&["icmp", "ip,nw_proto=1"], &["", "icmp_type=8", "tp_src=8"], &["", "icmp_code=0", "tp_dst=3"]],
    &[&["icmp6"], &["", "icmp_type=135", "icmpv6_type=136"], &["", "icmpv6_code=0"]],
    &[&["sctp", "sctp6"], &["", "sctp_src=5", "tp_src=5/7"], &["", "sctp_dst=9"]],
    &[&["dl_type=0x88cc", "eth_type=0x05ff", ""]],
];

/// Fields and attributes that go with all of those.
const ANYWHERE: &[&[&str]] = &[
    &["", "in_port=1", "in_port=LOCAL", "in_port=7"],
    &["", "dl_vlan=5", "vlan_vid=0x1005/0x1fff", "vlan_vid=4101", "dl_vlan=0xffff", "vlan_tci=0x1000/0x1000"],
    &["", "dl_src=02:00:00:00:00:01", "eth_src=2:0:0:0:0:1/ff:ff:0:0:0:0"],
    &["", "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00", "eth_dst=02:00:00:00:00:02"],
    &["", "tun_id=0x5", "tunnel_id=5/0xff"],
    &["", "priority=7", "priority=0x10"],
    &["", "cookie=0x5", "cookie=17"],
    &["", "idle_timeout=5,hard_timeout=6", "send_flow_rem", "check_overlap"],
];

const ACTIONS: &[&str] = &[
    "mod_vlan_vid:5",
    "set_vlan_vid:7",
    "mod_vlan_pcp:3",
    "set_vlan_pcp=3",
    "strip_vlan",
    "pop_vlan",
    "mod_dl_src:02:00:00:00:00:01",
    "set_field:02:00:00:00:00:01->eth_dst",
    "output:2",
    "1",
    "NORMAL",
    "local",
    "CONTROLLER:64",
    "controller(max_len=64)",
    "enqueue:1:2",
    "enqueue(1,2)",
    "resubmit:1",
    "resubmit(2)",
    "resubmit(,0)",
];

/// One of each group, without the empty ones.
fn one_of_each(groups: &'static [&'static [&'static str]]) -> impl Strategy<Value = Vec<&'static str>> {
    let picks: Vec<_> = groups.iter().map(|group| prop::sample::select(group.to_vec())).collect();
    picks.prop_map(|picks| picks.into_iter().filter(|text| !text.is_empty()).collect())
}

fn flow() -> impl Strategy<Value = String> {
    let profile = prop::sample::select(PROFILES.to_vec());
    let fields = profile.prop_flat_map(one_of_each);
    let anywhere = (one_of_each(ANYWHERE), any::<[u8; 3]>()).prop_map(|(mut list, keep)| {
        // Few of them at a time.
        list.retain({
            let mut at = 0;
            move |_| {
                at += 1;
                keep[at % 3] & (1 << (at % 8)) != 0
            }
        });
        list
    });
    let actions = prop::collection::vec(prop::sample::select(ACTIONS.to_vec()), 0..4);
    (fields, anywhere, actions, prop::sample::select(vec![",", " ", ", "])).prop_map(
        |(fields, anywhere, actions, separator)| {
            let head = [anywhere, fields].concat().join(separator);
            let actions = if actions.is_empty() { "drop".to_owned() } else { actions.join(",") };
            format!("{head} actions={actions}")
        },
    )
}

#[test]
fn random_mixtures_are_read_as_ovs_ofctl_reads_them() {
    let mut runner = TestRunner::deterministic();
    let flows: Vec<String> = (0..2000).map(|_| flow().new_tree(&mut runner).unwrap().current()).collect();
    judge(&flows);
}

#[test]
fn spellings_with_a_rule_of_our_own() {
    let same = |one: &str, other: &str| assert_eq!(parse_flow(one), parse_flow(other));
    same("vlan_vid=0,actions=drop", "dl_vlan=0xffff,actions=drop");
    same("vlan_vid=0x1005,actions=drop", "dl_vlan=5,actions=drop");
    // There is one table, so that this is no other action.
    same("actions=resubmit(1,0)", "actions=resubmit:1");
    let error = parse_flow("vlan_vid=5,actions=drop").unwrap_err();
    assert_eq!((error.offset, error.len), (9, 1));
}
