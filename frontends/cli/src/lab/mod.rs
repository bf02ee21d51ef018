//! `cvsw lab`: the paper's Figure 4 on one machine.

use std::process::ExitCode;

/// Arguments of `cvsw lab`.
#[derive(Debug, clap::Args)]
pub struct LabArgs {}

/// Builds the laboratory, runs traffic through it and judges the result.
pub fn run(_args: LabArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the laboratory is not built yet")
}
