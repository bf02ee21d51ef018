//! Summaries of a few figures, and percentiles of many.

use serde::{Deserialize, Serialize};

/// Several runs of one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Summary {
    /// `None` of nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = sorted[sorted.len() / 2];
        let lower = sorted[(sorted.len() - 1) / 2];
        Some(Self { median: f64::midpoint(lower, upper), min, max })
    }

    /// Half the distance between the least and the most, in percent of the median.
    pub fn spread_percent(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.max - self.min) / 2.0 / self.median * 100.0 }
    }
}

/// The value that `percent` of `sorted` do not exceed (nearest rank). `None` of nothing.
pub fn percentile(sorted: &[u64], percent: f64) -> Option<u64> {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// A figure as people read it: three digits that mean something.
pub fn readable(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_independent_of_order_and_of_what_is_no_number() {
        let odd = Summary::of([5.0, 1.0, f64::NAN, 3.0]).unwrap();
        assert_eq!(odd, Summary { median: 3.0, min: 1.0, max: 5.0 });
        assert_eq!(Summary::of([4.0, 1.0, 2.0, 8.0]).unwrap().median, 3.0);
        assert_eq!(Summary::of([7.0]).unwrap().spread_percent(), 0.0);
        assert!((Summary::of([90.0, 100.0, 110.0]).unwrap().spread_percent() - 10.0).abs() < 1e-9);
        assert_eq!(Summary::of([0.0]).unwrap().spread_percent(), 0.0);
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let sorted: Vec<u64> = (1..=200).collect();
        assert_eq!(percentile(&sorted, 50.0), Some(100));
        assert_eq!(percentile(&sorted, 99.0), Some(198));
        assert_eq!(percentile(&sorted, 100.0), Some(200));
        assert_eq!(percentile(&sorted, 0.0), Some(1));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([1234.5, 99.94, 1.005, 0.0].map(readable), ["1234", "99.9", "1.00", "0.00"]);
    }
}
