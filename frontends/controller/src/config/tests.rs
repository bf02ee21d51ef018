//! Every error of a configuration file, with its place and its fix.

use super::*;

const GOOD: &str = r#"listen = ["tcp:[::1]:6653", "unix:/run/x.sock"]
ethertype = 0x88b5
underlay_mtu = 9000
[timers]
hello = "500ms"
echo = "1m"
[[network]]
name = "blue"
vni = 42
mtu = "auto"
group = "239.1.1.42"
[[network.member]]
name = "vm1"
mac = "02:00:00:00:01:01"
ip = "10.0.0.1"
underlay_mac = "02:00:00:01:00:01"
underlay_ip = "192.0.2.1"
offloads = ["csum", "gro"]
flows = ["in_port=HOST,udp,tp_dst=9,actions=drop"]
[[network.member]]
name = "vm2"
mac = "02:00:00:00:01:02"
ip = "10.0.0.2"
underlay_mac = "02:00:00:01:00:02"
underlay_ip = "192.0.2.2"
[[network]]
name = "red"
vni = 43
mtu = 1400
group = "239.1.1.43"
"#;

/// The only error of the good file with one text replaced, as `line:column message / help`.
fn error(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    let errors = Config::parse("c.toml", &GOOD.replacen(old, new, 1)).expect_err(new);
    let [error] = errors.0.as_slice() else { panic!("{errors}") };
    assert_eq!(error.severity, Severity::Error);
    format!("{}:{} {} / {}", error.line, error.column, error.message, error.help)
}

#[test]
fn a_good_file_means_what_it_says() {
    let Loaded { config, warnings, .. } = Config::parse("c.toml", GOOD).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(
        config.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["tcp:[::1]:6653", "unix:/run/x.sock"]
    );
    assert_eq!(
        (config.ethertype, config.underlay_mtu.get(), config.forwarding),
        (0x88b5, 9000, Forwarding::Normal)
    );
    let expected = Timers { hello: Duration::from_millis(500), echo: Duration::from_secs(60), ..Timers::default() };
    assert_eq!(config.timers, expected);
    let [blue, red] = config.networks.as_slice() else { panic!() };
    assert_eq!((blue.vni, blue.mtu.get(), red.mtu.get(), red.members.len()), (42, 8950, 1400, 0));
    let vm1 = &blue.members[0];
    assert_eq!(vm1.offloads, OffloadFlags(OffloadFlags::CSUM | OffloadFlags::GRO));
    assert_eq!((vm1.flows.len(), blue.members[1].flows.len()), (1, 0));
}

#[test]
fn everything_but_networks_has_a_default() {
    let Loaded { config, warnings, .. } = Config::parse("c.toml", "").unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.listen, ["tcp:127.0.0.1:6653".parse().unwrap()]);
    assert_eq!((config.ethertype, config.underlay_mtu.get()), (0xabba, 1500));
    assert_eq!((config.timers, config.networks.len()), (Timers::default(), 0));
}

