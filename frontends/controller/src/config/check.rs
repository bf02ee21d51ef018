//! From TOML's shape to checked meaning. Every check reports and goes on, so that one run names all errors.

use std::{
    collections::HashMap, fmt::Display, hash::Hash, net::Ipv4Addr, ops::Range, ops::RangeInclusive, sync::Arc,
    time::Duration,
};

use cvsw_core::{
    control::{ETHERTYPE, OffloadFlags},
    crypto::{Suite, vxlan_mtu},
    mtu::IpMtu,
};
use smol_str::SmolStr;
use toml::Spanned;

use super::{
    Config, Control, DEFAULT_CONTROL_RATE, Forwarding, Member, Network, Timers, VXLAN_OVERHEAD, control,
    diagnostic::Report, flows, process, raw,
};
use crate::mac::Mac;

/// EtherTypes that ordinary traffic uses: as the control EtherType they would take it away from the VMs.
const TAKEN_ETHERTYPES: [(u16, &str); 5] =
    [(0x0800, "IPv4"), (0x0806, "ARP"), (0x86dd, "IPv6"), (0x8100, "802.1Q"), (0x88a8, "802.1ad")];

/// Control messages per second that a switch may be given.
const CONTROL_RATES: RangeInclusive<u32> = 10..=1_000_000;

/// Checks a whole file. The result is meaningful only if nothing was reported as an error.
/// `control`: what is known of control keys, if the file is not to say it.
pub(super) fn config(raw: raw::File, control: Option<&Control>, report: &mut Report<'_>) -> Config {
    let control = control.cloned().unwrap_or_else(|| control::check(&raw, report));
    let underlay_mtu = raw.underlay_mtu.map_or(IpMtu::ETHERNET, |value| underlay_mtu(&value, report));
    let mut seen = Seen::default();
    let mut networks = Vec::with_capacity(raw.network.len());
    for network in &raw.network {
        let checked = self::network(network, underlay_mtu, &mut seen, report);
        let without = checked.members.iter().find(|member| !control.keys(member.mac).is_set());
        if let (Some(cipher), Some(member)) = (network.cipher.as_ref().filter(|_| !raw.keys_in_clear), without) {
            let message = format!("a cipher needs keys, and those for {} would travel in clear", member.name);
            let help = format!(
                "give it a control key: `control_keys = \"FOLDER\"` at the top, its key in FOLDER/{}.key and in \
                 --control-key of its port. Or write `keys_in_clear = true` at the top if whoever reads the control \
                 channel may read this network's traffic, and start the vNICs with --accept-keys-in-clear",
                member.mac
            );
            report.error(cipher.span(), message, help);
        }
        flows::check_collisions(&checked, network, report);
        networks.push(Arc::new(checked));
    }
    Config {
        listen: process::listen(&raw.listen, raw.tls.is_some(), report),
        tls: raw.tls.as_ref().map(process::tls),
        api: raw.api.as_ref().map(|api| process::api(api, report)),
        store: raw.store.as_ref().map(|path| path.get_ref().into()),
        ethertype: raw.ethertype.map_or(ETHERTYPE, |value| ethertype(&value, report)),
        underlay_mtu,
        forwarding: raw.forwarding.map_or(Forwarding::Normal, |value| forwarding(&value, report)),
        control_rate: raw.control_rate.map_or(DEFAULT_CONTROL_RATE, |value| control_rate(&value, report)),
        keys_in_clear: raw.keys_in_clear,
        control,
        timers: timers(&raw.timers, report),
        networks,
    }
}

/// Where each value that must be unique was first used.
#[derive(Default)]
struct Seen {
    networks: Unique<SmolStr>,
    vnis: Unique<u32>,
    groups: Unique<Ipv4Addr>,
    macs: Unique<Mac>,
    underlay_macs: Unique<Mac>,
    underlay_ips: Unique<Ipv4Addr>,
}

struct Unique<K>(HashMap<K, Range<usize>>);

impl<K> Default for Unique<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq + Display> Unique<K> {
    /// The place of an earlier use, if there is one.
    fn earlier(&mut self, key: K, span: Range<usize>) -> Option<Range<usize>> {
        use std::collections::hash_map::Entry;
        match self.0.entry(key) {
            Entry::Occupied(entry) => Some(entry.get().clone()),
            Entry::Vacant(entry) => {
                entry.insert(span);
                None
            }
        }
    }

