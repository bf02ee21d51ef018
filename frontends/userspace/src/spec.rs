//! Ports and addresses as people write them on a command line.

use crate::{af_packet::AfPacket, af_xdp::AfXdp, pcap::Pcap, port::Port, tap::Tap};
use cvsw_core::flow::MacAddr;
use std::{io, path::PathBuf, str::FromStr};

/// A port, as in `tap:vm0,netns=blue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortSpec {
    /// `tap:NAME[,netns=NS]`: a tap interface to be created.
    Tap {
        /// Interface name.
        name: String,
        /// Network namespace; `None`: this one.
        netns: Option<String>,
    },
    /// `af_packet:IFACE[,netns=NS]`: an existing Ethernet interface.
    AfPacket {
        /// Interface name.
        name: String,
        /// Network namespace; `None`: this one.
        netns: Option<String>,
    },
    /// `af_xdp:IFACE[,netns=NS]`: the same through AF_XDP.
    AfXdp {
        /// Interface name.
        name: String,
        /// Network namespace; `None`: this one.
        netns: Option<String>,
    },
    /// `pcap:[read=FILE][,write=FILE]`: capture files.
    Pcap {
        /// Frames that come in.
        read: Option<PathBuf>,
        /// Frames that go out.
        write: Option<PathBuf>,
    },
}

const FORMS: &str = "expected tap:NAME[,netns=NS], af_packet:IFACE[,netns=NS], af_xdp:IFACE[,netns=NS] or \
                     pcap:[read=FILE][,write=FILE]";

impl PortSpec {
    /// Opens the port. `mac` is given to a new tap; other ports keep theirs.
    pub fn open(&self, mac: Option<MacAddr>) -> io::Result<Box<dyn Port>> {
        Ok(match self {
            Self::Tap { name, netns } => Box::new(Tap::create(name, netns.as_deref(), mac)?),
            Self::AfPacket { name, netns } => Box::new(AfPacket::open(name, netns.as_deref())?),
            Self::AfXdp { name, netns } => Box::new(AfXdp::open(name, netns.as_deref())?),
            Self::Pcap { read, write } => Box::new(Pcap::open(read.as_deref(), write.as_deref())?),
        })
    }
}

impl FromStr for PortSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').ok_or(FORMS)?;
        let mut name = None;
        let mut options = Vec::new();
        for part in rest.split(',').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((key, value)) if !value.is_empty() => options.push((key, value)),
                Some((key, _)) => return Err(format!("`{key}=` has no value; {FORMS}")),
                None if name.is_none() && options.is_empty() => name = Some(part.to_owned()),
                None => return Err(format!("`{part}` is not KEY=VALUE; {FORMS}")),
            }
        }
        let mut take = |key| {
            let found = options.iter().position(|(k, _)| *k == key)?;
            Some(options.remove(found).1.to_owned())
        };
        let spec = match (kind, name) {
            ("tap", Some(name)) => Self::Tap { name, netns: take("netns") },
            ("af_packet", Some(name)) => Self::AfPacket { name, netns: take("netns") },
            ("af_xdp", Some(name)) => Self::AfXdp { name, netns: take("netns") },
            ("pcap", None) => {
                Self::Pcap { read: take("read").map(PathBuf::from), write: take("write").map(PathBuf::from) }
            }
            _ => return Err(FORMS.to_owned()),
        };
        match options.first() {
            Some((key, _)) => Err(format!("unknown or repeated option `{key}`; {FORMS}")),
            None => Ok(spec),
        }
    }
}

/// Reads a unicast MAC address such as `02:00:00:00:01:01`.
pub fn parse_mac(text: &str) -> Result<MacAddr, String> {
    let bad = || format!("`{text}` is not a MAC address such as 02:00:00:00:01:01");
    let mut mac = MacAddr::default();
    let mut parts = text.split(':');
    for octet in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2 && !part.starts_with('+')).ok_or_else(bad)?;
        *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
    }
    match (parts.next(), mac) {
        (Some(_), _) => Err(bad()),
        (None, [first, ..]) if first & 1 != 0 => {
            Err(format!("{text} is a multicast address; a vNIC needs its own"))
        }
        (None, [0, 0, 0, 0, 0, 0]) => Err("the all-zero MAC address belongs to nobody".to_owned()),
        (None, mac) => Ok(mac),
    }
}

/// Reads an EtherType, decimal or hexadecimal with `0x`.
pub fn parse_ethertype(text: &str) -> Result<u16, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number
        .ok()
        .filter(|number| *number >= 0x600 && !text.contains('+'))
        .ok_or_else(|| format!("`{text}` is not an EtherType (0x600-0xffff)"))
}

/// Writes a MAC address as [`parse_mac`] reads it.
pub fn format_mac(mac: MacAddr) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let tap = |netns: Option<&str>| PortSpec::Tap { name: "vm0".into(), netns: netns.map(Into::into) };
        assert_eq!("tap:vm0".parse(), Ok(tap(None)));
        assert_eq!("tap:vm0,netns=blue".parse(), Ok(tap(Some("blue"))));
        assert_eq!("af_packet:eth0".parse(), Ok(PortSpec::AfPacket { name: "eth0".into(), netns: None }));
        assert_eq!("af_xdp:eth0".parse(), Ok(PortSpec::AfXdp { name: "eth0".into(), netns: None }));
        let pcap = PortSpec::Pcap { read: Some("a=b.pcap".into()), write: Some("c".into()) };
        assert_eq!("pcap:write=c,read=a=b.pcap".parse(), Ok(pcap));
        assert_eq!("pcap:".parse(), Ok(PortSpec::Pcap { read: None, write: None }));
    }

    #[test]
    fn wrong_ports_say_what_is_expected() {
        for text in [
            "",
            "tap",
            "tap:",
            "tap:a,b",
            "tap:a,netns=",
            "tap:a,mtu=9",
            "tap:a,netns=x,netns=y",
            "pcap:x",
            "dpdk:0",
        ] {
            let error = PortSpec::from_str(text).unwrap_err();
            assert!(error.contains("af_packet:IFACE"), "{text}: {error}");
        }
    }

    #[test]
    fn mac_addresses() {
        assert_eq!(parse_mac("02:00:00:aB:01:ff"), Ok([2, 0, 0, 0xab, 1, 0xff]));
        assert_eq!(format_mac([2, 0, 0, 0xab, 1, 0xff]), "02:00:00:ab:01:ff");
        for text in
            ["", "02:00:00:00:00", "02:00:00:00:00:00:00", "2:0:0:0:0:1", "02-00-00-00-00-01", "+2:00:00:00:00:01"]
        {
            assert!(parse_mac(text).is_err(), "{text}");
        }
        assert!(parse_mac("01:00:5e:00:00:01").unwrap_err().contains("multicast"));
        assert!(parse_mac("00:00:00:00:00:00").is_err());
    }

    #[test]
    fn ethertypes() {
        assert_eq!(parse_ethertype("0xabba"), Ok(0xabba));
        assert_eq!(parse_ethertype("34997"), Ok(0x88b5));
        assert!(parse_ethertype("0x5ff").is_err());
        assert!(parse_ethertype("abba").is_err());
        assert!(parse_ethertype("0x+abba").is_err());
    }
}
