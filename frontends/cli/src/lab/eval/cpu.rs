//! Which process runs on which core, and how much processor time each part takes.

use crate::lab::build::Lab;
use crate::lab::process::ProcessId;
use crate::lab::topology::Topology;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::ops::{Add, AddAssign, Sub};

/// Clock ticks of `/proc` per second: USER_HZ, the same on every Linux of this architecture.
const TICKS: f64 = 100.0;

/// Which part of a laboratory shares a core with which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Each server has a core for everything that is in it
    Server,
    /// The virtual switches have a core, and the VMs, with their vNICs, the others
    Role,
    /// The scheduler decides
    Free,
}

/// Part of a laboratory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The virtual switch, and what stands at its position.
    Switch,
    /// A VM's vNIC or tunnel.
    Vnic,
    /// What a VM runs.
    Application,
}

/// Seconds of processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// The virtual switches, and what stands at their position.
    pub switch: f64,
    /// The VMs' vNICs, or tunnel programs.
    pub vnic: f64,
    /// Sender and receiver; with what their system calls do in the kernel.
    pub application: f64,
    /// All else on the machine: interrupts, kernel threads, strangers.
    pub other: f64,
}

impl Placement {
    /// For people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Server => "server A's processes on core 0, server B's on core 1",
            Self::Role => "the virtual switches on core 0, VMs with their vNICs on the others",
            Self::Free => "the scheduler decides",
        }
    }

    /// The cores for a part of server `server`, of `cores`. Empty: all.
    pub fn cores(self, part: Part, server: usize, cores: usize) -> Vec<usize> {
        match (self, part) {
            (Self::Free, _) => Vec::new(),
            (Self::Server, _) => vec![server % cores],
            (Self::Role, Part::Switch) => vec![0],
            (Self::Role, _) if cores == 1 => vec![0],
            (Self::Role, _) => (1..cores).collect(),
        }
    }
}

/// Part and server of a process, by the name that it was started under: `vNIC of blue-1a`.
pub fn place(topology: &Topology, process: &str) -> Option<(Part, usize)> {
    let owner = process.rsplit(' ').next()?;
    if let Some(server) = topology.servers.iter().position(|server| server.name == owner) {
        return Some((Part::Switch, server));
    }
    let vm = &topology.vms[vm(topology, process)?];
    let vnic = ["vNIC", "tunnel"].iter().any(|kind| process.starts_with(kind));
    Some((if vnic { Part::Vnic } else { Part::Application }, vm.server))
}

/// Index of the VM that a process belongs to, by the name that it was started under.
pub fn vm(topology: &Topology, process: &str) -> Option<usize> {
    let owner = process.rsplit(' ').next()?;
    topology.vms.iter().position(|vm| vm.name == owner)
}

/// Puts every process of a laboratory, with all of its threads, where it belongs.
pub fn pin(lab: &Lab, placement: Placement) -> Result<()> {
    let cores = cores();
    for process in lab.processes() {
        let Some((part, server)) = place(&lab.topology, &process.name) else { continue };
        let wanted = placement.cores(part, server, cores);
        if wanted.is_empty() {
            continue;
        }
        let mut set = rustix::thread::CpuSet::new();
        wanted.iter().for_each(|core| set.set(*core));
        let tasks = format!("/proc/{}/task", process.pid);
        for task in fs::read_dir(&tasks).with_context(|| format!("listing the threads of {}", process.name))? {
            let thread = task?.file_name().to_str().and_then(|name| name.parse().ok());
            let thread = thread.and_then(rustix::thread::Pid::from_raw);
            rustix::thread::sched_setaffinity(thread, &set)
                .with_context(|| format!("pinning {} to {wanted:?}", process.name))?;
        }
    }
    Ok(())
}

/// Processors of this machine.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Processor time that a laboratory and the machine have taken so far; `other` holds all of the machine's.
pub fn now(lab: &Lab) -> Result<Seconds> {
    let mut seconds = Seconds { other: machine()?, ..Seconds::default() };
    for process in lab.processes() {
        let used = used(process)?;
        match place(&lab.topology, &process.name) {
            Some((Part::Switch, _)) => seconds.switch += used,
            Some((Part::Vnic, _)) => seconds.vnic += used,
            Some((Part::Application, _)) => seconds.application += used,
            None => {}
        }
    }
    Ok(seconds)
}

