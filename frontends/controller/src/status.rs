//! The controller's state as a document: the status socket gives it as JSON, `cvsw controller-status` as a table.

mod table;

use std::{collections::BTreeMap, time::Duration};

use cvsw_core::{
    control::{
        OffloadFlags, VERSION_2,
        v3::{self, VERSION_3},
    },
    openflow::PortStats,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    derive::Desired,
    keys::ChannelStatus,
    mac::Mac,
    state::{
        Controller,
        link::Link,
        switch::{Stage, Switch},
        vnic::{Phase, Vnic},
    },
};

pub(crate) use table::{SWITCH_HEAD, VNIC_HEAD, columns, encrypted_row, switch_row, vnic_row, write_refusals};

/// The whole state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Every member of the configuration is registered and has exactly what it should have, and the configuration
    /// file on disk is the one in force.
    pub converged: bool,
    /// The configuration.
    pub config: ConfigStatus,
    /// Connected switches.
    pub switches: Vec<SwitchStatus>,
    /// Members of the configuration, registered or not, and vNICs in quarantine.
    pub vnics: Vec<VnicStatus>,
    /// What each vNIC of an encrypted network sends, per outer destination.
    pub encrypted: Vec<EncryptedStatus>,
    /// vNICs that registered but were not admitted.
    pub unknown: Vec<UnknownStatus>,
    /// REGISTER messages that were refused: a wrong key, another challenge's answer, a second holder of an address.
    #[serde(default)]
    pub refused: Vec<RefusedStatus>,
    /// What could not be used, by reason.
    #[schema(value_type = Object)]
    pub counters: serde_json::Value,
}

/// State of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigStatus {
    /// Configurations taken over since the start, the first included.
    pub generation: u64,
    /// Why the file on disk is not in force.
    pub error: Option<String>,
    /// Warnings about the configuration in force.
    pub warnings: Vec<String>,
}

/// A connected switch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SwitchStatus {
    /// Datapath id, 16 hexadecimal digits; empty during the handshake.
    pub datapath_id: String,
    /// The other end of the connection.
    pub peer: String,
    /// Whether the handshake is done.
    pub up: bool,
    /// Whether messages to its vNICs wait, because it has been given as many as `control_rate` allows.
    #[serde(default)]
    pub limited: bool,
    /// Age of the connection.
    pub connected_seconds: f64,
    /// Physical ports.
    pub ports: Vec<PortStatus>,
    /// OpenFlow messages from it.
    pub messages_received: u64,
    /// OpenFlow messages to it.
    pub messages_sent: u64,
    /// The last errors.
    pub errors: Vec<String>,
}

/// A port of a switch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PortStatus {
    /// OpenFlow port number.
    pub number: u16,
    /// Name.
    pub name: String,
    /// Up by configuration and link.
    pub up: bool,
    /// Addresses of the vNICs that are registered there.
    pub vnics: Vec<String>,
}

/// A vNIC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VnicStatus {
    /// Its address.
    pub mac: String,
    /// Its name.
    pub name: String,
    /// Its network; none in quarantine (it was removed from the configuration and drops everything).
    pub network: Option<String>,
    /// `absent`, `pushing`, `verifying`, `ready`, `diverged` or `silent`.
    pub state: String,
    /// Version of the control protocol that it speaks.
    #[serde(default)]
    pub protocol: Option<u8>,
    /// Whether its messages are authenticated by its control key.
    #[serde(default)]
    pub authenticated: bool,
    /// Datapath id of its switch.
    pub switch: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// That port's name.
    pub port_name: Option<String>,
    /// Wanted MTU.
    pub mtu: Option<u16>,
    /// MTU that was sent.
    pub mtu_sent: Option<u16>,
    /// MTU that it says it has been given. None: it has not said so; version 2 of the protocol has no message for it.
    #[serde(default)]
    pub mtu_effective: Option<u16>,
    /// Wanted offloads.
    pub offloads: Option<Vec<String>>,
    /// Offloads that were sent.
    pub offloads_sent: Option<Vec<String>>,
    /// Offloads that it says are in force. None: it has not said so; version 2 of the protocol has no message for it.
    #[serde(default)]
    pub offloads_effective: Option<Vec<String>>,
    /// Offloads that it was asked for and says are not in force: `{name: reason}`.
    #[serde(default)]
    pub offloads_refused: BTreeMap<String, String>,
    /// What it sends to its peers and its group, by the state of the keys (see [`EncryptedStatus::state`]): how many ways.
    /// Empty: its network is not encrypted.
    #[serde(default)]
    pub encryption: BTreeMap<String, usize>,
    /// Wanted entries.
    pub flows: usize,
    /// How many of them it has listed as its own.
    pub flows_confirmed: usize,
    /// What it has counted itself; only vNICs of version 3 tell.
    #[serde(default)]
    pub counters: Option<VnicCounters>,
    /// How many of them had a timeout, and it was up.
    pub flows_expired: usize,
    /// What its switch has counted at its port.
    pub traffic: Option<Traffic>,
    /// Time since it was last heard.
    pub last_contact_seconds: Option<f64>,
    /// REGISTER messages accepted.
    pub registrations: u64,
    /// Control messages sent to it.
    pub messages_sent: u64,
    /// The last errors.
    pub errors: Vec<String>,
}

