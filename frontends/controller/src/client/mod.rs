//! The command line's side of the API: everything that it does, as subcommands of `cvsw`.

mod desired;
pub mod http;
mod live;

use std::{io::Write as _, process::ExitCode};

use anyhow::Context as _;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use desired::{ConfigCommand, FlowCommand, MemberCommand, NetCommand};
use http::{Answer, Client, Parts, Target};
use hyper::Method;
pub use live::{EventsArgs, KeyCommand, SwitchCommand, VnicCommand};

use crate::status::columns;

/// Arguments of a command that has subcommands.
#[derive(Clone, Debug, clap::Args)]
pub struct Args<C: clap::Subcommand> {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: C,
}

/// What a subcommand does with the API.
pub trait Run {
    /// Does it; what it prints it gives to `out`.
    fn run(self, client: &Client, out: &mut Out) -> impl Future<Output = anyhow::Result<()>>;
}

/// Runs a command of the API.
///
/// # Errors
/// The API cannot be reached, or refuses.
pub fn run<C: clap::Subcommand + Run>(args: Args<C>) -> anyhow::Result<ExitCode> {
    run_with(&args.target, args.command)
}

/// Runs `cvsw events`.
///
/// # Errors
/// As [`run`].
pub fn run_events(args: EventsArgs) -> anyhow::Result<ExitCode> {
    run_with(&args.target.clone(), args)
}

fn run_with(target: &Target, command: impl Run) -> anyhow::Result<ExitCode> {
    let client = Client::new(target)?;
    let mut out = Out { json: target.json };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(command.run(&client, &mut out))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints results: as the API gave them, or as tables.
pub struct Out {
    json: bool,
}

impl Out {
    /// Prints a document: its JSON, or what `table` makes of its meaning.
    fn answer<T: DeserializeOwned>(&self, answer: &Answer, table: impl FnOnce(T) -> String) -> anyhow::Result<()> {
        if self.json {
            let mut body = answer.body.to_vec();
            body.push(b'\n');
            return self.bytes(&body);
        }
        self.bytes(table(answer.read()?).as_bytes())
    }

    /// Prints a document that was put together from several answers, in the same way.
    fn document<T: Serialize>(&self, document: &T, table: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string(document)? + "\n" } else { table(document) };
        self.bytes(text.as_bytes())
    }

    /// Prints that something was done.
    fn done(&self, what: &str) -> anyhow::Result<()> {
        if self.json { Ok(()) } else { self.bytes(format!("{what}\n").as_bytes()) }
    }

    fn bytes(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }
}

/// Entries that are asked for at a time.
const PAGE: usize = 1000;

/// All pages of a list; `after` names an entry for the page behind it.
async fn pages<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    wanted: &[(&str, Option<String>)],
    after: impl Fn(&T) -> String,
) -> anyhow::Result<Vec<T>> {
    let mut all: Vec<T> = Vec::new();
    loop {
        let mut path = format!("{path}?limit={PAGE}");
        for (name, value) in wanted.iter().chain(&[("after", all.last().map(&after))]) {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", escape(value)));
            }
        }
        let page: Vec<T> = client.ask(Method::GET, &path, Parts::default()).await?.read()?;
        let full = page.len() == PAGE;
        all.extend(page);
        if !full {
            return Ok(all);
        }
    }
}

fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut text = String::new();
    columns(&mut text, head, rows);
    text
}

/// A document as indented JSON.
fn pretty<T: Serialize>(document: T) -> String {
    serde_json::to_string_pretty(&document).map(|text| text + "\n").unwrap_or_default()
}

/// A document for people: each of its fields with its value, those of what is inside with the way there.
fn facts<T: Serialize>(document: T) -> String {
    let mut rows = Vec::new();
    collect(String::new(), serde_json::to_value(document).unwrap_or_default(), &mut rows);
    table(["FIELD", "VALUE"], rows.into_iter())
}

fn collect(name: String, value: Value, rows: &mut Vec<[String; 2]>) {
    let inside = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.into_iter().for_each(|(key, value)| collect(inside(&key), value, rows));
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            (1..)
                .zip(items)
                .for_each(|(number, value): (usize, _)| collect(inside(&number.to_string()), value, rows));
        }
        Value::Array(items) => rows.push([name, shown(items.iter().map(plain).collect::<Vec<_>>().join(", "))]),
        Value::Object(_) | Value::Null => rows.push([name, shown(String::new())]),
        value => rows.push([name, shown(plain(&value))]),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn shown(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Puts a name into a path or a query.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_a_line() {
        let document = serde_json::json!({
            "name": "vm1", "mtu": 1450, "port": null, "flows": [], "offloads": ["csum", "gro"], "drops": {},
            "traffic": {"tx": {"bytes": 7}}, "errors": [{"field": "a"}, {"field": "b"}],
        });
        let text = facts(document);
        let rows: Vec<Vec<&str>> =
            text.lines().skip(1).map(|line| line.splitn(2, ' ').map(str::trim).collect()).collect();
        let expected = [
            ["drops", "-"],
            ["errors.1.field", "a"],
            ["errors.2.field", "b"],
            ["flows", "-"],
            ["mtu", "1450"],
            ["name", "vm1"],
            ["offloads", "csum, gro"],
            ["port", "-"],
            ["traffic.tx.bytes", "7"],
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn names_in_paths() {
        assert_eq!(escape("02:00:00:00:00:01"), "02:00:00:00:00:01");
        assert_eq!(escape("a/b c?ä"), "a%2Fb%20c%3F%C3%A4");
    }
}
