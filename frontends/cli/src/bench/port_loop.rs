//! The userspace port between two ports that touch no device: what a poll loop costs around the engine.

use super::{measure::Effort, median, nanos_each};
use anyhow::Result;
use cvsw_benches::{Distribution, Kind, Setup, entry, sequence};
use cvsw_core::{
    BURST,
    control::ETHERTYPE,
    flow::Match,
    key::{Direction, Field},
};
use cvsw_userspace::{
    flows_file::{FileFlow, FlowsFile},
    pool::{DEFAULT_BUFFER_SIZE, DEFAULT_BUFFERS, Mempool},
    port::{Capabilities, FrameVec, Port, PortCounters},
    run,
    vnic::Vnic,
};
use std::{
    io,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

/// Receives frames that it makes up, as fast as it is asked; throws away what it is to send.
struct Null {
    /// What it receives; empty: nothing.
    frame: Vec<u8>,
    sequence: Vec<u16>,
    next: usize,
    counters: PortCounters,
}

/// Offset of the UDP source port, which carries the flow number.
const PORT_OFFSET: usize = 14 + 20;

impl Port for Null {
    fn name(&self) -> &str {
        "null"
    }

    fn rx_burst(&mut self, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<usize> {
        if self.frame.is_empty() {
            return Ok(0);
        }
        let numbers = &self.sequence[self.next..self.next + BURST];
        let first = frames.len();
        if pool.take_burst(BURST, frames) < BURST {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        for (frame, number) in frames[first..].iter_mut().zip(numbers) {
            frame.set_len(self.frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
            let bytes = frame.bytes_mut();
            bytes.copy_from_slice(&self.frame);
            bytes[PORT_OFFSET..PORT_OFFSET + 2].copy_from_slice(&number.to_be_bytes());
            self.counters.received(bytes.len());
        }
        self.next = (self.next + BURST) & (self.sequence.len() - 1);
        Ok(BURST)
    }

    fn tx_burst(&mut self, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<()> {
        for frame in &*frames {
            self.counters.sent(frame.len());
        }
        pool.put_all(frames);
        Ok(())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { checksum: true, gso: true }
    }

    fn counters(&mut self) -> PortCounters {
        self.counters
    }
}

/// Nanoseconds per 64-byte frame of `packet_flows` flows, which all meet one entry; of the loop without an engine for
/// [`Kind::Restore`].
pub fn measure(kind: Kind, packet_flows: u32, effort: &Effort) -> Result<f64> {
    let source = |active: bool| Null {
        frame: if active { kind.frame(64) } else { Vec::new() },
        sequence: sequence(Distribution::Uniform, packet_flows),
        next: 0,
        counters: PortCounters::default(),
    };
    let mut step: Box<dyn FnMut() -> io::Result<usize>> = if kind == Kind::Restore {
        bare(source(true), source(false))
    } else {
        let from_host = kind.direction() == Direction::Tx;
        let (host, net) = (Box::new(source(from_host)), Box::new(source(!from_host)));
        let mut vnic = Vnic::new(host, net, [2, 0, 0, 0, 0, 1], ETHERTYPE, DEFAULT_BUFFERS, 0x5eed)?;
        vnic.load_flows(run::now(), &one_entry(kind))?;
        Box::new(move || vnic.step(run::now()))
    };
    let mut frames_in = |length: Duration| -> Result<f64> {
        let (start, mut frames) = (Instant::now(), 0);
        while start.elapsed() < length {
            for _ in 0..32 {
                frames += step()?;
            }
        }
        Ok(nanos_each(start.elapsed(), frames as u64))
    };
    frames_in(effort.sample * 10)?;
    let mut samples = (0..effort.samples).map(|_| frames_in(effort.sample)).collect::<Result<Vec<_>>>()?;
    Ok(median(&mut samples))
}

/// The loop without an engine.
fn bare(mut from: Null, mut to: Null) -> Box<dyn FnMut() -> io::Result<usize>> {
    let mut pool = Mempool::new(DEFAULT_BUFFERS, DEFAULT_BUFFER_SIZE);
    let mut frames = FrameVec::with_capacity(BURST);
    Box::new(move || {
        let received = from.rx_burst(&mut pool, &mut frames)?;
        to.tx_burst(&mut pool, &mut frames)?;
        Ok(received)
    })
}

/// One entry that all frames of the workload meet (for `pass`: that none meets).
fn one_entry(kind: Kind) -> FlowsFile {
    let setup = Setup { kind, size: 64, flows: 1, masks: 1, distribution: Distribution::Uniform, miss: false };
    let mut flow = entry(&setup, 0);
    // Without the port that tells flows apart.
    let mask = flow.matching.mask().with(Field::TpSrc, 0);
    flow.matching = Match::new(*flow.matching.value(), mask);
    FlowsFile { name: "benchmark".to_owned(), flows: vec![FileFlow { line: 1, flow }] }
}
