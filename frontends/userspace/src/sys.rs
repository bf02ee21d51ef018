//! Everything that needs `unsafe`: the tun, interface, ethtool, packet-ring and AF_XDP interfaces of Linux.
//!
//! The functions are safe to call with any arguments; they know nothing of frames or engines.

mod xdp;

pub use xdp::XdpSocket;

use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    mm::{MapFlags, ProtFlags},
    net::{AddressFamily, SocketFlags, SocketType},
};
use std::{
    ffi::{c_int, c_uint, c_void},
    io,
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

/// Bytes of `struct virtio_net_hdr` without the merge field, as tun and packet sockets use it.
pub const VNET_HEADER_LEN: usize = 10;

/// `ethtool` on/off settings: `(get, set)` command numbers of `linux/ethtool.h`.
#[derive(Clone, Copy, Debug)]
pub struct EthtoolFlag(u32, u32);

impl EthtoolFlag {
    /// `tx-checksumming`.
    pub const TX_CHECKSUM: Self = Self(0x16, 0x17);
    /// `tcp-segmentation-offload`, over IPv4 and IPv6.
    pub const TSO: Self = Self(0x1e, 0x1f);
    /// `generic-segmentation-offload`.
    pub const GSO: Self = Self(0x23, 0x24);
    /// `generic-receive-offload`.
    pub const GRO: Self = Self(0x2b, 0x2c);
}

/// Creates a non-persistent tap interface in the calling thread's network namespace: it lives as long as the
/// descriptor. Frames carry a virtio header ([`VNET_HEADER_LEN`]); reads and writes do not block.
pub fn create_tap(name: &str) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let fd = rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let mut request = interface_request(name)?;
    request.ifr_ifru.ifru_flags =
        (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL) as libc::c_short;
    ioctl(fd.as_fd(), libc::TUNSETIFF, &mut request)?;
    let mut header_len = VNET_HEADER_LEN as c_int;
    ioctl(fd.as_fd(), libc::TUNSETVNETHDRSZ, &mut header_len)?;
    Ok(fd)
}

/// What frames read from a tap may leave to the reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapOffload {
    /// Unfinished checksums; the others need it.
    pub checksum: bool,
    /// TCP super-frames.
    pub tso: bool,
    /// UDP super-frames (Linux 6.2 and later).
    pub uso: bool,
}

/// Tells the kernel what frames read from `tap` may leave to the reader; the VM's interface offers it then.
pub fn tap_set_offload(tap: BorrowedFd<'_>, offload: TapOffload) -> io::Result<()> {
    // TUN_F_USO4 and TUN_F_USO6 of linux/if_tun.h; the kernel wants both or none.
    const TUN_F_USO: c_uint = 0x20 | 0x40;
    let tso = libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let parts = [(offload.checksum, libc::TUN_F_CSUM), (offload.tso, tso), (offload.uso, TUN_F_USO)];
    let flags = parts.iter().filter(|(on, _)| *on).fold(0, |flags, (_, flag)| flags | flag);
    // SAFETY: TUNSETOFFLOAD takes its flags by value and touches no memory of ours.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) }).map(drop)
}

/// One interface's settings, through a socket that stays in the interface's network namespace.
#[derive(Debug)]
pub struct Interface {
    socket: OwnedFd,
    name: String,
}

impl Interface {
    /// The interface `name` of the calling thread's network namespace.
    pub fn open(name: &str) -> io::Result<Self> {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let interface = Self { socket, name: name.to_owned() };
        interface.index()?;
        Ok(interface)
    }

    /// Its index.
    pub fn index(&self) -> io::Result<i32> {
        let request = self.request(libc::SIOCGIFINDEX, |_| ())?;
        // SAFETY: SIOCGIFINDEX filled this member; every bit pattern is an integer.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex })
    }

