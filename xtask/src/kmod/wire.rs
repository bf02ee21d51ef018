//! The wire between a machine's two NICs: taps of a bridge in a network namespace. A tap takes and gives super-frames and
//! unfinished checksums, so the NICs can really have their offloads on; and each NIC has its own queue to wait in.

use crate::command::Cmd;
use anyhow::{Context, Result};

const TAPS: [&str; 2] = ["tap0", "tap1"];
/// The largest frame that the tests send has this MTU.
const MTU: u32 = 9000;

/// The namespace; deleted when dropped.
pub struct Bridge {
    namespace: String,
}

impl Bridge {
    /// Sets one up for a machine of this name. Needs root.
    pub fn new(machine: &str) -> Result<Self> {
        let namespace = format!("cvsw-kmod-{machine}-{}", std::process::id());
        Cmd::new("ip").words("netns add").arg(&namespace).run().context("network namespaces need root")?;
        let this = Self { namespace };
        // Nothing but the machine's own frames.
        this.inside("sysctl").words("-qw net.ipv6.conf.default.disable_ipv6=1").run()?;
        this.inside("ip").words("link add br0 type bridge mcast_snooping 0").run()?;
        for tap in TAPS {
            this.inside("ip").words(&format!("tuntap add dev {tap} mode tap vnet_hdr")).run()?;
            this.inside("ip").words(&format!("link set {tap} mtu {MTU} master br0 up")).run()?;
        }
        this.inside("ip").words("link set br0 up").run()?;
        Ok(this)
    }

    /// The tap of a NIC.
    pub fn tap(&self, number: usize) -> &'static str {
        TAPS[number]
    }

    /// A command in the namespace.
    pub fn inside(&self, program: &str) -> Cmd {
        Cmd::new("ip").words("netns exec").arg(&self.namespace).arg(program)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = Cmd::new("ip").words("netns del").arg(&self.namespace).run();
    }
}
