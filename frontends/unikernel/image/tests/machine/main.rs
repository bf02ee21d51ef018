//! The image in QEMU, with Linux's own `vxlan` device as its peer. Needs root, QEMU, and the image: `cargo xtask
//! unikernel-test` builds it and names it in `CVSW_UNIKERNEL`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that panics has found something"
)]

mod guest;
mod net;
mod peer;

use guest::{Guest, Hardware, Machine};
use net::{CLEAR, Net, Random, control};
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Longest that a single step may take: emulated machines on a busy host are slow.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Least memory of the machine, in MiB.
const MEMORY_FLOOR: u32 = 4;
/// Datagrams of the endurance run, and how many are under way at once.
const ECHOES: u32 = 1_000_000;
const WINDOW: u32 = 64;
/// Forged ESP packets.
const FORGED: u32 = 2000;
/// The endurance run must end within this time on any machine.
const ECHO_LIMIT: Duration = Duration::from_secs(300);

/// Echoes `len` bytes over an open connection, in pieces.
fn echo(stream: &mut TcpStream, len: usize) {
    let sent: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
    for piece in sent.chunks(8000) {
        stream.write_all(piece).unwrap();
        let mut received = vec![0; piece.len()];
        stream.read_exact(&mut received).unwrap();
        assert!(received == piece, "the echo differs");
    }
}

fn works_in_clear(machine: Machine) {
    let net = Net::new();
    let start = Instant::now();
    let mut guest = Guest::start(machine, &net, CLEAR);
    net.wait_for_first_ping();
    println!("{machine:?}: launch to first ping reply through the overlay {} ms", start.elapsed().as_millis());
    net.exec("ping -c 3 -i 0.2 -W 20 10.0.0.2");
    net.exec("ping -6 -c 3 -i 0.2 -W 20 fd00::2");
    let udp = net.within(|| UdpSocket::bind("10.0.0.1:0"));
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    for len in [0, 1, 2, 100, 1000, 1422] {
        udp.send_to(&vec![9; len], "10.0.0.2:7").unwrap();
        assert_eq!(udp.recv(&mut [0; 2000]).unwrap(), len);
    }
    for address in ["10.0.0.2:7", "[fd00::2]:7"] {
        echo(&mut net.connect(address), 200_000);
    }
    let status = net.status();
    assert_eq!(status["flow_count"], 3);
    assert_eq!(status["engine"]["tx"]["missed"], 0, "something left outside the overlay: {status}");
    assert_eq!(status["engine"]["tx"]["drops"], serde_json::json!({}), "{status}");

    // Outside the overlay nobody is at home.
    let raw = net.raw();
    let before = status["engine"]["rx"]["drops"]["policy"].as_u64().unwrap_or(0);
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 1, 0, 1, 10, 0, 0, 1][..], &[0; 6], &[10, 0, 0, 2]].concat();
    let arp = [&[0xff; 6][..], &[2, 0, 0, 1, 0, 1, 8, 6], &arp, &[0; 18]].concat();
    for _ in 0..5 {
        raw.send(&arp);
    }
    net.eventually("the requests in clear are dropped and counted", || {
        net.status()["engine"]["rx"]["drops"]["policy"].as_u64().unwrap_or(0) >= before + 5
    });
    assert_eq!(net.status()["engine"]["tx"]["missed"], 0);

    net.ask_to("exit");
    assert_eq!(guest.wait(), Some(33), "{}", guest.log());
    let log = guest.log();
    assert!(log.contains("is up") && log.contains("asked to exit"), "{log}");
}

#[test]
fn clear_overlay_on_a_microvm() {
    works_in_clear(Machine::Micro);
}

#[test]
fn clear_overlay_on_a_q35() {
    works_in_clear(Machine::Q35);
}

/// On the smallest machine that it runs on.
#[test]
fn a_new_mtu_in_the_middle_of_a_connection() {
    let net = Net::new();
    let hardware = Hardware { megabytes: MEMORY_FLOOR, ..Hardware::new(Machine::Micro) };
    let mut guest = Guest::start_on(&hardware, &net, CLEAR, None);
    println!("{:?} with {} MiB of memory", hardware.machine, hardware.megabytes);
    net.wait_for_ping();
    let raw = net.raw();
    raw.send(&control(1, 0));
    let mut stream = net.connect("10.0.0.2:7");
    for mtu in [1400, 1000, 1450] {
        raw.send(&control(5, mtu));
        net.eventually("the MTU is set", || net.status()["mtu"] == mtu);
        raw.drain();
        echo(&mut stream, 60_000);
        assert_eq!(raw.largest_inner_packet(), mtu, "the longest packet of the guest");
    }
    raw.send(&control(5, 9000));
    raw.send(&control(6, 0x1f));
    net.eventually("what cannot be honoured is reported", || {
        let status = net.status();
        status["refused_mtu"] == 9000 && status["offload_requested"] == "csum,tso,ufo,gso,gro"
    });
    assert_eq!((net.status()["mtu"].clone(), net.status()["offload_effective"].clone()), (1450.into(), "".into()));
    echo(&mut stream, 10_000);
    net.ask_to("exit");
    assert_eq!(guest.wait(), Some(33), "{}", guest.log());
    assert!(guest.log().contains("IpMtu(1000)"), "{}", guest.log());
}

