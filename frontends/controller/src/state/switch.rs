//! One connection of a switch: transaction numbers, liveness, ports. What its messages mean is decided above.

use std::{collections::BTreeMap, collections::VecDeque, fmt, time::Duration};

use cvsw_core::{
    control::{
        ControlMessage, MAX_FRAME_LEN, MessageType, VERSION_2,
        v3::{VERSION_3, hello},
    },
    flow::{Action, ActionList, Command as FlowCommand, FlowMod, OFPP_NONE},
    openflow::{
        ErrorMessage, Message, PacketOut, Port, PortStatsEntries, StatsRequest, encode_flow_mod, error_name,
    },
};

use super::{ConnectionId, Traffic, allowance::Allowance, port::PortState, vnic::Control, vnic::Wire};
use crate::{mac::Mac, plan::Command};

/// Longest message that we send, but for echo replies: a PACKET_OUT header with one action, and a control frame.
const MAX_MESSAGE: usize = 24 + MAX_FRAME_LEN;
/// Bytes of an echo reply before its data.
const ECHO_HEADER: usize = 8;
/// Messages whose purpose is remembered for the errors that they may cause.
const REMEMBERED: usize = 4096;
/// Room for that is kept when nothing is under way.
const REMEMBERED_WHEN_IDLE: usize = 32;
/// Error texts that are kept for the status.
const KEPT_ERRORS: usize = 8;
/// A switch whose place another one claims has this long to show that it is there.
const PROBE: Duration = Duration::from_secs(2);
/// Pause between two questions for the ports' counters.
const TRAFFIC_PAUSE: Duration = Duration::from_secs(2);

/// What HELLO says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The controller's epoch.
    pub epoch: u64,
    /// Whether version 2 is spoken.
    pub version_2: bool,
    /// Whether version 3 is.
    pub version_3: bool,
}

/// How far the conversation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The switch's HELLO is awaited.
    Hello,
    /// FEATURES_REPLY is awaited.
    Features,
    /// At work.
    Up,
    /// Another controller is at work.
    Standby,
}

