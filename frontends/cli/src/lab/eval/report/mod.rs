//! The report: tables and verdicts from the figures, written as HTML, Markdown, CSV, SVG, PNG and JSON.

mod html;
mod plot;
mod png;
mod projection;
mod spreadsheet;
mod tables;
mod verdicts;

use super::result::Evaluation;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use tables::{Kind, Table};
use verdicts::Verdict;

/// Writes every file of the report into `folder`, which is made if need be.
pub fn write(evaluation: &Evaluation, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    let put = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))
    };
    put("evaluation.json", &serde_json::to_vec_pretty(evaluation)?)?;
    put("cells.csv", spreadsheet::csv(evaluation)?.as_bytes())?;
    let plots = plot::all(evaluation)?;
    let painter = png::Painter::new();
    for plot in &plots {
        put(&format!("{}.svg", plot.name), plot.svg.as_bytes())?;
        put(&format!("{}.png", plot.name), &painter.png(&plot.svg)?)?;
    }
    put("report.html", html::page(evaluation, &plots)?.as_bytes())?;
    put("summary.md", summary(evaluation).as_bytes())
}

/// The verdicts and the tables of throughput, as Markdown.
pub fn summary(evaluation: &Evaluation) -> String {
    let conditions = &evaluation.conditions;
    let mut text = format!(
        "Measured {} by `{}`: median of {} runs of {} s, Mbit/s at the receiver.\n\n",
        conditions.date, conditions.command, conditions.runs, conditions.seconds
    );
    for (what, which) in &conditions.facts {
        let _ = writeln!(text, "- {what}: {which}");
    }
    text.push_str("\n| question | answer | figures |\n|---|---|---|\n");
    for Verdict { question, holds, figures } in verdicts::all(evaluation) {
        let answer = if holds { "yes" } else { "**no**" };
        let _ = writeln!(text, "| {question} | {answer} | {figures} |");
    }
    for table in tables::all(evaluation) {
        let _ = write!(text, "\n{}", markdown(&table));
    }
    text
}

