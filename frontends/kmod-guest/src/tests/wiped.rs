//! Keys do not come back: the kernel sends a request that failed back to its sender, and a key in it must be gone by then.

use crate::{system::patience, topology::Pair};
use anyhow::{Context, Result, ensure};
use nix::{
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// Netlink's header; the generic one behind it has four bytes more.
const HEADER: usize = 16;
/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_ID` and `_NAME`.
const CONTROLLER: (u16, u8, u16, u16) = (16, 3, 1, 2);
/// `CVSW_CMD_CONTROL_KEY`, `CVSW_ATTR_IFINDEX` and `CVSW_ATTR_CONTROL_KEY` (module/netlink.h).
const CONTROL_KEY: (u8, u16, u16) = (8, 1, 17);
const KEY_OCTET: u8 = 0xa5;

/// A control key that is too short, behind a good one: refused, and both are wiped.
pub fn keys_are_wiped() -> Result<()> {
    let pair = Pair::veth()?;
    let (command, interface, key) = CONTROL_KEY;
    let (request, answer) = pair.vm.inside(|| {
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkGeneric)?;
        let attributes = [
            attribute(interface, &if_nametoindex("cvsw0")?.to_ne_bytes()),
            attribute(key, &[KEY_OCTET; 16]),
            attribute(key, &[KEY_OCTET; 15]),
        ];
        let request = message(family(&socket)?, command, &attributes.concat());
        let answer = ask(&socket, &request)?;
        Ok((request, answer))
    })?;
    let (kind, error) = (u16_at(&answer, 4), &answer[HEADER..HEADER + 4]);
    ensure!(kind == Some(ERROR) && error == (-22i32).to_ne_bytes(), "not EINVAL: {answer:02x?}");
    let echo = &answer[HEADER + 4..];
    ensure!(
        echo.len() >= request.len() && echo[..6] == request[..6],
        "the request does not come back: {answer:02x?}"
    );
    ensure!(!echo[HEADER..].contains(&KEY_OCTET), "a key came back: {answer:02x?}");
    let status = pair.vm.run("cvsw ctl --dev cvsw0 control status")?;
    ensure!(status.contains("control key: none"), "{status}");
    Ok(())
}

/// The number of the family `cvsw`.
fn family(socket: &OwnedFd) -> Result<u16> {
    let (controller, command, id, name) = CONTROLLER;
    let answer = ask(socket, &message(controller, command, &attribute(name, b"cvsw\0")))?;
    let mut rest = answer.get(HEADER + 4..).context("a short answer")?;
    while let (Some(len), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        if kind == id {
            return u16_at(rest, 4).context("a short attribute");
        }
        rest = rest.get(usize::from(len).max(4).next_multiple_of(4)..).unwrap_or_default();
    }
    anyhow::bail!("no family `cvsw`: {answer:02x?}")
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

/// An attribute with its padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = (4 + value.len() as u16).to_ne_bytes().to_vec();
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// A request (flag `NLM_F_REQUEST`) of generic netlink.
fn message(family: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let len = (HEADER + 4 + attributes.len()) as u32;
    let mut out = len.to_ne_bytes().to_vec();
    out.extend(family.to_ne_bytes());
    out.extend([1u16.to_ne_bytes(), [0; 2], [0; 2], [0; 2], [0; 2]].concat());
    out.extend([command, 1, 0, 0]);
    out.extend(attributes);
    out
}

fn ask(socket: &OwnedFd, request: &[u8]) -> Result<Vec<u8>> {
    send(socket.as_raw_fd(), request, MsgFlags::empty())?;
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    ensure!(poll(&mut fds, PollTimeout::try_from(patience())?)? == 1, "no answer from netlink");
    let mut buffer = vec![0; 8192];
    let len = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    buffer.truncate(len);
    ensure!(len >= HEADER + 4, "a short answer: {buffer:02x?}");
    Ok(buffer)
}
