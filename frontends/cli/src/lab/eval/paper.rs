//! The figures of the paper's section 6: Mbit/s at the receiver for datagrams of 64, 512, 2048, 4096 and 32768 octets.

use super::plan::{DATAGRAMS, Load, Setup, Underlay, Way, Work};

type Row = [Option<f64>; DATAGRAMS.len()];

const fn all(row: [f64; 5]) -> Row {
    let [a, b, c, d, e] = row;
    [Some(a), Some(b), Some(c), Some(d), Some(e)]
}

/// The paper's row for a setup with so many pairs, per pair (Tables 5, 6 and 7).
pub fn row(setup: Setup, pairs: u8) -> Option<Row> {
    if setup.underlay == Underlay::Cable {
        return None;
    }
    Some(match (setup.work, setup.way, pairs) {
        (Work::Null, Way::Proposed, 1) => all([19.2, 255.0, 925.0, 946.0, 953.0]),
        (Work::Null, Way::Existing, 1) => all([19.6, 257.0, 925.0, 946.0, 953.0]),
        (Work::Rewrite, Way::Proposed, 1) => all([19.2, 255.0, 926.0, 945.0, 953.0]),
        (Work::Rewrite, Way::Existing, 1) => all([19.5, 255.0, 925.0, 946.0, 953.0]),
        (Work::Vlan, Way::Proposed, 1) => all([19.3, 256.0, 922.0, 943.0, 951.0]),
        (Work::Vlan, Way::Existing, 1) => all([19.6, 255.0, 922.0, 943.0, 951.0]),
        (Work::Vxlan, Way::Proposed, 1) => all([19.6, 258.0, 887.0, 915.0, 924.0]),
        (Work::Vxlan, Way::ExistingFragments, 1) => all([19.0, 256.0, 862.0, 887.0, 200.0]),
        (Work::Vxlan, Way::Existing, 1) => [None, None, Some(876.0), Some(915.0), Some(924.0)],
        (Work::AesCtr, Way::Proposed, 1) => all([19.5, 259.0, 789.0, 825.0, 830.0]),
        (Work::AesCtr, Way::Existing, 1) => all([19.3, 213.0, 844.0, 834.0, 96.1]),
        (Work::AesCtr, Way::Proposed, 2) => all([19.4, 260.0, 441.0, 455.0, 456.0]),
        (Work::AesCtr, Way::Existing, 2) => [Some(19.2), Some(232.0), Some(391.0), Some(362.0), None],
        (Work::AesCtr, Way::Proposed, 4) => all([19.4, 198.0, 222.0, 229.0, 228.0]),
        (Work::AesCtr, Way::Existing, 4) => [Some(16.8), Some(143.0), Some(173.0), Some(139.0), None],
        _ => return None,
    })
}

/// The paper's figure, per pair.
pub fn figure(setup: Setup, pairs: u8, load: Load) -> Option<f64> {
    let Load::Udp(octets) = load else { return None };
    let column = DATAGRAMS.iter().position(|size| *size == octets)?;
    row(setup, pairs)?[column]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_5_rises_where_the_paper_says_so() {
        let total = |way, pairs: u8| {
            figure(Setup::switch(Work::AesCtr, way), pairs, Load::Udp(4096)).map(|mbit| mbit * f64::from(pairs))
        };
        assert!(total(Way::Proposed, 4) > total(Way::Proposed, 1));
        assert!(total(Way::Existing, 4) < total(Way::Existing, 1));
        assert_eq!(figure(Setup::switch(Work::AesCtr, Way::Existing), 2, Load::Udp(32768)), None);
        assert_eq!(figure(Setup::cable(Work::Vxlan, Way::Proposed), 1, Load::Udp(64)), None);
        assert_eq!(figure(Setup::switch(Work::Null, Way::Proposed), 1, Load::Tcp), None);
    }
}
