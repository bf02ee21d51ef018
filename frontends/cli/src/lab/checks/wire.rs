//! What is on the link between the servers? tshark, which knows nothing of CVSW, takes every frame apart.

use super::reach::in_parallel;
use crate::lab::build::Lab;
use crate::lab::netns;
use crate::lab::process::Tool;
use crate::lab::report::Finding;
use crate::lab::topology::{Topology, UNDERLAY_MTU, UPLINK, Vm};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// UDP destination port of VXLAN (RFC 7348 section 5).
const VXLAN_PORT: &str = "4789";
/// Outer UDP source ports: the dynamic range that RFC 7348 section 5 recommends.
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49152..=65535;
/// Octets of an Ethernet header.
const ETHERNET_HEADER: u16 = 14;
/// A capture ends by itself at this size.
const CAPTURE_LIMIT: &str = "filesize:200000";
const CAPTURE: &str = "dumpcap on the link";
const START_LIMIT: Duration = Duration::from_secs(15);
const DISSECT_LIMIT: Duration = Duration::from_secs(120);
/// Wrong frames shown; the rest is only counted.
const SHOWN: usize = 5;

/// Starts to capture everything on the link, both directions, and waits until it does.
pub fn start_capture(lab: &mut Lab) -> Result<Finding> {
    let path = capture_file(lab).display().to_string();
    let args = ["-i", UPLINK, "-w", &path, "-a", CAPTURE_LIMIT];
    let command = netns::command(&lab.topology.servers[0].namespace, "dumpcap", args);
    let process = lab.start(CAPTURE, command, "dumpcap")?;
    let log = process.log().to_owned();
    process.wait_for("a capture of the link", START_LIMIT, || {
        // dumpcap names the file when it has opened the interface.
        Ok(fs::read_to_string(&log)?.contains("File: ").then_some(()))
    })?;
    Ok(Finding::new("every frame on the link is recorded from now on, before the first vNIC starts"))
}

/// Many short inner flows, so that there is something to look at: 4 TCP and 4 UDP flows per pair.
pub fn mixed_traffic(lab: &Lab, port: u16) -> Result<Finding> {
    let pairs: Vec<_> = lab.topology.pairs().collect();
    let kinds: [&[&str]; 2] = [&["-n", "256K", "-P", "4"], &["-u", "-b", "1M", "-l", "1300", "-t", "1", "-P", "4"]];
    let results = in_parallel(&pairs, |pair| {
        let (from, to) = (&lab.topology.vms[pair.a], &lab.topology.vms[pair.b]);
        let (port, address) = (port.to_string(), to.ip.to_string());
        for kind in kinds {
            let args = ["-c", &*address, "-p", &*port].into_iter().chain(kind.iter().copied());
            netns::tool(&from.namespace, "iperf3", args).timeout(START_LIMIT).run()?;
        }
        Ok(())
    });
    results.into_iter().collect::<Result<()>>()?;
    Ok(Finding::new(format!("4 TCP and 4 UDP flows in each of {} pairs", pairs.len())))
}

