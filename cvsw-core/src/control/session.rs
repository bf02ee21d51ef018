//! The vNIC's side of a control session.

use super::message::OffloadFlags;
use crate::mtu::IpMtu;

/// State of the session with the controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum SessionState {
    /// No HELLO yet.
    #[default]
    Disconnected = 0,
    /// HELLO seen, REGISTER sent (or queued).
    Connecting,
    /// At least one SET_* seen: the table is active.
    Connected,
}

impl SessionState {
    /// The name in upper case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disconnected => "DISCONNECTED",
            Self::Connecting => "CONNECTING",
            Self::Connected => "CONNECTED",
        }
    }
}

/// What a control message wants done outside the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ControlEvent {
    /// The session's state changed.
    Session(SessionState),
    /// Set the MTU of the interface that the VM sees.
    SetMtu(IpMtu),
    /// Set its offload features.
    SetOffload(OffloadFlags),
}
