//! The `cvsw` program: one subcommand per module, or per front-end crate.

use anyhow::Context as _;
use clap::{CommandFactory, Parser, Subcommand};
use cvsw_controller::client;
use std::{io::Write, process::ExitCode};

mod bench;
mod ctl;
mod engine;
mod flows;
mod lab;
mod logging;
mod output;
mod replay;
mod text;
mod trace;

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  the command failed, or found what it checks for to be wrong
  2  wrong usage: unknown option, missing or malformed argument

Environment:
  CVSW_LOG  log filter, wins over -v and -q: \"debug\", \"warn,cvsw_controller=trace\"

Logs go to standard error, results to standard output.";

/// CVSW, the Co-Virtual Switch: OpenFlow match/action and VXLAN inside a virtual NIC.
#[derive(Debug, Parser)]
#[command(name = "cvsw", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    verbosity: logging::Verbosity,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the engine over a capture and write what it forwards
    Replay(replay::ReplayArgs),
    /// Show what the engine does with one frame, step by step
    Trace(trace::TraceArgs),
    /// Check flow text
    Flows(flows::FlowsArgs),
    /// Run one vNIC in userspace
    Port(cvsw_userspace::cli::PortArgs),
    /// Show counters and flows of a running `cvsw port`
    Stats(cvsw_userspace::cli::StatsArgs),
    /// Flows, counters and traces of a vNIC in the kernel
    Ctl(ctl::CtlArgs),
    /// Manage vNICs through stock Open vSwitch
    Controller(cvsw_controller::cli::ControllerArgs),
    /// Show what a running `cvsw controller` knows
    #[command(after_help = "Example:\n  cvsw controller-status /run/cvsw/status.sock --wait 30 --json")]
    ControllerStatus(cvsw_controller::cli::StatusArgs),
    /// Measure a controller with simulated switches and vNICs
    Sim(cvsw_sim::cli::SimArgs),
    /// Virtual networks of a running controller
    #[command(
        after_help = "Example:\n  cvsw net set blue --vni 42 --group 239.1.1.42 --cipher aes-128-gcm\n  cvsw net list --json"
    )]
    Net(client::Args<client::NetCommand>),
    /// Members of a running controller's networks
    #[command(after_help = "Example:\n  cvsw member list blue\n  cvsw member set blue vm1 --offloads csum,gro")]
    Member(client::Args<client::MemberCommand>),
    /// vNICs that a running controller manages
    #[command(
        after_help = "Example:\n  cvsw vnic list --state silent\n  cvsw vnic trace 02:00:00:00:01:01 --direction tx --hex '02 00 ...'"
    )]
    Vnic(client::Args<client::VnicCommand>),
    /// Flows of a vNIC that a running controller manages
    #[command(
        after_help = "Example:\n  cvsw flow add 02:00:00:00:01:01 priority=50000,in_port=HOST,udp,tp_dst=9,actions=drop"
    )]
    Flow(client::Args<client::FlowCommand>),
    /// Keys of a running controller's encrypted networks
    #[command(after_help = "Example:\n  cvsw key rotate")]
    Key(client::Args<client::KeyCommand>),
    /// Switches that are connected to a running controller
    #[command(after_help = "Example:\n  cvsw switch list --json")]
    Switch(client::Args<client::SwitchCommand>),
    /// The whole desired state of a running controller
    #[command(after_help = "Example:\n  cvsw config export > copy.toml\n  cvsw config import copy.toml")]
    Config(client::Args<client::ConfigCommand>),
    /// What happens at a running controller, one JSON document a line
    #[command(after_help = "Example:\n  cvsw events --after 0 | jq .type")]
    Events(client::EventsArgs),
    /// Build two servers with VMs on this machine, run traffic through them and judge the result
    Lab(lab::LabArgs),
    /// Measure how fast the engine is on this machine
    Bench(bench::BenchArgs),
    /// Write manual pages, one per command, into a folder
    #[command(after_help = "Example:\n  cvsw man /usr/local/share/man/man1")]
    Man {
        /// The folder
        folder: std::path::PathBuf,
    },
    /// Print a shell's completion script
    #[command(after_help = "Example:\n  cvsw completions bash > /etc/bash_completion.d/cvsw")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = logging::init(cli.verbosity).and_then(|()| dispatch(cli.command));
    match result {
        Ok(code) => code,
        // The reader of our output went away (`cvsw ... | head`): nobody is left to complain to.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // A full or closed stderr leaves no way to report; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "cvsw: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Replay(args) => replay::run(args),
        Command::Trace(args) => trace::run(args),
        Command::Flows(args) => flows::run(args),
        Command::Port(args) => cvsw_userspace::cli::run(args),
        Command::Stats(args) => cvsw_userspace::cli::run_stats(args),
        Command::Ctl(args) => ctl::run(args),
        Command::Controller(args) => cvsw_controller::cli::run(args),
        Command::ControllerStatus(args) => cvsw_controller::cli::run_status(args),
        Command::Sim(args) => cvsw_sim::cli::run(args),
        Command::Net(args) => client::run(args),
        Command::Member(args) => client::run(args),
        Command::Vnic(args) => client::run(args),
        Command::Flow(args) => client::run(args),
        Command::Key(args) => client::run(args),
        Command::Switch(args) => client::run(args),
        Command::Config(args) => client::run(args),
        Command::Events(args) => client::run_events(args),
        Command::Lab(args) => lab::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Man { folder } => man(&folder),
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cvsw", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

fn man(folder: &std::path::Path) -> anyhow::Result<ExitCode> {
    let cannot_write = || format!("cannot write manual pages into {}", folder.display());
    std::fs::create_dir_all(folder).with_context(cannot_write)?;
    clap_mangen::generate_to(Cli::command(), folder).with_context(cannot_write)?;
    Ok(ExitCode::SUCCESS)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
