//! `cvsw sim`: a controller brings a small world to the wanted state and keeps it there. The program itself compares
//! every simulated vNIC with the configuration; the figures are nobody's business here.

use serde_json::Value;

#[test]
fn a_small_world_comes_to_the_wanted_state() {
    let run = cvsw!("sim", "--switches", "5", "--vnics", "200", "--keyed", "50", "--changes", "3", "--json");
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).expect("one JSON document");
    assert_eq!((&report["vnics"], &report["flows_per_vnic"]), (&200.into(), &20.into()));
    for figure in ["cold_seconds", "cold_known_seconds", "mtu_seconds", "mtu_known_seconds"] {
        assert!(report[figure].as_f64().is_some_and(|seconds| seconds > 0.0), "{figure}: {report}");
    }
    assert_eq!((&report["change"]["count"], &report["change_busy"]["count"]), (&3.into(), &1.into()));
    assert_eq!(report["rekey_seconds"], Value::Null, "nothing is encrypted");
    assert!(report["memory"]["converged"].as_u64() > report["memory"]["configured"].as_u64(), "{report}");
}

#[test]
fn an_encrypted_world_gets_other_keys() {
    let options = ["--switches", "2", "--vnics", "10", "--members", "5", "--flows", "8", "--changes", "0"];
    let run = crate::common::run(
        &[&["sim", "--cipher", "aes-128-gcm", "--keyed", "50", "--json"][..], &options].concat(),
        "",
    );
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).expect("one JSON document");
    assert!(report["rekey_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{report}");
}

#[test]
fn a_controller_that_does_not_start_is_an_error_with_its_reason() {
    let run = cvsw!("sim", "--program", "/nonexistent/cvsw");
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("cannot start /nonexistent/cvsw"), "{}", run.stderr);
}

#[test]
fn impossible_numbers_are_refused_with_possible_ones() {
    let run = cvsw!("sim", "--flows", "10");
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("20 entries") && run.stderr.contains("fewer --members"), "{}", run.stderr);
}

/// Runs a small world with three controllers, and with these options.
fn run_cluster(options: &[&str]) -> Value {
    let size = ["--switches", "6", "--vnics", "60", "--keyed", "50", "--members", "5", "--flows", "8"];
    let command = [&["sim", "--controllers", "3", "--limit", "100", "--json"][..], &size, options].concat();
    let run = crate::common::run_within(std::time::Duration::from_secs(400), &command);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).expect("one JSON document");
    assert_eq!(report["controllers"], 3);
    for switches in ["killed_switches", "stopped_switches"] {
        assert!(report[switches].as_u64().is_some_and(|switches| switches > 0), "{switches}: {report}");
    }
    for seconds in
        ["killed_takeover_seconds", "stopped_takeover_seconds", "leader_killed_mtu_seconds", "returned_seconds"]
    {
        assert!(report[seconds].as_f64().is_some_and(|seconds| seconds > 0.0), "{seconds}: {report}");
    }
    report
}

#[test]
fn switches_are_taken_over_from_a_controller_that_dies_or_stops_and_etcd_may_lose_a_node() {
    assert_eq!(run_cluster(&[])["keys"], Value::Null);
}

/// Members of a network are on switches of all three.
#[test]
fn encrypted_vnics_have_keys_all_the_time_whoever_dies() {
    let report = run_cluster(&["--cipher", "aes-128-gcm"]);
    let keys = &report["keys"];
    assert_eq!((&keys["ways"], &keys["broken_at_most"]), (&300.into(), &0.into()), "{report}");
    assert!(keys["looks"].as_u64().is_some_and(|looks| looks > 20), "{report}");
}
