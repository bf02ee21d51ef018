//! Packets as data, and the frames they stand for. The headers and all checksums are etherparse's work, so that
//! nothing of the engine judges itself.

use etherparse::{
    EtherType, Ethernet2Header, IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header,
    TcpHeader, UdpHeader, checksum::Sum16BitWords,
};

/// UDP destination port of VXLAN.
pub const VXLAN_PORT: u16 = 4789;
/// Source MAC address that the constructors use.
pub const SRC_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x01, 0x01];
/// Destination MAC address that the constructors use.
pub const DST_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x01, 0x02];

/// A frame, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Ethernet source.
    pub eth_src: [u8; 6],
    /// Ethernet destination.
    pub eth_dst: [u8; 6],
    /// VLAN tags, outermost first: tag protocol identifier and TCI.
    pub tags: Vec<(u16, u16)>,
    /// What follows.
    pub network: Network,
    /// Bytes behind the packet (Ethernet padding).
    pub padding: usize,
}

/// The layer above Ethernet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// IPv4.
    Ipv4(Ipv4),
    /// IPv6.
    Ipv6(Ipv6),
    /// ARP for IPv4 over Ethernet; the target hardware address is zero.
    Arp {
        /// Operation.
        operation: u16,
        /// Sender hardware address.
        sender_mac: [u8; 6],
        /// Sender protocol address.
        sender: [u8; 4],
        /// Target protocol address.
        target: [u8; 4],
    },
    /// Anything else.
    Other {
        /// EtherType.
        ethertype: u16,
        /// Payload.
        payload: Vec<u8>,
    },
}

/// An IPv4 packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
    /// ToS octet.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// Options; a multiple of 4 bytes, at most 40.
    pub options: Vec<u8>,
    /// Which part of the payload this packet carries.
    pub fragment: Fragment,
    /// Payload.
    pub transport: Transport,
}

/// Part of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// Its first bytes (a multiple of 8).
    First {
        /// How many.
        keep: usize,
    },
    /// The bytes behind the first.
    Later {
        /// How many are left out in front (a multiple of 8).
        skip: usize,
    },
}

/// An IPv6 packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Traffic class.
    pub class: u8,
    /// Extension headers: type, and the bytes behind the next-header and length octets (6 + 8n of them).
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Payload.
    pub transport: Transport,
}

/// The layer above IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
        /// The nine flags NS to FIN.
        flags: u16,
        /// Payload.
        payload: Vec<u8>,
    },
    /// UDP.
    Udp {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
        /// Whether there is a checksum.
        checksum: bool,
        /// Payload.
        payload: Vec<u8>,
    },
    /// ICMP or ICMPv6.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// What follows the checksum.
        payload: Vec<u8>,
    },
    /// Anything else.
    Other {
        /// Protocol number.
        protocol: u8,
        /// Payload.
        payload: Vec<u8>,
    },
}

impl Packet {
    /// An untagged frame from [`SRC_MAC`] to [`DST_MAC`].
    pub fn new(network: Network) -> Self {
        Self { eth_src: SRC_MAC, eth_dst: DST_MAC, tags: Vec::new(), network, padding: 0 }
    }

    /// An IPv4 packet.
    pub fn ip4(src: [u8; 4], dst: [u8; 4], transport: Transport) -> Self {
        let fragment = Fragment::Whole;
        Self::new(Network::Ipv4(Ipv4 { src, dst, tos: 0, id: 0x1234, options: Vec::new(), fragment, transport }))
    }

    /// An IPv6 packet.
    pub fn ip6(src: [u8; 16], dst: [u8; 16], transport: Transport) -> Self {
        Self::new(Network::Ipv6(Ipv6 { src, dst, class: 0, extensions: Vec::new(), transport }))
    }

    /// UDP over IPv4, with a checksum.
    pub fn udp4(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16, payload: &[u8]) -> Self {
        Self::ip4(src, dst, Transport::Udp { src: sport, dst: dport, checksum: true, payload: payload.to_vec() })
    }

    /// TCP over IPv4, with ACK and PSH.
    pub fn tcp4(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16, payload: &[u8]) -> Self {
        Self::ip4(src, dst, Transport::Tcp { src: sport, dst: dport, flags: 0x018, payload: payload.to_vec() })
    }

