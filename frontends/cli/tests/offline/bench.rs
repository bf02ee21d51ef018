//! `cvsw bench`: that it measures and reports. Its figures are nobody's business here.

use serde_json::Value;

#[test]
fn a_quick_run_reports_every_part() {
    let run = cvsw!("bench", "--quick", "--scenario", "rewrite", "--threads", "2", "--json");
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).expect("one JSON document");
    let engine = report["engine"].as_array().expect("the engine's table");
    let of = |name: &str| engine.iter().filter(|row| row["scenario"] == name).collect::<Vec<_>>();
    assert_eq!(of("restore").len(), 1);
    // One and 10,000 flows found in the cache and not, two tables of many masks, two with two threads.
    assert_eq!(of("rewrite").len(), 8, "{engine:#?}");
    for row in engine {
        let figure = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("no {name}: {row}"));
        assert!(figure("mpps") > 0.0 && figure("nanoseconds_per_packet") > 0.0, "{row}");
        assert!(figure("cache_hit_share") == 0.0 || row["cache"] == "hit", "{row}");
    }
    assert_eq!(report["changes"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["port_loop"].as_array().map(Vec::len), Some(5), "two of them without an engine");
    let ciphers = report["ciphers"].as_array().expect("sealing and opening");
    assert_eq!(ciphers.len(), 6 * 2 * 4 * 3, "suites, implementations, operations, sizes");
    for row in ciphers {
        assert!(row["nanoseconds_per_packet"].as_f64().is_some_and(|nanos| nanos > 0.0), "{row}");
        assert_eq!(row["operation"] == "vxlan+esp", row["over_bare_seal"].is_number(), "{row}");
        assert_eq!(row["of_openssl"], Value::Null, "nobody asked for it");
    }
    assert_eq!(report["peers"], Value::Null, "nobody asked for them");
}

#[test]
fn an_unknown_scenario_is_named_with_those_there_are() {
    let run = cvsw!("bench", "--scenario", "teleport");
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("teleport") && run.stderr.contains("vxlan_encap"), "{}", run.stderr);
}
