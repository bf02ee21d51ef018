//! The loop that runs a vNIC until a signal comes.

use crate::{sa_state::SaState, stats::StatsServer, vnic::Vnic};
use cvsw_core::Instant;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    time::ClockId,
};
use std::{
    io,
    num::NonZero,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
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
/// Nanoseconds that the kernel may add to a nap.
const TIMER_SLACK: u64 = 1_000;
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
    // Else a nap of 50 µs takes 100.
    rustix::thread::set_current_timer_slack(NonZero::new(TIMER_SLACK))?;
    let mut moderation = Moderation::default();
    let mut called = false;
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
        if stop.requested() || (idle && vnic.ports().iter().all(|port| port.finished())) {
            break;
        }
        if called || time.nanos_since(last_housekeeping) >= HOUSEKEEPING {
            last_housekeeping = time;
            if let Some(server) = &mut stats {
                server.serve(|| vnic.snapshot(time))?;
            }
        }
        called = false;
        let nap = moderation.nap(time, moved, vnic.received());
        if idle && mode == PollMode::Wait {
            match nap {
                Some(nap) => thread::sleep(nap),
                None => {
                    let listener = stats.as_ref().map(|server| server.as_fd());
                    called = wait(vnic, &stop.wake, listener, TICK.saturating_sub(time.nanos_since(last_tick)))?;
                }
            }
        }
    }
    vnic.close()
}

/// Lets frames gather when they come so often that being woken for each would cost more than handling it, as NICs do
/// with their interrupts (`ethtool -C`, rx-usecs).
#[derive(Debug, Default)]
struct Moderation {
    /// When the window began, and what had been received until then, by direction.
    since: Instant,
    before: [u64; 2],
    dense: bool,
    napped: bool,
}

impl Moderation {
    /// Length of the window in which frames are counted, in nanoseconds.
    const WINDOW: u64 = 1_000_000;
    /// Frames in a window that make it dense, whatever they are.
    const DENSE: u64 = 96;
    /// Frames more in one direction than in the other that make it dense: somebody sends and does not wait for answers. Of
    /// requests and their answers there are as many in both.
    const ONE_WAY: u64 = 16;
    /// What a frame may wait for others.
    const NAP: Duration = Duration::from_micros(50);

    /// How long to sleep now if there is nothing to do: `moved` is what the last step did, `received` what came from the
    /// VM and from the network so far. After a nap in vain: not again.
    fn nap(&mut self, now: Instant, moved: usize, received: [u64; 2]) -> Option<Duration> {
        if now.nanos_since(self.since) >= Self::WINDOW {
            let [host, net] = [0, 1].map(|way| received[way] - self.before[way]);
            self.dense = host + net >= Self::DENSE || host.abs_diff(net) >= Self::ONE_WAY;
            (self.since, self.before) = (now, received);
        }
        self.napped = moved == 0 && self.dense && !self.napped;
        self.napped.then_some(Self::NAP)
    }
}

/// Sleeps until something happens, `timeout` nanoseconds at most. Whether somebody else than a port calls.
fn wait(vnic: &mut Vnic, stop: &UnixStream, stats: Option<BorrowedFd<'_>>, timeout: u64) -> io::Result<bool> {
    let mut errors = [false; 2];
    let called;
    {
        let ports = vnic.ports();
        let needs_nap =
            |port: &&dyn crate::port::Port| port.tx_pending() || (port.poll_fd().is_none() && !port.finished());
        let naps = ports.iter().any(needs_nap);
        let timeout = if naps { timeout.min(NAP) } else { timeout };
        let timeout = Timespec { tv_sec: (timeout / TICK) as i64, tv_nsec: (timeout % TICK) as i64 };
        // Ports first, so that their results stand at known places.
        let fds = ports.map(|port| port.poll_fd());
        let others = [Some(stop.as_fd()), stats];
        let mut set: Vec<_> =
            fds.iter().chain(&others).flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        match rustix::event::poll(&mut set, Some(&timeout)) {
            // An interface that is deleted goes down first, and only that is told: whoever looked in between would not learn more.
            Ok(0) if !naps => errors = [true; 2],
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut results = set.iter();
        for (error, fd) in errors.iter_mut().zip(fds) {
            let result = fd.and_then(|_| results.next());
            *error |= result.is_some_and(|result| result.revents().intersects(PollFlags::ERR | PollFlags::HUP));
        }
        called = results.any(|result| !result.revents().is_empty());
    }
    let [host, net] = errors;
    vnic.poll_error(host, net)?;
    Ok(called)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Naps in 5 ms when a burst of so many frames comes, by direction, each `every` microseconds.
    fn naps(burst: [u64; 2], every: u64) -> usize {
        let mut moderation = Moderation::default();
        let mut received = [0; 2];
        let naps = (0..5_000 / every).map(|step| {
            let now = Instant::from_nanos(step * every * 1_000);
            received = [received[0] + burst[0], received[1] + burst[1]];
            let _ = moderation.nap(now, 1, received);
            usize::from(moderation.nap(now, 0, received).is_some())
        });
        naps.sum()
    }

    #[test]
    fn only_who_does_not_wait_for_answers_has_to_wait_for_others() {
        assert_eq!(naps([1, 1], 25), 0, "one request and its answer at a time");
        assert_eq!(naps([1, 0], 100), 0, "a few frames");
        assert!(naps([1, 0], 25) > 100, "a stream to the network");
        assert!(naps([1, 2], 25) > 100, "a stream from the network, with answers");
        assert!(naps([4, 4], 25) > 100, "many requests at a time");
    }

    #[test]
    fn after_a_nap_in_vain_comes_a_sleep() {
        let mut moderation = Moderation::default();
        let now = Instant::from_nanos(2_000_000);
        let nap = moderation.nap(now, 0, [1000, 0]);
        assert_eq!((nap, moderation.nap(now, 0, [1000, 0])), (Some(Moderation::NAP), None));
        assert_eq!(moderation.nap(now, 0, [1000, 0]), Some(Moderation::NAP), "and after the sleep again");
    }
}
