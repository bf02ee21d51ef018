//! Do the VMs of one network reach each other across the servers, as on one Ethernet?

use crate::lab::build::Lab;
use crate::lab::netns;
use crate::lab::process::Tool;
use crate::lab::report::Finding;
use crate::lab::topology::Vm;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::net::IpAddr;

/// Octets of an IPv4 header and an ICMP echo header.
const ICMP_HEADERS: u16 = 28;
/// Echo requests per ping.
pub const ECHOES: u32 = 3;
/// Seconds until a reply is given up.
const DEADLINE: &str = "10";

/// What `ping` counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ping {
    /// Requests sent.
    pub sent: u32,
    /// Replies received.
    pub received: u32,
    /// Mean round trip in milliseconds.
    pub milliseconds: Option<f64>,
}

/// Pings and counts; a lost reply is not an error.
pub fn ping(vm: &Vm, to: impl Into<IpAddr>, more: &[&str]) -> Result<Ping> {
    let outcome = ping_tool(vm, to.into(), more).outcome()?;
    parse_ping(&outcome.stdout)
        .with_context(|| format!("reading what ping said in {}: {}{}", vm.name, outcome.stdout, outcome.stderr))
}

/// Pings until [`ECHOES`] replies have come; an error says which of the first requests were never answered. Returns the
/// mean round trip in milliseconds. (Without a deadline ping waits for the last replies only as long as the others
/// took twice, and on a busy machine calls lost what is late.)
pub fn every_echo(from: &Vm, to: &Vm, more: &[&str]) -> Result<Option<f64>> {
    let more: Vec<_> = ["-w", DEADLINE].iter().chain(more).copied().collect();
    let outcome = ping_tool(from, to.ip.into(), &more).outcome()?;
    let lost = unanswered(&outcome.stdout);
    ensure!(
        lost.is_empty(),
        "{} -> {} ({}): no reply to request {lost:?} of {ECHOES} within {DEADLINE} s; ping said:\n{}{}",
        from.name,
        to.name,
        to.ip,
        outcome.stdout,
        outcome.stderr
    );
    Ok(parse_ping(&outcome.stdout)?.milliseconds)
}

/// Every VM pings its peer on the other server and the next VM of its network on its own server; ARP must have found
/// the peer's real address.
pub fn within_networks(lab: &Lab) -> Result<Finding> {
    let routes = routes(lab);
    let results = in_parallel(&routes, |&(from, to)| {
        let (from, to) = (&lab.topology.vms[from], &lab.topology.vms[to]);
        let milliseconds = every_echo(from, to, &[])?;
        let found = netns::neighbour(&from.namespace, &to.ip.to_string())?;
        let expected = to.mac.to_string();
        ensure!(
            found.as_deref() == Some(&*expected),
            "{}: ARP for {} gave {found:?}, not {expected} of {}",
            from.name,
            to.ip,
            to.name
        );
        Ok(milliseconds)
    });
    let mut round_trips = Vec::new();
    for (&(from, to), result) in routes.iter().zip(results) {
        let name = |vm: usize| lab.topology.vms[vm].name.as_str();
        round_trips.push(json!({ "from": name(from), "to": name(to), "milliseconds": result? }));
    }
    let times: Vec<f64> = round_trips.iter().filter_map(|trip| trip["milliseconds"].as_f64()).collect();
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    let detail = format!("{} ways, {ECHOES} echoes each, none lost, mean {mean:.2} ms; ARP right", routes.len());
    Ok(Finding::with(detail, json!({ "round_trips": round_trips })))
}

/// The largest packet that the VM's MTU allows arrives unfragmented, and one octet more is refused by the VM's own
/// kernel: nothing on the way ever has to fragment.
pub fn largest_packet(lab: &Lab) -> Result<Finding> {
    let fits = lab.topology.inner_mtu() - ICMP_HEADERS;
    let pairs: Vec<_> = lab.topology.pairs().collect();
    let results = in_parallel(&pairs, |pair| {
        let (from, to) = (&lab.topology.vms[pair.a], &lab.topology.vms[pair.b]);
        every_echo(from, to, &["-M", "do", "-s", &fits.to_string()])
            .with_context(|| format!("packets of {} octets", fits + ICMP_HEADERS))?;
        let more = ping_tool(from, to.ip.into(), &["-M", "do", "-s", &(fits + 1).to_string()]).outcome()?;
        let said = more.stderr + &more.stdout;
        ensure!(
            said.contains("message too long"),
            "{}: one octet more was not refused: {}",
            from.name,
            said.trim()
        );
        Ok(())
    });
    results.into_iter().collect::<Result<()>>()?;
    Ok(Finding::new(format!("IP packets of {} octets pass with DF, {} are refused at home", fits + 28, fits + 29)))
}

