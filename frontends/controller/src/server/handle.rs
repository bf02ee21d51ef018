//! Asking the task that owns the controller.

use std::{fmt, time::Duration};

use tokio::sync::{mpsc, oneshot};

use super::Event;
use crate::state::Controller;

/// A question to the controller, which may also change it.
pub(super) type Question = Box<dyn FnOnce(&mut Controller, Duration) + Send>;

/// The way to the task that owns the controller.
#[derive(Clone)]
pub struct Handle {
    events: mpsc::Sender<Event>,
}

/// The controller is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping;

impl fmt::Display for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the controller is stopping")
    }
}

impl std::error::Error for Stopping {}

impl Handle {
    pub(super) const fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events }
    }

    /// Lets the owner run `question` between two events, and returns what it gives. What the controller wants sent
    /// after it is sent.
    ///
    /// # Errors
    /// The controller is stopping.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Controller, Duration) -> T + Send + 'static,
    ) -> Result<T, Stopping> {
        let (sender, answer) = oneshot::channel();
        let question: Question = Box::new(move |controller, now| {
            // If the asker has gone, nobody misses the answer.
            let _ = sender.send(question(controller, now));
        });
        self.events.send(Event::Ask(question)).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }
}