    /// Its IP MTU.
    pub fn mtu(&self) -> io::Result<i32> {
        let request = self.request(libc::SIOCGIFMTU, |_| ())?;
        // SAFETY: SIOCGIFMTU filled this member; every bit pattern is an integer.
        Ok(unsafe { request.ifr_ifru.ifru_mtu })
    }

    /// Sets its IP MTU.
    pub fn set_mtu(&self, mtu: u16) -> io::Result<()> {
        self.request(libc::SIOCSIFMTU, |request| request.ifr_ifru.ifru_mtu = i32::from(mtu)).map(drop)
    }

    /// Its MAC address; an error unless it is an Ethernet interface.
    pub fn mac(&self) -> io::Result<[u8; 6]> {
        let request = self.request(libc::SIOCGIFHWADDR, |_| ())?;
        // SAFETY: SIOCGIFHWADDR filled this member; every bit pattern is a sockaddr.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr };
        // Network namespaces have a loopback interface; frames on it have Ethernet headers, too.
        if ![libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK].contains(&address.sa_family) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not an Ethernet interface"));
        }
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(address.sa_data) {
            *to = from as u8;
        }
        Ok(mac)
    }

    /// Sets its MAC address.
    pub fn set_mac(&self, mac: [u8; 6]) -> io::Result<()> {
        let mut data = [0; 14];
        for (to, from) in data.iter_mut().zip(mac) {
            *to = from as libc::c_char;
        }
        let address = libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data: data };
        self.request(libc::SIOCSIFHWADDR, |request| request.ifr_ifru.ifru_hwaddr = address).map(drop)
    }

    /// Brings it up.
    pub fn set_up(&self) -> io::Result<()> {
        let request = self.request(libc::SIOCGIFFLAGS, |_| ())?;
        // SAFETY: SIOCGIFFLAGS filled this member; every bit pattern is an integer.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        self.request(libc::SIOCSIFFLAGS, |request| {
            request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
        })
        .map(drop)
    }

    /// Reads an on/off setting as `ethtool -k` shows it.
    pub fn ethtool(&self, flag: EthtoolFlag) -> io::Result<bool> {
        Ok(self.ethtool_value(flag.0, 0)? != 0)
    }

    /// Changes an on/off setting as `ethtool -K` does.
    pub fn set_ethtool(&self, flag: EthtoolFlag, on: bool) -> io::Result<()> {
        self.ethtool_value(flag.1, u32::from(on)).map(drop)
    }

    fn ethtool_value(&self, command: u32, data: u32) -> io::Result<u32> {
        // `struct ethtool_value`: command, data.
        let mut value = [command, data];
        let pointer = value.as_mut_ptr().cast::<libc::c_char>();
        self.request(libc::SIOCETHTOOL, |request| request.ifr_ifru.ifru_data = pointer)?;
        let [_, data] = value;
        Ok(data)
    }

    fn request(&self, number: libc::Ioctl, fill: impl FnOnce(&mut libc::ifreq)) -> io::Result<libc::ifreq> {
        let mut request = interface_request(&self.name)?;
        fill(&mut request);
        ioctl(self.socket.as_fd(), number, &mut request)?;
        Ok(request)
    }
}

/// A raw packet socket with memory-mapped receive and transmit rings (TPACKET_V2), bound to one interface.
///
/// Every frame, in both directions, is preceded by a virtio header ([`VNET_HEADER_LEN`]).
#[derive(Debug)]
pub struct PacketRing {
    socket: OwnedFd,
    map: NonNull<u8>,
    slot_size: usize,
    slots: usize,
    rx_next: usize,
    tx_next: usize,
}

// SAFETY: the mapping belongs to this value alone and can be used from any one thread.
unsafe impl Send for PacketRing {}