/// Every frame of the fuzz targets' seeds, and variants of them, straight into the virtual cable.
#[test]
fn hostile_frames_neither_hang_nor_crash_it() {
    let net = Net::new();
    let mut guest = Guest::start(Machine::Micro, &net, CLEAR);
    net.wait_for_ping();
    let raw = net.raw();
    let seeds = net::seeds();
    assert!(seeds.len() >= 20, "only {} seeds", seeds.len());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut sent = 0;
    for round in 0..200 {
        for seed in &seeds {
            let mut frame = seed.clone();
            for _ in 0..round.min(8) {
                let at = random.below(frame.len());
                frame[at] = random.below(256) as u8;
            }
            if round % 5 == 4 {
                frame.truncate(14 + random.below(frame.len()));
            }
            // Linux sends nothing shorter than an Ethernet header.
            frame.resize(frame.len().clamp(15, 1514), 0);
            // Half of them as the inner frame of a well-formed tunnel packet.
            if round % 2 == 1 {
                frame = net::in_vxlan(&frame);
            }
            sent += u64::from(raw.try_send(&frame));
        }
    }
    println!("{sent} hostile frames");
    assert!(sent > 1000);
    net.wait_for_ping();
    echo(&mut net.connect("10.0.0.2:7"), 50_000);
    let rx = &net.status()["engine"]["rx"];
    let drops: u64 = rx["drops"].as_object().unwrap().values().filter_map(serde_json::Value::as_u64).sum();
    let sum = |name: &str| rx[name].as_u64().unwrap();
    assert_eq!(sum("frames"), sum("forwarded") + sum("consumed") + drops, "{rx}");
    assert!(drops > 100, "{rx}");
    net.ask_to("exit");
    assert_eq!(guest.wait(), Some(33), "{}", guest.log());
}

#[test]
fn a_million_echoes() {
    let net = Net::new();
    let mut guest = Guest::start(Machine::Micro, &net, CLEAR);
    net.wait_for_ping();
    let udp = net.within(|| UdpSocket::bind("10.0.0.1:0"));
    udp.connect("10.0.0.2:7").unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let start = Instant::now();
    let (mut sent, mut received) = (0_u32, 0_u32);
    let mut datagram = [0; 64];
    while received < ECHOES {
        while sent < ECHOES && sent - received < WINDOW {
            datagram[..4].copy_from_slice(&sent.to_be_bytes());
            udp.send(&datagram).unwrap();
            sent += 1;
        }
        let len = udp.recv(&mut datagram).unwrap_or_else(|error| panic!("{received} of {sent} came back: {error}"));
        assert_eq!(len, 64);
        let number = u32::from_be_bytes([datagram[0], datagram[1], datagram[2], datagram[3]]);
        assert_eq!(number, received, "one was lost, or overtaken");
        received += 1;
        assert!(start.elapsed() < ECHO_LIMIT, "{received} echoes took {:?}", start.elapsed());
    }
    println!(
        "{ECHOES} echoes in {:?}: {:.0} per second",
        start.elapsed(),
        f64::from(ECHOES) / start.elapsed().as_secs_f64()
    );
    net.ask_to("exit");
    assert_eq!(guest.wait(), Some(33), "{}", guest.log());
}

/// Packets of any length that claim to be of the guest's association, and are not.
fn forge(raw: &net::Raw) {
    let mut random = Random(7);
    for sequence in 0..FORGED {
        let spi = if sequence % 4 == 0 { random.below(1 << 32) as u32 } else { peer::TO_GUEST.0 };
        let rest: Vec<u8> = (0..random.below(1470)).map(|_| random.below(256) as u8).collect();
        raw.send(&net::esp(spi, sequence.wrapping_mul(0x0101_0101), &rest));
    }
}

