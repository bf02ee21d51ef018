//! Where log lines go: standard error, filtered by `-v`/`-q` or by `CVSW_LOG`.

use anyhow::Context;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Name of the environment variable that holds a filter in `tracing-subscriber`'s syntax.
pub const FILTER_VARIABLE: &str = "CVSW_LOG";

const HEADING: &str = "Logging";

/// How much the user wants to read.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Verbosity {
    /// Log more: -v debug, -vv everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet", help_heading = HEADING)]
    verbose: u8,
    /// Log errors only
    #[arg(short, long, global = true, help_heading = HEADING)]
    quiet: bool,
}

impl Verbosity {
    const fn filter(self) -> &'static str {
        match (self.quiet, self.verbose) {
            (true, _) => "error",
            (false, 0) => "info",
            (false, 1) => "debug",
            (false, _) => "trace",
        }
    }
}

/// Installs the process-wide subscriber. `CVSW_LOG` wins over `verbosity`.
pub fn init(verbosity: Verbosity) -> anyhow::Result<()> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).with_context(|| {
            format!("{FILTER_VARIABLE}={text:?} is not a log filter; use for example {FILTER_VARIABLE}=debug or {FILTER_VARIABLE}=info,cvsw_controller=trace")
        })?,
        _ => EnvFilter::new(verbosity.filter()),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|error| anyhow::anyhow!("cannot set up logging: {error}"))
}