    fn check(&mut self, key: K, span: Range<usize>, what: &str, why: &str, report: &mut Report<'_>) {
        let message = format!("{what} {key} is used twice");
        if let Some(earlier) = self.earlier(key, span.clone()) {
            let help = format!("{why}; it was first used at {}", report.place(&earlier));
            report.error(span, message, help);
        }
    }
}

fn ethertype(value: &Spanned<i64>, report: &mut Report<'_>) -> u16 {
    let help = "use 0xabba (the default), or 0x88b5, which the IEEE gives to local experiments";
    let Some(ethertype) = u16::try_from(*value.get_ref()).ok().filter(|value| *value >= 0x600) else {
        report.error(value.span(), "an EtherType is a number from 0x0600 to 0xffff", help);
        return ETHERTYPE;
    };
    if let Some((_, name)) = TAKEN_ETHERTYPES.iter().find(|(taken, _)| *taken == ethertype) {
        report.error(value.span(), format!("EtherType {ethertype:#06x} is that of {name} frames"), help);
    }
    ethertype
}

fn underlay_mtu(value: &Spanned<i64>, report: &mut Report<'_>) -> IpMtu {
    let smallest = IpMtu::MIN.get() + VXLAN_OVERHEAD;
    let mtu = u16::try_from(*value.get_ref()).ok().filter(|bytes| *bytes >= smallest).and_then(IpMtu::new);
    mtu.unwrap_or_else(|| {
        let message = format!("the underlay's MTU must be from {smallest} to 65535");
        report.error(value.span(), message, "use what `ip link` shows as mtu on the links between the servers");
        IpMtu::ETHERNET
    })
}

fn forwarding(value: &Spanned<String>, report: &mut Report<'_>) -> Forwarding {
    match value.get_ref().as_str() {
        "normal" => return Forwarding::Normal,
        "none" => return Forwarding::None,
        _ => report.error(
            value.span(),
            "unknown way of forwarding",
            "write \"normal\" (the switches learn addresses) or \"none\" (you install the forwarding flows)",
        ),
    }
    Forwarding::None
}

fn control_rate(value: &Spanned<i64>, report: &mut Report<'_>) -> u32 {
    let rate = u32::try_from(*value.get_ref()).ok().filter(|rate| CONTROL_RATES.contains(rate));
    rate.unwrap_or_else(|| {
        let (least, most) = (CONTROL_RATES.start(), CONTROL_RATES.end());
        report.error(
            value.span(),
            format!("a switch is given from {least} to {most} control messages a second"),
            format!("{DEFAULT_CONTROL_RATE} is the default"),
        );
        DEFAULT_CONTROL_RATE
    })
}

fn timers(raw: &raw::Timers, report: &mut Report<'_>) -> Timers {
    let default = Timers::default();
    let mut timer = |value: &Option<Spanned<String>>, default| match value {
        None => default,
        Some(value) => parse_duration(value.get_ref()).unwrap_or_else(|| {
            report.error(
                value.span(),
                "this is not a duration",
                "write a number from 10ms to 1h with ms, s, m or h",
            );
            default
        }),
    };
    Timers {
        hello: timer(&raw.hello, default.hello),
        keepalive: timer(&raw.keepalive, default.keepalive),
        answer: timer(&raw.answer, default.answer),
        echo: timer(&raw.echo, default.echo),
    }
}

/// A duration of 10 ms to 1 hour.
fn parse_duration(text: &str) -> Option<Duration> {
    let duration = any_duration(text)?;
    (Duration::from_millis(10)..=Duration::from_secs(3_600)).contains(&duration).then_some(duration)
}

fn any_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let scale = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(scale)?))
}

fn cipher(value: &Spanned<String>, report: &mut Report<'_>) -> Option<Suite> {
    let suite = Suite::from_name(value.get_ref());
    match suite {
        None => {
            let names: Vec<_> = Suite::ALL.iter().map(|suite| suite.name()).collect();
            report.error(value.span(), "unknown cipher suite", format!("there are {}", names.join(", ")));
        }
        Some(suite) if !suite.is_authenticated() => {
            let help = "use aes-128-gcm, unless you need exactly this";
            report.warning(value.span(), "this suite does not notice changed packets", help);
        }
        Some(_) => {}
    }
    suite
}

