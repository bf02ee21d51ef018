//! The commands that talk to a controller's API, with a real controller at the other end.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use cvsw_sim::{
    fleet::Fleet,
    layout::{Layout, mac},
};
use serde_json::Value;

use crate::common::{Run, run};

const VNIC: &str = "02:00:00:00:01:01";
const FLOW: &str = "priority=50000,in_port=HOST,udp,tp_dst=9,actions=drop";

struct Controller {
    process: Child,
    address: String,
    /// Where it listens for switches.
    switches: std::net::SocketAddr,
    _folder: tempfile::TempDir,
}

impl Controller {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("c.toml"), "listen = [\"tcp:127.0.0.1:0\"]\n").unwrap();
        let address = format!("unix:{}", path("api.sock"));
        let mut process = Command::new(env!("CARGO_BIN_EXE_cvsw"))
            .args(["controller", "--config", &path("c.toml"), "--store", &path("store"), "--api", &address])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.starts_with("ready tcp:127.0.0.1:") && ready.contains(", API unix:"), "{ready}");
        let switches = ready.split([' ', ',']).nth(1).and_then(|text| text.strip_prefix("tcp:")).unwrap();
        Self { process, address, switches: switches.parse().unwrap(), _folder: folder }
    }

    fn run(&self, arguments: &[&str], input: &str) -> Run {
        run(&[arguments, &["--api", &self.address]].concat(), input)
    }

    /// What a command prints that must succeed.
    fn good(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments, "");
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{arguments:?}");
        run.stdout
    }

    /// What a command complains about that must fail.
    fn bad(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments, "");
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{arguments:?}");
        run.stderr
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn everything_that_the_api_does() {
    let controller = Controller::start();
    let good = |arguments: &[&str]| controller.good(arguments);
    let bad = |arguments: &[&str]| controller.bad(arguments);
    assert!(bad(&["net", "set", "blue"]).contains("a new one needs --vni and --group"));
    good(&["net", "set", "blue", "--vni", "42", "--group", "239.1.1.42"]);
    good(&["net", "set", "blue", "--mtu", "1400"]);
    let table = good(&["net", "list"]);
    let columns: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(columns[1], ["blue", "42", "1400", "239.1.1.42", "-", "0"], "what was not given stays");
    let error = bad(&["net", "set", "blue", "--cipher", "rot13"]);
    assert!(
        error.contains("networks/blue/cipher: unknown cipher suite") && error.contains("help: there are"),
        "{error}"
    );

    let underlay = ["--underlay-mac", "02:00:00:01:00:01", "--underlay-ip", "192.0.2.1"];
    let member = [&["member", "set", "blue", "vm1", "--mac", VNIC, "--ip", "10.0.0.1"][..], &underlay].concat();
    good(&member);
    good(&["member", "set", "blue", "vm1", "--offloads", "csum,gro"]);
    let shown: Value = serde_json::from_str(&good(&["member", "show", "blue", "vm1", "--json"])).unwrap();
    assert_eq!((&shown["ip"], &shown["offloads"][1]), (&"10.0.0.1".into(), &"gro".into()));
    assert!(good(&["member", "list", "blue"]).contains("csum,gro"));

    assert!(good(&["flow", "add", VNIC, FLOW]).contains("extra"));
    assert!(good(&["flow", "list", VNIC, "--text"]).lines().any(|line| line.contains("tp_dst=9")));
    let frame = "020000000102 020000000101 0800 4500001d00000000401100000a0000010a000002 0007000900090000 00";
    assert!(good(&["vnic", "trace", VNIC, "--direction", "tx", "--hex", frame]).contains("verdict: drop (policy)"));
    let trace = ["vnic", "trace", VNIC, "--direction", "rx", "--hex", frame, "--from"];
    assert!(bad(&[&trace[..], &[VNIC]].concat()).contains("does not let it out: policy"));
    assert!(bad(&[&trace[..], &["02:00:00:00:01:77"]].concat()).contains("is neither a member"));
    assert!(!good(&["flow", "remove", VNIC, FLOW]).contains("extra"));
    assert!(bad(&["flow", "remove", VNIC, FLOW]).contains("no extra flow"));
    assert!(good(&["flow", "set", VNIC, FLOW, "priority=7,in_port=HOST,arp,actions=drop"]).contains("priority=7"));
    assert!(!good(&["flow", "set", VNIC]).contains("extra"));

    assert!(good(&["vnic", "list", "--network", "blue"]).contains("absent"));
    let vnic: Value = serde_json::from_str(&good(&["vnic", "show", VNIC, "--json"])).unwrap();
    assert_eq!(vnic["mtu"], 1400);
    assert_eq!(good(&["vnic", "list", "--state", "ready"]).lines().count(), 1, "only the head");
    assert!(good(&["net", "pairs", "blue"]).contains("clear"));
    assert_eq!(good(&["switch", "list"]).lines().count(), 1);
    assert_eq!(good(&["key", "list"]).lines().count(), 1);
    good(&["key", "rotate"]);
    good(&["config", "set", "--underlay-mtu", "9000", "--hello", "1s"]);
    let parameters = good(&["config", "parameters"]);
    let has = |table: &str, field: &str, value: &str| {
        table.lines().any(|line| line.split_whitespace().eq([field, value]))
    };
    assert!(has(&parameters, "underlay_mtu", "9000") && has(&parameters, "timers.hello", "1s"), "{parameters}");
    assert!(bad(&["config", "set", "--ethertype", "35000"]).contains("ethertype cannot change"));
    assert!(has(&good(&["vnic", "summary"]), "vnics.absent", "1"));
    assert!(has(&good(&["vnic", "show", VNIC]), "mtu_effective", "-"));

    let text = good(&["config", "export"]);
    assert!(bad(&["net", "remove", "blue"]).contains("has 1 members"));
    good(&["net", "remove", "blue", "--members"]);
    assert_eq!(controller.run(&["config", "import", "-"], &text).code, 0);
    assert_eq!(good(&["config", "export"]), text);
    let events = good(&["events", "--after", "0", "--count", "2"]);
    let types: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&types[0]["type"], &types[1]["id"]), (&"desired_state".into(), &2.into()));
}

