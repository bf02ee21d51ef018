//! What a laboratory has created, kept in a file from before the first thing is created: whoever comes later
//! (teardown, `cvsw lab down`, the next laboratory) can find it all and remove it.

use super::process::{self, ProcessId};
use super::topology::namespace_prefix;
use super::{cgroup, netns};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where laboratories keep their files. Only root can write there, so the PIDs in a state file can be trusted.
const BASE: &str = "/run";
const DIRECTORY_PREFIX: &str = "cvsw-lab-";
const FILE: &str = "lab.json";
/// Time that processes get to end after SIGTERM.
pub const END_LIMIT: Duration = Duration::from_secs(5);

/// The record of one laboratory.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    /// Short identifier.
    pub id: String,
    /// The `cvsw lab` that built it.
    pub owner: ProcessId,
    /// Whether it was left up on purpose.
    pub kept: bool,
    /// Everything started, in order.
    pub processes: Vec<ProcessId>,
}

/// What became of an earlier laboratory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its `cvsw lab` still runs.
    Running,
    /// Left up by `--keep`.
    Kept,
    /// Its `cvsw lab` was killed: nobody will remove it.
    Stale,
}

impl State {
    /// Reserves an identifier and a directory for a new laboratory.
    pub fn create() -> Result<Self> {
        let pid = std::process::id();
        let owner = ProcessId::of("cvsw lab", i32::try_from(pid)?)?;
        for attempt in 0..=u16::MAX {
            let id = format!("{:04x}", (pid as u16).wrapping_add(attempt));
            match fs::DirBuilder::new().mode(0o700).create(directory(&id)) {
                Ok(()) => {
                    let state = Self { id, owner, kept: false, processes: Vec::new() };
                    state.save()?;
                    return Ok(state);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("creating {}", directory(&id).display())),
            }
        }
        bail!("all laboratory identifiers are in use: remove some with `cvsw lab down --all`")
    }

    /// Reads the record of laboratory `id`.
    pub fn load(id: &str) -> Result<Self> {
        let path = directory(id).join(FILE);
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))
    }

    /// Its directory: logs, sockets, configuration, captures.
    pub fn directory(&self) -> PathBuf {
        directory(&self.id)
    }

    /// Notes a process, so that it can be found and ended.
    pub fn record(&mut self, process: &ProcessId) -> Result<()> {
        self.processes.push(process.clone());
        self.save()
    }

    /// Marks the laboratory as left up on purpose.
    pub fn keep(&mut self) -> Result<()> {
        self.kept = true;
        self.save()
    }

    /// What became of it.
    pub fn standing(&self) -> Standing {
        match (self.owner.is_alive(), self.kept) {
            (true, false) => Standing::Running,
            (_, true) => Standing::Kept,
            (false, false) => Standing::Stale,
        }
    }

    fn save(&self) -> Result<()> {
        let path = self.directory().join(FILE);
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec_pretty(self)?).with_context(|| format!("writing {}", new.display()))?;
        fs::rename(&new, &path).with_context(|| format!("writing {}", path.display()))
    }
}

/// Identifiers of all laboratories that left a trace on this machine: a directory or a namespace.
pub fn identifiers() -> Result<Vec<String>> {
    let entries = fs::read_dir(BASE).with_context(|| format!("listing {BASE}"))?;
    let mut ids: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix(DIRECTORY_PREFIX).map(str::to_owned))
        .chain(netns::list("cvsw-")?.iter().filter_map(|name| Some(name.split('-').nth(1)?.to_owned())))
        .filter(|id| is_identifier(id))
        .collect();
    ids.sort();
    ids.dedup();
    Ok(ids)
}

/// The standing of laboratory `id`; one without a readable record is stale.
pub fn standing(id: &str) -> Standing {
    State::load(id).map_or(Standing::Stale, |state| state.standing())
}

/// Removes everything that belongs to laboratory `id`. Runs through even when a part fails, then names what is left.
/// On success, names the processes that had to be killed since they did not end by themselves.
pub fn remove(id: &str) -> Result<Vec<String>> {
    ensure!(is_identifier(id), "{id:?} is not a laboratory: four hexadecimal digits, as `cvsw lab` prints them");
    let mut problems = Vec::new();
    let mut processes = State::load(id).map(|state| state.processes).unwrap_or_default();
    // Last started, first ended.
    processes.reverse();
    let mut killed = process::end_all(&processes, END_LIMIT);
    let namespaces = netns::list(&namespace_prefix(id))?;
    killed.extend(process::end_all(&inhabitants(&namespaces), END_LIMIT));
    for namespace in &namespaces {
        problems.extend(netns::delete(namespace).err().map(|error| format!("{error:#}")));
    }
    problems.extend(cgroup::remove(id).err().map(|error| format!("{error:#}")));
    match fs::remove_dir_all(directory(id)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            problems.push(format!("removing {}: {error}", directory(id).display()));
        }
        _ => {}
    }
    let alive = processes.iter().filter(|process| process.is_alive());
    problems.extend(alive.map(|process| format!("{} (PID {}) still runs", process.name, process.pid)));
    ensure!(problems.is_empty(), "laboratory {id} is not completely removed:\n  {}", problems.join("\n  "));
    Ok(killed)
}

/// Processes inside the laboratory's own namespaces that no record names (a user's shell, a killed lab's tool).
fn inhabitants(namespaces: &[String]) -> Vec<ProcessId> {
    namespaces
        .iter()
        .flat_map(|namespace| {
            netns::pids(namespace).unwrap_or_default().into_iter().map(move |pid| (namespace, pid))
        })
        .filter_map(|(namespace, pid)| ProcessId::of(&format!("a process in {namespace}"), pid).ok())
        .collect()
}

fn directory(id: &str) -> PathBuf {
    Path::new(BASE).join(format!("{DIRECTORY_PREFIX}{id}"))
}

fn is_identifier(id: &str) -> bool {
    id.len() == 4 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_four_lower_case_hexadecimal_digits() {
        assert!(is_identifier("03af"));
        for bad in ["", "3af", "03aff", "03AF", "../x", "a/.."] {
            assert!(!is_identifier(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_not_an_identifier_is_never_removed() {
        let error = remove("../etc").unwrap_err();
        assert!(error.to_string().contains("is not a laboratory"), "{error}");
    }
}