/// What a message was for, to explain an error about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A message of the protocol itself.
    Protocol(&'static str),
    /// A flow entry of the switch.
    SwitchFlow(&'static str),
    /// A control message to a vNIC.
    Control {
        /// Message name.
        what: &'static str,
        /// Port.
        port: u16,
        /// The vNIC; the broadcast address if any is meant.
        mac: Mac,
    },
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(what) => write!(f, "{what}"),
            Self::SwitchFlow(what) => write!(f, "FLOW_MOD ({what})"),
            Self::Control { what, port, mac } => write!(f, "PACKET_OUT ({what} to {mac} on port {port})"),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Switch {
    /// Its id.
    pub id: ConnectionId,
    /// The other end's address, for people.
    pub peer: String,
    /// How far it has come.
    pub stage: Stage,
    /// Datapath id, from FEATURES_REPLY on.
    pub datapath_id: u64,
    /// When it connected.
    pub connected_at: Duration,
    /// Its physical ports. Boxed: half of a tree is room for more.
    pub ports: BTreeMap<u16, Box<PortState>>,
    /// Messages received.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
    /// How vNICs are greeted.
    pub greeting: Greeting,
    /// Control messages that it is still given.
    pub allowance: Allowance,
    /// The EtherType of control frames.
    ethertype: u16,
    last_received: Duration,
    /// When its ports are asked for their counters again.
    traffic_at: Duration,
    /// Nobody need look for vNICs on its ports before.
    look_at: Duration,
    give_up_at: Option<Duration>,
    next_xid: u32,
    purposes: VecDeque<(u32, Purpose)>,
    /// vNICs whose batch ends with this barrier; each has at most one or two under way.
    barriers: BTreeMap<u32, Mac>,
    outgoing: Vec<u8>,
    errors: VecDeque<String>,
}

impl Switch {
    /// A connection that has just been made; says HELLO.
    pub fn new(
        now: Duration,
        id: ConnectionId,
        peer: String,
        ethertype: u16,
        greeting: Greeting,
        allowance: Allowance,
    ) -> Self {
        let mut switch = Self {
            id,
            peer,
            stage: Stage::Hello,
            datapath_id: 0,
            connected_at: now,
            ports: BTreeMap::new(),
            received: 0,
            sent: 0,
            greeting,
            allowance,
            ethertype,
            last_received: now,
            traffic_at: now,
            look_at: now,
            give_up_at: None,
            next_xid: 1,
            purposes: VecDeque::new(),
            barriers: BTreeMap::new(),
            outgoing: Vec::new(),
            errors: VecDeque::new(),
        };
        switch.send(&Message::Hello { version: 1 }, Purpose::Protocol("HELLO"));
        switch
    }

    /// Queues a message and returns its transaction number.
    pub fn send(&mut self, message: &Message<'_>, purpose: Purpose) -> u32 {
        let xid = self.next_xid;
        self.next_xid = self.next_xid.checked_add(1).unwrap_or(1);
        self.send_as(xid, message);
        if self.purposes.len() == REMEMBERED {
            self.purposes.pop_front();
        }
        self.purposes.push_back((xid, purpose));
        xid
    }

    /// Queues an answer to the switch's message `xid`.
    pub fn send_as(&mut self, xid: u32, message: &Message<'_>) {
        let mut room = [0; MAX_MESSAGE];
        let mut more = Vec::new();
        let out = match message {
            Message::EchoReply(data) => {
                more.resize(ECHO_HEADER + data.len(), 0);
                &mut more[..]
            }
            _ => &mut room,
        };
        match message.encode(xid, out) {
            Ok(len) => {
                self.outgoing.extend_from_slice(&out[..len]);
                self.sent += 1;
            }
            Err(error) => self.note(format!("a message could not be written: {error}")),
        }
    }

    /// Takes what is to be written to the connection.
    pub fn take_outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }

    /// Something arrived.
    pub fn heard(&mut self, now: Duration) {
        self.received += 1;
        self.last_received = now;
        self.give_up_at = None;
    }

    /// Barrier `xid` was answered: nothing before it can cause an error any more. Returns the vNIC that waits for it.
    pub fn barrier_passed(&mut self, xid: u32) -> Option<Mac> {
        if let Some(at) = self.purposes.iter().position(|(sent, _)| *sent == xid) {
            self.purposes.drain(..=at);
            self.purposes.shrink_to(REMEMBERED_WHEN_IDLE);
        }
        self.barriers.remove(&xid)
    }

    /// The switch has reported an error about our message `xid`. Returns its text, and the vNIC that it concerns.
    pub fn failed(&mut self, xid: u32, error: &ErrorMessage<'_>) -> (String, Option<Mac>) {
        let purpose = self.purposes.iter().find(|(sent, _)| *sent == xid).map(|(_, purpose)| *purpose);
        let about = purpose.map_or_else(|| "an unknown message".to_owned(), |purpose| purpose.to_string());
        let name = error_name(error.kind, error.code);
        let mut text =
            format!("the switch refused {about} (xid {xid}): {name} (type {}, code {})", error.kind, error.code);
        if error.kind == 0 {
            // OFPET_HELLO_FAILED carries a text.
            text.push_str(&format!(": {}", String::from_utf8_lossy(error.data).escape_debug()));
        }
        self.note(text.clone());
        let mac = match purpose {
            Some(Purpose::Control { mac, .. }) if !mac.is_group() => Some(mac),
            _ => None,
        };
        (text, mac)
    }

    /// Notes an error for the status; the last few are kept.
    pub fn note(&mut self, error: String) {
        tracing::warn!(peer = %self.peer, datapath = %format_args!("{:016x}", self.datapath_id), "{error}");
        if self.errors.len() == KEPT_ERRORS {
            self.errors.pop_front();
        }
        self.errors.push_back(error);
    }

    /// Errors that were noted, oldest first.
    pub fn errors(&self) -> impl Iterator<Item = &str> {
        self.errors.iter().map(String::as_str)
    }

    /// Asks whether it is there, because another one says that it is this switch.
    pub fn probe(&mut self, now: Duration) {
        let deadline = now.saturating_add(PROBE);
        self.echo(self.give_up_at.map_or(deadline, |at| at.min(deadline)));
    }

    /// Keeps the connection alive. `Some` says why it has to be closed.
    pub fn poll_liveness(&mut self, now: Duration, echo: Duration) -> Option<&'static str> {
        if matches!(self.stage, Stage::Hello | Stage::Features) {
            let late = now.saturating_sub(self.connected_at) > echo.saturating_mul(2);
            return late.then_some("the OpenFlow handshake was not completed in time");
        }
        match self.give_up_at {
            Some(at) if now >= at => return Some("the switch does not answer ECHO_REQUEST"),
            Some(_) => {}
            None if now.saturating_sub(self.last_received) >= echo => self.echo(now.saturating_add(echo)),
            None => {}
        }
        None
    }

    /// Takes a port over from FEATURES_REPLY or PORT_STATUS; looks for a vNIC on it if it is new or has come up.
    pub fn port_seen(&mut self, now: Duration, port: &Port) {
        if port.number == 0 || port.number > Port::MAX {
            return;
        }
        self.look_at = now;
        let state = self.ports.entry(port.number).or_insert_with(|| Box::new(PortState::new(now, port)));
        if port.is_up() && !state.up {
            state.look_again(now);
        }
        state.name = port.name.as_str().into();
        state.up = port.is_up();
    }

    /// A port, for whoever may look for a vNIC there.
    pub fn port_mut(&mut self, number: u16) -> Option<&mut PortState> {
        self.look_at = Duration::ZERO;
        self.ports.get_mut(&number).map(|port| &mut **port)
    }

    /// Looks for vNICs on ports that have none. `hello` is the pause between attempts, `slow` the one for ports whose
    /// vNIC is known but not accepted.
    pub fn poll_discovery(&mut self, now: Duration, hello: Duration, slow: Duration) {
        if now < self.look_at {
            return;
        }
        let mut due = Vec::new();
        self.look_at = Duration::MAX;
        for (number, port) in &mut self.ports {
            due.extend(port.look(now, hello, slow).map(|control| (*number, control)));
            self.look_at = self.look_at.min(port.next_look());
        }
        for (number, control) in due {
            self.control(number, Mac([0xff; 6]), &control);
        }
    }

    /// Asks for the ports' counters now and then.
    pub fn poll_traffic(&mut self, now: Duration) {
        if self.stage == Stage::Up && now >= self.traffic_at {
            self.traffic_at = now.saturating_add(TRAFFIC_PAUSE);
            let request = Message::StatsRequest(StatsRequest::Port(OFPP_NONE));
            self.send(&request, Purpose::Protocol("STATS_REQUEST (ports)"));
            if self.purposes.len() > REMEMBERED_WHEN_IDLE {
                // What was answered without an error need not be remembered.
                self.send(&Message::BarrierRequest, Purpose::Protocol("BARRIER_REQUEST"));
            }
        }
    }

    /// The switch has told what its ports have counted.
    pub fn counted(&mut self, now: Duration, entries: PortStatsEntries<'_>, sums: &mut Traffic) {
        for stats in entries.map_while(Result::ok) {
            if let Some(port) = self.ports.get_mut(&stats.port) {
                let old = port.traffic.replace((now, stats));
                if let Some((_, old)) = old.filter(|_| !port.vnics.is_empty()) {
                    sums.add(&old, &stats);
                }
            }
        }
    }

    /// A HELLO came from `port`: a vNIC has started there, or another switch has passed on one of ours.
    pub fn hello_heard(&mut self, now: Duration, number: u16) {
        self.look_at = now;
        if !self.ports.get_mut(&number).is_some_and(|port| port.wants_hello(now)) {
            return;
        }
        self.control(number, Mac([0xff; 6]), &Control::Hello);
    }

    fn echo(&mut self, give_up_at: Duration) {
        if self.give_up_at.is_none() {
            self.send(&Message::EchoRequest(b"cvsw"), Purpose::Protocol("ECHO_REQUEST"));
        }
        self.give_up_at = Some(give_up_at);
    }
}

