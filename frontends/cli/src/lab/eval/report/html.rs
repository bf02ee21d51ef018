//! The page.

use super::super::result::{Conditions, Evaluation};
use super::plot::Plot;
use super::tables::{self, Kind, Table};
use super::verdicts::{self, Verdict};
use anyhow::Result;
use askama::Template;

#[derive(Template)]
#[template(path = "evaluation.html")]
struct Page<'a> {
    conditions: &'a Conditions,
    verdicts: Vec<Verdict>,
    plots: &'a [Plot],
    tables: Vec<Table>,
    errors: Vec<(String, &'a str)>,
}

impl Page<'_> {
    /// Style of a row.
    fn class(kind: &Kind) -> &'static str {
        match kind {
            Kind::Measured => "measured",
            Kind::Paper => "paper",
            Kind::Ratio => "ratio",
        }
    }
}

/// The whole report as one file that needs no other.
pub fn page(evaluation: &Evaluation, plots: &[Plot]) -> Result<String> {
    let errors = evaluation.cells.iter().flat_map(|cell| {
        let name = format!("{}, {} pairs, {}", cell.setup, cell.pairs, cell.load);
        cell.errors.iter().map(move |error| (name.clone(), error.as_str()))
    });
    let page = Page {
        conditions: &evaluation.conditions,
        verdicts: verdicts::all(evaluation),
        plots,
        tables: tables::all(evaluation),
        errors: errors.collect(),
    };
    Ok(page.render()?)
}
