//! The laboratory itself: its verdicts, and that nothing of it ever stays behind. Needs root, as the laboratory does.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn a_small_laboratory_passes_every_check_and_leaves_nothing_behind() {
    let mut lab = Lab::start(&["--pairs", "1", "--json", "--duration", "1", "--udp-rate", "20"]);
    let (status, text) = lab.end();
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let id = report["lab"].as_str().expect("an identifier");
    assert_nothing_left(id);
    assert_eq!(report["verdict"], "pass", "{text}");
    assert!(status.success(), "{status}");
    for name in [
        "registered",
        "mtu-set",
        "switch-flows",
        "ping",
        "largest-packet",
        "same-addresses",
        "isolation",
        "forgery",
        "link-vxlan-only",
        "link-own-network",
        "link-checksums",
        "link-df",
        "link-source-ports",
        "tcp",
        "tcp-parallel",
        "udp",
        "udp-parallel",
        "counters",
        "processes",
        "teardown",
    ] {
        assert_eq!(check(&report, name)["verdict"], "pass", "{name}: {text}");
    }
    assert_eq!(check(&report, "mtu-set")["data"]["mtu"], 1450);
    assert_eq!(check(&report, "same-addresses")["data"]["vms_with_shared_address"], 4);
    assert!(check(&report, "udp-parallel")["data"]["mbit_per_second"].as_f64().is_some_and(|rate| rate > 1.0));
    for vni in ["42", "43"] {
        let frames = &check(&report, "link-volume")["data"]["frames_by_vni"][vni];
        assert!(frames.as_u64().is_some_and(|count| count > 100), "VNI {vni}: {frames}");
    }
}

/// Encrypted: Wireshark needs the keys to see anything, and keys are exchanged under traffic.
#[test]
fn an_encrypted_laboratory_passes_every_check_and_leaves_nothing_behind() {
    let arguments = "--pairs 1 --networks 2 --cipher aes-128-gcm --json --duration 1 --udp-rate 20";
    let mut lab = Lab::start(&arguments.split(' ').collect::<Vec<_>>());
    let (status, text) = lab.end();
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_nothing_left(report["lab"].as_str().expect("an identifier"));
    assert!(status.success() && report["verdict"] == "pass", "{status} {text}");
    assert_eq!(report["setting"]["cipher"], "aes-128-gcm");
    assert_eq!(check(&report, "mtu-set")["data"]["mtu"], 1416);
    for name in ["link-vxlan-only", "link-own-network", "link-checksums", "isolation", "forgery", "counters"] {
        assert_eq!(check(&report, name)["verdict"], "pass", "{name}: {text}");
    }
    let sealed = &check(&report, "link-sealed")["data"];
    assert!(sealed["esp"].as_u64() > Some(100) && sealed["patterns"].as_u64() > Some(5), "{text}");
    let rotation = &check(&report, "rotation")["data"];
    assert_eq!((&rotation["rotations"], &rotation["lost_by_vnics"]), (&3.into(), &0.into()), "{text}");
    assert!(rotation["datagrams"].as_u64() > Some(1000), "{text}");
    // Every key was wrapped: nobody allowed them in clear.
    let versions = &check(&report, "registered")["data"]["control_protocol"];
    assert_eq!(*versions, serde_json::json!(["3, authenticated"]), "{text}");
}

#[test]
fn an_interrupted_start_leaves_nothing_behind() {
    let mut lab = Lab::start(&["--pairs", "1"]);
    let id = lab.identifier();
    // In the middle: the first vNIC runs, others do not yet.
    lab.wait_for("the first vNIC", || directory(&id).join("port-blue-1a.log").exists());
    lab.signal(Signal::INT);
    let (status, text) = lab.end();
    assert_eq!(status.code(), Some(130), "{text}");
    assert_nothing_left(&id);
}

