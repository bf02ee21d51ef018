//! Runs a compiled action list on a frame.

mod edit;

use crate::{
    crypto::{Ciphers, EncryptedOnly, SaTable},
    flow::{
        Action, ActionList, Field, FlowKey, Ipv4Addr, MAX_ACTIONS, MacAddr, OFPP_NONE, OfpError, PORT_HOST,
        PORT_NET, RESUBMIT_IN_PORT,
    },
    frame::{Buffer, Frame},
    parse::{Headers, Parsed, parse},
    stats::DropReason,
    time::Instant,
    trace::{Effect, Event, Observer},
    tunnel::{esp, vxlan},
    wire::{ipv4::ECN_MASK, vlan, vxlan::VNI_MAX},
};
use edit::{Rewrite, Side};
use zerocopy::{FromZeros, Immutable, KnownLayout};

/// A compiled action list: everything that can be checked has been checked.
///
/// All-zero memory is the empty list, which drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromZeros)]
#[repr(C, align(8))]
pub struct Program {
    /// The first actions, as far as they only rewrite header fields, in one.
    rewrite: Rewrite,
    /// Of the [`Op::SetVxlan`], of which there is at most one; else unused.
    template: vxlan::Template,
    ops: [Op; MAX_ACTIONS],
}

// One program per table entry: 10,000 of them should not push the traffic out of the processor's cache.
const _: () = assert!(size_of::<Program>() == 224);

/// Flag of a program: its actions may bring another EtherType to the front of the frame, that of a frame inside it.
const UNCOVERS: u8 = 1;
/// Flag of a program: there are actions behind the rewrites.
const MORE: u8 = 2;
/// Flag of a program: there is no action at all.
const EMPTY: u8 = 4;
/// Flag of a program: what leaves is a tunnel packet that it made.
const ENCAPSULATES: u8 = 8;

/// What to do with the frame after its actions ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Forward it in its direction.
    Forward,
    /// Look it up again.
    Resubmit {
        /// The `in_port` of the second look-up; [`RESUBMIT_IN_PORT`]: the port that the frame arrived at.
        in_port: u16,
        /// VNI of the tunnel that was removed, or the one the frame had before.
        tun_id: u32,
        /// Whether the frame, as it is now, came out of an ESP packet.
        decrypted: bool,
    },
    /// Drop it.
    Drop(DropReason),
}

/// Engine state that actions need.
#[derive(Debug)]
pub struct Context<'a, C, const SAS: usize> {
    /// Time of the frame.
    pub now: Instant,
    /// IPv4 identification of the next encapsulated packet.
    pub ip_id: &'a mut u16,
    /// Security associations.
    pub sas: &'a mut SaTable<SAS>,
    /// Computes the ciphers.
    pub ciphers: &'a mut C,
    /// Networks whose frames may not travel in clear.
    pub encrypted_only: &'a EncryptedOnly,
}

