//! The tables of the report.

use super::super::cpu::Seconds;
use super::super::paper;
use super::super::plan::{self, Load, Setup, Underlay, Way};
use super::super::result::{Cell, Evaluation};
use super::super::stats::{Summary, readable};
use super::projection;

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Measured here.
    Measured,
    /// From the paper.
    Paper,
    /// A ratio of two rows.
    Ratio,
}

/// A row.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is about.
    pub label: String,
    /// What it is.
    pub kind: Kind,
    /// One text a column.
    pub cells: Vec<String>,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Title.
    pub title: String,
    /// How to read it.
    pub note: String,
    /// Titles of the columns behind the label.
    pub columns: Vec<String>,
    /// Rows.
    pub rows: Vec<Row>,
}

/// All tables for which there are figures.
pub fn all(evaluation: &Evaluation) -> Vec<Table> {
    let groups = plan::groups();
    let throughput = groups.iter().filter_map(|group| throughput(evaluation, group));
    let totals = groups.iter().filter_map(|group| totals(evaluation, group));
    let cpu = groups.iter().filter_map(|group| cpu(evaluation, group));
    let loss = groups.iter().filter_map(|group| loss(evaluation, group));
    throughput
        .chain(totals)
        .chain(projection::table(evaluation))
        .chain(cpu)
        .chain(loss)
        .chain(latency(evaluation))
        .collect()
}

/// Nothing was measured here.
const NONE: &str = "–";

fn loads(evaluation: &Evaluation, group: &plan::Group) -> Vec<Load> {
    let mut loads: Vec<Load> = Vec::new();
    for cell in evaluation.cells.iter().filter(|cell| cell.group == group.name) {
        if !loads.contains(&cell.load) {
            loads.push(cell.load);
        }
    }
    loads
}

fn measured(evaluation: &Evaluation, group: &plan::Group) -> Vec<(Setup, u8)> {
    let both = group.pairs.iter().flat_map(|pairs| group.setups.iter().map(move |setup| (*setup, *pairs)));
    both.filter(|(setup, pairs)| evaluation.cells.iter().any(|cell| (cell.setup, cell.pairs) == (*setup, *pairs)))
        .collect()
}

fn label(setup: Setup, pairs: u8) -> String {
    if pairs == 1 { setup.title() } else { format!("{}, {pairs} pairs", setup.title()) }
}

fn throughput(evaluation: &Evaluation, group: &plan::Group) -> Option<Table> {
    let loads = loads(evaluation, group);
    let mut rows = Vec::new();
    for (setup, pairs) in measured(evaluation, group) {
        let cells = loads.iter().map(|load| {
            let mean = evaluation.cell(setup, pairs, *load).and_then(Cell::mean);
            mean.map_or(NONE.to_owned(), |mean| with_spread(&mean))
        });
        rows.push(Row { label: label(setup, pairs), kind: Kind::Measured, cells: cells.collect() });
        if paper::row(setup, pairs).is_some() {
            let figure = |load: &Load| paper::figure(setup, pairs, *load).map_or(NONE.to_owned(), readable);
            let cells = loads.iter().map(figure).collect();
            rows.push(Row { label: "the paper".to_owned(), kind: Kind::Paper, cells });
        }
        if let Some(other) = other(setup) {
            rows.extend(ratios(evaluation, setup, other, pairs, &loads));
        }
    }
    let per = if group.pairs.len() > 1 { ", per pair" } else { "" };
    let note = format!("Mbit/s at the receiver{per}: median ± half the distance between the least and the most.");
    let columns = loads.iter().map(ToString::to_string).collect();
    (!rows.is_empty()).then(|| Table { title: group.title.to_owned(), note, columns, rows })
}

/// All pairs together, and how many times more that is than with the fewest pairs.
fn totals(evaluation: &Evaluation, group: &plan::Group) -> Option<Table> {
    let loads = loads(evaluation, group);
    let [least, .., most] = *group.pairs else { return None };
    let mut rows = Vec::new();
    for setup in &group.setups {
        let row = |label: String, kind, cell: &dyn Fn(Load) -> Option<String>| {
            let cells: Vec<_> = loads.iter().map(|load| cell(*load)).collect();
            let texts = cells.iter().map(|text| text.clone().unwrap_or(NONE.to_owned())).collect();
            cells.iter().any(Option::is_some).then_some(Row { label, kind, cells: texts })
        };
        for pairs in group.pairs {
            rows.extend(row(label(*setup, *pairs), Kind::Measured, &|load| {
                evaluation.total(*setup, *pairs, load).map(readable)
            }));
        }
        rows.extend(row(format!("from {least} to {most} pairs"), Kind::Ratio, &|load| {
            let (few, many) = (evaluation.total(*setup, least, load)?, evaluation.total(*setup, most, load)?);
            (few > 0.0).then(|| format!("× {:.2}", many / few))
        }));
    }
    let note = "Mbit/s at the receivers, all pairs together: medians.".to_owned();
    let title = format!("Totals. {}", group.title);
    let columns = loads.iter().map(ToString::to_string).collect();
    (!rows.is_empty()).then_some(Table { title, note, columns, rows })
}

/// A ratio as people read it.
pub fn times(ratio: f64) -> String {
    if ratio.is_finite() { format!("{ratio:.2}") } else { "\u{221e}".to_owned() }
}

