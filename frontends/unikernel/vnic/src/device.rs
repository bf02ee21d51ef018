//! The engine as a smoltcp device.

use crate::{
    engine::Engine,
    nic::{HEADROOM, Nic, TAILROOM},
};
use cvsw_core::{
    BURST, Config, Direction, Frame, Verdict,
    control::{ControlEvent, OffloadFlags, SessionState},
    crypto::{Ciphers, NoCiphers},
    flow::MacAddr,
    mtu::{IpMtu, L2Mtu},
};
use smoltcp::{
    phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken},
    time::Instant,
};

/// Smallest IP MTU that smoltcp supports, in bytes (its `DeviceCapabilities::max_transmission_unit`; for IPv6
/// RFC 8200 section 5 asks for 1,280).
pub const MIN_MTU: u16 = 576;

const ETHERNET_HEADER: usize = 14;
/// Nanoseconds between ticks of the engine.
const TICK: u64 = 1_000_000_000;

/// What the controller set, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Parameters {
    /// State of the control session.
    pub session: SessionState,
    /// The IP MTU that the stack has, or will have from the next poll on.
    pub mtu: IpMtu,
    /// The last MTU that was refused because the stack or the buffers cannot have it.
    pub refused_mtu: Option<IpMtu>,
    /// The offload features that were asked for last.
    pub offload_requested: Option<OffloadFlags>,
    /// Those in force: none, smoltcp has none of them.
    pub offload_effective: OffloadFlags,
}

/// A smoltcp device that is a vNIC: every frame passes the engine, in place.
///
/// `E` is a [`Cvsw`](cvsw_core::Cvsw) of any capacities. `C` computes the ciphers and holds the keys; without one,
/// whatever demands encryption is dropped and counted.
pub struct CvswDevice<'e, N: Nic, E, C = NoCiphers> {
    lower: Lower<'e, N, E, C>,
    /// The frame that the last [`CvswRxToken`] showed. It is given back before the next one.
    received: Option<Frame<N::Buffer>>,
}

/// Everything but the received frame, so that both tokens can borrow.
struct Lower<'e, N, E, C> {
    engine: &'e mut E,
    ciphers: C,
    nic: N,
    mac: MacAddr,
    parameters: Parameters,
    last_tick: cvsw_core::Instant,
}

impl<'e, N: Nic, E: Engine> CvswDevice<'e, N, E> {
    /// A vNIC of `engine` above `nic`, without ciphers. See [`CvswDevice::with_ciphers`].
    pub fn new(engine: &'e mut E, nic: N, config: &Config) -> Self {
        Self::with_ciphers(engine, NoCiphers, nic, config)
    }
}

impl<'e, N: Nic, E: Engine, C: Ciphers> CvswDevice<'e, N, E, C> {
    /// A vNIC of `engine` above `nic`. The engine is initialised with `config`, whose `link_mtu` is taken from the
    /// driver if it is not given, and says HELLO to the controller at the first [`CvswDevice::service`].
    pub fn with_ciphers(engine: &'e mut E, ciphers: C, nic: N, config: &Config) -> Self {
        engine.init(&Config { link_mtu: config.link_mtu.or(Some(nic.link_mtu())), ..*config });
        engine.announce();
        let parameters = Parameters {
            session: engine.session_state(),
            mtu: max_mtu(&nic),
            refused_mtu: None,
            offload_requested: None,
            offload_effective: OffloadFlags(0),
        };
        let lower =
            Lower { engine, ciphers, nic, mac: config.mac, parameters, last_tick: cvsw_core::Instant::ZERO };
        Self { lower, received: None }
    }

    /// The engine, to look at its counters and flows.
    pub const fn engine(&self) -> &E {
        self.lower.engine
    }

    /// The engine, to load flows.
    pub const fn engine_mut(&mut self) -> &mut E {
        self.lower.engine
    }