impl Program {
    /// Checks and compiles an action list.
    ///
    /// - `BadOutPort`: OUTPUT to anything but `OFPP_NONE`, any ENQUEUE, resubmit to anything but
    ///   [`PORT_HOST`], [`PORT_NET`] and [`RESUBMIT_IN_PORT`].
    /// - `BadArgument`: VLAN id above 12 bits, priority above 3 bits, ToS with ECN bits, VNI above 24 bits, a
    ///   resubmit that is not the last action, an encryption that has no encapsulation to protect or is followed by a
    ///   decapsulation, a decryption behind another tunnel action.
    /// - `TooManyActions`: more than [`MAX_ACTIONS`], or more than one `SetVxlan`.
    #[inline(never)]
    pub fn compile(actions: &[Action]) -> Result<Self, OfpError> {
        let mut program = Self { ops: [Op::End; MAX_ACTIONS], ..Self::new_zeroed() };
        if actions.len() > program.ops.len() {
            return Err(OfpError::TooManyActions);
        }
        let mut rest = actions;
        let mut layer = Layer::AsCame;
        for op in &mut program.ops {
            let [action, behind @ ..] = rest else { break };
            rest = behind;
            *op = Op::compile(action)?;
            layer = layer.after(action)?;
            match action {
                Action::Resubmit { .. } if !rest.is_empty() => return Err(OfpError::BadArgument),
                Action::SetVxlan(_) if rest.iter().any(|other| matches!(other, Action::SetVxlan(_))) => {
                    return Err(OfpError::TooManyActions);
                }
                Action::SetVxlan(tunnel) => {
                    program.template = vxlan::Template::new(tunnel);
                    if rest.iter().any(|other| matches!(other, Action::Encrypt { .. })) {
                        *op = Op::SetVxlan { sealed: true };
                    }
                }
                _ => {}
            }
        }
        program.summarise();
        if matches!(layer, Layer::Encapsulated | Layer::Encrypted) {
            program.rewrite.flags |= ENCAPSULATES;
        }
        Ok(program)
    }

    /// Merges the leading rewrites and sets the flags.
    fn summarise(&mut self) {
        let Self { ops, rewrite, .. } = self;
        for op in ops.iter() {
            if !op.add_to(rewrite) {
                break;
            }
            rewrite.count = rewrite.count.wrapping_add(1);
        }
        let behind = ops.get(usize::from(rewrite.count)).is_some_and(|op| *op != Op::End);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        rewrite.flags = flag(ops.iter().any(|op| op.uncovers()), UNCOVERS)
            | flag(behind, MORE)
            | flag(matches!(ops, [Op::End, ..]), EMPTY);
    }

    /// Whether the actions may bring another EtherType to the front of the frame: that of a frame inside it.
    #[inline]
    pub const fn uncovers(&self) -> bool {
        self.rewrite.flags & UNCOVERS != 0
    }

    /// Whether a frame that passes all actions is a tunnel packet that they made.
    #[inline]
    pub const fn encapsulates(&self) -> bool {
        self.rewrite.flags & ENCAPSULATES != 0
    }

    /// Whether the actions do nothing but rewrite header fields: then [`Program::rewrite`] is all that [`run`] would do.
    #[inline]
    pub const fn only_rewrites(&self) -> bool {
        self.rewrite.flags & (MORE | EMPTY) == 0
    }

    /// Runs the leading rewrites.
    #[inline]
    pub fn rewrite<B: Buffer>(&self, frame: &mut Frame<B>, headers: &Headers) {
        self.rewrite.apply(frame, headers);
    }

    /// Reads what [`run`] will read, so that it is in the processor's cache by then: the first of the actions behind
    /// the rewrites, which lies beside the template.
    #[inline]
    pub fn fetch(&self) {
        if self.rewrite.flags & MORE != 0 {
            core::hint::black_box(self.ops.first().copied());
        }
    }

    /// The action list that this program was compiled from.
    pub fn actions(&self) -> ActionList {
        self.iter().collect()
    }

    /// The same, one by one.
    pub fn iter(&self) -> impl Iterator<Item = Action> + '_ {
        self.ops.iter().map_while(|op| self.action(*op))
    }

    /// The action that `op` was compiled from; `None` for [`Op::End`].
    fn action(&self, op: Op) -> Option<Action> {
        Some(match op {
            Op::End => return None,
            Op::Drop { max_len } => Action::Output { port: OFPP_NONE, max_len },
            Op::SetVlanVid(vid) => Action::SetVlanVid(vid),
            Op::SetVlanPcp(pcp) => Action::SetVlanPcp(pcp),
            Op::StripVlan => Action::StripVlan,
            Op::SetEthSrc(mac) => Action::SetEthSrc(mac),
            Op::SetEthDst(mac) => Action::SetEthDst(mac),
            Op::SetNwSrc(address) => Action::SetNwSrc(address),
            Op::SetNwDst(address) => Action::SetNwDst(address),
            Op::SetNwTos(tos) => Action::SetNwTos(tos),
            Op::SetTpSrc(port) => Action::SetTpSrc(port),
            Op::SetTpDst(port) => Action::SetTpDst(port),
            Op::SetVxlan { .. } => Action::SetVxlan(self.template.tunnel()),
            Op::StripVxlan => Action::StripVxlan(None),
            Op::StripVxlanVni(vni) => Action::StripVxlan(Some(vni)),
            Op::Encrypt { sa } => Action::Encrypt { sa },
            Op::Decrypt => Action::Decrypt,
            Op::Resubmit { in_port } => Action::Resubmit { in_port },
        })
    }
}

