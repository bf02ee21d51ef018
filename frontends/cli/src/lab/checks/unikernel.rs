//! Do the unikernels work like any other machine of their network, and only there?

use super::reach::ping;
use super::{control, echo};
use crate::lab::build::{CONTROLLER, Lab};
use crate::lab::netns as namespaces;
use crate::lab::process::wait_for;
use crate::lab::report::Finding;
use crate::lab::topology::{VM_NIC, Vm};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::{IpAddr, TcpStream};

/// Another MTU than any of the laboratory's own; IPv6 needs 1,280.
const OTHER_MTU: u16 = 1300;
/// Frames of each kind that try to get in.
const TRIES: u64 = 5;

/// Asks every unikernel, from a VM of its network, over IPv4 and IPv6: ping, TCP and UDP echo, and its own status page.
pub fn answer(lab: &Lab) -> Result<Finding> {
    let from = asker(lab)?;
    let mut pages = Vec::new();
    for unikernel in &lab.topology.unikernels {
        let work = || -> Result<Value> {
            for to in addresses(unikernel) {
                // The answer to the first request may wait for ARP.
                wait_for("an answer to ping", echo::PATIENCE, || {
                    Ok((ping(from, to, &["-c", "1"])?.received > 0).then_some(()))
                })?;
                echo::tcp(&echo::connect(from, to)?).with_context(|| format!("TCP echo of {to}"))?;
                echo::udp(from, to).with_context(|| format!("UDP echo of {to}"))?;
            }
            let page = echo::page(from, unikernel.ip.into()).context("status page")?;
            judge(lab, &page)?;
            Ok(page)
        };
        pages.push(work().with_context(|| unikernel.name.clone())?);
    }
    let detail = format!(
        "{} answer ping, {} datagrams, {} octets of TCP, all over IPv4 and IPv6, and HTTP; MTU{} and flows are the \
         controller's",
        pages.len(),
        echo::DATAGRAMS,
        echo::VOLUME,
        if lab.topology.cipher.is_some() { ", keys" } else { "" }
    );
    Ok(Finding::with(detail, json!({ "unikernels": pages })))
}

/// The controller sets another MTU, and then the first one again: connections that are open stay so.
pub fn live_mtu(lab: &mut Lab) -> Result<Finding> {
    let streams = connections(lab)?;
    let own = lab.topology.inner_mtu();
    for mtu in [OTHER_MTU, own] {
        lab.configure(|text| match mtu {
            OTHER_MTU => text.replacen("mtu = \"auto\"", &format!("mtu = {OTHER_MTU}"), 1),
            _ => text.to_owned(),
        })?;
        let from = asker(lab)?;
        for unikernel in &lab.topology.unikernels {
            wait_for(&format!("MTU {mtu} in {}", unikernel.name), echo::PATIENCE, || {
                Ok((echo::page(from, unikernel.ip.into())?["mtu"] == mtu).then_some(()))
            })?;
        }
        exchange(&streams).with_context(|| format!("connections when the MTU became {mtu}"))?;
    }
    control::tunnel_mtu(lab)?;
    let detail = format!("{own}, {OTHER_MTU}, {own}: {} open connections went on", streams.len());
    Ok(Finding::with(detail, json!({ "connections": streams.len() })))
}

/// The controller is ended and started again: the unikernels answer meanwhile, are registered afterwards, and connections
/// that were open stay so.
pub fn outlive_the_controller(lab: &mut Lab) -> Result<Finding> {
    let streams = connections(lab)?;
    lab.end(CONTROLLER, Signal::TERM, echo::PATIENCE)?;
    exchange(&streams).context("connections without a controller")?;
    answer(lab).context("without a controller")?;
    lab.start_controller()?;
    control::switches_connected(lab)?;
    control::all_registered(lab)?;
    exchange(&streams).context("connections with the new controller")?;
    answer(lab).context("with the new controller")
}

/// From another network nobody gets to them.
pub fn strangers(lab: &Lab) -> Result<Finding> {
    let Some(stranger) = lab.topology.vms.iter().find(|vm| vm.network != 0) else {
        return Ok(Finding::new("there is no other network"));
    };
    for unikernel in &lab.topology.unikernels {
        let ping = ping(stranger, unikernel.ip, &[])?;
        ensure!(ping.received == 0, "{} reaches {}", stranger.name, unikernel.name);
    }
    Ok(Finding::new(format!("{} of another network gets no answer", stranger.name)))
}

