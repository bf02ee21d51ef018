//! `cvsw ctl control`: the key of a vNIC's control channel, and how it is controlled. The key goes in and never comes out.

use super::netlink::{Command, Vnic, attribute};
use crate::output;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::{fmt, path::PathBuf};

/// Arguments of `cvsw ctl control`.
#[derive(Debug, clap::Subcommand)]
pub enum ControlAction {
    /// Set the key: from now on only a controller that has it is believed (protocol version 3), for as long as the vNIC
    /// exists
    Key {
        /// 32 hexadecimal digits, as for `cvsw port --control-key`; readable by its owner only
        file: PathBuf,
    },
    /// Show how the vNIC is controlled, never its key
    Status {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

/// Two numbers of 4 bytes and a filler, then four of 8, in native order: `struct cvsw_control_status` of the module.
const STATUS_LEN: usize = 48;

/// Runs `cvsw ctl control`.
pub fn run(vnic: &mut Vnic, action: &ControlAction) -> Result<()> {
    match action {
        ControlAction::Key { file } => {
            let key = cvsw_keyfile::control_key_bytes(file)?;
            vnic.request(Command::ControlKey, &[(attribute::CONTROL_KEY, &key[..])]).map(drop)
        }
        ControlAction::Status { json } => output::report(&status(vnic)?, *json),
    }
}

#[derive(Debug, Serialize)]
struct Status {
    /// Protocol version of the last controller that was heard; 0: none was.
    version: u32,
    /// Whether version 3 is spoken.
    version_3: bool,
    /// Whether there is a control key.
    authenticated: bool,
    instance: u64,
    epoch: u64,
    executed: u64,
    duplicates: u64,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = if self.authenticated { "set: only version 3 is believed" } else { "none" };
        writeln!(f, "control key: {key}")?;
        match self.version {
            0 => writeln!(f, "no controller was heard")?,
            version => writeln!(f, "protocol version of the last controller: {version}")?,
        }
        if self.version_3 {
            let Self { instance, epoch, executed, duplicates, .. } = self;
            writeln!(f, "instance {instance:#018x}, epoch {epoch}, command {executed}, {duplicates} came again")?;
        }
        Ok(())
    }
}

fn status(vnic: &mut Vnic) -> Result<Status> {
    let reply = vnic.request(Command::ControlGet, &[])?;
    let bytes = reply.get(attribute::CONTROL_STATUS).context("the kernel did not send the status")?;
    ensure!(bytes.len() >= STATUS_LEN, "the kernel's status is cut short");
    let (flags, numbers) = bytes.split_at(16);
    let mut flags = flags.as_chunks().0.iter().map(|number| u32::from_ne_bytes(*number));
    let mut numbers = numbers.as_chunks().0.iter().map(|number| u64::from_ne_bytes(*number));
    let (mut flag, mut number) = (|| flags.next().unwrap_or_default(), || numbers.next().unwrap_or_default());
    Ok(Status {
        version: flag(),
        version_3: flag() != 0,
        authenticated: flag() != 0,
        instance: number(),
        epoch: number(),
        executed: number(),
        duplicates: number(),
    })
}