/// Runs `program` on `frame`, which `parsed` describes.
///
/// With an observer each action runs by itself, else the leading rewrites at once: with the same result.
///
/// An action whose field the frame does not have changes nothing. When the result is a drop, the frame may
/// already carry the changes of earlier actions.
///
/// `decrypted`: the frame, as it is now, came out of an ESP packet ([`Next::Resubmit`] says so).
pub fn run<B: Buffer, C: Ciphers, O: Observer, const SAS: usize>(
    program: &Program,
    context: &mut Context<'_, C, SAS>,
    frame: &mut Frame<B>,
    parsed: &Parsed,
    decrypted: bool,
    observer: &mut O,
) -> Next {
    if program.rewrite.flags & EMPTY != 0 {
        return Next::Drop(DropReason::Policy);
    }
    let mut run = Run {
        headers: parsed.headers,
        key: &parsed.key,
        inner_key: None,
        tun_id: parsed.key.get(Field::TunId) as u32,
        decrypted,
    };
    let mut ops = program.ops.as_slice();
    if !O::ENABLED {
        if program.rewrite.count > 0 {
            program.rewrite.apply(frame, &run.headers);
            ops = ops.get(usize::from(program.rewrite.count)..).unwrap_or_default();
        }
        if program.rewrite.flags & MORE == 0 {
            return Next::Forward;
        }
    }
    while let [op, rest @ ..] = ops {
        ops = rest;
        let step = match *op {
            Op::End => break,
            // The frame is parsed again only if something follows that wants to know.
            Op::StripVxlan | Op::StripVxlanVni(_) => {
                let headers_wanted = !matches!(rest, [] | [Op::End | Op::Drop { .. } | Op::Resubmit { .. }, ..]);
                run.strip_vxlan(frame, *op, headers_wanted, context.encrypted_only)
            }
            Op::SetVxlan { sealed } => match rest {
                // Mostly the encryption follows at once. A trace shows both.
                [Op::Encrypt { sa }, behind @ ..] if !O::ENABLED => {
                    ops = behind;
                    run.set_vxlan_and_encrypt(frame, &program.template, *sa, context)
                }
                _ => run.set_vxlan(frame, &program.template, sealed, context),
            },
            Op::Encrypt { sa } => run.encrypt(frame, context, sa, O::ENABLED),
            Op::Decrypt => run.decrypt(frame, context, O::ENABLED),
            Op::Drop { .. } => Step::Done(Next::Drop(DropReason::Policy)),
            Op::Resubmit { in_port } => Step::Done(run.resubmit(in_port)),
            _ => run.edit(frame, *op),
        };
        if O::ENABLED
            && let Some(action) = program.action(*op)
        {
            observer.event(&Event::Action { action: &action, effect: step.effect(), bytes: frame.bytes() });
        }
        if let Step::Done(next) = step {
            return next;
        }
    }
    Next::Forward
}

