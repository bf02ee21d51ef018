//! ESP against the kernel's own IPsec (`ip xfrm`), and how keys come into a vNIC.

use super::{control::message, traffic::tcp_through};
use crate::{
    system::{hex, wait_for},
    topology::{Pair, VM_MAC},
};
use anyhow::{Context, Result, ensure};
use cvsw_core::{
    control::{SaCommand, SetSa},
    crypto::{KeyMaterial, SaConfig, Suite},
    flow::Direction,
};
use std::{fmt::Write as _, fs, os::unix::fs::PermissionsExt, time::Duration};

const FLOWS: &str = "in_port=HOST,actions=set_vxlan(vni=42,src=10.0.0.1,dst=10.0.0.2,\
eth_src=02:00:00:00:00:01,eth_dst=02:00:00:00:00:02),encrypt(sa=2)
in_port=NET,ip,nw_proto=50,actions=decrypt,strip_vxlan(vni=42)
priority=1,in_port=NET,actions=drop";
/// SPI of what the peer sends, and of what the VM sends, in case `number`: no SPI ever sends twice.
pub const fn spis(number: usize) -> [u32; 2] {
    [0x1001 + 16 * number as u32, 0x1002 + 16 * number as u32]
}
const SET_SA: u8 = 9;
const TRANSFER: usize = 1 << 20;

/// A suite, in our words and in the kernel's.
struct Case {
    suite: Suite,
    extended: bool,
}

const CASES: [Case; 6] = [
    Case { suite: Suite::Aes128Gcm, extended: false },
    Case { suite: Suite::Aes256Gcm, extended: true },
    Case { suite: Suite::Aes128CtrHmacSha256, extended: false },
    Case { suite: Suite::Aes256CtrHmacSha256, extended: true },
    Case { suite: Suite::Aes128CtrUnauthenticated, extended: false },
    Case { suite: Suite::Aes256CtrUnauthenticated, extended: false },
];

impl Case {
    /// Key material; another one for each SPI.
    fn key(&self, spi: u32) -> Vec<u8> {
        (0..self.suite.key_material_len()).map(|at| ((at as u32 * 7) ^ (spi * 0x51)) as u8).collect()
    }

    /// What `ip xfrm state add` wants.
    fn algorithm(&self, spi: u32) -> String {
        let key = self.key(spi);
        let (cipher, mac) = key.split_at(self.suite.cipher_key_len() + Suite::SALT_LEN);
        match self.suite {
            Suite::Aes128Gcm | Suite::Aes256Gcm => format!("aead rfc4106(gcm(aes)) 0x{} 128", hex(cipher)),
            _ if mac.is_empty() => format!("enc rfc3686(ctr(aes)) 0x{}", hex(cipher)),
            _ => format!("auth-trunc hmac(sha256) 0x{} 128 enc rfc3686(ctr(aes)) 0x{}", hex(mac), hex(cipher)),
        }
    }

    /// What `cvsw ctl sa load` wants.
    fn file(&self, [from, to]: [u32; 2]) -> String {
        let mut text = String::new();
        for (id, direction, spi, destination) in [(1, "rx", from, "10.0.0.1"), (2, "tx", to, "10.0.0.2")] {
            let _ = write!(
                text,
                "[[sa]]\nid = {id}\ndirection = \"{direction}\"\nspi = {spi}\ndestination = \"{destination}\"\n\
                 suite = \"{}\"\nkey = \"{}\"\nextended_sequence = {}\n",
                self.suite,
                hex(&self.key(spi)),
                self.extended
            );
        }
        text
    }

    /// Gives both sides their keys.
    fn install(&self, pair: &Pair, number: usize) -> Result<()> {
        let replay = match (self.suite.is_authenticated(), self.extended) {
            (false, _) => "",
            // A burst that one lane has sealed may leave behind packets of another one, here many: the emulation runs one
            // processor after the other, for a tenth of a second each.
            (true, false) => "replay-window 1024",
            (true, true) => "replay-window 1024 flag esn",
        };
        let [from, to] = spis(number);
        pair.peer.run_all(&format!(
            "ip xfrm state flush
             ip xfrm state add src 10.0.0.2 dst 10.0.0.1 proto esp spi {from} reqid 1 mode transport {replay} {}
             ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi {to} reqid 1 mode transport {replay} {}",
            self.algorithm(from),
            self.algorithm(to)
        ))?;
        let path = format!("/tmp/keys-{number}.toml");
        fs::write(&path, self.file([from, to]))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        pair.vm.run("cvsw ctl --dev cvsw0 sa clear")?;
        pair.vm.run(&format!("cvsw ctl --dev cvsw0 sa load {path}"))?;
        Ok(())
    }
}