/// Past the overlay nobody gets to them: an ARP request and, in an encrypted network, a VXLAN packet in clear with a
/// datagram for the echo are dropped and counted, and nothing is ever sent that no flow encapsulated.
pub fn overlay_only(lab: &Lab) -> Result<Finding> {
    let from = asker(lab)?;
    let encrypted = lab.topology.cipher.is_some();
    let mut frames = 0;
    for unikernel in &lab.topology.unikernels {
        let kept_out = || -> Result<(u64, Value)> {
            let page = echo::page(from, unikernel.ip.into())?;
            let drops = &page["engine"]["rx"]["drops"];
            let count = |reason: &str| drops[reason].as_u64().unwrap_or_default();
            Ok((count("policy") + count("clear_text_refused"), page))
        };
        let (before, _) = kept_out()?;
        let mut kinds = vec![arp_request(from, unikernel)];
        if encrypted {
            kinds.push(clear_vxlan(lab.topology.network_of(unikernel).vni, from, unikernel));
        }
        let sent: Vec<String> = (0..TRIES).flat_map(|_| kinds.iter().map(|frame| hex(frame))).collect();
        let mut args = vec!["forge", unikernel.switch_interface()];
        args.extend(sent.iter().map(String::as_str));
        // Past the switch: the tap is in the namespace of the unikernel's server.
        lab.agent(unikernel, &args)?;
        let sent = sent.len() as u64;
        let page = wait_for("the frames' drops", echo::PATIENCE, || {
            let (now, page) = kept_out()?;
            Ok((now >= before + sent).then_some(page))
        })?;
        let past = &page["engine"]["tx"]["missed"];
        ensure!(past == 0, "{} sent {past} frames that no flow encapsulated", unikernel.name);
        frames += sent;
    }
    let kinds = if encrypted { "ARP requests and VXLAN packets in clear" } else { "ARP requests" };
    Ok(Finding::with(format!("{frames} {kinds}: all dropped and counted"), json!({ "frames": frames })))
}

/// The VM that asks, with an address of IPv6 as well.
fn asker(lab: &Lab) -> Result<&Vm> {
    let vm = &lab.topology.vms[0];
    namespaces::set_ipv6(&vm.namespace, VM_NIC, true)?;
    namespaces::ip(&vm.namespace, &format!("addr replace {}/64 dev {VM_NIC} nodad", vm.ip6()))?;
    Ok(vm)
}

fn addresses(vm: &Vm) -> [IpAddr; 2] {
    [vm.ip.into(), vm.ip6().into()]
}

/// A connection to the echo of every unikernel, over IPv4 and IPv6, that has worked.
fn connections(lab: &Lab) -> Result<Vec<TcpStream>> {
    let from = asker(lab)?;
    let all = lab.topology.unikernels.iter().flat_map(addresses);
    let streams = all.map(|to| echo::connect(from, to)).collect::<std::io::Result<Vec<_>>>()?;
    exchange(&streams)?;
    Ok(streams)
}

fn exchange(streams: &[TcpStream]) -> std::io::Result<()> {
    streams.iter().try_for_each(echo::tcp)
}

/// What a status page must say in a sound laboratory.
fn judge(lab: &Lab, page: &Value) -> Result<()> {
    let encrypted = lab.topology.cipher.map(|suite| (suite.name(), lab.topology.networks[0].vni));
    judge_page(page, lab.topology.inner_mtu(), encrypted)
}

/// `encrypted`: the suite, and the network that must be marked.
fn judge_page(page: &Value, mtu: u16, encrypted: Option<(&str, u32)>) -> Result<()> {
    ensure!(page["session"] == "CONNECTED", "the control session is {}", page["session"]);
    ensure!(page["mtu"] == mtu, "its MTU is {}, not {mtu}", page["mtu"]);
    ensure!(page["offload_effective"] == "", "it claims offloads: {}", page["offload_effective"]);
    ensure!(page["flow_count"].as_u64().is_some_and(|count| count > 0), "it has no flow");
    let flows = page["flows"].as_array().context("its page lists no flows")?;
    let mut tunnels =
        flows.iter().filter_map(|flow| flow["flow"].as_str()).filter(|text| text.contains("set_vxlan")).peekable();
    ensure!(tunnels.peek().is_some(), "none of its flows tunnels");
    if let Some((suite, vni)) = encrypted {
        ensure!(tunnels.all(|text| text.contains("encrypt(")), "some of its tunnels are in clear");
        ensure!(page["encrypted_only"] == json!([vni]), "{vni} is not marked encrypted only");
        let sas = page["sas"].as_array().context("its page lists no associations")?;
        for direction in ["tx", "rx"] {
            let works = |sa: &&Value| {
                sa["direction"] == direction && sa["suite"] == suite && sa["packets"].as_u64() > Some(0)
            };
            ensure!(sas.iter().any(|sa| works(&sa)), "no {direction} association of {suite} has carried a packet");
        }
    }
    for direction in ["tx", "rx"] {
        let drops = page["engine"][direction]["drops"].as_object().context("its page counts no drops")?;
        // Other networks' multicast is flooded by the switches and dropped by a flow; without a key nothing goes.
        let expected = |reason: &str| reason == "policy" || encrypted.is_some() && reason == "esp_no_sa";
        let odd: Vec<_> = drops.keys().filter(|reason| !expected(reason)).collect();
        ensure!(odd.is_empty(), "it dropped {direction} frames: {odd:?}");
    }
    Ok(())
}

/// Who has the unikernel's address? Asked on the bare wire.
fn arp_request(from: &Vm, to: &Vm) -> Vec<u8> {
    let ethernet = [&[0xff; 6][..], &from.mac.0, &[8, 6]].concat();
    let request =
        [&[0, 1, 8, 0, 6, 4, 0, 1][..], &from.mac.0, &from.ip.octets(), &[0; 6], &to.ip.octets()].concat();
    [ethernet, request, vec![0; 18]].concat()
}