/// What a vNIC has counted, by its own names; those that are 0 are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VnicCounters {
    /// Frames that it has dropped, by direction and reason: `tx_policy`.
    pub drops: BTreeMap<String, u64>,
    /// Everything else.
    pub others: BTreeMap<String, u64>,
    /// Time since it said so.
    pub age_seconds: f64,
}

/// What a switch has counted at a vNIC's port, from the vNIC's side: `tx` is what it has sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// Packets from the vNIC.
    pub tx_packets: u64,
    /// Bytes from the vNIC.
    pub tx_bytes: u64,
    /// Packets from the vNIC that the switch has dropped.
    pub tx_dropped: u64,
    /// Packets to the vNIC.
    pub rx_packets: u64,
    /// Bytes to the vNIC.
    pub rx_bytes: u64,
    /// Packets to the vNIC that the switch has dropped.
    pub rx_dropped: u64,
    /// Time since the switch said so.
    pub age_seconds: f64,
}

/// What a vNIC sends to one peer, or to its network's group, in an encrypted network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EncryptedStatus {
    /// The network's VNI.
    pub vni: u32,
    /// Address of the sending vNIC.
    pub sender: String,
    /// Outer destination.
    pub destination: String,
    /// Cipher suite.
    pub suite: String,
    /// `encrypted`; `keying`: a (new) key is on its way; `waiting`: one end is absent, nothing passes.
    pub state: String,
    /// SPI of the key in use.
    pub spi: Option<String>,
    /// Age of the key in use.
    pub age_seconds: Option<f64>,
    /// Packets sealed with it, as of the last keepalive.
    pub packets: u64,
    /// Keys that were replaced.
    pub rotations: u64,
}

/// A vNIC that was not admitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UnknownStatus {
    /// Its address.
    pub mac: String,
    /// Datapath id of its switch.
    pub switch: String,
    /// Its port.
    pub port: u16,
    /// Time since it was first heard there.
    pub since_seconds: f64,
    /// `not_in_configuration` or `address_in_use`.
    pub reason: String,
}

/// A REGISTER that was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RefusedStatus {
    /// The address that it claims.
    pub mac: String,
    /// Datapath id of the switch.
    pub switch: String,
    /// The port.
    pub port: u16,
    /// Why: `tag` (a wrong key), `unauthenticated` (no tag, or one without a key of ours), `replayed` (not the answer to
    /// this port's challenge), `downgrade` (version 2 of a vNIC with a key), `stale_epoch` (another controller has taken it over),
    /// `duplicate_mac`, `not_in_configuration`.
    pub reason: String,
    /// How often.
    pub times: u64,
    /// Time since the last one.
    pub seconds_ago: f64,
}

impl Status {
    /// The state at `now`.
    pub fn of(controller: &Controller, now: Duration) -> Self {
        let members = controller.desired().iter().map(|(mac, desired)| (*mac, &**desired));
        let quarantined = controller.vnics().iter().filter(|(mac, _)| !controller.desired().contains_key(mac));
        let vnics: Vec<_> = members
            .chain(quarantined.map(|(mac, vnic)| (*mac, vnic.desired())))
            .map(|(mac, desired)| vnic_status(controller, now, mac, desired))
            .collect();
        Self {
            converged: Self::is_converged(controller),
            config: ConfigStatus {
                generation: controller.generation(),
                error: controller.config_error().map(str::to_owned),
                warnings: controller.warnings().iter().map(ToString::to_string).collect(),
            },
            switches: Self::switches_of(controller, now),
            vnics,
            encrypted: Self::keys_of(controller, now),
            unknown: Self::unknown_of(controller, now),
            refused: Self::refused_of(controller, now),
            counters: serde_json::to_value(controller.counters()).unwrap_or_default(),
        }
    }

