//! Brings one vNIC its messages, each until it is answered, a few at a time.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use cvsw_core::control::{SaAnswer, SaCommand, SaResult, SetSa};

use super::{ChannelId, channel::is_spi};

/// Messages that may be unanswered: fewer than a vNIC's answers that can wait.
const WINDOW: u16 = 8;
/// The same when another controller brings them.
const FAR_WINDOW: u16 = 64;
/// Pause after a refusal.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// Pause when the vNIC has no room for another association.
const FULL_PAUSE: Duration = Duration::from_millis(500);
/// How long it may have none, while keys are exchanged, before that is wrong.
const FULL_PATIENCE: Duration = Duration::from_secs(30);
/// Longest pause before a message is repeated.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Something that a vNIC shall do.
#[derive(Clone, Debug)]
pub struct Order {
    /// What.
    pub command: SaCommand,
    /// The channel that it is for.
    pub channel: Option<ChannelId>,
    /// The controller that has given it, if that is another one, and the number that it has there.
    pub from: Option<(Arc<str>, u32)>,
}

#[derive(Debug)]
struct Sent {
    transaction: u32,
    order: Order,
    first: Duration,
    again_at: Duration,
    attempts: u32,
}

/// The messages for one vNIC.
#[derive(Debug)]
pub struct Courier {
    window: u16,
    next_transaction: u32,
    generation: Option<u64>,
    repeated: u64,
    /// Boxed: every vNIC has a courier, and most couriers have nothing to do most of the time.
    work: Option<Box<Work>>,
}

/// What there is to do.
#[derive(Debug, Default)]
struct Work {
    waiting: VecDeque<Order>,
    sent: Vec<Sent>,
    paused_until: Duration,
    /// Since when the vNIC has no room.
    full: Option<Duration>,
}

impl Default for Courier {
    fn default() -> Self {
        Self { window: WINDOW, next_transaction: 0, generation: None, repeated: 0, work: None }
    }
}

impl Courier {
    /// One that goes by way of another controller. `number`: no two have the same.
    pub fn far(number: u32) -> Self {
        Self { window: FAR_WINDOW, next_transaction: number << 16, ..Self::default() }
    }

    /// Receiving associations that the vNIC was to lose because we have said so, and may have yet.
    pub fn removals(self) -> Vec<u32> {
        let Work { sent, waiting, .. } = self.work.map(|work| *work).unwrap_or_default();
        let orders = sent.into_iter().map(|sent| sent.order).chain(waiting);
        let removal = |order: Order| match order.command {
            SaCommand::Remove { id } if order.from.is_none() && is_spi(id) => Some(id),
            _ => None,
        };
        orders.filter_map(removal).collect()
    }

    /// Whether it has this order of another controller already.
    pub fn has(&self, from: &(Arc<str>, u32)) -> bool {
        let Some(Work { sent, waiting, .. }) = self.work.as_deref() else { return false };
        sent.iter().map(|sent| &sent.order).chain(waiting).any(|order| order.from.as_ref() == Some(from))
    }

    /// Whether it has nothing to do.
    pub const fn is_idle(&self) -> bool {
        self.work.is_none()
    }

    /// Puts an order behind the others.
    pub fn push(&mut self, order: Order) {
        self.work.get_or_insert_default().waiting.push_back(order);
    }

    /// Whether an answer with this boot generation comes from another life of the vNIC than the ones before.
    pub fn restarted(&mut self, generation: u64) -> bool {
        let before = self.generation.replace(generation);
        before.is_some_and(|before| before != generation)
    }

    /// An answer has come. Returns the order that it is for, if it was carried out or can be given up.
    ///
    /// # Errors
    /// Why it was refused. It is repeated later.
    pub fn answered(&mut self, now: Duration, answer: &SaAnswer) -> Result<Option<Order>, String> {
        let Some(work) = &mut self.work else { return Ok(None) };
        let Some(at) = work.sent.iter().position(|sent| sent.transaction == answer.transaction) else {
            return Ok(None);
        };
        let why = match answer.result {
            SaResult::Done | SaResult::Present | SaResult::NotFound => {
                let order = work.sent.remove(at).order;
                if matches!(order.command, SaCommand::Add(..)) {
                    work.full = None;
                }
                if work.waiting.is_empty() && work.sent.is_empty() {
                    self.work = None;
                }
                return Ok(Some(order));
            }
            // What makes room may wait behind it: a sender's new key, after which receivers lose the old one.
            SaResult::Full => {
                let order = work.sent.remove(at).order;
                work.waiting.push_back(order);
                work.paused_until = now.saturating_add(FULL_PAUSE);
                let since = *work.full.get_or_insert(now);
                let late = now.saturating_sub(since) >= FULL_PATIENCE;
                return if late {
                    Err("it has no room for another security association".to_owned())
                } else {
                    Ok(None)
                };
            }
            SaResult::KeysRefused => {
                "it refuses keys in clear: start it with --accept-keys-in-clear (until then its network is silent)"
            }
            SaResult::Unsupported => "it cannot compute the network's cipher suite",
            SaResult::Refused => "it refuses a security association",
        };
        work.paused_until = now.saturating_add(REFUSED_PAUSE);
        if let Some(sent) = work.sent.get_mut(at) {
            sent.again_at = work.paused_until;
        }
        Err(why.to_owned())
    }

    /// When something is to be sent, after [`Courier::poll`] and if nobody answers; `None`: never.
    pub fn due(&self, now: Duration) -> Option<Duration> {
        let work = self.work.as_ref()?;
        if now < work.paused_until {
            return Some(work.paused_until);
        }
        work.sent.iter().map(|sent| sent.again_at).min()
    }

