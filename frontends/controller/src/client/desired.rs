//! `cvsw net`, `cvsw member`, `cvsw flow` and `cvsw config`.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use hyper::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Out, Run, escape, facts,
    http::{Client, Parts},
    pages, table,
};
use crate::{
    api::{
        desired::{MemberDocument, NetworkDocument, ParametersDocument},
        flows::{ExtraFlows, FlowsDocument},
        pairs::Pair,
    },
    spec::{MemberSettings, MtuSetting, NetworkSettings, Parameters, TimerSettings},
};

/// `cvsw net`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum NetCommand {
    /// All networks
    List,
    /// One network
    Show {
        /// Its name
        name: String,
    },
    /// Create a network, or change the given settings of one
    Set(NetworkArgs),
    /// Remove a network
    Remove {
        /// Its name
        name: String,
        /// Remove its members, too
        #[arg(long)]
        members: bool,
    },
    /// Whether what its members send to each other is encrypted
    Pairs {
        /// Its name
        name: String,
        /// Only what this member sends
        #[arg(long, value_name = "MEMBER")]
        sender: Option<String>,
    },
}

/// Settings of a network.
#[derive(Clone, Debug, clap::Args)]
pub struct NetworkArgs {
    /// Its name
    name: String,
    /// VXLAN network identifier; needed for a new network
    #[arg(long)]
    vni: Option<i64>,
    /// Underlay multicast group; needed for a new network
    #[arg(long)]
    group: Option<String>,
    /// MTU of its members: a number, or "auto"
    #[arg(long)]
    mtu: Option<String>,
    /// Cipher suite; "none": no encryption
    #[arg(long)]
    cipher: Option<String>,
    /// Life of a key, as 1h; "none": until it is used up
    #[arg(long)]
    rotate: Option<String>,
}

/// `cvsw member`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum MemberCommand {
    /// The members of a network
    List {
        /// The network
        network: String,
    },
    /// One member
    Show {
        /// The network
        network: String,
        /// The member
        name: String,
    },
    /// Create a member, or change the given settings of one
    Set(MemberArgs),
    /// Remove a member; its vNIC drops everything from then on
    Remove {
        /// The network
        network: String,
        /// The member
        name: String,
    },
}

/// Settings of a member.
#[derive(Clone, Debug, clap::Args)]
pub struct MemberArgs {
    /// The network
    network: String,
    /// The member
    name: String,
    /// The vNIC's own address; needed for a new member, as the next three
    #[arg(long)]
    mac: Option<String>,
    /// The VM's address inside
    #[arg(long)]
    ip: Option<String>,
    /// Outer Ethernet address
    #[arg(long)]
    underlay_mac: Option<String>,
    /// Outer IPv4 address
    #[arg(long)]
    underlay_ip: Option<String>,
    /// Offloads that are switched on, with commas; "none": all are off
    #[arg(long, value_delimiter = ',')]
    offloads: Option<Vec<String>>,
}

/// `cvsw flow`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum FlowCommand {
    /// A vNIC's flows
    List {
        /// The vNIC's address
        mac: String,
        /// As text for ovs-ofctl
        #[arg(long)]
        text: bool,
    },
    /// Add extra flows
    Add {
        /// The vNIC's address
        mac: String,
        /// In the syntax of ovs-ofctl
        #[arg(required = true)]
        flows: Vec<String>,
    },
    /// Replace all extra flows by these; by none, if none are given
    Set {
        /// The vNIC's address
        mac: String,
        /// In the syntax of ovs-ofctl
        flows: Vec<String>,
    },
    /// Remove an extra flow
    Remove {
        /// The vNIC's address
        mac: String,
        /// The flow; its priority and match are compared
        flow: String,
    },
}

/// `cvsw config`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// The whole desired state, as a configuration file
    Export,
    /// Replace the whole desired state by that of a configuration file
    Import {
        /// The file; "-": standard input
        file: PathBuf,
    },
    /// The parameters of all vNICs and switches
    Parameters,
    /// Change the given parameters
    Set(ParameterArgs),
}