fn rotate(value: &Spanned<String>, cipher: Option<Suite>, report: &mut Report<'_>) -> Option<Duration> {
    let allowed = Duration::from_secs(10)..=Duration::from_secs(30 * 86_400);
    let duration = any_duration(value.get_ref()).filter(|duration| allowed.contains(duration));
    if duration.is_none() {
        report.error(value.span(), "this is not a life of a key", "write a number from 10s to 720h with s, m or h");
    } else if cipher.is_none() {
        report.error(value.span(), "there is no key to rotate", "set `cipher` too, or leave `rotate` out");
    }
    duration
}

fn network(raw: &raw::Network, underlay_mtu: IpMtu, seen: &mut Seen, report: &mut Report<'_>) -> Network {
    let name = name(&raw.name, "network", report);
    seen.networks.check(name.clone(), raw.name.span(), "the network name", "network names are unique", report);
    let vni = vni(&raw.vni, seen, report);
    let group = group(&raw.group, seen, report);
    let cipher = raw.cipher.as_ref().and_then(|value| self::cipher(value, report));
    let rotate = raw.rotate.as_ref().and_then(|value| self::rotate(value, cipher, report));
    let auto = auto_mtu(underlay_mtu, cipher);
    let mtu = raw.mtu.as_ref().map_or(auto, |mtu| network_mtu(mtu, underlay_mtu, auto, report));
    let mut names = Unique::default();
    let mut ips = Unique::default();
    let mut members = Vec::with_capacity(raw.member.len());
    for member in &raw.member {
        let checked = self::member(member, seen, report);
        names.check(
            checked.name.clone(),
            member.name.span(),
            "the member name",
            "member names are unique in a network",
            report,
        );
        ips.check(checked.ip, member.ip.span(), "the address", "addresses are unique in a network", report);
        members.push(checked);
    }
    Network { name, vni, mtu, group, cipher, rotate, members }
}

fn name(value: &Spanned<String>, what: &str, report: &mut Report<'_>) -> SmolStr {
    let name = value.get_ref();
    let good = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
        let help = "use 1 to 64 letters, digits, '-', '_' and '.'";
        report.error(value.span(), format!("this cannot be the name of a {what}"), help);
    }
    name.into()
}

fn vni(value: &Spanned<i64>, seen: &mut Seen, report: &mut Report<'_>) -> u32 {
    let Some(vni) = u32::try_from(*value.get_ref()).ok().filter(|vni| (1..1 << 24).contains(vni)) else {
        let help = "a VNI has 24 bits: use a number from 1 to 16777215 that no other network uses";
        report.error(value.span(), "the VNI is out of range", help);
        return 0;
    };
    seen.vnis.check(vni, value.span(), "the VNI", "two networks with one VNI would be one network", report);
    vni
}

fn group(value: &Spanned<String>, seen: &mut Seen, report: &mut Report<'_>) -> Ipv4Addr {
    let help = "use an IPv4 multicast address, best from 239.0.0.0/8 (RFC 2365)";
    let Some(group) = ipv4(value, help, report) else { return Ipv4Addr::UNSPECIFIED };
    if !group.is_multicast() {
        report.error(value.span(), format!("{group} is not a multicast address"), help);
    } else if let Some(earlier) = seen.groups.earlier(group, value.span()) {
        let message = format!("the group {group} serves two networks");
        let help = format!(
            "each gets the other's broadcasts and drops them by their VNI; give each its own (first used at {})",
            report.place(&earlier)
        );
        report.warning(value.span(), message, help);
    }
    group
}

fn auto_mtu(underlay_mtu: IpMtu, cipher: Option<Suite>) -> IpMtu {
    vxlan_mtu(underlay_mtu, cipher).unwrap_or(IpMtu::MIN)
}

fn network_mtu(value: &Spanned<raw::Mtu>, underlay_mtu: IpMtu, auto: IpMtu, report: &mut Report<'_>) -> IpMtu {
    let number = match value.get_ref() {
        raw::Mtu::Text(text) if text == "auto" => return auto,
        raw::Mtu::Text(_) => None,
        raw::Mtu::Number(number) => u16::try_from(*number).ok().and_then(IpMtu::new),
    };
    let Some(mtu) = number else {
        let help = format!("write mtu = \"auto\", which is {} here, or a number without quotes", auto.get());
        report.error(value.span(), "an MTU is a number from 68 to 65535, or \"auto\"", help);
        return auto;
    };
    if mtu > auto {
        let message =
            format!("packets of {} bytes do not fit the underlay's MTU of {}", mtu.get(), underlay_mtu.get());
        let added = underlay_mtu.get().saturating_sub(auto.get());
        let help =
            format!("what goes around them takes {added} bytes: use at most {}, or raise underlay_mtu", auto.get());
        report.warning(value.span(), message, help);
    }
    mtu
}