    /// The engine and its ciphers, to add and remove security associations.
    pub const fn engine_and_ciphers(&mut self) -> (&mut E, &mut C) {
        (self.lower.engine, &mut self.lower.ciphers)
    }

    /// The driver.
    pub const fn nic(&self) -> &N {
        &self.lower.nic
    }

    /// The driver, to be changed.
    pub const fn nic_mut(&mut self) -> &mut N {
        &mut self.lower.nic
    }

    /// The vNIC's MAC address.
    pub const fn mac(&self) -> MacAddr {
        self.lower.mac
    }

    /// What the controller set.
    pub const fn parameters(&self) -> Parameters {
        self.lower.parameters
    }

    /// The largest IP MTU that link and buffers can have.
    pub fn max_mtu(&self) -> IpMtu {
        max_mtu(&self.lower.nic)
    }

    /// Sends the engine's control frames and does what the controller wants done.
    /// [`CvswInterface::poll`](crate::CvswInterface::poll) calls it; call it yourself only without one, before
    /// and after each poll of your own interface. Returns whether there was anything to do.
    pub fn service(&mut self, timestamp: Instant) -> bool {
        self.give_back();
        self.lower.service(timestamp)
    }

    fn give_back(&mut self) {
        if let Some(frame) = self.received.take() {
            self.lower.nic.recycle(frame.into_buffer());
        }
    }
}

impl<N: Nic, E: Engine, C: Ciphers> Lower<'_, N, E, C> {
    fn service(&mut self, timestamp: Instant) -> bool {
        let now = engine_time(timestamp);
        if now.nanos_since(self.last_tick) >= TICK {
            self.last_tick = now;
            self.engine.tick(now);
        }
        let mut busy = false;
        while let Some(event) = self.engine.poll_event() {
            self.apply(event);
            busy = true;
        }
        // A burst at most, so that a long listing does not stop the traffic.
        for _ in 0..BURST {
            if !self.send_control(timestamp) {
                break;
            }
            busy = true;
        }
        busy
    }

    /// Sends one control frame, if one is waiting and there is a buffer for it.
    fn send_control(&mut self, timestamp: Instant) -> bool {
        let Some(buffer) = self.nic.allocate(timestamp) else { return false };
        let room = self.nic.buffer_len().saturating_sub(HEADROOM);
        let Ok(mut frame) = Frame::new(buffer, HEADROOM, room) else { return false };
        match self.engine.poll_transmit(frame.bytes_mut()) {
            Some(len) if frame.set_len(len).is_ok() => {
                self.nic.transmit(timestamp, frame);
                true
            }
            _ => {
                self.nic.recycle(frame.into_buffer());
                false
            }
        }
    }

    fn apply(&mut self, event: ControlEvent) {
        let parameters = &mut self.parameters;
        match event {
            ControlEvent::Session(state) => parameters.session = state,
            ControlEvent::SetMtu(mtu) if mtu.get() < MIN_MTU || mtu > max_mtu(&self.nic) => {
                parameters.refused_mtu = Some(mtu);
            }
            ControlEvent::SetMtu(mtu) => parameters.mtu = mtu,
            ControlEvent::SetOffload(requested) => parameters.offload_requested = Some(requested),
        }
    }

    /// The next received frame for the stack. Frames that end in the engine are passed over, a burst at most: under
    /// a flood of those, the stack gets its turn in between.
    fn receive(&mut self, timestamp: Instant) -> Option<Frame<N::Buffer>> {
        for _ in 0..BURST {
            let mut frame = self.nic.receive(timestamp)?;
            match self.engine.process_with(&mut self.ciphers, engine_time(timestamp), Direction::Rx, &mut frame) {
                Verdict::Forward => return Some(frame),
                // A control message, which may have held a key: the buffer must not keep it.
                Verdict::Consumed => frame.bytes_mut().fill(0),
                Verdict::Drop(_) => {}
            }
            self.nic.recycle(frame.into_buffer());
        }
        None
    }

    fn transmit(&mut self, timestamp: Instant, mut frame: Frame<N::Buffer>) {
        match self.engine.process_with(&mut self.ciphers, engine_time(timestamp), Direction::Tx, &mut frame) {
            Verdict::Forward => self.nic.transmit(timestamp, frame),
            Verdict::Consumed | Verdict::Drop(_) => self.nic.recycle(frame.into_buffer()),
        }
    }
}

