//! DPDK's `dpdk-testpmd`: what moving frames between two null ports costs without looking at them.

use super::{LENGTH, thread_time};
use anyhow::{Context, Result, bail};
use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
    thread,
};

/// The name in reports.
pub const NAME: &str = "dpdk-testpmd (io)";

/// The program, which is there.
pub struct Testpmd;

impl Testpmd {
    /// Looks for the program.
    pub fn find() -> Result<Self> {
        let version = Command::new("dpdk-testpmd").arg("--version").output();
        version.context("dpdk-testpmd is not installed (Debian: dpdk-dev, librte-net-null23)")?;
        Ok(Self)
    }

    /// Million packets per second of processor time that one thread forwards between two null ports.
    pub fn mpps(&self) -> Result<f64> {
        let mut child = Command::new("dpdk-testpmd")
            .args(["-l", "0,1", "--no-pci", "--no-huge", "-m", "512", "--file-prefix"])
            .arg(format!("cvsw-bench-{}", std::process::id()))
            .args(["--vdev=net_null0", "--vdev=net_null1", "--", "-i", "--forward-mode=io"])
            .arg("--total-num-mbufs=8192")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting dpdk-testpmd")?;
        let result = forward(&mut child);
        // It ends by itself when its input closes; if it does not, it is ended.
        drop(child.stdin.take());
        if result.is_err() {
            let _ = child.kill();
        }
        child.wait()?;
        result
    }
}

fn forward(child: &mut Child) -> Result<f64> {
    let pid = child.id();
    let mut input = child.stdin.take().context("its standard input")?;
    let mut output = BufReader::new(child.stdout.take().context("its standard output")?);
    input.write_all(b"start\n")?;
    let mut line = String::new();
    while !line.contains("packets per burst")
        && !line.contains("nb forwarding")
        && !line.contains("io packet forwarding")
    {
        line.clear();
        if output.read_line(&mut line)? == 0 {
            bail!("dpdk-testpmd ended before it forwarded anything");
        }
    }
    let before = thread_time(pid, &["rte-worker", "lcore-worker"])?;
    thread::sleep(LENGTH);
    let used = thread_time(pid, &["rte-worker", "lcore-worker"])? - before;
    input.write_all(b"stop\nquit\n")?;
    drop(input);
    let mut rest = String::new();
    output.read_to_string(&mut rest)?;
    let totals = rest.split("Accumulated forward statistics").nth(1).context("no totals from dpdk-testpmd")?;
    let packets = totals.split("TX-packets:").nth(1).and_then(|text| text.split_whitespace().next());
    let packets: f64 = packets.context("no packet count from dpdk-testpmd")?.parse()?;
    Ok(packets / used.as_secs_f64() / 1e6)
}