/// Stops the capture and lets tshark dissect it.
pub fn dissect(lab: &mut Lab) -> Result<Dissection> {
    let said = lab.end(CAPTURE, Signal::INT, START_LIMIT)?;
    let counts = said.lines().find(|line| line.contains("dropped on interface")).unwrap_or_default().to_owned();
    let file = capture_file(lab).display().to_string();
    let mut args = vec!["-n", "-r", &file, "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a"];
    args.extend(["-E", "aggregator=,", "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]);
    args.extend(["-o", "tcp.check_checksum:TRUE"]);
    let keys = decryption(lab)?;
    args.extend(keys.iter().map(String::as_str));
    args.extend(FIELDS.iter().flat_map(|field| ["-e", *field]));
    let text = Tool::new("tshark", args).timeout(DISSECT_LIMIT).run()?;
    let dissection = Dissection::judge(&text, &lab.topology)?;
    ensure!(dissection.frames > 0, "nothing was captured on the link: {counts}");
    Ok(dissection)
}

fn capture_file(lab: &Lab) -> PathBuf {
    lab.directory.join("link.pcapng")
}

/// What tells tshark the keys of an encrypted laboratory.
pub fn decryption(lab: &Lab) -> Result<Vec<String>> {
    if lab.topology.cipher.is_none() {
        return Ok(Vec::new());
    }
    let mut args = vec!["-o".to_owned(), "esp.enable_encryption_decode:TRUE".to_owned()];
    for log in lab.key_logs() {
        let keys = fs::read_to_string(log).context("reading the controller's key log")?;
        args.extend(keys.lines().flat_map(|line| ["-o".to_owned(), format!("uat:esp_sa:{line}")]));
    }
    Ok(args)
}

/// Without the keys: tshark sees ESP and nothing inside, and no octets that are known to be inside are anywhere in the
/// capture.
pub fn nothing_visible(lab: &Lab) -> Result<Finding> {
    let file = capture_file(lab).display().to_string();
    let args = ["-n", "-r", &file, "-T", "fields", "-e", "frame.protocols", "-e", "eth.type"];
    let text = Tool::new("tshark", args).timeout(DISSECT_LIMIT).run()?;
    let is_sealed = |line: &&str| line.starts_with("eth:ethertype:ip:esp\t");
    let sealed = text.lines().filter(is_sealed).count();
    let mut others = text.lines().filter(|line| !is_sealed(line));
    if let Some(other) = others.find(|line| !line.ends_with(CONTROL_TYPE)) {
        bail!("a frame on the link is no ESP: {other}");
    }
    ensure!(sealed > 0, "no ESP packet on the link");
    let capture = fs::read(&file).with_context(|| format!("reading {file}"))?;
    let patterns = inner_patterns(&lab.topology);
    for (what, pattern) in &patterns {
        ensure!(!contains(&capture, pattern), "{what} can be read on the link");
    }
    let detail = format!("{sealed} ESP packets; none of {} known inner patterns in the capture", patterns.len());
    Ok(Finding::with(detail, json!({ "esp": sealed, "patterns": patterns.len() })))
}

/// Octets that stand in inner frames only.
fn inner_patterns(topology: &Topology) -> Vec<(String, Vec<u8>)> {
    let vms = topology.vnics().flat_map(|vm| {
        // Two MAC addresses side by side, as at the start of an inner frame; the controller's frames hold only one.
        let peers = topology.vnics().filter(move |peer| peer.network == vm.network && peer.mac != vm.mac);
        let frames = peers.map(move |peer| {
            (format!("the inner addresses of {} -> {}", vm.name, peer.name), [peer.mac.0, vm.mac.0].concat())
        });
        frames.chain([(format!("the name that {} answers with", vm.name), vm.name.clone().into_bytes())])
    });
    // iputils fills its echoes with counting octets, from 0x10 behind the time stamp.
    let page = ("the question for a status page".to_owned(), b"GET /status.json".to_vec());
    vms.chain([("the contents of an echo".to_owned(), (0x10..0x30).collect()), page]).collect()
}

fn contains(bytes: &[u8], pattern: &[u8]) -> bool {
    let Some(first) = pattern.first() else { return true };
    let starts = bytes.iter().enumerate().filter(|(_, byte)| *byte == first);
    starts.map(|(at, _)| at).any(|at| bytes[at..].starts_with(pattern))
}

/// A demand on every frame of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Nothing but VXLAN: no inner frame in clear, no control frame.
    VxlanOnly,
    /// The VNI and the addresses of the sender's own network.
    OwnNetwork,
    /// Every checksum of every header, outer and inner.
    Checksums,
    /// Never fragmented on the way: DF set outside, no fragments, no frame above the link's MTU.
    DontFragment,
    /// One outer source port per inner flow, different ones for different flows.
    SourcePorts,
}

/// What tshark found, judged.
#[derive(Debug, Default)]
pub struct Dissection {
    frames: u64,
    vxlan: u64,
    probes: u64,
    frames_by_vni: BTreeMap<u32, u64>,
    ports_by_flow: HashMap<String, BTreeSet<u16>>,
    wrong: BTreeMap<Rule, Vec<String>>,
}

impl Dissection {
    /// How much there was, by VNI. Every network must have been heard.
    pub fn volume(&self, topology: &Topology) -> Result<Finding> {
        let mut parts = Vec::new();
        for network in &topology.networks {
            let count = self.frames_by_vni.get(&network.vni).copied().unwrap_or_default();
            ensure!(count > 0, "no frame with VNI {} of network {}", network.vni, network.name);
            parts.push(format!("VNI {} ({}) {count}", network.vni, network.name));
        }
        let data = json!({ "frames": self.frames, "frames_by_vni": self.frames_by_vni });
        Ok(Finding::with(format!("{} frames: {}", self.frames, parts.join(", ")), data))
    }

    /// The verdict on one rule.
    pub fn verdict(&self, rule: Rule) -> Result<Finding> {
        if let Some(wrong) = self.wrong.get(&rule) {
            let shown = wrong.iter().take(SHOWN).map(|line| format!("\n  {line}")).collect::<String>();
            bail!("{} of {} frames are wrong:{shown}", wrong.len(), self.frames);
        }
        // No complaint about no frame says nothing.
        ensure!(self.vxlan > 0, "no VXLAN frame to judge among {} frames", self.frames);
        let frames = self.vxlan;
        Ok(match rule {
            Rule::VxlanOnly => {
                let detail = format!("all {frames} tenant frames are VXLAN to UDP port {VXLAN_PORT}");
                let aside = format!("; beside them {} of the controller's probes for vNICs", self.probes);
                Finding::with(detail + &aside, json!({ "vxlan": frames, "probes": self.probes }))
            }
            Rule::OwnNetwork => {
                Finding::new(format!("all {frames} frames carry VNI and addresses of their network"))
            }
            Rule::Checksums => {
                Finding::new("IPv4 outside, IPv4, TCP, UDP and ICMP inside: all right; outer UDP: 0 or right")
            }
            Rule::DontFragment => {
                Finding::new(format!("all have DF, none is a fragment, none above {UNDERLAY_MTU}"))
            }
            Rule::SourcePorts => return self.spread(),
        })
    }

    fn spread(&self) -> Result<Finding> {
        let flows = self.ports_by_flow.len();
        let ports: BTreeSet<u16> = self.ports_by_flow.values().flatten().copied().collect();
        ensure!(flows > 0, "no inner TCP or UDP flow to judge");
        let torn = self.ports_by_flow.iter().find(|(_, ports)| ports.len() > 1);
        if let Some((flow, ports)) = torn {
            bail!(
                "the inner flow {flow} has {} outer source ports: its packets may overtake each other",
                ports.len()
            );
        }
        // With a uniform hash into 16384 ports, even a thousand flows leave more than 97 % of the ports distinct.
        ensure!(ports.len() * 10 >= flows * 9, "{flows} inner flows share {} outer source ports", ports.len());
        let detail = format!("{flows} inner flows, {} outer source ports, one per flow", ports.len());
        Ok(Finding::with(detail, json!({ "flows": flows, "ports": ports.len() })))
    }

    /// Judges tshark's table: a line per frame, a column per field of [`FIELDS`].
    fn judge(table: &str, topology: &Topology) -> Result<Self> {
        let mut dissection = Self::default();
        for line in table.lines() {
            let columns: Vec<&str> = line.split('\t').collect();
            ensure!(columns.len() == FIELDS.len(), "tshark gave {} columns: {line}", columns.len());
            dissection.frame(&Row(columns), topology);
        }
        Ok(dissection)
    }

    fn frame(&mut self, row: &Row<'_>, topology: &Topology) {
        self.frames += 1;
        if row.is_probe() {
            self.probes += 1;
            return;
        }
        let layers = match topology.cipher {
            None => "eth:ethertype:ip:udp:vxlan:eth",
            Some(_) => "eth:ethertype:ip:esp:udp:vxlan:eth",
        };
        if !row.text("frame.protocols").starts_with(layers)
            || row.nth("udp.dstport", 0) != VXLAN_PORT
            || row.text("vxlan.flags") != "0x0800"
        {
            let (protocols, source) = (row.text("frame.protocols"), row.nth("eth.src", 0));
            self.complain(Rule::VxlanOnly, row, format!("{protocols} from {source}"));
            return;
        }
        self.vxlan += 1;
        if let Ok(vni) = row.text("vxlan.vni").parse() {
            *self.frames_by_vni.entry(vni).or_default() += 1;
        }
        for (rule, judge) in [
            (
                Rule::OwnNetwork,
                (|row, topology| own_network(row, topology)) as fn(&Row<'_>, &Topology) -> Result<()>,
            ),
            (Rule::Checksums, |row, _| checksums(row)),
            (Rule::DontFragment, |row, _| unfragmented(row)),
        ] {
            if let Err(error) = judge(row, topology) {
                self.complain(rule, row, format!("{error:#}"));
            }
        }
        match row.nth("udp.srcport", 0).parse() {
            Ok(port) if SOURCE_PORTS.contains(&port) => {
                if let Some(flow) = row.inner_flow() {
                    self.ports_by_flow.entry(flow).or_default().insert(port);
                }
            }
            _ => self.complain(Rule::SourcePorts, row, format!("source port {}", row.nth("udp.srcport", 0))),
        }
    }

    fn complain(&mut self, rule: Rule, row: &Row<'_>, what: String) {
        self.wrong.entry(rule).or_default().push(format!("frame {}: {what}", row.text("frame.number")));
    }
}

/// EtherType of control frames.
const CONTROL_TYPE: &str = "0xabba";
/// The header of an empty HELLO of protocol version 2, at the source address's place.
const PROBE_HELLO: &str = "21:00:00:00:00:00";
/// The other frames by which a controller looks for vNICs: HELLO of version 2 of a controller that speaks version 3 too,
/// HELLO of version 3 with nothing but a challenge, and an empty LIST_ENTRIES.
const OTHER_PROBES: [&str; 3] = ["21:00:00:00:00:03", "31:00:00:20:00:00", "27:00:00:00:00:00"];

const FIELDS: [&str; 22] = [
    "frame.number",
    "frame.len",
    "frame.protocols",
    "eth.src",
    "eth.dst",
    "eth.type",
    "ip.src",
    "ip.dst",
    "ip.proto",
    "ip.flags.df",
    "ip.flags.mf",
    "ip.frag_offset",
    "ip.checksum.status",
    "udp.srcport",
    "udp.dstport",
    "udp.checksum.status",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.checksum.status",
    "icmp.checksum.status",
    "vxlan.flags",
    "vxlan.vni",
];

/// tshark's `*.checksum.status`: the checksum is right.
const GOOD: &str = "1";
/// tshark's `*.checksum.status`: the field is zero, no checksum was sent.
const ABSENT: &str = "3";

/// One frame: a column per field, within a column one value per header, from the outside in.
struct Row<'a>(Vec<&'a str>);

impl<'a> Row<'a> {
    fn text(&self, field: &str) -> &'a str {
        let column = FIELDS.iter().position(|name| *name == field);
        column.and_then(|column| self.0.get(column)).copied().unwrap_or_default()
    }

    fn all(&self, field: &str) -> impl Iterator<Item = &'a str> {
        self.text(field).split(',').filter(|value| !value.is_empty())
    }

    fn nth(&self, field: &str, index: usize) -> &'a str {
        self.all(field).nth(index).unwrap_or_default()
    }

    /// The controller sends HELLO and LIST_ENTRIES out of every port of a switch to learn who is there, so out of the
    /// uplink too, where the next switch's backstop flow catches them. They tell nothing of any tenant: broadcast, and
    /// nothing of a vNIC is in them.
    fn is_probe(&self) -> bool {
        let header = self.text("eth.src");
        self.text("eth.type") == CONTROL_TYPE
            && self.text("eth.dst") == "ff:ff:ff:ff:ff:ff"
            && (header == PROBE_HELLO || OTHER_PROBES.contains(&header))
    }

    /// An ICMP error quotes the headers of another packet, which is not judged here.
    fn quotes_another(&self) -> bool {
        self.text("frame.protocols").contains(":icmp:ip")
    }

    /// The inner TCP or UDP flow, one name per direction.
    fn inner_flow(&self) -> Option<String> {
        if self.quotes_another() {
            return None;
        }
        let (protocol, source, destination) = match self.nth("ip.proto", 1) {
            "6" => ("tcp", self.nth("tcp.srcport", 0), self.nth("tcp.dstport", 0)),
            "17" => ("udp", self.nth("udp.srcport", 1), self.nth("udp.dstport", 1)),
            _ => return None,
        };
        let (from, to, vni) = (self.nth("ip.src", 1), self.nth("ip.dst", 1), self.text("vxlan.vni"));
        Some(format!("{protocol} {from}:{source} -> {to}:{destination} in VNI {vni}"))
    }
}

