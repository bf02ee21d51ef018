//! What the engine does with one frame, step by step, recorded for printing.
//!
//! Give a [`Recorder`] to [`cvsw_core::Cvsw::trace`], and make a [`Trace`] of what it has recorded.

mod association;
mod change;
mod fields;
mod frame;
mod parser;
mod steps;
pub mod text;

use std::fmt;

use anyhow::{bail, ensure};
use cvsw_core::flow::Direction;
use serde::Serialize;

pub use association::{Association, Known};
pub use frame::{empty_frame, load};
pub use parser::Parser;
pub use steps::{Recorder, Step};

/// Bytes in a line of a dump.
const DUMP_LINE: usize = 16;

/// A whole trace.
#[derive(Debug, Serialize)]
pub struct Trace {
    direction: &'static str,
    /// The frame as it came, in hexadecimal.
    #[serde(serialize_with = "as_hex")]
    input: Vec<u8>,
    steps: Vec<Step>,
    /// The frame as the last action left it, in hexadecimal.
    #[serde(serialize_with = "as_hex")]
    output: Vec<u8>,
}

impl Trace {
    /// A trace of the frame `input`, which these steps made `output`.
    pub fn new(direction: Direction, input: Vec<u8>, steps: Vec<Step>, output: &[u8]) -> Self {
        Self { direction: direction.name(), input, steps, output: output.to_vec() }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "frame: {}, {} bytes", self.direction, self.input.len())?;
        dump(f, &self.input)?;
        self.steps.iter().try_for_each(|step| write!(f, "{step}"))?;
        if self.output == self.input {
            return writeln!(f, "the frame is unchanged");
        }
        writeln!(f, "the frame now, {} bytes", self.output.len())?;
        dump(f, &self.output)
    }
}

fn as_hex<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text::hex(bytes))
}

/// Offsets and bytes in the form that `text2pcap` reads.
fn dump(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for (index, line) in bytes.chunks(DUMP_LINE).enumerate() {
        writeln!(f, "  {:04x}  {}", index * DUMP_LINE, text::spaced_hex(line))?;
    }
    Ok(())
}

/// Reads hexadecimal digits; blanks and colons are ignored.
///
/// # Errors
/// What is no digit, or that there are none, or not two for each byte.
pub fn parse_hex(digits: &str) -> anyhow::Result<Vec<u8>> {
    let mut nibbles = Vec::with_capacity(digits.len());
    for (index, char) in digits.chars().enumerate() {
        match char.to_digit(16) {
            Some(nibble) => nibbles.push(nibble as u8),
            None if char.is_whitespace() || char == ':' => {}
            None => bail!("character {} is {char:?}; expected a hexadecimal digit, a blank or a colon", index + 1),
        }
    }
    ensure!(!nibbles.is_empty(), "no digits; give the frame's bytes");
    ensure!(nibbles.len().is_multiple_of(2), "{} digits: the last byte is incomplete", nibbles.len());
    Ok(nibbles.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits() {
        assert_eq!(parse_hex("02:00 fF\n10").unwrap(), [2, 0, 0xff, 0x10]);
        assert_eq!(parse_hex("020").unwrap_err().to_string(), "3 digits: the last byte is incomplete");
        assert!(parse_hex("0g").unwrap_err().to_string().starts_with("character 2 is 'g'"));
        assert_eq!(parse_hex(" ").unwrap_err().to_string(), "no digits; give the frame's bytes");
    }
}
