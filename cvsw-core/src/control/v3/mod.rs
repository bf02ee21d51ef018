//! Protocol version 3: acknowledged, fenced, authenticated (`docs/src/protocol-v3.md` has every byte).
//!
//! Both sides of a session are state machines without I/O, clock or allocation: [`VnicSession`] is the vNIC's,
//! [`ControllerSession`] the controller's, for one vNIC. [`Convergence`] decides what a controller does next to make a
//! vNIC equal to what it should be.

mod answer;
mod association;
mod controller;
mod convergence;
mod digest;
mod keys;
mod message;
mod report;
mod round_trip;
mod vnic;
mod wrapped;

pub use answer::{Answer, Reason, Refusal};
pub use association::{ListedSa, SA_DIGEST, SaDigest};
pub use controller::{ControllerSession, Event, Outgoing, Registered, hello};
pub use convergence::{Convergence, Known, Step, Wanted};
pub use digest::TableDigest;
pub use keys::{CONTROL_KEY_LEN, ControlKeys, NotAuthentic, WRAP_BLOCK, WRAP_OVERHEAD};
pub use message::{Header, Kind, Message, VERSION_3};
pub use report::{Counter, Listed, Page, Request, State, Subject};
pub use round_trip::RoundTrip;
pub use vnic::{ControlStatus, Inside, VnicSession, WINDOW};
pub(super) use vnic::{Report, Taken};
pub use wrapped::MAX_SET_SA;