/// A received frame, still in the ring.
#[derive(Debug)]
pub struct RxSlot<'a> {
    /// The virtio header.
    pub vnet: [u8; VNET_HEADER_LEN],
    /// The bytes of the frame that are in the ring.
    pub bytes: &'a [u8],
    /// The frame's length; more than `bytes.len()` if it did not fit the slot.
    pub len: usize,
    /// The 802.1Q tag (TPID and TCI as on the wire) that the kernel took out of the frame.
    pub vlan: Option<[u8; 4]>,
    /// Whether the frame did not fit and waits as a whole for [`PacketRing::rx_whole`].
    pub whole_waits: bool,
}

/// `PACKET_COPY_THRESH` of linux/if_packet.h.
const PACKET_COPY_THRESH: c_int = 7;
/// Memory for whole frames that did not fit their slots: some 60 of the largest.
const WHOLE_FRAMES_BYTES: usize = 4 << 20;

const SLOT_HEADER: usize = align(size_of::<libc::tpacket2_hdr>());

const fn align(size: usize) -> usize {
    size.next_multiple_of(libc::TPACKET_ALIGNMENT)
}

impl PacketRing {
    /// Opens the rings on interface `index` with `slots` slots (rounded up to a power of two) each way, of at
    /// least `frame_size` bytes. The interface becomes promiscuous; frames that others send on it are not seen.
    pub fn open(index: i32, slots: usize, frame_size: usize) -> io::Result<Self> {
        // Protocol 0: nothing is received before `bind` names interface and protocol.
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        let fd = socket.as_fd();
        set_option(fd, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V2 as c_int))?;
        set_option(fd, libc::PACKET_VNET_HDR, &1)?;
        // A frame that does not fit its slot (a super-frame) is queued as a whole, too, as far as this allows.
        set_option(fd, PACKET_COPY_THRESH, &1)?;
        rustix::net::sockopt::set_socket_recv_buffer_size_force(fd, WHOLE_FRAMES_BYTES)?;
        // A frame that the kernel finds malformed must not stop the ring behind it.
        set_option(fd, libc::PACKET_LOSS, &1)?;
        set_option(fd, libc::PACKET_IGNORE_OUTGOING, &1)?;
        // Header, link-layer address and virtio header stand in front of a received frame.
        let overhead = align(libc::TPACKET2_HDRLEN + 16) + align(VNET_HEADER_LEN);
        let slot_size = (frame_size + overhead).next_power_of_two();
        let slots = slots.next_power_of_two();
        let block_size = slot_size.max(64 * 1024);
        let slots = slots.max(block_size / slot_size);
        let ring = libc::tpacket_req {
            tp_block_size: block_size as c_uint,
            tp_block_nr: (slots * slot_size / block_size) as c_uint,
            tp_frame_size: slot_size as c_uint,
            tp_frame_nr: slots as c_uint,
        };
        set_option(fd, libc::PACKET_RX_RING, &ring)?;
        set_option(fd, libc::PACKET_TX_RING, &ring)?;
        // The whole transmit ring may be in flight; every frame counts with its kernel overhead.
        rustix::net::sockopt::set_socket_send_buffer_size_force(fd, 2 * slots * slot_size)?;
        // SAFETY: a new shared mapping at an address that the kernel chooses overlaps nothing of ours.
        let map = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                2 * slots * slot_size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                fd,
                0,
            )?
        };
        let map = NonNull::new(map.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let ring = Self { socket, map, slot_size, slots, rx_next: 0, tx_next: 0 };
        bind_packet(ring.as_fd(), index, libc::ETH_P_ALL as u16)?;
        // SAFETY: all-zero bytes are a valid `packet_mreq`: plain integers.
        let mut membership: libc::packet_mreq = unsafe { std::mem::zeroed() };
        membership.mr_ifindex = index;
        membership.mr_type = libc::PACKET_MR_PROMISC as u16;
        set_option(ring.as_fd(), libc::PACKET_ADD_MEMBERSHIP, &membership)?;
        Ok(ring)
    }

    /// The oldest received frame that was not released.
    pub fn rx_peek(&self) -> Option<RxSlot<'_>> {
        let slot = self.slot(self.rx_next);
        if self.status(slot).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: `slot` is the aligned start of a slot inside the mapping. TP_STATUS_USER, read with acquire
        // ordering, says that the kernel has finished the header and gave the slot to us.
        let header = unsafe { slot.cast::<libc::tpacket2_hdr>().read() };
        let start = usize::from(header.tp_mac);
        let kept = (header.tp_snaplen as usize).min(self.slot_size.saturating_sub(start));
        let mut vnet = [0; VNET_HEADER_LEN];
        let vnet_start = start.saturating_sub(VNET_HEADER_LEN).min(self.slot_size - VNET_HEADER_LEN);
        // SAFETY: `vnet_start + VNET_HEADER_LEN` and `start + kept` are at most `slot_size`, so both reads stay
        // in the slot, which is ours until `rx_release` takes `&mut self` and so ends this borrow.
        let bytes = unsafe {
            slot.add(vnet_start).copy_to_nonoverlapping(NonNull::from(&mut vnet).cast(), VNET_HEADER_LEN);
            std::slice::from_raw_parts(slot.add(start.min(self.slot_size)).as_ptr(), kept)
        };
        let vlan = (header.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then(|| {
            let tpid_valid = header.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
            let tpid = if tpid_valid { header.tp_vlan_tpid } else { 0x8100 };
            let ([a, b], [c, d]) = (tpid.to_be_bytes(), header.tp_vlan_tci.to_be_bytes());
            [a, b, c, d]
        });
        let whole_waits = header.tp_status & libc::TP_STATUS_COPY != 0;
        Some(RxSlot { vnet, bytes, len: header.tp_len as usize, vlan, whole_waits })
    }

    /// Takes the frame of the oldest slot with [`RxSlot::whole_waits`], its virtio header first, into `room`. Returns
    /// the bytes written; what does not fit is lost. Call it once for each such slot.
    pub fn rx_whole(&self, room: &mut [u8]) -> io::Result<usize> {
        let (len, _) = rustix::net::recv(&self.socket, room, rustix::net::RecvFlags::DONTWAIT)?;
        Ok(len)
    }

    /// Gives the slot of the last [`PacketRing::rx_peek`] back to the kernel. Without a frame there: nothing.
    pub fn rx_release(&mut self) {
        let slot = self.slot(self.rx_next);
        if self.status(slot).load(Ordering::Relaxed) & libc::TP_STATUS_USER != 0 {
            self.status(slot).store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.rx_next = (self.rx_next + 1) % self.slots;
        }
    }

    /// Room for the next frame to send (virtio header first). `None`: the ring is full.
    pub fn tx_slot(&mut self) -> Option<&mut [u8]> {
        let slot = self.slot(self.slots + self.tx_next);
        let busy = libc::TP_STATUS_SEND_REQUEST | libc::TP_STATUS_SENDING;
        if self.status(slot).load(Ordering::Acquire) & busy != 0 {
            return None;
        }
        // SAFETY: the range is inside the slot; without a busy bit the kernel does not touch the slot, and the
        // borrow of `self` keeps anyone else from it.
        Some(unsafe {
            std::slice::from_raw_parts_mut(slot.add(SLOT_HEADER).as_ptr(), self.slot_size - SLOT_HEADER)
        })
    }

    /// Queues the first `len` bytes of the slot that [`PacketRing::tx_slot`] gave. Call [`PacketRing::tx_kick`]
    /// once per burst. Does nothing if the ring is full or `len` does not fit.
    pub fn tx_commit(&mut self, len: usize) {
        if self.tx_slot().is_none_or(|room| len > room.len()) {
            return;
        }
        let slot = self.slot(self.slots + self.tx_next);
        // SAFETY: the slot holds a whole header and is ours, as `tx_slot` just found.
        unsafe { (&raw mut (*slot.cast::<libc::tpacket2_hdr>().as_ptr()).tp_len).write(len as u32) };
        self.status(slot).store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
        self.tx_next = (self.tx_next + 1) % self.slots;
    }

    /// Lets the kernel send what is queued.
    pub fn tx_kick(&self) -> io::Result<()> {
        Ok(rustix::net::send(&self.socket, &[], rustix::net::SendFlags::DONTWAIT).map(drop)?)
    }

    /// Whether the kernel has not yet taken the frame that was queued last.
    pub fn tx_pending(&self) -> bool {
        let last = (self.tx_next + self.slots - 1) % self.slots;
        let slot = self.slot(self.slots + last);
        self.status(slot).load(Ordering::Relaxed) & libc::TP_STATUS_SEND_REQUEST != 0
    }

    /// Frames that the kernel dropped for lack of receive slots since the last call.
    pub fn take_rx_drops(&self) -> io::Result<u64> {
        let mut stats = [0u32; 2];
        let mut len = size_of_val(&stats) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes, the two counters of `struct tpacket_stats`.
        check(unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                stats.as_mut_ptr().cast(),
                &raw mut len,
            )
        })?;
        let [_packets, drops] = stats;
        Ok(u64::from(drops))
    }

    /// Takes an error that the socket reported by `POLLERR` (the interface went down).
    pub fn take_error(&self) -> io::Result<()> {
        Ok(rustix::net::sockopt::socket_error(&self.socket)??)
    }

    /// Start of slot `number`: receive slots first, then transmit slots.
    fn slot(&self, number: usize) -> NonNull<u8> {
        debug_assert!(number < 2 * self.slots);
        // SAFETY: both ring positions are below `slots`, so the slot lies inside the mapping of `2 * slots`.
        unsafe { self.map.add(number * self.slot_size) }
    }

    fn status(&self, slot: NonNull<u8>) -> &AtomicU32 {
        // SAFETY: a slot starts with the 32-bit `tp_status`, 16-byte aligned, and is mapped as long as `self`.
        // The kernel changes it concurrently, which is what an atomic allows.
        unsafe { AtomicU32::from_ptr(slot.cast().as_ptr()) }
    }
}

