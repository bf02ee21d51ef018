//! What the engine sees in a frame's bytes, asked of an engine that has no flows.

use crate::frame;
use cvsw_core::{
    Config, Cvsw, Instant,
    flow::{Command, Direction, FlowKey, FlowMod},
    trace::{Event, Observer},
};
use zerocopy::FromZeros;

/// An engine with an empty, active table.
pub struct Parser {
    engine: Box<Cvsw<2, 2, 2>>,
    direction: Direction,
}

impl Parser {
    /// A parser of frames that travel in `direction`.
    pub fn new(direction: Direction) -> anyhow::Result<Self> {
        let mut engine = Cvsw::new_box_zeroed().map_err(|_| anyhow::anyhow!("out of memory"))?;
        engine.init(&Config::default());
        // Any change makes the table active; this one leaves it empty.
        engine.flow_mod(Instant::ZERO, &FlowMod { command: Command::Delete, ..FlowMod::default() })?;
        Ok(Self { engine, direction })
    }

    /// The key of a frame; `None` if the engine does not look at it (too short, or a control frame).
    pub fn key(&mut self, bytes: &[u8]) -> Option<FlowKey> {
        let mut frame = frame::empty_frame().ok()?;
        frame::load(&mut frame, bytes).ok()?;
        let mut seen = Seen(None);
        let _verdict = self.engine.trace(Instant::ZERO, self.direction, &mut frame, &mut seen);
        seen.0
    }
}

struct Seen(Option<FlowKey>);

impl Observer for Seen {
    const ENABLED: bool = true;

    fn event(&mut self, event: &Event<'_>) {
        if let Event::Parsed { key, .. } = event {
            self.0 = Some(**key);
        }
    }
}