/// Parameters of all vNICs and switches.
#[derive(Clone, Debug, clap::Args)]
pub struct ParameterArgs {
    /// EtherType of control frames; it cannot change while vNICs are managed
    #[arg(long)]
    ethertype: Option<i64>,
    /// Largest IP packet of the network below
    #[arg(long)]
    underlay_mtu: Option<i64>,
    /// normal: switches learn addresses; none: you install the forwarding flows
    #[arg(long)]
    forwarding: Option<String>,
    /// Control messages per second to the vNICs of one switch, at most
    #[arg(long, value_name = "NUMBER")]
    control_rate: Option<i64>,
    /// Whether keys may travel in clear on the control channel
    #[arg(long, value_name = "BOOL")]
    keys_in_clear: Option<bool>,
    /// Between two attempts to find a vNIC on a port that has none, as 2s
    #[arg(long, value_name = "TIME")]
    hello: Option<String>,
    /// Between two comparisons of a vNIC's flows with the wanted ones
    #[arg(long, value_name = "TIME")]
    keepalive: Option<String>,
    /// How long a vNIC may take to answer
    #[arg(long, value_name = "TIME")]
    answer: Option<String>,
    /// Silence after which a switch is asked
    #[arg(long, value_name = "TIME")]
    echo: Option<String>,
}

impl ParameterArgs {
    fn merge(&self, old: Parameters) -> Parameters {
        let timers = old.timers;
        Parameters {
            ethertype: self.ethertype.or(old.ethertype),
            underlay_mtu: self.underlay_mtu.or(old.underlay_mtu),
            forwarding: self.forwarding.clone().or(old.forwarding),
            control_rate: self.control_rate.or(old.control_rate),
            keys_in_clear: self.keys_in_clear.unwrap_or(old.keys_in_clear),
            timers: TimerSettings {
                hello: self.hello.clone().or(timers.hello),
                keepalive: self.keepalive.clone().or(timers.keepalive),
                answer: self.answer.clone().or(timers.answer),
                echo: self.echo.clone().or(timers.echo),
            },
        }
    }
}

impl Run for NetCommand {
    async fn run(self, client: &Client, out: &mut Out) -> anyhow::Result<()> {
        match self {
            Self::List => {
                let answer = client.ask(Method::GET, "/v1/networks", Parts::default()).await?;
                out.answer(&answer, |networks: Vec<NetworkDocument>| {
                    table(["NETWORK", "VNI", "MTU", "GROUP", "CIPHER", "MEMBERS"], networks.iter().map(network_row))
                })
            }
            Self::Show { name } => {
                let answer = client.ask(Method::GET, &network_path(&name), Parts::default()).await?;
                out.answer(&answer, facts::<NetworkDocument>)
            }
            Self::Set(args) => {
                let path = network_path(&args.name);
                set(client, &path, |old: Option<NetworkDocument>| args.merge(old.map(|old| old.settings))).await?;
                out.done("the network is as wanted")
            }
            Self::Remove { name, members } => {
                let query = if members { "?members=true" } else { "" };
                client.ask(Method::DELETE, &(network_path(&name) + query), Parts::default()).await?;
                out.done("the network is removed")
            }
            Self::Pairs { name, sender } => {
                let after =
                    |pair: &Pair| format!("{},{}", pair.sender, pair.receiver.as_deref().unwrap_or_default());
                let path = network_path(&name) + "/pairs";
                let pairs = pages(client, &path, &[("sender", sender)], after).await?;
                out.document(&pairs, |pairs| {
                    let row = |pair: &Pair| {
                        let receiver = pair.receiver.as_deref().unwrap_or("(group)");
                        let suite = pair.suite.clone().unwrap_or_default();
                        [pair.sender.clone(), receiver.to_owned(), pair.state.clone(), suite]
                    };
                    table(["FROM", "TO", "STATE", "SUITE"], pairs.iter().map(row))
                })
            }
        }
    }
}

