//! Values: numbers, addresses, ports.

use super::{TextError, scan::Token};
use crate::flow::{MacAddr, OFPP_CONTROLLER, OFPP_NONE, OFPP_NORMAL, PORT_HOST, PORT_NET, RESUBMIT_IN_PORT};
use core::net;

/// Names of ports. The first name of a number is the one that is printed.
pub(super) const PORT_NAMES: [(&str, u16); 11] = [
    ("HOST", PORT_HOST),
    ("NET", PORT_NET),
    ("IN_PORT", RESUBMIT_IN_PORT),
    ("TABLE", 0xfff9),
    ("NORMAL", OFPP_NORMAL),
    ("FLOOD", 0xfffb),
    ("ALL", 0xfffc),
    ("CONTROLLER", OFPP_CONTROLLER),
    ("LOCAL", 0xfffe),
    ("NONE", OFPP_NONE),
    ("ANY", OFPP_NONE),
];

/// A decimal or hexadecimal (`0x`) number that is at most `max`.
pub(super) fn number(token: Token<'_>, max: u64) -> Result<u64, TextError> {
    parse_number(token.text).filter(|&value| value <= max).ok_or_else(|| token.error(range(max)))
}

fn range(max: u64) -> &'static str {
    match max {
        0 => "0, the only table",
        1 => "0 or 1",
        7 => "a number from 0 to 7",
        0x3f => "a number from 0 to 63",
        0xff => "a number from 0 to 255",
        0xfff => "a number from 0 to 4095",
        0x1fff => "a number from 0 to 8191",
        0xffff => "a number from 0 to 65535",
        0xff_ffff => "a number from 0 to 16777215",
        0xffff_ffff => "a number below 2^32",
        _ => "a number",
    }
}

fn parse_number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        // C reads a leading zero as octal; guessing which of both is meant would be wrong half the time.
        None if text.len() > 1 && text.starts_with('0') => return None,
        None => (text, 10),
    };
    // `from_str_radix` would take a sign.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// Splits `VALUE/MASK`; without a slash there is no mask.
pub(super) fn split_mask(token: Token<'_>) -> (Token<'_>, Option<Token<'_>>) {
    token.split_once('/').map_or((token, None), |(value, mask)| (value, Some(mask)))
}

/// `NUMBER` or `NUMBER/MASK`, each at most `max`.
pub(super) fn masked_number(token: Token<'_>, max: u64) -> Result<(u64, u64), TextError> {
    let (value, mask) = split_mask(token);
    let mask = mask.map_or(Ok(max), |mask| number(mask, max))?;
    Ok((number(value, max)?, mask))
}

/// `xx:xx:xx:xx:xx:xx`.
pub(super) fn mac(token: Token<'_>) -> Result<MacAddr, TextError> {
    parse_mac(token.text).ok_or_else(|| token.error("an Ethernet address (xx:xx:xx:xx:xx:xx)"))
}

fn parse_mac(text: &str) -> Option<MacAddr> {
    let mut mac = MacAddr::default();
    let mut octets = text.split(':');
    for slot in &mut mac {
        let octet = octets.next()?;
        if octet.is_empty() || octet.len() > 2 || octet.starts_with('+') {
            return None;
        }
        *slot = u8::from_str_radix(octet, 16).ok()?;
    }
    octets.next().is_none().then_some(mac)
}

pub(super) fn mac_number([a, b, c, d, e, f]: MacAddr) -> u64 {
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// `MAC` or `MAC/MASK`, as numbers.
pub(super) fn masked_mac(token: Token<'_>) -> Result<(u64, u64), TextError> {
    let (value, mask) = split_mask(token);
    let mask = mask.map_or(Ok([0xff; 6]), mac)?;
    Ok((mac_number(mac(value)?), mac_number(mask)))
}

/// `a.b.c.d`.
pub(super) fn ipv4(token: Token<'_>) -> Result<[u8; 4], TextError> {
    match token.text.parse::<net::Ipv4Addr>() {
        Ok(addr) => Ok(addr.octets()),
        Err(_) => Err(token.error("an IPv4 address")),
    }
}

/// `a.b.c.d`, `a.b.c.d/LEN` or `a.b.c.d/e.f.g.h`, as numbers.
pub(super) fn masked_ipv4(token: Token<'_>) -> Result<(u64, u64), TextError> {
    let (value, mask) = split_mask(token);
    let mask = match mask {
        None => u32::MAX,
        Some(mask) if mask.text.contains('.') => u32::from_be_bytes(ipv4(mask)?),
        Some(mask) => match parse_number(mask.text) {
            Some(len @ 0..=32) => u32::MAX.checked_shl(32_u32.saturating_sub(len as u32)).unwrap_or(0),
            _ => return Err(mask.error("a prefix length from 0 to 32, or a mask (a.b.c.d)")),
        },
    };
    Ok((u32::from_be_bytes(ipv4(value)?).into(), mask.into()))
}

/// An IPv6 address with optional prefix length or mask, as 128-bit numbers.
pub(super) fn masked_ipv6(token: Token<'_>) -> Result<(u128, u128), TextError> {
    let (value, mask) = split_mask(token);
    let mask = match mask {
        None => u128::MAX,
        Some(mask) if mask.text.contains(':') => ipv6(mask)?,
        Some(mask) => match parse_number(mask.text) {
            Some(len @ 0..=128) => u128::MAX.checked_shl(128_u32.saturating_sub(len as u32)).unwrap_or(0),
            _ => return Err(mask.error("a prefix length from 0 to 128, or a mask (an IPv6 address)")),
        },
    };
    Ok((ipv6(value)?, mask))
}

fn ipv6(token: Token<'_>) -> Result<u128, TextError> {
    match token.text.parse::<net::Ipv6Addr>() {
        Ok(addr) => Ok(addr.to_bits()),
        Err(_) => Err(token.error("an IPv6 address")),
    }
}

/// A port by number or name (in any case).
pub(super) fn port(token: Token<'_>) -> Result<u16, TextError> {
    match named_port(token.text) {
        Some(port) => Ok(port),
        None => parse_number(token.text)
            .and_then(|value| u16::try_from(value).ok())
            .ok_or_else(|| token.error("a port: HOST, NET, a number from 0 to 65535, or a reserved port's name")),
    }
}

pub(super) fn named_port(text: &str) -> Option<u16> {
    PORT_NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|&(_, port)| port)
}
