//! A whole network in memory with a clock of its own: a controller, switches that speak OpenFlow 1.0 through the
//! codec, real engines on their ports, and links that lose control frames.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
    time::Duration,
};

use cvsw_controller::{
    Mac,
    config::Config,
    derive,
    state::ConnectionId,
    state::Controller,
    status::{Status, VnicStatus},
};
use cvsw_core::{
    Cvsw, Frame, Instant,
    control::{ControlEvent, MAX_FRAME_LEN, v3::ControlKeys},
    crypto::Portable,
    flow::{Action, Command, Direction, FlowMod},
    openflow::{
        Features, FlowStatsEntries, Header, Message, PacketIn, Port, PortName, PortReason, PortStatsEntries,
        PortStatus, Ports, StatsReply, StatsRequest, message_len,
    },
};
use zerocopy::FromZeros as _;

use super::{post::Post, traffic::Traffic};

/// An engine small enough that a world of them is quick to make.
pub type Engine = Cvsw<64, 64, 32>;

/// Security associations of a vNIC.
const SAS: usize = 64;

/// How often time passes.
pub const STEP: Duration = Duration::from_millis(50);

/// A vNIC: an engine, and the interface that it controls.
pub struct Nic {
    pub mac: Mac,
    pub engine: Box<Engine>,
    pub ciphers: Box<Portable<SAS>>,
    pub mtu: Option<u16>,
    pub offloads: Option<u16>,
    /// Boot generation of one that takes keys in clear.
    boot: Option<u64>,
    /// Instance and keys of one that speaks version 3.
    control: Option<(u64, ControlKeys)>,
}

impl Nic {
    pub fn new(mac: Mac) -> Self {
        let mut engine = Engine::new_box_zeroed().unwrap();
        engine.init(&cvsw_core::Config { mac: mac.0, ..Default::default() });
        Self { mac, engine, ciphers: Box::default(), mtu: None, offloads: None, boot: None, control: None }
    }

    /// One that takes keys in clear, with this boot generation.
    pub fn with_keys(mac: Mac, boot: u64) -> Self {
        let mut nic = Self { boot: Some(boot), ..Self::new(mac) };
        nic.engine.accept_keys_in_clear(true);
        nic.engine.set_boot_generation(boot);
        nic
    }

    /// The same after a restart: another generation, and nothing remembered.
    fn restarted(&self) -> Self {
        match (self.boot, &self.control) {
            (_, Some((instance, keys))) => Self::of_version_3(self.mac, instance + 1000, keys.clone()),
            (Some(boot), None) => Self::with_keys(self.mac, boot + 1),
            (None, None) => Self::new(self.mac),
        }
    }

    /// One that speaks version 3, as this instance, and with a key nothing else. It announces itself when it is plugged.
    pub fn of_version_3(mac: Mac, instance: u64, keys: ControlKeys) -> Self {
        let mut nic = Self::new(mac);
        nic.engine.enable_version_3(instance, keys.clone());
        nic.engine.set_boot_generation(instance);
        nic.control = Some((instance, keys));
        nic
    }

    /// Its entries, in a fixed order.
    pub fn flows(&self) -> BTreeSet<String> {
        self.engine.flows().map(|entry| format!("{:?}", entry.flow)).collect()
    }
}

/// A switch.
pub struct Switch {
    pub datapath_id: u64,
    /// Its controller: 0 for the first one, else one of the others.
    pub at: usize,
    pub connection: Option<ConnectionId>,
    pub ports: BTreeMap<u16, Option<Nic>>,
    /// Its own flow entries, by what they are.
    pub flows: Vec<FlowMod>,
    /// Messages that it got, by name.
    pub got: BTreeMap<&'static str, usize>,
    /// Answers barriers.
    pub barriers: bool,
    /// Answers anything at all.
    pub alive: bool,
    /// Messages that it takes in each step, if that is limited; the others wait.
    pub pace: Option<usize>,
    waiting: VecDeque<Vec<u8>>,
}