fn ping_tool(vm: &Vm, to: IpAddr, more: &[&str]) -> Tool {
    let (to, count) = (to.to_string(), ECHOES.to_string());
    let args = ["-n", "-c", &count, "-i", "0.2", "-W", "1"].into_iter().chain(more.iter().copied()).chain([&*to]);
    netns::tool(&vm.namespace, "ping", args)
}

/// Runs the same work for all items at once.
pub fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Vec<Result<R>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(|| work(item))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<R>>| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(join).collect()
    })
}

fn routes(lab: &Lab) -> Vec<(usize, usize)> {
    let pairs: Vec<_> = lab.topology.pairs().collect();
    let across = pairs.iter().flat_map(|pair| [(pair.a, pair.b), (pair.b, pair.a)]);
    let beside = pairs.windows(2).filter_map(|two| {
        let [one, next] = two else { return None };
        let same = lab.topology.vms[one.a].network == lab.topology.vms[next.a].network;
        same.then_some((one.a, next.a))
    });
    across.chain(beside).collect()
}

/// Sequence numbers, of the first [`ECHOES`], to which no line of ping tells a reply.
fn unanswered(text: &str) -> Vec<u32> {
    let replies = text.lines().filter(|line| line.contains("bytes from") && line.contains("time="));
    let answered: Vec<u32> = replies
        .filter_map(|line| line.split_once("icmp_seq=")?.1.split_whitespace().next()?.parse().ok())
        .collect();
    (1..=ECHOES).filter(|number| !answered.contains(number)).collect()
}

fn parse_ping(text: &str) -> Result<Ping> {
    let counts = text.lines().find(|line| line.contains("packets transmitted"));
    let Some(counts) = counts else { bail!("no counts") };
    let number = |before: &str| -> Option<u32> {
        counts.split(',').find(|part| part.contains(before))?.split_whitespace().next()?.parse().ok()
    };
    let times = text.lines().find_map(|line| line.strip_prefix("rtt ")?.split_once(" = ")?.1.split('/').nth(1));
    Ok(Ping {
        sent: number("transmitted").context("no count of requests")?,
        received: number("received").context("no count of replies")?,
        milliseconds: times.and_then(|mean| mean.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ping_prints_is_read() {
        let text = "PING 10.0.0.2 (10.0.0.2) 56(84) bytes of data.\n\n--- 10.0.0.2 ping statistics ---\n\
                    3 packets transmitted, 2 received, 33.3333% packet loss, time 404ms\n\
                    rtt min/avg/max/mdev = 0.495/0.723/1.148/0.300 ms\n";
        assert_eq!(parse_ping(text).unwrap(), Ping { sent: 3, received: 2, milliseconds: Some(0.723) });
        let text = "3 packets transmitted, 0 received, +3 errors, 100% packet loss, time 2033ms\n";
        assert_eq!(parse_ping(text).unwrap(), Ping { sent: 3, received: 0, milliseconds: None });
        parse_ping("ping: nonsense").unwrap_err();
    }

    #[test]
    fn requests_without_a_reply_are_named_and_late_replies_count() {
        let reply = |number: u32| format!("64 bytes from 10.0.0.2: icmp_seq={number} ttl=64 time=0.495 ms\n");
        let refusal = "From 10.0.0.1 icmp_seq=2 Frag needed and DF set (mtu = 1400)\n";
        assert_eq!(unanswered(&[reply(1), reply(3), reply(2)].concat()), Vec::<u32>::new());
        assert_eq!(unanswered(&[&reply(1), refusal, &reply(3), &reply(4)].concat()), vec![2]);
        assert_eq!(unanswered("ping: nonsense"), vec![1, 2, 3]);
    }
}
