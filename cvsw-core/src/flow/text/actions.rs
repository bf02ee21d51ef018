//! Actions.

use super::{
    TextError,
    scan::{Pair, Pairs, Token, once},
    value::{ipv4, mac, named_port, number, port},
};
use crate::flow::{Action, ActionList, OFPP_CONTROLLER, RESUBMIT_IN_PORT, Tunnel, normalize::NW_TOS_MASK};

/// Reads an action list; `drop` and nothing at all are the empty list.
pub(super) fn parse_actions(list: Token<'_>) -> Result<ActionList, TextError> {
    let mut actions = ActionList::new();
    let mut pairs = Pairs::new(list);
    let mut drop = None;
    while let Some(pair) = pairs.next_pair()? {
        if let Some(drop) = drop {
            return Err(Token::error(drop, "\"drop\" alone, without another action"));
        }
        if pair.key.text == "drop" {
            pair.no_value()?;
            if !actions.is_empty() {
                return Err(pair.key.error("\"drop\" alone, without another action"));
            }
            drop = Some(pair.key);
            continue;
        }
        let action = parse_action(&pair)?;
        actions.push(action).map_err(|_| pair.error("at most 16 actions"))?;
    }
    Ok(actions)
}

fn parse_action(pair: &Pair<'_>) -> Result<Action, TextError> {
    Ok(match pair.key.text {
        "output" => output(port(pair.value()?)?),
        "enqueue" => enqueue(pair.value()?)?,
        "mod_vlan_vid" | "set_vlan_vid" => Action::SetVlanVid(argument(pair, 0xfff)? as u16),
        "mod_vlan_pcp" | "set_vlan_pcp" => Action::SetVlanPcp(argument(pair, 7)? as u8),
        "strip_vlan" | "pop_vlan" => {
            pair.no_value()?;
            Action::StripVlan
        }
        "mod_dl_src" => Action::SetEthSrc(mac(pair.value()?)?),
        "mod_dl_dst" => Action::SetEthDst(mac(pair.value()?)?),
        "mod_nw_src" => Action::SetNwSrc(ipv4(pair.value()?)?),
        "mod_nw_dst" => Action::SetNwDst(ipv4(pair.value()?)?),
        "mod_nw_tos" => Action::SetNwTos(tos(pair.value()?)?),
        "mod_tp_src" => Action::SetTpSrc(argument(pair, 0xffff)? as u16),
        "mod_tp_dst" => Action::SetTpDst(argument(pair, 0xffff)? as u16),
        "set_field" => set_field(pair.value()?)?,
        "resubmit" => Action::Resubmit { in_port: resubmit_port(pair.value()?)? },
        "set_vxlan" => Action::SetVxlan(tunnel(pair)?),
        "strip_vxlan" => Action::StripVxlan(pair.value.map(strip_vni).transpose()?),
        "encrypt" => Action::Encrypt { sa: sa_id(pair)? },
        "decrypt" => {
            pair.no_value()?;
            Action::Decrypt
        }
        name if name.eq_ignore_ascii_case("controller") => controller(pair.value)?,
        name if named_port(name).is_some() || name.starts_with(|c: char| c.is_ascii_digit()) => {
            pair.no_value()?;
            output(port(pair.key)?)
        }
        _ => return Err(pair.key.error("the name of an action, or a port")),
    })
}

fn argument(pair: &Pair<'_>, max: u64) -> Result<u64, TextError> {
    number(pair.value()?, max)
}

fn tos(token: Token<'_>) -> Result<u8, TextError> {
    match number(token, 0xff)? {
        tos if tos & !NW_TOS_MASK == 0 => Ok(tos as u8),
        _ => Err(token.error("a ToS octet without its two ECN bits (a multiple of 4)")),
    }
}

/// `VALUE->FIELD`, for the fields that OpenFlow 1.0 has an action for.
fn set_field(value: Token<'_>) -> Result<Action, TextError> {
    let (value, field) = value
        .split_once('>')
        .and_then(|(value, field)| Some((value.without_last('-')?, field)))
        .ok_or_else(|| value.error("VALUE->FIELD"))?;
    Ok(match field.text {
        "eth_src" | "dl_src" => Action::SetEthSrc(mac(value)?),
        "eth_dst" | "dl_dst" => Action::SetEthDst(mac(value)?),
        "ip_src" | "nw_src" => Action::SetNwSrc(ipv4(value)?),
        "ip_dst" | "nw_dst" => Action::SetNwDst(ipv4(value)?),
        "nw_tos" => Action::SetNwTos(tos(value)?),
        "ip_dscp" => Action::SetNwTos((number(value, 0x3f)? << 2) as u8),
        "tcp_src" | "udp_src" => Action::SetTpSrc(number(value, 0xffff)? as u16),
        "tcp_dst" | "udp_dst" => Action::SetTpDst(number(value, 0xffff)? as u16),
        // With the bit that says "there is a tag", as in a match.
        "vlan_vid" => Action::SetVlanVid((number(value, 0x1fff)? & 0x0fff) as u16),
        "vlan_pcp" => Action::SetVlanPcp(number(value, 7)? as u8),
        _ => return Err(field.error("a field that OpenFlow 1.0 can set")),
    })
}