/// An action in compact form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromZeros, Immutable, KnownLayout)]
#[repr(u8)]
enum Op {
    End = 0,
    Drop { max_len: u16 },
    SetVlanVid(u16),
    SetVlanPcp(u8),
    StripVlan,
    SetEthSrc(MacAddr),
    SetEthDst(MacAddr),
    SetNwSrc(Ipv4Addr),
    SetNwDst(Ipv4Addr),
    SetNwTos(u8),
    SetTpSrc(u16),
    SetTpDst(u16),
    SetVxlan { sealed: bool },
    StripVxlan,
    StripVxlanVni(u32),
    Encrypt { sa: u32 },
    Decrypt,
    Resubmit { in_port: u16 },
}

impl Op {
    /// Checks one action by itself.
    fn compile(action: &Action) -> Result<Self, OfpError> {
        let argument = |good: bool, op: Self| if good { Ok(op) } else { Err(OfpError::BadArgument) };
        match *action {
            Action::Output { port: OFPP_NONE, max_len } => Ok(Self::Drop { max_len }),
            Action::Output { .. } | Action::Enqueue { .. } => Err(OfpError::BadOutPort),
            Action::SetVlanVid(vid) => argument(vid <= vlan::VID_MASK, Self::SetVlanVid(vid)),
            Action::SetVlanPcp(pcp) => argument(pcp <= 7, Self::SetVlanPcp(pcp)),
            Action::StripVlan => Ok(Self::StripVlan),
            Action::SetEthSrc(mac) => Ok(Self::SetEthSrc(mac)),
            Action::SetEthDst(mac) => Ok(Self::SetEthDst(mac)),
            Action::SetNwSrc(address) => Ok(Self::SetNwSrc(address)),
            Action::SetNwDst(address) => Ok(Self::SetNwDst(address)),
            Action::SetNwTos(tos) => argument(tos & ECN_MASK == 0, Self::SetNwTos(tos)),
            Action::SetTpSrc(port) => Ok(Self::SetTpSrc(port)),
            Action::SetTpDst(port) => Ok(Self::SetTpDst(port)),
            Action::SetVxlan(tunnel) => argument(tunnel.vni <= VNI_MAX, Self::SetVxlan { sealed: false }),
            Action::StripVxlan(None) => Ok(Self::StripVxlan),
            Action::StripVxlan(Some(vni)) => argument(vni <= VNI_MAX, Self::StripVxlanVni(vni)),
            Action::Encrypt { sa } => Ok(Self::Encrypt { sa }),
            Action::Decrypt => Ok(Self::Decrypt),
            Action::Resubmit { in_port: in_port @ (PORT_HOST | PORT_NET | RESUBMIT_IN_PORT) } => {
                Ok(Self::Resubmit { in_port })
            }
            Action::Resubmit { .. } => Err(OfpError::BadOutPort),
        }
    }
}

/// What an action list has made of a frame so far, as far as one can tell without the frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// Whatever came.
    AsCame,
    /// Opened; there should be a tunnel packet.
    Decrypted,
    /// The inside of a tunnel packet.
    Decapsulated,
    /// A tunnel packet of ours.
    Encapsulated,
    /// That, sealed.
    Encrypted,
}

impl Layer {
    /// The layer after one more action, or an error if it makes no sense.
    const fn after(self, action: &Action) -> Result<Self, OfpError> {
        Ok(match (action, self) {
            (Action::Encrypt { .. }, Self::Encapsulated) => Self::Encrypted,
            (Action::Decrypt, Self::AsCame) => Self::Decrypted,
            (Action::Encrypt { .. } | Action::Decrypt, _)
            | (Action::SetVxlan(_) | Action::StripVxlan(_), Self::Encrypted) => return Err(OfpError::BadArgument),
            (Action::SetVxlan(_), _) => Self::Encapsulated,
            (Action::StripVxlan(_), _) => Self::Decapsulated,
            (_, layer) => layer,
        })
    }
}

