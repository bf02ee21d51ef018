//! The Linux kernel's IPsec as the judge of ours: a guest with stock `ip xfrm` and `vxlan` at one end of a wire and
//! `cvsw port` at the other. Everything is asserted on captured packets and on counters: a ping alone would also
//! succeed in clear.

use crate::{command::Cmd, guest::Image, kmod, metadata};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Write as _, time::Instant};

const GUEST: &str = include_str!("guest.sh");
const MODULES: &[&str] = &[
    "veth",
    "tun",
    "vxlan",
    "esp4",
    "xfrm_user",
    "seqiv",
    "echainiv",
    "ctr",
    "gcm",
    "ghash-generic",
    "authenc",
    "authencesn",
    "crypto_null",
    "aesni-intel",
    "hmac",
    "sha256_generic",
    "sha512_generic",
    "drbg",
];
const FLOWS: &str = "\
priority=10,in_port=HOST,actions=set_vxlan(vni=42,src=192.0.2.2,dst=192.0.2.1,eth_src=02:00:00:01:00:02,eth_dst=02:00:00:01:00:01),encrypt(sa=2)
priority=10,in_port=NET,ip,nw_proto=50,nw_dst=192.0.2.2,actions=decrypt,strip_vxlan(vni=42)
priority=1,in_port=NET,actions=drop
";
/// The image, with programs that can be debugged, is in memory twice while it is unpacked.
const MEGABYTES: u32 = 1024;
const BOOT_LIMIT: u32 = 900;
/// MTU inside that goes, encrypted, into an underlay of 9,000.
const JUMBO: u16 = 8900;
/// Bytes of the TCP transfer in each direction.
const TRANSFER: u64 = 10 << 20;

/// A suite, in our words and in the kernel's.
struct Case {
    name: &'static str,
    suite: &'static str,
    cipher_key: usize,
    /// Template of the kernel's algorithm with `KEY` (AES key and salt) and `MAC` in hexadecimal.
    algorithm: &'static str,
    extended: bool,
    authenticated: bool,
    /// MTU of the inner network.
    mtu: u16,
}

const GCM: &str = "aead 'rfc4106(gcm(aes))' 0xKEY 128";
const CTR: &str = "enc 'rfc3686(ctr(aes))' 0xKEY";
const CTR_HMAC: &str = "auth-trunc 'hmac(sha256)' 0xMAC 128 enc 'rfc3686(ctr(aes))' 0xKEY";

/// Every suite, with extended sequence numbers and without where there are both, in ordinary frames and in jumbo frames
/// (which the emulated processor takes much less time for).
const CASES: &[Case] = &[
    Case::new("ctr128-hmac", "aes-128-ctr-hmac-sha-256-128", 16, CTR_HMAC).mtu(1400),
    Case::new("gcm128", "aes-128-gcm", 16, GCM).mtu(1400),
    Case::new("gcm128-esn", "aes-128-gcm", 16, GCM).extended(),
    Case::new("gcm256", "aes-256-gcm", 32, GCM),
    Case::new("gcm256-esn", "aes-256-gcm", 32, GCM).extended(),
    Case::new("ctr128-hmac-esn", "aes-128-ctr-hmac-sha-256-128", 16, CTR_HMAC).extended(),
    Case::new("ctr256-hmac", "aes-256-ctr-hmac-sha-256-128", 32, CTR_HMAC),
    Case::new("ctr256-hmac-esn", "aes-256-ctr-hmac-sha-256-128", 32, CTR_HMAC).extended(),
    Case::new("ctr128", "aes-128-ctr-unauthenticated", 16, CTR).unauthenticated(),
    Case::new("ctr256", "aes-256-ctr-unauthenticated", 32, CTR).unauthenticated(),
];

/// Cases whose packets are changed on their way: one of each way to authenticate.
const HOSTILE: [&str; 2] = ["gcm128", "ctr128-hmac"];

impl Case {
    const fn new(name: &'static str, suite: &'static str, cipher_key: usize, algorithm: &'static str) -> Self {
        Self { name, suite, cipher_key, algorithm, extended: false, authenticated: true, mtu: JUMBO }
    }

    const fn extended(self) -> Self {
        Self { extended: true, ..self }
    }

    const fn unauthenticated(self) -> Self {
        Self { authenticated: false, ..self }
    }

    const fn mtu(self, mtu: u16) -> Self {
        Self { mtu, ..self }
    }

    /// `(AES key and salt, HMAC key)` in hexadecimal; other ones for each direction, and for each `other`.
    fn keys(&self, direction: u8, other: u8) -> (String, String) {
        let hex = |from: u8, len: usize| {
            (0..len as u8).fold(String::new(), |mut text, at| {
                let _ = write!(text, "{:02x}", from.wrapping_add(at.wrapping_mul(7)));
                text
            })
        };
        let from = |step: u8| direction.wrapping_mul(step).wrapping_add(other);
        (hex(from(0x51), self.cipher_key + 4), hex(from(0x33), 32))
    }