/// Everything.
pub struct World {
    pub controller: Controller,
    /// Others that share the switches, and know each other if they are alive.
    pub others: Vec<Controller>,
    /// Controllers that have ended, or stand still.
    pub stopped: BTreeSet<usize>,
    /// Connections that those do not know to be gone.
    gone: Vec<(usize, ConnectionId)>,
    pub now: Duration,
    pub switches: Vec<Switch>,
    /// Per cent of control frames that are lost, in each direction.
    pub loss: u64,
    /// Control frames that reached a vNIC, by address: SET_ENTRY and so on are counted by type number.
    pub delivered: BTreeMap<(Mac, u8), usize>,
    pub closed: Vec<String>,
    /// What the VMs send each other, if they do.
    pub traffic: Option<Traffic>,
    /// What the controllers write to each other.
    pub post: Post,
    random: u64,
}

impl World {
    /// A world with this configuration and no switch.
    pub fn new(config: &str, seed: u64) -> Self {
        let loaded = Config::parse("world.toml", config).unwrap_or_else(|errors| panic!("{errors}"));
        Self {
            controller: Controller::new(loaded.config, loaded.warnings),
            others: Vec::new(),
            stopped: BTreeSet::new(),
            gone: Vec::new(),
            now: Duration::ZERO,
            switches: Vec::new(),
            loss: 0,
            delivered: BTreeMap::new(),
            closed: Vec::new(),
            traffic: None,
            post: Post::default(),
            random: seed | 1,
        }
    }

    /// Adds a switch with ports 1 to `ports`, and connects it.
    pub fn add_switch(&mut self, datapath_id: u64, ports: u16) -> usize {
        self.switches.push(Switch {
            datapath_id,
            at: 0,
            connection: None,
            ports: (1..=ports).map(|number| (number, None)).collect(),
            flows: Vec::new(),
            got: BTreeMap::new(),
            barriers: true,
            alive: true,
            pace: None,
            waiting: VecDeque::new(),
        });
        self.connect(self.switches.len() - 1);
        self.switches.len() - 1
    }

    /// Connects a switch, if it is not connected.
    pub fn connect(&mut self, switch: usize) {
        if self.switches[switch].connection.is_none() {
            let (now, at) = (self.now, self.switches[switch].at);
            let id = self.controller_at(at).connected(now, format!("switch {switch}"));
            self.switches[switch].connection = Some(id);
            self.send(switch, 0, &Message::Hello { version: 1 });
        }
    }

    /// Cuts a switch's connection; its vNICs stay as they are.
    pub fn disconnect(&mut self, switch: usize) {
        if let Some(id) = self.switches[switch].connection.take() {
            let (now, at) = (self.now, self.switches[switch].at);
            self.controller_at(at).disconnected(now, id);
        }
    }

    /// One more controller, with the configuration of the first and a higher epoch. Returns its number.
    pub fn add_controller(&mut self) -> usize {
        let mut new = Controller::new(self.controller.config().clone(), Vec::new());
        new.set_epoch(self.controller.epoch() + 1);
        self.others.push(new);
        let number = self.others.len();
        for at in 0..=number {
            self.controller_at(at).set_share(u8::try_from(at).unwrap());
        }
        number
    }

    /// A controller by its number.
    pub fn controller_at(&mut self, at: usize) -> &mut Controller {
        at.checked_sub(1).map_or(&mut self.controller, |at| &mut self.others[at])
    }

    /// Another controller has this switch from now on, with an epoch that is higher than everybody's before.
    pub fn hand_over(&mut self, switch: usize, to: usize) {
        let before = self.switches[switch].at;
        if self.stopped.contains(&before) {
            let connection = self.switches[switch].connection.take();
            self.gone.extend(connection.map(|id| (before, id)));
        } else {
            self.disconnect(switch);
        }
        let highest = (0..=self.others.len()).map(|at| self.controller_at(at).epoch()).max();
        let epoch = highest.unwrap_or_default() + 1;
        self.controller_at(to).set_epoch(epoch);
        self.switches[switch].at = to;
        self.connect(switch);
    }

    /// A controller that was stopped goes on: it notices that its switches are others' now, and begins another session.
    pub fn resume(&mut self, at: usize) {
        let now = self.now;
        for (_, id) in self.gone.extract_if(.., |(of, _)| *of == at).collect::<Vec<_>>() {
            self.controller_at(at).disconnected(now, id);
        }
        self.stopped.remove(&at);
        self.begin_session(at);
    }

    /// Controllers that are at work.
    pub fn working(&self) -> Vec<usize> {
        (0..=self.others.len()).filter(|at| !self.stopped.contains(at)).collect()
    }

