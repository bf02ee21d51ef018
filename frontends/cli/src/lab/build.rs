//! Building the laboratory step by step, and taking it down however the run ends.

use super::netns::{self, End};
use super::ovs::{Ovs, Uplink};
use super::process::{self, Process, ProcessId};
use super::state::{self, State};
use super::topology::{Plan, Topology, UNDERLAY_MTU, UPLINK, VM_NIC, Vm};
use anyhow::{Context, Result, ensure};
use cvsw_core::control::v3::CONTROL_KEY_LEN;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The name of the controller's process.
pub const CONTROLLER: &str = "controller";
/// Where the controller writes its log.
pub const CONTROLLER_LOG: &str = "controller";
const START_LIMIT: Duration = Duration::from_secs(15);

/// A laboratory, complete or in the making. Dropping it takes everything down, unless [`Lab::keep`] was called.
pub struct Lab {
    /// What it consists of.
    pub topology: Topology,
    /// Where its files are.
    pub directory: PathBuf,
    /// The Open vSwitch of each server.
    pub switches: Vec<Ovs>,
    state: State,
    processes: Vec<Process>,
    key_logs: Vec<PathBuf>,
    program: PathBuf,
    standing: bool,
}

impl Lab {
    /// Reserves a name; nothing else exists yet.
    pub fn new(plan: Plan) -> Result<Self> {
        let program = std::env::current_exe().context("finding the path of this program")?;
        // The plan is judged before anything is created.
        Topology::new("0000", plan)?;
        let state = State::create()?;
        let topology = Topology::new(&state.id, plan)?;
        let directory = state.directory();
        let switches = topology.servers.iter().map(|server| Ovs::new(server, &directory)).collect();
        Ok(Self {
            topology,
            directory,
            switches,
            state,
            processes: Vec::new(),
            key_logs: Vec::new(),
            program,
            standing: true,
        })
    }

    /// The servers' namespaces and the cable between them.
    pub fn lay_cable(&self) -> Result<()> {
        let [a, b] = [&self.topology.servers[0], &self.topology.servers[1]];
        for server in [a, b] {
            netns::create(&server.namespace)?;
        }
        let end = |namespace| End { namespace, interface: UPLINK };
        netns::cable(end(&a.namespace), end(&b.namespace), UNDERLAY_MTU)
    }

    /// The Open vSwitch of a server, with a cable and a port for every VM.
    pub fn start_server(&mut self, index: usize) -> Result<()> {
        let server = &self.topology.servers[index];
        for vm in self.topology.guests(index) {
            netns::create(&vm.namespace)?;
            let namespace = server.namespace.as_str();
            let nic = vm.nic_interface();
            let switch_end = End { namespace, interface: vm.switch_interface() };
            netns::cable(switch_end, End { namespace, interface: &nic }, UNDERLAY_MTU)?;
        }
        for unikernel in self.topology.unikernels.iter().filter(|unikernel| unikernel.server == index) {
            Self::lay_tap(unikernel)?;
        }
        self.start_switch(index)?;
        self.switches[index]
            .add_bridge(&self.topology, index, Uplink::Cable(UPLINK))
            .map_err(|error| process::with_log(error, "ovs-vswitchd", &self.switches[index].log()))
    }

    /// The Open vSwitch of a server, without any bridge.
    pub fn start_switch(&mut self, index: usize) -> Result<()> {
        let name = self.topology.servers[index].name;
        let switch = self.switches[index].clone();
        switch.create_database()?;
        let socket = switch.database_socket();
        self.start(&format!("ovsdb-server of {name}"), switch.database_server(), &format!("{name}-ovsdb"))?
            .wait_for("the database's socket", START_LIMIT, || Ok(socket.exists().then_some(())))?;
        switch.initialise()?;
        self.start(&format!("ovs-vswitchd of {name}"), switch.switch(), &format!("{name}-vswitchd"))?;
        Ok(())
    }

    /// A VM's vNIC: the `cvsw port` process between its tap and its switch port.
    pub fn start_vnic(&mut self, index: usize) -> Result<()> {
        let port = format!("af_packet:{}", self.topology.vms[index].nic_interface());
        let mut more = Vec::new();
        if self.topology.cipher.is_some() {
            let key = self.make_control_key(&self.topology.vms[index])?;
            more.push(format!("--control-key={}", key.display()));
        }
        self.start_vnic_on(index, &port, &more)
    }

