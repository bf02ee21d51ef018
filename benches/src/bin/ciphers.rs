//! GB/s per core of sealing, opening and the whole path, for every suite and cipher implementation, with OpenSSL beside
//! them: `cargo run --release -p cvsw-benches --bin ciphers [-- MILLISECONDS]`.

use cvsw_benches::ciphers::{Case, Operation, SIZES, openssl, openssl_name};
use std::{io, time::Duration};

fn main() -> io::Result<()> {
    let millis = std::env::args().nth(1).map_or(Ok(300), |text| text.parse()).map_err(io::Error::other)?;
    let mut peers = Vec::new();
    println!(
        "{:<30} {:<10} {:<10} {:>5} {:>9} {:>7} {:>8}",
        "suite", "by", "what", "bytes", "ns", "GB/s", "Gbit/s"
    );
    for name in ["aes-128-gcm", "aes-256-gcm", "aes-128-ctr", "aes-256-ctr"] {
        for size in SIZES {
            let rate = openssl(name, size)?;
            row(name, "openssl", "seal", size, size as f64 / rate * 1e9, "");
            peers.push(((name, size), rate));
        }
    }
    for case in Case::all() {
        let nanos = case.nanos(Duration::from_millis(millis));
        let peer = peers.iter().find(|(key, _)| *key == (openssl_name(case.suite), case.size));
        let ratio = peer.filter(|_| {
            matches!(case.operation, Operation::Seal | Operation::Open) && case.suite.mac_key_len() == 0
        });
        let ratio = ratio.map_or_else(String::new, |(_, rate)| {
            format!("{:4.0} % of openssl", case.size as f64 / nanos * 1e9 / rate * 100.0)
        });
        row(case.suite.name(), case.backend.name(), case.operation.name(), case.size, nanos, &ratio);
    }
    Ok(())
}

fn row(suite: &str, by: &str, what: &str, size: usize, nanos: f64, note: &str) {
    let rate = size as f64 / nanos;
    println!("{suite:<30} {by:<10} {what:<10} {size:>5} {nanos:>9.1} {rate:>7.2} {:>8.1}  {note}", rate * 8.0);
}
