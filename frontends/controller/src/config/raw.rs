//! The file as TOML has it: right shape, meaning not yet checked.

use serde::Deserialize;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) listen: Vec<Spanned<String>>,
    pub(super) ethertype: Option<Spanned<i64>>,
    pub(super) underlay_mtu: Option<Spanned<i64>>,
    pub(super) forwarding: Option<Spanned<String>>,
    pub(super) control_rate: Option<Spanned<i64>>,
    #[serde(default)]
    pub(super) keys_in_clear: bool,
    pub(super) control_keys: Option<Spanned<String>>,
    pub(super) version_3: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) timers: Timers,
    pub(super) store: Option<Spanned<String>>,
    pub(super) tls: Option<Tls>,
    pub(super) api: Option<Spanned<Api>>,
    #[serde(default)]
    pub(super) network: Vec<Network>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) certificate: Spanned<String>,
    pub(super) key: Spanned<String>,
    pub(super) client_ca: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Api {
    pub(super) listen: Vec<Spanned<String>>,
    pub(super) certificate: Option<Spanned<String>>,
    pub(super) key: Option<Spanned<String>>,
    pub(super) client_ca: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) admins: Vec<Spanned<String>>,
    pub(super) tokens: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Timers {
    pub(super) hello: Option<Spanned<String>>,
    pub(super) keepalive: Option<Spanned<String>>,
    pub(super) answer: Option<Spanned<String>>,
    pub(super) echo: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Network {
    pub(super) name: Spanned<String>,
    pub(super) vni: Spanned<i64>,
    pub(super) mtu: Option<Spanned<Mtu>>,
    pub(super) group: Spanned<String>,
    pub(super) cipher: Option<Spanned<String>>,
    pub(super) rotate: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) member: Vec<Member>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Mtu {
    Number(i64),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    pub(super) name: Spanned<String>,
    pub(super) mac: Spanned<String>,
    pub(super) ip: Spanned<String>,
    pub(super) underlay_mac: Spanned<String>,
    pub(super) underlay_ip: Spanned<String>,
    #[serde(default)]
    pub(super) offloads: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) flows: Vec<Spanned<String>>,
}