impl Wire for Switch {
    fn control(&mut self, port: u16, mac: Mac, control: &Control) {
        if *control == Control::Hello && self.greeting.version_3 {
            self.hello_3(port, mac);
        }
        if !self.greeting.version_2 {
            return;
        }
        let mut body = [0; MAX_FRAME_LEN];
        let highest = if self.greeting.version_3 { VERSION_3.into() } else { 0 };
        let (kind, what, data, flow) = match control {
            Control::Hello => (MessageType::Hello, "HELLO", highest, None),
            Control::List => (MessageType::ListEntries, "LIST_ENTRIES", 0, None),
            Control::Command(Command::SetMtu(mtu)) => (MessageType::SetMtu, "SET_MTU", mtu.get(), None),
            Control::Command(Command::SetOffload(flags)) => (MessageType::SetOffload, "SET_OFFLOAD", flags.0, None),
            Control::Command(Command::Set(flow)) => {
                (MessageType::SetEntry, "SET_ENTRY", 0, Some(FlowMod::clone(flow)))
            }
            Control::Command(Command::Delete(flow)) => {
                (MessageType::DeleteEntry, "DELETE_ENTRY", 0, Some(deletion(flow)))
            }
        };
        let body_len = match flow.map_or(Ok(0), |flow| encode_flow_mod(&flow, 0, &mut body)) {
            Ok(len) => len,
            Err(error) => return self.note(format!("{what} to {mac} could not be written: {error}")),
        };
        self.control_frame(port, mac, (kind, what), data, &body[..body_len]);
    }

