//! `cvsw port` as a program of its own.

use clap::Parser;
use std::{io::IsTerminal, process::ExitCode};

/// Run one CVSW vNIC in userspace.
#[derive(Debug, Parser)]
#[command(name = "cvsw-port", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    port: cvsw_userspace::cli::PortArgs,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).init();
    cvsw_userspace::cli::run(Cli::parse().port).unwrap_or_else(|error| {
        eprintln!("cvsw-port: {error:#}");
        ExitCode::FAILURE
    })
}
