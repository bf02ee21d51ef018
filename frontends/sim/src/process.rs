//! The controller under test: a process of its own, with a configuration file that changes.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, bail};
use cvsw_controller::{cli::read_status, status::Status};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A running `cvsw controller`. Dropping it ends it and removes its files.
pub struct Controller {
    child: Child,
    folder: TempDir,
    /// Where it listens for switches.
    pub address: SocketAddr,
}

/// A controller among several.
#[derive(Clone, Debug)]
pub struct Member {
    /// The cluster's store.
    pub store: String,
    /// The controller's name.
    pub name: String,
}

impl Controller {
    /// Starts `program controller` with this configuration, alone or as one of several.
    ///
    /// # Errors
    /// It does not start, or does not say where it listens.
    pub fn start(program: &Path, config: &str, member: Option<&Member>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for the controller's files")?;
        fs::write(folder.path().join("controller.toml"), config)?;
        let cluster = member.map(|member| ["--store", member.store.as_str(), "--name", member.name.as_str()]);
        let mut child = Command::new(program)
            .args(["controller", "--json", "--listen", "tcp:127.0.0.1:0", "--config"])
            .arg(folder.path().join("controller.toml"))
            .arg("--status-socket")
            .arg(folder.path().join("status.sock"))
            .args(cluster.iter().flatten())
            .env("CVSW_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let ready = read_line(&mut child);
        let mut controller = Self { child, folder, address: SocketAddr::from(([0; 4], 0)) };
        controller.address = address(&ready?)?;
        Ok(controller)
    }

    /// Another configuration, from now on.
    ///
    /// # Errors
    /// The file cannot be written, or the process is gone.
    pub fn reconfigure(&self, config: &str) -> anyhow::Result<()> {
        let (new, file) = (self.folder.path().join("new.toml"), self.folder.path().join("controller.toml"));
        fs::write(&new, config)?;
        fs::rename(&new, &file)?;
        self.signal(Signal::HUP)
    }

    /// New keys for everybody, now.
    ///
    /// # Errors
    /// The process is gone.
    pub fn rotate_keys(&self) -> anyhow::Result<()> {
        self.signal(Signal::USR1)
    }

    /// Stops it where it is.
    ///
    /// # Errors
    /// The process is gone.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// The process is gone.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// What it knows.
    ///
    /// # Errors
    /// It does not say.
    pub fn status(&self) -> anyhow::Result<Status> {
        Ok(read_status(&self.status_socket())?.1)
    }

    /// Its memory in bytes: what is resident now, and the most that ever was.
    ///
    /// # Errors
    /// The process is gone.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such field")?;
            let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
            anyhow::Ok(kib << 10)
        };
        Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
    }

    /// Seconds of processor time that it has used.
    ///
    /// # Errors
    /// The process is gone.
    pub fn processor_seconds(&self) -> anyhow::Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name, which may hold anything: user and system time are the 12th and 13th field (proc(5)).
        let fields: Vec<_> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).context("no such field");
        Ok((ticks(11)? + ticks(12)?) as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    fn status_socket(&self) -> PathBuf {
        self.folder.path().join("status.sock")
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, signal).context("the controller has ended")
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident now.
    pub resident: u64,
    /// The most that was ever resident.
    pub peak: u64,
}

fn read_line(child: &mut Child) -> anyhow::Result<String> {
    let mut line = String::new();
    let out = child.stdout.as_mut().context("its output is not readable")?;
    BufReader::new(out).read_line(&mut line)?;
    if line.is_empty() {
        let status = child.wait()?;
        bail!("the controller ended at once ({status}); its own message is above");
    }
    Ok(line)
}

/// The TCP address in the "ready" line.
fn address(ready: &str) -> anyhow::Result<SocketAddr> {
    let ready: serde_json::Value = serde_json::from_str(ready).with_context(|| format!("not JSON: {ready}"))?;
    let listen = ready["listen"][0].as_str().and_then(|text| text.strip_prefix("tcp:"));
    listen.context("the controller does not say where it listens")?.parse().context("not an address")
}