/// `instructions`: whether the processor has those for AES and for carry-less multiplication.
fn works_encrypted(hardware: &Hardware, instructions: bool) {
    let net = Net::new();
    let mut guest = Guest::start_on(hardware, &net, peer::GUEST_LINE, Some(&peer::guest_keys()));
    // The tunnel's headers, ESP's and the ICV leave less room than the link has.
    let raw = net.raw();
    let work = || {
        let mut peer = peer::Peer::new()?;
        let first = peer.fetch("/status.json");
        assert!(first.contains("CVSW") || first.contains("\"session\""), "{first}");
        // HELLO and SET_MTU come in clear, from the switch's side.
        raw.send(&control(1, 0));
        raw.send(&control(5, 1400));
        let deadline = Instant::now() + PATIENCE;
        while !peer.fetch("/status.json").contains("\"mtu\":1400") {
            assert!(Instant::now() < deadline, "the MTU is never set");
        }
        // The peer hears the forgeries too; TCP makes up for what it loses meanwhile.
        forge(&raw);
        peer.echo_tcp(100_000);
        peer.echo_udp(200);
        let page = peer.fetch("/status.json");
        let (opened, refused) = peer.counts();
        Ok((page, opened, refused))
    };
    let (page, opened, refused) = net.within(work);
    let status: serde_json::Value = serde_json::from_str(page.split_once("\r\n\r\n").unwrap().1).unwrap();
    for index in 0..2 {
        assert_eq!(status["sas"][index]["suite"], "aes-128-gcm", "{status}");
        assert!(status["sas"][index]["packets"].as_u64().unwrap() > 200, "{status}");
    }
    assert_eq!(status["engine"]["tx"]["drops"], serde_json::json!({}), "{status}");
    assert_eq!(status["engine"]["tx"]["missed"], 0, "{status}");
    assert!(opened > 200 && refused == 0, "{opened} opened, {refused} refused");
    let drops = status["engine"]["rx"]["drops"].as_object().unwrap();
    let forged: u64 =
        drops.iter().filter(|(reason, _)| reason.starts_with("esp_")).map(|(_, n)| n.as_u64().unwrap()).sum();
    assert!(forged > u64::from(FORGED / 2), "{status}");
    // In clear nobody answers.
    assert!(!net.ping_answers(), "the guest answers outside the encrypted tunnel");
    drop(raw);
    assert_eq!(guest.try_exit_code(), None, "{}", guest.log());
    assert!(guest.log().contains("2 security associations"), "{}", guest.log());
    // Their names have prefixes and suffixes: `vaesenclast`, `pclmullqlqdq`.
    for instruction in ["aesenc", "pclmul"] {
        assert_eq!(guest.has_executed(instruction), instructions, "{instruction}");
    }
}

/// The image decides at run time: the same one executes AES instructions here, and none below.
#[test]
fn encrypted_overlay_with_aes_instructions() {
    works_encrypted(&Hardware { note_instructions: true, ..Hardware::new(Machine::Micro) }, true);
}

#[test]
fn encrypted_overlay_without_aes_instructions() {
    let processor = "qemu64,-aes,-pclmulqdq";
    works_encrypted(&Hardware { processor, note_instructions: true, ..Hardware::new(Machine::Q35) }, false);
}

/// Keys in clear are taken from a controller only by a machine that was told to.
#[test]
fn keys_in_clear_are_refused_unless_allowed() {
    for (allowed, words) in [(false, ""), (true, " accept-keys-in-clear=1")] {
        let net = Net::new();
        let mut guest = Guest::start(Machine::Micro, &net, &format!("{CLEAR}{words}"));
        net.wait_for_ping();
        let raw = net.raw();
        raw.send(&control(1, 0));
        raw.send(&net::set_sa());
        let expected = if allowed { (1, 0) } else { (0, 1) };
        net.eventually("the key is taken, or refused and counted", || {
            let status = net.status();
            let sas = status["sas"].as_array().unwrap().len();
            let errors = status["engine"]["control_errors"].as_u64().unwrap();
            (sas, errors) == expected
        });
        net.ask_to("exit");
        assert_eq!(guest.wait(), Some(33), "{}", guest.log());
    }
}

#[test]
fn bad_keys_start_nothing() {
    let net = Net::new();
    let keys = peer::guest_keys().replace("aes-128-gcm", "aes-129-gcm");
    let mut guest = Guest::start_on(&Hardware::new(Machine::Micro), &net, peer::GUEST_LINE, Some(&keys));
    assert_eq!(guest.wait(), Some(35), "{}", guest.log());
    assert!(guest.log().contains("opt/org.cvsw/associations:1: expected suite=NAME"), "{}", guest.log());
}

/// The tests' own watchdog.
#[test]
fn a_hang_is_noticed() {
    let net = Net::new();
    let mut guest = Guest::start(Machine::Micro, &net, CLEAR);
    net.wait_for_ping();
    net.ask_to("hang");
    net.eventually("it hangs", || guest.log().contains("asked to hang"));
    assert!(!net.ping_answers());
    assert_eq!(guest.wait_at_most(Duration::from_millis(500)), None);
}

#[test]
fn a_panic_says_where_and_fails() {
    let net = Net::new();
    let hardware = Hardware { megabytes: MEMORY_FLOOR, ..Hardware::new(Machine::Q35) };
    let mut guest = Guest::start_on(&hardware, &net, CLEAR, None);
    net.wait_for_ping();
    net.ask_to("panic");
    assert_eq!(guest.wait(), Some(35), "{}", guest.console());
    let console = guest.console();
    assert!(console.contains("src/app.rs:") && console.contains("asked to panic"), "{console}");
}

#[test]
fn a_bad_command_line_is_explained() {
    let net = Net::new();
    for (line, part) in [
        ("ip=10.0.0.2/40", "`ip=10.0.0.2/40` is not understood, expected ip=ADDRESS/PREFIX"),
        ("flow=actions=fly", "`flow=actions=fly` is not a flow"),
    ] {
        let mut guest = Guest::start(Machine::Micro, &net, line);
        assert_eq!(guest.wait(), Some(35), "{}", guest.log());
        assert!(guest.log().contains(part), "{}", guest.log());
    }
}
