//! The vNIC's side of a control session: version 2 here, version 3 in [`super::v3`].
//!
//! ```text
//! DISCONNECTED --HELLO / send REGISTER--> CONNECTING --first SET_*--> CONNECTED
//! ```
//!
//! A second HELLO, or any command before HELLO, is refused. A refused message changes nothing and is counted
//! by its [`ControlError`]. Of the session's queues only one can overflow, that of removals to be reported, and it
//! counts what it loses: a later MTU replaces an earlier one that nobody has fetched yet, and a listing is a cursor
//! into the table.

use super::{
    keys::{SaAnswer, SetSa},
    message::{ControlMessage, MessageType, OffloadFlags, VERSION_2},
    removals::Removals,
    v3::{self, Answer, ControlKeys, ControlStatus, Inside, Kind, VERSION_3, VnicSession},
};
use crate::{
    flow::{Command, FlowMod, MacAddr, OfpError},
    frame::NoRoom,
    mtu::IpMtu,
    openflow::{self, EncodeError, FlowRemoved},
    stats::ControlError,
    time::Instant,
    wire::sa::ANSWER_LEN,
};
use zerocopy::FromZeros;

/// State of the session with the controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum SessionState {
    /// No HELLO yet.
    #[default]
    Disconnected = 0,
    /// HELLO seen, REGISTER sent (or queued).
    Connecting,
    /// At least one SET_* seen: the table is active.
    Connected,
}

impl SessionState {
    /// The name in upper case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disconnected => "DISCONNECTED",
            Self::Connecting => "CONNECTING",
            Self::Connected => "CONNECTED",
        }
    }
}

/// What a control message wants done outside the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ControlEvent {
    /// The session's state changed.
    Session(SessionState),
    /// Set the MTU of the interface that the VM sees.
    SetMtu(IpMtu),
    /// Set its offload features.
    SetOffload(OffloadFlags),
}

/// What a control message wants done inside the engine.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// Nothing: the session has dealt with it.
    None,
    /// Read this with [`Session::read_flow`], apply it, then call [`Session::changed`].
    FlowMod {
        /// The OpenFlow message.
        message: &'a [u8],
        /// It must delete; else it must not.
        deletes: bool,
    },
    /// Read this with [`Session::read_sa`], carry it out, then call [`Session::answer`].
    SetSa(&'a [u8]),
}

/// Answers to SET_SA that can wait to be sent: as many as a burst has frames.
pub const ANSWERS: usize = 32;

/// The session. All-zero is its initial state, but for the MAC address.
#[derive(Debug, FromZeros)]
#[repr(C)]
pub struct Session {
    mac: MacAddr,
    state: SessionState,
    state_changed: bool,
    hello_due: bool,
    register_due: bool,
    /// A listing is under way: `listing_from` is the next entry index to look at.
    listing: bool,
    offload_due: bool,
    listing_from: u32,
    /// 0: none to be set.
    mtu_due: u16,
    offload: u16,
    /// The offloads that are in force.
    in_force: u16,
    removals: Removals,
    keys_in_clear: bool,
    /// Answers to SET_SA, oldest first; those behind `answers_due` are old.
    answers: [[u8; ANSWER_LEN]; ANSWERS],
    answers_due: u8,
    /// Version of the last message that was believed.
    version: u8,
    /// `offload` was set.
    offload_set: bool,
    /// `in_force` was told.
    in_force_known: bool,
    /// The MTU that was set last.
    mtu: u16,
    v3: VnicSession,
}

impl Session {
    /// Starts again as the vNIC with address `mac`.
    pub fn reset(&mut self, mac: MacAddr) {
        self.zero();
        self.mac = mac;
    }

    /// The vNIC's address is `mac` from now on; the session goes on.
    pub const fn set_mac(&mut self, mac: MacAddr) {
        self.mac = mac;
    }

    /// The session's state.
    pub const fn state(&self) -> SessionState {
        self.state
    }

    /// Queues a HELLO to the controller: "a vNIC is here", so that a controller need not poll for new ones.
    ///
    /// It carries the vNIC's own address, as REGISTER does: broadcast, it would reach other vNICs through a
    /// switch that has no backstop flow yet, and they would take it for the controller's.
    ///
    /// With a control key it is a REGISTER of version 3 that answers no challenge.
    pub const fn announce(&mut self) {
        if self.v3.has_key() {
            self.v3.announce();
        } else {
            self.hello_due = true;
        }
    }

    /// Speaks version 3 too from now on; with a key nothing else. See [`VnicSession::enable`].
    pub fn enable_version_3(&mut self, instance: u64, keys: ControlKeys) {
        self.v3.enable(instance, keys);
    }

    /// How it is controlled.
    pub const fn status(&self) -> ControlStatus {
        self.v3.status(self.version)
    }

