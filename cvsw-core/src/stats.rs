//! Counters, and the one list of reasons for which a frame can be dropped.

use crate::flow::Direction;
use zerocopy::{FromZeros, Immutable, KnownLayout};

macro_rules! reasons {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[repr(u8)]
        $vis enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All values, in counter order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// Number of values.
            pub const COUNT: usize = Self::ALL.len();

            /// The stable snake_case name: metric label, `--json` key, `ethtool -S` suffix.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Index into counter arrays.
            pub const fn index(self) -> usize { self as usize }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result { f.write_str(self.name()) }
        }
    };
}

reasons! {
    /// Why a frame was dropped. Every drop has exactly one reason, and every reason a counter.
    pub enum DropReason {
        /// The matched entry says drop (no action, or OUTPUT to `OFPP_NONE`).
        Policy = "policy",
        /// Shorter than an Ethernet header.
        FrameTooShort = "frame_too_short",
        /// The frame does not fit the link after its actions ran (layer-2 MTU of the lower device).
        FrameTooBig = "frame_too_big",
        /// An IP packet of the VM that is larger than the vNIC's MTU and may not be fragmented
        /// ([`crate::Cvsw::set_mtu`]).
        PacketTooBig = "packet_too_big",
        /// Too little room in front of the frame for an encapsulation or a VLAN tag.
        NoHeadroom = "no_headroom",
        /// Too little room behind the frame for a trailer.
        NoTailroom = "no_tailroom",
        /// A control frame (CVSW EtherType) from the VM's own stack.
        ControlFromHost = "control_from_host",
        /// A control frame that came out of a tunnel: another VM forged it.
        ControlFromTunnel = "control_from_tunnel",
        /// More look-ups for one frame than allowed ([`crate::cvsw::MAX_LOOKUPS`]).
        ResubmitLimit = "resubmit_limit",
        /// The offload metadata does not fit the frame (checksum start or GSO header outside it).
        BadOffload = "bad_offload",
        /// A super-segment met an action that cannot work on one.
        GsoUnsupported = "gso_unsupported",
        /// Decapsulation of a frame that is not IPv4/UDP.
        TunnelNotUdp = "tunnel_not_udp",
        /// Decapsulation: the outer IPv4 header is malformed (version, length, truncated).
        TunnelIpHeader = "tunnel_ip_header",
        /// Decapsulation: wrong outer IPv4 header checksum.
        TunnelIpChecksum = "tunnel_ip_checksum",
        /// Decapsulation: the outer IPv4 packet is a fragment.
        TunnelFragment = "tunnel_fragment",
        /// Decapsulation: the outer UDP length does not fit the packet.
        TunnelUdpLength = "tunnel_udp_length",
        /// Decapsulation: a non-zero outer UDP checksum is wrong.
        TunnelUdpChecksum = "tunnel_udp_checksum",
        /// Decapsulation: the UDP destination port is not the tunnel's.
        TunnelPort = "tunnel_port",
        /// Decapsulation: the VXLAN I flag is missing (RFC 7348 section 5).
        VxlanFlags = "vxlan_flags",
        /// Decapsulation: another VNI than the entry demands.
        VxlanVni = "vxlan_vni",
        /// Decapsulation: no complete inner Ethernet header.
        TunnelInnerTooShort = "tunnel_inner_too_short",
        /// Decapsulation: the underlay marked congestion (CE) on a packet whose inner sender does not
        /// understand such marks (RFC 6040 section 4.2).
        TunnelEcn = "tunnel_ecn",
        /// A frame of a network that is "encrypted only" came, or was to leave, in clear.
        ClearTextRefused = "clear_text_refused",
        /// Decryption of a frame that is not IPv4/ESP.
        EspNotEsp = "esp_not_esp",
        /// No security association: unknown SPI and destination, or no sending one with the entry's id.
        EspNoSa = "esp_no_sa",
        /// The cipher implementation holds no key for the association.
        EspNoKey = "esp_no_key",
        /// The outer destination is not the one that the sending association is for.
        EspDestination = "esp_destination",
        /// Replayed, or older than the anti-replay window.
        EspReplay = "esp_replay",
        /// Wrong integrity check value: damaged, forged, or sealed with another key.
        EspAuth = "esp_auth",
        /// Too short, not aligned, or wrong padding.
        EspMalformed = "esp_malformed",
        /// The payload is not UDP (dummy packets of RFC 4303 section 2.6 among them).
        EspNextHeader = "esp_next_header",
        /// The association has no sequence number left.
        EspExhausted = "esp_exhausted",
        /// The association has reached a hard limit.
        EspExpired = "esp_expired",
        /// The association is from before the VM was restored or cloned.
        EspStale = "esp_stale",
    }
}