fn markdown(table: &Table) -> String {
    let mut text = format!("**{}**\n\n{}\n\n| |", table.title, table.note);
    for column in &table.columns {
        let _ = write!(text, " {column} |");
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(table.columns.len()));
    for row in &table.rows {
        let label = match row.kind {
            Kind::Measured => row.label.clone(),
            Kind::Paper | Kind::Ratio => format!("*{}*", row.label),
        };
        let _ = writeln!(text, "| {label} | {} |", row.cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::cpu::Seconds;
    use super::super::plan::{self, Load, Setup, Way};
    use super::super::result::{Cell, Conditions, Latency, Sample};
    use super::*;

    /// Everything that can be measured, with figures that only depend on who does the work.
    pub fn sample_evaluation() -> Evaluation {
        let mut evaluation = Evaluation {
            conditions: Conditions {
                date: "2026-01-02 03:04 UTC".into(),
                command: "cvsw lab eval <& \"quoted\">".into(),
                facts: vec![("kernel".into(), "Linux 6.18".into())],
                seconds: 1,
                runs: 3,
            },
            ..Evaluation::default()
        };
        for group in plan::groups() {
            for (setup, pairs, load) in cells_of(&group) {
                let rate = if setup.way == Way::Proposed { 200.0 } else { 100.0 };
                let sample = |factor: f64| Sample {
                    mbit_per_second: vec![rate * factor; pairs.into()],
                    lost_percent: (load != Load::Tcp).then_some(1.5),
                    retransmits: None,
                    cpu: Seconds { switch: 1.0, vnic: 2.0, application: 3.0, other: 0.5 },
                };
                let samples = [0.5, 1.0, 1.5].map(sample).to_vec();
                let (group, errors) = (group.name.to_owned(), Vec::new());
                evaluation.cells.push(Cell { group, setup, pairs, load, seconds: 1, samples, errors });
            }
            for setup in group.setups {
                let (p50, p90, p99, p999) = (40.0, 50.0, 60.0, 99.0);
                evaluation.latencies.push(Latency { setup, count: 10, lost: 0, p50, p90, p99, p999 });
            }
        }
        evaluation
    }

    fn cells_of(group: &plan::Group) -> Vec<(Setup, u8, Load)> {
        let pairs = |setup: Setup| group.pairs.iter().map(move |pairs| (setup, *pairs));
        let cells = group.setups.iter().flat_map(|setup| pairs(*setup));
        cells.flat_map(|(setup, pairs)| Load::all().map(move |load| (setup, pairs, load))).collect()
    }

    #[test]
    fn where_nothing_arrived_nothing_is_said_of_loss() {
        let mut cell = sample_evaluation().cells.into_iter().find(|cell| cell.load != Load::Tcp).unwrap();
        assert_eq!(cell.lost().unwrap().median, 1.5);
        for sample in &mut cell.samples {
            sample.mbit_per_second.fill(0.0);
            sample.lost_percent = Some(0.0);
        }
        assert!(cell.lost().is_none());
    }

    #[test]
    fn a_report_holds_every_figure_and_survives_a_round_trip() {
        let evaluation = sample_evaluation();
        let folder = tempfile::tempdir().unwrap();
        write(&evaluation, folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let again: Evaluation = serde_json::from_str(&read("evaluation.json")).unwrap();
        assert!(again == evaluation, "{}", read("evaluation.json"));
        assert_eq!(read("cells.csv").lines().count(), evaluation.cells.len() + 1);
        let page = read("report.html");
        assert!(page.contains("cvsw lab eval &#60;&#38; &#34;quoted&#34;&#62;"), "escaped");
        assert!(
            !page.contains("http://")
                || page.matches("http://").count() == page.matches("http://www.w3.org").count()
        );
        assert!(page.matches("<svg").count() >= 3 && page.contains("Figure 5"));
        // The paper's figures stand beside ours.
        assert!(page.contains("96.1") && read("summary.md").contains("96.1"));
        assert!(read("figure5.svg").starts_with("<svg"));
        assert!(fs::read(folder.path().join("figure5.png")).unwrap().starts_with(b"\x89PNG"));
    }

    #[test]
    fn verdicts_follow_the_figures() {
        let mut evaluation = sample_evaluation();
        let holds = |evaluation: &Evaluation, text: &str| {
            let all = verdicts::all(evaluation);
            all.into_iter().find(|verdict| verdict.question.contains(text)).expect(text).holds
        };
        assert!(holds(&evaluation, "kernel"));
        assert!(holds(&evaluation, "wireguard-go"));
        for cell in &mut evaluation.cells {
            if cell.setup == Setup::cable(plan::Work::Vxlan, Way::Proposed) && cell.load == Load::Udp(512) {
                cell.samples.iter_mut().for_each(|sample| sample.mbit_per_second = vec![89.0]);
            }
        }
        assert!(!holds(&evaluation, "kernel"));
    }

    #[test]
    fn the_second_claim_is_measured_projected_and_grounded() {
        let mut evaluation = sample_evaluation();
        let answers = |evaluation: &Evaluation| -> Vec<bool> {
            let all = verdicts::all(evaluation).into_iter();
            all.filter(|verdict| verdict.question.contains("second claim")).map(|verdict| verdict.holds).collect()
        };
        // Every pair has the same rate, so every total rises; a gigabyte of the proposed way costs half as much, as
        // twice as much of it arrives in the same processor time; and the VMs are what is busy.
        assert_eq!(answers(&evaluation), [true, false, true, true, true, false]);
        for cell in &mut evaluation.cells {
            let pairs = f64::from(cell.pairs);
            for sample in &mut cell.samples {
                if cell.setup == Setup::shares(plan::Work::AesCtr, Way::Existing) {
                    sample.mbit_per_second.iter_mut().for_each(|rate| *rate /= pairs);
                }
                if cell.setup == Setup::switch(plan::Work::AesCtr, Way::Existing) {
                    sample.cpu.switch = 10.0;
                }
            }
        }
        assert_eq!(answers(&evaluation), [true; 6]);
        assert!(summary(&evaluation).contains("forwarding free, 4 pairs"));
    }

    #[test]
    fn runs_add_up_and_the_later_figure_counts() {
        let (mut first, mut second) = (sample_evaluation(), sample_evaluation());
        first.cells.retain(|cell| cell.group != "cable");
        second.cells.retain(|cell| cell.group == "cable" || cell.group == "table5");
        second.cells.iter_mut().for_each(|cell| cell.seconds = 7);
        second.conditions.facts.push(("relay".into(), "another".into()));
        let joined = first.joined(second);
        let sorted = |evaluation: &Evaluation| {
            let mut names: Vec<String> = evaluation
                .cells
                .iter()
                .map(|cell| format!("{} {} {}", cell.setup, cell.pairs, cell.load))
                .collect();
            names.sort();
            names
        };
        assert_eq!(sorted(&joined), sorted(&sample_evaluation()));
        assert!(
            joined
                .cells
                .iter()
                .all(|cell| (cell.seconds == 7) == (cell.group == "cable" || cell.group == "table5"))
        );
        assert_eq!(joined.latencies.len(), sample_evaluation().latencies.len());
        assert_eq!(joined.conditions.facts.len(), 2);
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        let evaluation = Evaluation::default();
        let text = summary(&evaluation);
        assert!(verdicts::all(&evaluation).is_empty() && tables::all(&evaluation).is_empty(), "{text}");
        assert!(plot::all(&evaluation).unwrap().is_empty());
    }
}
