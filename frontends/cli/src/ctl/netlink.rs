//! A client of the kernel module's generic-netlink family (`frontends/kmod/module/netlink.h`).
//!
//! Requests and replies are one message each, so this needs none of the machinery of a netlink crate.

use anyhow::{Context, Result, bail, ensure};
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
            setsockopt, socket, sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike},
    },
};
use std::os::fd::{AsRawFd, OwnedFd};
use zeroize::Zeroizing;

/// Commands of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Command {
    FlowMod = 1,
    FlowGet = 2,
    StatsGet = 3,
    Trace = 4,
    SaSet = 5,
    SaGet = 6,
    KeysInClear = 7,
    ControlKey = 8,
    ControlGet = 9,
}

/// Attributes of the family.
pub mod attribute {
    pub const IFINDEX: u16 = 1;
    pub const FLOW_MOD: u16 = 2;
    pub const ERROR: u16 = 3;
    pub const CURSOR: u16 = 4;
    pub const FLOW_STATS: u16 = 5;
    pub const COUNTER_NAMES: u16 = 6;
    pub const COUNTER_VALUES: u16 = 7;
    pub const FRAME: u16 = 8;
    pub const RECEIVE: u16 = 9;
    pub const VERDICT: u16 = 10;
    pub const STEPS: u16 = 11;
    pub const SA: u16 = 12;
    pub const SA_LIMITS: u16 = 13;
    pub const SA_LISTED: u16 = 14;
    pub const ENCRYPTED_ONLY: u16 = 15;
    pub const ON: u16 = 16;
    pub const CONTROL_KEY: u16 = 17;
    pub const CONTROL_STATUS: u16 = 18;
}

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const HEADERS: usize = 20;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// The largest reply is a trace: a frame of 9216 bytes and its steps.
const REPLY_MAX: usize = 1 << 16;
const PATIENCE_SECONDS: i64 = 10;

/// A vNIC in the kernel.
pub struct Vnic {
    socket: OwnedFd,
    family: u16,
    sequence: u32,
    device: String,
    ifindex: u32,
}

/// The attributes of a reply.
pub struct Reply(Vec<(u16, Vec<u8>)>);

impl Reply {
    /// Every attribute of this kind.
    pub fn all(&self, kind: u16) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(found, _)| *found == kind).map(|(_, value)| &value[..])
    }

    /// The attribute of this kind.
    pub fn get(&self, kind: u16) -> Option<&[u8]> {
        self.all(kind).next()
    }

    /// The attribute of this kind as a number.
    pub fn number(&self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.get(kind)?.try_into().ok()?))
    }
}

impl Vnic {
    /// Finds the module and the device.
    pub fn open(device: &str) -> Result<Self> {
        let ifindex = nix::net::if_::if_nametoindex(device)
            .with_context(|| format!("there is no interface `{device}` in this network namespace"))?;
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkGeneric,
        )?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let mut this = Self { socket, family: GENL_ID_CTRL, sequence: 0, device: device.to_owned(), ifindex };
        let reply = this
            .exchange(CTRL_CMD_GETFAMILY, &[(CTRL_ATTR_FAMILY_NAME, b"cvsw\0")])?
            .map_err(|_| anyhow::anyhow!("the kernel module is not loaded: `modprobe cvsw`"))?;
        let family = reply.get(CTRL_ATTR_FAMILY_ID).and_then(|id| id.try_into().ok());
        this.family = u16::from_ne_bytes(family.context("the kernel did not name the family's number")?);
        Ok(this)
    }

    /// Sends a request for this device and returns the reply.
    pub fn request(&mut self, command: Command, attributes: &[(u16, &[u8])]) -> Result<Reply> {
        let ifindex = self.ifindex.to_ne_bytes();
        let mut all = vec![(attribute::IFINDEX, &ifindex[..])];
        all.extend(attributes);
        let device = &self.device.clone();
        self.exchange(command as u8, &all)?.map_err(|errno| match errno {
            Errno::EPERM => anyhow::anyhow!("not permitted: this needs CAP_NET_ADMIN in the namespace of {device}"),
            Errno::EOPNOTSUPP => {
                anyhow::anyhow!("{device} is no vNIC: `ip link add link {device} name cvsw0 type cvsw` makes one")
            }
            Errno::ENODEV => anyhow::anyhow!("{device} is gone"),
            errno => anyhow::anyhow!("the kernel refused the request for {device}: {errno}"),
        })
    }

    /// One message there and one back; the inner error is the kernel's answer.
    fn exchange(&mut self, command: u8, attributes: &[(u16, &[u8])]) -> Result<Result<Reply, Errno>> {
        self.sequence += 1;
        let message = encode(self.family, self.sequence, command, attributes)?;
        let sent = send(self.socket.as_raw_fd(), &message, MsgFlags::empty()).context("sending to the kernel")?;
        ensure!(sent == message.len(), "sent {sent} of {} bytes to the kernel", message.len());
        let mut buffer = vec![0; REPLY_MAX];
        loop {
            let len = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())
                .with_context(|| format!("no answer of the kernel within {PATIENCE_SECONDS} s"))?;
            let (kind, sequence, body) = decode(buffer.get(..len).unwrap_or_default())?;
            // An answer to an earlier request, whose reader gave up.
            if sequence != self.sequence {
                continue;
            }
            if kind == NLMSG_ERROR {
                let errno = body.first_chunk().context("the kernel's answer is cut short")?;
                return Ok(Err(Errno::from_raw(-i32::from_ne_bytes(*errno))));
            }
            ensure!(kind == self.family, "the kernel answered with message type {kind}");
            return Ok(Ok(Reply(attributes_of(body.get(4..).unwrap_or_default())?)));
        }
    }
}

