//! Nanoseconds per burst of 32 packets (criterion; `--bench engine`). Divide by 32, or read the elements per
//! second that criterion prints. `cvsw bench` has the tables for people.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use cvsw_benches::{Distribution, Kind, Setup, load};
use cvsw_core::BURST;

fn engine(criterion: &mut Criterion) {
    for kind in Kind::ALL {
        let mut group = criterion.benchmark_group(kind.name());
        group.throughput(Throughput::Elements(BURST as u64));
        for size in [64, 1400] {
            for flows in [1, 1000] {
                let distribution = Distribution::Uniform;
                let mut load = load(&Setup { kind, size, flows, masks: 1, distribution, miss: false });
                group.bench_function(format!("{size}B/{flows}flows"), |bencher| bencher.iter(|| load.step()));
                load.check();
            }
        }
        group.finish();
    }
}

criterion_group!(benches, engine);
criterion_main!(benches);