    /// An ICMP echo request.
    pub fn ping4(src: [u8; 4], dst: [u8; 4], id: u16, sequence: u16) -> Self {
        let echo = etherparse::Icmpv4Header::new(Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq: sequence }));
        let [kind, code, _, _, rest @ ..] = echo_bytes(&echo.to_bytes());
        Self::ip4(src, dst, Transport::Icmp { kind, code, payload: [&rest[..], &[0x55; 56]].concat() })
    }

    /// An ICMPv6 echo request.
    pub fn ping6(src: [u8; 16], dst: [u8; 16], id: u16, sequence: u16) -> Self {
        let echo = etherparse::Icmpv6Header::new(Icmpv6Type::EchoRequest(IcmpEchoHeader { id, seq: sequence }));
        let [kind, code, _, _, rest @ ..] = echo_bytes(&echo.to_bytes());
        Self::ip6(src, dst, Transport::Icmp { kind, code, payload: [&rest[..], &[0x55; 56]].concat() })
    }

    /// An ARP request, sent to all.
    pub fn arp(sender: [u8; 4], target: [u8; 4]) -> Self {
        Self { eth_dst: [0xff; 6], ..Self::new(Network::Arp { operation: 1, sender_mac: SRC_MAC, sender, target }) }
    }

    /// A VXLAN packet from UDP port 50000 around the frame `inner`, without UDP checksum.
    pub fn vxlan(src: [u8; 4], dst: [u8; 4], vni: u32, inner: &[u8]) -> Self {
        let payload = [&[8, 0, 0, 0][..], &(vni << 8).to_be_bytes(), inner].concat();
        Self::ip4(src, dst, Transport::Udp { src: 50000, dst: VXLAN_PORT, checksum: false, payload })
    }

    /// One of each kind, with ports that no dissector knows.
    pub fn samples() -> Vec<Self> {
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let (a6, b6) = ([0xfd; 16], [0xfe; 16]);
        let udp6 = Transport::Udp { src: 40000, dst: 40053, checksum: true, payload: b"query".to_vec() };
        let tcp6 = Transport::Tcp { src: 40000, dst: 40080, flags: 0x002, payload: Vec::new() };
        vec![
            Self::udp4(a, 40000, b, 40053, b"query"),
            Self::tcp4(a, 40000, b, 40080, b"GET"),
            Self::ping4(a, b, 1, 2),
            Self::arp(a, b),
            Self::ip6(a6, b6, udp6),
            Self::ip6(a6, b6, tcp6),
            Self::ping6(a6, b6, 1, 2),
            Self::udp4(a, 40000, b, 40053, b"tagged").tagged(0x8100, 0x6064),
            Self::tcp4(a, 40000, b, 40080, b"twice").tagged(0x8100, 200).tagged(0x88a8, 100),
            Self::vxlan([192, 0, 2, 1], [192, 0, 2, 2], 42, &Self::ping4(a, b, 3, 4).build()),
            Self::new(Network::Other { ethertype: 0x88b5, payload: b"local experiment".to_vec() }),
        ]
    }

    /// The same packet with one more tag in front of those it has.
    #[must_use]
    pub fn tagged(mut self, tpid: u16, tci: u16) -> Self {
        self.tags.insert(0, (tpid, tci));
        self
    }

    /// The same packet with `fragment` of its IPv4 payload.
    ///
    /// # Panics
    /// If it is not IPv4.
    #[must_use]
    pub fn fragment(mut self, fragment: Fragment) -> Self {
        self.ipv4_mut().fragment = fragment;
        self
    }

    /// The IPv4 layer, to be changed.
    ///
    /// # Panics
    /// If there is none.
    pub fn ipv4_mut(&mut self) -> &mut Ipv4 {
        match &mut self.network {
            Network::Ipv4(ip) => ip,
            other => panic!("not IPv4: {other:?}"),
        }
    }

    /// The frame.
    pub fn build(&self) -> Vec<u8> {
        let (ethertype, payload) = match &self.network {
            Network::Ipv4(ip) => (0x0800, ip.build()),
            Network::Ipv6(ip) => (0x86dd, ip.build()),
            Network::Arp { operation, sender_mac, sender, target } => {
                (0x0806, build_arp(*operation, *sender_mac, *sender, *target))
            }
            Network::Other { ethertype, payload } => (*ethertype, payload.clone()),
        };
        let types = self.tags.iter().map(|(tpid, _)| *tpid).chain([ethertype]);
        let mut types = types.map(EtherType);
        let mut header = Ethernet2Header { source: self.eth_src, destination: self.eth_dst, ..Default::default() };
        header.ether_type = types.next().unwrap_or_default();
        let mut frame = header.to_bytes().to_vec();
        for ((_, tci), EtherType(next)) in self.tags.iter().zip(types) {
            frame.extend([tci.to_be_bytes(), next.to_be_bytes()].concat());
        }
        frame.extend(payload);
        frame.resize(frame.len() + self.padding, 0);
        frame
    }
}

