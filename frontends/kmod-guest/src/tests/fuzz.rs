//! Malformed frames from both sides, with a table that looks deep into them.

use crate::{
    frames,
    net::RawSocket,
    system::{scale, wait_for},
    topology::Pair,
};
use anyhow::{Context, Result, ensure};
use std::fs;

const FRAMES: usize = 6000;

/// Sends mutations of valid frames, and accounts for every one of them.
pub fn fuzz() -> Result<()> {
    let pair = Pair::veth()?;
    pair.flows(
        "priority=9,in_port=NET,udp,tp_dst=4789,actions=strip_vxlan,resubmit(NET)
         priority=8,udp,actions=mod_nw_src:10.7.7.7,mod_tp_src:1
         priority=7,tcp,actions=mod_tp_dst:1,mod_vlan_vid:9
         priority=6,dl_vlan=9,actions=strip_vlan
         priority=5,in_port=HOST,icmp,actions=set_vxlan(vni=1,src=10.0.0.1,dst=10.0.0.2,eth_src=02:00:00:00:00:01,eth_dst=02:00:00:00:00:02)",
    )?;
    let mut random = Random(0x5eed);
    let (up, down) = (pair.vm.raw("cvsw0")?, pair.peer.raw("eth0")?);
    let (valid, corpus) = (seeds(), corpus()?);
    let frames = FRAMES * scale()?;
    for number in 0..frames {
        let seeds = if number.is_multiple_of(2) { &valid } else { &corpus };
        let round = number / 2;
        let frame = random.mutate(&seeds[round % seeds.len()]);
        send(if (round / seeds.len()).is_multiple_of(2) { &up } else { &down }, &frame)?;
    }
    for direction in ["tx", "rx"] {
        let mut account = Account::default();
        wait_for("most frames to arrive, and all that did to be accounted for", || {
            account = Account::of(&pair.vm.run("ethtool -S cvsw0")?, direction);
            Ok(account.frames > frames as u64 / 3 && account.is_complete())
        })
        .with_context(|| format!("{direction}: {account:?}"))?;
        let Account { frames: seen, forwarded, consumed, drops } = account;
        println!(
            "KMOD-NOTE {direction}: {seen} mutated frames, {forwarded} forwarded, {consumed} control, {drops} dropped"
        );
    }
    pair.vm.run("cvsw ctl --dev cvsw0 flows clear")?;
    pair.vm.run("ip link set cvsw0 mtu 1500")?;
    pair.vm.run("ping -c 2 -i 0.2 -W 5 10.0.0.2")?;
    Ok(())
}

/// What became of the frames of one direction, from one listing: all its numbers are of one moment.
#[derive(Debug, Default)]
struct Account {
    frames: u64,
    forwarded: u64,
    consumed: u64,
    drops: u64,
}

impl Account {
    fn of(listing: &str, direction: &str) -> Self {
        let mut account = Self::default();
        for line in listing.lines() {
            let Some((name, value)) = line.trim().strip_prefix(direction).and_then(|rest| rest.split_once(": "))
            else {
                continue;
            };
            let value = value.parse().unwrap_or(0);
            match name {
                "_frames" => account.frames = value,
                "_forwarded" => account.forwarded = value,
                "_consumed" => account.consumed = value,
                name if name.starts_with("_drop_") => account.drops += value,
                _ => {}
            }
        }
        account
    }

    const fn is_complete(&self) -> bool {
        self.frames == self.forwarded + self.consumed + self.drops
    }
}

/// The kernel itself refuses some frames (too long, too short); those are not the engine's business.
fn send(socket: &RawSocket, frame: &[u8]) -> Result<()> {
    let _ = socket.send(frame);
    Ok(())
}

/// Valid frames.
fn seeds() -> Vec<Vec<u8>> {
    let mut vxlan = vec![8, 0, 0, 0, 0, 0, 42, 0];
    vxlan.extend(frames::udp_to_vm(1, 2, b"inner"));
    let mut tagged = frames::udp_to_peer(3, 4, b"tagged");
    tagged.splice(12..12, [0x81, 0, 0, 9]);
    let mut tcp = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1])
        .ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64)
        .tcp(5, 6, 7, 8)
        .write(&mut tcp, b"segment")
        .expect("a vector takes everything");
    let mut control = vec![2, 0, 0, 0, 0, 1, 0x23, 0, 0, 72, 0, 0, 0xab, 0xba, 1, 14, 0, 72];
    control.resize(14 + 72, 0);
    let mut icmp6 = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1])
        .ipv6([1; 16], [2; 16], 64)
        .icmpv6_echo_request(1, 2)
        .write(&mut icmp6, b"ping")
        .expect("a vector takes everything");
    vec![frames::udp_to_vm(1000, 4789, &vxlan), tagged, tcp, control, icmp6, frames::udp_to_peer(1, 2, &[0; 1400])]
}

/// What the project's fuzzers begin with, and what they once found.
fn corpus() -> Result<Vec<Vec<u8>>> {
    let mut seeds = Vec::new();
    let mut files: Vec<_> = fs::read_dir("/corpus")?.collect::<Result<_, _>>()?;
    files.sort_by_key(|file| file.file_name());
    ensure!(files.len() > 20, "only {} files of the fuzzers", files.len());
    for file in files {
        let bytes = fs::read(file.path())?;
        // Whatever the fuzzer's own header is, the frame begins at one of these.
        seeds.extend(
            [0, 2, 4, 8]
                .iter()
                .filter_map(|at| bytes.get(*at..))
                .filter(|frame| frame.len() > 14)
                .map(<[u8]>::to_vec),
        );
    }
    Ok(seeds)
}

/// xorshift64: the same frames in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut frame = seed.to_vec();
        for _ in 0..self.below(5) {
            let at = self.below(frame.len().min(90));
            frame[at] = self.below(256) as u8;
        }
        match self.below(4) {
            0 => frame.truncate(14 + self.below(frame.len() - 14)),
            1 => frame.extend((0..self.below(40)).map(|n| n as u8)),
            _ => {}
        }
        frame
    }
}
