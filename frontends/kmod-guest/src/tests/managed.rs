//! The machine's NIC is a port of a stock Open vSwitch outside, and the project's controller manages the vNIC
//! through it.

use crate::system::{run, run_all, wait_for};
use anyhow::{Context, Result};

/// Waits for what the controller's configuration gives this machine (`xtask/src/kmod/switch.rs`).
pub fn managed() -> Result<()> {
    plug_in()?;
    let checks: [(&str, &str, &[&str]); 4] = [
        ("the session", "cvsw ctl --dev cvsw0 stats", &["control session: CONNECTED"]),
        ("SET_MTU", "ip link show dev cvsw0", &[" mtu 1450 "]),
        (
            "SET_OFFLOAD",
            "ethtool -k cvsw0",
            &["tx-checksumming: on", "tcp-segmentation-offload: off", "generic-receive-offload: off"],
        ),
        ("SET_ENTRY", "cvsw ctl --dev cvsw0 flows list", &["priority=50000", "tp_dst=9", "actions=drop"]),
    ];
    for (what, command, wanted) in checks {
        let mut shown = String::new();
        wait_for(what, || {
            shown = run(command)?;
            Ok(wanted.iter().all(|text| shown.contains(text)))
        })
        .with_context(|| format!("`{command}` shows:\n{shown}"))?;
    }
    println!("KMOD-NOTE the controller set MTU, offloads and flows through Open vSwitch");
    run_all("ip link del cvsw0")
}

/// Makes the vNIC `cvsw0` on the NIC that leads to the switch.
pub fn plug_in() -> Result<()> {
    run_all(
        "ip link set nic0 up
         ip link add link nic0 name cvsw0 type cvsw
         ip link set cvsw0 up",
    )
}
