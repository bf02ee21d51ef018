//! Flows as text, in `ovs-ofctl` syntax, both ways. Works without allocation.

use super::FlowMod;

/// Why a line is not a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TextError {
    /// Byte offset of the offending text in the line (column is this plus 1).
    pub offset: usize,
    /// Length of the offending text in bytes; 0 at the end of the line.
    pub len: usize,
    /// What was expected there, as a noun phrase ("an IPv4 address").
    pub expected: &'static str,
}

/// Parses one flow, for example
/// `priority=100,in_port=HOST,ip,nw_src=10.0.0.0/24,actions=mod_nw_dst:10.1.1.1`.
pub fn parse_flow(_line: &str) -> Result<FlowMod, TextError> {
    unimplemented!()
}

/// Displays a flow as text that [`parse_flow`] and `ovs-ofctl` read back.
#[derive(Clone, Copy, Debug)]
pub struct DisplayFlow<'a>(pub &'a FlowMod);

impl core::fmt::Display for DisplayFlow<'_> {
    fn fmt(&self, _f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        unimplemented!()
    }
}