    /// Whether everything is as it should be, see [`Status::converged`].
    pub fn is_converged(controller: &Controller) -> bool {
        let ready = |vnic: &Vnic| vnic.phase() == Phase::Ready;
        controller.config_error().is_none()
            && controller.desired().keys().all(|mac| controller.vnics().get(mac).is_some_and(|vnic| ready(vnic)))
            && controller.vnics().values().all(|vnic| ready(vnic))
            && controller.keys().complete()
    }

    /// Only the switches.
    pub fn switches_of(controller: &Controller, now: Duration) -> Vec<SwitchStatus> {
        controller.switches().values().map(|switch| switch_status(switch, now)).collect()
    }

    /// Only the keys.
    pub fn keys_of(controller: &Controller, now: Duration) -> Vec<EncryptedStatus> {
        controller.keys().iter(now).map(|channel| EncryptedStatus::of(&channel)).collect()
    }

    /// Only the vNICs that were not admitted.
    pub fn unknown_of(controller: &Controller, now: Duration) -> Vec<UnknownStatus> {
        let status = |(mac, claim): (Mac, crate::state::Claim)| {
            let known = controller.desired().contains_key(&mac);
            UnknownStatus {
                mac: mac.to_string(),
                switch: controller.switches().get(&claim.location.connection).map(datapath_id).unwrap_or_default(),
                port: claim.location.port,
                since_seconds: now.saturating_sub(claim.since).as_secs_f64(),
                reason: if known { "address_in_use" } else { "not_in_configuration" }.to_owned(),
            }
        };
        controller.claims().iter().map(status).collect()
    }

    /// Only the REGISTERs that were refused.
    pub fn refused_of(controller: &Controller, now: Duration) -> Vec<RefusedStatus> {
        let status = |refused: &crate::state::Refused| RefusedStatus {
            mac: refused.mac.to_string(),
            switch: format!("{:016x}", refused.datapath_id),
            port: refused.port,
            reason: refused.reason.to_owned(),
            times: refused.times,
            seconds_ago: now.saturating_sub(refused.at).as_secs_f64(),
        };
        controller.refusals().iter().map(status).collect()
    }
}

impl EncryptedStatus {
    /// A channel, for people.
    pub fn of(channel: &ChannelStatus) -> Self {
        Self {
            vni: channel.id.vni,
            sender: channel.id.sender.to_string(),
            destination: channel.id.destination.to_string(),
            suite: channel.suite.name().to_owned(),
            state: channel.state().to_owned(),
            spi: channel.key.map(|(spi, _)| format!("{spi:#010x}")),
            age_seconds: channel.key.map(|(_, age)| age.as_secs_f64()),
            packets: channel.packets,
            rotations: channel.rotations,
        }
    }
}

fn datapath_id(switch: &Switch) -> String {
    if switch.stage == Stage::Up { format!("{:016x}", switch.datapath_id) } else { String::new() }
}

fn switch_status(switch: &Switch, now: Duration) -> SwitchStatus {
    SwitchStatus {
        datapath_id: datapath_id(switch),
        peer: switch.peer.clone(),
        up: switch.stage == Stage::Up,
        limited: switch.allowance.is_used_up(now),
        connected_seconds: now.saturating_sub(switch.connected_at).as_secs_f64(),
        ports: switch
            .ports
            .values()
            .map(|port| PortStatus {
                number: port.number,
                name: port.name.to_string(),
                up: port.up,
                vnics: port.vnics.iter().map(Mac::to_string).collect(),
            })
            .collect(),
        messages_received: switch.received,
        messages_sent: switch.sent,
        errors: switch.errors().map(str::to_owned).collect(),
    }
}

/// The state of one vNIC; `None`: it is neither wanted nor in quarantine.
pub fn one_vnic(controller: &Controller, now: Duration, mac: Mac) -> Option<VnicStatus> {
    let wanted = controller.desired().get(&mac).map(|desired| &**desired);
    let desired = wanted.or_else(|| controller.vnics().get(&mac).map(|vnic| vnic.desired()))?;
    Some(vnic_status(controller, now, mac, desired))
}