fn own_network(row: &Row<'_>, topology: &Topology) -> Result<()> {
    let source = row.nth("ip.src", 0);
    let by_address =
        |address: &str| -> Option<&Vm> { topology.vnics().find(|vm| vm.underlay_ip.to_string() == address) };
    let sender = by_address(source).with_context(|| format!("outer source {source} is no vNIC"))?;
    let network = topology.network_of(sender);
    let vni = row.text("vxlan.vni");
    ensure!(vni == network.vni.to_string(), "VNI {vni} from {}, whose network has {}", sender.name, network.vni);
    for (what, found, expected) in [
        ("outer source MAC", row.nth("eth.src", 0), sender.underlay_mac),
        ("inner source MAC", row.nth("eth.src", 1), sender.mac),
    ] {
        ensure!(found == expected.to_string(), "{what} {found} from {}, which has {expected}", sender.name);
    }
    let (address, mac) = (row.nth("ip.dst", 0), row.nth("eth.dst", 0));
    let expected = if address == network.group.to_string() {
        let [_, b, c, d] = network.group.octets();
        // RFC 1112 section 6.4: the lower 23 bits of the group.
        format!("01:00:5e:{:02x}:{c:02x}:{d:02x}", b & 0x7f)
    } else {
        let receiver = by_address(address).with_context(|| format!("outer destination {address} is no vNIC"))?;
        ensure!(
            receiver.network == sender.network,
            "{} sends to {} of another network",
            sender.name,
            receiver.name
        );
        receiver.underlay_mac.to_string()
    };
    ensure!(mac == expected, "outer destination {address} at {mac}, not {expected}");
    Ok(())
}