/// A datagram for the echo, from a machine of the network, in VXLAN that nobody has sealed (RFC 7348 section 5). The UDP
/// checksums are 0, which means that there are none.
fn clear_vxlan(vni: u32, from: &Vm, to: &Vm) -> Vec<u8> {
    let [_, v0, v1, v2] = vni.to_be_bytes();
    let inner_udp = [0xc0, 0, 0, 7, 0, 12, 0, 0, b'c', b'l', b'e', b'a'];
    let inner =
        [&to.mac.0[..], &from.mac.0, &[8, 0], &packet(from.ip.octets(), to.ip.octets(), &inner_udp)].concat();
    let vxlan = [8, 0, 0, 0, v0, v1, v2, 0];
    let len = ((8 + vxlan.len() + inner.len()) as u16).to_be_bytes();
    let udp = [&[0xc0, 0, 0x12, 0xb5][..], &len, &[0, 0], &vxlan, &inner].concat();
    let outer = packet(from.underlay_ip.octets(), to.underlay_ip.octets(), &udp);
    [&to.underlay_mac.0[..], &from.underlay_mac.0, &[8, 0], &outer].concat()
}

/// An IPv4 packet of UDP.
fn packet(from: [u8; 4], to: [u8; 4], udp: &[u8]) -> Vec<u8> {
    let len = ((20 + udp.len()) as u16).to_be_bytes();
    let mut header = [&[0x45, 0][..], &len, &[0, 0, 0x40, 0, 64, 17, 0, 0], &from, &to].concat();
    let sum = header.chunks(2).fold(0_u32, |sum, word| sum + u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    [&header, udp].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::topology::{Plan, Topology};

    fn page() -> Value {
        json!({
            "session": "CONNECTED", "mtu": 1450, "offload_effective": "", "flow_count": 1,
            "flows": [{ "flow": "in_port=HOST,actions=set_vxlan(vni=42)" }],
            "engine": { "tx": { "drops": {} }, "rx": { "drops": { "policy": 3 } } },
        })
    }

    #[test]
    fn a_page_that_is_not_a_sound_laboratorys_is_noticed() {
        judge_page(&page(), 1450, None).unwrap();
        for (pointer, value, complaint) in [
            ("/session", json!("CONNECTING"), "session"),
            ("/mtu", json!(1500), "not 1450"),
            ("/offload_effective", json!("tso"), "offloads"),
            ("/flow_count", json!(0), "no flow"),
            ("/flows/0/flow", json!("actions=drop"), "tunnels"),
            ("/engine/rx/drops", json!({ "no_headroom": 1 }), "no_headroom"),
        ] {
            let mut page = page();
            *page.pointer_mut(pointer).unwrap() = value;
            let error = judge_page(&page, 1450, None).unwrap_err().to_string();
            assert!(error.contains(complaint), "{pointer}: {error}");
        }
    }

    #[test]
    fn a_page_without_working_keys_is_noticed() {
        let mut sound = page();
        sound["flows"] = json!([{ "flow": "in_port=HOST,actions=set_vxlan(vni=42),encrypt(sa=7)" }]);
        sound["encrypted_only"] = json!([42]);
        let sa = |direction: &str, packets: u32| json!({ "direction": direction, "suite": "aes-128-gcm", "packets": packets });
        sound["sas"] = json!([sa("tx", 3), sa("rx", 0), sa("rx", 2)]);
        let judge = |page: &Value| judge_page(page, 1450, Some(("aes-128-gcm", 42)));
        judge(&sound).unwrap();
        for (pointer, value, complaint) in [
            ("/flows/0/flow", json!("in_port=HOST,actions=set_vxlan(vni=42)"), "in clear"),
            ("/encrypted_only", json!([]), "not marked"),
            ("/sas", json!([sa("tx", 3), sa("rx", 0)]), "no rx association"),
            ("/sas", json!([]), "no tx association"),
        ] {
            let mut page = sound.clone();
            *page.pointer_mut(pointer).unwrap() = value;
            let error = judge(&page).unwrap_err().to_string();
            assert!(error.contains(complaint), "{pointer}: {error}");
        }
    }

    #[test]
    fn what_tries_to_get_in_is_well_formed() {
        let lab = Topology::new("t", Plan { pairs: 1, networks: 1, unikernels: 1, cipher: None, offloads: false })
            .unwrap();
        let (from, to) = (&lab.vms[0], &lab.unikernels[0]);
        let arp = hex(&arp_request(from, to));
        assert!(arp.starts_with("ffffffffffff0200000001010806000108000604000102000000010"), "{arp}");
        let vxlan = hex(&clear_vxlan(42, from, to));
        // Outer addresses and the ports; flags and VNI; inner addresses.
        for part in ["0200000101b5020000010101", "c61201b5c00012b5", "0800000000002a00", "0200000001b5020000000101"]
        {
            assert!(vxlan.contains(part), "{part} in {vxlan}");
        }
    }
}