fn vnic_status(controller: &Controller, now: Duration, mac: Mac, desired: &Desired) -> VnicStatus {
    let vnic = controller.vnics().get(&mac).map(Box::as_ref);
    let switch = vnic.and_then(|vnic| controller.switches().get(&vnic.location.connection));
    let port = vnic.zip(switch).and_then(|(vnic, switch)| switch.ports.get(&vnic.location.port));
    let told = vnic.and_then(Vnic::link).and_then(Link::state);
    VnicStatus {
        mac: mac.to_string(),
        name: desired.name.to_string(),
        network: desired.network.as_ref().map(ToString::to_string),
        state: vnic.map_or(Phase::Absent, Vnic::phase).name().to_owned(),
        protocol: vnic.map(|vnic| if vnic.link().is_some() { VERSION_3 } else { VERSION_2 }),
        authenticated: vnic.and_then(Vnic::link).is_some_and(|link| link.session().keys().is_set()),
        switch: switch.map(datapath_id),
        port: port.map(|port| port.number),
        port_name: port.map(|port| port.name.to_string()),
        mtu: desired.mtu.map(|mtu| mtu.get()),
        mtu_sent: vnic.and_then(|vnic| vnic.belief().mtu()).map(|mtu| mtu.get()),
        mtu_effective: told.map(|state| state.mtu).filter(|mtu| *mtu != 0),
        offloads_effective: told
            .and_then(|state| state.in_force.or(state.offload))
            .map(|flags| offload_names(OffloadFlags(flags))),
        offloads_refused: told.map(offloads_refused).unwrap_or_default(),
        encryption: encryption(controller, now, mac),
        offloads: desired.offloads.map(offload_names),
        offloads_sent: vnic.and_then(|vnic| vnic.belief().offloads()).map(offload_names),
        flows: desired.flows.len(),
        flows_confirmed: vnic.map_or(0, Vnic::confirmed),
        counters: vnic.and_then(Vnic::link).and_then(Link::counted).map(|(at, counted)| {
            let (drops, others) = counted.iter().partition::<Vec<_>, _>(|(name, _)| name.contains("_drop_"));
            VnicCounters {
                drops: drops.into_iter().map(|(name, count)| (name.replace("_drop_", "_"), count)).collect(),
                others: others.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
                age_seconds: now.saturating_sub(*at).as_secs_f64(),
            }
        }),
        flows_expired: vnic.map_or(0, |vnic| vnic.belief().expired(desired)),
        traffic: port.and_then(|port| port.traffic).map(|(at, stats)| traffic(now.saturating_sub(at), &stats)),
        last_contact_seconds: vnic.map(|vnic| now.saturating_sub(vnic.last_contact).as_secs_f64()),
        registrations: vnic.map_or(0, |vnic| vnic.registrations),
        messages_sent: vnic.map_or(0, |vnic| vnic.sent),
        errors: vnic.map(|vnic| vnic.errors().map(str::to_owned).collect()).unwrap_or_default(),
    }
}

fn encryption(controller: &Controller, now: Duration, mac: Mac) -> BTreeMap<String, usize> {
    let mut ways = BTreeMap::new();
    for channel in controller.keys().iter_of(now, mac) {
        *ways.entry(channel.state().to_owned()).or_default() += 1;
    }
    ways
}

/// What the switch has received, the vNIC has sent. A counter that the switch does not keep is 0.
fn traffic(age: Duration, stats: &PortStats) -> Traffic {
    let kept = |counter: u64| if counter == u64::MAX { 0 } else { counter };
    Traffic {
        tx_packets: kept(stats.rx_packets),
        tx_bytes: kept(stats.rx_bytes),
        tx_dropped: kept(stats.rx_dropped),
        rx_packets: kept(stats.tx_packets),
        rx_bytes: kept(stats.tx_bytes),
        rx_dropped: kept(stats.tx_dropped),
        age_seconds: age.as_secs_f64(),
    }
}

/// The offloads that a vNIC was asked for and does not have, with the reasons.
fn offloads_refused(state: &v3::State) -> BTreeMap<String, String> {
    let (Some(asked), Some(in_force)) = (state.offload, state.in_force) else { return BTreeMap::new() };
    let missing = offload_names(OffloadFlags(asked & !in_force)).into_iter();
    missing.map(|name| (name, "its interface does not offer it".to_owned())).collect()
}

pub(crate) fn offload_names(flags: OffloadFlags) -> Vec<String> {
    OffloadFlags::NAMES.iter().filter(|(bit, _)| flags.has(*bit)).map(|(_, name)| (*name).to_owned()).collect()
}
