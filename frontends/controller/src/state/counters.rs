//! What the controller counts.

use std::collections::BTreeMap;

use cvsw_core::{DropReason, openflow::PortStats};

use super::counted::Counted;

/// What arrived and could not be used, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// OpenFlow messages that could not be decoded, by the name of the OpenFlow error.
    pub bad_openflow: BTreeMap<&'static str, u64>,
    /// Frames from a port that are not acceptable control frames, by reason.
    pub bad_control: BTreeMap<&'static str, u64>,
    /// Connections of a switch whose datapath id another live connection has.
    pub duplicate_datapaths: u64,
    /// REGISTERs that were refused, by reason.
    pub refused_registers: BTreeMap<&'static str, u64>,
    /// vNICs that were not noted because too many unknown ones have registered.
    pub claims_refused: u64,
    /// Control messages that were sent again, because no answer to them came in time; without those about keys.
    pub repeated: u64,
    /// OpenFlow messages from and to switches that are gone.
    #[serde(skip)]
    pub(crate) gone_messages: (u64, u64),
    /// What passed the switch ports of vNICs.
    pub traffic: Traffic,
    /// Frames that vNICs have dropped.
    pub drops: Drops,
}

/// Frames that vNICs have dropped since the controller's start, as they told, by direction and reason. The reasons are
/// those that this program knows: what a vNIC calls a reason is not taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Drops(BTreeMap<&'static str, BTreeMap<&'static str, u64>>);

impl Drops {
    /// Adds what a vNIC has counted since it told the last time. One that counts from 0 again adds all of it.
    pub(super) fn add(&mut self, before: &Counted, now: &Counted) {
        for (direction, prefix) in [("tx", "tx_drop_"), ("rx", "rx_drop_")] {
            for reason in DropReason::ALL {
                let name = format!("{prefix}{}", reason.name());
                let Some(count) = now.get(&name) else { continue };
                let old = before.get(&name).filter(|old| *old <= count).unwrap_or(0);
                let sum = self.0.entry(direction).or_default().entry(reason.name()).or_default();
                *sum = sum.saturating_add(count - old);
            }
        }
    }

    /// Direction, reason and count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.0
            .iter()
            .flat_map(|(direction, reasons)| reasons.iter().map(|(reason, count)| (*direction, *reason, *count)))
    }
}

/// What passed the switch ports of vNICs, since the controller's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Traffic {
    /// From vNICs.
    pub tx: Sums,
    /// To vNICs.
    pub rx: Sums,
}

/// Sums of counters that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Sums {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Packets that the switch has dropped.
    pub dropped: u64,
}

impl Traffic {
    /// Adds what a port has counted since it was last asked. One that counts from 0 again adds nothing.
    pub(super) fn add(&mut self, old: &PortStats, new: &PortStats) {
        let since = |old: u64, new: u64| new.checked_sub(old).filter(|_| new != u64::MAX).unwrap_or(0);
        let sum = |sums: &mut Sums, packets: (u64, u64), bytes: (u64, u64), dropped: (u64, u64)| {
            sums.packets = sums.packets.saturating_add(since(packets.0, packets.1));
            sums.bytes = sums.bytes.saturating_add(since(bytes.0, bytes.1));
            sums.dropped = sums.dropped.saturating_add(since(dropped.0, dropped.1));
        };
        let (received, sent) = ((old.rx_packets, new.rx_packets), (old.tx_packets, new.tx_packets));
        sum(&mut self.tx, received, (old.rx_bytes, new.rx_bytes), (old.rx_dropped, new.rx_dropped));
        sum(&mut self.rx, sent, (old.tx_bytes, new.tx_bytes), (old.tx_dropped, new.tx_dropped));
    }
}