/// The message may hold a key: it has all its room from the start, since growing would leave a copy behind.
fn encode(family: u16, sequence: u32, command: u8, attributes: &[(u16, &[u8])]) -> Result<Zeroizing<Vec<u8>>> {
    let len = attributes.iter().map(|(_, value)| 4 + value.len().next_multiple_of(4)).sum::<usize>();
    let mut message = Zeroizing::new(Vec::with_capacity(HEADERS + len));
    message.resize(HEADERS, 0);
    for (kind, value) in attributes {
        let len = u16::try_from(value.len() + 4).context("too long for one netlink attribute")?;
        message.extend(len.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(*value);
        let padded = message.len().next_multiple_of(4);
        message.resize(padded, 0);
    }
    let len = u32::try_from(message.len())?;
    message[0..4].copy_from_slice(&len.to_ne_bytes());
    message[4..6].copy_from_slice(&family.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message[8..12].copy_from_slice(&sequence.to_ne_bytes());
    message[16] = command;
    message[17] = 1;
    Ok(message)
}

/// Type, sequence number and what follows the header.
fn decode(message: &[u8]) -> Result<(u16, u32, &[u8])> {
    let (header, _) = message.split_first_chunk::<16>().context("the kernel's answer is cut short")?;
    let [l0, l1, l2, l3, k0, k1, _, _, s0, s1, s2, s3, ..] = *header;
    let len = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
    let body = message.get(16..len).context("the kernel's answer is longer than the buffer")?;
    Ok((u16::from_ne_bytes([k0, k1]), u32::from_ne_bytes([s0, s1, s2, s3]), body))
}

fn attributes_of(mut bytes: &[u8]) -> Result<Vec<(u16, Vec<u8>)>> {
    let mut all = Vec::new();
    while let Some(&[l0, l1, k0, k1]) = bytes.first_chunk() {
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(value) = bytes.get(4..len) else { bail!("an attribute of the kernel's answer is malformed") };
        // The two upper bits are flags.
        all.push((u16::from_ne_bytes([k0, k1]) & 0x3fff, value.to_vec()));
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let message = encode(30, 7, 2, &[(1, b"abcd"), (4, b"x"), (9, b"")]).unwrap();
        let (kind, sequence, body) = decode(&message).unwrap();
        assert_eq!((kind, sequence, body[0]), (30, 7, 2));
        let attributes = attributes_of(&body[4..]).unwrap();
        assert_eq!(attributes, [(1, b"abcd".to_vec()), (4, b"x".to_vec()), (9, Vec::new())]);
    }

    #[test]
    fn malformed_answers_are_errors() {
        decode(&[0; 15]).unwrap_err();
        decode(&[200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap_err();
        attributes_of(&[3, 0, 1, 0]).unwrap_err();
        attributes_of(&[9, 0, 1, 0, 5]).unwrap_err();
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let error = Vnic::open("no-such-if0").err().unwrap();
        assert!(format!("{error:#}").contains("no interface `no-such-if0`"), "{error:#}");
    }
}