#[test]
fn what_a_killed_laboratory_leaves_is_reported_and_removed() {
    let mut lab = Lab::start(&["--pairs", "1", "--networks", "1"]);
    let id = lab.identifier();
    lab.wait_for("the first vNIC", || directory(&id).join("port-blue-1a.log").exists());
    lab.signal(Signal::KILL);
    lab.end();
    assert!(!traces(&id).is_empty());

    let mut next = Lab::start(&["--pairs", "1", "--networks", "1"]);
    let other = next.identifier();
    next.wait_for_line(&format!("cvsw lab down {id}"));
    let refused = cvsw(&["lab", "down", &other]);
    assert!(!refused.status.success() && refused.stderr.contains("still runs"), "{}", refused.stderr);
    next.signal(Signal::TERM);
    assert_eq!(next.end().0.code(), Some(130));
    assert_nothing_left(&other);

    let down = cvsw(&["lab", "down", &id]);
    assert!(down.status.success(), "{}", down.stderr);
    assert_nothing_left(&id);
}

#[test]
fn a_kept_laboratory_works_until_it_is_taken_down() {
    let mut lab = Lab::start(&["--pairs", "1", "--networks", "1", "--duration", "1", "--udp-rate", "20", "--keep"]);
    let id = lab.identifier();
    let (status, text) = lab.end();
    assert!(status.success(), "{text}");
    let ping = ["netns", "exec", &format!("cvsw-{id}-blue-1a"), "ping", "-c", "1", "-W", "5", "10.0.0.2"];
    let ping = output(Command::new("ip").args(ping));
    let down = cvsw(&["lab", "down", &id]);
    assert!(ping.status.success(), "{}{}", ping.stdout, ping.stderr);
    assert!(text.contains(&format!("lab down {id}")), "{text}");
    assert!(down.status.success(), "{}", down.stderr);
    assert_nothing_left(&id);
}

#[test]
fn a_plan_that_cannot_be_built_changes_nothing_and_says_why() {
    let refused = cvsw(&["lab", "--pairs", "91"]);
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("--pairs must be between 1 and 90"), "{}", refused.stderr);
}

/// A running `cvsw lab`; interrupted, and so taken down, when a test fails.
struct Lab {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    seen: String,
}

impl Lab {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cvsw"))
            .arg("lab")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting cvsw");
        let lines = BufReader::new(child.stdout.take().expect("its standard output"));
        Self { child, lines, seen: String::new() }
    }

    /// From the first line: `Laboratory 3807: ...`.
    fn identifier(&mut self) -> String {
        self.wait_for_line("Laboratory ");
        let id = self.seen.split_whitespace().nth(1).expect("an identifier").trim_end_matches(':');
        id.to_owned()
    }

    /// Reads until a line holds `text`. The laboratory itself is bounded in time.
    fn wait_for_line(&mut self, text: &str) {
        loop {
            let start = self.seen.len();
            assert_ne!(self.lines.read_line(&mut self.seen).expect("a line"), 0, "no {text:?} in {}", self.seen);
            if self.seen[start..].contains(text) {
                return;
            }
        }
    }

    fn wait_for(&mut self, what: &str, done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < LIMIT, "{what}: not in time");
            assert!(self.child.try_wait().expect("its status").is_none(), "{what}: the laboratory ended before");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a PID");
        kill_process(pid, signal).expect("a signal");
    }

    fn end(&mut self) -> (ExitStatus, String) {
        self.lines.read_to_string(&mut self.seen).expect("its output");
        (self.child.wait().expect("its status"), std::mem::take(&mut self.seen))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

struct Output {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

fn cvsw(args: &[&str]) -> Output {
    output(Command::new(env!("CARGO_BIN_EXE_cvsw")).args(args))
}

fn output(command: &mut Command) -> Output {
    let output = command.output().expect("starting a program");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name}: {report}"))
}

fn directory(id: &str) -> PathBuf {
    Path::new("/run").join(format!("cvsw-lab-{id}"))
}

fn assert_nothing_left(id: &str) {
    assert_eq!(traces(id), Vec::<String>::new());
}

/// Namespaces, files and processes that carry the laboratory's identifier.
fn traces(id: &str) -> Vec<String> {
    let namespaces = output(Command::new("ip").args(["netns", "list"])).stdout;
    let prefix = format!("cvsw-{id}-");
    let mut found: Vec<String> =
        namespaces.lines().filter(|line| line.starts_with(&prefix)).map(str::to_owned).collect();
    if directory(id).exists() {
        found.push(directory(id).display().to_string());
    }
    let lab = format!("cvsw-lab-{id}");
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        // A process may end while we look; then it has left nothing.
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&prefix) || line.contains(&lab) {
            found.push(format!("process {}: {line}", entry.file_name().display()));
        }
    }
    found
}
