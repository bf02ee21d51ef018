//! A controller that others wrote drives our vNIC through a real Open vSwitch.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use cvsw_core::control::SessionState;
use serde_json::{Value, json};

use super::support::{PATIENCE, ovs::Ovs, vnic::Vnic};

/// The virtual environment that `cargo xtask setup` makes.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/os-ken/bin/python");
const APP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/controller/os_ken_app.py");

struct OsKen {
    process: Child,
    said: mpsc::Receiver<Value>,
}

impl OsKen {
    fn start(port: u16) -> Self {
        assert!(Path::new(PYTHON).exists(), "{PYTHON} is missing: run `cargo xtask setup`");
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", PYTHON, APP, &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            lines.filter_map(|line| serde_json::from_str(&line).ok()).try_for_each(|line| sender.send(line))
        });
        Self { process, said }
    }

    /// The next thing that it says of this kind.
    fn hear(&self, kind: &str) -> Value {
        loop {
            let line = self.said.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("os-ken says no {kind}"));
            if let Some(value) = line.get(kind) {
                return value.clone();
            }
        }
    }
}

impl Drop for OsKen {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn os_ken_drives_our_vnic() {
    let ovs = Ovs::start("00000000000000d1");
    ovs.add_port("p1", 1);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let os_ken = OsKen::start(port);
    ovs.set_controller(&format!("tcp:127.0.0.1:{port}"));
    assert_eq!(os_ken.hear("switch"), 0xd1);
    let vnic = Vnic::start(&ovs.port_socket("p1"), "02:00:00:00:01:01".parse().unwrap(), true);
    assert_eq!(os_ken.hear("register"), "020000000101");
    let all = json!([
        "OFPActionVlanVid",
        "OFPActionVlanPcp",
        "OFPActionSetDlSrc",
        "OFPActionSetDlDst",
        "OFPActionSetNwSrc",
        "OFPActionSetNwDst",
        "OFPActionSetNwTos",
        "OFPActionSetTpSrc",
        "OFPActionSetTpDst"
    ]);
    let first = os_ken.hear("listing");
    let summary = |entry: &Value| (entry["priority"].clone(), entry["cookie"].clone(), entry["actions"].clone());
    let entries: Vec<_> = first.as_array().unwrap().iter().map(summary).collect();
    let entry = |priority: u16, actions: Value| (json!(priority), json!(0x1234), actions);
    // A match without wildcards has the highest priority, whatever was asked for (OpenFlow 1.0, section 3.4).
    assert_eq!(entries, [entry(65_535, all), entry(90, json!(["OFPActionSetTpDst"])), entry(80, json!([]))]);
    assert_eq!(
        (&first[0]["tp_dst"], &first[0]["dl_vlan"], &first[0]["in_port"]),
        (&json!(2), &json!(9), &json!(1))
    );
    assert_eq!(first[1]["nw_src"], 0x0a01_0000);
    assert_eq!(os_ken.hear("listing").as_array().unwrap().len(), 2, "one was deleted");
    vnic.look(|seen| {
        assert_eq!((seen.state, seen.mtu, seen.offloads), (SessionState::Connected, Some(1400), Some(0b01001)));
        assert_eq!(seen.flows.len(), 2);
    });
}