impl Ipv4 {
    fn build(&self) -> Vec<u8> {
        let whole = self.transport.build(&[&self.src[..], &self.dst[..]].concat());
        let (part, offset, more) = match self.fragment {
            Fragment::Whole => (&whole[..], 0, false),
            Fragment::First { keep } => (&whole[..keep.min(whole.len())], 0, true),
            Fragment::Later { skip } => (&whole[skip.min(whole.len())..], skip / 8, false),
        };
        let mut header =
            Ipv4Header::new(part.len() as u16, 64, IpNumber(self.transport.protocol(false)), self.src, self.dst)
                .expect("length");
        header.dscp = (self.tos >> 2).try_into().expect("six bits");
        header.ecn = (self.tos & 3).try_into().expect("two bits");
        header.identification = self.id;
        header.dont_fragment = false;
        header.more_fragments = more;
        header.fragment_offset = IpFragOffset::try_new(offset as u16).expect("13 bits");
        header.options = self.options[..].try_into().expect("a multiple of 4, at most 40 bytes");
        header.set_payload_len(part.len()).expect("16 bits");
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], part].concat()
    }
}

impl Ipv6 {
    fn build(&self) -> Vec<u8> {
        let addresses = [self.src, self.dst].concat();
        let protocol = self.transport.protocol(true);
        let types = self.extensions.iter().map(|(kind, _)| *kind).chain([protocol]);
        let mut types = types.map(IpNumber);
        let next_header = types.next().unwrap_or_default();
        let mut payload = Vec::new();
        for ((kind, body), next) in self.extensions.iter().zip(types) {
            let units = (body.len() + 2) / if *kind == 51 { 4 } else { 8 };
            let length = match *kind {
                51 => units - 2,
                44 => 0,
                _ => units - 1,
            };
            payload.extend([next.0, length as u8]);
            payload.extend(body);
        }
        payload.extend(self.transport.build(&addresses));
        let header = etherparse::Ipv6Header {
            traffic_class: self.class,
            payload_length: payload.len() as u16,
            next_header,
            hop_limit: 64,
            source: self.src,
            destination: self.dst,
            ..Default::default()
        };
        [&header.to_bytes()[..], &payload].concat()
    }
}

impl Transport {
    /// The protocol number, over IPv6 if `v6`.
    pub fn protocol(&self, v6: bool) -> u8 {
        match self {
            Self::Tcp { .. } => 6,
            Self::Udp { .. } => 17,
            Self::Icmp { .. } if v6 => 58,
            Self::Icmp { .. } => 1,
            Self::Other { protocol, .. } => *protocol,
        }
    }

    /// Header and payload with their checksum; `addresses` are source and destination of the IP header.
    fn build(&self, addresses: &[u8]) -> Vec<u8> {
        let v6 = addresses.len() == 32;
        let (mut bytes, checksum_at) = match self {
            Self::Tcp { src, dst, flags, payload } => {
                let mut header = TcpHeader::new(*src, *dst, 0x0102_0304, 4096);
                header.acknowledgment_number = 0x0506_0708;
                let mut bytes = header.to_bytes().to_vec();
                bytes[12] |= (flags >> 8) as u8 & 1;
                bytes[13] = *flags as u8;
                bytes.extend(payload);
                (bytes, Some(16))
            }
            Self::Udp { src, dst, checksum, payload } => {
                let length = (UdpHeader::LEN + payload.len()) as u16;
                let header = UdpHeader { source_port: *src, destination_port: *dst, length, checksum: 0 };
                ([&header.to_bytes()[..], payload].concat(), checksum.then_some(6))
            }
            Self::Icmp { kind, code, payload } => ([&[*kind, *code, 0, 0][..], payload].concat(), Some(2)),
            Self::Other { payload, .. } => (payload.clone(), None),
        };
        if let Some(at) = checksum_at {
            let mut sum = Sum16BitWords::new().add_slice(&bytes);
            if v6 || !matches!(self, Self::Icmp { .. }) {
                let length = (bytes.len() as u16).to_be_bytes();
                sum = sum.add_slice(addresses).add_2bytes([0, self.protocol(v6)]).add_2bytes(length);
            }
            let checksum = match self {
                Self::Udp { .. } => sum.to_ones_complement_with_no_zero(),
                _ => sum.ones_complement(),
            };
            // etherparse sums words as the processor loads them.
            bytes[at..at + 2].copy_from_slice(&checksum.to_ne_bytes());
        }
        bytes
    }
}

/// An echo header, which has eight bytes.
fn echo_bytes(header: &[u8]) -> [u8; 8] {
    header.try_into().expect("eight bytes")
}

fn build_arp(operation: u16, sender_mac: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let packet = etherparse::ArpPacket::new(
        etherparse::ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        etherparse::ArpOperation(operation),
        &sender_mac,
        &sender,
        &[0; 6],
        &target,
    );
    packet.expect("addresses of equal length").to_bytes().to_vec()
}
