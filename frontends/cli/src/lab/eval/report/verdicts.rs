//! Questions that a reader wants answered at a glance: the paper's two claims, and the project's goals.

use super::super::plan::{Load, PAIRS, Setup, Way, Work};
use super::super::result::Evaluation;
use super::super::stats::readable;
use super::projection::{self, Relay};
use super::tables::times;

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
/// A total that changes by less stays as it is: runs differ by more.
const RISE: f64 = 1.05;
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
    verdicts.extend(second_claim(evaluation));
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
        let question = format!(
            "Through Open vSwitch, {pairs} pair{}: {} proposed above existing",
            if pairs == 1 { "" } else { "s" },
            work.title()
        );
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
    let figures: Vec<String> = ratios.iter().map(|(load, ratio)| format!("{load}: {}", times(*ratio))).collect();
    let holds = ratios.iter().all(|(_, ratio)| *ratio >= least);
    (!ratios.is_empty()).then(|| Verdict { question, holds, figures: figures.join(", ") })
}

/// The paper's second claim: Figure 5, from 2,048 octets up. Measured where it can show, and computed where it cannot.
fn second_claim(evaluation: &Evaluation) -> Vec<Verdict> {
    const CLAIM: &str = "The paper's second claim";
    let (least, most) = (PAIRS[0], PAIRS[PAIRS.len() - 1]);
    let mut verdicts = Vec::new();
    for (way, wanted) in [(Way::Proposed, "rises"), (Way::Existing, "does not")] {
        let setup = Setup::shares(Work::AesCtr, way);
        let measured = |load, pairs| evaluation.total(setup, pairs, load);
        let question = format!(
            "{CLAIM}, measured with VMs of one size: from {least} to {most} pairs the total of {} {wanted}",
            setup.title()
        );
        verdicts.extend(change(question, way == Way::Proposed, &measured));
    }
    verdicts.extend(relief(evaluation, CLAIM));
    for (relay, text) in [(Relay::Free, ", if forwarding is free"), (Relay::Measured, "")] {
        let setup = Setup::switch(Work::AesCtr, Way::Proposed);
        let computed = |load, pairs| projection::projected(evaluation, setup, pairs, load, relay);
        let question =
            format!("{CLAIM}, projected to a core for every VM{text}: the total of {} rises", setup.title());
        verdicts.extend(change(question, true, &computed));
    }
    let setup = Setup::switch(Work::AesCtr, Way::Existing);
    let computed = |load, pairs| projection::projected(evaluation, setup, pairs, load, Relay::Measured);
    let question =
        format!("{CLAIM}, projected to a core for every VM: the total of {} does not rise", setup.title());
    verdicts.extend(change(question, false, &computed));
    verdicts
}

/// Whether a total of large datagrams is above that of one pair (`rises`), or is not.
fn change(question: String, rises: bool, total: &dyn Fn(Load, u8) -> Option<f64>) -> Option<Verdict> {
    let (least, most) = (PAIRS[0], PAIRS[PAIRS.len() - 1]);
    let large = Load::all().filter(|load| matches!(load, Load::Udp(octets) if *octets >= 2048));
    let changes: Vec<(Load, f64)> = large
        .filter_map(|load| {
            let (few, many) = (total(load, least)?, total(load, most)?);
            (few > 0.0).then_some((load, many / few))
        })
        .collect();
    let holds = changes.iter().all(|(_, change)| if rises { *change > RISE } else { *change <= RISE });
    let figures: Vec<String> = changes.iter().map(|(load, change)| format!("{load}: × {change:.2}")).collect();
    (!changes.is_empty()).then(|| Verdict { question, holds, figures: figures.join(", ") })
}

/// What the claim rests on: the shared switch is relieved of work, which moves to the VMs.
fn relief(evaluation: &Evaluation, claim: &str) -> Option<Verdict> {
    let of = |way, load| {
        let cell = evaluation.cell(Setup::switch(Work::AesCtr, way), PAIRS[0], load)?;
        Some(cell.cpu_per_gigabyte()?.switch)
    };
    let seconds: Vec<(Load, f64, f64)> =
        Load::all().filter_map(|load| Some((load, of(Way::Proposed, load)?, of(Way::Existing, load)?))).collect();
    let figures: Vec<String> = seconds
        .iter()
        .map(|(load, new, old)| format!("{load}: {} s in place of {} s", readable(*new), readable(*old)))
        .collect();
    let question = format!("{claim}, its ground: a gigabyte, VXLAN + AES-CTR, takes less of the switches' time");
    let holds = seconds.iter().all(|(_, new, old)| new < old);
    (!seconds.is_empty()).then(|| Verdict { question, holds, figures: figures.join(", ") })
}
