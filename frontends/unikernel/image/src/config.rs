//! The command line that the boot loader passes: `ip=10.0.0.5/24 ip=fd00::5/64 ...`.

use heapless::Vec;
use smoltcp::wire::IpCidr;

/// Most addresses of the interface.
pub const MAX_ADDRESSES: usize = 4;
/// Most flows on a command line.
pub const MAX_FLOWS: usize = 8;

/// What the image was told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Config<'a> {
    /// `ip=ADDRESS/PREFIX`, several times: addresses inside the virtual network.
    pub addresses: Vec<IpCidr, MAX_ADDRESSES>,
    /// `flow=TEXT`, several times: entries to start with, in `ovs-ofctl` syntax without blanks. A controller needs
    /// none.
    pub flows: Vec<&'a str, MAX_FLOWS>,
    /// `ethertype=0xabba`: EtherType of control frames.
    pub ethertype: Option<u16>,
    /// `accept-keys-in-clear=1`: keys are taken from the controller although its messages carry them in clear.
    pub accept_keys_in_clear: bool,
    /// `exit=1`: a UDP datagram `exit` to the echo port ends the machine, `panic` makes it panic, `hang` makes it hang.
    /// For tests.
    pub may_exit: bool,
}

/// A word of the command line that means nothing, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadWord<'a> {
    /// The word.
    pub word: &'a str,
    /// What was expected.
    pub expected: &'static str,
}

impl<'a> Config<'a> {
    /// Reads a command line. Words without a value are not ours (boot loaders add some) and are passed over.
    pub fn parse(line: &'a str) -> Result<Self, BadWord<'a>> {
        let mut config = Self::default();
        for word in line.split_ascii_whitespace() {
            let Some((key, value)) = word.split_once('=') else { continue };
            let bad = |expected| BadWord { word, expected };
            match key {
                "ip" => {
                    let address = value.parse().map_err(|()| bad("ip=ADDRESS/PREFIX"))?;
                    config.addresses.push(address).map_err(|_| bad("four addresses at most"))?;
                }
                "flow" => config.flows.push(value).map_err(|_| bad("eight flows at most"))?,
                "ethertype" => {
                    let digits = value.strip_prefix("0x").ok_or(bad("ethertype=0xHHHH"))?;
                    config.ethertype = Some(u16::from_str_radix(digits, 16).map_err(|_| bad("ethertype=0xHHHH"))?);
                }
                "accept-keys-in-clear" => {
                    config.accept_keys_in_clear = switch(value).ok_or(bad("accept-keys-in-clear=0 or =1"))?;
                }
                "exit" => config.may_exit = switch(value).ok_or(bad("exit=0 or =1"))?,
                _ => return Err(bad("one of ip=, flow=, ethertype=, accept-keys-in-clear=, exit=")),
            }
        }
        Ok(config)
    }
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}
