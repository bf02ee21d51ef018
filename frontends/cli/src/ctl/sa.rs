//! `cvsw ctl sa`: security associations of a vNIC in the kernel. Keys go in and never come out.

use super::netlink::{Command, Vnic, attribute};
use crate::{engine, output};
use anyhow::{Context, Result, bail, ensure};
use cvsw_core::{
    Config, Instant,
    control::{SaCommand, SaResult, SetSa},
    crypto::{Lifetime, MAX_KEY_MATERIAL, SaConfig, SaState, Suite},
    flow::Direction,
};
use cvsw_userspace::{
    sa_file::{self, SaFile},
    sa_state::SaState as SequenceState,
    vnic::Ciphers,
};
use serde::Serialize;
use std::{fmt, net::Ipv4Addr, path::PathBuf};
use zeroize::Zeroizing;

/// Arguments of `cvsw ctl sa`.
#[derive(Debug, clap::Subcommand)]
pub enum SaAction {
    /// Add the associations of a file; nothing is added if one of them is wrong
    Load {
        /// Associations with their keys (TOML, as for `cvsw port --sa`; readable by its owner only)
        file: PathBuf,
    },
    /// Show every association with its counters, never a key
    List {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Remove one association
    Remove {
        /// Its id
        id: u32,
    },
    /// Remove every association
    Clear,
    /// Set whether frames of a VXLAN network may travel encrypted only
    Require {
        /// The network
        vni: u32,
        /// Encrypted only
        #[arg(value_enum)]
        switch: Switch,
    },
    /// Set whether the controller's keys are taken, which travel in clear
    AcceptKeysInClear {
        /// Taken
        #[arg(value_enum)]
        switch: Switch,
    },
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    On,
    Off,
}

/// Sequence numbers that one `load` takes of a sending association: 2^30, of which there are four in all.
const BLOCK: u64 = 1 << 30;
/// The same with extended sequence numbers.
const EXTENDED_BLOCK: u64 = 1 << 48;
const LISTED_LEN: usize = 152;
/// Longest body of a SET_SA.
const BODY_MAX: usize = 24 + MAX_KEY_MATERIAL;

/// Runs `cvsw ctl sa`.
pub fn run(vnic: &mut Vnic, action: &SaAction) -> Result<()> {
    match action {
        SaAction::Load { file } => load(vnic, file),
        SaAction::List { json } => output::report(&list(vnic)?, *json),
        SaAction::Remove { id } => set(vnic, SaCommand::Remove { id: *id }, None),
        SaAction::Clear => set(vnic, SaCommand::Flush, None),
        SaAction::Require { vni, switch } => {
            ensure!((1..1 << 24).contains(vni), "a VNI is a number from 1 to 16777215");
            set(vnic, SaCommand::Require { vni: *vni, on: *switch == Switch::On }, None)
        }
        SaAction::AcceptKeysInClear { switch } => {
            let on = u32::from(*switch == Switch::On).to_ne_bytes();
            vnic.request(Command::KeysInClear, &[(attribute::ON, &on)]).map(drop)
        }
    }
}

fn load(vnic: &mut Vnic, path: &std::path::Path) -> Result<()> {
    let mut file = sa_file::load(path)?;
    // An engine here says first what the one in the kernel would refuse.
    file.install(&mut *engine::new_engine(&Config::default())?, &mut *Box::<Ciphers>::default(), Instant::ZERO)?;
    let there = list(vnic)?;
    for sa in &file.sas {
        let same = |other: &Listed| {
            other.spi == sa.config.spi && other.destination == Ipv4Addr::from(sa.config.destination)
        };
        if let Some(other) = there.associations.iter().find(|other| same(other)) {
            bail!(
                "{}:{}: the vNIC has an association with this SPI and destination, id {}: `cvsw ctl ... sa remove {}`",
                path.display(),
                sa.line,
                other.id,
                other.id
            );
        }
    }
    take_sequence_numbers(&mut file).with_context(|| format!("the sequence numbers of {}", path.display()))?;
    for sa in file.sas {
        let (config, line) = (sa.config, sa.line);
        set(vnic, SaCommand::Add(config, sa.key), Some(&config))
            .with_context(|| format!("{}:{line}", path.display()))?;
    }
    for vni in file.encrypted_only {
        set(vnic, SaCommand::Require { vni, on: true }, None)?;
    }
    Ok(())
}

/// The kernel cannot note how far a key has come. So each load takes a block of numbers, notes that beside the file, and
/// the association ends with the block: no number is used twice, whatever happens to the module.
fn take_sequence_numbers(file: &mut SaFile) -> Result<()> {
    SequenceState::begin_with(file, block)?;
    for sa in file.sas.iter_mut().filter(|sa| sa.config.direction == Direction::Tx) {
        let block = block(&sa.config);
        let last = if sa.config.extended_sequence { u64::MAX } else { u32::MAX.into() };
        ensure!(
            sa.config.last_sequence < last,
            "line {}: this key has no sequence numbers left: use a new one",
            sa.line
        );
        let hard = &mut sa.config.hard.packets;
        *hard = if *hard == 0 { block } else { block.min(*hard) };
    }
    Ok(())
}

const fn block(config: &SaConfig) -> u64 {
    if config.extended_sequence { EXTENDED_BLOCK } else { BLOCK }
}

/// Sends one command; `config`: that of an added association, for what a SET_SA cannot say.
fn set(vnic: &mut Vnic, command: SaCommand, config: Option<&SaConfig>) -> Result<()> {
    let mut body = Zeroizing::new([0; BODY_MAX]);
    let len = SetSa { transaction: 0, command }.emit(&mut *body).map_err(|_| anyhow::anyhow!("too long a key"))?;
    let limits = config.map(|config| {
        let lifetime = |Lifetime { packets, bytes, seconds }: Lifetime| [packets, bytes, seconds];
        [&[config.last_sequence][..], &lifetime(config.soft), &lifetime(config.hard)].concat()
    });
    let limits: Vec<u8> = limits.iter().flatten().flat_map(|number| number.to_ne_bytes()).collect();
    let mut attributes = vec![(attribute::SA, &body[..len])];
    if !limits.is_empty() {
        attributes.push((attribute::SA_LIMITS, &limits));
    }
    let reply = vnic.request(Command::SaSet, &attributes)?;
    let number = reply.number(attribute::ERROR).context("the kernel did not say whether it was done")?;
    match SaResult::ALL.into_iter().find(|result| *result as u32 == number) {
        Some(SaResult::Done) => Ok(()),
        Some(SaResult::NotFound) => bail!("the vNIC has no such association"),
        Some(SaResult::Refused) => bail!(
            "the vNIC refused: an association with this SPI has sent to this destination before; use a new SPI with a new key"
        ),
        Some(SaResult::Full) => bail!("the vNIC has no room for another one"),
        Some(result) => bail!("the vNIC refused: {}", result.name()),
        None => bail!("the vNIC refused, for reason {number}"),
    }
}

#[derive(Debug, Serialize)]
struct List {
    associations: Vec<Listed>,
    encrypted_only: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct Listed {
    id: u32,
    direction: &'static str,
    spi: u32,
    destination: Ipv4Addr,
    suite: &'static str,
    state: &'static str,
    extended_sequence: bool,
    window: u32,
    last_sequence: u64,
    packets: u64,
    bytes: u64,
    replayed: u64,
    auth_failed: u64,
    malformed: u64,
    exhausted: u64,
    expired: u64,
    stale: u64,
    age_s: u64,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for sa in &self.associations {
            let Listed { id, direction, spi, destination, suite, state, packets, bytes, .. } = sa;
            write!(f, "id={id}, {direction}, spi={spi:#x}, destination={destination}, {suite}, {state}, ")?;
            write!(f, "last_sequence={}, n_packets={packets}, n_bytes={bytes}", sa.last_sequence)?;
            let drops = [
                ("replayed", sa.replayed),
                ("auth_failed", sa.auth_failed),
                ("malformed", sa.malformed),
                ("exhausted", sa.exhausted),
                ("expired", sa.expired),
                ("stale", sa.stale),
            ];
            drops
                .iter()
                .filter(|(_, count)| *count > 0)
                .try_for_each(|(name, count)| write!(f, ", {name}={count}"))?;
            writeln!(f)?;
        }
        if !self.encrypted_only.is_empty() {
            let vnis: Vec<_> = self.encrypted_only.iter().map(u32::to_string).collect();
            writeln!(f, "encrypted only: {}", vnis.join(", "))?;
        }
        Ok(())
    }
}

fn list(vnic: &mut Vnic) -> Result<List> {
    let mut associations = Vec::new();
    let mut encrypted_only: Vec<u32>;
    let mut cursor = 0u32;
    loop {
        let reply = vnic.request(Command::SaGet, &[(attribute::CURSOR, &cursor.to_ne_bytes())])?;
        for bytes in reply.all(attribute::SA_LISTED) {
            associations.push(listed(bytes).context("a listed association is cut short")?);
        }
        let vnis = reply.get(attribute::ENCRYPTED_ONLY).unwrap_or_default();
        encrypted_only = vnis.as_chunks().0.iter().map(|vni| u32::from_ne_bytes(*vni)).collect();
        match reply.number(attribute::CURSOR) {
            Some(next) if next > cursor => cursor = next,
            _ => break,
        }
    }
    associations.sort_by_key(|sa| (sa.direction == "rx", sa.id, sa.spi));
    encrypted_only.sort_unstable();
    Ok(List { associations, encrypted_only })
}

/// Decodes one `Listed` of the module.
fn listed(bytes: &[u8]) -> Option<Listed> {
    let bytes: &[u8; LISTED_LEN] = bytes.try_into().ok()?;
    let (head, numbers) = bytes.split_at_checked(24)?;
    let word = |at: usize| Some(u32::from_ne_bytes(*head.get(at..)?.first_chunk()?));
    let [d0, d1, d2, d3, suite, sends, extended, state] = *head.get(8..)?.first_chunk()?;
    let number = |at: usize| numbers.as_chunks().0.get(at).map(|number| u64::from_ne_bytes(*number));
    let states = [SaState::Active, SaState::Aging, SaState::Expired, SaState::Exhausted, SaState::Stale];
    Some(Listed {
        id: word(0)?,
        direction: if sends == 1 { "tx" } else { "rx" },
        spi: word(4)?,
        destination: Ipv4Addr::new(d0, d1, d2, d3),
        suite: Suite::from_number(suite).map_or("unknown", Suite::name),
        state: states.get(usize::from(state)).map_or("unknown", |state| state.name()),
        extended_sequence: extended == 1,
        window: word(16)?,
        last_sequence: number(0)?,
        // 1 to 6: the limits.
        packets: number(7)?,
        bytes: number(8)?,
        replayed: number(9)?,
        auth_failed: number(10)?,
        malformed: number(11)?,
        exhausted: number(12)?,
        expired: number(13)?,
        stale: number(14)?,
        age_s: number(15)? / 1_000_000_000,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_association_as_the_module_lists_it() {
        let mut bytes = Vec::new();
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(0x1001u32.to_ne_bytes());
        bytes.extend([192, 0, 2, 2, Suite::Aes256Gcm as u8, 1, 1, 3]);
        bytes.extend(1024u32.to_ne_bytes());
        bytes.extend([0; 4]);
        (1..=16u64).for_each(|number| bytes.extend((number * 1_000_000_000).to_ne_bytes()));
        let sa = listed(&bytes).unwrap();
        assert_eq!(
            (sa.id, sa.direction, sa.spi, sa.suite, sa.state),
            (7, "tx", 0x1001, "aes-256-gcm", "exhausted")
        );
        assert_eq!((sa.destination, sa.window, sa.extended_sequence), (Ipv4Addr::new(192, 0, 2, 2), 1024, true));
        assert_eq!(
            (sa.last_sequence, sa.packets, sa.stale, sa.age_s),
            (1_000_000_000, 8_000_000_000, 15_000_000_000, 16)
        );
        assert!(listed(&bytes[1..]).is_none());
    }
}
