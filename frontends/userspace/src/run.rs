//! The loop that runs a vNIC until a signal comes.

use crate::{sa_state::SaState, stats::StatsServer, vnic::Vnic};
use cvsw_core::Instant;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    time::ClockId,
};
use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// What to do when no frame waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PollMode {
    /// Ask again at once: least latency, one whole core.
    Busy,
    /// Sleep until a frame comes.
    #[default]
    Wait,
}

/// Nanoseconds between looks at signals and at the statistics socket while frames keep coming.
const HOUSEKEEPING: u64 = 1_000_000;
/// Nanoseconds between ticks of the engine.
const TICK: u64 = 1_000_000_000;
/// Nanoseconds to sleep when a port cannot wake us: it has no descriptor, or a full device queue.
const NAP: u64 = 1_000_000;

/// SIGTERM and SIGINT, as something to poll.
#[derive(Debug)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    wake: UnixStream,
}

impl Stop {
    /// From now on the signals no longer end the process.
    pub fn on_signals() -> io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        let (wake, write) = UnixStream::pair()?;
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Self { flag, wake })
    }

    fn requested(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

/// The monotonic clock.
pub fn now() -> Instant {
    let time = rustix::time::clock_gettime(ClockId::Monotonic);
    Instant::from_nanos((time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64))
}

/// Runs `vnic` until a signal comes or both of its ports have come to their end.
/// `state` is where the sequence numbers of keys from a file are kept.
pub fn run(
    vnic: &mut Vnic,
    mode: PollMode,
    stop: &Stop,
    mut stats: Option<&mut StatsServer>,
    mut state: Option<&mut SaState>,
) -> io::Result<()> {
    let mut time = now();
    let (mut last_tick, mut last_housekeeping) = (time, time);
    loop {
        time = now();
        let mut moved = vnic.step(time)?;
        if time.nanos_since(last_tick) >= TICK {
            last_tick = time;
            moved += vnic.tick(time)?;
            if let Some(state) = &mut state {
                state.keep(vnic.sas())?;
            }
        }
        let idle = moved == 0;
        if idle || time.nanos_since(last_housekeeping) >= HOUSEKEEPING {
            last_housekeeping = time;
            if stop.requested() || (idle && vnic.ports().iter().all(|port| port.finished())) {
                break;
            }
            if let Some(server) = &mut stats {
                server.serve(|| vnic.snapshot(time))?;
            }
        }
        if idle && mode == PollMode::Wait {
            let listener = stats.as_ref().map(|server| server.as_fd());
            wait(vnic, &stop.wake, listener, TICK.saturating_sub(time.nanos_since(last_tick)))?;
        }
    }
    vnic.close()
}

/// Sleeps until something happens, `timeout` nanoseconds at most.
fn wait(vnic: &mut Vnic, stop: &UnixStream, stats: Option<BorrowedFd<'_>>, timeout: u64) -> io::Result<()> {
    let mut errors = [false; 2];
    {
        let ports = vnic.ports();
        let needs_nap =
            |port: &&dyn crate::port::Port| port.tx_pending() || (port.poll_fd().is_none() && !port.finished());
        let timeout = if ports.iter().any(needs_nap) { timeout.min(NAP) } else { timeout };
        let timeout = Timespec { tv_sec: (timeout / TICK) as i64, tv_nsec: (timeout % TICK) as i64 };
        // Ports first, so that their results stand at known places.
        let fds = ports.map(|port| port.poll_fd());
        let others = [Some(stop.as_fd()), stats];
        let mut set: Vec<_> =
            fds.iter().chain(&others).flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        match rustix::event::poll(&mut set, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut results = set.iter();
        for (error, fd) in errors.iter_mut().zip(fds) {
            let result = fd.and_then(|_| results.next());
            *error = result.is_some_and(|result| result.revents().intersects(PollFlags::ERR | PollFlags::HUP));
        }
    }
    let [host, net] = errors;
    vnic.poll_error(host, net)
}
