//! CVSW control messages: the frame codec, and the vNIC's side of the session.

pub mod message;
pub mod session;

pub use message::{ControlMessage, ETHERTYPE, HEADER_LEN, MAX_FRAME_LEN, MessageType, OffloadFlags, VERSION_2};
pub use session::{ControlEvent, SessionState};