    /// What `ip xfrm state add` wants.
    fn algorithm(&self, direction: u8) -> String {
        let (key, mac) = self.keys(direction, 0);
        self.algorithm.replace("KEY", &key).replace("MAC", &mac)
    }

    /// The file for `cvsw port --sa`. `other`: 0 for the keys that Linux has.
    fn file(&self, other: u8) -> String {
        let ways = [(1, "rx", "0x1001", "192.0.2.2"), (2, "tx", "0x1002", "192.0.2.1")];
        ways.iter().fold(String::new(), |mut text, (id, direction, spi, destination)| {
            let (key, mac) = self.keys(*id, other);
            let mac = if self.algorithm == CTR_HMAC { mac } else { String::new() };
            let (suite, extended) = (self.suite, self.extended);
            let _ = write!(
                text,
                "[[sa]]\nid = {id}\ndirection = \"{direction}\"\nspi = {spi}\ndestination = \"{destination}\"\n\
                 suite = \"{suite}\"\nkey = \"{key}{mac}\"\nextended_sequence = {extended}\n"
            );
            text
        })
    }
}

/// Boots the guest and judges what it reports about every suite, or about the cases that are named.
pub fn run(names: &[String]) -> Result<()> {
    let known = |name: &String| CASES.iter().any(|case| case.name == name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        let known: Vec<_> = CASES.iter().map(|case| case.name).collect();
        bail!("no case `{name}`; there are {}", known.join(", "));
    }
    let cases: Vec<_> =
        CASES.iter().filter(|case| names.is_empty() || names.iter().any(|name| name == case.name)).collect();
    Cmd::cargo("build --locked --package cvsw-cli").run()?;
    let start = Instant::now();
    let console = image(&cases)?.boot(MEGABYTES, BOOT_LIMIT)?;
    let facts = Facts::read(&console);
    facts.get("end", "done").with_context(|| format!("the guest stopped half-way:\n{console}"))?;
    for case in cases {
        judge(case, &facts).with_context(|| format!("{} with Linux", case.name))?;
        println!("{:<16} ok: both directions, 10 MiB TCP each, only ESP on the wire", case.name);
    }
    for case in HOSTILE {
        judge_hostile(case, &facts).with_context(|| format!("packets of {case} that must be dropped"))?;
        println!("{case:<16} ok: wrong key, flipped bits, truncated, replayed: dropped and counted");
    }
    println!("the guest took {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn image(cases: &[&Case]) -> Result<Image> {
    let kernel = kmod::fetch()?.into_iter().next().context("no kernel")?;
    let image = Image::new(kernel, "xfrm", GUEST)?;
    image.program(&metadata::target_directory()?.join("debug/cvsw").to_string_lossy(), "/bin/cvsw")?;
    for (program, path) in [("ip", "/sbin/ip"), ("tcpdump", "/bin/tcpdump"), ("ethtool", "/sbin/ethtool")] {
        image.program(program, path)?;
    }
    image.program("ping", "/bin/ping")?;
    image.modules(MODULES)?;
    image.file("/modules", (MODULES.join("\n") + "\n").as_bytes())?;
    image.file("/flows", FLOWS.as_bytes())?;
    for case in CASES {
        let folder = format!("/cases/{}", case.name);
        image.file(&format!("{folder}/keys.toml"), case.file(0).as_bytes())?;
        image.file(&format!("{folder}/wrong-keys.toml"), case.file(1).as_bytes())?;
        image.file(&format!("{folder}/algorithm.out"), case.algorithm(1).as_bytes())?;
        image.file(&format!("{folder}/algorithm.in"), case.algorithm(2).as_bytes())?;
        image.file(&format!("{folder}/mtu"), case.mtu.to_string().as_bytes())?;
        let flags = if case.extended { "replay-window 128 flag esn" } else { "replay-window 32" };
        image.file(&format!("{folder}/flags"), if case.authenticated { flags } else { "" }.as_bytes())?;
    }
    let order: Vec<_> = cases.iter().map(|case| case.name).collect();
    image.file("/order", order.join("\n").as_bytes())?;
    image.file("/hostile", HOSTILE.join("\n").as_bytes())?;
    Ok(image)
}

/// What the guest reported, by case and name.
struct Facts(BTreeMap<(String, String), String>);

impl Facts {
    fn read(console: &str) -> Self {
        let fact = |line: &str| {
            let mut words = line.trim().strip_prefix("@ ")?.splitn(3, ' ');
            let (case, name) = (words.next()?.to_owned(), words.next()?.to_owned());
            Some(((case, name), words.next().unwrap_or_default().to_owned()))
        };
        Self(console.lines().filter_map(fact).collect())
    }

    fn get(&self, case: &str, name: &str) -> Result<&str> {
        let fact = self.0.get(&(case.to_owned(), name.to_owned()));
        fact.map(String::as_str).with_context(|| format!("the guest did not report `{name}` of {case}"))
    }

    fn number(&self, case: &str, name: &str) -> Result<u64> {
        let text = self.get(case, name)?;
        text.parse().with_context(|| format!("`{name}` of {case} is `{text}`"))
    }

    fn stats(&self, case: &str) -> Result<Value> {
        serde_json::from_str(self.get(case, "stats")?).with_context(|| format!("statistics of {case}"))
    }
}

fn judge(case: &Case, facts: &Facts) -> Result<()> {
    let name = case.name;
    for ping in ["ping_from_linux", "ping_from_cvsw"] {
        let text = facts.get(name, ping)?;
        ensure!(text.contains(" 5 received") && text.contains(" 0% packet loss"), "{ping}: {text}");
    }
    for way in ["esp_out", "esp_in"] {
        let count = facts.number(name, way)?;
        ensure!(count >= 10, "{way}: only {count} ESP packets on the wire for 10 pings");
    }
    let clear = facts.number(name, "in_clear")?;
    ensure!(clear == 0, "{clear} packets in clear on the wire");
    for way in ["tcp_to_cvsw", "tcp_to_linux"] {
        ensure!(facts.get(name, way)? == "identical", "{way} was damaged");
    }
    let errors = facts.get(name, "xfrm_errors")?;
    ensure!(errors == "none", "the kernel's error counters have moved: {errors}");
    let stats = facts.stats(name)?;
    for (id, direction) in [(1, "rx"), (2, "tx")] {
        let sa = association(&stats, id)?;
        ensure!(sa["direction"] == direction && sa["suite"] == case.suite, "association {id} is another one: {sa}");
        let bytes = sa["bytes"].as_u64().unwrap_or_default();
        ensure!(bytes > TRANSFER, "only {bytes} bytes through association {id}");
        let drops = sa["drops"].as_object().context("no counters of drops")?;
        ensure!(drops.values().all(|count| *count == 0), "association {id} has dropped packets: {sa}");
    }
    Ok(())
}

/// Every hostile packet moved its own counter by one, and none of the others.
fn judge_hostile(hostile: &str, facts: &Facts) -> Result<()> {
    let stats = |case: &str| facts.stats(&format!("{hostile}.{case}"));
    let wrong = Counters::of(&stats("wrong_key")?)?;
    ensure!(wrong == Counters { auth_failed: 1, ..Counters::default() }, "wrong key: {wrong:?}");
    let mut expected = Counters::default();
    for (case, change) in [
        ("flip_text", (|counters| counters.auth_failed += 1) as fn(&mut Counters)),
        ("flip_icv", |counters| counters.auth_failed += 1),
        ("flip_sequence", |counters| counters.auth_failed += 1),
        ("flip_spi", |counters| counters.no_sa += 1),
        // What is shorter than its IPv4 header says is no IPv4 packet; the flow for all others drops it.
        ("short", |counters| counters.no_packet += 1),
        ("cut", |counters| counters.auth_failed += 1),
        ("good", |counters| counters.opened += 1),
        ("replayed", |counters| counters.replayed += 1),
    ] {
        change(&mut expected);
        let mut found = Counters::of(&stats(case)?)?;
        // The kernel may send something of its own, which the same flow drops.
        found.no_packet = found.no_packet.min(expected.no_packet);
        if found != expected {
            bail!("after `{case}`: {found:?}, expected {expected:?}");
        }
    }
    Ok(())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counters {
    opened: u64,
    auth_failed: u64,
    replayed: u64,
    no_sa: u64,
    no_packet: u64,
}

impl Counters {
    fn of(stats: &Value) -> Result<Self> {
        let sa = association(stats, 1)?;
        let number = |value: &Value| value.as_u64().context("a counter is missing");
        let drops = &stats["engine"]["rx"]["drops"];
        Ok(Self {
            opened: number(&sa["packets"])?,
            auth_failed: number(&sa["drops"]["auth_failed"])?,
            replayed: number(&sa["drops"]["replayed"])?,
            no_sa: number(&drops["esp_no_sa"])?,
            no_packet: number(&drops["policy"])?,
        })
    }
}

fn association(stats: &Value, id: u64) -> Result<&Value> {
    let sas = stats["sas"].as_array().context("the statistics list no associations")?;
    sas.iter().find(|sa| sa["id"] == id).with_context(|| format!("the statistics have no association {id}"))
}
