//! The evaluation, as short as it can be: that it measures, reports and cleans up. Needs root, as the laboratory does.

use serde_json::Value;
use std::fs;
use std::process::{Command, Output};

#[test]
fn a_quick_evaluation_measures_and_reports() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("its path");
    let only = ["--only", "cable-vxlan-proposed", "--only", "cable-vxlan-linux", "--load", "512"];
    let output = eval(&[&["--quick", "--json", "--out", out], &only[..]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let evaluation: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let cells = evaluation["cells"].as_array().expect("cells");
    let ways: Vec<&str> = cells.iter().filter_map(|cell| cell["setup"]["way"].as_str()).collect();
    assert_eq!(ways, ["proposed", "proposed_af_xdp", "linux", "linux_fragments"], "{said}");
    for cell in cells {
        assert_eq!(cell["errors"], Value::Array(Vec::new()));
        let rate = cell["samples"][0]["mbit_per_second"][0].as_f64();
        assert!(rate.is_some_and(|rate| rate > 0.1), "{cell}");
        let cpu = &cell["samples"][0]["cpu"];
        assert!(cpu["application"].as_f64().is_some_and(|seconds| seconds > 0.0), "{cell}");
    }
    let latencies = evaluation["latencies"].as_array().expect("latencies");
    assert!(latencies.len() == 4 && latencies.iter().all(|latency| latency["p50"].as_f64() > Some(0.0)));
    let page = fs::read_to_string(folder.path().join("report.html")).expect("the page");
    assert!(page.contains("kernel vxlan device") && page.contains("<svg"));

    // The same report from the figures alone.
    let again = folder.path().join("again");
    let figures = folder.path().join("evaluation.json");
    let again = again.to_str().expect("its path");
    let output = eval(&["--render", figures.to_str().expect("its path"), "--out", again]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(format!("{again}/report.html")).expect("the page"), page);
}

#[test]
fn wrong_wishes_are_refused_before_anything_is_built() {
    for (args, said) in [
        (["--only", "nonsense"], "nothing is called nonsense"),
        (["--load", "65508"], "a number of octets from 16 to 65507"),
        (["--render", "/nonexistent"], "reading /nonexistent"),
    ] {
        let output = eval(&args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(said), "{args:?}: {error}");
    }
}

fn eval(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cvsw")).args(["lab", "eval"]).args(args).output().expect("starting cvsw")
}
