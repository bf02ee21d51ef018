//! Segmentation offload: one super-frame in, ordinary frames out, one by one.

use super::{Layout, flag};
use crate::{
    frame::{BadOffload, Buffer, Checksum, Frame, GsoKind, NoRoom, Offload},
    parse::{Network, Transport},
    wire::{checksum, tcp},
};
use zerocopy::FromBytes;

/// Cuts a super-frame into the frames that it stands for.
///
/// It borrows nothing: give each call the bytes of the super-frame again, unchanged, so that a burst which the caller
/// cannot take in one go can be continued later.
///
/// ```
/// use cvsw_core::{Frame, Offload, segment::Segmenter};
///
/// fn cut(bytes: &[u8], offload: &Offload) -> Vec<Vec<u8>> {
///     let mut segmenter = Segmenter::new(bytes, offload).unwrap();
///     let mut segments = Vec::new();
///     while !segmenter.is_done() {
///         let mut frame = Frame::new(vec![0; 2048], 128, 0).unwrap();
///         segmenter.next(bytes, &mut frame).unwrap();
///         segments.push(frame.bytes().to_vec());
///     }
///     segments
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Segmenter {
    layout: Layout,
    /// Payload bytes of each segment but the last.
    size: usize,
    /// Where the payload of the next segment begins.
    next: usize,
    /// Segments made so far.
    made: u16,
    /// UDP over IPv4 without a checksum stays without one.
    checksum: bool,
}

impl Segmenter {
    /// Cuts the frame `bytes`, of which `offload` says how.
    ///
    /// # Errors
    /// `BadOffload` if it is no super-frame, or not of the kind that `offload` names, or its segments have no bytes.
    pub fn new(bytes: &[u8], offload: &Offload) -> Result<Self, BadOffload> {
        let layout = Layout::of(bytes).ok_or(BadOffload)?;
        let size = usize::from(offload.gso.size);
        let is_kind = match offload.gso.kind {
            GsoKind::None => false,
            GsoKind::TcpV4 => (layout.network, layout.transport) == (Network::Ipv4, Transport::Tcp),
            GsoKind::TcpV6 => (layout.network, layout.transport) == (Network::Ipv6, Transport::Tcp),
            GsoKind::Udp => layout.transport == Transport::Udp,
        };
        if !is_kind || size == 0 || layout.payload >= layout.end {
            return Err(BadOffload);
        }
        let without = layout.transport == Transport::Udp
            && layout.network == Network::Ipv4
            && !matches!(offload.checksum, Checksum::Partial { .. })
            && matches!(bytes.get(layout.transport_offset..layout.payload), Some([.., 0, 0]));
        Ok(Self { layout, size, next: layout.payload, made: 0, checksum: !without })
    }

    /// Segments that are still to be made.
    pub fn remaining(&self) -> usize {
        self.layout.end.saturating_sub(self.next).div_ceil(self.size)
    }

    /// Whether all segments have been made.
    pub fn is_done(&self) -> bool {
        self.next >= self.layout.end
    }

    /// Makes the next segment of `bytes`, at the place where `segment` begins. Nothing happens if there is none left.
    ///
    /// IPv4 identification and TCP sequence number go on from segment to segment; the first alone carries CWR, the
    /// last alone FIN and PSH; everything else is copied. All checksums are filled in.
    ///
    /// # Errors
    /// `NoRoom` if the segment does not fit the buffer; the same segment can then be made in a larger one.
    pub fn next<B: Buffer>(&mut self, bytes: &[u8], segment: &mut Frame<B>) -> Result<(), NoRoom> {
        let behind = self.next.saturating_add(self.size).min(self.layout.end);
        let header_len = self.layout.payload;
        let (Some(header), Some(payload)) = (bytes.get(..header_len), bytes.get(self.next..behind)) else {
            return Ok(());
        };
        if payload.is_empty() {
            return Ok(());
        }
        segment.set_len(header_len.saturating_add(payload.len()))?;
        segment.offload = Offload::default();
        let Some((head, body)) = segment.bytes_mut().split_at_mut_checked(header_len) else { return Err(NoRoom) };
        head.copy_from_slice(header);
        body.copy_from_slice(payload);
        self.patch(head, body, behind == self.layout.end);
        self.next = behind;
        self.made = self.made.wrapping_add(1);
        Ok(())
    }

    /// Makes the headers, copied from the super-frame, those of the segment with payload `body`.
    fn patch(&self, head: &mut [u8], body: &[u8], last: bool) {
        let layout = &self.layout;
        // Never `None`: a segment is no longer than its super-frame, whose lengths fit.
        let Some(pseudo) = layout.set_lengths(head, body.len(), self.made) else { return };
        if layout.transport == Transport::Tcp {
            let header = head.get_mut(layout.transport_offset..).unwrap_or_default();
            let Ok((tcp, _)) = tcp::Header::mut_from_prefix(header) else { return };
            let sent = self.next.saturating_sub(layout.payload) as u32;
            tcp.sequence.set(tcp.sequence.get().wrapping_add(sent));
            let not_first = if self.made == 0 { 0 } else { flag::CWR };
            let not_last = if last { 0 } else { flag::FIN | flag::PSH };
            tcp.offset_flags.set(tcp.offset_flags.get() & !(not_first | not_last));
        }
        layout.set_checksum(head, 0);
        if self.checksum {
            let header = checksum::sum(head.get(layout.transport_offset..).unwrap_or_default());
            // Headers have an even length, so the sums of header and payload add up.
            let sum = checksum::add(checksum::add(pseudo, header), checksum::sum(body));
            let checksum = if layout.transport == Transport::Udp && sum == 0xffff { 0xffff } else { !sum };
            layout.set_checksum(head, checksum);
        }
    }
}
