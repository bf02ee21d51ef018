//! The examples do what they say.

use std::process::Command;

fn run(program: &str, args: &[&str]) -> (bool, String, String) {
    let output = Command::new(program).args(args).output().expect("the example starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn embed() {
    let (success, out, _) = run(env!("CARGO_BIN_EXE_embed"), &[]);
    assert!(success);
    assert_eq!(out, "tx: forward 64 bytes\nrx: forward 60 bytes\nrx: 1 frames, 1 matched no entry\n");
}

#[test]
fn control_session() {
    let (success, out, _) = run(env!("CARGO_BIN_EXE_control_session"), &[]);
    assert!(success);
    for line in [
        "  vNIC: Register, 0 bytes of body",
        "  event: SetMtu(IpMtu(1450))",
        "  event: Session(Connected)",
        "  vNIC: ListEntries, 72 bytes of body",
        "  vNIC: ListEntries, 0 bytes of body",
    ] {
        assert!(out.lines().any(|other| other == line), "{line:?} in\n{out}");
    }
    assert_eq!(out.matches("verdict: Consumed").count(), 5);
}

#[test]
fn flow_text() {
    let (success, out, _) = run(env!("CARGO_BIN_EXE_flow_text"), &[]);
    assert!(success);
    assert!(out.contains("nw_src=10.0.0.0/24"), "{out}");
    assert!(out.contains("applies to tx: true\napplies to rx: false\n"), "{out}");
    assert!(out.ends_with("the same again: true\n"), "{out}");
    let (success, _, err) = run(env!("CARGO_BIN_EXE_flow_text"), &["udp,actions=fly"]);
    assert!(!success && err.contains("expected"), "{err}");
}
