//! What an action changed in a frame, found by comparing the bytes before and after it.

use crate::text::spaced_hex;
use crate::{fields, parser::Parser};
use cvsw_core::flow::FlowKey;
use serde::Serialize;
use std::fmt;

/// Equal bytes between two changes of a frame that kept its length; fewer are shown as part of the change.
const SAME_CHANGE: usize = 2;

/// The difference between two states of a frame.
#[derive(Debug, Serialize)]
pub struct Change {
    length: Difference<usize>,
    fields: Vec<FieldChange>,
    bytes: Vec<ByteChange>,
}

#[derive(Debug, Serialize)]
struct Difference<T> {
    before: T,
    after: T,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct FieldChange {
    field: &'static str,
    /// Empty if the frame had no such field.
    before: String,
    /// Empty if the frame has no such field any more.
    after: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct ByteChange {
    /// From the start of the frame as it was.
    offset: usize,
    /// Bytes that went, in hexadecimal.
    before: String,
    /// Bytes that came in their place.
    after: String,
}

impl Change {
    /// Compares a frame with what it was, `key` being what the engine saw in it then.
    pub fn new(parser: &mut Parser, key: Option<&FlowKey>, before: &[u8], after: &[u8]) -> Self {
        let seen_after = parser.key(after);
        let fields = match (key, &seen_after) {
            (Some(before), Some(after)) => field_changes(before, after),
            _ => Vec::new(),
        };
        let length = Difference { before: before.len(), after: after.len() };
        Self { length, fields, bytes: byte_changes(before, after) }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        if self.length.before != self.length.after {
            writeln!(f, "    length       {} -> {}", self.length.before, self.length.after)?;
        }
        for FieldChange { field, before, after } in &self.fields {
            writeln!(f, "    {field:<12} {} -> {}", none(before), none(after))?;
        }
        for ByteChange { offset, before, after } in &self.bytes {
            let place = format!("byte {offset}");
            match (before.is_empty(), after.is_empty()) {
                (true, _) => writeln!(f, "    {place:<12} inserted {after}")?,
                (_, true) => writeln!(f, "    {place:<12} removed {before}")?,
                _ => writeln!(f, "    {place:<12} {before} -> {after}")?,
            }
        }
        Ok(())
    }
}

fn field_changes(before: &FlowKey, after: &FlowKey) -> Vec<FieldChange> {
    let (before, after) = (fields::of_key(before), fields::of_key(after));
    let value = |list: &[fields::Named], name| {
        list.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let mut names: Vec<_> = before.iter().chain(&after).map(|(name, _)| *name).collect();
    names.dedup();
    let mut changes: Vec<FieldChange> = Vec::new();
    for field in names {
        let change = FieldChange { field, before: value(&before, field), after: value(&after, field) };
        // How the frame came in is not a property of its bytes.
        let of_bytes = !matches!(field, "in_port" | "tun_id");
        if of_bytes && change.before != change.after && !changes.contains(&change) {
            changes.push(change);
        }
    }
    changes
}

fn byte_changes(before: &[u8], after: &[u8]) -> Vec<ByteChange> {
    // A header that went on or off in front may begin like what it covers; it is still one piece.
    let in_front = after.ends_with(before) || before.ends_with(after);
    let prefix = if in_front { 0 } else { before.iter().zip(after).take_while(|(a, b)| a == b).count() };
    let (before, after) = (&before[prefix..], &after[prefix..]);
    if before.len() == after.len() {
        return replaced(prefix, before, after);
    }
    let suffix = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
    vec![ByteChange {
        offset: prefix,
        before: spaced_hex(&before[..before.len() - suffix]),
        after: spaced_hex(&after[..after.len() - suffix]),
    }]
}

fn replaced(base: usize, before: &[u8], after: &[u8]) -> Vec<ByteChange> {
    let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
    for (index, _) in before.iter().zip(after).enumerate().filter(|(_, (a, b))| a != b) {
        match ranges.last_mut() {
            Some(range) if index < range.end + SAME_CHANGE => range.end = index + 1,
            _ => ranges.push(index..index + 1),
        }
    }
    ranges
        .into_iter()
        .map(|range| ByteChange {
            offset: base + range.start,
            before: spaced_hex(&before[range.clone()]),
            after: spaced_hex(&after[range]),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(offset: usize, before: &str, after: &str) -> ByteChange {
        ByteChange { offset, before: before.to_owned(), after: after.to_owned() }
    }

    #[test]
    fn replaced_bytes() {
        assert_eq!(
            byte_changes(&[1, 2, 3, 4, 5, 6], &[1, 9, 3, 4, 5, 8]),
            [change(1, "02", "09"), change(5, "06", "08")]
        );
        assert_eq!(byte_changes(&[1, 2, 3, 4], &[9, 2, 8, 4]), [change(0, "01 02 03", "09 02 08")]);
        assert_eq!(byte_changes(&[1, 2], &[1, 2]), []);
    }

    #[test]
    fn inserted_and_removed_bytes() {
        assert_eq!(byte_changes(&[1, 2, 3], &[1, 7, 8, 2, 3]), [change(1, "", "07 08")]);
        assert_eq!(byte_changes(&[1, 7, 8, 2, 3], &[1, 2, 3]), [change(1, "07 08", "")]);
        assert_eq!(byte_changes(&[1, 2, 3], &[1, 7, 1, 2, 3]), [change(0, "", "01 07")]);
        assert_eq!(byte_changes(&[1, 7, 1, 2, 3], &[1, 2, 3]), [change(0, "01 07", "")]);
    }
}
