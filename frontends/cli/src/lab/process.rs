//! Running other programs: short tools with a time limit, long-lived processes with a log, waits with a deadline.

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(20);
/// Time limit of a tool that does not name one.
const TOOL_TIMEOUT: Duration = Duration::from_secs(15);
/// How many lines of a log an error shows.
const LOG_TAIL: usize = 12;

// A signal concerns the whole process, so its flag does too.
static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The user, or the system, asked the laboratory to stop.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted by a signal")
    }
}

impl std::error::Error for Interrupted {}

/// Turns SIGINT, SIGTERM and SIGHUP into [`Interrupted`] errors of every wait, so that teardown runs.
pub fn catch_signals() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&INTERRUPTED)).context("installing a signal handler")?;
    }
    Ok(())
}

/// Fails once a signal has come.
pub fn check_interrupt() -> Result<(), Interrupted> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
}

/// Calls `probe` until it yields a value; fails at the deadline, on an error of the probe and on a signal.
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        check_interrupt()?;
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if start.elapsed() >= limit {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        thread::sleep(POLL);
    }
}

/// A short-lived program.
pub struct Tool {
    command: Command,
    timeout: Duration,
    interruptible: bool,
}

/// What a tool left behind.
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Tool {
    /// A program with its arguments.
    pub fn new<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(program);
        command.args(args);
        Self::from(command)
    }

    /// Sets the time limit.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets environment variables.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self {
        self.command.envs(variables);
        self
    }

    /// Lets it finish although a signal came: what cleans up must run then too.
    pub fn uninterruptible(mut self) -> Self {
        self.interruptible = false;
        self
    }

    /// Runs it; its standard output when it ends with 0, else an error with what it said.
    pub fn run(self) -> Result<String> {
        let line = describe(&self.command);
        let outcome = self.outcome()?;
        if outcome.status.success() {
            return Ok(outcome.stdout);
        }
        let said = if outcome.stderr.trim().is_empty() { &outcome.stdout } else { &outcome.stderr };
        Err(anyhow!("{}", said.trim())).with_context(|| format!("`{line}` failed ({})", outcome.status))
    }

    /// Runs it, whatever its exit status.
    pub fn outcome(mut self) -> Result<Outcome> {
        let line = describe(&self.command);
        tracing::debug!(command = %line, "run");
        // Its own process group: a Ctrl-C in the terminal is for the laboratory to handle.
        let mut child = self
            .command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting `{line}`"))?;
        let stdout = drain(child.stdout.take());
        let stderr = drain(child.stderr.take());
        let start = Instant::now();
        let stopped = loop {
            if let Some(status) = child.try_wait()? {
                break Ok(status);
            }
            if self.interruptible
                && let Err(interrupted) = check_interrupt()
            {
                break Err(interrupted.into());
            }
            if start.elapsed() >= self.timeout {
                break Err(anyhow!("`{line}` did not end within {} s", self.timeout.as_secs()));
            }
            thread::sleep(POLL / 4);
        };
        let status = stopped.inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        Ok(Outcome { status, stdout: collect(stdout), stderr: collect(stderr) })
    }
}

impl From<Command> for Tool {
    fn from(command: Command) -> Self {
        Self { command, timeout: TOOL_TIMEOUT, interruptible: true }
    }
}

type Drain = thread::JoinHandle<Vec<u8>>;

fn drain(pipe: Option<impl Read + Send + 'static>) -> Drain {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What could be read before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn collect(drain: Drain) -> String {
    String::from_utf8_lossy(&drain.join().unwrap_or_default()).into_owned()
}

/// The command line, for people.
pub fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

/// A process that can be found again later: a PID alone may have been given to another process since.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct ProcessId {
    /// What it is, for people.
    pub name: String,
    /// PID.
    pub pid: i32,
    /// Start time in clock ticks since boot (field 22 of proc_pid_stat(5)).
    pub started: u64,
}

impl ProcessId {
    /// The process with this PID as it runs now.
    pub fn of(name: &str, pid: i32) -> Result<Self> {
        let (_, started) = stat(pid).with_context(|| format!("{name} (PID {pid}) is gone already"))?;
        Ok(Self { name: name.to_owned(), pid, started })
    }

    /// Whether this very process still runs (a zombie does not).
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|(state, started)| state != 'Z' && started == self.started)
    }

    /// Sends a signal if this very process still runs.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            // It may end between the check and the signal; then nothing is left to do.
            let _ = kill_process(pid, signal);
        }
    }
}

/// State letter and start time of a process.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name in parentheses may itself hold spaces and parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// Ends processes: SIGTERM to all, SIGKILL to those still there at the limit. Names those that needed it.
pub fn end_all(processes: &[ProcessId], limit: Duration) -> Vec<String> {
    for process in processes {
        process.signal(Signal::TERM);
    }
    let start = Instant::now();
    while start.elapsed() < limit && processes.iter().any(ProcessId::is_alive) {
        thread::sleep(POLL);
    }
    let stubborn: Vec<&ProcessId> = processes.iter().filter(|process| process.is_alive()).collect();
    for process in &stubborn {
        process.signal(Signal::KILL);
    }
    stubborn.iter().map(|process| process.name.clone()).collect()
}