#[test]
fn each_mistake_is_named_where_it_is() {
    let cases = [
        ("tcp:[::1]:6653", "tcp:localhost", "1:11 this is not an address to listen on / write tcp:ADDRESS:PORT"),
        ("0x88b5", "0x0800", "2:13 EtherType 0x0800 is that of IPv4 frames / use 0xabba"),
        ("0x88b5", "1500", "2:13 an EtherType is a number from 0x0600 to 0xffff / use 0xabba"),
        ("9000", "117", "3:16 the underlay's MTU must be from 118 to 65535 / use what `ip link` shows"),
        ("500ms", "5", "5:9 this is not a duration / write a number from 10ms to 1h"),
        ("500ms", "2h", "5:9 this is not a duration"),
        ("vni = 42", "vni = 0", "9:7 the VNI is out of range / a VNI has 24 bits: use a number from 1 to 16777215"),
        ("vni = 42", "vni = 16777216", "9:7 the VNI is out of range"),
        (
            "vni = 43",
            "vni = 42",
            "28:7 the VNI 42 is used twice / two networks with one VNI would be one network; it was first used at c.toml:9",
        ),
        (
            "\"auto\"",
            "67",
            "10:7 an MTU is a number from 68 to 65535, or \"auto\" / write mtu = \"auto\", which is 8950 here",
        ),
        ("\"auto\"", "\"1400\"", "10:7 an MTU is a number"),
        ("\"red\"", "\"blue\"", "27:8 the network name blue is used twice / network names are unique"),
        ("\"red\"", "\"\"", "27:8 this cannot be the name of a network / use 1 to 64 letters"),
        ("239.1.1.42", "10.1.1.42", "11:9 10.1.1.42 is not a multicast address / use an IPv4 multicast address"),
        ("239.1.1.42", "239.1.1", "11:9 this is not an IPv4 address / use an IPv4 multicast address"),
        ("\"vm2\"", "\"vm1\"", "21:8 the member name vm1 is used twice"),
        (
            "02:00:00:00:01:02",
            "02:00:00:00:01:01",
            "22:7 the vNIC address 02:00:00:00:01:01 is used twice / a vNIC registers by its MAC address; it was first used at c.toml:14",
        ),
        (
            "02:00:00:00:01:02",
            "03:00:00:00:01:02",
            "22:7 03:00:00:00:01:02 is a multicast address / the first octet",
        ),
        ("02:00:00:00:01:02", "00:00:00:00:00:00", "22:7 the all-zero MAC address names nobody"),
        ("02:00:00:00:01:02", "2.0.0.1", "22:7 this is not a MAC address / write six pairs"),
        ("10.0.0.2", "10.0.0.1", "23:6 the address 10.0.0.1 is used twice / addresses are unique in a network"),
        ("10.0.0.2", "224.0.0.1", "23:6 224.0.0.1 is not the address of a host"),
        ("02:00:00:01:00:02", "02:00:00:01:00:01", "24:16 the underlay address 02:00:00:01:00:01 is used twice"),
        ("192.0.2.2", "192.0.2.1", "25:15 the underlay address 192.0.2.1 is used twice"),
        ("192.0.2.2", "127.0.0.1", "25:15 127.0.0.1 is not the address of a host"),
        ("\"gro\"", "\"lro\"", "18:21 unknown offload / the offloads are csum, tso, ufo, gso, gro"),
        ("[\"csum\", \"gro\"]", "[\"gro\", \"tso\"]", "18:20 tso needs csum / the headers of every segment change"),
        ("vni = 42", "vnii = 42", "9:1 unknown field `vnii`"),
        ("vni = 42", "", "7:1 missing field `vni`"),
        ("vni = 42", "vni = \"42\"", "9:7 invalid type: string \"42\", expected i64"),
        ("[timers]", "[timers", "4:8 "),
        (
            "underlay_mtu = 9000",
            "underlay_mtu = 9000\nforwarding = \"no\"",
            "4:14 unknown way of forwarding / write \"normal\"",
        ),
    ];
    for (old, new, expected) in cases {
        let found = error(old, new);
        assert!(found.starts_with(expected), "{old} -> {new}\nexpected {expected}\nfound    {found}");
    }
}

#[test]
fn each_mistake_about_encryption_is_named_where_it_is() {
    let old = "ethertype = 0x88b5\nunderlay_mtu = 9000\n[timers]\nhello = \"500ms\"\necho = \"1m\"\n[[network]]\nname = \"blue\"";
    let clear = "a cipher needs keys, and those for vm1 would travel in clear / give it a control key: `control_keys = \
                 \"FOLDER\"` at the top";
    let cases = [
        ("", "cipher = \"aes-128-gcm\"", format!("8:10 {clear}")),
        ("keys_in_clear = false", "cipher = \"aes-128-gcm\"", format!("9:10 {clear}")),
        (
            "keys_in_clear = true",
            "cipher = \"aes-128-ctr\"",
            "9:10 unknown cipher suite / there are aes-128-gcm, ".to_owned(),
        ),
        ("keys_in_clear = true", "rotate = \"1h\"", "9:10 there is no key to rotate / set `cipher` too".to_owned()),
        (
            "keys_in_clear = true",
            "cipher = \"aes-128-gcm\"\nrotate = \"9s\"",
            "10:10 this is not a life of a key / write a number from 10s to 720h".to_owned(),
        ),
        ("keys_in_clear = 1", "cipher = \"aes-128-gcm\"", "2:17 invalid type: integer `1`".to_owned()),
    ];
    for (top, network, expected) in cases {
        let top = if top.is_empty() { String::new() } else { format!("{top}\n") };
        let new = format!("{top}{old}").replace("[[network]]", &format!("[[network]]\n{network}"));
        let found = error(old, &new);
        assert!(found.starts_with(&expected), "{network}\nexpected {expected}\nfound    {found}");
    }
}

#[test]
fn each_mistake_in_an_extra_flow_is_named_where_it_is() {
    let old = "in_port=HOST,udp,tp_dst=9,actions=drop";
    let cases = [
        ("in_port=HOST,udp,tp_dst=x,actions=drop", "19:35 this is not a flow: expected "),
        ("priority=1,actions=output:3", "19:10 a vNIC has no ports to choose from / remove the output"),
        ("cookie=1,actions=drop", "19:10 the controller sets the cookies"),
        ("check_overlap,actions=drop", "19:10 a flag that a managed entry cannot have / remove check_overlap"),
        (
            "priority=1,in_port=NET,actions=drop",
            "19:10 a flow that the controller derives has the same priority and match",
        ),
    ];
    for (new, expected) in cases {
        let found = error(old, new);
        assert!(found.starts_with(expected), "{new}\nexpected {expected}\nfound    {found}");
    }
    let twice = format!("{old}\", \"{old}");
    let found = error(old, &twice);
    assert!(found.starts_with("19:52 the flow at c.toml:19 has the same priority and match"), "{found}");
}