    /// Puts a vNIC on a port, adding the port if it is not there, and says so.
    pub fn plug(&mut self, switch: usize, port: u16, nic: Nic) {
        self.switches[switch].ports.insert(port, Some(nic));
        self.port_status(switch, port, PortReason::Add);
    }

    /// Replaces the vNIC on a port by a fresh one with the same address, as a restart does. It says HELLO.
    pub fn restart(&mut self, switch: usize, port: u16) {
        let nic = self.switches[switch].ports.get_mut(&port).and_then(Option::as_mut).unwrap();
        *nic = nic.restarted();
        self.announce(switch, port);
    }

    /// Lets the vNIC on a port say that it is there.
    pub fn announce(&mut self, switch: usize, port: u16) {
        let nic = self.switches[switch].ports.get_mut(&port).and_then(Option::as_mut).unwrap();
        nic.engine.announce();
        let mut hello = [0; MAX_FRAME_LEN];
        let len = nic.engine.poll_transmit(&mut hello).unwrap();
        self.send_frame(switch, port, &hello[..len]);
    }

    /// Another controller takes over, with nothing but the same configuration and a higher epoch. Returns the old one.
    pub fn replace_controller(&mut self) -> Controller {
        let mut new = Controller::new(self.controller.config().clone(), Vec::new());
        new.set_epoch(self.controller.epoch() + 1);
        let old = std::mem::replace(&mut self.controller, new);
        for switch in 0..self.switches.len() {
            self.switches[switch].connection = None;
            self.connect(switch);
        }
        old
    }

    /// Says that a port's link is up or down.
    pub fn link(&mut self, switch: usize, number: u16, up: bool) {
        let state = if up { 0 } else { Port::LINK_DOWN };
        let status = PortStatus { reason: PortReason::Modify, port: Port { state, ..port(number) } };
        self.send(switch, 0, &Message::PortStatus(status));
    }

    /// Removes a port with its vNIC.
    pub fn unplug(&mut self, switch: usize, port: u16) -> Option<Nic> {
        let nic = self.switches[switch].ports.remove(&port)?;
        self.port_status(switch, port, PortReason::Delete);
        nic
    }

    /// The vNIC on a port.
    pub fn nic(&self, switch: usize, port: u16) -> &Nic {
        self.switches[switch].ports[&port].as_ref().unwrap()
    }

    /// Another configuration.
    pub fn reconfigure(&mut self, config: &str) -> Result<(), String> {
        let loaded = Config::parse("world.toml", config).unwrap_or_else(|errors| panic!("{errors}"));
        self.controller.reconfigure(self.now, loaded.config, loaded.warnings)
    }

