//! What the image runs: an HTTP status page, and an echo over UDP and TCP.

use crate::{
    clock::Clock,
    config::{BadWord, Config},
    devices, firmware, interrupts,
    keys::{self, Line},
    nic::{BUFFERS, Memory, VirtioNic},
    page::{self, Status},
    sys::{self, Identity, Rings, Zeroed},
};
use core::fmt::Write;
use cvsw_core::{Cvsw, crypto::Portable, flow::text::parse_flow};
use cvsw_smoltcp::{CvswDevice, CvswInterface, Parameters};
use defmt::{Debug2Format, error, info, warn};
use smoltcp::{
    iface::{SocketHandle, SocketSet, SocketStorage},
    socket::{tcp, udp},
    time::Instant,
};
use static_cell::StaticCell;
use virtio_drivers::transport::SomeTransport;
use zeroize::Zeroize;

/// Table entries, cache slots, masks, security associations.
const FLOWS: usize = 256;
const CACHE: usize = 256;
const MASKS: usize = 32;
const SAS: usize = 64;
/// Where the hypervisor puts the keys.
const KEYS_FILE: &str = "opt/org.cvsw/associations";
const KEYS: usize = 8 * 1024;
/// Connections to the status page, and to the echo, at once.
const CONNECTIONS: usize = 4;
const HTTP_PORT: u16 = 80;
const ECHO_PORT: u16 = 7;
/// Longest request line that is looked at.
const REQUEST: usize = 256;
/// The status page is written at once; it must fit.
const PAGE: usize = 24 * 1024;
const ECHO_BUFFER: usize = 16 * 1024;
const UDP_PACKETS: usize = 64;

type Engine = Cvsw<FLOWS, CACHE, MASKS, SAS>;
type Device = CvswDevice<'static, VirtioNic<Identity, SomeTransport<'static>>, Engine, &'static mut Portable<SAS>>;

/// All memory of the image but the stack.
static ENGINE: Zeroed<Engine> = Zeroed::new();
static CIPHERS: StaticCell<Portable<SAS>> = StaticCell::new();
static FRAMES: Zeroed<[Memory; BUFFERS]> = Zeroed::new();
static HTTP_RX: Zeroed<[[u8; REQUEST]; CONNECTIONS]> = Zeroed::new();
static HTTP_TX: Zeroed<[[u8; PAGE]; CONNECTIONS]> = Zeroed::new();
static ECHO: Zeroed<[[[u8; ECHO_BUFFER]; 2]; CONNECTIONS]> = Zeroed::new();
static UDP: Zeroed<[[u8; 4 * ECHO_BUFFER]; 2]> = Zeroed::new();

/// Sockets by purpose.
struct Sockets {
    set: SocketSet<'static>,
    http: [SocketHandle; CONNECTIONS],
    echo: [SocketHandle; CONNECTIONS],
    udp: SocketHandle,
}

/// Runs until the machine is ended.
pub fn run(line: &'static str) -> ! {
    let clock = Clock::start();
    match start(line, &clock) {
        Some(app) => app.run(clock),
        None => sys::exit(false),
    }
}

struct App {
    device: Device,
    interface: CvswInterface,
    sockets: Sockets,
    config: Config<'static>,
}

fn start(line: &'static str, clock: &Clock) -> Option<App> {
    let config = match Config::parse(line) {
        Ok(config) => config,
        Err(BadWord { word, expected }) => {
            error!("command line: `{}` is not understood, expected {}", word, expected);
            return None;
        }
    };
    let Some(transport) = devices::find_network() else {
        error!("no virtio network device: give the machine one with -device virtio-net-pci or -device");
        return None;
    };
    let rings = match Rings::new(transport) {
        Ok(rings) => rings,
        Err(reason) => {
            error!("the network device does not start: {}", Debug2Format(&reason));
            return None;
        }
    };
    let nic = VirtioNic::new(rings, FRAMES.take()?);
    let seed = sys::random_seed();
    let mut vnic = cvsw_core::Config { mac: nic.mac(), hash_seed: seed, ..cvsw_core::Config::default() };
    vnic.ethertype = config.ethertype.unwrap_or(vnic.ethertype);
    let ciphers = CIPHERS.init_with(Portable::new);
    let mut device = CvswDevice::with_ciphers(ENGINE.take()?, ciphers, nic, &vnic);
    let (engine, _) = device.engine_and_ciphers();
    // Associations live as long as this start; any number that other starts do not have will do.
    engine.set_boot_generation(sys::random_seed());
    engine.accept_keys_in_clear(config.accept_keys_in_clear);
    load_keys(&mut device, clock)?;
    for text in &config.flows {
        let added = parse_flow(text).map(|flow| device.engine_mut().flow_mod(cvsw_core::Instant::ZERO, &flow));
        if !matches!(added, Ok(Ok(()))) {
            error!("command line: `flow={}` is not a flow that fits the table", *text);
            return None;
        }
    }
    let mut interface = CvswInterface::new(seed.rotate_left(32), &mut device, clock.now());
    interface.interface_mut().update_ip_addrs(|addresses| addresses.extend(config.addresses.iter().copied()));
    info!("vNIC {=[u8; 6]:02x} is up, counter at {} Hz", vnic.mac, clock.hz());
    Some(App { device, interface, sockets: sockets()?, config })
}