#[test]
fn the_end_of_an_extra_flow_with_a_timeout_is_reported() {
    use cvsw_core::flow::FLAG_SEND_FLOW_REM;
    for (flow, flags) in [
        ("idle_timeout=3,udp,actions=drop", FLAG_SEND_FLOW_REM),
        ("hard_timeout=3,udp,actions=drop", FLAG_SEND_FLOW_REM),
        ("send_flow_rem,udp,actions=drop", FLAG_SEND_FLOW_REM),
        ("udp,actions=drop", 0),
    ] {
        let text = GOOD.replacen("in_port=HOST,udp,tp_dst=9,actions=drop", flow, 1);
        let config = Config::parse("c.toml", &text).unwrap().config;
        let extra = config.networks.iter().flat_map(|network| &network.members).flat_map(|member| &member.flows);
        assert!(extra.clone().any(|extra| extra.flags == flags), "{flow}");
    }
}

#[test]
fn an_extra_flow_may_match_more_than_openflow_1_0_knows() {
    let text = GOOD.replacen("in_port=HOST,udp,tp_dst=9,actions=drop", "tun_id=5,tcp6,actions=drop", 1);
    assert!(Config::parse("c.toml", &text).is_ok());
}

#[test]
fn a_flow_in_a_string_with_escapes_is_named_as_a_whole() {
    let found = error("\"in_port=HOST,udp,tp_dst=9,actions=drop\"", r#""in_port\u003dHOST,tp_dst=x""#);
    assert!(found.starts_with("19:10 this is not a flow"), "{found}");
    let found = error("\"in_port=HOST,udp,tp_dst=9,actions=drop\"", "'in_port=HOST,udp,tp_dst=x'");
    assert!(found.starts_with("19:35 this is not a flow"), "{found}");
}

#[test]
fn all_errors_are_named_at_once_in_the_order_of_the_file() {
    let text = GOOD.replace("9000", "1").replace("vni = 42", "vni = -1").replace("192.0.2.2", "none");
    let errors = Config::parse("c.toml", &text).unwrap_err();
    assert_eq!(errors.0.iter().map(|error| error.line).collect::<Vec<_>>(), [3, 9, 25]);
    assert_eq!(errors.to_string().matches("= help: ").count(), 3);
}

#[test]
fn what_is_odd_but_possible_is_a_warning() {
    let text = GOOD.replace("mtu = 1400", "mtu = 8951").replace("239.1.1.43", "239.1.1.42");
    let Loaded { config, warnings, .. } = Config::parse("c.toml", &text).unwrap();
    assert_eq!(config.networks[1].mtu.get(), 8951);
    let warnings: Vec<_> = warnings.iter().map(|w| (w.severity, w.line, w.message.as_str())).collect();
    let expected = [
        (Severity::Warning, 29, "packets of 8951 bytes do not fit the underlay's MTU of 9000"),
        (Severity::Warning, 30, "the group 239.1.1.42 serves two networks"),
    ];
    assert_eq!(warnings, expected);

    let text = GOOD.replace("vni = 42", "vni = 42\ncipher = \"aes-256-ctr-unauthenticated\"\nrotate = \"20m\"");
    let Loaded { config, warnings, .. } =
        Config::parse("c.toml", &format!("keys_in_clear = true\n{text}")).unwrap();
    let blue = &config.networks[0];
    let twenty_minutes = Duration::from_secs(1200);
    assert_eq!((blue.cipher, blue.rotate), (Some(Suite::Aes256CtrUnauthenticated), Some(twenty_minutes)));
    // RFC 3686 below VXLAN, without an ICV.
    assert_eq!(blue.mtu.get(), 8932);
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert_eq!((warning.line, warning.message.as_str()), (11, "this suite does not notice changed packets"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load(Path::new("/nonexistent/c.toml")).unwrap_err();
    assert!(error.to_string().starts_with("cannot read the configuration /nonexistent/c.toml: "), "{error}");
}

mod properties {
    use super::super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is in a file: an answer, never a panic.
        #[test]
        fn no_text_breaks_the_reader(text in ".{0,200}", at in 0..1000usize) {
            let good = super::GOOD;
            let mut at = at % good.len();
            while !good.is_char_boundary(at) { at -= 1; }
            let damaged = format!("{}{text}{}", &good[..at], &good[at..]);
            for text in [text, damaged] {
                if let Err(errors) = Config::parse("c.toml", &text) {
                    prop_assert!(!errors.0.is_empty());
                    prop_assert!(errors.to_string().contains("c.toml:"));
                }
            }
        }
    }
}
