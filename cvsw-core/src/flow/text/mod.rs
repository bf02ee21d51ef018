//! Flows as text, in `ovs-ofctl` syntax, both ways. Works without allocation.
//!
//! A line is a list of match fields and attributes, separated by commas or spaces, then `actions=` and a list
//! of actions: `priority=100,in_port=HOST,ip,nw_src=10.0.0.0/24,actions=mod_nw_dst:10.1.1.1`. In front may
//! stand a command: `add` (which is the default), `modify`, `modify_strict`, `delete` or `delete_strict`.
//!
//! - Ports go by number or name: `HOST` (1) and `NET` (2), the two sides of a vNIC, and OpenFlow's `IN_PORT`,
//!   `TABLE`, `NORMAL`, `FLOOD`, `ALL`, `CONTROLLER`, `LOCAL` and `NONE`.
//! - The tunnel actions are `set_vxlan(vni=42,src=192.0.2.1,dst=192.0.2.2,eth_src=..,eth_dst=..)` and
//!   `strip_vxlan(vni=42)`; a bare `strip_vxlan` takes any VNI.
//! - What `dump-flows` adds (`duration`, `n_packets`, `n_bytes`, `idle_age`, `hard_age`) is skipped.
//!
//! Where `ovs-ofctl` guesses, or drops what was asked with a warning at most, this is an error: a field
//! without its prerequisites (`tp_dst=80` without `tcp`), two different values for one field (`tcp,udp`), ECN
//! bits in `nw_tos`, VLAN ids above 4095, and numbers that begin with a zero, which C reads as octal.
//! As on the wire, a match without any wildcard gets priority 65535 (OpenFlow 1.0 section 3.4).

mod actions;
mod fields;
mod print;
mod scan;
mod value;

pub use print::{DisplayAction, DisplayFlow, DisplayMatch};

use super::{Command, DEFAULT_PRIORITY, FlowMod, OFPP_NONE, normalize::is_exact};
use fields::MatchBuilder;
use scan::{Pair, Pairs, Token, once};
use value::{number, port};

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

impl core::fmt::Display for TextError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "column {}: expected {}", self.offset.saturating_add(1), self.expected)
    }
}

impl core::error::Error for TextError {}

/// Parses one flow, for example
/// `priority=100,in_port=HOST,ip,nw_src=10.0.0.0/24,actions=mod_nw_dst:10.1.1.1`.
///
/// # Errors
/// The first piece that is not understood; see the module's description for what is refused beyond
/// `ovs-ofctl`.
pub fn parse_flow(line: &str) -> Result<FlowMod, TextError> {
    parse(line, Command::Add)
}

/// Parses a line of `del-flows` style, a match without actions: `ip,nw_src=10.0.0.0/24`. The result is a
/// DELETE, unless the line starts with another command.
///
/// # Errors
/// As [`parse_flow`].
pub fn parse_match(line: &str) -> Result<FlowMod, TextError> {
    parse(line, Command::Delete)
}

fn parse(line: &str, default: Command) -> Result<FlowMod, TextError> {
    let (command, mut pairs) = command(Token::new(line), default);
    let mut parser = Parser { command, ..Parser::default() };
    while let Some(pair) = pairs.next_pair()? {
        if matches!(pair.key.text, "actions" | "action") {
            return parser.finish(Some((pair.key, pairs.behind_equals(&pair)?)), pair.key);
        }
        parser.take(&pair)?;
    }
    let end = pairs.end();
    parser.finish(None, end)
}

/// Splits off a leading command word.
fn command<'a>(line: Token<'a>, default: Command) -> (Command, Pairs<'a>) {
    let mut pairs = Pairs::new(line);
    let command = match pairs.next_pair() {
        Ok(Some(Pair { key, value: None, .. })) => match key.text {
            "add" => Some(Command::Add),
            "modify" => Some(Command::Modify),
            "modify_strict" => Some(Command::ModifyStrict),
            "delete" => Some(Command::Delete),
            "delete_strict" => Some(Command::DeleteStrict),
            _ => None,
        },
        _ => None,
    };
    match command {
        Some(command) => (command, pairs),
        None => (default, Pairs::new(line)),
    }
}

/// What has been read of a line.
#[derive(Default)]
struct Parser<'a> {
    command: Command,
    matching: MatchBuilder<'a>,
    cookie: Option<u64>,
    idle_timeout: Option<u16>,
    hard_timeout: Option<u16>,
    priority: Option<u16>,
    out_port: Option<u16>,
    flags: u16,
}

impl<'a> Parser<'a> {
    const fn deletes(&self) -> bool {
        matches!(self.command, Command::Delete | Command::DeleteStrict)
    }

    /// Takes one attribute or match field.
    fn take(&mut self, pair: &Pair<'a>) -> Result<(), TextError> {
        match pair.key.text {
            "cookie" => once(&mut self.cookie, number(pair.value()?, u64::MAX)?, pair)?,
            "priority" if self.command == Command::Delete => {
                return Err(pair.key.error("no priority, which only delete_strict has, or a match field"));
            }
            "priority" => once(&mut self.priority, self::u16(pair)?, pair)?,
            "out_port" if self.deletes() => once(&mut self.out_port, port(pair.value()?)?, pair)?,
            "out_port" => return Err(pair.key.error("no out_port, which only delete has, or a match field")),
            "table" => {
                number(pair.value()?, 0)?;
            }
            "idle_timeout" if !self.deletes() => once(&mut self.idle_timeout, self::u16(pair)?, pair)?,
            "hard_timeout" if !self.deletes() => once(&mut self.hard_timeout, self::u16(pair)?, pair)?,
            "send_flow_rem" if !self.deletes() => self.flags |= flag(pair, super::FLAG_SEND_FLOW_REM)?,
            "check_overlap" if !self.deletes() => self.flags |= flag(pair, super::FLAG_CHECK_OVERLAP)?,
            "duration" | "n_packets" | "n_bytes" | "idle_age" | "hard_age" => {
                pair.value()?;
            }
            _ => self.matching.take(pair)?,
        }
        Ok(())
    }

    /// Checks the whole, and reads the actions. `end` is where actions were expected if there are none.
    fn finish(self, actions: Option<(Token<'a>, Token<'a>)>, end: Token<'a>) -> Result<FlowMod, TextError> {
        let deletes = self.deletes();
        let matching = self.matching.finish()?;
        let actions = match actions {
            Some((key, _)) if deletes => return Err(key.error("no actions in a delete")),
            Some((_, list)) => actions::parse_actions(list)?,
            None if deletes => super::ActionList::new(),
            None => return Err(end.error("\"actions=\" and a list of actions (\"actions=drop\" to drop)")),
        };
        let priority = if is_exact(&matching) { u16::MAX } else { self.priority.unwrap_or(DEFAULT_PRIORITY) };
        Ok(FlowMod {
            matching,
            cookie: self.cookie.unwrap_or(0),
            command: self.command,
            idle_timeout: self.idle_timeout.unwrap_or(0),
            hard_timeout: self.hard_timeout.unwrap_or(0),
            priority,
            out_port: self.out_port.unwrap_or(OFPP_NONE),
            flags: self.flags,
            actions,
        })
    }
}

fn u16(pair: &Pair<'_>) -> Result<u16, TextError> {
    Ok(number(pair.value()?, u16::MAX.into())? as u16)
}

fn flag(pair: &Pair<'_>, bit: u16) -> Result<u16, TextError> {
    pair.no_value().map(|()| bit)
}