fn member(raw: &raw::Member, seen: &mut Seen, report: &mut Report<'_>) -> Member {
    let mac = mac(&raw.mac, report);
    if let Some(mac) = mac {
        seen.macs.check(mac, raw.mac.span(), "the vNIC address", "a vNIC registers by its MAC address", report);
    }
    let underlay_mac = self::mac(&raw.underlay_mac, report);
    if let Some(mac) = underlay_mac {
        let why = "each member needs its own outer address";
        seen.underlay_macs.check(mac, raw.underlay_mac.span(), "the underlay address", why, report);
    }
    let underlay_ip = unicast(&raw.underlay_ip, report);
    if let Some(ip) = underlay_ip {
        let why = "each member needs its own outer address";
        seen.underlay_ips.check(ip, raw.underlay_ip.span(), "the underlay address", why, report);
    }
    Member {
        name: name(&raw.name, "member", report),
        mac: mac.unwrap_or(Mac([0; 6])),
        ip: unicast(&raw.ip, report).unwrap_or(Ipv4Addr::UNSPECIFIED),
        underlay_mac: underlay_mac.unwrap_or(Mac([0; 6])),
        underlay_ip: underlay_ip.unwrap_or(Ipv4Addr::UNSPECIFIED),
        offloads: offloads(&raw.offloads, report),
        flows: raw.flows.iter().filter_map(|text| flows::extra(text, report)).collect(),
    }
}

fn mac(value: &Spanned<String>, report: &mut Report<'_>) -> Option<Mac> {
    let help = "write six pairs of hexadecimal digits, as 02:00:00:00:01:01";
    let Ok(mac) = value.get_ref().parse::<Mac>() else {
        report.error(value.span(), "this is not a MAC address", help);
        return None;
    };
    if mac.is_group() {
        let help = "the first octet of a vNIC's own address is even";
        report.error(value.span(), format!("{mac} is a multicast address"), help);
        return None;
    }
    if mac.is_zero() {
        report.error(value.span(), "the all-zero MAC address names nobody", help);
        return None;
    }
    Some(mac)
}

fn ipv4(value: &Spanned<String>, help: &str, report: &mut Report<'_>) -> Option<Ipv4Addr> {
    let address = value.get_ref().parse().ok();
    if address.is_none() {
        report.error(value.span(), "this is not an IPv4 address", help);
    }
    address
}

fn unicast(value: &Spanned<String>, report: &mut Report<'_>) -> Option<Ipv4Addr> {
    let help = "write the address of one host, as 192.0.2.1";
    let address = ipv4(value, help, report)?;
    let reserved = address.octets()[0] >= 240;
    if address.is_multicast() || reserved || address.is_unspecified() || address.is_loopback() {
        report.error(value.span(), format!("{address} is not the address of a host"), help);
        return None;
    }
    Some(address)
}

fn offloads(raw: &[Spanned<String>], report: &mut Report<'_>) -> OffloadFlags {
    let mut flags = OffloadFlags::default();
    for value in raw {
        match OffloadFlags::NAMES.iter().find(|(_, name)| name == value.get_ref()) {
            Some((bit, _)) => flags.0 |= bit,
            None => {
                let names: Vec<_> = OffloadFlags::NAMES.iter().map(|(_, name)| *name).collect();
                report.error(value.span(), "unknown offload", format!("the offloads are {}", names.join(", ")));
            }
        }
    }
    for value in raw.iter().filter(|_| !flags.has(OffloadFlags::CSUM)) {
        let found = OffloadFlags::NAMES.iter().find(|(_, name)| name == value.get_ref());
        if found.is_some_and(|(bit, _)| bit & OffloadFlags::NEED_CSUM != 0) {
            let help = "the headers of every segment change, and with them the checksum: add csum";
            report.error(value.span(), format!("{} needs csum", value.get_ref()), help);
        }
    }
    flags
}