/// Every suite, both ways, judged by the peer's kernel, its error counters, and what is on the wire.
pub fn esp() -> Result<()> {
    let pair = tunnelled_pair(2)?;
    every_suite(&pair, 0, TRANSFER)?;
    let counter = |name: &str| pair.vm.counter("cvsw0", name);
    ensure!(
        counter("cipher_fast")? > 1000,
        "the kernel's fast ciphers were hardly used:\n{}",
        pair.vm.run("ethtool -S cvsw0")?
    );
    println!(
        "KMOD-NOTE packets by fast ciphers {}, by generic ones {}, by portable ones {}",
        counter("cipher_fast")?,
        counter("cipher_generic")?,
        counter("cipher_portable")?
    );
    CASES[0].install(&pair, CASES.len())?;
    hostile(&pair)
}

/// Traffic of every suite, the cases from number `first`, with so many bytes by TCP each way.
fn every_suite(pair: &Pair, first: usize, bytes: usize) -> Result<()> {
    for (number, case) in (first..).zip(&CASES) {
        case.install(pair, number).with_context(|| case.suite.name())?;
        exchange(pair, spis(number), bytes).with_context(|| case.suite.name())?;
        println!("KMOD-NOTE {}{}: both ways", case.suite, if case.extended { ", extended" } else { "" });
    }
    let errors = pair.peer.inside(|| Ok(fs::read_to_string("/proc/thread-self/net/xfrm_stat")?))?;
    let bad: Vec<&str> = errors.lines().filter(|line| !line.ends_with('0')).collect();
    ensure!(bad.is_empty(), "the peer's kernel complains: {bad:?}");
    Ok(())
}

/// The same with the portable ciphers, as on a kernel without any.
pub fn portable_ciphers() -> Result<()> {
    let _switch = PortableOnly::on()?;
    let pair = tunnelled_pair(2)?;
    every_suite(&pair, 2 * CASES.len(), TRANSFER / 4)?;
    let counter = |name: &str| pair.vm.counter("cvsw0", name);
    let by_kernel = counter("cipher_fast")? + counter("cipher_generic")?;
    ensure!(by_kernel == 0, "the kernel's ciphers computed {by_kernel} packets");
    let portable = counter("cipher_portable")?;
    ensure!(portable > 1000, "the portable ciphers computed {portable} packets");
    println!("KMOD-NOTE packets by portable ciphers {portable}");
    Ok(())
}

/// The module's parameter `portable_only`; off again when dropped.
struct PortableOnly;

impl PortableOnly {
    const FILE: &str = "/sys/module/cvsw/parameters/portable_only";

    fn on() -> Result<Self> {
        fs::write(Self::FILE, "Y").context(Self::FILE)?;
        Ok(Self)
    }
}

impl Drop for PortableOnly {
    fn drop(&mut self) {
        let _ = fs::write(Self::FILE, "N");
    }
}

/// Two ends, with so many queues, that encrypt all between 10.1.0.1 and 10.1.0.2.
pub fn encrypted_pair(queues: u32) -> Result<Pair> {
    let pair = tunnelled_pair(queues)?;
    CASES[0].install(&pair, 0)?;
    Ok(pair)
}

/// Traffic of the first suite over any pair.
pub fn encrypted(pair: &Pair) -> Result<()> {
    tunnelled(pair)?;
    CASES[0].install(pair, 0)?;
    exchange(pair, spis(0), TRANSFER)
}

/// The peer with a `vxlan` device that its IPsec protects; the VM with flows that do the same. No keys yet.
fn tunnelled_pair(queues: u32) -> Result<Pair> {
    let pair = Pair::veth_with_queues(queues)?;
    tunnelled(&pair)?;
    Ok(pair)
}

fn tunnelled(pair: &Pair) -> Result<()> {
    pair.peer.run_all(
        "ip link add tunnel type vxlan id 42 local 10.0.0.2 remote 10.0.0.1 dstport 4789 dev eth0
         ip address add 10.1.0.2/24 dev tunnel
         ip link set tunnel mtu 1400 up
         ip xfrm policy add dir out src 10.0.0.2 dst 10.0.0.1 proto 17 dport 4789 tmpl src 10.0.0.2 dst 10.0.0.1 proto esp reqid 1 mode transport
         ip xfrm policy add dir in src 10.0.0.1 dst 10.0.0.2 proto 17 dport 4789 tmpl src 10.0.0.1 dst 10.0.0.2 proto esp reqid 1 mode transport",
    )?;
    pair.vm.run_all("ip address add 10.1.0.1/24 dev cvsw0\nip link set cvsw0 mtu 1400")?;
    pair.flows(FLOWS)
}

