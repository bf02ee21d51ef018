//! The Wireshark dissector that we ship, on the messages of the book (which other tests hold against the code).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

use cvsw_testkit::{hex, tshark::Capture};
use std::path::Path;

const SCRIPT: &str = "../tools/wireshark/cvsw.lua";

fn frames(page: &str) -> Vec<Vec<u8>> {
    page.split("```hex\n").skip(1).map(|block| hex::bytes(block.split("```").next().unwrap())).collect()
}

/// The first value of each field in each frame; empty if it is not there.
fn dissect(name: &str, frames: &[Vec<u8>], fields: &[&str]) -> Vec<Vec<String>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(SCRIPT);
    let capture = Capture::write(name, frames);
    let dissected = capture.dissect_with_script(&script, fields);
    assert_eq!(dissected.len(), frames.len());
    let first =
        |values: Vec<Vec<String>>| values.into_iter().map(|v| v.first().cloned().unwrap_or_default()).collect();
    dissected.into_iter().map(first).collect()
}

#[test]
fn version_2() {
    let frames = frames(include_str!("../../docs/src/protocol-v2.md"));
    let fields = [
        "cvsw.version",
        "cvsw.type",
        "cvsw.len",
        "cvsw.mtu",
        "cvsw.offload",
        "cvsw.flow.priority",
        "openflow_1_0.type",
        "_ws.malformed",
    ];
    let rows = dissect("cvsw-v2", &frames, &fields);
    let expected = [
        ["2", "1", "0", "", "", "", "", ""],
        ["2", "2", "0", "", "", "", "", ""],
        ["2", "1", "0", "", "", "", "", ""],
        ["2", "5", "0", "1450", "", "", "", ""],
        ["2", "6", "0", "", "0x0003", "", "", ""],
        ["2", "3", "136", "", "", "100", "14", ""],
        ["2", "4", "72", "", "", "32768", "", ""],
        ["2", "8", "88", "", "", "7", "", ""],
    ];
    assert_eq!(rows, expected);
}

