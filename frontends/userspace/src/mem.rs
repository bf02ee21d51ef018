//! The `mem` backend: two ports joined in memory, for tests and benches.

use crate::{
    pool::{Mempool, PoolFrame},
    port::{Capabilities, FrameVec, Port, PortCounters, PortDrop},
};
use cvsw_core::{
    BURST,
    control::OffloadFlags,
    flow::MacAddr,
    mtu::{IpMtu, L2Mtu},
};
use std::{
    collections::VecDeque,
    io,
    os::fd::BorrowedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Two ports: what one sends, the other receives. Each direction holds at most `queue` frames; keep that below
/// the pools' sizes. Frames are handed over, not copied: the receiver's pool pays with an empty buffer.
pub fn pair(queue: usize) -> (Mem, Mem) {
    let [there, back] = [(), ()].map(|()| Arc::new(Mutex::new(Lane::new(queue))));
    (Mem::new("mem:a", back.clone(), there.clone()), Mem::new("mem:b", there, back))
}

/// One end of a [`pair`].
#[derive(Debug)]
pub struct Mem {
    label: &'static str,
    rx: Arc<Mutex<Lane>>,
    tx: Arc<Mutex<Lane>>,
    counters: PortCounters,
    /// What the interface would show.
    pub settings: Settings,
}

/// State that a real interface has.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// MAC address.
    pub mac: MacAddr,
    /// IP MTU.
    pub mtu: IpMtu,
    /// Longest frame; `None`: no limit.
    pub link_mtu: Option<L2Mtu>,
    /// Features in force; every one is accepted.
    pub offload: OffloadFlags,
    /// Metadata that transmitted frames may carry.
    pub capabilities: Capabilities,
}

#[derive(Debug)]
struct Lane {
    frames: VecDeque<PoolFrame>,
    returned: Vec<PoolFrame>,
    limit: usize,
}

impl Lane {
    fn new(limit: usize) -> Self {
        Self { frames: VecDeque::with_capacity(limit), returned: Vec::with_capacity(limit), limit }
    }
}

impl Mem {
    fn new(label: &'static str, rx: Arc<Mutex<Lane>>, tx: Arc<Mutex<Lane>>) -> Self {
        let settings = Settings {
            mac: [2, 0, 0, 0, 0, 1],
            mtu: IpMtu::ETHERNET,
            link_mtu: None,
            offload: OffloadFlags(0),
            capabilities: Capabilities { checksum: true, gso: true },
        };
        Self { label, rx, tx, counters: PortCounters::default(), settings }
    }
}

fn lock(lane: &Mutex<Lane>) -> MutexGuard<'_, Lane> {
    // A lane is consistent between any two statements: a panic elsewhere spoils nothing.
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Port for Mem {
    fn name(&self) -> &str {
        self.label
    }

    fn rx_burst(&mut self, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<usize> {
        let mut lane = lock(&self.rx);
        let count = lane.frames.len().min(BURST);
        for received in 0..count {
            let Some(empty) = pool.take() else {
                self.counters.rx_no_buffer += 1;
                return Ok(received);
            };
            lane.returned.push(empty);
            let frame = lane.frames.pop_front();
            self.counters.received(frame.as_ref().map_or(0, PoolFrame::len));
            frames.extend(frame);
        }
        Ok(count)
    }

    fn tx_burst(&mut self, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<()> {
        let mut lane = lock(&self.tx);
        for frame in frames.drain(..) {
            if lane.frames.len() >= lane.limit {
                self.counters.dropped(PortDrop::TxFull, 1);
                pool.put(frame);
                continue;
            }
            self.counters.sent(frame.len());
            lane.frames.push_back(frame);
        }
        for empty in lane.returned.drain(..) {
            pool.put(empty);
        }
        Ok(())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether the other end was dropped and its frames are used up.
    fn finished(&self) -> bool {
        Arc::strong_count(&self.rx) == 1 && lock(&self.rx).frames.is_empty()
    }

    fn capabilities(&self) -> Capabilities {
        self.settings.capabilities
    }

    fn mac(&self) -> Option<MacAddr> {
        Some(self.settings.mac)
    }

    fn link_mtu(&self) -> Option<L2Mtu> {
        self.settings.link_mtu
    }

    fn mtu(&self) -> Option<IpMtu> {
        Some(self.settings.mtu)
    }

    fn set_mtu(&mut self, mtu: IpMtu) -> io::Result<()> {
        self.settings.mtu = mtu;
        Ok(())
    }

    fn offload(&self) -> OffloadFlags {
        self.settings.offload
    }

    fn set_offload(&mut self, requested: OffloadFlags) -> io::Result<OffloadFlags> {
        self.settings.offload = requested;
        Ok(requested)
    }

    fn counters(&mut self) -> PortCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame_of(pool: &mut Mempool, bytes: &[u8]) -> PoolFrame {
        let mut frame = pool.take().unwrap();
        frame.set_len(bytes.len()).unwrap();
        frame.bytes_mut().copy_from_slice(bytes);
        frame
    }

    #[test]
    fn frames_arrive_in_order_and_pools_stay_balanced() {
        let (mut a, mut b) = pair(8);
        let (mut pool_a, mut pool_b) = (Mempool::new(16, 2304), Mempool::new(16, 2304));
        for round in 0..100u8 {
            let mut burst: FrameVec = (0..8).map(|i| frame_of(&mut pool_a, &[round, i])).collect();
            a.tx_burst(&mut pool_a, &mut burst).unwrap();
            let mut got = FrameVec::new();
            assert_eq!(b.rx_burst(&mut pool_b, &mut got).unwrap(), 8);
            for (i, frame) in got.iter().enumerate() {
                assert_eq!(frame.bytes(), [round, i as u8]);
            }
            pool_b.put_all(&mut got);
        }
        let mut none = FrameVec::new();
        a.tx_burst(&mut pool_a, &mut none).unwrap();
        assert_eq!((pool_a.available(), pool_b.available()), (16, 16));
        assert_eq!(a.counters().tx_frames, 800);
        assert_eq!(b.counters().rx_bytes, 1600);
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (mut a, b) = pair(4);
        let mut pool = Mempool::new(16, 2304);
        let mut burst: FrameVec = (0..6).map(|i| frame_of(&mut pool, &[i])).collect();
        a.tx_burst(&mut pool, &mut burst).unwrap();
        assert!(burst.is_empty());
        assert_eq!(a.counters().drops(PortDrop::TxFull), 2);
        assert_eq!(a.counters().tx_frames, 4);
        assert!(!b.finished());
        drop(a);
        assert!(!b.finished(), "four frames still wait");
    }
}