impl AsFd for PacketRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for PacketRing {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `open` mapped; no slice into it outlives the borrow of `self`.
        let result =
            unsafe { rustix::mm::munmap(self.map.as_ptr().cast::<c_void>(), 2 * self.slots * self.slot_size) };
        debug_assert!(result.is_ok());
    }
}

/// Opens a raw packet socket that only sends, on interface `index`, one super-frame a call: a virtio header
/// ([`VNET_HEADER_LEN`]), then the frame. (A socket with a transmit ring sends from that ring only.)
pub fn packet_sender(index: i32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    set_option(socket.as_fd(), libc::PACKET_VNET_HDR, &1)?;
    rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, WHOLE_FRAMES_BYTES)?;
    // Protocol 0: nothing is ever received.
    bind_packet(socket.as_fd(), index, 0)?;
    Ok(socket)
}

/// Binds a packet socket to interface `index` for frames of `protocol`.
fn bind_packet(socket: BorrowedFd<'_>, index: i32, protocol: u16) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `sockaddr_ll`: plain integers.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = index;
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the pointer and the length describe `address`.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) }).map(drop)
}

fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all-zero bytes are a valid `ifreq`: integers and a null pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.bytes().any(|b| b == 0 || b == b'/') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("\"{name}\" is not an interface name (1 to 15 bytes, no slash)"),
        ));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

/// An ioctl whose argument is a pointer to `T`. Private: each caller pairs a number with its own type.
fn ioctl<T>(fd: BorrowedFd<'_>, number: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: every number that this file passes reads and writes at most the structure that it is called with.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), number, std::ptr::from_mut(argument)) }).map(drop)
}

fn set_option<T>(fd: BorrowedFd<'_>, option: c_int, value: &T) -> io::Result<()> {
    let len = size_of_val(value) as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes, which is the size of `value`.
    let result = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, option, std::ptr::from_ref(value).cast(), len)
    };
    check(result).map(drop)
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