/// To the controller goes the whole frame, unless the `CONTROLLER:N` form says otherwise.
const fn output(port: u16) -> Action {
    Action::Output { port, max_len: if port == OFPP_CONTROLLER { u16::MAX } else { 0 } }
}

/// `CONTROLLER`, `CONTROLLER:128` or `controller(max_len=128)`.
fn controller(value: Option<Token<'_>>) -> Result<Action, TextError> {
    let Some(value) = value else { return Ok(output(OFPP_CONTROLLER)) };
    let len =
        value.text.strip_prefix("max_len=").map_or(value, |_| value.split_once('=').map_or(value, |(_, n)| n));
    Ok(Action::Output { port: OFPP_CONTROLLER, max_len: number(len, 0xffff)? as u16 })
}

/// `PORT:QUEUE`, `PORT,QUEUE` or `PORTqQUEUE`.
fn enqueue(value: Token<'_>) -> Result<Action, TextError> {
    let (first, queue) = value
        .split_once(':')
        .or_else(|| value.split_once(','))
        .or_else(|| value.split_once('q'))
        .ok_or_else(|| value.error("a port and a queue (enqueue:PORT:QUEUE)"))?;
    Ok(Action::Enqueue { port: port(first)?, queue: number(queue, u32::MAX.into())? as u32 })
}

/// `PORT`, `PORT,`, `PORT,0` or `,0`: an engine has table 0 only.
fn resubmit_port(value: Token<'_>) -> Result<u16, TextError> {
    let Some((first, table)) = value.split_once(',') else { return port(value) };
    if !table.text.is_empty() || first.text.is_empty() {
        number(table, 0)?;
    }
    if first.text.is_empty() { Ok(RESUBMIT_IN_PORT) } else { port(first) }
}

/// The five arguments of `set_vxlan`.
fn tunnel(pair: &Pair<'_>) -> Result<Tunnel, TextError> {
    const FORM: &str = "set_vxlan(vni=N,src=IP,dst=IP,eth_src=MAC,eth_dst=MAC), all five";
    let (mut vni, mut src, mut dst, mut eth_src, mut eth_dst) = (None, None, None, None, None);
    let mut arguments = Pairs::new(pair.value.ok_or_else(|| pair.error(FORM))?);
    while let Some(argument) = arguments.next_pair()? {
        match argument.key.text {
            "vni" => once(&mut vni, number(argument.value()?, 0xff_ffff)? as u32, &argument)?,
            "src" => once(&mut src, ipv4(argument.value()?)?, &argument)?,
            "dst" => once(&mut dst, ipv4(argument.value()?)?, &argument)?,
            "eth_src" => once(&mut eth_src, mac(argument.value()?)?, &argument)?,
            "eth_dst" => once(&mut eth_dst, mac(argument.value()?)?, &argument)?,
            _ => return Err(argument.key.error("vni, src, dst, eth_src or eth_dst")),
        }
    }
    match (vni, src, dst, eth_src, eth_dst) {
        (Some(vni), Some(src), Some(dst), Some(eth_src), Some(eth_dst)) => {
            Ok(Tunnel { eth_dst, eth_src, dst, src, vni })
        }
        _ => Err(pair.error(FORM)),
    }
}

/// `sa=ID`.
fn sa_id(pair: &Pair<'_>) -> Result<u32, TextError> {
    const FORM: &str = "encrypt(sa=ID)";
    let value = pair.value.ok_or_else(|| pair.error(FORM))?;
    match value.split_once('=') {
        Some((Token { text: "sa", .. }, id)) => Ok(number(id, u32::MAX.into())? as u32),
        _ => Err(value.error("sa=ID")),
    }
}

/// `vni=N`.
fn strip_vni(value: Token<'_>) -> Result<u32, TextError> {
    match value.split_once('=') {
        Some((Token { text: "vni", .. }, vni)) => Ok(number(vni, 0xff_ffff)? as u32),
        _ => Err(value.error("vni=N")),
    }
}
