//! Open vSwitch and Wireshark as judges of what the codecs write, and as writers of what they read.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

mod messages;

use cvsw_core::{
    flow::{
        Action, ActionList, Command, DEFAULT_PRIORITY, Field, FlowMod, OFPP_CONTROLLER, OFPP_NONE,
        text::{DisplayFlow, parse_flow},
    },
    openflow::{
        Features, FlowStats, FlowStatsEntries, Message, PacketOut, StatsReply, StatsRequest, encode_flow_mod,
        message_len,
    },
};
use cvsw_testkit::flow::{flow_mod, openflow_action, openflow_match, text_match};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use std::{
    fs,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command as Process, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Flows in one batch.
const FLOWS: usize = 500;
/// Longest that one judge may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cvsw-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Standard output of a program that must succeed in time.
fn run(program: &str, arguments: &[&str]) -> String {
    let child = Process::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed (Debian: openvswitch-common, tshark): {error}"));
    let output = finish(child);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits for a child with a deadline, behind which it is ended.
fn finish(child: Child) -> Output {
    let id = child.id();
    let (done, waiting) = std::sync::mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if waiting.recv_timeout(DEADLINE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = Process::new("kill").arg(id.to_string()).status();
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    watchdog.join().unwrap();
    output
}

/// The same values in every run.
fn samples<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

fn encode(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 65535];
    let len = message.encode(9, &mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

/// What follows `OFPT_FLOW_MOD (xid=..): ` in Open vSwitch's description of a flow change.
fn description(line: &str) -> &str {
    line.split_once("): ").unwrap_or_else(|| panic!("no flow change: {line}")).1
}

/// Open vSwitch's description of a flow change as flow text.
fn as_text(description: &str) -> String {
    let (command, rest) = description.split_once(' ').unwrap();
    let (matching, actions) = rest.split_at(rest.find("actions=").unwrap());
    let command = match command {
        "ADD" => "add",
        "MOD" => "modify",
        "MOD_STRICT" => "modify_strict",
        "DEL" => "delete",
        "DEL_STRICT" => "delete_strict",
        other => panic!("unknown command {other}"),
    };
    let matching = matching
        .replace("cookie:", "cookie=")
        .replace("idle:", "idle_timeout=")
        .replace("hard:", "hard_timeout=")
        .replace("out_port:", "out_port=");
    if command.starts_with("delete") {
        format!("{command} {matching}")
    } else {
        format!("{command} {matching}{actions}")
    }
}

/// Text of a DELETE without its priority, which counts for nothing there and is no part of flow text.
fn reparse(description: &str) -> FlowMod {
    let text = as_text(description);
    let text = match text.strip_prefix("delete priority=") {
        Some(rest) => format!("delete {}", rest.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => text,
    };
    parse_flow(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Flows to add that `ovs-ofctl` takes as text for OpenFlow 1.0. (In bytes it takes IPv6 ports as well.)
fn adds() -> Vec<FlowMod> {
    let mut flows = samples(flow_mod(openflow_match(), openflow_action()), FLOWS);
    flows.retain(|flow| flow.command == Command::Add && flow.matching.value().get(Field::EthType) != 0x86dd);
    assert!(flows.len() > FLOWS / 10);
    flows
}

#[test]
fn open_vswitch_reads_our_flow_mods() {
    let folder = Folder::new("flow-mods");
    let flows = samples(flow_mod(openflow_match(), openflow_action()), FLOWS);
    let bytes: Vec<u8> = flows.iter().flat_map(|flow| encode(&Message::FlowMod(flow.clone()))).collect();
    let file = folder.file("flows.bin", &bytes);
    let printed = run("ovs-ofctl", &["ofp-parse", file.to_str().unwrap()]);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), flows.len());
    for (line, flow) in lines.iter().zip(&flows) {
        assert_eq!(&reparse(description(line)), flow, "{line}");
    }
}

#[test]
fn open_vswitch_reads_our_text_as_our_bytes() {
    let folder = Folder::new("flow-text");
    let flows = adds();
    let bytes: Vec<u8> = flows.iter().flat_map(|flow| encode(&Message::FlowMod(flow.clone()))).collect();
    let file = folder.file("flows.bin", &bytes);
    let from_bytes = run("ovs-ofctl", &["ofp-parse", file.to_str().unwrap()]);
    let text: String = flows.iter().map(|flow| format!("{}\n", DisplayFlow(flow))).collect();
    let file = folder.file("flows.txt", text.as_bytes());
    let from_text = run("ovs-ofctl", &["-F", "openflow10", "parse-flows", file.to_str().unwrap()]);
    let from_text: Vec<&str> = from_text.lines().filter(|line| line.contains("FLOW_MOD")).collect();
    assert_eq!(from_text.len(), flows.len());
    for ((bytes, text), flow) in from_bytes.lines().zip(from_text).zip(&flows) {
        assert_eq!(description(bytes), description(text), "{}", DisplayFlow(flow));
    }
}

#[test]
fn open_vswitch_reads_our_text_with_fields_beyond_openflow_1_0() {
    let folder = Folder::new("flow-text-nxm");
    let mut flows = samples(flow_mod(text_match(), openflow_action()), FLOWS);
    flows.retain(|flow| flow.command == Command::Add);
    let text: String = flows.iter().map(|flow| format!("{}\n", DisplayFlow(flow))).collect();
    let file = folder.file("flows.txt", text.as_bytes());
    let printed = run("ovs-ofctl", &["-F", "nxm", "parse-flows", file.to_str().unwrap()]);
    let printed: Vec<&str> = printed.lines().filter(|line| line.contains("FLOW_MOD")).collect();
    assert_eq!(printed.len(), flows.len());
    for (line, flow) in printed.iter().zip(&flows) {
        assert_eq!(&reparse(description(line)), flow, "{line}");
    }
}

/// `ofp-print` of a message.
fn ofp_print(message: &Message<'_>) -> String {
    let hex: String = encode(message).iter().map(|byte| format!("{byte:02x}")).collect();
    run("ovs-ofctl", &["ofp-print", &hex])
}

/// The next message of a stream.
fn receive(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut message = vec![0; 4];
    stream.read_exact(&mut message).ok()?;
    let len = message_len(&message).unwrap().unwrap();
    message.resize(len, 0);
    stream.read_exact(&mut message[4..]).unwrap();
    Some(message)
}

/// A switch that keeps what it is told and lists one flow when asked. It serves one connection after the other
/// until `done`.
fn switch(listener: &UnixListener, done: &AtomicBool) -> Vec<FlowMod> {
    listener.set_nonblocking(true).unwrap();
    let started = Instant::now();
    let mut told = Vec::new();
    while !done.load(Ordering::Relaxed) {
        assert!(started.elapsed() < DEADLINE, "ovs-ofctl does not come to an end");
        match listener.accept() {
            Ok((stream, _)) => serve(stream, &mut told),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("accept: {error}"),
        }
    }
    told
}

/// One connection of [`switch`], up to its end.
fn serve(mut stream: UnixStream, told: &mut Vec<FlowMod>) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(&encode(&Message::Hello { version: 1 })).unwrap();
    while let Some(bytes) = receive(&mut stream) {
        let xid = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
        let mut body = Vec::new();
        let answer = match Message::decode(&bytes).unwrap() {
            Message::Hello { .. } => continue,
            Message::EchoRequest(data) => Message::EchoReply(data),
            Message::FlowMod(flow) => {
                told.push(flow);
                continue;
            }
            Message::StatsRequest(StatsRequest::Flow(request)) => {
                assert_eq!((request.table_id, request.out_port), (0xff, OFPP_NONE));
                let mut entry = [0; 2048];
                let len = listed().encode(&mut entry).unwrap();
                body.extend_from_slice(&entry[..len]);
                Message::StatsReply(StatsReply::Flow { more: false, entries: FlowStatsEntries(&body) })
            }
            Message::FeaturesRequest => Message::FeaturesReply(Features::default()),
            // It asks for the names of the tables; there are none.
            Message::StatsRequest(StatsRequest::Other { kind, .. }) => {
                Message::StatsReply(StatsReply::Other { kind, more: false, body: &[] })
            }
            Message::BarrierRequest => Message::BarrierReply,
            other => panic!("unexpected {other:?}"),
        };
        let mut out = vec![0; 4096];
        let len = answer.encode(xid, &mut out).unwrap();
        stream.write_all(&out[..len]).unwrap();
    }
}

/// The flow that [`switch`] lists.
fn listed() -> FlowStats {
    let flow =
        parse_flow("cookie=0xabc,idle_timeout=60,priority=7,udp,tp_dst=4789,actions=CONTROLLER:128").unwrap();
    FlowStats {
        table_id: 0,
        matching: flow.matching,
        duration_sec: 3,
        duration_nsec: 250_000_000,
        priority: flow.priority,
        idle_timeout: flow.idle_timeout,
        hard_timeout: 0,
        cookie: flow.cookie,
        packets: 5,
        bytes: 300,
        actions: flow.actions,
    }
}

/// What `ovs-ofctl COMMAND SWITCH ARGUMENT..` prints, and what the switch was told.
fn with_switch(folder: &Folder, command: &str, arguments: &[&str]) -> (String, Vec<FlowMod>) {
    let socket = folder.0.join("switch.sock");
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let told = thread::spawn({
        let done = Arc::clone(&done);
        move || switch(&listener, &done)
    });
    let target = format!("unix:{}", socket.display());
    let all = [&["-O", "OpenFlow10", "-F", "OpenFlow10-table_id", command, target.as_str()], arguments].concat();
    let printed = run("ovs-ofctl", &all);
    done.store(true, Ordering::Relaxed);
    (printed, told.join().unwrap())
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn we_read_the_flow_mods_that_open_vswitch_writes() {
    let folder = Folder::new("ovs-writes");
    let flows = adds();
    let text: String = flows.iter().map(|flow| format!("{}\n", DisplayFlow(flow))).collect();
    let file = folder.file("flows.txt", text.as_bytes());
    let (_, told) = with_switch(&folder, "add-flows", &[path(&file)]);
    assert_eq!(told, flows);
    let (_, told) = with_switch(&folder, "del-flows", &["tcp,nw_src=10.0.0.0/24,out_port=3"]);
    let expected = parse_flow("delete tcp,nw_src=10.0.0.0/24,out_port=3").unwrap();
    assert_eq!(told, [expected]);
    assert_eq!(told[0].priority, DEFAULT_PRIORITY);
}

#[test]
fn open_vswitch_lists_our_statistics() {
    let folder = Folder::new("ovs-lists");
    let (printed, _) = with_switch(&folder, "dump-flows", &[]);
    let line = printed.lines().find(|line| line.contains("actions=")).unwrap();
    let expected = " cookie=0xabc, duration=3.250s, table=0, n_packets=5, n_bytes=300, idle_timeout=60, \
                    priority=7,udp,tp_dst=4789 actions=CONTROLLER:128";
    assert_eq!(line, expected);
    // The text of a listing is flow text as well.
    let flow = parse_flow(line).unwrap();
    assert_eq!((flow.matching, flow.actions), (listed().matching, listed().actions));
}

/// A capture of one TCP segment from port 6653 that carries the messages, as `text2pcap` reads it.
fn capture(folder: &Folder, messages: &[Vec<u8>]) -> PathBuf {
    let payload = messages.concat();
    let text: String = payload
        .chunks(16)
        .enumerate()
        .map(|(line, chunk)| {
            let bytes: String = chunk.iter().map(|byte| format!(" {byte:02x}")).collect();
            format!("{:06x}{bytes}\n", line * 16)
        })
        .collect();
    let text = folder.file("messages.txt", text.as_bytes());
    let pcap = folder.0.join("messages.pcap");
    run("text2pcap", &["-q", "-T", "6653,40000", path(&text), path(&pcap)]);
    pcap
}

#[test]
fn wireshark_reads_our_messages() {
    let folder = Folder::new("tshark");
    let flow = parse_flow(
        "cookie=0xabc,priority=100,in_port=1,dl_vlan=5,dl_vlan_pcp=3,udp,nw_src=10.1.0.0/16,nw_dst=10.2.3.4,\
         nw_tos=184,tp_src=1000,tp_dst=4789,actions=CONTROLLER:128",
    )
    .unwrap();
    let mut bytes = [0; 256];
    let len = encode_flow_mod(&flow, 9, &mut bytes).unwrap();
    let mut actions = ActionList::new();
    actions.push(Action::Output { port: OFPP_CONTROLLER, max_len: 512 }).unwrap();
    let frame = [0xff; 60];
    let packet_out = PacketOut { buffer_id: None, in_port: 4, actions, data: &frame };
    let hello = encode(&Message::Hello { version: 1 });
    let pcap = capture(&folder, &[hello, bytes[..len].to_vec(), encode(&Message::PacketOut(packet_out))]);
    let dissected = run("tshark", &["-r", path(&pcap), "-d", "tcp.port==6653,openflow", "-V", "-O", "openflow_v1"]);
    let expected = [
        "Type: OFPT_HELLO (0)",
        "Type: OFPT_FLOW_MOD (14)",
        "In port: 1",
        "VLAN id: 5",
        "VLAN priority: 3",
        "Dl type: 2048",
        "IP ToS: 184",
        "IP protocol: 17",
        "Source Address: 10.1.0.0",
        "Destination Address: 10.2.3.4",
        "Source Port: 1000",
        "Destination Port: 4789",
        "Cookie: 0x0000000000000abc",
        "Command: New flow (0)",
        "Priority: 100",
        "Actions type: Output to switch port (0)",
        "Output port: 65533",
        "Max length: 128",
        "Type: OFPT_PACKET_OUT (13)",
        "Actions length: 8",
        "Output port: 65533",
        "Max length: 512",
    ];
    let mut rest = dissected.as_str();
    for line in expected {
        let at = rest.find(line).unwrap_or_else(|| panic!("no {line:?} (in this order) in\n{dissected}"));
        rest = &rest[at..];
    }
    assert!(!dissected.contains("Malformed"), "{dissected}");
}