    /// A VM's vNIC whose frames leave through `port`, as `cvsw port --net` takes it, in the VM's server; with further
    /// arguments.
    pub fn start_vnic_on(&mut self, index: usize, port: &str, more: &[String]) -> Result<()> {
        let vm = &self.topology.vms[index];
        let server = &self.topology.servers[vm.server];
        let args = [
            "port".to_owned(),
            format!("--host=tap:{VM_NIC},netns={}", vm.namespace),
            format!("--net={port}"),
            format!("--mac={}", vm.mac),
            "--poll=wait".to_owned(),
            format!("--stats-socket={}", self.stats_socket(vm).display()),
        ];
        let command = netns::command(&server.namespace, &self.program, args.iter().chain(more));
        let name = format!("vNIC of {}", vm.name);
        let file = format!("port-{}", vm.name);
        self.start(&name, command, &file)?.wait_for_line("ready", START_LIMIT)
    }

    /// The controller, its configuration, and the switches' connections to it.
    pub fn start_controller(&mut self) -> Result<()> {
        self.configure(str::to_owned)?;
        let mut sockets: Vec<PathBuf> = self.switches.iter().map(Ovs::controller_socket).collect();
        let status = self.status_socket();
        let mut command = Command::new(&self.program);
        command.arg("controller").arg("--config").arg(self.config()).arg("--status-socket").arg(&status);
        if self.topology.cipher.is_some() {
            // A controller makes its own, and overwrites none.
            self.key_logs.push(self.directory.join(format!("keys-{}", self.key_logs.len())));
            command.arg("--key-log").args(self.key_logs.last());
        }
        sockets.push(status);
        self.start(CONTROLLER, command, CONTROLLER_LOG)?.wait_for(
            "the controller's sockets",
            START_LIMIT,
            || Ok(sockets.iter().all(|socket| socket.exists()).then_some(())),
        )?;
        self.switches.iter().try_for_each(Ovs::set_controller)
    }

    /// Writes the controller's configuration, changed by `change`. A controller that runs notices it.
    pub fn configure(&self, change: impl FnOnce(&str) -> String) -> Result<()> {
        let sockets: Vec<PathBuf> = self.switches.iter().map(Ovs::controller_socket).collect();
        let (config, text) =
            (self.config(), change(&self.topology.controller_config(&sockets, &self.control_keys())));
        fs::write(&config, text).with_context(|| format!("writing {}", config.display()))
    }

    fn config(&self) -> PathBuf {
        self.directory.join("controller.toml")
    }

    /// Gives a VM its address, as its administrator would.
    pub fn address_vm(&self, vm: &Vm) -> Result<()> {
        netns::ip(&vm.namespace, &format!("addr add {}/24 dev {VM_NIC}", vm.ip)).map(drop)
    }

    /// Starts the program in a VM that says the VM's name to whoever asks.
    pub fn start_answerer(&mut self, index: usize) -> Result<()> {
        let vm = &self.topology.vms[index];
        let command = netns::command(&vm.namespace, &self.program, ["lab", "agent", "serve", &vm.name]);
        let (name, file) = (format!("answerer in {}", vm.name), format!("answerer-{}", vm.name));
        self.start(&name, command, &file)?.wait_for_line("ready", START_LIMIT)
    }

    /// Runs the laboratory's own program in a VM for a moment; what it printed.
    pub fn agent(&self, vm: &Vm, args: &[&str]) -> Result<String> {
        let args = ["lab", "agent"].iter().chain(args);
        netns::tool(&vm.namespace, &self.program, args).run()
    }

    /// The program itself with these arguments; what it printed.
    pub fn cvsw(&self, args: &[&str]) -> Result<String> {
        process::Tool::new(&self.program, args).run()
    }

    /// Path of the program, for hints to people.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The counters of a VM's vNIC, as `cvsw stats --json` gives them.
    pub fn vnic_stats(&self, vm: &Vm) -> Result<Value> {
        let socket = self.stats_socket(vm).display().to_string();
        let text = self.cvsw(&["stats", &socket, "--json"])?;
        serde_json::from_str(&text).with_context(|| format!("reading the counters of {}: {text}", vm.name))
    }

    /// The controller's state, as `cvsw controller-status --json` gives it.
    pub fn controller_status(&self) -> Result<Value> {
        let socket = self.status_socket().display().to_string();
        let text = self.cvsw(&["controller-status", &socket, "--json"])?;
        serde_json::from_str(&text).with_context(|| format!("reading the controller's state: {text}"))
    }

    /// Where a vNIC answers for its counters.
    pub fn stats_socket(&self, vm: &Vm) -> PathBuf {
        self.directory.join(format!("stats-{}.sock", vm.name))
    }

    /// Where the controller answers for its state.
    pub fn status_socket(&self) -> PathBuf {
        self.directory.join("status.sock")
    }

