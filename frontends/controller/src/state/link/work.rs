//! What is under way with a vNIC of version 3.

use std::collections::VecDeque;

use cvsw_core::control::SetSa;

use super::associations::Associations;
use crate::plan::{Command, Listing};

/// Something that was sent and is not answered.
#[derive(Debug)]
pub(super) enum Sent {
    Command(Command),
    /// Boxed: most vNICs have none most of the time, and it is large.
    Order(Box<SetSa>),
}

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// What is to be sent, without the orders of the keys, which go first.
    pub(super) outbox: VecDeque<Command>,
    pub(super) orders: VecDeque<Box<SetSa>>,
    pub(super) sent: VecDeque<(u32, Sent)>,
    pub(super) listed: Listing,
    /// Its associations are being asked for.
    pub(super) associations: Option<Associations>,
}

impl Work {
    pub(super) fn is_nothing(&self) -> bool {
        let Self { outbox, orders, sent, listed, associations } = self;
        outbox.is_empty() && orders.is_empty() && sent.is_empty() && listed.is_empty() && associations.is_none()
    }

    /// Whether something of the plan is not answered.
    pub(super) fn plan_is_under_way(&self) -> bool {
        self.sent.iter().any(|(_, sent)| matches!(sent, Sent::Command(_)))
    }

    pub(super) fn has_orders(&self) -> bool {
        !self.orders.is_empty() || self.sent.iter().any(|(_, sent)| matches!(sent, Sent::Order(_)))
    }
}
