//! Malformed frames from both sides, with a table that looks deep into them.

use crate::{frames, net::RawSocket, system::wait_for, topology::Pair};
use anyhow::{Result, ensure};

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
    let seeds = seeds();
    for number in 0..FRAMES {
        let frame = random.mutate(&seeds[number % seeds.len()]);
        send(if (number / seeds.len()).is_multiple_of(2) { &up } else { &down }, &frame)?;
    }
    for direction in ["tx", "rx"] {
        let counter = |name: &str| pair.vm.counter("cvsw0", &format!("{direction}_{name}"));
        wait_for("most frames to arrive", || Ok(counter("frames")? > FRAMES as u64 / 3))?;
        let listing = pair.vm.run("ethtool -S cvsw0")?;
        let drops: u64 = listing
            .lines()
            .filter_map(|line| {
                line.trim().strip_prefix(&format!("{direction}_drop_"))?.split_once(": ")?.1.parse::<u64>().ok()
            })
            .sum();
        let (frames, forwarded, consumed) = (counter("frames")?, counter("forwarded")?, counter("consumed")?);
        ensure!(
            frames == forwarded + consumed + drops,
            "{direction}: {frames} != {forwarded} + {consumed} + {drops}"
        );
        println!(
            "KMOD-NOTE {direction}: {frames} mutated frames, {forwarded} forwarded, {consumed} control, {drops} dropped"
        );
    }
    pair.vm.run("cvsw ctl --dev cvsw0 flows clear")?;
    pair.vm.run("ip link set cvsw0 mtu 1500")?;
    pair.vm.run("ping -c 2 -i 0.2 -W 5 10.0.0.2")?;
    Ok(())
}

/// The kernel itself refuses some frames (too long, too short); those are not the engine's business.
fn send(socket: &RawSocket, frame: &[u8]) -> Result<()> {
    let _ = socket.send(frame);
    Ok(())
}

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