impl NetworkArgs {
    fn merge(&self, old: Option<NetworkSettings>) -> anyhow::Result<NetworkSettings> {
        let new = old.is_none();
        let mut settings = old.unwrap_or_default();
        if new && (self.vni.is_none() || self.group.is_none()) {
            bail!("there is no network {:?} yet: a new one needs --vni and --group", self.name);
        }
        settings.vni = self.vni.unwrap_or(settings.vni);
        settings.group = self.group.clone().unwrap_or(settings.group);
        if let Some(mtu) = &self.mtu {
            settings.mtu = Some(mtu.parse().map_or_else(|_| MtuSetting::Text(mtu.clone()), MtuSetting::Number));
        }
        replace(&mut settings.cipher, self.cipher.as_ref());
        replace(&mut settings.rotate, self.rotate.as_ref());
        Ok(settings)
    }
}

impl Run for MemberCommand {
    async fn run(self, client: &Client, out: &mut Out) -> anyhow::Result<()> {
        match self {
            Self::List { network } => {
                let path = format!("{}/members", network_path(&network));
                let answer = client.ask(Method::GET, &path, Parts::default()).await?;
                out.answer(&answer, |members: Vec<MemberDocument>| {
                    let head = ["MEMBER", "MAC", "IP", "UNDERLAY MAC", "UNDERLAY IP", "OFFLOADS", "EXTRA FLOWS"];
                    table(head, members.into_iter().map(member_row))
                })
            }
            Self::Show { network, name } => {
                let answer = client.ask(Method::GET, &member_path(&network, &name), Parts::default()).await?;
                out.answer(&answer, facts::<MemberDocument>)
            }
            Self::Set(args) => {
                let path = member_path(&args.network, &args.name);
                set(client, &path, |old: Option<MemberDocument>| args.merge(old.map(|old| old.settings))).await?;
                out.done("the member is as wanted")
            }
            Self::Remove { network, name } => {
                client.ask(Method::DELETE, &member_path(&network, &name), Parts::default()).await?;
                out.done("the member is removed")
            }
        }
    }
}

impl MemberArgs {
    fn merge(&self, old: Option<MemberSettings>) -> anyhow::Result<MemberSettings> {
        let given = [&self.mac, &self.ip, &self.underlay_mac, &self.underlay_ip];
        if old.is_none() && given.iter().any(|value| value.is_none()) {
            bail!(
                "there is no member {:?} yet: a new one needs --mac, --ip, --underlay-mac and --underlay-ip",
                self.name
            );
        }
        let mut settings = old.unwrap_or_default();
        let fields = [&mut settings.mac, &mut settings.ip, &mut settings.underlay_mac, &mut settings.underlay_ip];
        for (field, value) in fields.into_iter().zip(given) {
            if let Some(value) = value {
                *field = value.into();
            }
        }
        if let Some(offloads) = &self.offloads {
            settings.offloads = offloads.iter().filter(|name| *name != "none").map(Into::into).collect();
        }
        Ok(settings)
    }
}

impl Run for FlowCommand {
    async fn run(self, client: &Client, out: &mut Out) -> anyhow::Result<()> {
        let path = |mac: &str| format!("/v1/vnics/{}/flows", escape(mac));
        match self {
            Self::List { mac, text: true } => {
                let parts = Parts { accept: Some("text/plain"), ..Parts::default() };
                out.bytes(&client.ask(Method::GET, &path(&mac), parts).await?.body)
            }
            Self::List { mac, text: false } => {
                let answer = client.ask(Method::GET, &path(&mac), Parts::default()).await?;
                out.answer(&answer, flow_table)
            }
            Self::Add { mac, flows } => {
                let answer = client.ask(Method::POST, &path(&mac), Parts::json(&ExtraFlows { flows })?).await?;
                out.answer(&answer, flow_table)
            }
            Self::Set { mac, flows } => {
                let answer = client.ask(Method::PUT, &path(&mac), Parts::json(&ExtraFlows { flows })?).await?;
                out.answer(&answer, flow_table)
            }
            Self::Remove { mac, flow } => {
                let path = format!("{}?flow={}", path(&mac), escape(&flow));
                let answer = client.ask(Method::DELETE, &path, Parts::default()).await?;
                out.answer(&answer, flow_table)
            }
        }
    }
}