impl Op {
    /// Adds the action to `rewrite`. `false`, and nothing is added: it does something else.
    fn add_to(self, rewrite: &mut Rewrite) -> bool {
        match self {
            Self::SetEthSrc(mac) => rewrite.set_eth(Side::Src, mac),
            Self::SetEthDst(mac) => rewrite.set_eth(Side::Dst, mac),
            Self::SetNwSrc(address) => rewrite.set_nw(Side::Src, address),
            Self::SetNwDst(address) => rewrite.set_nw(Side::Dst, address),
            Self::SetNwTos(tos) => rewrite.set_tos(tos),
            Self::SetTpSrc(port) => rewrite.set_tp(Side::Src, port),
            Self::SetTpDst(port) => rewrite.set_tp(Side::Dst, port),
            _ => return false,
        }
        true
    }

    /// Whether the action may bring another EtherType to the front of the frame.
    fn uncovers(self) -> bool {
        let keeps = matches!(
            self,
            Self::End | Self::Drop { .. } | Self::SetVlanVid(_) | Self::SetVlanPcp(_) | Self::SetVxlan { .. }
        );
        !(keeps || matches!(self, Self::Resubmit { .. }) || self.add_to(&mut Rewrite::default()))
    }
}

/// What one action led to.
enum Step {
    /// It changed the frame.
    Applied,
    /// The frame has no such field.
    NotApplicable,
    /// It was the last one to run.
    Done(Next),
}

impl Step {
    fn effect(&self) -> Effect {
        match self {
            Self::Done(Next::Drop(reason)) => Effect::Dropped(*reason),
            Self::Applied | Self::Done(_) => Effect::Applied,
            Self::NotApplicable => Effect::NotApplicable,
        }
    }
}

impl From<bool> for Step {
    fn from(applied: bool) -> Self {
        if applied { Self::Applied } else { Self::NotApplicable }
    }
}

impl From<Result<bool, DropReason>> for Step {
    fn from(result: Result<bool, DropReason>) -> Self {
        result.map_or_else(|reason| Self::Done(Next::Drop(reason)), Self::from)
    }
}

/// What is known about the frame while its actions run.
struct Run<'a> {
    headers: Headers,
    /// Key of the frame as it was looked up.
    key: &'a FlowKey,
    /// Key of the inner frame, after a decapsulation that other actions follow.
    inner_key: Option<FlowKey>,
    tun_id: u32,
    /// Whether the frame, as it is now, came out of an ESP packet.
    decrypted: bool,
}

