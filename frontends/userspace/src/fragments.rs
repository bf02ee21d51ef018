//! Tunnel packets that outgrow the link are cut into fragments, if the port's user asked for it.

use crate::{
    pool::{Mempool, PoolFrame},
    port::{FrameVec, Port},
};
use cvsw_core::{BURST, fragment::Fragmenter, mtu::IpMtu};
use std::io;

/// Cuts what is longer than a network port's MTU.
#[derive(Debug)]
pub struct Fragments {
    mtu: IpMtu,
    counters: FragmentCounters,
    /// What is to be sent next.
    ready: FrameVec,
}

/// What became of packets that were too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentCounters {
    /// Packets that were cut.
    pub packets: u64,
    /// What they were cut into.
    pub fragments: u64,
    /// Packets of which a part is missing, for want of a buffer.
    pub no_buffer: u64,
}

impl Fragments {
    /// For a link whose IP packets have at most `mtu` bytes.
    pub fn new(mtu: IpMtu) -> Self {
        Self { mtu, counters: FragmentCounters::default(), ready: FrameVec::with_capacity(BURST) }
    }

    /// The counters.
    pub const fn counters(&self) -> FragmentCounters {
        self.counters
    }

    /// Sends `frames` through `port`, in their order, and leaves it empty.
    pub fn send(&mut self, port: &mut dyn Port, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<()> {
        let longest = self.mtu.l2().get() as usize;
        if frames.iter().all(|frame| frame.len() <= longest) {
            return port.tx_burst(pool, frames);
        }
        for frame in frames.drain(..) {
            match Fragmenter::new(frame.bytes(), self.mtu) {
                None => self.push(frame, port, pool)?,
                Some(fragmenter) => {
                    self.cut(&frame, fragmenter, port, pool)?;
                    pool.put(frame);
                }
            }
        }
        port.tx_burst(pool, &mut self.ready)
    }

    fn cut(
        &mut self,
        frame: &PoolFrame,
        mut fragmenter: Fragmenter,
        port: &mut dyn Port,
        pool: &mut Mempool,
    ) -> io::Result<()> {
        self.counters.packets += 1;
        while !fragmenter.is_done() {
            if pool.available() == 0 {
                // What was sent gives its buffers back.
                port.tx_burst(pool, &mut self.ready)?;
            }
            let Some(mut fragment) = pool.take() else {
                self.counters.no_buffer += 1;
                break;
            };
            if fragmenter.next(frame.bytes(), &mut fragment).is_err() {
                // Never: a fragment is shorter than the packet, which is in such a buffer.
                pool.put(fragment);
                self.counters.no_buffer += 1;
                break;
            }
            self.counters.fragments += 1;
            self.push(fragment, port, pool)?;
        }
        Ok(())
    }

    fn push(&mut self, frame: PoolFrame, port: &mut dyn Port, pool: &mut Mempool) -> io::Result<()> {
        self.ready.push(frame);
        if self.ready.len() < BURST { Ok(()) } else { port.tx_burst(pool, &mut self.ready) }
    }
}