/// What a setup is to be compared with.
fn other(setup: Setup) -> Option<Setup> {
    use plan::Work;
    match (setup.underlay, setup.way, setup.work) {
        (Underlay::Switch | Underlay::Shares, Way::Existing, _) => Some(Setup { way: Way::Proposed, ..setup }),
        (Underlay::Cable, Way::Proposed, Work::Rewrite | Work::Vlan) => {
            Some(Setup::cable(Work::Null, Way::Proposed))
        }
        (Underlay::Cable, Way::ProposedAfXdp, work) => Some(Setup::cable(work, Way::Proposed)),
        (Underlay::Cable, Way::Linux, Work::Vxlan) => Some(Setup::cable(Work::Vxlan, Way::Proposed)),
        (Underlay::Cable, Way::WireguardGo | Way::Boringtun, work) => Some(Setup::cable(work, Way::Proposed)),
        _ => None,
    }
}

/// Ratios of CVSW to what it is compared with: ours, and the paper's. `one` and `two` are in either order.
fn ratios(evaluation: &Evaluation, one: Setup, two: Setup, pairs: u8, loads: &[Load]) -> Vec<Row> {
    let swap = one.way == Way::Proposed;
    let (new, old) = if swap { (one, two) } else { (two, one) };
    let row = |label: String, ratio: &dyn Fn(Load) -> Option<f64>| {
        let cells: Vec<_> = loads.iter().map(|load| ratio(*load)).collect();
        let texts = cells.iter().map(|ratio| ratio.map_or(NONE.to_owned(), times));
        cells.iter().any(Option::is_some).then(|| Row { label, kind: Kind::Ratio, cells: texts.collect() })
    };
    let against = if swap { "to null processing" } else { "CVSW to this" };
    let measured = row(format!("ratio, {against}"), &|load| evaluation.ratio(new, old, pairs, load));
    let papers = row("the paper's ratio".to_owned(), &|load| {
        Some(paper::figure(new, pairs, load)? / paper::figure(old, pairs, load)?)
    });
    measured.into_iter().chain(papers).collect()
}

fn with_spread(summary: &Summary) -> String {
    format!("{} ± {}", readable(summary.median), readable((summary.max - summary.min) / 2.0))
}

fn cpu(evaluation: &Evaluation, group: &plan::Group) -> Option<Table> {
    let loads = loads(evaluation, group);
    let mut rows = Vec::new();
    for (setup, pairs) in measured(evaluation, group) {
        let cells = loads.iter().map(|load| {
            let used = evaluation.cell(setup, pairs, *load).and_then(Cell::cpu_per_gigabyte);
            used.map_or(NONE.to_owned(), |used| shares(&used))
        });
        rows.push(Row { label: label(setup, pairs), kind: Kind::Measured, cells: cells.collect() });
    }
    let note =
        "Seconds per gigabyte received: switch / VMs' vNICs or tunnels / sender and receiver / all else of the \
                machine (interrupts, kernel threads). What the kernel does in a system call counts for its caller."
            .to_owned();
    let title = format!("Processor time. {}", group.title);
    let columns = loads.iter().map(ToString::to_string).collect();
    (!rows.is_empty()).then_some(Table { title, note, columns, rows })
}

fn shares(used: &Seconds) -> String {
    [used.switch, used.vnic, used.application, used.other].map(readable).join(" / ")
}

fn loss(evaluation: &Evaluation, group: &plan::Group) -> Option<Table> {
    let mut loads = loads(evaluation, group);
    loads.retain(|load| *load != Load::Tcp);
    let mut rows = Vec::new();
    for (setup, pairs) in measured(evaluation, group) {
        let cells = loads.iter().map(|load| {
            let lost = evaluation.cell(setup, pairs, *load).and_then(Cell::lost);
            lost.map_or(NONE.to_owned(), |lost| readable(lost.median))
        });
        rows.push(Row { label: label(setup, pairs), kind: Kind::Measured, cells: cells.collect() });
    }
    let note =
        "Percent of the datagrams up to the last that arrived, median; \"\u{2013}\": none arrived. Senders do not slow \
                down for the way: loss is what they offer beyond what it carries."
            .to_owned();
    let title = format!("Loss. {}", group.title);
    let columns = loads.iter().map(ToString::to_string).collect();
    (!rows.is_empty() && !loads.is_empty()).then_some(Table { title, note, columns, rows })
}

fn latency(evaluation: &Evaluation) -> Option<Table> {
    let rows = evaluation.latencies.iter().map(|latency| {
        let times = [latency.p50, latency.p90, latency.p99, latency.p999].map(readable);
        let counts = [latency.count.to_string(), latency.lost.to_string()];
        Row {
            label: latency.setup.to_string(),
            kind: Kind::Measured,
            cells: times.into_iter().chain(counts).collect(),
        }
    });
    let rows: Vec<Row> = rows.collect();
    let columns = ["50 %", "90 %", "99 %", "99.9 %", "round trips", "lost"].map(str::to_owned).to_vec();
    let note =
        "Microseconds there and back for one small UDP datagram at a time, idle otherwise: so many percent took \
                no longer."
            .to_owned();
    (!rows.is_empty()).then(|| Table { title: "Latency".to_owned(), note, columns, rows })
}