/// A long-lived program that the laboratory started.
pub struct Process {
    /// How to find it again.
    pub id: ProcessId,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program; standard output and standard error go to the file `log`.
    pub fn spawn(name: &str, mut command: Command, log: PathBuf) -> Result<Self> {
        let line = describe(&command);
        tracing::debug!(command = %line, log = %log.display(), "start");
        let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {name}: `{line}`"))?;
        let pid = i32::try_from(child.id())?;
        let id = ProcessId::of(name, pid).inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        Ok(Self { id, child, log })
    }

    /// Waits until `probe` yields a value. Fails early when the process ends, and shows its log.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut probe: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let Self { id, child, log } = self;
        wait_for(what, limit, || match child.try_wait()? {
            Some(status) => bail!("{what}: {} ended early ({status})", id.name),
            None => probe(),
        })
        .map_err(|error| with_log(error, &id.name, log))
    }

    /// Waits until the process has written this line.
    pub fn wait_for_line(&mut self, line: &str, limit: Duration) -> Result<()> {
        let log = self.log.clone();
        let what = format!("the line {line:?} of {}", self.id.name);
        self.wait_for(&what, limit, || {
            let text = fs::read_to_string(&log).with_context(|| format!("reading {}", log.display()))?;
            Ok(text.lines().any(|found| found.trim() == line).then_some(()))
        })
    }

    /// Fails, with the tail of its log, when the process has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => {
                Err(with_log(anyhow!("{} ended early ({status})", self.id.name), &self.id.name, &self.log))
            }
            None => Ok(()),
        }
    }

    /// The file that holds its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends `signal`, waits for the end, and gives back what it wrote.
    pub fn end(mut self, signal: Signal, limit: Duration) -> Result<String> {
        self.id.signal(signal);
        let child = &mut self.child;
        let waited = wait_for(&format!("end of {}", self.id.name), limit, || Ok(child.try_wait()?));
        waited.inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        fs::read_to_string(&self.log).with_context(|| format!("reading {}", self.log.display()))
    }

    /// Collects the exit status of a process that was ended by [`end_all`].
    pub fn reap(&mut self) {
        let _ = self.child.wait();
    }
}

/// Adds the tail of a log to an error, unless the error is the user's wish to stop.
pub fn with_log(error: anyhow::Error, name: &str, log: &Path) -> anyhow::Error {
    if error.is::<Interrupted>() {
        return error;
    }
    let text = fs::read_to_string(log).unwrap_or_else(|error| format!("(unreadable: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LOG_TAIL)..];
    let shown = if tail.is_empty() { "(empty)".to_owned() } else { tail.join("\n    ") };
    anyhow!("{error:#}\n  log of {name}, last lines:\n    {shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_hangs_is_stopped_and_named() {
        let error = Tool::new("sleep", ["60"]).timeout(Duration::from_millis(50)).run().unwrap_err();
        assert!(error.to_string().contains("`sleep 60` did not end"), "{error:#}");
    }

    #[test]
    fn a_failing_tool_shows_what_it_said() {
        let error = Tool::new("sh", ["-c", "echo broken cable >&2; exit 3"]).run().unwrap_err();
        assert!(format!("{error:#}").contains("broken cable"), "{error:#}");
    }

    #[test]
    fn a_process_that_ends_early_shows_its_log() {
        let log = std::env::temp_dir().join(format!("cvsw-process-test-{}", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such device; exit 1"]);
        let mut process = Process::spawn("port", command, log.clone()).unwrap();
        let error = process.wait_for("ready", Duration::from_secs(10), || Ok(None::<()>)).unwrap_err();
        fs::remove_file(log).unwrap();
        let text = error.to_string();
        assert!(text.contains("port ended early") && text.contains("no such device"), "{text}");
    }

    #[test]
    fn a_recycled_pid_is_another_process() {
        let mut me = ProcessId::of("me", std::process::id() as i32).unwrap();
        assert!(me.is_alive());
        me.started += 1;
        assert!(!me.is_alive());
    }

    #[test]
    fn end_all_names_those_who_ignore_sigterm() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; echo armed; while :; do sleep 0.05; done"]);
        let log = std::env::temp_dir().join(format!("cvsw-stubborn-test-{}", std::process::id()));
        let mut process = Process::spawn("mule", command, log.clone()).unwrap();
        let armed = log.clone();
        process
            .wait_for("armed", Duration::from_secs(10), || {
                Ok(fs::read_to_string(&armed)?.contains("armed").then_some(()))
            })
            .unwrap();
        assert_eq!(end_all(std::slice::from_ref(&process.id), Duration::from_millis(200)), ["mule"]);
        process.reap();
        fs::remove_file(log).unwrap();
        assert!(!process.id.is_alive());
    }
}