impl Run for ConfigCommand {
    async fn run(self, client: &Client, out: &mut Out) -> anyhow::Result<()> {
        match self {
            Self::Export => {
                let parts = Parts { accept: Some("application/toml"), ..Parts::default() };
                out.bytes(&client.ask(Method::GET, "/v1/config", parts).await?.body)
            }
            Self::Import { file } => {
                let text = if file.as_os_str() == "-" {
                    std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
                } else {
                    std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?
                };
                let parts = Parts { body: Some(("application/toml", text.into_bytes())), ..Parts::default() };
                client.ask(Method::PUT, "/v1/config", parts).await?;
                out.done("the desired state is that of the file")
            }
            Self::Parameters => {
                let answer = client.ask(Method::GET, "/v1/parameters", Parts::default()).await?;
                out.answer(&answer, facts::<ParametersDocument>)
            }
            Self::Set(args) => {
                let merge = |old: Option<ParametersDocument>| {
                    Ok(args.merge(old.map(|old| old.parameters).unwrap_or_default()))
                };
                set(client, "/v1/parameters", merge).await?;
                out.done("the parameters are as wanted")
            }
        }
    }
}

/// Reads what is there, lets `merge` change it, and writes it back unless somebody else was quicker.
async fn set<D: DeserializeOwned, S: Serialize>(
    client: &Client,
    path: &str,
    merge: impl FnOnce(Option<D>) -> anyhow::Result<S>,
) -> anyhow::Result<()> {
    let found = client.try_ask(Method::GET, path, Parts::default()).await?;
    let (old, if_match) = match found.status {
        StatusCode::OK => (Some(found.read()?), found.etag),
        StatusCode::NOT_FOUND => (None, None),
        // For its error.
        _ => (Some(client.ask(Method::GET, path, Parts::default()).await?.read()?), None),
    };
    let if_none_match = old.is_none().then(|| "*".to_owned());
    let parts = Parts { if_match, if_none_match, ..Parts::json(&merge(old)?)? };
    client.ask(Method::PUT, path, parts).await?;
    Ok(())
}

fn network_path(name: &str) -> String {
    format!("/v1/networks/{}", escape(name))
}

fn member_path(network: &str, name: &str) -> String {
    format!("{}/members/{}", network_path(network), escape(name))
}

/// "none" takes a setting away.
fn replace(setting: &mut Option<String>, value: Option<&String>) {
    if let Some(value) = value {
        *setting = (value != "none").then(|| value.clone());
    }
}

fn network_row(network: &NetworkDocument) -> [String; 6] {
    let settings = &network.settings;
    let mtu = match &settings.mtu {
        Some(MtuSetting::Number(number)) => number.to_string(),
        Some(MtuSetting::Text(text)) => text.clone(),
        None => "auto".to_owned(),
    };
    [
        network.name.clone(),
        settings.vni.to_string(),
        mtu,
        settings.group.clone(),
        settings.cipher.clone().unwrap_or_else(|| "-".to_owned()),
        network.members.to_string(),
    ]
}

fn member_row(member: MemberDocument) -> [String; 7] {
    let settings = member.settings;
    let offloads = if settings.offloads.is_empty() { "-".to_owned() } else { settings.offloads.join(",") };
    let flows = settings.flows.len().to_string();
    let [mac, ip, underlay_mac, underlay_ip] =
        [settings.mac, settings.ip, settings.underlay_mac, settings.underlay_ip].map(String::from);
    [member.name, mac, ip, underlay_mac, underlay_ip, offloads, flows]
}

fn flow_table(document: FlowsDocument) -> String {
    let row = |flow: crate::api::flows::FlowDocument, surplus: bool| {
        let state = match (surplus, flow.confirmed) {
            (true, _) => "surplus",
            (false, true) => "confirmed",
            (false, false) => "wanted",
        };
        [state.to_owned(), flow.kind, flow.flow]
    };
    let wanted = document.flows.into_iter().map(|flow| row(flow, false));
    table(["STATE", "KIND", "FLOW"], wanted.chain(document.surplus.into_iter().map(|flow| row(flow, true))))
}