impl<'e, N: Nic, E: Engine, C: Ciphers> Device for CvswDevice<'e, N, E, C> {
    type RxToken<'a>
        = CvswRxToken<'a, N>
    where
        Self: 'a;
    type TxToken<'a>
        = CvswTxToken<'a, 'e, N, E, C>
    where
        Self: 'a;

    fn receive(&mut self, timestamp: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.give_back();
        // No room for an answer: the frame waits below.
        let buffer = self.lower.nic.allocate(timestamp)?;
        let Some(frame) = self.lower.receive(timestamp) else {
            self.lower.nic.recycle(buffer);
            return None;
        };
        let frame = &*self.received.insert(frame);
        let transmit = CvswTxToken { lower: &mut self.lower, buffer: Some(buffer), timestamp };
        Some((CvswRxToken { frame }, transmit))
    }

    fn transmit(&mut self, timestamp: Instant) -> Option<Self::TxToken<'_>> {
        let buffer = self.lower.nic.allocate(timestamp)?;
        Some(CvswTxToken { lower: &mut self.lower, buffer: Some(buffer), timestamp })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.lower.parameters.mtu.l2().get() as usize;
        capabilities
    }
}

/// A received frame, after the engine.
pub struct CvswRxToken<'a, N: Nic> {
    frame: &'a Frame<N::Buffer>,
}

impl<N: Nic> RxToken for CvswRxToken<'_, N> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.frame.bytes())
    }
}

/// A buffer for a frame, before the engine. One that is not used goes back to the driver.
pub struct CvswTxToken<'a, 'e, N: Nic, E, C> {
    lower: &'a mut Lower<'e, N, E, C>,
    buffer: Option<N::Buffer>,
    timestamp: Instant,
}

impl<N: Nic, E: Engine, C: Ciphers> TxToken for CvswTxToken<'_, '_, N, E, C> {
    /// `len` beyond the buffer gets an empty slice, and nothing is sent; smoltcp never asks for more than its
    /// device's MTU.
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, len: usize, f: F) -> R {
        let fits = len <= self.lower.nic.buffer_len().saturating_sub(HEADROOM);
        let frame = self.buffer.take_if(|_| fits).and_then(|buffer| Frame::new(buffer, HEADROOM, len).ok());
        let Some(mut frame) = frame else { return f(&mut []) };
        let result = f(frame.bytes_mut());
        self.lower.transmit(self.timestamp, frame);
        result
    }
}

impl<N: Nic, E, C> Drop for CvswTxToken<'_, '_, N, E, C> {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.lower.nic.recycle(buffer);
        }
    }
}

/// smoltcp's clock as the engine's: both count from any fixed origin.
fn engine_time(timestamp: Instant) -> cvsw_core::Instant {
    let micros = u64::try_from(timestamp.total_micros()).unwrap_or(0);
    cvsw_core::Instant::from_nanos(micros.saturating_mul(1000))
}

fn max_mtu<N: Nic>(nic: &N) -> IpMtu {
    let buffer = nic.buffer_len().saturating_sub(HEADROOM).saturating_sub(TAILROOM);
    let link = usize::try_from(L2Mtu::get(nic.link_mtu())).unwrap_or(usize::MAX);
    let mtu = buffer.min(link).saturating_sub(ETHERNET_HEADER);
    IpMtu::new(u16::try_from(mtu).unwrap_or(u16::MAX)).unwrap_or(IpMtu::MIN)
}
