//! Questions that a reader wants answered at a glance: the paper's two claims, and the project's goals.

use super::super::plan::{Load, PAIRS, Setup, Way, Work};
use super::super::result::Evaluation;

/// An answer.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What was asked.
    pub question: String,
    /// Whether it is so.
    pub holds: bool,
    /// The figures that say so.
    pub figures: String,
}

/// "No overhead": at most this much below.
const NO_OVERHEAD: f64 = 0.97;
/// Beside the kernel's own device.
const NEAR_KERNEL: f64 = 0.9;
/// Beside WireGuard in userspace.
const ABOVE_WIREGUARD: f64 = 1.5;

/// All questions for which there are figures.
pub fn all(evaluation: &Evaluation) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let light = [Work::Null, Work::Rewrite, Work::Vlan];
    for work in light {
        let (new, old) = (Setup::switch(work, Way::Proposed), Setup::switch(work, Way::Existing));
        let question =
            format!("The paper's first claim: {} in the vNIC costs nothing (≥ 0.97 of existing)", work.title());
        verdicts.extend(compare(evaluation, question, new, old, 1, NO_OVERHEAD));
    }
    verdicts.extend(rises(evaluation));
    let cable = |work| Setup::cable(work, Way::Proposed);
    for work in &light[1..] {
        let question = format!("On the cable: {} within 3 % of null processing", work.title());
        verdicts.extend(compare(evaluation, question, cable(*work), cable(Work::Null), 1, NO_OVERHEAD));
    }
    let kernel = Setup::cable(Work::Vxlan, Way::Linux);
    let question = "On the cable: VXLAN at least 0.9 of the kernel's device".to_owned();
    verdicts.extend(compare(evaluation, question, cable(Work::Vxlan), kernel, 1, NEAR_KERNEL));
    for way in [Way::WireguardGo, Way::Boringtun] {
        let peer = Setup::cable(Work::AesGcm, way);
        let question = format!("On the cable: VXLAN + AES-GCM at least 1.5 of {}", peer.title());
        verdicts.extend(compare(evaluation, question, cable(Work::AesGcm), peer, 1, ABOVE_WIREGUARD));
    }
    for (work, pairs) in [(Work::Vxlan, 1), (Work::AesCtr, 2), (Work::AesGcm, 2)] {
        let (new, old) = (Setup::switch(work, Way::Proposed), Setup::switch(work, Way::Existing));
        let question = format!("Through Open vSwitch, {pairs} pairs: {} proposed above existing", work.title());
        verdicts.extend(compare(evaluation, question, new, old, pairs, 1.0));
    }
    verdicts
}

/// Whether `new` reaches `least` times `old` under every load that was measured; the goals for several pairs begin at
/// 512 octets.
fn compare(
    evaluation: &Evaluation,
    question: String,
    new: Setup,
    old: Setup,
    pairs: u8,
    least: f64,
) -> Option<Verdict> {
    let loads = Load::all().filter(|load| pairs == 1 || *load != Load::Udp(64));
    let ratios: Vec<(Load, f64)> =
        loads.filter_map(|load| Some((load, evaluation.ratio(new, old, pairs, load)?))).collect();
    let figures: Vec<String> = ratios.iter().map(|(load, ratio)| format!("{load}: {ratio:.2}")).collect();
    let holds = ratios.iter().all(|(_, ratio)| *ratio >= least);
    (!ratios.is_empty()).then(|| Verdict { question, holds, figures: figures.join(", ") })
}

/// The paper's second claim, from 2,048 octets up.
fn rises(evaluation: &Evaluation) -> Vec<Verdict> {
    let (least, most) = (PAIRS[0], PAIRS[PAIRS.len() - 1]);
    let mut verdicts = Vec::new();
    for (way, text) in [(Way::Proposed, "rises"), (Way::Existing, "falls")] {
        let setup = Setup::switch(Work::AesCtr, way);
        let large = Load::all().filter(|load| matches!(load, Load::Udp(octets) if *octets >= 2048));
        let changes: Vec<(Load, f64)> = large
            .filter_map(|load| {
                let (few, many) = (evaluation.total(setup, least, load)?, evaluation.total(setup, most, load)?);
                (few > 0.0).then_some((load, many / few))
            })
            .collect();
        if changes.is_empty() {
            continue;
        }
        let holds =
            changes.iter().all(|(_, change)| if way == Way::Proposed { *change > 1.0 } else { *change < 1.0 });
        let figures: Vec<String> = changes.iter().map(|(load, change)| format!("{load}: × {change:.2}")).collect();
        let question =
            format!("The paper's second claim: from {least} to {most} pairs the total of {} {text}", setup.title());
        verdicts.push(Verdict { question, holds, figures: figures.join(", ") });
    }
    verdicts
}
