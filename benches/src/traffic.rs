//! Which flow each frame belongs to.

/// How frames spread over flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Every flow as often as every other, at random.
    Uniform,
    /// The flow of rank `r` with a probability proportional to `1/r` (Zipf's law, exponent 1).
    Zipf,
}

impl Distribution {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Uniform, Self::Zipf];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
        }
    }
}

/// Length of a sequence: every one of 65,536 flows comes twice on average.
const LENGTH: usize = 1 << 17;

/// Flow numbers below `flows`, the same in every run. A power of two of them.
pub fn sequence(distribution: Distribution, flows: u32) -> Vec<u16> {
    // SplitMix64: any generator does, and this one is four lines.
    let mut state = 0x5eed_u64;
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let number = |value: usize| value.min(flows as usize - 1) as u16;
    match distribution {
        Distribution::Uniform => (0..LENGTH).map(|_| number((random() * f64::from(flows)) as usize)).collect(),
        Distribution::Zipf => {
            let mut total = 0.0;
            let cumulative: Vec<f64> = (1..=flows)
                .map(|rank| {
                    total += 1.0 / f64::from(rank);
                    total
                })
                .collect();
            (0..LENGTH)
                .map(|_| {
                    let at = random() * total;
                    number(cumulative.partition_point(|sum| *sum < at))
                })
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_have_their_distribution() {
        let count = |distribution, flow| {
            sequence(distribution, 1000).iter().filter(|number| **number == flow).count() as f64 / LENGTH as f64
        };
        for flow in [0, 500, 999] {
            assert!((0.0005..0.002).contains(&count(Distribution::Uniform, flow)), "{flow}");
        }
        // The thousandth harmonic number is 7.485.
        assert!((0.125..0.142).contains(&count(Distribution::Zipf, 0)));
        assert!((0.060..0.074).contains(&count(Distribution::Zipf, 1)));
        assert!(sequence(Distribution::Zipf, 65_536).iter().any(|number| *number > 60_000));
        assert!(sequence(Distribution::Uniform, 1).iter().all(|number| *number == 0));
    }
}
