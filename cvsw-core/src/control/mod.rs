//! CVSW control messages: the frame codec, and the vNIC's side of the session.

pub mod guard;
pub mod keys;
pub mod message;
mod removals;
pub mod session;

pub use guard::{ControlKind, control_kind};
pub use keys::{SaAnswer, SaCommand, SaResult, SetSa};
pub use message::{ControlMessage, ETHERTYPE, HEADER_LEN, MAX_FRAME_LEN, MessageType, OffloadFlags, VERSION_2};
pub use session::{ControlEvent, Request, Session, SessionState};
