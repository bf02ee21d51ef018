//! What goes wrong between a controller and real switches: connections that flap, controllers that are away,
//! certificates that are not right.

use std::{path::Path, time::Duration};

use cvsw_controller::{config::Listen, tls};
use cvsw_core::control::MessageType;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::support::{
    PATIENCE,
    authority::Authority,
    controller::{Running, TIMERS},
    ovs::Ovs,
    vnic::Vnic,
    wait_for,
};

const NETWORK: &str = "[[network]]\nname = \"blue\"\nvni = 42\ngroup = \"239.1.1.42\"\n\
     [[network.member]]\nname = \"vm1\"\nmac = \"02:00:00:00:01:01\"\nip = \"10.0.0.1\"\n\
     underlay_mac = \"02:00:00:01:00:01\"\nunderlay_ip = \"192.0.2.1\"\n\
     [[network.member]]\nname = \"vm2\"\nmac = \"02:00:00:00:01:02\"\nip = \"10.0.0.2\"\n\
     underlay_mac = \"02:00:00:01:00:02\"\nunderlay_ip = \"192.0.2.2\"\n";

struct World {
    ovs: Ovs,
    nics: [Vnic; 2],
}

fn world() -> World {
    let ovs = Ovs::start("00000000000000e1");
    ovs.add_port("p1", 1);
    ovs.add_port("p2", 2);
    let nic = |number: u8| {
        let mac = format!("02:00:00:00:01:0{number}").parse().unwrap();
        Vnic::start(&ovs.port_socket(&format!("p{number}")), mac, true)
    };
    let nics = [nic(1), nic(2)];
    World { ovs, nics }
}

#[test]
fn a_flapping_connection_ends_in_the_wanted_state_and_repeats_nothing() {
    let World { ovs, nics } = world();
    let controller = Running::start(&format!("{TIMERS}{NETWORK}"), &[&ovs]);
    ovs.connect();
    controller.wait_converged();
    let sent = nics.each_ref().map(|nic| nic.count(MessageType::SetEntry));
    for _ in 0..8 {
        ovs.vsctl(&["del-controller", "br0"]);
        controller.wait("the switch to be gone", |status| status.switches.is_empty());
        ovs.connect();
        controller.wait("the switch to be back", |status| status.switches.iter().any(|switch| switch.up));
    }
    let status = controller.wait_converged();
    assert_eq!(status.switches.len(), 1);
    assert_eq!(nics.each_ref().map(|nic| nic.count(MessageType::SetEntry)), sent, "the vNICs had it all the time");
    assert_eq!(ovs.flows().len(), 2);
}

/// Packets that the switch has received by one port and sent by the other.
fn passed(ovs: &Ovs) -> (u64, u64) {
    let number = |text: &str, name: &str| {
        let rest = text.split_once(name).unwrap_or_else(|| panic!("no {name} in {text}")).1;
        rest.split(',').next().unwrap().parse().unwrap()
    };
    let ports = |port: &str| ovs.ofctl("dump-ports", &[port]);
    (number(&ports("1"), "rx pkts="), number(ports("2").split_once("tx ").unwrap().1, "pkts="))
}

#[test]
fn a_secure_switch_that_restarts_alone_forwards_nothing_until_the_controller_is_back() {
    let World { mut ovs, nics } = world();
    let mut controller = Running::start(&format!("{TIMERS}{NETWORK}"), &[&ovs]);
    ovs.connect();
    controller.wait_converged();
    controller.end();
    assert_eq!(ovs.flows().len(), 2, "without a controller the switch goes on as it was");
    ovs.restart_switch();
    ovs.wait_up();
    wait_for("an empty table", || ovs.flows().is_empty().then_some(()), || ovs.flows().join("\n"));
    let frame = || {
        let mut frame = vec![0xff; 60];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame
    };
    let before = passed(&ovs);
    wait_for(
        "frames from a VM",
        || {
            nics[0].fault(|faults| faults.inject.push(frame()));
            (passed(&ovs).0 > before.0 + 3).then_some(())
        },
        || format!("{:?}", passed(&ovs)),
    );
    assert_eq!(passed(&ovs).1, before.1, "nobody told the switch to forward");
    controller.resume();
    controller.wait_converged();
    let before = passed(&ovs).1;
    wait_for(
        "frames at the other VM",
        || {
            nics[0].fault(|faults| faults.inject.push(frame()));
            (passed(&ovs).1 > before).then_some(())
        },
        || format!("{:?}", passed(&ovs)),
    );
}

fn secure_config(folder: &Path) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    format!(
        "{TIMERS}[tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n{NETWORK}",
        path("controller.example.crt"),
        path("controller.example.key"),
        path("ca.crt")
    )
}

/// What a client with this certificate gets to read from the controller; `None`: the connection is refused.
fn hello_as(port: u16, folder: &Path, ca: &Path) -> Option<Vec<u8>> {
    let identity = (folder.join("switch.example.crt"), folder.join("switch.example.key"));
    let config = tls::client(ca, Some((&identity.0, &identity.1))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let talk = async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = ServerName::try_from("controller.example").unwrap();
        let mut stream = TlsConnector::from(config).connect(name, stream).await.ok()?;
        stream.write_all(&[1, 0, 0, 8, 0, 0, 0, 1]).await.ok()?;
        let mut hello = vec![0; 8];
        stream.read_exact(&mut hello).await.ok()?;
        Some(hello)
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, talk).await.expect("an answer") })
}

#[test]
fn switches_over_tls_need_the_right_certificate() {
    let (folder, strangers) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = Authority::new(folder.path());
    authority.issue("controller.example", folder.path());
    authority.issue("switch.example", folder.path());
    Authority::new(strangers.path()).issue("switch.example", strangers.path());
    let World { ovs, nics: _nics } = world();
    let listen = vec!["tls:127.0.0.1:0".parse().unwrap()];
    let controller = Running::listening(&secure_config(folder.path()), listen);
    let [Listen::Tls(address)] = controller.addresses() else { panic!("{:?}", controller.addresses()) };
    let ca = folder.path().join("ca.crt");
    assert_eq!(
        hello_as(address.port(), strangers.path(), &ca),
        None,
        "its certificate is signed by nobody we know"
    );
    assert_eq!(hello_as(address.port(), folder.path(), &ca).map(|hello| hello[..2].to_vec()), Some(vec![1, 0]));

    let file = |name: &str| folder.path().join(name).display().to_string();
    ovs.vsctl(&["set-ssl", &file("switch.example.key"), &file("switch.example.crt"), &file("ca.crt")]);
    ovs.set_controller(&format!("ssl:127.0.0.1:{}", address.port()));
    let status = controller.wait_converged();
    assert!(status.switches[0].peer.starts_with("tls:127.0.0.1:"), "{:?}", status.switches[0].peer);
    // A connection in clear is not taken for a switch.
    let mut clear = std::net::TcpStream::connect(address).unwrap();
    clear.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    std::io::Write::write_all(&mut clear, &[1, 0, 0, 8, 0, 0, 0, 1]).unwrap();
    let mut answer = Vec::new();
    // A reset is an end, too.
    let _ = std::io::Read::read_to_end(&mut clear, &mut answer);
    assert_ne!(answer.get(..2), Some(&[1, 0][..]), "no HELLO");
}