/// Two vNICs register, and one of them is a member.
#[test]
fn vnics_are_searched_for_and_those_that_were_not_let_in_are_shown() {
    let controller = Controller::start();
    let layout = Layout { switches: 1, vnics: 2, members: 2, flows: 5, cipher: None, keyed: 0 };
    let [member, stranger] = [0, 1].map(|number| mac(number).to_string());
    controller.good(&["net", "set", "blue", "--vni", "42", "--group", "239.1.1.42"]);
    let addresses = ["--ip", "10.0.0.1", "--underlay-mac", "02:00:00:01:00:01", "--underlay-ip", "192.0.2.1"];
    controller.good(&[&["member", "set", "blue", "mail-7", "--mac", &member][..], &addresses].concat());
    assert_eq!(controller.good(&["vnic", "refused"]), "", "nobody yet");
    let mut fleet = Fleet::new(&layout).unwrap();
    fleet.connect(&[controller.switches]).unwrap();

    let deadline = Instant::now() + Duration::from_secs(60);
    let both = || {
        let refused = controller.good(&["vnic", "refused"]);
        let ready = controller.good(&["vnic", "list", "--state", "ready"]);
        (ready.contains("mail-7") && refused.contains(&stranger)).then_some(refused)
    };
    let refused = loop {
        if let Some(refused) = both() {
            break refused;
        }
        assert!(Instant::now() < deadline, "{}", controller.good(&["vnic", "summary"]));
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(refused.starts_with("NOT ADMITTED") && refused.contains("not_in_configuration"), "{refused}");
    assert!(!refused.contains(&member), "{refused}");
    let refused: Value = serde_json::from_str(&controller.good(&["vnic", "refused", "--json"])).unwrap();
    let unknown = &refused["unknown"][0];
    assert_eq!((&unknown["mac"], &unknown["reason"]), (&stranger.as_str().into(), &"not_in_configuration".into()));
    assert_eq!(refused["refused"], Value::Array(Vec::new()));

    let shown: Value = serde_json::from_str(&controller.good(&["vnic", "show", &member, "--json"])).unwrap();
    let told = !shown["mtu_effective"].is_null();
    assert_eq!((shown["protocol"] == 2, told), (!told, told), "{shown}");
    assert_eq!(controller.good(&["vnic", "show", &member]).contains("has no message in which"), !told);
    for (text, lines) in [("mail", 2), ("MAIL-7", 2), (&member[9..], 2), ("web", 1), (stranger.as_str(), 1)] {
        let table = controller.good(&["vnic", "list", "--search", text]);
        assert_eq!(table.lines().count(), lines, "{text}: {table}");
    }
}

#[test]
fn a_controller_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let run = cvsw!("net", "list", "--api", &format!("unix:{}/none", folder.path().display()));
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("/none: is it running with --api?"), "{}", run.stderr);
}
