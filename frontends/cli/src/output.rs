//! What a command says on standard output.

use serde::Serialize;
use std::{
    fmt,
    io::{self, Write},
};

/// Prints a report: as text for people, or as one JSON document.
pub fn report<T: Serialize + fmt::Display>(report: &T, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    out.flush()?;
    Ok(())
}
