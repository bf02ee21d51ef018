//! Encryption: cipher suites, the interface to what computes them, and security associations (RFC 4301).
//!
//! The engine decides *whether* and *with what* a packet is sealed or opened; a [`Ciphers`] does the
//! computing and is the only one that holds keys. The core brings [`NoCiphers`], which has none and therefore
//! drops whatever demands encryption, and with the feature `portable-ciphers` [`Portable`]. What the packets look
//! like on the wire is the business of `tunnel::esp`.

mod ciphers;
mod key_material;
mod mtu;
#[cfg(feature = "small-stack")]
mod one_block;
#[cfg(feature = "portable-ciphers")]
mod portable;
mod required;
mod sa;
#[cfg_attr(not(target_has_atomic = "64"), path = "not_shared.rs")]
mod shared;
mod suite;
mod table;
mod window;

pub use ciphers::{CipherError, Ciphers, MAX_DATA, NoCiphers, PacketHeader};
pub use key_material::{BadKeyLength, KeyMaterial, MAX_KEY_MATERIAL};
pub use mtu::vxlan_mtu;
#[cfg(feature = "portable-ciphers")]
pub use portable::Portable;
pub use required::EncryptedOnly;
pub use required::MAX_ENCRYPTED_ONLY;
pub use sa::{FIRST_SPI, Lifetime, SaConfig, SaCounters, SaError, SaEvent, SaEventKind, SaState, SaStatus};
pub use shared::SharedSa;
pub use suite::Suite;
pub use table::{Inbound, Outbound, SaTable};
pub use window::{DEFAULT_WINDOW, MAX_WINDOW, MIN_WINDOW, ReplayWindow};
