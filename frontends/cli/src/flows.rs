//! `cvsw flows`: flow text.

use crate::{engine, output, text};
use anyhow::Context;
use cvsw_core::{Config, Instant, flow::Match};
use cvsw_userspace::flows_file::{self, FileFlow, FlowsError, FlowsFile, SyntaxError};
use serde::Serialize;
use std::{fmt, path::PathBuf, process::ExitCode};

const EXAMPLES: &str = "\
Examples:
  cvsw flows check tenant.flows
  echo 'priority=100,in_port=HOST,tcp,tp_dst=80,actions=mod_tp_dst:8080' | cvsw flows check -

Flow syntax is that of ovs-ofctl, with HOST (the VM's side) and NET as port names, and
  set_vxlan(vni=42,src=192.0.2.1,dst=192.0.2.2,eth_src=MAC,eth_dst=MAC)
  strip_vxlan(vni=42)
as tunnel actions. `#` starts a comment.";

/// Arguments of `cvsw flows`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct FlowsArgs {
    #[command(subcommand)]
    command: FlowsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum FlowsCommand {
    /// Parse flows, let an engine compile them, and print them in canonical form
    #[command(after_help = EXAMPLES)]
    Check {
        /// File with one flow a line; `-` is standard input
        file: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

/// Runs `cvsw flows`.
pub fn run(args: FlowsArgs) -> anyhow::Result<ExitCode> {
    let FlowsCommand::Check { file, json } = args.command;
    let report = check(&file)?;
    if !json {
        for error in &report.errors {
            eprintln!("{}", error.text);
        }
        for warning in &report.warnings {
            eprintln!("{warning}");
        }
    }
    output::report(&report, json)?;
    Ok(if report.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was found in a file.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    /// Empty if there are syntax errors.
    flows: Vec<Flow>,
    errors: Vec<Problem>,
    warnings: Vec<Warning>,
}

#[derive(Debug, Serialize)]
struct Flow {
    line: usize,
    priority: u16,
    flow: String,
}

/// Something that makes the file unusable.
#[derive(Debug, Serialize)]
struct Problem {
    line: usize,
    column: usize,
    message: String,
    #[serde(skip)]
    text: String,
}

/// Something that is probably not meant.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Warning {
    file: String,
    line: usize,
    other_line: usize,
    kind: WarningKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum WarningKind {
    /// Same match and priority: the later line replaces the earlier one.
    Duplicate,
    /// A higher priority takes all its frames.
    Shadowed,
    /// Same priority, some frames match both.
    Ambiguous,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let other = self.other_line;
        write!(f, "{}:{}:1: warning: ", self.file, self.line)?;
        match self.kind {
            WarningKind::Duplicate => write!(f, "replaces line {other}, which has the same match and priority"),
            WarningKind::Shadowed => {
                write!(f, "never applies: line {other} matches the same frames with a higher priority")
            }
            WarningKind::Ambiguous => {
                write!(f, "some frames match line {other} too; of equal priorities, either may win")
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.flows.iter().try_for_each(|flow| writeln!(f, "{}", flow.flow))
    }
}

fn check(path: &std::path::Path) -> anyhow::Result<Report> {
    let mut report = Report { file: String::new(), flows: Vec::new(), errors: Vec::new(), warnings: Vec::new() };
    let file = match flows_file::load(path) {
        Ok(file) => file,
        Err(FlowsError::Syntax(errors)) => {
            report.file = errors.first().map(|error| error.name.clone()).unwrap_or_default();
            report.errors = errors.iter().map(syntax_problem).collect();
            return Ok(report);
        }
        Err(error) => return Err(error).context("cannot read the flows"),
    };
    let mut engine = engine::new_engine(&Config::default())?;
    match file.install(&mut engine, Instant::ZERO) {
        Ok(()) => {}
        Err(FlowsError::Refused(refused)) => {
            report.errors.extend(refused.iter().map(|flow| Problem {
                line: flow.line,
                column: 1,
                message: flow.error.to_string(),
                text: flow.to_string(),
            }));
        }
        Err(error) => return Err(error.into()),
    }
    report.flows = file
        .flows
        .iter()
        .map(|FileFlow { line, flow }| Flow { line: *line, priority: flow.priority, flow: text::flow(flow) })
        .collect();
    report.warnings = warnings(&file);
    report.file = file.name;
    Ok(report)
}

fn syntax_problem(error: &SyntaxError) -> Problem {
    Problem {
        line: error.line,
        column: error.column,
        message: format!("expected {}", error.expected),
        text: error.to_string(),
    }
}

/// At most one warning a line: the gravest of the first other line that gives one.
fn warnings(file: &FlowsFile) -> Vec<Warning> {
    let mut found = Vec::new();
    for (index, flow) in file.flows.iter().enumerate() {
        let earlier = file.flows[..index].iter().map(|other| (other, true));
        let later = file.flows[index + 1..].iter().map(|other| (other, false));
        let relation = earlier.chain(later).filter_map(|(other, before)| {
            let kind = relate(flow, other, before)?;
            Some((kind as u8, other.line, kind))
        });
        if let Some((_, other_line, kind)) = relation.min() {
            found.push(Warning { file: file.name.clone(), line: flow.line, other_line, kind });
        }
    }
    found
}

/// What is wrong with `flow` because of `other`, which stands `before` it or after.
fn relate(flow: &FileFlow, other: &FileFlow, before: bool) -> Option<WarningKind> {
    let (ours, theirs): (&Match, &Match) = (&flow.flow.matching, &other.flow.matching);
    if other.flow.priority > flow.flow.priority {
        return theirs.contains(ours).then_some(WarningKind::Shadowed);
    }
    if other.flow.priority < flow.flow.priority || !before {
        return None;
    }
    if ours == theirs {
        return Some(WarningKind::Duplicate);
    }
    let harmless = flow.flow.actions == other.flow.actions;
    (ours.overlaps(theirs) && !harmless).then_some(WarningKind::Ambiguous)
}