fn checksums(row: &Row<'_>) -> Result<()> {
    for (index, status) in row.all("ip.checksum.status").take(2).enumerate() {
        ensure!(status == GOOD, "IPv4 header {index} has checksum status {status}");
    }
    let outer = row.nth("udp.checksum.status", 0);
    // Section 5 of RFC 7348: it should be zero, and right otherwise. Linux gives one to tunnel packets that it cuts.
    ensure!(outer == ABSENT || outer == GOOD, "outer UDP checksum has status {outer}, neither zero nor right");
    if row.quotes_another() {
        return Ok(());
    }
    let inner_udp = row.all("udp.checksum.status").skip(1).map(|status| ("UDP", status));
    let tcp = row.all("tcp.checksum.status").map(|status| ("TCP", status));
    let icmp = row.all("icmp.checksum.status").map(|status| ("ICMP", status));
    for (protocol, status) in inner_udp.chain(tcp).chain(icmp) {
        ensure!(status == GOOD, "inner {protocol} checksum has status {status}");
    }
    Ok(())
}

fn unfragmented(row: &Row<'_>) -> Result<()> {
    ensure!(row.nth("ip.flags.df", 0) == "1", "DF is not set outside");
    let fragment = row.nth("ip.flags.mf", 0) != "0" || row.nth("ip.frag_offset", 0) != "0";
    ensure!(!fragment, "an outer fragment");
    let length: u16 = row.text("frame.len").parse().context("frame length")?;
    ensure!(length <= UNDERLAY_MTU + ETHERNET_HEADER, "{length} octets do not fit the link");
    Ok(())
}

#[cfg(test)]
mod tests;
