//! Desired state as people write it: parameters, networks, members with their flows. What it means, and whether it
//! makes sense, is decided by [`crate::config`].
//!
//! Every record carries the revision of the transaction that changed it last, which is its entity tag in the API.

mod records;
mod toml_text;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use utoipa::ToSchema;

use crate::store::Revision;
pub use records::BadRecord;

/// The whole desired state. Networks are shared between copies, so that a copy is cheap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spec {
    /// The latest change.
    pub revision: Revision,
    /// Parameters of all vNICs and switches.
    pub parameters: Versioned<Parameters>,
    /// Networks by name.
    pub networks: BTreeMap<String, Arc<NetworkSpec>>,
}

/// A network with its members.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkSpec {
    /// Its settings.
    pub settings: Versioned<NetworkSettings>,
    /// Members by name. Boxed: half of a tree is room for more.
    pub members: BTreeMap<SmolStr, Box<Versioned<MemberSettings>>>,
}

/// A record and the revision that wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versioned<T> {
    /// 0: not written yet.
    pub revision: Revision,
    /// The record.
    pub value: T,
}

/// Parameters of all vNICs and switches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// EtherType of control frames (0xabba by default); it cannot change while vNICs are managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ethertype: Option<i64>,
    /// Largest IP packet of the network below (1500 by default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub underlay_mtu: Option<i64>,
    /// `normal` (the default): switches learn addresses; `none`: the operator installs the forwarding flows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarding: Option<String>,
    /// Control messages per second that the vNICs of one switch are sent at most (10000 by default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_rate: Option<i64>,
    /// Whether keys may travel in clear on the control channel.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keys_in_clear: bool,
    /// Intervals and patience.
    #[serde(default)]
    pub timers: TimerSettings,
}

/// Intervals and patience, each as a number with ms, s, m or h.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TimerSettings {
    /// Between two attempts to find a vNIC on a port that has none (2s by default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hello: Option<String>,
    /// Between two comparisons of a vNIC's flows with the wanted ones (30s by default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<String>,
    /// How long a vNIC may take to answer (1s by default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Silence after which a switch is asked (5s by default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<String>,
}

/// Settings of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"vni": 42, "group": "239.1.1.42", "cipher": "aes-128-gcm", "rotate": "1h"}))]
pub struct NetworkSettings {
    /// VXLAN network identifier, 1 to 16777215, unique.
    pub vni: i64,
    /// MTU of its members' vNICs: a number, or `auto` (the default), which is what fits the underlay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<MtuSetting>,
    /// Underlay multicast group for broadcast, multicast and unknown unicast.
    pub group: String,
    /// Cipher suite; none: the network is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
    /// Life of a key, as a number with s, m or h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate: Option<String>,
}

/// A number of bytes, or a text such as `auto`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum MtuSetting {
    /// Bytes.
    Number(i64),
    /// `auto`.
    Text(String),
}

/// Settings of a member, which is one vNIC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"mac": "02:00:00:00:01:01", "ip": "10.0.0.1", "underlay_mac": "02:00:00:01:00:01",
                          "underlay_ip": "192.0.2.1", "offloads": ["csum"]}))]
pub struct MemberSettings {
    /// The vNIC's own address, by which it registers; unique.
    #[schema(value_type = String)]
    pub mac: SmolStr,
    /// The VM's address inside; unique in the network.
    #[schema(value_type = String)]
    pub ip: SmolStr,
    /// Outer Ethernet address; unique.
    #[schema(value_type = String)]
    pub underlay_mac: SmolStr,
    /// Outer IPv4 address; unique.
    #[schema(value_type = String)]
    pub underlay_ip: SmolStr,
    /// Offloads that are switched on (csum, tso, ufo, gso, gro); all others are switched off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub offloads: Vec<SmolStr>,
    /// Extra flows, in the syntax of ovs-ofctl.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flows: Vec<String>,
}

impl Spec {
    /// The network and name of the member with this vNIC address, in any spelling.
    pub fn member_by_mac(&self, mac: &str) -> Option<(&str, &str)> {
        self.networks.iter().find_map(|(network, spec)| {
            let member = spec.members.iter().find(|(_, member)| member.value.mac.eq_ignore_ascii_case(mac))?;
            Some((network.as_str(), member.0.as_str()))
        })
    }

    /// Takes over the networks and parameters of another one, as far as they differ, so that what is equal keeps its
    /// revision.
    pub fn replace(&mut self, other: Self) {
        if self.parameters.value != other.parameters.value {
            self.parameters.value = other.parameters.value;
        }
        self.networks.retain(|name, _| other.networks.contains_key(name));
        for (name, new) in other.networks {
            let old = Arc::make_mut(self.networks.entry(name).or_default());
            old.settings.value = new.settings.value.clone();
            old.members.retain(|name, _| new.members.contains_key(name));
            for (name, member) in &new.members {
                old.members.entry(name.clone()).or_default().value = member.value.clone();
            }
        }
    }
}
