//! Frames of the declarative cases: a kind, and what differs from the usual frame of that kind.

use anyhow::{Context, Result, bail};
use cvsw_testkit::packet::{Fragment, Network, Packet, Transport};
use std::{net::Ipv4Addr, str::FromStr};

/// `KIND [NAME=VALUE ...]`, as the file of cases describes it.
pub fn parse(text: &str) -> Result<Vec<u8>> {
    let mut words = text.split_whitespace();
    let kind = words.next().context("a kind of frame")?;
    let mut packet = usual(kind)?;
    let (mut vid, mut pcp) = (None, 0);
    for word in words {
        let (name, value) = word.split_once('=').with_context(|| format!("{word}: NAME=VALUE"))?;
        match name {
            "vid" => vid = Some(number::<u16>(value)?),
            "pcp" => pcp = number::<u16>(value)?,
            _ => set(&mut packet, name, value).with_context(|| word.to_owned())?,
        }
    }
    if let Some(vid) = vid {
        packet = packet.tagged(0x8100, pcp << 13 | vid);
    }
    Ok(packet.build())
}

fn usual(kind: &str) -> Result<Packet> {
    let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    Ok(match kind {
        "tcp" => Packet::tcp4(a, 1000, b, 80, b"data"),
        "udp" => Packet::udp4(a, 1000, b, 53, b"data"),
        "icmp" => Packet::ping4(a, b, 1, 1),
        "ip" => Packet::ip4(a, b, Transport::Other { protocol: 47, payload: vec![0; 8] }),
        "arp" => Packet::arp(a, b),
        "other" => Packet::new(Network::Other { ethertype: 0x88cc, payload: vec![0; 46] }),
        _ => bail!("no such kind of frame: {kind}"),
    })
}

fn set(packet: &mut Packet, name: &str, value: &str) -> Result<()> {
    match (name, &mut packet.network) {
        ("dl_src", _) => packet.eth_src = mac(value)?,
        ("dl_dst", _) => packet.eth_dst = mac(value)?,
        ("dl_type", Network::Other { ethertype, .. }) => *ethertype = number(value)?,
        ("nw_src", Network::Ipv4(ip)) => ip.src = address(value)?,
        ("nw_dst", Network::Ipv4(ip)) => ip.dst = address(value)?,
        ("nw_tos", Network::Ipv4(ip)) => ip.tos = number(value)?,
        ("frag", Network::Ipv4(ip)) => {
            ip.fragment = match value {
                "first" => Fragment::First { keep: 8 },
                "later" => Fragment::Later { skip: 8 },
                _ => bail!("first or later"),
            }
        }
        ("nw_src", Network::Arp { sender, .. }) => *sender = address(value)?,
        ("nw_dst", Network::Arp { target, .. }) => *target = address(value)?,
        ("op", Network::Arp { operation, .. }) => *operation = number(value)?,
        (_, Network::Ipv4(ip)) => match (name, &mut ip.transport) {
            ("tp_src", Transport::Tcp { src, .. } | Transport::Udp { src, .. }) => *src = number(value)?,
            ("tp_dst", Transport::Tcp { dst, .. } | Transport::Udp { dst, .. }) => *dst = number(value)?,
            ("type", Transport::Icmp { kind, .. }) => *kind = number(value)?,
            ("code", Transport::Icmp { code, .. }) => *code = number(value)?,
            ("proto", Transport::Other { protocol, .. }) => *protocol = number(value)?,
            _ => bail!("such a frame has no {name}"),
        },
        _ => bail!("such a frame has no {name}"),
    }
    Ok(())
}

/// A decimal number, or a hexadecimal one with 0x.
fn number<T: TryFrom<u32>>(text: &str) -> Result<T> {
    let value = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16)?,
        None => text.parse()?,
    };
    T::try_from(value).ok().context("too large a number")
}

fn address(text: &str) -> Result<[u8; 4]> {
    Ok(Ipv4Addr::from_str(text)?.octets())
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let octets: Vec<u8> = text.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect::<Result<_, _>>()?;
    octets.try_into().ok().context("six octets")
}
