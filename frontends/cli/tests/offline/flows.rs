//! `cvsw flows check`.

use crate::common::{Bench, run};
use serde_json::json;

#[test]
fn prints_the_canonical_form() {
    let bench = Bench::new();
    let file = bench.file(
        "f",
        "# tenants\n\npriority=100,in_port=HOST,ip,nw_src=10.0.0.7/24,actions=mod_nw_dst:10.1.1.1,mod_tp_dst:8080\n  \
         udp , actions=drop   # no UDP\n",
    );
    let first = cvsw!("flows", "check", file);
    assert_eq!((first.code, first.stderr.as_str()), (0, ""));
    assert_eq!(first.stdout.lines().count(), 2);
    assert!(first.stdout.contains("nw_src=10.0.0.0/24"), "{}", first.stdout);
    // What was printed is a fixed point, and standard input works.
    let second = run(&["flows", "check", "-"], &first.stdout);
    assert_eq!((second.code, second.stdout), (0, first.stdout));
}

#[test]
fn points_at_every_error() {
    let bench = Bench::new();
    let file =
        bench.file("f", "udp,actions=drop\n\tip,nw_src=10.0.0.999,actions=drop\n# fine\nudp,actions=fly # away\n");
    let run = cvsw!("flows", "check", file);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    let lines: Vec<_> = run.stderr.lines().collect();
    assert!(lines[0].starts_with(&format!("{file}:2:12: expected ")), "{}", run.stderr);
    assert_eq!(lines[1], "  \tip,nw_src=10.0.0.999,actions=drop");
    assert!(lines[2].starts_with("  \t          ^"), "{:?}", lines[2]);
    assert!(lines[3].starts_with(&format!("{file}:4:13: expected ")), "{}", run.stderr);
    assert_eq!(lines.len(), 6);
    let report: serde_json::Value = serde_json::from_str(&cvsw!("flows", "check", file, "--json").stdout).unwrap();
    assert_eq!(report["errors"][0]["line"], 2);
    assert_eq!(report["errors"][0]["column"], 12);
    assert_eq!(report["errors"][1]["line"], 4);
    assert_eq!(report["flows"], json!([]));
}

#[test]
fn refuses_what_the_engine_refuses() {
    let bench = Bench::new();
    let file = bench.file("f", "udp,actions=drop\n\nip,actions=output:3\n");
    let run = cvsw!("flows", "check", file);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains(&format!("{file}:3:1: refused with OFPBAC_BAD_OUT_PORT")), "{}", run.stderr);
}

#[test]
fn warns_of_flows_that_cannot_be_meant() {
    let bench = Bench::new();
    let file = bench.file(
        "f",
        "priority=10,ip,nw_dst=10.0.0.1,actions=drop\n\
         priority=20,ip,actions=mod_nw_tos:4\n\
         priority=5,arp,actions=drop\n\
         priority=5,arp,actions=mod_vlan_vid:3\n\
         priority=7,udp,in_port=HOST,actions=drop\n\
         priority=30,tcp,tp_dst=80,actions=drop\n\
         priority=30,ip,nw_src=10.0.0.0/8,actions=mod_vlan_vid:3\n\
         priority=30,ip,nw_src=10.0.0.0/16,actions=mod_vlan_vid:3\n",
    );
    let report = cvsw!("flows", "check", file, "--json").json();
    let warnings: Vec<_> = report["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| (w["line"].as_u64().unwrap(), w["other_line"].as_u64().unwrap(), w["kind"].as_str().unwrap()))
        .collect();
    assert_eq!(
        warnings,
        [(1, 2, "shadowed"), (4, 3, "duplicate"), (5, 2, "shadowed"), (7, 6, "ambiguous"), (8, 6, "ambiguous")]
    );
    let text = cvsw!("flows", "check", file);
    assert_eq!(text.code, 0);
    assert!(text.stderr.contains(&format!("{file}:1:1: warning: never applies: line 2")), "{}", text.stderr);
    assert_eq!(text.stdout.lines().count(), 8);
}

#[test]
fn a_missing_file_is_named() {
    let run = cvsw!("flows", "check", "/no/such.flows");
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("/no/such.flows: No such file"), "{}", run.stderr);
}

#[test]
fn text_in_another_encoding_is_an_error_with_a_place() {
    let bench = Bench::new();
    let file = bench.file("f", b"udp,actions=drop\nudp,\xe9,actions=drop\n");
    let run = cvsw!("flows", "check", file);
    assert_eq!(run.code, 1);
    assert!(run.stderr.starts_with(&format!("{file}:2:5: expected UTF-8 text")), "{}", run.stderr);
}
