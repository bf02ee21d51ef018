//! What the person watching sees, and the machine-readable report of the same run.

use serde::Serialize;
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// What a check found when all was as it should be. A check that found otherwise is an error.
#[derive(Debug)]
pub struct Finding {
    /// One line for people.
    pub detail: String,
    /// The same for programs.
    pub data: Value,
}

impl Finding {
    /// A finding that its one line says completely.
    pub fn new(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), data: Value::Null }
    }

    /// A finding with figures.
    pub fn with(detail: impl Into<String>, data: Value) -> Self {
        Self { detail: detail.into(), data }
    }
}

/// A verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Not as it should be.
    Fail,
}

/// One step or check, finished.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// Stable name for programs.
    pub name: &'static str,
    /// What was done or asked.
    pub title: String,
    /// How it went.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// How long it took.
    pub seconds: f64,
    /// Figures.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub data: Value,
}

/// The whole run, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    /// Identifier of the laboratory.
    pub lab: &'a str,
    /// `pass` when every entry passed and nothing stopped the run.
    pub verdict: Verdict,
    /// Why the run stopped early, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether the laboratory was left up.
    pub kept: bool,
    /// How the laboratory is built.
    pub setting: &'a Value,
    /// Steps and checks in the order they ran.
    pub checks: &'a [Entry],
    /// Total time.
    pub seconds: f64,
}

/// Shows the run while it goes on and remembers it.
pub struct Reporter {
    json: bool,
    colour: bool,
    live: bool,
    started: Instant,
    /// Everything finished so far.
    pub entries: Vec<Entry>,
    /// How the laboratory is built, for the report.
    pub setting: Value,
}

impl Reporter {
    /// Text for people on standard output, or silence until the final JSON document.
    pub fn new(json: bool) -> Self {
        let terminal = std::io::stdout().is_terminal() && !json;
        Self {
            json,
            colour: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            live: terminal,
            started: Instant::now(),
            entries: Vec::new(),
            setting: Value::Null,
        }
    }

    /// A line of plain text.
    pub fn line(&self, text: &str) {
        if !self.json {
            say(&format!("{text}\n"));
        }
    }

    /// A heading over the entries that follow.
    pub fn heading(&self, text: &str) {
        self.line(&format!("\n{}", self.paint("1", text)));
    }

    /// Runs a step or check, shows it and its result. An error is also given back for the caller to judge.
    pub fn run(
        &mut self,
        name: &'static str,
        title: impl Into<String>,
        work: impl FnOnce() -> anyhow::Result<Finding>,
    ) -> anyhow::Result<()> {
        let title = title.into();
        if self.live {
            say(&format!("  .... {title}"));
        }
        let start = Instant::now();
        let result = work();
        let (verdict, detail, data) = match &result {
            Ok(finding) => (Verdict::Pass, finding.detail.clone(), finding.data.clone()),
            Err(error) => (Verdict::Fail, format!("{error:#}"), Value::Null),
        };
        let entry = Entry { name, title, verdict, detail, seconds: seconds(start.elapsed()), data };
        self.show(&entry);
        self.entries.push(entry);
        result.map(drop)
    }

    /// Whether every entry so far passed.
    pub fn all_passed(&self) -> bool {
        self.entries.iter().all(|entry| entry.verdict == Verdict::Pass)
    }

    /// The table of verdicts, or the JSON document.
    pub fn finish(&self, lab: &str, kept: bool, error: Option<&anyhow::Error>) {
        let passed = error.is_none() && self.all_passed();
        let verdict = if passed { Verdict::Pass } else { Verdict::Fail };
        if self.json {
            let error = error.map(|error| format!("{error:#}"));
            let seconds = seconds(self.started.elapsed());
            let setting = &self.setting;
            let summary = Summary { lab, verdict, error, kept, setting, checks: &self.entries, seconds };
            // Serialising plain strings, numbers and values that came from serde_json cannot fail.
            let text = serde_json::to_string_pretty(&summary).unwrap_or_default();
            say(&format!("{text}\n"));
            return;
        }
        self.heading("Verdict");
        for entry in &self.entries {
            self.line(&format!("  {} {:<22} {}", self.badge(entry.verdict), entry.name, entry.title));
        }
        let failed = self.entries.iter().filter(|entry| entry.verdict == Verdict::Fail).count();
        let total = self.entries.len();
        let took = self.started.elapsed().as_secs_f64();
        let outcome = if passed {
            format!("all {total} passed")
        } else if failed > 0 {
            format!("{failed} of {total} failed")
        } else {
            "stopped before the end".to_owned()
        };
        self.line(&format!("\n{} {outcome}, in {took:.1} s", self.badge(verdict)));
    }

    fn show(&self, entry: &Entry) {
        let erase = if self.live { "\r\x1b[K" } else { "" };
        let detail = entry.detail.replace('\n', "\n         ");
        let time = self.paint("2", &format!("{:6.2} s", entry.seconds));
        self.line(&format!("{erase}  {} {time}  {}: {detail}", self.badge(entry.verdict), entry.title));
    }

    fn badge(&self, verdict: Verdict) -> String {
        match verdict {
            Verdict::Pass => self.paint("32", "PASS"),
            Verdict::Fail => self.paint("1;31", "FAIL"),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Writes to standard output. A reader that went away does not stop the run: teardown matters more.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_fails_the_run_and_is_remembered() {
        let mut report = Reporter::new(true);
        report.run("one", "first", || Ok(Finding::new("fine"))).unwrap();
        assert!(report.all_passed());
        report.run("two", "second", || anyhow::bail!("broken")).unwrap_err();
        assert!(!report.all_passed());
        assert_eq!(report.entries.len(), 2);
        assert_eq!(report.entries[1].detail, "broken");
    }
}