/// Pings and TCP super-frames each way; on the wire there is ESP with the right SPIs and nothing else.
fn exchange(pair: &Pair, spis: [u32; 2], bytes: usize) -> Result<()> {
    let wire = pair.peer.raw("eth0")?;
    pair.vm.run("ping -c 2 -i 0.1 -W 5 10.1.0.2")?;
    pair.peer.run("ping -c 2 -i 0.1 -W 5 10.1.0.1")?;
    let mut seen = [0; 2];
    while let Some(frame) = wire.receive(Duration::ZERO)? {
        ensure!(frame[12..14] == [8, 0] && frame[23] == 50, "something in clear on the wire: {frame:02x?}");
        let spi = u32::from_be_bytes([frame[34], frame[35], frame[36], frame[37]]);
        let which = spis.iter().position(|known| *known == spi).with_context(|| format!("unknown SPI {spi:#x}"))?;
        seen[which] += 1;
    }
    ensure!(seen.iter().all(|count| *count >= 4), "ESP packets on the wire: {seen:?}, of four pings");
    drop(wire);
    tcp_through(&pair.vm, "10.1.0.2:5000", &pair.peer, "10.1.0.2:5000", bytes)?;
    tcp_through(&pair.peer, "10.1.0.1:5000", &pair.vm, "10.1.0.1:5000", bytes)?;
    let listed = pair.vm.run("cvsw ctl --dev cvsw0 sa list")?;
    ensure!(listed.lines().filter(|line| line.contains("active")).count() == 2, "associations:\n{listed}");
    Ok(())
}

/// A packet of the peer is changed, cut, and sent twice.
fn hostile(pair: &Pair) -> Result<()> {
    let wire = pair.peer.raw("eth0")?;
    pair.vm.run("ip link set cvsw0 down")?;
    let _ = pair.peer.run("ping -c 1 -W 1 10.1.0.1");
    let spi = spis(CASES.len())[0].to_be_bytes();
    let good = wire.expect("an ESP packet of the peer", |frame| frame[23] == 50 && frame[34..38] == spi)?;
    pair.vm.run("ip link set cvsw0 up")?;
    let counter = |name: &str| pair.vm.counter("cvsw0", name);
    let changed = |at: usize| {
        let mut frame = good.clone();
        frame[at] ^= 1;
        frame
    };
    let short = good[..good.len() - 20].to_vec();
    let cases = [
        ("rx_drop_esp_auth", changed(60)),
        ("rx_drop_esp_auth", changed(good.len() - 1)),
        // The sequence number's first octet: the last one would make the first packet number 0, which is a replay.
        ("rx_drop_esp_auth", changed(38)),
        ("rx_drop_esp_no_sa", changed(37)),
        // Cut, it is no IPv4 packet any more, and the last flow drops it.
        ("rx_drop_policy", short),
        ("rx_forwarded", good.clone()),
        ("rx_drop_esp_replay", good.clone()),
    ];
    for (name, frame) in cases {
        let before = counter(name)?;
        wire.send(&frame)?;
        wait_for(&format!("{name} to rise"), || Ok(counter(name)? > before))
            .with_context(|| pair.vm.run("cvsw ctl --dev cvsw0 stats").unwrap_or_default())?;
    }
    Ok(())
}

/// Keys in control messages are refused until the administrator allows them; nobody gets one back.
pub fn keys() -> Result<()> {
    const HELLO: u8 = 1;
    let pair = Pair::veth()?;
    let wire = pair.peer.raw("eth0")?;
    wire.send(&message(HELLO, 0, &[]))?;
    let key = [0xa5; 20];
    let material = KeyMaterial::new(Suite::Aes128Gcm, &key).context("key material")?;
    let config = SaConfig::new(7, Direction::Tx, 0x3001, [10, 0, 0, 2]);
    let add = SetSa { transaction: 5, command: SaCommand::Add(config, material) };
    let mut body = [0; 128];
    let len = add.emit(&mut body).ok().context("SET_SA")?;
    let set_sa = message(SET_SA, 0, &body[..len]);
    wire.send(&set_sa)?;
    wait_for("the refusal of a key", || Ok(pair.vm.counter("cvsw0", "control_error_keys_refused")? == 1))?;
    let listed = |pair: &Pair| pair.vm.run("cvsw ctl --dev cvsw0 sa list --json");
    ensure!(listed(&pair)?.contains("\"associations\": []"), "a refused key:\n{}", listed(&pair)?);
    pair.vm.run("cvsw ctl --dev cvsw0 sa accept-keys-in-clear on")?;
    wire.send(&set_sa)?;
    wait_for("the association", || Ok(listed(&pair)?.contains("\"spi\": 12289")))?;
    let answer = wire.expect("the answer", |frame| {
        frame[..6] == VM_MAC && frame[12..14] == [0xab, 0xba] && frame[6] & 0x1f == SET_SA + 1 && frame[15] == 0
    })?;
    ensure!(answer[14] == 1 && answer[18..22] == 5u32.to_be_bytes(), "answer: {answer:02x?}");
    pair.vm.run("cvsw ctl --dev cvsw0 sa require 42 on")?;
    ensure!(listed(&pair)?.replace([' ', '\n'], "").contains("\"encrypted_only\":[42]"), "{}", listed(&pair)?);
    pair.vm.run("cvsw ctl --dev cvsw0 sa remove 7")?;
    let error = pair.vm.run("cvsw ctl --dev cvsw0 sa remove 7").expect_err("removed twice");
    ensure!(format!("{error:#}").contains("no such association"), "{error:#}");
    Ok(())
}