    /// Messages that were sent again since this was asked last.
    pub const fn take_repeated(&mut self) -> u64 {
        std::mem::replace(&mut self.repeated, 0)
    }

    /// Messages that were sent once and are not answered: those that may be answered yet.
    pub fn in_flight(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.sent.iter().filter(|sent| sent.attempts == 1).count())
    }

    /// How long ago the message with this number was sent first, if it is not answered.
    pub fn waited(&self, now: Duration, transaction: u32) -> Option<Duration> {
        let sent = self.work.as_ref()?.sent.iter().find(|sent| sent.transaction == transaction)?;
        Some(now.saturating_sub(sent.first))
    }

    /// Whether something waits that could be sent, as far as this vNIC is concerned.
    pub fn has_more(&self, now: Duration) -> bool {
        self.work.as_ref().is_some_and(|work| work.has_more(now, self.window))
    }

    /// What is to be sent now: again, and `room` messages more.
    pub fn poll(&mut self, now: Duration, timeout: Duration, room: usize) -> Vec<SetSa> {
        let mut out = Vec::new();
        let Some(work) = self.work.as_mut().filter(|work| now >= work.paused_until) else { return out };
        for sent in &mut work.sent {
            if now >= sent.again_at {
                sent.attempts = sent.attempts.saturating_add(1);
                self.repeated += 1;
                let pause = timeout.saturating_mul(sent.attempts).min(MAX_PAUSE);
                sent.again_at = now.saturating_add(pause);
                out.push(SetSa { transaction: sent.transaction, command: sent.order.command.clone() });
            }
        }
        let repeated = out.len();
        // A flush that arrives late would take away what was sent behind it.
        while out.len() - repeated < room && work.has_more(now, self.window) {
            let Some(order) = work.waiting.pop_front() else { break };
            if let SaCommand::Remove { id } = order.command {
                work.give_up_adding(id);
            }
            self.next_transaction = self.next_transaction.wrapping_add(1);
            let transaction = self.next_transaction;
            out.push(SetSa { transaction, command: order.command.clone() });
            let again_at = now.saturating_add(timeout);
            work.sent.push(Sent { transaction, order, first: now, again_at, attempts: 1 });
        }
        out
    }
}

impl Work {
    /// An association that is to be removed is not added any more: if that was sent and got lost, to repeat it would undo the
    /// removal.
    fn give_up_adding(&mut self, id: u32) {
        let adds = |order: &Order| matches!(&order.command, SaCommand::Add(config, _) if config.id == id);
        self.sent.retain(|sent| !adds(&sent.order));
        // What found no room waits behind it. A sending association's id is used again.
        if is_spi(id) {
            self.waiting.retain(|order| !adds(order));
        }
    }

    fn has_more(&self, now: Duration, window: u16) -> bool {
        let flush = self.sent.iter().any(|sent| matches!(sent.order.command, SaCommand::Flush));
        now >= self.paused_until && !self.waiting.is_empty() && self.sent.len() < window.into() && !flush
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cvsw_core::{
        crypto::{KeyMaterial, SaConfig, Suite},
        flow::Direction,
    };

    fn add(spi: u32) -> Order {
        let key = KeyMaterial::new(Suite::Aes128Gcm, &[1; 20]).unwrap();
        let config = SaConfig::new(spi, Direction::Rx, spi, [192, 0, 2, 1]);
        Order { command: SaCommand::Add(config, key), channel: None, from: None }
    }

    #[test]
    fn what_is_removed_is_not_added_afterwards() {
        let seconds = Duration::from_secs;
        let spi = 0xf000_0001;
        for full in [false, true] {
            let mut courier = Courier::default();
            courier.push(add(spi));
            let added = courier.poll(seconds(0), seconds(1), WINDOW.into()).remove(0);
            if full {
                let (transaction, result) = (added.transaction, SaResult::Full);
                let answer =
                    SaAnswer { transaction, operation: 1, id: spi, result, association: None, generation: 1 };
                courier.answered(seconds(0), &answer).unwrap();
            }
            courier.push(Order { command: SaCommand::Remove { id: spi }, channel: None, from: None });
            let later: Vec<_> = (1..30)
                .flat_map(|now| courier.poll(seconds(now), seconds(1), WINDOW.into()))
                .map(|m| m.command)
                .collect();
            let removes = |command: &SaCommand| matches!(command, SaCommand::Remove { .. });
            let since: Vec<_> = later.iter().skip_while(|command| !removes(command)).collect();
            assert!(since.len() > 1, "it is repeated");
            assert!(since.into_iter().all(removes), "{later:?}");
            assert_eq!(courier.removals(), [spi]);
        }
    }

    #[test]
    fn what_finds_no_room_lets_others_pass() {
        let seconds = Duration::from_secs;
        let mut courier = Courier::default();
        (0..20).for_each(|number| courier.push(add(1000 + number)));
        courier.push(Order { command: SaCommand::Remove { id: 7 }, channel: None, from: None });
        let (mut now, mut removed) = (Duration::ZERO, false);
        while !removed {
            assert!(now < seconds(20), "a removal is behind what needs room, and never comes");
            for message in courier.poll(now, seconds(1), WINDOW.into()) {
                removed |= matches!(message.command, SaCommand::Remove { .. });
                let result = if removed { SaResult::Done } else { SaResult::Full };
                let transaction = message.transaction;
                let answer =
                    SaAnswer { transaction, operation: 1, id: 1, result, association: None, generation: 1 };
                let told = courier.answered(now, &answer);
                assert!(told.is_ok(), "it may be full for a while");
            }
            now = courier.due(now).expect("there is more to do");
        }
        assert!(
            courier.poll(now + seconds(1), seconds(1), WINDOW.into()).len() == usize::from(WINDOW),
            "nothing was lost"
        );
    }
}
