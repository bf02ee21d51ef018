//! Pieces of text that several commands print.

use cvsw_core::flow::{Action, FlowMod, Match, text::DisplayFlow};

/// A flow in `ovs-ofctl` syntax.
pub fn flow(flow: &FlowMod) -> String {
    DisplayFlow(flow).to_string()
}

/// One action in `ovs-ofctl` syntax.
pub fn action(action: &Action) -> String {
    let mut flow_mod = FlowMod::default();
    // A list of one action fits: the capacity is a constant above 1.
    let _ = flow_mod.actions.push(*action);
    let text = flow(&flow_mod);
    text.split_once("actions=").map_or(text.clone(), |(_, action)| action.to_owned())
}

/// An entry's priority and match in `ovs-ofctl` syntax.
pub fn entry(priority: u16, cookie: u64, matching: &Match) -> String {
    let text = flow(&FlowMod { priority, cookie, matching: *matching, ..FlowMod::default() });
    let text = text.split_once("actions=").map_or(text.as_str(), |(matching, _)| matching);
    text.trim_end_matches([',', ' ']).to_owned()
}

/// Bytes as digits without separators.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes as digits, a space between two of them.
pub fn spaced_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
