//! `cvsw vnic`, `cvsw switch`, `cvsw key` and `cvsw events`.

use anyhow::Context as _;
use cvsw_core::control::VERSION_2;
use http_body_util::BodyExt as _;
use hyper::{Method, StatusCode};

use super::{
    Out, Run, escape, facts,
    http::{Client, Parts, Target},
    pages, pretty, table,
};
use crate::{
    api::{
        flows::TraceRequest,
        live::{Refusals, Summary},
    },
    status::{
        EncryptedStatus, SWITCH_HEAD, SwitchStatus, VNIC_HEAD, VnicStatus, encrypted_row, switch_row, vnic_row,
        write_refusals,
    },
};

/// Behind what a vNIC of version 2 has.
const NOT_TOLD: &str = "\nmtu_effective and offloads_effective are not known: version 2 of the control protocol has no message \
                        in which a vNIC tells them\n";

/// `cvsw vnic`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum VnicCommand {
    /// vNICs: members, registered or not, and those in quarantine
    List {
        /// Only those of this network
        #[arg(long)]
        network: Option<String>,
        /// Only those in this state
        #[arg(long)]
        state: Option<String>,
        /// Only those with this text in their address or name
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
    },
    /// vNICs that were not let in, and REGISTER messages that were not believed
    Refused,
    /// How many are in which state, and what was dropped
    Summary,
    /// One vNIC
    Show {
        /// Its address
        mac: String,
    },
    /// What its wanted flows would do to a frame
    Trace {
        /// Its address
        mac: String,
        /// tx: from the VM; rx: from the network
        #[arg(short, long)]
        direction: String,
        /// The frame's bytes, from the Ethernet destination on; blanks and colons are ignored
        #[arg(long)]
        hex: String,
        /// With rx: the vNIC that sends it; the bytes are then as that one's VM sends them, and what is traced is what arrives,
        /// tunnelled and sealed
        #[arg(long, value_name = "MAC")]
        from: Option<String>,
    },
}

/// `cvsw switch`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum SwitchCommand {
    /// Connected switches
    List,
}

/// `cvsw key`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum KeyCommand {
    /// What each vNIC seals, per destination
    List,
    /// Replace every key, without a gap
    Rotate,
}

/// `cvsw events`.
#[derive(Clone, Debug, clap::Args)]
pub struct EventsArgs {
    #[command(flatten)]
    pub(super) target: Target,
    /// Begin with those that the controller has kept and that come after this number
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// End after so many
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
}

impl Run for VnicCommand {
    async fn run(self, client: &Client, out: &mut Out) -> anyhow::Result<()> {
        match self {
            Self::List { network, state, search } => {
                let wanted = [("network", network), ("state", state), ("search", search)];
                let vnics = pages(client, "/v1/vnics", &wanted, |vnic: &VnicStatus| vnic.mac.clone()).await?;
                if out.json {
                    return out.bytes(pretty(vnics).as_bytes());
                }
                out.bytes(table(VNIC_HEAD, vnics.iter().map(vnic_row)).as_bytes())
            }
            Self::Refused => {
                let answer = client.ask(Method::GET, "/v1/refusals", Parts::default()).await?;
                out.answer(&answer, |refusals: Refusals| {
                    let mut text = String::new();
                    write_refusals(&mut text, &refusals.unknown, &refusals.refused);
                    text.trim_start().to_owned()
                })
            }
            Self::Summary => {
                let answer = client.ask(Method::GET, "/v1/summary", Parts::default()).await?;
                out.answer(&answer, facts::<Summary>)
            }
            Self::Show { mac } => {
                let path = format!("/v1/vnics/{}", escape(&mac));
                let answer = client.ask(Method::GET, &path, Parts::default()).await?;
                out.answer(&answer, |vnic: VnicStatus| {
                    let why = if vnic.protocol == Some(VERSION_2) { NOT_TOLD } else { "" };
                    facts(vnic) + why
                })
            }
            Self::Trace { mac, direction, hex, from } => {
                let path = format!("/v1/vnics/{}/trace", escape(&mac));
                let parts = Parts::json(&TraceRequest { direction, frame: hex, from })?;
                let accept = if out.json { "application/json" } else { "text/plain" };
                let answer = client.ask(Method::POST, &path, Parts { accept: Some(accept), ..parts }).await?;
                out.bytes(&answer.body)
            }
        }
    }
}

impl Run for SwitchCommand {
    async fn run(self, client: &Client, out: &mut Out) -> anyhow::Result<()> {
        let Self::List = self;
        let answer = client.ask(Method::GET, "/v1/switches", Parts::default()).await?;
        out.answer(&answer, |switches: Vec<SwitchStatus>| table(SWITCH_HEAD, switches.iter().map(switch_row)))
    }
}

impl Run for KeyCommand {
    async fn run(self, client: &Client, out: &mut Out) -> anyhow::Result<()> {
        match self {
            Self::List => {
                let after = |key: &EncryptedStatus| format!("{},{},{}", key.vni, key.sender, key.destination);
                let keys = pages(client, "/v1/keys", &[], after).await?;
                out.document(&keys, |keys| {
                    let head = ["ENCRYPTED", "TO", "SUITE", "STATE", "SPI", "AGE", "PACKETS", "ROTATIONS"];
                    table(head, keys.iter().map(encrypted_row))
                })
            }
            Self::Rotate => {
                client.ask(Method::POST, "/v1/keys/rotate", Parts::default()).await?;
                out.done("new keys are on their way")
            }
        }
    }
}

impl Run for EventsArgs {
    async fn run(self, client: &Client, out: &mut Out) -> anyhow::Result<()> {
        let query = self.after.map(|after| format!("?after={after}")).unwrap_or_default();
        let parts = Parts { accept: Some("text/event-stream"), ..Parts::default() };
        let response = client.open(Method::GET, &format!("/v1/events{query}"), parts).await?;
        if response.status() != StatusCode::OK {
            // For its error.
            client.ask(Method::GET, &format!("/v1/events{query}"), Parts::default()).await?;
        }
        let mut body = response.into_body();
        let mut text = Vec::new();
        let mut count = 0;
        while self.count.is_none_or(|end| count < end) {
            let frame = body.frame().await.context("the controller has ended")?.context("the events broke off")?;
            text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = text.drain(..end + 2).collect();
                let line = event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data: "));
                if let Some(line) = line {
                    out.bytes(&[line, b"\n"].concat())?;
                    count += 1;
                }
            }
        }
        Ok(())
    }
}
