//! tcpdump as a judge.

use crate::{net::Namespace, system::patience};
use anyhow::{Context, Result, bail};
use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

/// A running tcpdump; ended when dropped.
pub struct Capture {
    child: Child,
    lines: Receiver<String>,
}

impl Capture {
    /// Starts one and waits until it listens.
    pub fn start(namespace: &Namespace, device: &str, filter: &str) -> Result<Self> {
        let mut child = namespace.inside(|| {
            let mut tcpdump = Command::new("tcpdump");
            tcpdump.args(["-Z", "root", "-l", "-e", "-nn", "-vv", "-i", device, filter]).env("PATH", "/bin:/sbin");
            Ok(tcpdump.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
        })?;
        wait_until_it_listens(child.stderr.take().context("no pipe")?)?;
        let stdout = BufReader::new(child.stdout.take().context("no pipe")?);
        let (sender, lines) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { child, lines })
    }

    /// The text of the next IPv4 packet (two lines).
    pub fn packet(&self) -> Result<String> {
        let line = || self.lines.recv_timeout(patience()).context("tcpdump saw no packet");
        Ok(format!("{}\n{}", line()?, line()?))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until_it_listens(stderr: ChildStderr) -> Result<()> {
    let mut said = String::new();
    for line in BufReader::new(stderr).lines() {
        let line = line?;
        if line.contains("listening on") {
            return Ok(());
        }
        said += &line;
    }
    bail!("tcpdump did not start: {said}")
}
