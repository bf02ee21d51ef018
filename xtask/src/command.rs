//! Running other programs, with errors that say which one failed and how.

use anyhow::{Context, Result, bail};
use std::{
    ffi::{OsStr, OsString},
    fmt,
    process::{Command, ExitStatus, Stdio},
};

/// Variables that `cargo run` sets for us and that would make the programs below rebuild or misbehave.
const FROM_CARGO: [&str; 2] = ["CARGO", "LD_LIBRARY_PATH"];

/// A command to run, in the workspace's root and without standard input.
pub struct Cmd {
    command: Command,
}

impl Cmd {
    /// A call of `program`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.current_dir(crate::root());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if FROM_CARGO.contains(&&*text) || text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_")
            {
                command.env_remove(name);
            }
        }
        Self { command }
    }

    /// A call of `program` that is ended (with its children) after `seconds`.
    pub fn limited(seconds: u32, program: &str) -> Self {
        Self::new("timeout").arg("--kill-after=20").arg(seconds.to_string()).arg(program)
    }

    /// A call of cargo; `words` are split at blanks.
    pub fn cargo(words: &str) -> Self {
        Self::new("cargo").words(words)
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// More arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// More arguments, split at blanks.
    pub fn words(self, words: &str) -> Self {
        self.args(words.split_whitespace())
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs the command in another folder than the workspace's root.
    pub fn in_folder(mut self, folder: &std::path::Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Shows the command, runs it, and returns how it ended.
    pub fn status(mut self) -> Result<ExitStatus> {
        println!("$ {self}");
        self.command.status().with_context(|| self.cannot_start())
    }

    /// Shows and runs the command without standard input; anything but success is an error.
    pub fn run(mut self) -> Result<()> {
        println!("$ {self}");
        let status = self.command.stdin(Stdio::null()).status().with_context(|| self.cannot_start())?;
        self.judge(status, "")
    }

    /// Runs the command quietly and returns its standard output.
    pub fn read(self) -> Result<String> {
        Ok(String::from_utf8(self.read_bytes()?)?)
    }

    /// Runs the command quietly and returns its standard output, whatever it is.
    pub fn read_bytes(mut self) -> Result<Vec<u8>> {
        let output = self.command.stdin(Stdio::null()).output().with_context(|| self.cannot_start())?;
        self.judge(output.status, &String::from_utf8_lossy(&output.stderr))?;
        Ok(output.stdout)
    }

    /// Runs the command quietly and returns everything that it printed to standard error.
    pub fn read_errors(mut self) -> Result<String> {
        let output = self.command.stdin(Stdio::null()).output().with_context(|| self.cannot_start())?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        self.judge(output.status, &stderr)?;
        Ok(stderr)
    }

    /// Runs the command quietly; whether it can be started and succeeds.
    pub fn succeeds(mut self) -> bool {
        let quiet = self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    }

    fn judge(&self, status: ExitStatus, stderr: &str) -> Result<()> {
        let by_limit = self.command.get_program() == "timeout" && matches!(status.code(), Some(124 | 137));
        match (status.success(), by_limit) {
            (true, _) => Ok(()),
            (false, true) => bail!("`{self}` did not end in its time"),
            (false, false) => bail!("`{self}` failed ({status})\n{}", stderr.trim_end()),
        }
    }

    fn cannot_start(&self) -> String {
        let program = self.command.get_program().to_string_lossy();
        format!("cannot start `{program}` (is it installed? `cargo xtask setup` installs what is needed)")
    }
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<OsString> = Vec::new();
        for (name, value) in self.command.get_envs() {
            if let Some(value) = value {
                words.push([name, OsStr::new("="), value].into_iter().collect());
            }
        }
        words.push(self.command.get_program().to_owned());
        words.extend(self.command.get_args().map(OsStr::to_owned));
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        f.write_str(&words.join(" "))
    }
}

/// Whether a program of this name is on the PATH, or among the administrator's programs; or a file of this absolute path is
/// there.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let admin = ["/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path).chain(admin).any(|dir| dir.join(program).is_file())
}
