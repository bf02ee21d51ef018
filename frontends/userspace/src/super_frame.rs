//! A super-frame that a port received: kept in one large buffer while the core cuts it into ordinary frames.
//!
//! A burst is shorter than a super-frame has segments, so cutting goes on from call to call.

use crate::{
    pool::{HEADROOM, Mempool, PoolFrame},
    port::{FrameVec, PortCounters, PortDrop},
    sys::VNET_HEADER_LEN,
};
use cvsw_core::{BURST, NoRoom, Offload, segment::Segmenter};

/// Room for a virtio header, an Ethernet header with tags, and the largest IP packet.
pub const SUPER_FRAME_ROOM: usize = (VNET_HEADER_LEN + 14 + 8 + 65535usize).next_multiple_of(64);
/// An 802.1Q tag stands behind both addresses.
const ADDRESSES: usize = 12;

/// One super-frame at a time.
#[derive(Debug)]
pub struct SuperFrame {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// An 802.1Q tag that is not among the bytes and goes into every segment.
    tag: Option<[u8; 4]>,
    segmenter: Option<Segmenter>,
}

impl SuperFrame {
    /// An empty one.
    pub fn new() -> Self {
        let buffer = vec![0; SUPER_FRAME_ROOM].into_boxed_slice();
        Self { buffer, start: 0, end: 0, tag: None, segmenter: None }
    }

    /// The large buffer, to be filled; what was there is forgotten.
    pub fn buffer_mut(&mut self) -> &mut [u8] {
        self.segmenter = None;
        &mut self.buffer
    }

    /// The bytes `start..end` of the buffer are a super-frame, which `offload` describes. `Err` if it is none that
    /// can be cut.
    pub fn begin(
        &mut self,
        start: usize,
        end: usize,
        offload: &Offload,
        tag: Option<[u8; 4]>,
        counters: &mut PortCounters,
    ) -> Result<(), PortDrop> {
        let bytes = self.buffer.get(start..end).ok_or(PortDrop::RxTooBig)?;
        self.segmenter = Some(Segmenter::new(bytes, offload).map_err(|_| PortDrop::RxBadOffload)?);
        (self.start, self.end, self.tag) = (start, end, tag);
        counters.rx_super_frames += 1;
        Ok(())
    }

    /// Whether segments are still to be made.
    pub fn is_pending(&self) -> bool {
        self.segmenter.is_some()
    }

    /// Appends segments to `frames` until there are no more, or the burst or the pool is at its end. Returns their
    /// number.
    pub fn cut(&mut self, pool: &mut Mempool, frames: &mut FrameVec, counters: &mut PortCounters) -> usize {
        let mut made = 0;
        while let Some(segmenter) = &mut self.segmenter
            && frames.len() < BURST
        {
            let Some(mut frame) = pool.take() else {
                counters.rx_no_buffer += 1;
                break;
            };
            let bytes = self.buffer.get(self.start..self.end).unwrap_or_default();
            let result = segmenter.next(bytes, &mut frame).and_then(|()| match self.tag {
                Some(tag) => insert_tag(&mut frame, tag),
                None => Ok(()),
            });
            match result {
                Ok(()) => {
                    counters.received(frame.len());
                    made += 1;
                    if segmenter.is_done() {
                        self.segmenter = None;
                    }
                    frames.push(frame);
                }
                // A segment that is longer than every buffer: so are the others, but for the last.
                Err(NoRoom) => {
                    counters.dropped(PortDrop::RxTooBig, segmenter.remaining() as u64);
                    self.segmenter = None;
                    pool.put(frame);
                }
            }
        }
        made
    }
}

/// Puts an 802.1Q tag, TPID first, behind the addresses of `frame`. The offsets of its metadata are the caller's care.
pub fn insert_tag(frame: &mut PoolFrame, tag: [u8; 4]) -> Result<(), NoRoom> {
    debug_assert!(frame.headroom() == HEADROOM);
    frame.push_front(tag.len())?;
    let moved = ADDRESSES.min(frame.len() - tag.len());
    let bytes = frame.bytes_mut();
    bytes.copy_within(tag.len()..tag.len() + moved, 0);
    bytes[moved..moved + tag.len()].copy_from_slice(&tag);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cvsw_core::{Gso, GsoKind};

    /// UDP over IPv4 with 100 bytes of payload, no checksums.
    fn datagram() -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        bytes.extend([0x45, 0, 0, 128, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend([0, 7, 0, 9, 0, 108, 0, 0]);
        bytes.extend(0..100);
        bytes
    }

    fn begun(size: u16, tag: Option<[u8; 4]>, counters: &mut PortCounters) -> SuperFrame {
        let mut super_frame = SuperFrame::new();
        let bytes = datagram();
        super_frame.buffer_mut()[10..][..bytes.len()].copy_from_slice(&bytes);
        let gso = Gso { kind: GsoKind::Udp, size, header_len: 42, ecn: false };
        let offload = Offload { gso, ..Offload::default() };
        super_frame.begin(10, 10 + bytes.len(), &offload, tag, counters).unwrap();
        super_frame
    }

    #[test]
    fn cutting_goes_on_where_burst_and_pool_ended() {
        let mut counters = PortCounters::default();
        let mut super_frame = begun(1, None, &mut counters);
        let mut pool = Mempool::new(40, 2304);
        let mut frames = FrameVec::new();
        let mut payloads = Vec::new();
        for expected in [32, 32, 32, 4] {
            let mut others = if expected == 32 { Vec::new() } else { vec![pool.take().unwrap()] };
            frames.append(&mut others);
            let there = frames.len();
            assert_eq!(super_frame.cut(&mut pool, &mut frames, &mut counters), expected);
            payloads.extend(frames[there..].iter().map(|frame| frame.bytes()[42]));
            pool.put_all(&mut frames);
        }
        assert!(!super_frame.is_pending());
        assert_eq!(payloads, (0..100).collect::<Vec<_>>());
        assert_eq!((counters.rx_super_frames, counters.rx_frames, counters.rx_bytes), (1, 100, 4300));
        let mut super_frame = begun(1, None, &mut counters);
        let mut small = Mempool::new(5, 2304);
        assert_eq!(super_frame.cut(&mut small, &mut frames, &mut counters), 5);
        assert_eq!((super_frame.is_pending(), counters.rx_no_buffer), (true, 1));
    }

    #[test]
    fn every_segment_gets_the_tag_that_the_kernel_took_out() {
        let mut counters = PortCounters::default();
        let mut frames = FrameVec::new();
        begun(60, Some([0x81, 0, 0, 7]), &mut counters).cut(&mut Mempool::new(4, 2304), &mut frames, &mut counters);
        assert_eq!(frames.iter().map(|frame| frame.len()).collect::<Vec<_>>(), [106, 86]);
        for frame in &frames {
            assert_eq!(frame.bytes()[..18], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 7, 8, 0]);
        }
    }

    #[test]
    fn segments_longer_than_a_buffer_are_dropped_and_counted() {
        let mut counters = PortCounters::default();
        let mut frames = FrameVec::new();
        let mut pool = Mempool::new(4, HEADROOM + 64);
        begun(49, None, &mut counters).cut(&mut pool, &mut frames, &mut counters);
        assert_eq!((frames.len(), counters.drops(PortDrop::RxTooBig)), (0, 3));
        assert_eq!(pool.available(), 4);
    }
}
