//! The figures for spreadsheets.

use super::super::cpu::Seconds;
use super::super::result::{Cell, Evaluation};
use super::super::stats::Summary;
use anyhow::Result;

const COLUMNS: [&str; 14] = [
    "group",
    "setup",
    "pairs",
    "load",
    "runs",
    "total_mbit_median",
    "total_mbit_min",
    "total_mbit_max",
    "spread_percent",
    "lost_percent_median",
    "cpu_s_per_gb_switch",
    "cpu_s_per_gb_vnic",
    "cpu_s_per_gb_application",
    "cpu_s_per_gb_other",
];

/// One line a cell; what was not measured is empty.
pub fn csv(evaluation: &Evaluation) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for cell in &evaluation.cells {
        writer.write_record(record(cell))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

fn record(cell: &Cell) -> [String; COLUMNS.len()] {
    let (total, cpu) = (cell.total(), cell.cpu_per_gigabyte());
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.3}"));
    let of = |part: fn(&Summary) -> f64| number(total.as_ref().map(part));
    let seconds = |part: fn(&Seconds) -> f64| number(cpu.as_ref().map(part));
    [
        cell.group.clone(),
        cell.setup.to_string(),
        cell.pairs.to_string(),
        cell.load.to_string(),
        cell.samples.len().to_string(),
        of(|total| total.median),
        of(|total| total.min),
        of(|total| total.max),
        of(Summary::spread_percent),
        number(cell.lost().map(|lost| lost.median)),
        seconds(|cpu| cpu.switch),
        seconds(|cpu| cpu.vnic),
        seconds(|cpu| cpu.application),
        seconds(|cpu| cpu.other),
    ]
}