    /// Lets time pass, and everybody do what is due.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            let now = self.now;
            self.working().into_iter().for_each(|at| self.controller_at(at).tick(now));
            if !self.others.is_empty() {
                self.correspond();
            }
            self.tick_nics();
            self.go_on();
            self.settle();
            self.exchange();
        }
    }

    /// Lets time pass until everybody has what it should have; fails after `limit`. Returns how long it took.
    pub fn run_until_converged(&mut self, limit: Duration) -> Duration {
        let start = self.now;
        self.settle();
        while !self.all_converged() {
            if self.now - start >= limit {
                panic!("not converged after {limit:?}\n{}", self.tables());
            }
            self.run(STEP);
        }
        self.now - start
    }

    /// Whether every vNIC is ready and every encrypted way has its key, as one of the controllers has it.
    fn all_converged(&mut self) -> bool {
        if self.others.is_empty() {
            return self.status().converged;
        }
        let now = self.now;
        let all: Vec<_> = self.working().into_iter().map(|at| Status::of(self.controller_at(at), now)).collect();
        let ready = |name: &str| all.iter().any(|s| s.vnics.iter().any(|v| v.name == name && v.state == "ready"));
        let vnics = all.iter().flat_map(|status| &status.vnics).all(|vnic| ready(&vnic.name));
        let ways = |state: &str| all.iter().flat_map(|s| &s.encrypted).filter(|way| way.state == state).count();
        let all_ways = all.first().map_or(0, |status| status.encrypted.len());
        vnics && ways("encrypted") == all_ways && ways("encrypted") + ways("elsewhere") == all_ways * all.len()
    }

    /// The views of all controllers that are at work, for people.
    fn tables(&mut self) -> String {
        let now = self.now;
        let working = self.working();
        working.into_iter().map(|at| Status::of(self.controller_at(at), now).table()).collect()
    }

    /// Lets some time pass; returns how many control messages were sent to a vNIC meanwhile.
    pub fn sent_in(&mut self, mac: Mac, time: Duration) -> u64 {
        let sent = |world: &Self| {
            let vnics = world.status().vnics;
            vnics.iter().find(|vnic| vnic.mac == mac.to_string()).map_or(0, |vnic| vnic.messages_sent)
        };
        let before = sent(self);
        self.run(time);
        sent(self) - before
    }

    /// The controller's view.
    pub fn status(&self) -> Status {
        let status = Status::of(&self.controller, self.now);
        let keys = self.controller.keys();
        if keys.is_quiet() {
            let mut counted = BTreeMap::new();
            for key in &status.encrypted {
                *counted.entry(key.state.as_str()).or_insert(0) += 1;
            }
            assert_eq!(*keys.states(), counted, "what is counted on the way is what can be counted now");
        }
        status
    }

    /// Checks that every connected vNIC which the controller calls ready has exactly what the configuration says.
    pub fn check_ready_vnics(&self) {
        let desired = derive::desired(self.controller.config());
        let status = self.status();
        for nic in self.switches.iter().flat_map(|switch| switch.ports.values().flatten()) {
            let Some(shown) = status.vnics.iter().find(|vnic| vnic.mac == nic.mac.to_string()) else { continue };
            let Some(wanted) = desired.get(&nic.mac).filter(|_| shown.state == "ready") else { continue };
            let flows: BTreeSet<_> = wanted.flows.iter().map(|flow| format!("{:?}", *flow)).collect();
            assert_eq!(nic.flows(), flows, "{}", status.table());
            assert_eq!(nic.mtu, wanted.mtu.map(|mtu| mtu.get()));
            assert_eq!(nic.offloads, wanted.offloads.map(|flags| flags.0));
        }
    }

    /// How many control messages of this type reached the vNIC.
    pub fn count(&self, mac: Mac, kind: cvsw_core::control::MessageType) -> usize {
        self.delivered.get(&(mac, kind as u8)).copied().unwrap_or(0)
    }

    /// Sends a message to the controller as the switch would.
    pub fn send(&mut self, switch: usize, xid: u32, message: &Message<'_>) {
        let mut bytes = vec![0; 70_000];
        let len = message.encode(xid, &mut bytes).unwrap();
        self.send_raw(switch, &bytes[..len]);
    }

    /// Sends bytes to the controller as if they were a message of the switch.
    pub fn send_raw(&mut self, switch: usize, bytes: &[u8]) {
        let (now, at) = (self.now, self.switches[switch].at);
        if let Some(id) = self.switches[switch].connection.filter(|_| !self.stopped.contains(&at)) {
            self.controller_at(at).received(now, id, bytes);
        }
    }

    /// Sends a frame to the controller as if it had come in by a port.
    pub fn send_frame(&mut self, switch: usize, port: u16, frame: &[u8]) {
        let packet = PacketIn {
            buffer_id: None,
            total_len: frame.len().try_into().unwrap(),
            in_port: port,
            reason: 1,
            data: frame,
        };
        self.send(switch, 0, &Message::PacketIn(packet));
    }

    /// Moves messages until nobody has one.
    pub fn settle(&mut self) {
        // More rounds than any exchange takes; without an end, a storm of messages would hang the test.
        for _ in 0..10_000 {
            let mut quiet = true;
            for at in self.working() {
                let outgoing = self.controller_at(at).take_outgoing();
                for (id, why) in self.controller_at(at).take_closing() {
                    self.closed.push(why);
                    let closed = self.switches.iter_mut().filter(|s| (s.at, s.connection) == (at, Some(id)));
                    closed.for_each(|s| s.connection = None);
                }
                quiet &= outgoing.is_empty();
                for (id, bytes) in outgoing {
                    let is_it = |switch: &Switch| (switch.at, switch.connection) == (at, Some(id));
                    if let Some(switch) = self.switches.iter().position(is_it) {
                        self.deliver_to_switch(switch, &bytes);
                    }
                }
            }
            if quiet {
                return;
            }
        }
        panic!("messages without end\n{}", self.status().table());
    }

    fn deliver_to_switch(&mut self, switch: usize, mut bytes: &[u8]) {
        while let Some(len) = message_len(bytes) {
            let (message, rest) = bytes.split_at(len.unwrap());
            bytes = rest;
            if self.switches[switch].pace.is_some() {
                self.switches[switch].waiting.push_back(message.to_vec());
            } else if self.switches[switch].alive {
                let xid = Header::read(message).unwrap().xid;
                let message = Message::decode(message).expect("the controller sends good messages");
                self.switch_got(switch, xid, &message);
            }
        }
        assert!(bytes.is_empty(), "the controller sends whole messages");
    }

    /// Slow switches take some of what has waited for them.
    fn go_on(&mut self) {
        for switch in 0..self.switches.len() {
            for _ in 0..self.switches[switch].pace.unwrap_or(0) {
                let Some(bytes) = self.switches[switch].waiting.pop_front() else { break };
                let xid = Header::read(&bytes).unwrap().xid;
                self.switch_got(switch, xid, &Message::decode(&bytes).expect("the controller sends good messages"));
            }
        }
    }

    /// Lets time pass until everybody has what it should have, and fails if anybody is taken for silent on the way, or
    /// anything is sent twice, though every switch takes only so many messages in a step. Returns how many they took.
    pub fn run_at_pace(&mut self, pace: usize, limit: Duration) -> usize {
        let start = self.now;
        self.switches.iter_mut().for_each(|switch| switch.pace = Some(pace));
        while self.now == start || !self.all_converged() {
            self.run(STEP);
            assert!(self.now - start < limit, "not done in time\n{}", self.status().table());
            let silent = |vnic: &VnicStatus| vnic.state == "silent" || vnic.state == "diverged";
            assert!(!self.status().vnics.iter().any(silent), "{}", self.status().table());
            assert_eq!(self.controller.repeated(), 0, "what waits is not lost");
        }
        self.switches.iter().flat_map(|switch| switch.got.values()).sum()
    }

    fn switch_got(&mut self, switch: usize, xid: u32, message: &Message<'_>) {
        *self.switches[switch].got.entry(name(message)).or_default() += 1;
        match message {
            Message::FeaturesRequest => {
                let state = &self.switches[switch];
                let mut ports: Vec<_> = state.ports.keys().map(|number| port(*number)).collect();
                ports.push(Port { number: Port::LOCAL, name: PortName::new("br0"), ..Port::default() });
                let (datapath_id, ports) = (state.datapath_id, wire_ports(&ports));
                let ports = Ports::new(&ports).unwrap();
                let features = Features { datapath_id, ports, n_tables: 1, ..Features::default() };
                self.send(switch, xid, &Message::FeaturesReply(features));
            }
            Message::EchoRequest(data) => self.send(switch, xid, &Message::EchoReply(data)),
            Message::BarrierRequest if self.switches[switch].barriers => {
                self.send(switch, xid, &Message::BarrierReply);
            }
            Message::StatsRequest(StatsRequest::Port(_)) => {
                let reply = StatsReply::Port { more: false, entries: PortStatsEntries(&[]) };
                self.send(switch, xid, &Message::StatsReply(reply));
            }
            Message::StatsRequest(_) => {
                let reply = StatsReply::Flow { more: false, entries: FlowStatsEntries(&[]) };
                self.send(switch, xid, &Message::StatsReply(reply));
            }
            Message::FlowMod(flow) => self.switches[switch].change_flow(flow),
            Message::PacketOut(packet) => {
                let Some(Action::Output { port, .. }) = packet.actions.first() else { panic!("{packet:?}") };
                self.deliver_to_port(switch, *port, packet.data);
            }
            _ => {}
        }
    }

    fn deliver_to_port(&mut self, switch: usize, number: u16, frame: &[u8]) {
        if self.lost() {
            return;
        }
        let now = self.instant();
        let Some(Some(nic)) = self.switches[switch].ports.get_mut(&number) else { return };
        *self.delivered.entry((nic.mac, frame[6] & 0x0f)).or_default() += 1;
        let mut frame = Frame::new(frame.to_vec(), 0, frame.len()).unwrap();
        // A control frame ends in the engine.
        let _ = nic.engine.process_with(&mut *nic.ciphers, now, Direction::Rx, &mut frame);
        self.serve_nic(switch, number, true);
    }

    /// The time as engines have it.
    fn instant(&self) -> Instant {
        Instant::from_nanos(self.now.as_nanos().try_into().unwrap())
    }

    /// Time passes in the engines.
    fn tick_nics(&mut self) {
        let now = self.instant();
        for switch in 0..self.switches.len() {
            let numbers: Vec<u16> = self.switches[switch].ports.keys().copied().collect();
            for number in numbers {
                if let Some(Some(nic)) = self.switches[switch].ports.get_mut(&number) {
                    nic.engine.tick(now);
                    self.serve_nic(switch, number, false);
                }
            }
        }
    }

    /// Does what an engine wants done. `delivered`: because it has got a frame.
    fn serve_nic(&mut self, switch: usize, number: u16, delivered: bool) {
        let Some(Some(nic)) = self.switches[switch].ports.get_mut(&number) else { return };
        while let Some(event) = nic.engine.poll_event() {
            match event {
                ControlEvent::SetMtu(mtu) => nic.mtu = Some(mtu.get()),
                ControlEvent::SetOffload(flags) => nic.offloads = Some(flags.0),
                ControlEvent::Session(_) => {}
            }
        }
        let mut out = [0; MAX_FRAME_LEN];
        let mut answers = Vec::new();
        while let Some(len) = nic.engine.poll_transmit(&mut out) {
            answers.push(out[..len].to_vec());
        }
        // The worst moment: a command is carried out, and nobody knows yet.
        if delivered {
            self.exchange();
        }
        for answer in answers {
            if !self.lost() {
                self.send_frame(switch, number, &answer);
            }
        }
    }

    /// Lets the VMs send, if there is traffic.
    fn exchange(&mut self) {
        if let Some(mut traffic) = self.traffic.take() {
            let now = self.instant();
            let nics = self.switches.iter_mut().flat_map(|switch| switch.ports.values_mut().flatten());
            traffic.step(now, nics.collect());
            self.traffic = Some(traffic);
        }
    }

    fn port_status(&mut self, switch: usize, number: u16, reason: PortReason) {
        let status = PortStatus { reason, port: port(number) };
        self.send(switch, 0, &Message::PortStatus(status));
    }

    fn lost(&mut self) -> bool {
        self.below(100) < self.loss
    }

    /// Other random numbers from now on.
    pub const fn reseed(&mut self, seed: u64) {
        // Anything but 0, which xorshift64 never leaves.
        self.random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    }

    /// A random number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        // xorshift64: good enough to lose frames, and the same each time.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % end
    }
}

