//! The statistics document as a table for people.

use serde_json::Value;
use std::fmt::{Display, Write};

/// The table. Drop reasons and error kinds that never occurred are left out.
pub fn table(document: &Value) -> String {
    let mut out = String::new();
    let top = |key: &str| text(&document[key]);
    line(&mut out, "vNIC", format_args!("{}  session {}", top("mac"), top("session")));
    let control = &document["control"];
    if control["authenticated"] == true {
        let (epoch, executed) = (text(&control["epoch"]), text(&control["executed"]));
        line(&mut out, "controlled", format_args!("version 3, authenticated; epoch {epoch}, command {executed}"));
    } else if !control["version"].is_null() {
        line(&mut out, "controlled", format_args!("version {}, not authenticated", text(&control["version"])));
    }
    line(&mut out, "MTU", format_args!("{}  (longest frame below: {})", top("mtu"), top("link_frame_max")));
    let requested = match &document["offload_requested"] {
        Value::Null => "nothing yet".to_owned(),
        flags => text(flags),
    };
    line(&mut out, "offloads", format_args!("{}  (requested: {requested})", top("offload_effective")));
    for (feature, reason) in document["offload_refused"].as_object().into_iter().flatten() {
        line(&mut out, "", format_args!("{feature} is not possible: {}", text(reason)));
    }
    let pool = &document["pool"];
    line(&mut out, "buffers", format_args!("{} free of {}", text(&pool["free"]), text(&pool["buffers"])));
    let _ =
        writeln!(out, "\n{:<34}{:>14}{:>18}{:>14}{:>18}", "port", "rx frames", "rx bytes", "tx frames", "tx bytes");
    for side in ["host", "net"] {
        let port = &document["ports"][side];
        let columns = ["rx_frames", "rx_bytes", "tx_frames", "tx_bytes"].map(|key| text(&port[key]));
        let [rx, rx_bytes, tx, tx_bytes] = columns;
        let name = format!("{side} {}", text(&port["name"]));
        let _ = writeln!(out, "{name:<34}{rx:>14}{rx_bytes:>18}{tx:>14}{tx_bytes:>18}");
        if port["rx_super_frames"] != 0 || port["tx_super_frames"] != 0 {
            let [rx, tx] = ["rx_super_frames", "tx_super_frames"].map(|key| text(&port[key]));
            let _ = writeln!(out, "{:<34}{rx:>14}{:>18}{tx:>14}", "  super-frames", "");
        }
        counts(&mut out, "dropped: ", &port["drops"]);
        if port["rx_no_buffer"] != 0 {
            line(&mut out, "  no buffer", format_args!("{} times", text(&port["rx_no_buffer"])));
        }
    }
    let engine = &document["engine"];
    let _ =
        writeln!(out, "\n{:<34}{:>14}{:>18}{:>14}{:>18}", "engine", "frames", "forwarded", "no match", "control");
    for (direction, label) in [("tx", "tx (host to network)"), ("rx", "rx (network to host)")] {
        let stats = &engine[direction];
        let [frames, forwarded, missed, consumed] =
            ["frames", "forwarded", "missed", "consumed"].map(|key| text(&stats[key]));
        let _ = writeln!(out, "{label:<34}{frames:>14}{forwarded:>18}{missed:>14}{consumed:>18}");
        counts(&mut out, "dropped: ", &stats["drops"]);
    }
    line(&mut out, "control", format_args!("{} messages accepted", text(&engine["control_accepted"])));
    counts(&mut out, "refused: ", &engine["control_errors"]);
    let (hits, misses) = (text(&engine["cache_hits"]), text(&engine["cache_misses"]));
    line(&mut out, "cache", format_args!("{hits} hits, {misses} misses"));
    associations(&mut out, document);
    flows(&mut out, &document["flows"]);
    out
}

fn associations(out: &mut String, document: &Value) {
    let sas = document["sas"].as_array().map_or(&[][..], Vec::as_slice);
    let only = document["encrypted_only"].as_array().map_or(&[][..], Vec::as_slice);
    if !only.is_empty() {
        let only: Vec<_> = only.iter().map(text).collect();
        line(out, "encrypted", format_args!("nothing in clear for VNI {}", only.join(", ")));
    }
    if sas.is_empty() {
        return;
    }
    let _ =
        writeln!(out, "\n{} security associations, boot generation {}", sas.len(), text(&document["generation"]));
    let _ = writeln!(
        out,
        "{:>10} {:<3}{:<12}{:<16}{:<30}{:<11}{:>12}{:>16}{:>10}",
        "id", "", "spi", "destination", "suite", "state", "packets", "bytes", "age"
    );
    for sa in sas {
        let [id, direction, spi, destination] = ["id", "direction", "spi", "destination"].map(|key| text(&sa[key]));
        let [suite, state, packets, bytes] = ["suite", "state", "packets", "bytes"].map(|key| text(&sa[key]));
        let age = sa["age_s"].as_f64().unwrap_or_default();
        let _ = writeln!(
            out,
            "{id:>10} {direction:<3}{spi:<12}{destination:<16}{suite:<30}{state:<11}{packets:>12}{bytes:>16}{age:>9.0}s"
        );
        counts(out, "dropped: ", &sa["drops"]);
    }
}

fn flows(out: &mut String, flows: &Value) {
    let flows = flows.as_array().map_or(&[][..], Vec::as_slice);
    let _ = writeln!(out, "\n{} flows", flows.len());
    for flow in flows {
        let duration = flow["duration_s"].as_f64().unwrap_or_default();
        let (packets, bytes, rule) = (text(&flow["packets"]), text(&flow["bytes"]), text(&flow["flow"]));
        let _ = writeln!(out, " duration={duration:.1}s, n_packets={packets}, n_bytes={bytes}, {rule}");
    }
}

fn counts(out: &mut String, label: &str, counters: &Value) {
    for (name, count) in counters.as_object().into_iter().flatten().filter(|(_, count)| **count != 0) {
        let _ = writeln!(out, "  {:<32}{:>14}", format!("{label}{name}"), text(count));
    }
}

fn line(out: &mut String, label: &str, value: impl Display) {
    let _ = writeln!(out, "{label:<12}{value}");
}

/// A JSON scalar without quotes; `-` for none.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{flows_file, mem, run, stats, vnic::Vnic};

    #[test]
    fn the_table_shows_state_traffic_and_flows() {
        let ((host, _vm), (net, _network)) = (mem::pair(8), mem::pair(8));
        let mut vnic = Vnic::new(Box::new(host), Box::new(net), [2, 0, 0, 0, 0, 1], 0xabba, 64, 1).unwrap();
        let flows = flows_file::parse("test", b"priority=7,in_port=HOST,udp,actions=drop\n").unwrap();
        vnic.load_flows(run::now(), &flows).unwrap();
        let mut document = stats::document(&vnic.snapshot(run::now()));
        document["ports"]["net"]["drops"]["tx_full"] = 12.into();
        document["engine"]["rx"]["drops"]["vxlan_vni"] = 34.into();
        let table = table(&document);
        let has = |words: &[&str]| table.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(has(&["02:00:00:00:00:01", "DISCONNECTED"]), "{table}");
        assert!(has(&["MTU", "1500"]), "{table}");
        assert!(has(&["offloads", "none", "nothing yet"]), "{table}");
        assert!(has(&["dropped: tx_full", "12"]) && has(&["dropped: vxlan_vni", "34"]), "{table}");
        assert!(!has(&["policy"]), "a zero is not shown: {table}");
        assert!(has(&["n_packets=0", "priority=7,udp", "drop"]), "{table}");
    }
}