/// What was used between two moments. `more`: by programs of the VMs that have ended since.
pub fn between(before: Seconds, after: Seconds, more: f64) -> Seconds {
    let mut used = after - before;
    used.application += more;
    used.other = (used.other - used.switch - used.vnic - used.application).max(0.0);
    used
}

/// User and system time of a process with all of its threads (fields 14 and 15 of proc_pid_stat(5)).
fn used(process: &ProcessId) -> Result<f64> {
    let path = format!("/proc/{}/stat", process.pid);
    let text = fs::read_to_string(&path).with_context(|| format!("{} has ended", process.name))?;
    let fields = text.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / TICKS)
}

/// Time that the machine's processors were busy (proc_stat(5)).
fn machine() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    Ok(busy(text.lines().next().unwrap_or_default()))
}

/// Of the line `cpu user nice system idle iowait irq softirq ...`: all but idle and iowait; guests are part of user.
fn busy(line: &str) -> f64 {
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let ticks: u64 = [0, 1, 2, 5, 6].iter().filter_map(|index| fields.get(*index)).sum();
    ticks as f64 / TICKS
}

impl Seconds {
    /// Each of its parts divided by `divisor`.
    pub fn per(&self, divisor: f64) -> Self {
        let Self { switch, vnic, application, other } = *self;
        Self {
            switch: switch / divisor,
            vnic: vnic / divisor,
            application: application / divisor,
            other: other / divisor,
        }
    }
}

impl Add for Seconds {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            switch: self.switch + more.switch,
            vnic: self.vnic + more.vnic,
            application: self.application + more.application,
            other: self.other + more.other,
        }
    }
}

impl AddAssign for Seconds {
    fn add_assign(&mut self, more: Self) {
        *self = *self + more;
    }
}

impl Sub for Seconds {
    type Output = Self;

    fn sub(self, less: Self) -> Self {
        self + less.per(-1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::topology::Plan;

    #[test]
    fn processes_belong_to_a_part_of_a_server() {
        let plan = Plan { pairs: 2, networks: 1, unikernels: 0, cipher: None, offloads: true };
        let topology = Topology::new("t", plan).unwrap();
        assert_eq!(place(&topology, "ovs-vswitchd of server-b"), Some((Part::Switch, 1)));
        assert_eq!(place(&topology, "AES of server-a"), Some((Part::Switch, 0)));
        assert_eq!(place(&topology, "vNIC of blue-2b"), Some((Part::Vnic, 1)));
        assert_eq!(place(&topology, "tunnel of blue-1a"), Some((Part::Vnic, 0)));
        assert_eq!(place(&topology, "iperf3 in blue-1a"), Some((Part::Application, 0)));
        assert_eq!(place(&topology, "controller"), None);
    }

    #[test]
    fn placements_use_cores_that_there_are() {
        for placement in [Placement::Server, Placement::Role, Placement::Free] {
            for (part, server, cores) in
                [(Part::Switch, 1, 1), (Part::Vnic, 1, 1), (Part::Vnic, 1, 2), (Part::Application, 0, 4)]
            {
                assert!(placement.cores(part, server, cores).iter().all(|core| *core < cores));
            }
        }
        assert_eq!(Placement::Role.cores(Part::Vnic, 0, 4), [1, 2, 3]);
    }

    #[test]
    fn what_nobody_claims_is_other() {
        let before = Seconds { switch: 1.0, vnic: 1.0, application: 1.0, other: 10.0 };
        let after = Seconds { switch: 2.0, vnic: 3.0, application: 1.5, other: 16.0 };
        let used = between(before, after, 0.25);
        assert_eq!(used, Seconds { switch: 1.0, vnic: 2.0, application: 0.75, other: 2.25 });
        assert_eq!(busy("cpu  100 0 50 9999 7 3 47 0 5 0"), 2.0);
    }
}
