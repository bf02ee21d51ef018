//! Pieces of text that several commands print.

pub use cvsw_trace::text::*;

/// `1 frame`, `2 frames`.
pub fn plural(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
