//! The configuration file: networks and their members.
//!
//! ```toml
//! listen = ["tcp:127.0.0.1:6653", "unix:/run/cvsw/controller.sock"]  # optional
//! ethertype = 0xabba          # optional
//! underlay_mtu = 1500         # optional: largest IP packet of the network below
//! keys_in_clear = false       # optional: whether keys may travel in clear on the control channel; needed for `cipher`
//! control_keys = "/etc/cvsw/control-keys"  # optional: a folder with the control keys of vNICs, each in a file that is
//!                             # named after the vNIC's address (02:00:00:00:01:01.key) and only its owner may read
//! version_3 = "with-key"      # optional: who is spoken to in version 3 of the control protocol: vNICs "with-key"; "offer"
//!                             # it to others as well; or "require" it of all, so that version 2 is refused
//! forwarding = "normal"       # optional: "normal" gives each switch a lowest flow actions=NORMAL, "none" does not
//! control_rate = 10000        # optional: control messages per second to the vNICs of one switch, at most
//!
//! store = "/var/lib/cvsw/state.redb"  # optional: keep desired state there, or in "etcd://HOST:PORT,..."; what follows
//!                             # below is imported once
//!
//! [tls]                       # needed for `listen = ["tls:..."]`: switches show certificates, and check ours
//! certificate = "/etc/cvsw/controller.crt"
//! key = "/etc/cvsw/controller.key"
//! client_ca = "/etc/cvsw/switches-ca.crt"
//!
//! [api]                       # optional: REST, metrics and web page
//! listen = ["unix:/run/cvsw/api.sock", "tcp:127.0.0.1:8480", "tls:[::]:8443"]
//! certificate = "/etc/cvsw/api.crt"    # with key: for "tls:"
//! key = "/etc/cvsw/api.key"
//! client_ca = "/etc/cvsw/clients-ca.crt"  # optional: who shows a certificate signed by it may read
//! admins = ["ops.example.net"]         # optional: DNS names of those who may write
//! tokens = "/etc/cvsw/tokens"          # optional: a file with lines "admin TOKEN" or "reader TOKEN"
//!
//! [timers]                    # optional, each with its default
//! hello = "2s"                # between two attempts to find a vNIC on a port that has none
//! keepalive = "30s"           # between two comparisons of a vNIC's flows with the wanted ones
//! answer = "1s"               # how long a vNIC may take to answer
//! echo = "5s"                 # a switch that is silent this long is asked, and given up after as long again
//!
//! [[network]]
//! name = "blue"
//! vni = 42
//! mtu = "auto"                # optional, or a number; auto is what fits the underlay (underlay_mtu - 50 without a cipher)
//! cipher = "aes-128-gcm"      # optional: encrypt; any cipher suite
//! rotate = "1h"               # optional, with a cipher: a new key so often
//! group = "239.1.1.42"        # underlay multicast group for broadcast, multicast and unknown unicast
//!
//! [[network.member]]
//! name = "vm1"
//! mac = "02:00:00:00:01:01"   # the vNIC's MAC address, by which it registers
//! ip = "10.0.0.1"
//! underlay_mac = "02:00:00:01:00:01"
//! underlay_ip = "192.0.2.1"
//! offloads = ["csum"]         # optional: csum, tso, ufo, gso, gro; what is not named is switched off
//! flows = ["priority=50000,in_port=HOST,udp,tp_dst=9,actions=drop"]  # optional
//! ```
//!
//! Unknown keys are errors, and all errors of a file are reported at once, with line and column.

mod again;
mod check;
mod control;
mod diagnostic;
mod flows;
mod from_spec;
mod process;
mod raw;

use std::{fmt, net::Ipv4Addr, net::SocketAddr, path::Path, path::PathBuf, sync::Arc, time::Duration};

use cvsw_core::{control::OffloadFlags, crypto::Suite, flow::FlowMod, mtu::IpMtu};

pub use again::Checked;
pub use control::Control;
pub use diagnostic::{ConfigErrors, Diagnostic, Severity};
pub use process::{Api, Listen, NotAListenAddress, Tls};

use crate::{mac::Mac, spec::Spec};
use smol_str::SmolStr;

/// Bytes that VXLAN over IPv4 puts around an inner IP packet: IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14.
pub const VXLAN_OVERHEAD: u16 = 50;

/// TCP port of OpenFlow (IANA).
const DEFAULT_LISTEN: Listen = Listen::Tcp(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6653));

