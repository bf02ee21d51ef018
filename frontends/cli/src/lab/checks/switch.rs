//! Does Open vSwitch hold only what forwards, and the backstop for control frames?

use crate::lab::build::Lab;
use crate::lab::ovs::Flow;
use crate::lab::report::Finding;
use anyhow::{Result, bail, ensure};
use serde_json::json;

/// More than this many flows per switch is not "few".
const FEW: usize = 4;

/// Reads the flows of every switch and judges them.
pub fn few_flows(lab: &Lab) -> Result<Finding> {
    let mut found = Vec::new();
    let mut counts = Vec::new();
    for (server, switch) in lab.topology.servers.iter().zip(&lab.switches) {
        let flows = switch.flows()?;
        judge(&flows).map_err(|error| error.context(format!("Open vSwitch of {}", server.name)))?;
        counts.push(format!("{} on {}", flows.len(), server.name));
        let rules: Vec<&str> = flows.iter().map(|flow| flow.rule.as_str()).collect();
        found.push(json!({ "server": server.name, "flows": rules }));
    }
    let rules = lab.switches[0].flows()?.into_iter().map(|flow| format!("\n  {}", flow.rule));
    let detail = format!("{}: forwarding and backstop only{}", counts.join(", "), rules.collect::<String>());
    Ok(Finding::with(detail, json!({ "switches": found })))
}

fn judge(flows: &[Flow]) -> Result<()> {
    let list = || flows.iter().map(|flow| format!("\n  {}", flow.rule)).collect::<String>();
    ensure!(flows.len() <= FEW, "{} flows, at most {FEW} expected:{}", flows.len(), list());
    ensure!(flows.iter().any(is_backstop), "no flow brings 0xABBA frames to the controller:{}", list());
    ensure!(flows.iter().any(is_forwarding), "no flow forwards ordinary frames:{}", list());
    let odd = flows.iter().find(|flow| !(is_backstop(flow) || is_forwarding(flow) || is_drop(flow)));
    if let Some(flow) = odd {
        bail!("this flow neither just forwards nor stops control frames: {}", flow.rule);
    }
    Ok(())
}

fn is_backstop(flow: &Flow) -> bool {
    flow.rule.contains("dl_type=0xabba") && flow.rule.contains(" actions=CONTROLLER")
}

fn is_forwarding(flow: &Flow) -> bool {
    flow.rule.ends_with(" actions=NORMAL")
}

fn is_drop(flow: &Flow) -> bool {
    flow.rule.ends_with(" actions=drop")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(rule: &str) -> Flow {
        Flow { rule: rule.to_owned(), packets: 1 }
    }

    #[test]
    fn only_forwarding_and_backstop_pass() {
        let backstop = flow("priority=1000,dl_type=0xabba actions=CONTROLLER:65535");
        let normal = flow("priority=1 actions=NORMAL");
        judge(&[backstop.clone(), normal.clone()]).unwrap();
        judge(std::slice::from_ref(&backstop)).unwrap_err();
        judge(std::slice::from_ref(&normal)).unwrap_err();
        let rewriting = flow("priority=9,ip actions=mod_nw_dst:10.1.1.1,NORMAL");
        judge(&[backstop.clone(), normal.clone(), rewriting]).unwrap_err();
        let output = flow("priority=9,in_port=1 actions=output:2");
        judge(&[backstop, normal, output]).unwrap_err();
    }
}
