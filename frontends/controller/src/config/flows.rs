//! A member's extra flows: text to flow, and what a managed vNIC's flow may not say.

use std::{collections::HashMap, ops::Range};

use cvsw_core::{
    control::MAX_FRAME_LEN,
    flow::{Action, Command, FLAG_SEND_FLOW_REM, FlowMod, OFPP_NONE, text::parse_flow},
    openflow::{decode_flow_mod, encode_flow_mod},
};
use toml::Spanned;

use super::{Network, diagnostic::Report, raw};
use crate::{
    derive::{self, EntryId},
    plan::is_timed,
};

/// Parses one extra flow; reports, and returns `None`, if a vNIC cannot have it.
pub(super) fn extra(value: &Spanned<String>, report: &mut Report<'_>) -> Option<FlowMod> {
    let flow = match parse_flow(value.get_ref()) {
        Ok(flow) => flow,
        Err(error) => {
            let span = inside(value, error.offset, error.len, report);
            let message = format!("this is not a flow: expected {} here", error.expected);
            report.error(span, message, "flows are written as for ovs-ofctl, with the ports HOST and NET");
            return None;
        }
    };
    if let Some((message, help)) = objection(&flow) {
        report.error(value.span(), message, help);
        return None;
    }
    let mut canonical = canonical(&flow);
    if let Ok(flow) = &mut canonical
        && is_timed(flow)
    {
        // So that the controller hears of its end, and does not take it for lost.
        flow.flags |= FLAG_SEND_FLOW_REM;
    }
    if let Err(message) = &canonical {
        report.error(value.span(), message, "the flow is sent to the vNIC as an OpenFlow message");
    }
    canonical.ok()
}

/// The flow as the vNIC will have it, and will list it: there and back through OpenFlow's own form, which has rules of
/// its own (a match without wildcards has the highest priority).
fn canonical(flow: &FlowMod) -> Result<FlowMod, String> {
    let mut message = [0; MAX_FRAME_LEN];
    let len = encode_flow_mod(flow, 0, &mut message).map_err(|error| error.to_string())?;
    decode_flow_mod(&message[..len]).map_err(|error| format!("a vNIC would refuse this flow: {error}"))
}

/// Why the controller cannot keep such a flow on a vNIC, and what to write instead.
fn objection(flow: &FlowMod) -> Option<(&'static str, &'static str)> {
    let other_port = |action: &Action| match action {
        Action::Output { port, .. } => *port != OFPP_NONE,
        Action::Enqueue { .. } => true,
        _ => false,
    };
    if flow.command != Command::Add {
        Some((
            "only flows that add an entry can be given",
            "remove the command; a flow that is not listed is deleted",
        ))
    } else if flow.cookie != 0 {
        Some(("the controller sets the cookies of its entries", "remove the cookie"))
    } else if flow.flags & !FLAG_SEND_FLOW_REM != 0 {
        Some(("a flag that a managed entry cannot have", "remove check_overlap"))
    } else if flow.actions.iter().any(other_port) {
        let help = "remove the output: a frame that is changed goes on in its direction; `drop` drops it";
        Some(("a vNIC has no ports to choose from", help))
    } else {
        None
    }
}

/// The bytes `offset..offset + len` of a string value, as a span of the file. A string with escapes has no such
/// simple relation; then it is the whole string.
fn inside(value: &Spanned<String>, offset: usize, len: usize, report: &Report<'_>) -> Range<usize> {
    let span = value.span();
    for quote in [3, 1] {
        let (start, end) = (span.start + quote, span.end.saturating_sub(quote));
        if start <= end && report.source(start..end) == value.get_ref() {
            return start + offset..start + offset + len;
        }
    }
    span
}

/// Reports extra flows with the priority and match of another flow of the same vNIC: one would replace the other.
pub(super) fn check_collisions(network: &Network, raw: &raw::Network, report: &mut Report<'_>) {
    for (member, raw) in network.members.iter().zip(&raw.member) {
        // With fewer flows than texts, some are wrong and reported already.
        if member.flows.is_empty() || member.flows.len() != raw.flows.len() {
            continue;
        }
        let derived: Vec<_> = derive::derived_flows(network, member);
        let mut taken: HashMap<EntryId, Option<Range<usize>>> =
            derived.iter().map(|flow| (EntryId::of(flow), None)).collect();
        for (flow, text) in member.flows.iter().zip(&raw.flows) {
            if let Some(other) = taken.insert(EntryId::of(flow), Some(text.span())) {
                let other = other.map_or_else(
                    || "a flow that the controller derives".to_owned(),
                    |span| format!("the flow at {}", report.place(&span)),
                );
                let message = format!("{other} has the same priority and match");
                report.error(text.span(), message, "change the priority, or the match, or remove one of them");
            }
        }
    }
}
