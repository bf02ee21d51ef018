//! CVSW control messages: the frame codecs of both versions, the vNIC's side of a session, and the controller's side of
//! version 3.

mod entry;
pub mod guard;
pub mod keys;
pub mod message;
mod removals;
pub mod session;
pub mod v3;

pub use entry::TableEntry;
pub use guard::{ControlKind, control_kind};
pub use keys::{SaAnswer, SaCommand, SaResult, SetSa};
pub use message::{ControlMessage, ETHERTYPE, HEADER_LEN, MAX_FRAME_LEN, MessageType, OffloadFlags, VERSION_2};
pub use session::{ControlEvent, Request, Session, SessionState};
