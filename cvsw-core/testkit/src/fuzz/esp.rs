//! Received ESP packets: anything from the wire, and anything that the peer itself may have sealed.

use crate::{
    ciphers::key,
    esp::{DECAP, End, OUTER_LEN, RECEIVER, SENDER, SLOTS, SPI, VNI, config},
};
use cvsw_core::{
    Direction, DropReason,
    crypto::{Ciphers, PacketHeader, Portable, SaConfig, Suite},
};

/// The first byte of `data` chooses suite and sequence numbers, the second whether the rest is what stands behind the
/// IPv4 header or what an authentic packet holds inside.
pub fn esp(data: &[u8]) {
    let [choice, authentic, rest @ ..] = data else { return };
    let suite = Suite::ALL[usize::from(*choice) % Suite::ALL.len()];
    let extended_sequence = suite.is_authenticated() && choice & 0x80 != 0;
    let config = SaConfig { extended_sequence, ..config(Direction::Rx, SPI) };
    let mut receiver = End::<Portable<SLOTS>>::new(&[DECAP]);
    receiver.add(&config, &key(suite, 1)).expect("an acceptable association");
    let rest = rest.get(..9000).unwrap_or(rest);
    if authentic & 1 == 0 { anything(&mut receiver, suite, rest) } else { sealed(&mut receiver, suite, rest) }
}

/// What was not sealed does not pass.
fn anything(receiver: &mut End<Portable<SLOTS>>, suite: Suite, rest: &[u8]) {
    let result = receiver.receive(&packet(rest));
    assert!(result.is_err() || !suite.is_authenticated(), "forged: {rest:02x?}");
    let counters = receiver.counters(SPI);
    assert!(counters.packets == 0 || !suite.is_authenticated());
    assert_eq!(receiver.engine.stats().direction(Direction::Rx).frames, 1);
}

/// What was sealed is judged by its trailer, and then by what VXLAN says.
fn sealed(receiver: &mut End<Portable<SLOTS>>, suite: Suite, plain: &[u8]) {
    let mut ciphers = Portable::<1>::new();
    ciphers.install(0, &key(suite, 1)).expect("a slot");
    let extended = receiver.sa(SPI).config.extended_sequence;
    let mut data = [plain, &vec![0; suite.icv_len()]].concat();
    ciphers.seal(0, &PacketHeader::new(SPI, 5, extended, [9; 8]), &mut data).expect("short enough");
    let wire = [&SPI.to_be_bytes()[..], &5u32.to_be_bytes(), &[9; 8], &data].concat();
    let result = receiver.receive(&packet(&wire));
    let counters = receiver.counters(SPI);
    match trailer(plain) {
        Err(reason) => {
            assert_eq!(result, Err(reason));
            assert_eq!((counters.packets, counters.malformed), (0, 1));
        }
        Ok(datagram) => {
            assert_eq!((counters.packets, counters.bytes), (1, datagram.len() as u64));
            if let Ok(inner) = result {
                let [_, _, port_high, port_low, length_high, length_low, ..] = *datagram else {
                    panic!("no UDP header in {datagram:02x?}")
                };
                assert_eq!(u16::from_be_bytes([port_high, port_low]), 4789);
                let end = usize::from(u16::from_be_bytes([length_high, length_low]));
                assert_eq!(&datagram[12..15], &VNI.to_be_bytes()[1..]);
                // A congestion mark of the outer header, of which there is none, would be all that may change.
                assert_eq!(inner, datagram[16..end]);
            }
        }
    }
}

/// What stands in front of padding and trailer, read byte by byte.
fn trailer(plain: &[u8]) -> Result<&[u8], DropReason> {
    let [rest @ .., pad_len, next_header] = plain else { return Err(DropReason::EspMalformed) };
    let pad_len = usize::from(*pad_len);
    if !plain.len().is_multiple_of(4) || pad_len > rest.len() {
        return Err(DropReason::EspMalformed);
    }
    let (datagram, padding) = rest.split_at(rest.len() - pad_len);
    if padding.iter().enumerate().any(|(index, octet)| usize::from(*octet) != index + 1) {
        return Err(DropReason::EspMalformed);
    }
    if *next_header == 17 { Ok(datagram) } else { Err(DropReason::EspNextHeader) }
}

/// An Ethernet frame with an IPv4 packet of protocol ESP.
fn packet(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![2, 0, 0, 1, 0, 2, 2, 0, 0, 1, 0, 1, 8, 0, 0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 50, 0, 0]);
    packet.extend([SENDER, RECEIVER].concat());
    let sum: u32 = packet[14..].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let checksum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    packet[24..26].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(packet.len(), OUTER_LEN);
    packet.extend(payload);
    packet
}
