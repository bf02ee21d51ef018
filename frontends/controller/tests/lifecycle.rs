//! A controller, a real Open vSwitch and real engines: from the first HELLO to everything that comes and goes.

mod support;

use cvsw_controller::Mac;
use cvsw_core::control::{MessageType, SessionState};
use support::{
    controller::{Running, TIMERS, vnic},
    ovs::Ovs,
    vnic::Vnic,
};

const VM1: &str = "02:00:00:00:01:01";
const VM2: &str = "02:00:00:00:01:02";

fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

fn member(number: u8, extra: &str) -> String {
    format!(
        "[[network.member]]\nname = \"vm{number}\"\nmac = \"02:00:00:00:01:{number:02x}\"\nip = \"10.0.0.{number}\"\n\
         underlay_mac = \"02:00:00:01:00:{number:02x}\"\nunderlay_ip = \"192.0.2.{number}\"\n{extra}\n"
    )
}

fn blue(members: &[String]) -> String {
    let network = "[[network]]\nname = \"blue\"\nvni = 42\ngroup = \"239.1.1.42\"\n";
    format!("{TIMERS}{network}{}", members.concat())
}

fn two_members() -> String {
    blue(&[member(1, "offloads = [\"csum\"]"), member(2, "")])
}

fn switch_with_ports() -> Ovs {
    let ovs = Ovs::start("00000000000000a1");
    ovs.add_port("p1", 1);
    ovs.add_port("p2", 2);
    ovs.connect();
    ovs
}

#[test]
fn vnics_get_their_state_and_the_switch_its_flows() {
    let ovs = switch_with_ports();
    let controller = Running::start(&two_members(), &[&ovs]);
    let one = Vnic::start(&ovs.port_socket("p1"), mac(VM1), true);
    let two = Vnic::start(&ovs.port_socket("p2"), mac(VM2), false);
    let status = controller.wait_converged();

    let mut flows = ovs.flows();
    flows.sort();
    let backstop = "cookie=0x43565357f0000000, priority=65535,dl_type=0xabba actions=CONTROLLER:65535";
    assert_eq!(flows, [backstop, "cookie=0x43565357f1000000, priority=1 actions=NORMAL"]);

    for (vnic, offloads) in [(&one, 1), (&two, 0)] {
        vnic.look(|seen| {
            assert_eq!(seen.state, SessionState::Connected);
            assert_eq!(seen.mtu, Some(1450));
            assert_eq!(seen.offloads, Some(offloads));
            assert_eq!(seen.flows.len(), 5);
        });
    }
    assert_eq!(status.switches.len(), 1);
    assert_eq!(status.switches[0].datapath_id, "00000000000000a1");
    let shown = vnic(&status, VM1);
    assert_eq!((shown.flows, shown.flows_confirmed, shown.mtu_sent), (5, 5, Some(1450)));
    assert_eq!((shown.port, shown.port_name.as_deref()), (Some(1), Some("p1")));
    assert_eq!(one.count(MessageType::SetEntry), 5, "nothing is sent twice");
}