/// Takes over the associations that the hypervisor gave. `None`: they are wrong, and nothing may be sent.
fn load_keys(device: &mut Device, clock: &Clock) -> Option<()> {
    static TEXT: Zeroed<[u8; KEYS]> = Zeroed::new();
    let text = TEXT.take()?;
    let Some(len) = firmware::file(KEYS_FILE, text) else { return Some(()) };
    let now = cvsw_core::Instant::from_nanos(clock.now().total_micros().unsigned_abs().saturating_mul(1000));
    let (engine, ciphers) = device.engine_and_ciphers();
    let mut count = 0_u32;
    for line in keys::parse(core::str::from_utf8(text.get(..len)?).ok()?) {
        let problem = match line {
            Ok(Line::Association(config, key)) => match engine.add_sa(ciphers, now, &config, &key) {
                Ok(()) => {
                    count = count.saturating_add(1);
                    continue;
                }
                Err(reason) => {
                    error!("{}: association {} is refused: {}", KEYS_FILE, config.id, reason);
                    return None;
                }
            },
            Ok(Line::EncryptedOnly(vni)) if engine.require_encryption(vni, true) => continue,
            Ok(Line::EncryptedOnly(_)) => (0, "fewer networks"),
            Err(problem) => problem,
        };
        error!("{}:{}: expected {}", KEYS_FILE, problem.0, problem.1);
        return None;
    }
    text.zeroize();
    info!("{} security associations", count);
    Some(())
}