    fn frame(&mut self, port: u16, mac: Mac, what: &'static str, frame: &[u8]) {
        self.packet_out(port, mac, what, frame);
    }

    fn ethertype(&self) -> u16 {
        self.ethertype
    }

    fn barrier(&mut self, mac: Mac) -> u32 {
        let xid = self.send(&Message::BarrierRequest, Purpose::Protocol("BARRIER_REQUEST"));
        self.barriers.insert(xid, mac);
        xid
    }
}

impl Switch {
    /// Sends a control frame of version 2 to the vNIC `mac` on `port`; `kind` comes with its name for messages.
    pub fn control_frame(
        &mut self,
        port: u16,
        mac: Mac,
        kind: (MessageType, &'static str),
        data: u16,
        body: &[u8],
    ) {
        let (kind, what) = kind;
        let message = ControlMessage { dst: mac.0, version: VERSION_2, kind, data, body };
        let mut frame = [0; MAX_FRAME_LEN];
        let len = match message.emit(self.ethertype, &mut frame) {
            Ok(len) => len,
            Err(_) => return self.note(format!("{what} to {mac} does not fit a control frame")),
        };
        self.packet_out(port, mac, what, &frame[..len]);
    }

    /// HELLO of version 3, with a challenge that no other port gets.
    fn hello_3(&mut self, port: u16, mac: Mac) {
        // 0 stands for no challenge.
        let challenge = match getrandom::u64() {
            Ok(number) => number.max(1),
            Err(error) => return self.note(format!("no HELLO of version 3: no random number: {error}")),
        };
        let mut frame = [0; MAX_FRAME_LEN];
        let Ok(len) = hello(self.ethertype, mac.0, self.greeting.epoch, challenge, &mut frame) else { return };
        if let Some(state) = self.ports.get_mut(&port) {
            let [newest, _] = state.challenges;
            state.challenges = [challenge, newest];
            self.packet_out(port, mac, "HELLO", &frame[..len]);
        }
    }

    fn packet_out(&mut self, port: u16, mac: Mac, what: &'static str, frame: &[u8]) {
        let mut actions = ActionList::new();
        // An empty list takes one action.
        let _ = actions.push(Action::Output { port, max_len: 0 });
        let packet = PacketOut { buffer_id: None, in_port: OFPP_NONE, actions, data: frame };
        self.send(&Message::PacketOut(packet), Purpose::Control { what, port, mac });
        self.allowance.spend();
    }
}

/// The DELETE_STRICT of an entry.
pub fn deletion(flow: &FlowMod) -> FlowMod {
    FlowMod { command: FlowCommand::DeleteStrict, actions: ActionList::new(), flags: 0, ..flow.clone() }
}