reasons! {
    /// Why a control message was refused; it changed nothing.
    pub enum ControlError {
        /// Shorter than the 14-byte header.
        Short = "short",
        /// Behind a VLAN tag.
        Tagged = "tagged",
        /// Addressed to another vNIC.
        NotForUs = "not_for_us",
        /// Unknown protocol version.
        Version = "version",
        /// Unknown type, or one that only a controller receives.
        Type = "type",
        /// The pad octet is not zero, or `len` exceeds the frame, or a body where none belongs.
        Length = "length",
        /// `data` out of range (MTU below 68 or above 65535, unknown offload bits).
        Data = "data",
        /// A second HELLO.
        DuplicateHello = "duplicate_hello",
        /// A command before HELLO.
        NotConnected = "not_connected",
        /// The body is not an acceptable OFPT_FLOW_MOD or NXT_FLOW_MOD (format, match or action).
        FlowMod = "flow_mod",
        /// The flow table refused the change (full, overlap).
        Table = "table",
        /// SET_ENTRY with a DELETE command or DELETE_ENTRY with another one.
        Command = "command",
        /// A key that came in clear, and this vNIC was not told to take those.
        KeysRefused = "keys_refused",
        /// Too many SET_SA, or requests of version 3, at a time: their answers have not been sent yet.
        Busy = "busy",
        /// A message of version 2, and this vNIC has a control key.
        Downgrade = "downgrade",
        /// A message of version 3 without a tag to a vNIC with a control key, or with one to a vNIC without.
        Unauthenticated = "unauthenticated",
        /// A message of version 3 whose tag is wrong: forged, damaged, or made with another key.
        Tag = "tag",
        /// A message for another instance of this vNIC: from before it was restarted.
        Instance = "instance",
        /// A controller that was replaced: another one with a higher epoch was heard.
        StaleEpoch = "stale_epoch",
        /// A command that was answered long ago: replayed.
        Replayed = "replayed",
        /// A command that overtook others; it comes again.
        OutOfOrder = "out_of_order",
        /// A command chained to one that was refused.
        Skipped = "skipped",
        /// A key that is not wrapped, or not by this vNIC's control key.
        KeyWrap = "key_wrap",
    }
}

/// Counters of one direction.
#[derive(Clone, Debug, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
pub struct DirectionStats {
    /// Frames given to the engine.
    pub frames: u64,
    /// Bytes of those frames, as they came.
    pub bytes: u64,
    /// Frames with verdict forward.
    pub forwarded: u64,
    /// Bytes of those frames, as they left.
    pub forwarded_bytes: u64,
    /// Frames that matched no entry, or came before the table was active, and passed unchanged.
    pub missed: u64,
    /// Control messages taken out of the traffic (accepted or refused).
    pub consumed: u64,
    /// Drops, indexed by [`DropReason::index`].
    pub drops: [u64; DropReason::COUNT],
}

