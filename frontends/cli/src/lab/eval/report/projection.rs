//! What more cores would show: the total over all pairs, from the processor time that one pair costs.

use super::super::plan::{Load, PAIRS, Setup, Way, Work};
use super::super::result::{Cell, Evaluation};
use super::super::stats::readable;
use super::tables::{Kind, Row, Table};

/// Servers, and VMs of a pair.
const SIDES: f64 = 2.0;
const MBIT_PER_GIGABYTE: f64 = 8000.0;

/// Mbit/s of `pairs` pairs together if every VM had a core and every switch had one: whichever is busy first.
///
/// `switch` and `vm` are seconds per gigabyte of one pair, both servers and both VMs together.
pub fn total(switch: f64, vm: f64, pairs: u8) -> f64 {
    let one_core = |seconds: f64| if seconds > 0.0 { MBIT_PER_GIGABYTE * SIDES / seconds } else { f64::INFINITY };
    (one_core(vm) * f64::from(pairs)).min(one_core(switch))
}

/// What bounds a projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// The virtual switch, as it was measured.
    Measured,
    /// Nothing: frames that need no work in the switch pass it at no cost, as with SR-IOV. Where the work is in the
    /// switch, nothing changes.
    Free,
}

/// Mbit/s of `pairs` pairs of a setup together, computed from the processor time that one pair took under `load`.
pub fn projected(evaluation: &Evaluation, setup: Setup, pairs: u8, load: Load, relay: Relay) -> Option<f64> {
    let used = evaluation.cell(setup, 1, load).and_then(Cell::cpu_per_gigabyte)?;
    let free = relay == Relay::Free && setup.way == Way::Proposed;
    Some(total(if free { 0.0 } else { used.switch }, used.vnic + used.application, pairs))
}

/// The projection for encrypted traffic.
pub fn table(evaluation: &Evaluation) -> Option<Table> {
    let loads: Vec<Load> = Load::all().collect();
    let mut rows = Vec::new();
    for (work, way) in [Work::AesCtr, Work::AesGcm]
        .into_iter()
        .flat_map(|work| [Way::Proposed, Way::Existing].map(|way| (work, way)))
    {
        let setup = Setup::switch(work, way);
        let relays = if way == Way::Proposed { &[Relay::Measured, Relay::Free][..] } else { &[Relay::Measured] };
        for (relay, pairs) in relays.iter().flat_map(|relay| PAIRS.map(|pairs| (*relay, pairs))) {
            let figures: Vec<Option<f64>> =
                loads.iter().map(|load| projected(evaluation, setup, pairs, *load, relay)).collect();
            if figures.iter().any(Option::is_some) {
                let cells = figures.iter().map(|figure| figure.map_or("–".to_owned(), readable)).collect();
                let free = if relay == Relay::Free { ", forwarding free" } else { "" };
                let label = format!("{}{free}, {pairs} pair{}", setup.title(), if pairs == 1 { "" } else { "s" });
                rows.push(Row { label, kind: Kind::Ratio, cells });
            }
        }
    }
    let note =
        "Total Mbit/s, not measured but computed. Assumptions: every VM (with its vNIC) has a core of its own, \
                every server's switch has one, memory and link never limit, and a byte costs what it cost with one \
                pair. The least of what the VMs' cores and what the switches' cores can do. \"Forwarding free\": what \
                the switch takes for forwarding alone is left out, as if the vNICs were on SR-IOV, which the paper names \
                as the next step; that leaves *existing* as it is, whose work is in the switch."
            .to_owned();
    let title = "Projection: Figure 5 with a core for every VM".to_owned();
    let columns = loads.iter().map(ToString::to_string).collect();
    (!rows.is_empty()).then_some(Table { title, note, columns, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_rises_until_the_switch_is_busy() {
        // A gigabyte costs the VMs 40 s and the switches 20 s: 400 Mbit/s a pair, 800 for the switches.
        assert_eq!([1, 2, 4].map(|pairs| total(20.0, 40.0, pairs)), [400.0, 800.0, 800.0]);
        assert_eq!(total(0.0, 40.0, 4), 1600.0);
    }
}
