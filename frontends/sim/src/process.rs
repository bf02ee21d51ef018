//! The controller under test: a process of its own, which is told what to do through its API.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, bail};
use cvsw_controller::{
    Mac,
    client::http::{Answer, Client, Parts, Target},
    config::Listen,
};
use hyper::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::layout::Layout;

/// A running `cvsw controller`. Dropping it ends it and removes its files.
pub struct Controller {
    child: Child,
    _folder: TempDir,
    client: Client,
    runtime: Runtime,
    /// Where it listens for switches.
    pub address: SocketAddr,
    /// Its name among several.
    pub name: String,
}

/// A controller among several.
#[derive(Clone, Debug)]
pub struct Member {
    /// The cluster's store.
    pub store: String,
    /// The controller's name.
    pub name: String,
    /// Where it listens for switches.
    pub listen: SocketAddr,
    /// File with the cluster's key.
    pub key: PathBuf,
}

impl Controller {
    /// Starts `program controller` for this world, alone with a store of its own or as one of several.
    ///
    /// # Errors
    /// It does not start, or does not say where it listens.
    pub fn start(program: &Path, layout: &Layout, mtu: u16, member: Option<&Member>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for the controller's files")?;
        let [config, keys, store, api] =
            ["controller.toml", "keys", "store", "api.sock"].map(|name| folder.path().join(name));
        layout.write_keys(&keys)?;
        fs::write(&config, layout.config(mtu, Some(&keys)))?;
        let api = Listen::Unix(api);
        let target = Target { api: Some(api.clone()), ..Target::default() };
        let (client, runtime) = (Client::new(&target)?, runtime()?);
        let mut command = Command::new(program);
        let listen = member.map_or_else(|| "tcp:127.0.0.1:0".to_owned(), |member| format!("tcp:{}", member.listen));
        command.args(["controller", "--json", "--listen", &listen, "--config"]).arg(&config);
        command.arg("--api").arg(api.to_string()).arg("--store");
        match member {
            Some(member) => {
                command.args([member.store.as_str(), "--name", member.name.as_str()]);
                command.arg("--cluster-key").arg(&member.key)
            }
            None => command.arg(&store),
        };
        command.env("CVSW_LOG", "error").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let ready = read_line(&mut child);
        let address = SocketAddr::from(([0; 4], 0));
        let name = member.map(|member| member.name.clone()).unwrap_or_default();
        let mut controller = Self { child, _folder: folder, client, runtime, address, name };
        controller.address = address_of(&ready?)?;
        Ok(controller)
    }

    /// Another MTU of the network below, for everybody.
    ///
    /// # Errors
    /// The controller refuses.
    pub fn set_underlay_mtu(&self, mtu: u16, keys_in_clear: bool) -> anyhow::Result<()> {
        let parameters = json!({"underlay_mtu": mtu, "keys_in_clear": keys_in_clear});
        self.ask(Method::PUT, "/v1/parameters", Some(&parameters)).map(drop)
    }

    /// Other extra flows for one vNIC.
    ///
    /// # Errors
    /// The controller refuses.
    pub fn set_flows(&self, vnic: Mac, flows: &[String]) -> anyhow::Result<()> {
        self.ask(Method::PUT, &format!("/v1/vnics/{vnic}/flows"), Some(&json!({"flows": flows}))).map(drop)
    }

    /// New keys for everybody, now.
    ///
    /// # Errors
    /// The controller refuses.
    pub fn rotate_keys(&self) -> anyhow::Result<()> {
        self.ask(Method::POST, "/v1/keys/rotate", None::<&Value>).map(drop)
    }

    /// What there is at a glance, as the API's `/v1/summary` has it.
    ///
    /// # Errors
    /// The controller does not answer.
    pub fn summary(&self) -> anyhow::Result<Value> {
        self.ask(Method::GET, "/v1/summary", None::<&Value>)?.read()
    }

    /// Control messages that were sent again.
    ///
    /// # Errors
    /// The controller does not answer.
    pub fn repeated(&self) -> anyhow::Result<u64> {
        self.summary()?["repeated"].as_u64().context("the controller does not say what it has sent again")
    }

    fn ask(&self, method: Method, path: &str, body: Option<&impl Serialize>) -> anyhow::Result<Answer> {
        let parts = body.map_or_else(|| Ok(Parts::default()), Parts::json)?;
        self.runtime.block_on(self.client.ask(method, path, parts))
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

/// For one question at a time.
pub fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")
}

/// The TCP address in the "ready" line.
fn address_of(ready: &str) -> anyhow::Result<SocketAddr> {
    let ready: serde_json::Value = serde_json::from_str(ready).with_context(|| format!("not JSON: {ready}"))?;
    let listen = ready["listen"][0].as_str().and_then(|text| text.strip_prefix("tcp:"));
    listen.context("the controller does not say where it listens")?.parse().context("not an address")
}
