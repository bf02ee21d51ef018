//! The engine, whatever its capacities.

use cvsw_core::{
    Buffer, Config, Cvsw, Direction, Frame, Instant, Verdict, control::ControlEvent, control::SessionState,
    crypto::Ciphers,
};

/// A [`Cvsw`] of any capacities. No other type can be one.
pub trait Engine: sealed::Sealed {
    /// [`Cvsw::init`].
    fn init(&mut self, config: &Config);
    /// [`Cvsw::announce`].
    fn announce(&mut self);
    /// [`Cvsw::process_with`].
    fn process_with<B: Buffer, C: Ciphers>(
        &mut self,
        ciphers: &mut C,
        now: Instant,
        direction: Direction,
        frame: &mut Frame<B>,
    ) -> Verdict;
    /// [`Cvsw::poll_event`].
    fn poll_event(&mut self) -> Option<ControlEvent>;
    /// [`Cvsw::poll_transmit`].
    fn poll_transmit(&mut self, out: &mut [u8]) -> Option<usize>;
    /// [`Cvsw::session_state`].
    fn session_state(&self) -> SessionState;
    /// [`Cvsw::tick`].
    fn tick(&mut self, now: Instant);
}

mod sealed {
    pub trait Sealed {}
    impl<const FLOWS: usize, const CACHE: usize, const MASKS: usize, const SAS: usize> Sealed
        for cvsw_core::Cvsw<FLOWS, CACHE, MASKS, SAS>
    {
    }
}

impl<const FLOWS: usize, const CACHE: usize, const MASKS: usize, const SAS: usize> Engine
    for Cvsw<FLOWS, CACHE, MASKS, SAS>
{
    fn init(&mut self, config: &Config) {
        self.init(config);
    }

    fn announce(&mut self) {
        self.announce();
    }

    fn process_with<B: Buffer, C: Ciphers>(
        &mut self,
        ciphers: &mut C,
        now: Instant,
        direction: Direction,
        frame: &mut Frame<B>,
    ) -> Verdict {
        self.process_with(ciphers, now, direction, frame)
    }

    fn poll_event(&mut self) -> Option<ControlEvent> {
        self.poll_event()
    }

    fn poll_transmit(&mut self, out: &mut [u8]) -> Option<usize> {
        self.poll_transmit(out)
    }

    fn session_state(&self) -> SessionState {
        self.session_state()
    }

    fn tick(&mut self, now: Instant) {
        self.tick(now);
    }
}