    /// Where the controllers of an encrypted laboratory, one after the other, note their keys.
    pub fn key_logs(&self) -> &[PathBuf] {
        &self.key_logs
    }

    /// The folder with the control keys of an encrypted laboratory, in which keys must not travel in clear.
    fn control_keys(&self) -> PathBuf {
        self.directory.join("control-keys")
    }

    /// Gives a vNIC a control key that the controller will find; its path.
    fn make_control_key(&self, vm: &Vm) -> Result<PathBuf> {
        let folder = self.control_keys();
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let path = folder.join(format!("{}.key", vm.mac));
        let mut random = [0; CONTROL_KEY_LEN];
        fs::File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut random))
            .context("no randomness")?;
        let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(digits.as_bytes()));
        written.with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// The file for the output of a program.
    pub fn log(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    /// Starts a long-lived program that teardown will end.
    pub fn start(&mut self, name: &str, command: Command, file: &str) -> Result<&mut Process> {
        let process = Process::spawn(name, command, self.log(file))?;
        let id = process.id.clone();
        self.processes.push(process);
        self.state.record(&id)?;
        self.processes.last_mut().context("the process just started")
    }

    /// Ends a program that [`Self::start`] started, before teardown does; what it wrote.
    pub fn end(&mut self, name: &str, signal: Signal, limit: Duration) -> Result<String> {
        let position = self.processes.iter().position(|process| process.id.name == name);
        let process = self.processes.remove(position.with_context(|| format!("{name} does not run"))?);
        process.end(signal, limit)
    }

    /// Sends a signal to a program that [`Self::start`] started.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        let process = self.processes.iter().find(|process| process.id.name == name);
        process.with_context(|| format!("{name} does not run"))?.id.signal(signal);
        Ok(())
    }

    /// Everything that [`Self::start`] started and [`Self::end`] did not end.
    pub fn processes(&self) -> impl Iterator<Item = &ProcessId> {
        self.processes.iter().map(|process| &process.id)
    }

    /// Fails when a process of the laboratory has ended by itself.
    pub fn check_processes(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::check)
    }

    /// Adds the tail of a process's log to an error.
    pub fn explain<T>(&self, result: Result<T>, file: &str) -> Result<T> {
        result.map_err(|error| process::with_log(error, file, &self.log(file)))
    }

    /// Leaves everything up when the program ends.
    pub fn keep(mut self) -> Result<()> {
        self.standing = false;
        self.state.keep()
    }

    /// Takes everything down and makes sure that nothing is left.
    pub fn take_down(mut self) -> Result<String> {
        let namespaces = netns::list(&super::topology::namespace_prefix(&self.topology.id))?.len();
        let processes = self.processes.len();
        let killed = self.remove()?;
        ensure!(
            killed.is_empty(),
            "did not end within 5 s after SIGTERM and had to be killed: {}",
            killed.join(", ")
        );
        Ok(format!("{processes} processes ended, {namespaces} namespaces and all files removed"))
    }

    fn remove(&mut self) -> Result<Vec<String>> {
        self.standing = false;
        // What runs is known here even when the record on disk could not be written.
        let ids: Vec<ProcessId> = self.processes.iter().rev().map(|process| process.id.clone()).collect();
        let mut killed = process::end_all(&ids, state::END_LIMIT);
        self.processes.iter_mut().for_each(Process::reap);
        killed.extend(state::remove(&self.topology.id)?);
        Ok(killed)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.standing
            && let Err(error) = self.remove()
        {
            eprintln!("cvsw lab: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::topology::namespace_prefix;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Mutex;

    #[test]
    fn a_panic_takes_everything_down() {
        let seen = Mutex::new(None);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut lab =
                Lab::new(Plan { pairs: 1, networks: 1, unikernels: 0, cipher: None, offloads: false }).unwrap();
            lab.lay_cable().unwrap();
            let mut sleeper = Command::new("sleep");
            sleeper.arg("600");
            let process = lab.start("sleeper", sleeper, "sleeper").unwrap().id.clone();
            let prefix = namespace_prefix(&lab.topology.id);
            assert_eq!(netns::list(&prefix).unwrap().len(), 2);
            *seen.lock().unwrap() = Some((prefix, lab.directory.clone(), process));
            panic!("in the middle");
        }));
        panicked.unwrap_err();
        let (prefix, directory, process) = seen.into_inner().unwrap().unwrap();
        assert_eq!(netns::list(&prefix).unwrap(), Vec::<String>::new());
        assert!(!directory.exists());
        assert!(!process.is_alive());
    }
}
