//! Flows as pure data: keys, matches, actions, the table and its cache. Nothing here sees a frame's bytes.

pub mod action;
pub mod cache;
pub mod error;
pub mod flow_mod;
pub mod hash;
pub mod matching;
pub mod normalize;
pub mod table;
pub mod text;

pub use crate::key::{Direction, Field, FlowKey, KEY_WORDS, PORT_HOST, PORT_NET, VLAN_PRESENT};
pub use action::{
    Action, ActionList, Ipv4Addr, MAX_ACTIONS, MacAddr, OFPP_CONTROLLER, OFPP_NONE, OFPP_NORMAL, RESUBMIT_IN_PORT,
    Tunnel,
};
pub use error::OfpError;
pub use flow_mod::{
    Command, DEFAULT_PRIORITY, FLAG_CHECK_OVERLAP, FLAG_EMERG, FLAG_SEND_FLOW_REM, FlowEntry, FlowMod, KEEP_COOKIE,
};
pub use matching::Match;
pub use table::{FlowId, FlowTable, RemovalReason};
