//! Fragmentation of tunnel packets that outgrow the link (RFC 791 section 3.2), where a policy asks for it.
//!
//! As a rule a vNIC fragments nothing: the controller gives its VM an MTU that leaves room for the tunnel. Where that
//! cannot be (a VM that insists on 1,500 over a link of 1,500) a front-end may call [`crate::Cvsw::fragment_outer`] and cut
//! what the engine then lets pass with a [`Fragmenter`]. The other end must reassemble: Linux does, a CVSW does not. The inner
//! packet stays whole, whatever its own don't-fragment bit says; what is lost with one fragment is all of it.

use crate::{
    frame::{Buffer, Frame, NoRoom, Offload},
    mtu::IpMtu,
    wire::{checksum, ethernet, ipv4, vlan},
};
use zerocopy::{FromBytes, IntoBytes};

/// Fragment offsets count in such units.
const UNIT: usize = 8;

/// Cuts an IPv4 packet into fragments.
///
/// It borrows nothing: give each call the bytes of the frame again, unchanged.
///
/// ```
/// use cvsw_core::{Frame, fragment::Fragmenter, mtu::IpMtu};
///
/// fn cut(bytes: &[u8], mtu: IpMtu) -> Vec<Vec<u8>> {
///     let Some(mut fragmenter) = Fragmenter::new(bytes, mtu) else { return vec![bytes.to_vec()] };
///     let mut fragments = Vec::new();
///     while !fragmenter.is_done() {
///         let mut frame = Frame::new(vec![0; 2048], 128, 0).unwrap();
///         fragmenter.next(bytes, &mut frame).unwrap();
///         fragments.push(frame.bytes().to_vec());
///     }
///     fragments
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Fragmenter {
    /// Where the IPv4 header begins.
    network_offset: usize,
    /// Where the packet's payload begins.
    payload: usize,
    /// First byte behind the packet.
    end: usize,
    /// Payload bytes of each fragment but the last: a multiple of [`UNIT`].
    size: usize,
    /// Where the payload of the next fragment begins.
    next: usize,
    /// Offset of the packet itself, in units, and its more-fragments bit: it may be a fragment already.
    first: u16,
}

impl Fragmenter {
    /// Cuts the frame `bytes` into packets of at most `mtu` bytes. `None` if there is nothing to cut: the packet fits, is
    /// not IPv4, may not be fragmented, or has options, which no packet of a tunnel has.
    pub fn new(bytes: &[u8], mtu: IpMtu) -> Option<Self> {
        let (network_offset, header) = outer(bytes)?;
        let len = usize::from(header.total_length.get());
        let fragment = header.fragment.get();
        if len <= usize::from(mtu.get()) || fragment & ipv4::DONT_FRAGMENT != 0 {
            return None;
        }
        let payload = network_offset.checked_add(ipv4::LEN)?;
        let end = network_offset.checked_add(len)?;
        bytes.get(payload..end)?;
        let room = usize::from(mtu.get()).checked_sub(ipv4::LEN)?;
        let size = room.checked_sub(room.checked_rem(UNIT)?)?;
        // The last fragment's offset must not run over the 13 bits that it has.
        let behind = usize::from(fragment & ipv4::OFFSET_MASK).checked_add(len.checked_div(UNIT)?)?;
        (size > 0 && behind <= usize::from(ipv4::OFFSET_MASK)).then_some(Self {
            network_offset,
            payload,
            end,
            size,
            next: payload,
            first: fragment,
        })
    }

    /// Fragments that are still to be made.
    pub fn remaining(&self) -> usize {
        self.end.saturating_sub(self.next).div_ceil(self.size)
    }

    /// Whether all fragments have been made.
    pub const fn is_done(&self) -> bool {
        self.next >= self.end
    }

    /// Makes the next fragment of `bytes`, at the place where `fragment` begins. Nothing happens if there is none left.
    ///
    /// # Errors
    /// `NoRoom` if the fragment does not fit the buffer; the same fragment can then be made in a larger one.
    pub fn next<B: Buffer>(&mut self, bytes: &[u8], fragment: &mut Frame<B>) -> Result<(), NoRoom> {
        let behind = self.next.saturating_add(self.size).min(self.end);
        let (Some(header), Some(payload)) = (bytes.get(..self.payload), bytes.get(self.next..behind)) else {
            return Ok(());
        };
        if payload.is_empty() {
            return Ok(());
        }
        fragment.set_len(header.len().saturating_add(payload.len()))?;
        fragment.offload = Offload::default();
        let Some((head, body)) = fragment.bytes_mut().split_at_mut_checked(header.len()) else {
            return Err(NoRoom);
        };
        head.copy_from_slice(header);
        body.copy_from_slice(payload);
        let done = self.next.saturating_sub(self.payload).checked_div(UNIT).unwrap_or(0);
        // Lengths and offsets were checked to fit when the packet was.
        let offset = self.first.wrapping_add(done as u16);
        let more = if behind < self.end { ipv4::MORE_FRAGMENTS } else { 0 };
        let len = ipv4::LEN.saturating_add(body.len()) as u16;
        if let Some((ip, _)) =
            head.get_mut(self.network_offset..).and_then(|head| ipv4::Header::mut_from_prefix(head).ok())
        {
            ip.total_length.set(len);
            ip.fragment.set(offset | more);
            renew_checksum(ip);
        }
        self.next = behind;
        Ok(())
    }
}

/// Lets the IPv4 packet of the frame `bytes`, which a tunnel of the vNIC itself began, be cut. `false`: it cannot be.
pub(crate) fn permit(bytes: &mut [u8]) -> bool {
    let Some((offset, _)) = outer(bytes) else { return false };
    let header = bytes.get_mut(offset..).and_then(|packet| ipv4::Header::mut_from_prefix(packet).ok());
    let Some((ip, _)) = header else { return false };
    ip.fragment.set(ip.fragment.get() & !ipv4::DONT_FRAGMENT);
    renew_checksum(ip);
    true
}

/// Offset and header of an IPv4 packet without options, in a frame with at most one tag: what a tunnel makes.
fn outer(bytes: &[u8]) -> Option<(usize, &ipv4::Header)> {
    let offset = match bytes.get(vlan::OFFSET..)? {
        [8, 0, ..] => ethernet::LEN,
        [0x81, 0, _, _, 8, 0, ..] => ethernet::LEN.saturating_add(vlan::LEN),
        _ => return None,
    };
    let (header, _) = ipv4::Header::ref_from_prefix(bytes.get(offset..)?).ok()?;
    (header.version_ihl == ipv4::VERSION_IHL).then_some((offset, header))
}

fn renew_checksum(ip: &mut ipv4::Header) {
    ip.checksum.set(0);
    ip.checksum.set(!checksum::sum(ip.as_bytes()));
}