impl Switch {
    fn change_flow(&mut self, flow: &FlowMod) {
        self.flows.retain(|old| old.priority != flow.priority || old.matching != flow.matching);
        if flow.command == Command::Add {
            self.flows.push(flow.clone());
        }
    }
}

fn port(number: u16) -> Port {
    let mut name = String::new();
    write!(name, "p{number}").unwrap();
    Port { number, name: PortName::new(&name), ..Port::default() }
}

/// The wire form of ports: that of a FEATURES_REPLY has no other maker, so it is cut out of PORT_STATUS messages.
fn wire_ports(ports: &[Port]) -> Vec<u8> {
    let one = |port: &Port| {
        let mut bytes = [0; 64];
        let status = Message::PortStatus(PortStatus { reason: PortReason::Add, port: *port });
        let len = status.encode(0, &mut bytes).unwrap();
        bytes[16..len].to_vec()
    };
    ports.iter().flat_map(one).collect()
}

const fn name(message: &Message<'_>) -> &'static str {
    match message {
        Message::Hello { .. } => "HELLO",
        Message::EchoRequest(_) => "ECHO_REQUEST",
        Message::EchoReply(_) => "ECHO_REPLY",
        Message::FeaturesRequest => "FEATURES_REQUEST",
        Message::SetConfig(_) => "SET_CONFIG",
        Message::PacketOut(_) => "PACKET_OUT",
        Message::FlowMod(_) => "FLOW_MOD",
        Message::StatsRequest(_) => "STATS_REQUEST",
        Message::BarrierRequest => "BARRIER_REQUEST",
        Message::Vendor { .. } => "VENDOR",
        _ => "other",
    }
}