#[test]
fn version_3() {
    let frames = frames(include_str!("../../docs/src/protocol-v3.md"));
    let fields = [
        "cvsw.version",
        "cvsw.type",
        "cvsw.flags.authenticated",
        "cvsw.flags.chained",
        "cvsw.instance",
        "cvsw.epoch",
        "cvsw.sequence",
        "cvsw.mtu",
        "cvsw.challenge",
        "cvsw.flow.priority",
    ];
    let rows = dissect("cvsw-v3", &frames, &fields);
    let (vnic, challenge) = ("0x1122334455667788", "0x0badcafe0badcafe");
    let expected = [
        ["3", "1", "0", "0", "0x0000000000000000", "5", "0", "", challenge, ""],
        ["3", "2", "1", "0", vnic, "0", "0", "0", challenge, ""],
        ["3", "5", "1", "0", vnic, "5", "1", "1450", "", ""],
        ["3", "10", "1", "0", vnic, "5", "1", "", "", ""],
        ["3", "5", "0", "0", vnic, "5", "1", "1450", "", ""],
        ["3", "3", "1", "1", vnic, "5", "2", "", "", "100"],
        ["3", "12", "1", "0", vnic, "5", "2", "", "", ""],
        ["3", "6", "1", "0", vnic, "5", "4", "", "", ""],
        ["3", "4", "1", "0", vnic, "5", "5", "", "", "32768"],
        ["3", "12", "1", "0", vnic, "4", "9", "", "", ""],
        ["3", "8", "1", "0", vnic, "5", "1", "", "", "7"],
        ["3", "9", "1", "0", vnic, "5", "3", "", "", ""],
        ["3", "10", "1", "0", vnic, "5", "3", "", "", ""],
        ["3", "7", "1", "0", vnic, "5", "1", "", "", ""],
        ["3", "14", "1", "0", vnic, "5", "1", "", "", "100"],
        ["3", "11", "1", "0", vnic, "5", "3", "", "", ""],
        ["3", "14", "1", "0", vnic, "5", "3", "", "", ""],
        ["3", "11", "1", "0", vnic, "5", "4", "", "", ""],
        ["3", "14", "1", "0", vnic, "5", "4", "1450", "0x0000000000000000", ""],
        ["3", "11", "1", "0", vnic, "5", "2", "", "", ""],
        ["3", "14", "1", "0", vnic, "5", "2", "", "", ""],
    ];
    assert_eq!(rows, expected);
    for (frame, row) in frames.iter().zip(dissect("cvsw-v3-tags", &frames, &["cvsw.tag", "_ws.malformed"])) {
        let sealed = frame[7] & 1 == 1;
        let tag: String = frame[frame.len() - 16..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(row, [if sealed { tag } else { String::new() }, String::new()]);
    }
}

#[test]
fn the_payloads_of_version_3() {
    let frames = frames(include_str!("../../docs/src/protocol-v3.md"));
    let cases: [(usize, &[(&str, &str)]); 13] = [
        (
            1,
            &[
                ("cvsw.vnic.capacity", "16384"),
                ("cvsw.vnic.session", "1"),
                ("cvsw.vnic.has_key", "1"),
                ("cvsw.vnic.window", "32"),
            ],
        ),
        (3, &[("cvsw.answer.command", "5"), ("cvsw.answer.class", "0"), ("cvsw.vnic.executed", "1")]),
        (
            6,
            &[
                ("cvsw.answer.command", "3"),
                ("cvsw.answer.class", "1"),
                ("cvsw.answer.of_type", "3"),
                ("cvsw.answer.code", "0"),
                ("cvsw.answer.priority", "100"),
                ("cvsw.answer.cookie", "0x0000000000000007"),
                ("_ws.expert.message", "A command was refused"),
            ],
        ),
        (7, &[("cvsw.offload", "0x0003"), ("cvsw.offload.tso", "1"), ("cvsw.offload.gro", "0")]),
        (8, &[("cvsw.flow.command", "3"), ("cvsw.flow.cookie", "0x0000000000000000")]),
        (
            9,
            &[
                ("cvsw.answer.class", "2"),
                ("cvsw.answer.reason", "1"),
                ("cvsw.vnic.epoch", "5"),
                ("_ws.expert.message", "A command was refused"),
            ],
        ),
        (10, &[("cvsw.flow.cookie", "0x0000000000000005"), ("cvsw.flow.reason", "0")]),
        (
            11,
            &[
                ("cvsw.sa.operation", "1"),
                ("cvsw.sa.suite", "1"),
                ("cvsw.sa.wrapped", "1"),
                ("cvsw.sa.spi", "0x00001234"),
                ("cvsw.sa.destination", "192.0.2.1"),
                ("cvsw.sa.key_len", "32"),
            ],
        ),
        (12, &[("cvsw.sa.result", "0"), ("cvsw.sa.state", "1"), ("cvsw.sa.id", "7")]),
        (
            14,
            &[
                ("cvsw.subject", "1"),
                ("cvsw.page.last", "1"),
                ("cvsw.page.count", "1"),
                ("cvsw.entry.packets", "2"),
                ("cvsw.entry.bytes", "120"),
                ("cvsw.entry.seconds", "61"),
            ],
        ),
        (16, &[("cvsw.subject", "2"), ("cvsw.counter.name", "rx_forwarded"), ("cvsw.counter.value", "2")]),
        (
            18,
            &[
                ("cvsw.subject", "3"),
                ("cvsw.vnic.executed", "6"),
                ("cvsw.vnic.session", "2"),
                ("cvsw.offload", "0x0003"),
                ("cvsw.vnic.in_force", "0x0001"),
            ],
        ),
        (
            20,
            &[
                ("cvsw.subject", "4"),
                ("cvsw.page.count", "1"),
                ("cvsw.sa.id", "7"),
                ("cvsw.sa.spi", "0x00001234"),
                ("cvsw.sa.destination", "192.0.2.1"),
                ("cvsw.sa.suite", "1"),
                ("cvsw.sa.on", "0"),
                ("cvsw.sa.state", "1"),
            ],
        ),
    ];
    for (index, expected) in cases {
        let (fields, values): (Vec<_>, Vec<_>) = expected.iter().copied().unzip();
        assert_eq!(
            dissect(&format!("cvsw-v3-{index}"), &frames[index..=index], &fields),
            [values],
            "frame {index}"
        );
    }
}

/// Cut off anywhere, a message is called so and the dissector goes on.
#[test]
fn what_is_cut_off_is_malformed() {
    let frames = frames(include_str!("../../docs/src/protocol-v3.md"));
    let cut: Vec<Vec<u8>> = frames.iter().flat_map(|f| (15..f.len()).map(|len| f[..len].to_vec())).collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(SCRIPT);
    let rows = Capture::write("cvsw-cut", &cut).dissect_with_script(&script, &["cvsw.version", "cvsw.short"]);
    assert_eq!(rows.len(), cut.len());
    for (row, frame) in rows.iter().zip(&cut) {
        assert_eq!((row[0].len(), row[1].len()), (1, 1), "{} bytes: {row:?}", frame.len());
    }
}