    /// The flow table may have changed.
    pub const fn table_changed(&mut self) {
        self.v3.table_changed();
    }

    /// Takes one control frame from the network. Out of line: what it has on the stack, carrying a request out need not.
    #[inline(never)]
    pub fn receive<'a>(&mut self, now: Instant, frame: &'a [u8]) -> Result<Request<'a>, ControlError> {
        if frame.get(6).is_some_and(|octet| octet >> 4 == VERSION_3) && self.v3.is_enabled() {
            return self.receive_3(now, frame);
        }
        let message = ControlMessage::parse(frame)?;
        if message.kind == MessageType::Hello && message.data >= VERSION_3.into() && self.v3.is_enabled() {
            // Whoever says this sends a HELLO of version 3 as well.
            return Ok(Request::None);
        }
        if self.v3.has_key() {
            return Err(ControlError::Downgrade);
        }
        let request = self.receive_2(&message)?;
        if matches!(request, Request::None) && message.kind != MessageType::Hello {
            self.version_2_spoken();
        }
        Ok(request)
    }

    fn version_2_spoken(&mut self) {
        self.version = VERSION_2;
        self.v3.version_2_spoken();
    }

    /// Reads a [`Request::FlowMod`] into `flow`.
    ///
    /// # Errors
    /// `FlowMod` or `Command`; the answer, if one is due, is queued.
    #[inline(never)]
    pub fn read_flow(&mut self, message: &[u8], deletes: bool, flow: &mut FlowMod) -> Result<(), ControlError> {
        let read = openflow::decode_flow_mod_into(message, flow);
        // SET_ENTRY carries ADD or MODIFY commands, DELETE_ENTRY carries DELETE commands.
        let result = match read {
            Err(_) => Err(ControlError::FlowMod),
            Ok(()) if matches!(flow.command, Command::Delete | Command::DeleteStrict) == deletes => Ok(()),
            Ok(()) => Err(ControlError::Command),
        };
        match (self.v3.under_way(), result) {
            (None, Ok(())) => self.version_2_spoken(),
            (Some(kind), Err(error)) => self.v3.answer(match read {
                Err(error) => Answer::new(kind, Some(error.into())),
                Ok(()) => Answer::new(kind, v3::Refusal::of(error)).about(flow),
            }),
            _ => {}
        }
        result
    }

    /// Reads a [`Request::SetSa`].
    ///
    /// # Errors
    /// Those of [`SetSa::parse`] and [`SetSa::parse_wrapped`]; the answer, if one is due, is queued.
    #[inline(never)]
    pub fn read_sa(&mut self, body: &[u8]) -> Result<SetSa, ControlError> {
        if self.v3.under_way().is_some() {
            return SetSa::parse_wrapped(self.v3.keys(), body).inspect_err(|error| self.v3.refuse(*error));
        }
        let message = SetSa::parse(body)?;
        self.version_2_spoken();
        Ok(message)
    }

    fn receive_2<'a>(&mut self, message: &ControlMessage<'a>) -> Result<Request<'a>, ControlError> {
        if message.dst != self.mac && message.dst != [0xff; 6] {
            return Err(ControlError::NotForUs);
        }
        match message.kind {
            MessageType::Hello => self.hello(message),
            MessageType::Register | MessageType::FlowRemoved | MessageType::SaAnswer => Err(ControlError::Type),
            _ if self.state == SessionState::Disconnected => Err(ControlError::NotConnected),
            MessageType::SetEntry => Ok(Request::FlowMod { message: message.body, deletes: false }),
            MessageType::DeleteEntry => Ok(Request::FlowMod { message: message.body, deletes: true }),
            MessageType::SetMtu => self.set_mtu(message),
            MessageType::SetOffload => self.set_offload(message),
            MessageType::ListEntries => self.list(message),
            MessageType::SetSa => self.set_sa(message),
        }
    }

    /// Whether keys are accepted although they travel in clear.
    pub const fn set_keys_in_clear(&mut self, on: bool) {
        self.keys_in_clear = on;
    }

    /// Whether keys are accepted.
    pub const fn accepts_keys(&self) -> bool {
        self.keys_in_clear || self.v3.has_key()
    }

    /// Queues the answer to a SET_SA.
    pub fn answer(&mut self, answer: &SaAnswer) {
        if self.v3.under_way().is_some() {
            return self.v3.answer_association(answer);
        }
        if let Some(place) = self.answers.get_mut(usize::from(self.answers_due)) {
            *place = answer.to_bytes();
            self.answers_due = self.answers_due.saturating_add(1);
        }
    }

    /// A change of the table was carried out, or refused.
    pub fn changed(&mut self, flow: &FlowMod, result: Result<(), OfpError>) {
        if let Some(kind) = self.v3.under_way() {
            self.v3.answer(Answer::new(kind, result.err().map(Into::into)).about(flow));
        }
        if result.is_ok() && !matches!(flow.command, Command::Delete | Command::DeleteStrict) {
            self.advance(SessionState::Connected);
        }
    }

    fn receive_3<'a>(&mut self, now: Instant, frame: &'a [u8]) -> Result<Request<'a>, ControlError> {
        let message = v3::Message::parse(frame)?;
        let broadcast = message.header.mac == [0xff; 6] && message.header.kind == Kind::Hello;
        if message.header.mac != self.mac && !broadcast {
            return Err(ControlError::NotForUs);
        }
        match self.v3.receive(now, &message)? {
            v3::Taken::Nothing => {}
            v3::Taken::Hello => {
                if self.state == SessionState::Disconnected {
                    self.advance(SessionState::Connecting);
                }
                return Ok(Request::None);
            }
            v3::Taken::Command => {
                self.version = VERSION_3;
                let request = self.command_3(&message);
                match &request {
                    Ok(Request::None) => self.v3.answer(Answer::new(message.header.kind, None)),
                    Ok(_) => {}
                    Err(error) => self.v3.refuse(*error),
                }
                return request;
            }
        }
        self.version = VERSION_3;
        Ok(Request::None)
    }

    /// A command whose turn it is.
    fn command_3<'a>(&mut self, message: &v3::Message<'a>) -> Result<Request<'a>, ControlError> {
        let (data, payload) = (message.header.data, message.payload);
        match message.header.kind {
            Kind::SetEntry => Ok(Request::FlowMod { message: payload, deletes: false }),
            Kind::DeleteEntry => Ok(Request::FlowMod { message: payload, deletes: true }),
            Kind::SetMtu if payload.is_empty() => self.set_mtu_to(data),
            Kind::SetOffload if payload.is_empty() => self.set_offload_to(data),
            Kind::SetSa => Ok(Request::SetSa(payload)),
            _ => Err(ControlError::Length),
        }
    }

    /// The next thing to be done outside.
    pub fn poll_event(&mut self) -> Option<ControlEvent> {
        if core::mem::take(&mut self.state_changed) {
            return Some(ControlEvent::Session(self.state));
        }
        if let Some(mtu) = IpMtu::new(core::mem::take(&mut self.mtu_due)) {
            return Some(ControlEvent::SetMtu(mtu));
        }
        core::mem::take(&mut self.offload_due).then_some(ControlEvent::SetOffload(OffloadFlags(self.offload)))
    }

    /// Writes the next control frame to be sent into `out`.
    ///
    /// `Ok(None)`: nothing to send. `Err(NoRoom)`: `out` is too short; the frame stays queued.
    pub fn poll_transmit<I: Inside>(
        &mut self,
        ethertype: u16,
        out: &mut [u8],
        inside: &I,
    ) -> Result<Option<usize>, NoRoom> {
        let report = self.report(ethertype, inside);
        if let Some(len) = self.v3.poll_transmit(&report, out)? {
            return Ok(Some(len));
        }
        if self.hello_due {
            let len = self.message(MessageType::Hello, &[]).emit(ethertype, out)?;
            self.hello_due = false;
            return Ok(Some(len));
        }
        if self.register_due {
            let len = self.message(MessageType::Register, &[]).emit(ethertype, out)?;
            self.register_due = false;
            return Ok(Some(len));
        }
        if !self.removals.is_empty() {
            return self.transmit_removal(&report, out).map(Some);
        }
        if let [first, ..] = &self.answers
            && self.answers_due > 0
        {
            let len = self.message(MessageType::SaAnswer, first).emit(ethertype, out)?;
            self.answers.rotate_left(1);
            self.answers_due = self.answers_due.saturating_sub(1);
            return Ok(Some(len));
        }
        if self.listing { self.transmit_entry(ethertype, out, inside).map(Some) } else { Ok(None) }
    }

    /// The oldest report of an entry's end. One that cannot be said is lost, and so is the answer.
    #[inline(never)]
    fn transmit_removal<I: Inside>(&mut self, report: &v3::Report<'_, I>, out: &mut [u8]) -> Result<usize, NoRoom> {
        let removed = self.removals.first().ok_or(NoRoom)?;
        let len = if self.v3.is_active() {
            self.v3.transmit_removal(report, removed, out)
        } else {
            self.emit(MessageType::FlowRemoved, report.ethertype, out, |body| removed.encode(0, body))
        };
        if len != Err(EncodeError::NoRoom) {
            self.removals.pop();
        }
        len.map_err(|_| NoRoom)
    }

    /// The next entry of a listing, or its end.
    #[inline(never)]
    fn transmit_entry<I: Inside>(&mut self, ethertype: u16, out: &mut [u8], inside: &I) -> Result<usize, NoRoom> {
        while let Some((next, entry)) = inside.next_entry(self.listing_from) {
            let answer = self.emit(MessageType::ListEntries, ethertype, out, |body| entry.encode(0, body));
            if answer != Err(EncodeError::NoRoom) {
                self.listing_from = next;
            }
            match answer {
                Ok(len) => return Ok(len),
                Err(EncodeError::NoRoom) => return Err(NoRoom),
                // The engine accepts no entry that cannot be said.
                Err(EncodeError::Inexpressible(_)) => {}
            }
        }
        let len = self.message(MessageType::ListEntries, &[]).emit(ethertype, out)?;
        self.listing = false;
        Ok(len)
    }

    /// Queues the report of an entry's end, if there is a controller to be told.
    pub fn flow_removed(&mut self, removed: &FlowRemoved) {
        if self.state != SessionState::Disconnected {
            self.removals.push(removed);
        }
    }

    /// Reports that did not fit the queue since the last call.
    pub fn take_lost_removals(&mut self) -> u64 {
        self.removals.take_lost()
    }

    /// Notes which offloads are in force, for what the controller is told.
    pub const fn set_offload_in_force(&mut self, features: OffloadFlags) {
        self.in_force = features.0;
        self.in_force_known = true;
    }

    const fn report<'a, I>(&self, ethertype: u16, inside: &'a I) -> v3::Report<'a, I> {
        v3::Report {
            mac: self.mac,
            ethertype,
            inside,
            session: self.state,
            mtu: self.mtu,
            offload: if self.offload_set { Some(self.offload) } else { None },
            in_force: if self.in_force_known { Some(self.in_force) } else { None },
            takes_keys: self.accepts_keys(),
        }
    }

    const fn message<'a>(&self, kind: MessageType, body: &'a [u8]) -> ControlMessage<'a> {
        ControlMessage { dst: self.mac, version: VERSION_2, kind, data: 0, body }
    }

    /// A message whose body `write` puts behind the header.
    fn emit(
        &self,
        kind: MessageType,
        ethertype: u16,
        out: &mut [u8],
        write: impl FnOnce(&mut [u8]) -> Result<usize, EncodeError>,
    ) -> Result<usize, EncodeError> {
        let (header, body) = out.split_at_mut_checked(super::HEADER_LEN).ok_or(NoRoom)?;
        let len = write(body)?;
        self.message(kind, body.get(..len).unwrap_or_default()).emit_header(ethertype, header)?;
        Ok(len.saturating_add(super::HEADER_LEN))
    }

    fn advance(&mut self, state: SessionState) {
        if self.state != state {
            self.state = state;
            self.state_changed = true;
        }
    }

    fn hello(&mut self, message: &ControlMessage<'_>) -> Result<Request<'static>, ControlError> {
        no_body(message)?;
        if self.state != SessionState::Disconnected {
            return Err(ControlError::DuplicateHello);
        }
        self.register_due = true;
        self.advance(SessionState::Connecting);
        Ok(Request::None)
    }

    fn set_mtu(&mut self, message: &ControlMessage<'_>) -> Result<Request<'static>, ControlError> {
        no_body(message)?;
        self.set_mtu_to(message.data)
    }

    fn set_mtu_to(&mut self, mtu: u16) -> Result<Request<'static>, ControlError> {
        self.mtu = IpMtu::new(mtu).ok_or(ControlError::Data)?.get();
        self.mtu_due = self.mtu;
        self.advance(SessionState::Connected);
        Ok(Request::None)
    }

    fn set_offload(&mut self, message: &ControlMessage<'_>) -> Result<Request<'static>, ControlError> {
        no_body(message)?;
        self.set_offload_to(message.data)
    }

    fn set_offload_to(&mut self, features: u16) -> Result<Request<'static>, ControlError> {
        if features & !OffloadFlags::ALL != 0 {
            return Err(ControlError::Data);
        }
        self.offload = features;
        self.offload_set = true;
        self.offload_due = true;
        self.advance(SessionState::Connected);
        Ok(Request::None)
    }

    fn set_sa<'a>(&self, message: &ControlMessage<'a>) -> Result<Request<'a>, ControlError> {
        if usize::from(self.answers_due) == ANSWERS {
            return Err(ControlError::Busy);
        }
        Ok(Request::SetSa(message.body))
    }

    /// Starts a listing; a second request starts it again.
    fn list(&mut self, message: &ControlMessage<'_>) -> Result<Request<'static>, ControlError> {
        no_body(message)?;
        self.listing = true;
        self.listing_from = 0;
        Ok(Request::None)
    }
}

fn no_body(message: &ControlMessage<'_>) -> Result<(), ControlError> {
    if message.body.is_empty() { Ok(()) } else { Err(ControlError::Length) }
}