impl Run<'_> {
    /// Runs an action that changes header fields.
    fn edit<B: Buffer>(&mut self, frame: &mut Frame<B>, op: Op) -> Step {
        let headers = &mut self.headers;
        match op {
            Op::SetVlanVid(vid) => edit::set_vlan(frame, headers, vid, vlan::VID_MASK).into(),
            Op::SetVlanPcp(pcp) => {
                edit::set_vlan(frame, headers, u16::from(pcp) << vlan::PCP_SHIFT, vlan::PCP_MASK).into()
            }
            Op::StripVlan => edit::strip_vlan(frame, headers).into(),
            _ => {
                let mut rewrite = Rewrite::default();
                (op.add_to(&mut rewrite) && rewrite.apply(frame, headers)).into()
            }
        }
    }

    /// Encapsulates. `sealed`: an encryption follows.
    fn set_vxlan<B: Buffer, C, const SAS: usize>(
        &mut self,
        frame: &mut Frame<B>,
        template: &vxlan::Template,
        sealed: bool,
        context: &mut Context<'_, C, SAS>,
    ) -> Step {
        if !sealed && context.encrypted_only.contains(template.tunnel().vni) {
            return Step::Done(Next::Drop(DropReason::ClearTextRefused));
        }
        let key = self.inner_key.as_ref().unwrap_or(self.key);
        if let Err(reason) = template.encapsulate(frame, &self.headers, key, *context.ip_id) {
            return Step::Done(Next::Drop(reason));
        }
        *context.ip_id = context.ip_id.wrapping_add(1);
        self.headers = vxlan::OUTER_HEADERS;
        Step::Applied
    }

    /// Encapsulates and seals.
    fn set_vxlan_and_encrypt<B: Buffer, C: Ciphers, const SAS: usize>(
        &mut self,
        frame: &mut Frame<B>,
        template: &vxlan::Template,
        sa: u32,
        context: &mut Context<'_, C, SAS>,
    ) -> Step {
        let Context { now, sas, ciphers, ip_id, .. } = context;
        let inner = (template, self.inner_key.as_ref().unwrap_or(self.key), **ip_id);
        let result = esp::encapsulate_and_seal(frame, &mut self.headers, inner, sas, *ciphers, *now, sa);
        **ip_id = ip_id.wrapping_add(1);
        protected(sas, *ciphers, result, false)
    }

    fn strip_vxlan<B: Buffer>(
        &mut self,
        frame: &mut Frame<B>,
        op: Op,
        headers_wanted: bool,
        encrypted_only: &EncryptedOnly,
    ) -> Step {
        let demanded = if let Op::StripVxlanVni(vni) = op { Some(vni) } else { None };
        match vxlan::decapsulate(frame, &self.headers, demanded) {
            Ok(vni) if !self.decrypted && encrypted_only.contains(vni) => {
                return Step::Done(Next::Drop(DropReason::ClearTextRefused));
            }
            Ok(vni) => self.tun_id = vni,
            Err(reason) => return Step::Done(Next::Drop(reason)),
        }
        self.decrypted = false;
        if headers_wanted {
            self.parse_inner(frame.bytes());
        }
        Step::Applied
    }

    /// Out of line, so that what was parsed does not lie in the stack frame of every packet.
    #[inline(never)]
    fn parse_inner(&mut self, bytes: &[u8]) {
        if let Some(parsed) = parse(bytes, self.key.get(Field::InPort) as u16, self.tun_id) {
            self.headers = parsed.headers;
            self.inner_key = Some(parsed.key);
        }
    }

    /// Seals. `watch`: a trace, which counts nothing; it uses up a sequence number nevertheless, since two packets
    /// with one number must never be seen.
    fn encrypt<B: Buffer, C: Ciphers, const SAS: usize>(
        &mut self,
        frame: &mut Frame<B>,
        context: &mut Context<'_, C, SAS>,
        sa: u32,
        watch: bool,
    ) -> Step {
        let Context { now, sas, ciphers, .. } = context;
        let result = esp::seal(frame, &mut self.headers, sas, *ciphers, *now, sa);
        protected(sas, *ciphers, result, watch)
    }

    /// Opens. `watch`: a trace, which counts nothing and leaves the anti-replay window alone.
    fn decrypt<B: Buffer, C: Ciphers, const SAS: usize>(
        &mut self,
        frame: &mut Frame<B>,
        context: &mut Context<'_, C, SAS>,
        watch: bool,
    ) -> Step {
        let Context { now, sas, ciphers, .. } = context;
        let result = esp::open(frame, &mut self.headers, sas, *ciphers, *now, watch);
        self.decrypted = result.is_ok();
        protected(sas, *ciphers, result, watch)
    }

    fn resubmit(&self, in_port: u16) -> Next {
        Next::Resubmit { in_port, tun_id: self.tun_id, decrypted: self.decrypted }
    }
}

/// Counts what sealing or opening led to, and makes a step of it.
fn protected<C: Ciphers, const SAS: usize>(
    sas: &mut SaTable<SAS>,
    ciphers: &C,
    result: Result<esp::Done, esp::Refused>,
    watch: bool,
) -> Step {
    match result {
        Ok(esp::Done { slot, bytes }) => {
            if !watch {
                sas.count(ciphers, slot, bytes);
            }
            Step::Applied
        }
        Err(esp::Refused { reason, slot }) => {
            if let Some(slot) = slot.filter(|_| !watch) {
                sas.count_drop(slot, reason);
            }
            Step::Done(Next::Drop(reason))
        }
    }
}
