//! A vNIC: a real engine behind a port of the dummy datapath.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant as Clock},
};

use cvsw_controller::Mac;
use cvsw_core::{
    Config, Cvsw, Frame, Instant, Verdict,
    control::{ControlEvent, ControlMessage, ETHERTYPE, MAX_FRAME_LEN, MessageType, SessionState},
    crypto::{Portable, SaStatus},
    flow::{Direction, FlowMod},
};
use zerocopy::FromZeros as _;

use super::{join, wait_for};

/// What a vNIC has seen and has.
#[derive(Default)]
pub struct Seen {
    /// Control messages that the switch delivered, in order.
    pub control: Vec<(MessageType, u16)>,
    /// The last MTU that the controller set.
    pub mtu: Option<u16>,
    /// The last offloads that the controller set.
    pub offloads: Option<u16>,
    /// The engine's table.
    pub flows: Vec<FlowMod>,
    /// Its security associations.
    pub sas: Vec<SaStatus>,
    /// The session's state.
    pub state: SessionState,
    /// All frames that the switch delivered, as they came.
    pub frames: Vec<Vec<u8>>,
}

/// Faults that a test can switch on.
#[derive(Default)]
pub struct Faults {
    /// Lose the next frame of this type that the controller sends.
    pub lose: Option<MessageType>,
    /// Do not answer anything.
    pub mute: bool,
    /// Frames to be sent as they are.
    pub inject: Vec<Vec<u8>>,
    /// Delete all entries behind the controller's back.
    pub clear_table: bool,
}

/// A running vNIC; it ends (and its link goes) when dropped.
pub struct Vnic {
    seen: Arc<Mutex<Seen>>,
    faults: Arc<Mutex<Faults>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Vnic {
    /// Starts a vNIC with address `mac` on the port behind `socket`. `announce`: it says HELLO, as our own vNICs do;
    /// otherwise it waits to be found, as the public driver does.
    pub fn start(socket: &Path, mac: Mac, announce: bool) -> Self {
        Self::new(socket, mac, announce, None)
    }

    /// The same for one that takes keys in clear, and has this boot generation.
    pub fn with_keys(socket: &Path, mac: Mac, boot: u64) -> Self {
        Self::new(socket, mac, true, Some(boot))
    }

    fn new(socket: &Path, mac: Mac, announce: bool, boot: Option<u64>) -> Self {
        let stream =
            wait_for("a port's socket", || UnixStream::connect(socket).ok(), || socket.display().to_string());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let faults = Arc::new(Mutex::new(Faults::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut engine = Cvsw::new_box_zeroed().unwrap();
        engine.init(&Config { mac: mac.0, ..Config::default() });
        if let Some(boot) = boot {
            engine.accept_keys_in_clear(true);
            engine.set_boot_generation(boot);
        }
        if announce {
            engine.announce();
        }
        let worker = Worker {
            engine,
            ciphers: Box::default(),
            stream,
            socket: socket.to_owned(),
            seen: Arc::clone(&seen),
            faults: Arc::clone(&faults),
            start: Clock::now(),
        };
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || worker.run(&stop)
        });
        Self { seen, faults, stop, thread: Some(thread) }
    }

    /// Looks at what it has seen and has.
    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&lock(&self.seen))
    }

    /// How many control messages of one type it has got.
    pub fn count(&self, kind: MessageType) -> usize {
        self.look(|seen| seen.control.iter().filter(|(seen, _)| *seen == kind).count())
    }

    /// Changes its faults.
    pub fn fault(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut lock(&self.faults));
    }
}

impl Drop for Vnic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            join(thread, "the vNIC");
        }
    }
}

struct Worker {
    engine: Box<Cvsw>,
    ciphers: Box<Portable<64>>,
    stream: UnixStream,
    socket: PathBuf,
    seen: Arc<Mutex<Seen>>,
    faults: Arc<Mutex<Faults>>,
    start: Clock,
}

impl Worker {
    fn run(mut self, stop: &AtomicBool) {
        self.stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let mut pending = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let mut chunk = [0; 16384];
            match self.stream.read(&mut chunk) {
                Ok(count) if count > 0 => pending.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                // The switch or the port has gone: the vNIC stays as it is until they are back.
                Ok(_) | Err(_) => {
                    pending.clear();
                    self.link_up(stop);
                    continue;
                }
            }
            while let Some(frame) = next_frame(&mut pending) {
                self.receive(frame);
            }
            if self.exchange().is_err() {
                self.link_up(stop);
            }
        }
    }

    /// Waits until the port is there again.
    fn link_up(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            if let Ok(stream) = UnixStream::connect(&self.socket) {
                stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
                self.stream = stream;
                return;
            }
            // Not synchronisation: only the pace of trying.
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.start.elapsed().as_nanos() as u64)
    }

    fn receive(&mut self, bytes: Vec<u8>) {
        lock(&self.seen).frames.push(bytes.clone());
        let control = bytes.get(12..14) == Some(&ETHERTYPE.to_be_bytes());
        if control && let Ok(message) = ControlMessage::parse(&bytes) {
            let mut faults = lock(&self.faults);
            if faults.lose == Some(message.kind) {
                faults.lose = None;
                return;
            }
            lock(&self.seen).control.push((message.kind, message.data));
        }
        let len = bytes.len();
        let mut frame = Frame::new(bytes, 0, len).unwrap();
        let now = self.now();
        // What the VM gets does not matter here.
        let (Verdict::Forward | Verdict::Consumed | Verdict::Drop(_)) =
            self.engine.process_with(&mut *self.ciphers, now, Direction::Rx, &mut frame);
    }

    /// Sends what the engine wants sent, does what it wants done, and shows its table.
    fn exchange(&mut self) -> std::io::Result<()> {
        let now = self.now();
        let (mute, inject) = {
            let mut faults = lock(&self.faults);
            if std::mem::take(&mut faults.clear_table) {
                let all = FlowMod { command: cvsw_core::flow::Command::Delete, ..FlowMod::default() };
                self.engine.flow_mod(now, &all).unwrap();
            }
            (faults.mute, std::mem::take(&mut faults.inject))
        };
        for frame in inject {
            send(&mut self.stream, &frame)?;
        }
        let mut out = [0; MAX_FRAME_LEN];
        while let Some(len) = self.engine.poll_transmit(&mut out) {
            if !mute {
                send(&mut self.stream, &out[..len])?;
            }
        }
        let mut seen = lock(&self.seen);
        while let Some(event) = self.engine.poll_event() {
            match event {
                ControlEvent::SetMtu(mtu) => seen.mtu = Some(mtu.get()),
                ControlEvent::SetOffload(flags) => seen.offloads = Some(flags.0),
                ControlEvent::Session(_) => {}
            }
        }
        seen.state = self.engine.session_state();
        seen.sas = self.engine.sas().collect();
        seen.flows = self.engine.flows().map(|entry| entry.flow).collect();
        Ok(())
    }
}

/// Locks, also after a test has failed while it looked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send(stream: &mut UnixStream, frame: &[u8]) -> std::io::Result<()> {
    let len = u16::try_from(frame.len()).unwrap().to_be_bytes();
    stream.write_all(&[&len, frame].concat())
}

fn next_frame(pending: &mut Vec<u8>) -> Option<Vec<u8>> {
    let len = usize::from(u16::from_be_bytes([*pending.first()?, *pending.get(1)?]));
    let frame = pending.get(2..2 + len)?.to_vec();
    pending.drain(..2 + len);
    Some(frame)
}