/// A fraction of what Open vSwitch passes on in a second, so that its other work goes on beside it.
const DEFAULT_CONTROL_RATE: u32 = 10_000;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where switches connect to.
    pub listen: Vec<Listen>,
    /// Certificates for switches that connect over TLS.
    pub tls: Option<Tls>,
    /// REST, metrics and web page.
    pub api: Option<Api>,
    /// File that keeps desired state; `None`: the configuration file is the desired state.
    pub store: Option<PathBuf>,
    /// EtherType of control frames.
    pub ethertype: u16,
    /// Largest IP packet of the underlay.
    pub underlay_mtu: IpMtu,
    /// What switches do with ordinary frames.
    pub forwarding: Forwarding,
    /// Control messages per second to the vNICs of one switch, at most.
    pub control_rate: u32,
    /// Whether keys may travel in clear on the control channel.
    pub keys_in_clear: bool,
    /// Keys of the control channel, and who must have one.
    pub control: Control,
    /// Intervals and patience.
    pub timers: Timers,
    /// The virtual networks.
    pub networks: Vec<Arc<Network>>,
}

/// What the controller makes a switch do with frames that are not control frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarding {
    /// A flow of the lowest priority with `actions=NORMAL`: a learning switch.
    #[default]
    Normal,
    /// Nothing: the operator installs forwarding flows.
    None,
}

/// Intervals and patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Between two attempts to find a vNIC on a port that has none.
    pub hello: Duration,
    /// Between two comparisons of a vNIC's flows with the wanted ones.
    pub keepalive: Duration,
    /// How long a vNIC may take to answer.
    pub answer: Duration,
    /// After this silence a switch is asked whether it is there, and given up after as long again.
    pub echo: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(2),
            keepalive: Duration::from_secs(30),
            answer: Duration::from_secs(1),
            echo: Duration::from_secs(5),
        }
    }
}

/// A virtual network.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Its name, unique.
    pub name: SmolStr,
    /// VXLAN network identifier, 1 to 2^24 - 1, unique.
    pub vni: u32,
    /// MTU of its members' vNICs.
    pub mtu: IpMtu,
    /// Underlay multicast group (RFC 7348 section 4.2).
    pub group: Ipv4Addr,
    /// How its traffic is encrypted; `None`: not at all.
    pub cipher: Option<Suite>,
    /// Life of a key.
    pub rotate: Option<Duration>,
    /// The vNICs in it.
    pub members: Vec<Member>,
}

/// A vNIC of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name, unique in the network.
    pub name: SmolStr,
    /// The vNIC's own address, by which it registers; unique.
    pub mac: Mac,
    /// The VM's address inside; unique in the network.
    pub ip: Ipv4Addr,
    /// Outer Ethernet address; unique.
    pub underlay_mac: Mac,
    /// Outer IPv4 address; unique.
    pub underlay_ip: Ipv4Addr,
    /// Offloads that are switched on; all others are switched off.
    pub offloads: OffloadFlags,
    /// Extra flows, each an ADD.
    pub flows: Vec<FlowMod>,
}

/// A configuration and what is odd about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings, in the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// The networks and parameters as they were written.
    pub spec: Spec,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// The file could not be read.
    Read(PathBuf, std::io::Error),
    /// The file is wrong.
    Wrong(ConfigErrors),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, cause) => write!(f, "cannot read the configuration {}: {cause}", path.display()),
            Self::Wrong(errors) => errors.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Loaded, LoadError> {
        let bytes = std::fs::read(path).map_err(|cause| LoadError::Read(path.to_owned(), cause))?;
        let text = String::from_utf8(bytes).map_err(|_| {
            let cause = std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8 text");
            LoadError::Read(path.to_owned(), cause)
        })?;
        Self::parse(&path.display().to_string(), &text).map_err(LoadError::Wrong)
    }

    /// Checks the text of a file; `file` is its name for messages.
    pub fn parse(file: &str, text: &str) -> Result<Loaded, ConfigErrors> {
        let mut report = diagnostic::Report::new(file, text);
        let checked = match toml::from_str::<raw::File>(text) {
            Ok(raw) => Some((from_spec::spec(&raw), check::config(raw, None, &mut report))),
            Err(error) => {
                let help = "the keys are described by `cvsw controller --help` and in the guide";
                report.error(error.span().unwrap_or(0..0), error.message(), help);
                None
            }
        };
        let warnings = report.finish()?;
        let (spec, config) = checked.expect("without a configuration there is an error");
        Ok(Loaded { config, warnings, spec })
    }

    /// Checks desired state that did not come from a file. What belongs to this process (addresses, certificates, the
    /// store) stays as it is here. A diagnostic's `source` names the field: `networks/blue/mtu = 99999`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn with_spec(&self, spec: &Spec) -> Result<(Self, Vec<Diagnostic>), ConfigErrors> {
        from_spec::check(self, spec)
    }

    /// The same for desired state that was `before`, and was found good: what did not change is not checked again.
    ///
    /// # Errors
    /// As [`Config::with_spec`].
    pub fn with_spec_after(&self, spec: &Spec, before: &Checked) -> Result<(Self, Vec<Diagnostic>), ConfigErrors> {
        again::check(self, spec, before)
    }
}

#[cfg(test)]
mod tests;