/// All counters of an engine. The frames add up:
/// `frames == forwarded + consumed + sum(drops)` in each direction.
#[derive(Clone, Debug, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stats {
    /// Per direction, indexed by [`Direction::index`].
    pub directions: [DirectionStats; 2],
    /// Refused control messages, indexed by [`ControlError::index`].
    pub control_errors: [u64; ControlError::COUNT],
    /// Accepted control messages.
    pub control_accepted: u64,
    /// Those of them that came again, and were answered again without being carried out again.
    pub control_duplicates: u64,
    /// Look-ups answered by the exact-match cache.
    pub cache_hits: u64,
    /// Look-ups that went to the classifier.
    pub cache_misses: u64,
    /// Flow-table entries removed by a timeout.
    pub expired: u64,
    /// Removals of entries with SEND_FLOW_REM that the controller was not told of: too many at once.
    pub removals_lost: u64,
    /// Packets dropped as [`DropReason::PacketTooBig`] whose sender was told the MTU; the others came too many at a
    /// time, or must not be answered.
    pub too_big_answered: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

impl Stats {
    /// Counters of one direction.
    pub const fn direction(&self, direction: Direction) -> &DirectionStats {
        let [tx, rx] = &self.directions;
        match direction {
            Direction::Tx => tx,
            Direction::Rx => rx,
        }
    }

    /// Every counter: the parts of its name, and its value.
    pub fn counters(&self) -> impl Iterator<Item = ([&'static str; 2], u64)> + '_ {
        (0..).map_while(|index| self.counter(index))
    }

    /// The counter number `index`, from 0: the parts of its name, and its value. `None`: there is none of that number.
    pub fn counter(&self, index: usize) -> Option<([&'static str; 2], u64)> {
        let Some(index) = index.checked_sub(DirectionStats::COUNT) else {
            return self.direction(Direction::Tx).counter(["tx_", "tx_drop_"], index);
        };
        let Some(index) = index.checked_sub(DirectionStats::COUNT) else {
            return self.direction(Direction::Rx).counter(["rx_", "rx_drop_"], index);
        };
        let (name, value) = match index {
            0 => ("control_accepted", self.control_accepted),
            1 => ("control_duplicates", self.control_duplicates),
            2 => ("cache_hits", self.cache_hits),
            3 => ("cache_misses", self.cache_misses),
            4 => ("expired", self.expired),
            5 => ("removals_lost", self.removals_lost),
            6 => ("too_big_answered", self.too_big_answered),
            _ => {
                let index = index.checked_sub(7)?;
                let (error, count) = (ControlError::ALL.get(index)?, self.control_errors.get(index)?);
                return Some((["control_error_", error.name()], *count));
            }
        };
        Some((["", name], value))
    }

    /// Counters of one direction, to be changed.
    pub(crate) fn direction_mut(&mut self, direction: Direction) -> &mut DirectionStats {
        let [tx, rx] = &mut self.directions;
        match direction {
            Direction::Tx => tx,
            Direction::Rx => rx,
        }
    }
}

impl DirectionStats {
    /// Counters of one direction: six, and one per reason.
    const COUNT: usize = 6usize.saturating_add(DropReason::COUNT);

    /// The counter number `index`, with the first part of its name: of drops, and of the others.
    fn counter(&self, [plain, drop]: [&'static str; 2], index: usize) -> Option<([&'static str; 2], u64)> {
        let (name, value) = match index {
            0 => ("frames", self.frames),
            1 => ("bytes", self.bytes),
            2 => ("forwarded", self.forwarded),
            3 => ("forwarded_bytes", self.forwarded_bytes),
            4 => ("missed", self.missed),
            5 => ("consumed", self.consumed),
            _ => {
                let index = index.checked_sub(6)?;
                return Some(([drop, DropReason::ALL.get(index)?.name()], *self.drops.get(index)?));
            }
        };
        Some(([plain, name], value))
    }

    /// Frames dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason.index()).copied().unwrap_or(0)
    }

    /// Frames dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }

    /// Every reason with its count, zeros included.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().copied().zip(self.drops.iter().copied())
    }
}