fn sockets() -> Option<Sockets> {
    static STORAGE: StaticCell<[SocketStorage<'static>; 2 * CONNECTIONS + 1]> = StaticCell::new();
    static META: StaticCell<[[udp::PacketMetadata; UDP_PACKETS]; 2]> = StaticCell::new();
    let storage = STORAGE.init([const { SocketStorage::EMPTY }; 2 * CONNECTIONS + 1]);
    let mut set = SocketSet::new(&mut storage[..]);
    let mut add = |rx: &'static mut [u8], tx: &'static mut [u8]| {
        let mut socket = tcp::Socket::new(tcp::SocketBuffer::new(rx), tcp::SocketBuffer::new(tx));
        // Answers wait for nothing.
        socket.set_nagle_enabled(false);
        set.add(socket)
    };
    let http_buffers = HTTP_RX.take()?.iter_mut().zip(HTTP_TX.take()?);
    let mut http = http_buffers.map(|(rx, tx)| add(rx, tx));
    let http = core::array::from_fn(|_| http.next().unwrap_or_default());
    let mut echo = ECHO.take()?.iter_mut().map(|[rx, tx]| add(rx, tx));
    let echo = core::array::from_fn(|_| echo.next().unwrap_or_default());
    let [rx_meta, tx_meta] = META.init([[udp::PacketMetadata::EMPTY; UDP_PACKETS]; 2]);
    let [rx, tx] = UDP.take()?;
    let udp = udp::Socket::new(
        udp::PacketBuffer::new(&mut rx_meta[..], &mut rx[..]),
        udp::PacketBuffer::new(&mut tx_meta[..], &mut tx[..]),
    );
    let udp = set.add(udp);
    Some(Sockets { set, http, echo, udp })
}

impl App {
    fn run(mut self, clock: Clock) -> ! {
        let mut parameters = self.device.parameters();
        // Listen before the first frame is looked at, or a client that waited for the boot is refused.
        self.serve(clock.now());
        loop {
            let now = clock.now();
            self.interface.poll(now, &mut self.device, &mut self.sockets.set);
            self.serve(now);
            if self.device.parameters() != parameters {
                parameters = self.device.parameters();
                report(parameters);
            }
            while let Some(event) = self.device.engine_mut().poll_sa_event() {
                warn!("security association: {}", event);
            }
            if let Some(broken) = self.device.nic().broken() {
                error!("the network device breaks the rules of virtio: {}", Debug2Format(&broken));
                sys::exit(false);
            }
            let delay = self.interface.interface_mut().poll_delay(now, &self.sockets.set);
            let at_once = delay.is_some_and(|delay| delay.total_micros() == 0);
            if !at_once && !self.device.nic().has_received() {
                sys::wait_for_interrupt();
                self.device.nic_mut().ack_interrupt();
                interrupts::end();
            }
        }
    }

    fn serve(&mut self, now: Instant) {
        self.serve_udp();
        self.serve_echo();
        self.serve_http(now.total_millis());
    }

    fn serve_udp(&mut self) {
        let socket = self.sockets.set.get_mut::<udp::Socket<'_>>(self.sockets.udp);
        if !socket.is_open() && socket.bind(ECHO_PORT).is_err() {
            return;
        }
        while socket.can_send() {
            let Ok((data, from)) = socket.recv() else { return };
            if self.config.may_exit {
                obey(data);
            }
            // The two buffers of the socket cannot be borrowed at once.
            let mut copy = [0; 1500];
            let Some(copy) = copy.get_mut(..data.len()) else { continue };
            copy.copy_from_slice(data);
            if socket.send_slice(copy, from.endpoint).is_err() {
                return;
            }
        }
    }

    fn serve_echo(&mut self) {
        for handle in self.sockets.echo {
            let socket = self.sockets.set.get_mut::<tcp::Socket<'_>>(handle);
            if !socket.is_open() && socket.listen(ECHO_PORT).is_err() {
                continue;
            }
            while socket.can_recv() && socket.can_send() {
                let mut copy = [0; 1024];
                let room = socket.send_capacity().saturating_sub(socket.send_queue()).min(copy.len());
                let Ok(len) = socket.recv_slice(copy.get_mut(..room).unwrap_or_default()) else { break };
                if socket.send_slice(copy.get(..len).unwrap_or_default()).is_err() {
                    break;
                }
            }
            close_when_done(socket);
        }
    }

    fn serve_http(&mut self, uptime_ms: i64) {
        for handle in self.sockets.http {
            let socket = self.sockets.set.get_mut::<tcp::Socket<'_>>(handle);
            if !socket.is_open() && socket.listen(HTTP_PORT).is_err() {
                continue;
            }
            // One request per connection: nothing was sent yet.
            if socket.can_recv() && socket.can_send() && socket.send_queue() == 0 {
                let mut path = heapless::String::<REQUEST>::new();
                let request = socket.recv(|data| (data.len(), path_of(data, &mut path)));
                if request == Ok(true) {
                    let engine = self.device.engine();
                    let status = Status {
                        uptime_ms: u64::try_from(uptime_ms).unwrap_or(0),
                        mac: self.device.mac(),
                        parameters: self.device.parameters(),
                        mtu: self.interface.mtu().get(),
                        stats: engine.stats(),
                        nic: self.device.nic().counters(),
                        flow_count: engine.flow_count(),
                        encrypted_only: engine.encrypted_only().collect(),
                    };
                    if page::answer(&mut Sender(socket), &path, &status, engine.flows(), engine.sas()).is_err() {
                        warn!("the status page was cut: it does not fit its buffer");
                    }
                }
                socket.close();
            }
            close_when_done(socket);
        }
    }
}

/// What a test may ask for.
#[allow(clippy::panic, reason = "the panic that was asked for")]
fn obey(data: &[u8]) {
    match data {
        b"exit" => {
            info!("asked to exit");
            sys::exit(true);
        }
        b"panic" => panic!("asked to panic"),
        b"hang" => {
            info!("asked to hang");
            sys::halt();
        }
        _ => {}
    }
}

/// Closes our side when the other has closed its own and everything was answered.
fn close_when_done(socket: &mut tcp::Socket<'_>) {
    if socket.may_send() && !socket.may_recv() && socket.recv_queue() == 0 {
        socket.close();
    }
}

/// Takes the path out of `GET path HTTP/1.x`; whether there is one.
fn path_of(request: &[u8], path: &mut heapless::String<REQUEST>) -> bool {
    let line = core::str::from_utf8(request).unwrap_or_default();
    let target = line.strip_prefix("GET ").and_then(|rest| rest.split_ascii_whitespace().next());
    target.is_some_and(|target| path.push_str(target).is_ok())
}

/// Writes text into a socket's buffer.
struct Sender<'a, 'b>(&'a mut tcp::Socket<'b>);

impl Write for Sender<'_, '_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        match self.0.send_slice(text.as_bytes()) {
            Ok(len) if len == text.len() => Ok(()),
            _ => Err(core::fmt::Error),
        }
    }
}

fn report(parameters: Parameters) {
    info!("controller: {}", parameters);
}
