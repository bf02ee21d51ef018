//! Sharing the switches with other controllers, through leases in etcd.
//!
//! Each controller holds one lease and, under it, a key with its name and one key for each switch that it manages:
//! `/cvsw/switch/DATAPATH`. The key can only be made if it is not there, so a switch has one controller. When a
//! controller ends, or does not renew its lease, its keys go, and whoever sees that takes its switches over. The
//! revision in which the key was made is the *epoch* of all that the controller says to that switch's vNICs: it is
//! higher than that of whoever had the switch before, and a vNIC obeys nobody with a lower one.
//!
//! Of the controllers that are alive, one is the first to reach for a switch without a controller: the one that scores
//! highest with it (rendezvous hashing), so that switches spread evenly without anybody counting. The others wait a
//! moment, for it may not be connected to that switch.
//!
//! A controller that joins, or comes back, gets its share: after a while it writes a *wish*, `/cvsw/wish/DATAPATH`, for
//! each switch with which it scores highest and which is another's, and that one lets go of it, a few at a time. Not so
//! where networks are encrypted and the controllers have no key with which they could tell each other those of vNICs on
//! different switches (`mail`): then a switch that changes its controller is worse than one that has the wrong one.
//!
//! A vNIC of version 3 that has moved here from a switch of another controller may obey a higher epoch than this one's.
//! Then this controller makes the store's revision higher, under the condition that the switch is still its own, and takes
//! that as its epoch.

mod mail;
mod seal;
mod seen;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    keys::SHARES,
    server::{Handle, Stopping},
    state::Controller,
    store::{
        StoreError,
        etcd::{
            Client, Compare, DeleteRangeRequest, PutRequest, RangeRequest, Request, RequestOp, TxnRequest, revision,
        },
    },
};

use mail::Mail;
pub use seal::ClusterKey;
use seal::Session;
pub use seen::first;
use seen::{Seen, key, wish_key};

/// Seconds that a lease lasts when it is not renewed. With etcd's default election time-out, fewer than 2 cannot be had.
const LEASE_SECONDS: i64 = 3;
/// A lease counts as over this long before etcd ends it.
const MARGIN: Duration = Duration::from_millis(300);
/// How often leases and switches are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How often the lease is renewed.
const RENEW: Duration = Duration::from_millis(750);
/// Who is not the first to reach for a switch waits so long.
const GRACE: Duration = Duration::from_millis(750);
/// A controller wishes for switches of others when it has been entitled to them for so long.
const SETTLED: Duration = Duration::from_secs(10);
/// Switches that are wished for, or handed over, at one look.
const AT_ONCE: usize = 8;
/// How often letters are looked for while there are some.
const LETTERS: Duration = Duration::from_millis(20);
/// Pause between two new epochs.
const RAISE_PAUSE: Duration = Duration::from_secs(1);
/// Keys of controllers.
const CONTROLLERS: &str = "/cvsw/controller/";
/// Keys of shares of the SPIs.
const SPIS: &str = "/cvsw/spi/";

/// This controller among others.
pub struct Cluster {
    client: Arc<Client>,
    name: String,
    handle: Handle,
    lease: Option<Lease>,
    /// When it is to be renewed.
    renew_at: Instant,
    mail: Option<Mail>,
    /// The name of this part in the cluster, which no other one has had.
    session: String,
    /// Switches without a controller, and when that was first seen.
    vacant: BTreeMap<u64, Duration>,
    /// Switches of others that this controller is entitled to, and since when.
    entitled: BTreeMap<u64, Duration>,
    /// When the epoch was made higher last.
    raised: Option<Duration>,
}

/// A lease.
#[derive(Clone, Copy, Debug)]
struct Lease {
    id: i64,
    lasts: Duration,
}

/// Why the round had to be given up.
#[derive(Debug)]
enum Trouble {
    Store(StoreError),
    /// The lease is over.
    Over,
    Stopping,
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Stopping> for Trouble {
    fn from(_: Stopping) -> Self {
        Self::Stopping
    }
}

impl Cluster {
    /// A controller of this name, which no other one may have at the same time. With the cluster's key, networks may be on
    /// the switches of several controllers and encrypted.
    pub fn new(client: Arc<Client>, name: String, handle: Handle, key: Option<ClusterKey>) -> Self {
        Self {
            client,
            mail: key.map(|key| Mail::new(key, name.clone())),
            name,
            handle,
            lease: None,
            renew_at: Instant::now(),
            session: String::new(),
            vacant: BTreeMap::new(),
            entitled: BTreeMap::new(),
            raised: None,
        }
    }

    /// Takes part until `stop`, then hands everything over at once.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        loop {
            let trouble = tokio::select! {
                Err(trouble) = self.take_part() => trouble,
                _ = &mut stop => Trouble::Stopping,
            };
            if let Some(lease) = self.lease.take()
                && !matches!(trouble, Trouble::Store(_))
            {
                // If it does not get through, the lease ends by itself soon.
                let _ = self.client.revoke(lease.id).await;
            }
            match trouble {
                Trouble::Stopping => return,
                Trouble::Over => tracing::error!("the lease is over; asking for another one"),
                Trouble::Store(error) => tracing::error!("no part in the cluster: {error}"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Takes part under one lease, for as long as it lasts.
    async fn take_part(&mut self) -> Result<Infallible, Trouble> {
        let renewed = self.now().await?;
        self.renew_at = Instant::now() + RENEW;
        let granted = self.client.grant(LEASE_SECONDS).await?;
        let lasts = Duration::from_secs(u64::try_from(granted.ttl).unwrap_or(0)).saturating_sub(MARGIN);
        let lease = Lease { id: granted.id, lasts };
        self.lease = Some(lease);
        self.lasts(lease, renewed).await?;
        let no_randomness = || StoreError::Unusable("the system gave no random numbers".to_owned());
        let session = Session::new().ok_or_else(no_randomness)?;
        session.name().clone_into(&mut self.session);
        if let Some(mail) = &mut self.mail {
            mail.begin(session);
        }
        self.handle.ask(|controller, now| controller.meet(now, &BTreeMap::new())).await?;
        let since = self.announce(lease).await?;
        self.take_share(lease).await?;
        tracing::info!(name = self.name, "taking part in the cluster");
        loop {
            self.renew(lease).await?;
            match self.look(lease).await {
                Err(Trouble::Store(error)) => tracing::warn!("{error}"),
                other => other?,
            }
            self.correspond(lease, since).await?;
        }
    }

    /// Renews the lease when it is time. To be called between any two things that may take long.
    async fn renew(&mut self, lease: Lease) -> Result<(), Trouble> {
        if Instant::now() < self.renew_at {
            return Ok(());
        }
        let now = self.now().await?;
        match self.client.keep_alive(lease.id).await {
            Ok(0) => return Err(Trouble::Over),
            Ok(_) => {
                self.renew_at = Instant::now() + RENEW;
                self.lasts(lease, now).await?;
            }
            // There are more nodes, and some time.
            Err(error) => tracing::warn!("the lease was not renewed: {error}"),
        }
        Ok(())
    }

    /// Until the next look: letters, if there are any.
    async fn correspond(&mut self, lease: Lease, since: i64) -> Result<(), Trouble> {
        let next = Instant::now() + LOOK;
        while Instant::now() < next {
            self.renew(lease).await?;
            let Some(mail) = &mut self.mail else {
                tokio::time::sleep_until(next).await;
                return Ok(());
            };
            let busy = match mail.exchange(&self.client, &self.handle, lease, since).await {
                Err(Trouble::Store(error)) => {
                    tracing::warn!("{error}");
                    false
                }
                other => other?,
            };
            tokio::time::sleep_until(if busy { Instant::now() + LETTERS } else { next }).await;
        }
        Ok(())
    }

    /// Puts a key for a share of the SPIs that nobody else has.
    async fn take_share(&self, lease: Lease) -> Result<(), Trouble> {
        // Any one: keys of whoever had it last may still be in use for some seconds.
        let first =
            self.session.as_bytes().iter().fold(0u8, |sum, octet| sum.wrapping_mul(31).wrapping_add(*octet));
        for share in (0..SHARES).map(|number| first.wrapping_add(number) % SHARES) {
            let key = format!("{SPIS}{share:02x}");
            let put = PutRequest { key: key.clone().into(), value: self.session.clone().into(), lease: lease.id };
            let request = TxnRequest {
                compare: vec![Compare::absent(&key)],
                success: vec![Request::Put(put).into()],
                failure: Vec::new(),
            };
            if self.client.transact(&request).await?.succeeded {
                self.handle.ask(move |controller, _| controller.set_share(share)).await?;
                return Ok(());
            }
        }
        Err(StoreError::Unusable(format!("there are {SHARES} controllers in the cluster already: use fewer"))
            .into())
    }

    /// Puts this controller's own key; returns the revision that has made it.
    async fn announce(&self, lease: Lease) -> Result<i64, Trouble> {
        let key = format!("{CONTROLLERS}{}", self.name);
        let put = PutRequest { key: key.clone().into(), value: self.session.clone().into(), lease: lease.id };
        let request = TxnRequest {
            compare: vec![Compare::absent(&key)],
            success: vec![Request::Put(put).into()],
            failure: Vec::new(),
        };
        let answer = self.client.transact(&request).await?;
        if answer.succeeded {
            return Ok(answer.header.unwrap_or_default().revision);
        }
        let name = &self.name;
        let what = format!(
            "a controller {name:?} is in the cluster already: use another --name, or wait {LEASE_SECONDS} s if it has just ended"
        );
        Err(StoreError::Unusable(what).into())
    }

    /// Compares who should have what with who has it, and reaches for what nobody has.
    async fn look(&mut self, lease: Lease) -> Result<(), Trouble> {
        let seen = Seen::read(&self.client).await?;
        if let Some(mail) = &mut self.mail {
            let mut others = seen.sessions.clone();
            others.remove(&self.name);
            mail.meet(&others);
            self.handle.ask(move |controller, now| controller.meet(now, &others)).await?;
        }
        let state = |controller: &mut Controller, now| {
            let encrypted = controller.config().networks.iter().any(|network| network.cipher.is_some());
            (controller.datapaths(), controller.owned(), controller.take_outrun(), encrypted, now)
        };
        let (connected, owned, outrun, encrypted, now) = self.handle.ask(state).await?;
        let own = self.name.clone();
        let ours = |datapath_id: &u64| {
            seen.switches.get(datapath_id).filter(|(name, _)| *name == own).map(|(_, since)| *since)
        };
        for datapath_id in owned.keys().filter(|id| ours(id).is_none()) {
            self.renew(lease).await?;
            let datapath_id = *datapath_id;
            self.handle.ask(move |controller, now| controller.disown(now, datapath_id)).await?;
        }
        for (datapath_id, (name, since)) in &seen.switches {
            if *name != self.name {
                continue;
            }
            self.renew(lease).await?;
            let (datapath_id, since) = (*datapath_id, *since);
            if !connected.contains(&datapath_id) {
                self.release(datapath_id, since).await?;
            } else if owned.get(&datapath_id) != Some(&since) {
                self.handle.ask(move |controller, now| controller.own(now, datapath_id, since)).await?;
            }
        }
        if let Some((datapath_id, epoch)) = outrun
            && let Some(since) = ours(&datapath_id)
            && epoch <= seen.revision
        {
            self.raise(now, datapath_id, since, lease).await?;
        }
        self.hand_over(&seen).await?;
        if !encrypted || self.mail.is_some() {
            self.wish(&seen, &connected, now, lease).await?;
        }
        let vacant: BTreeSet<u64> = connected.into_iter().filter(|id| !seen.switches.contains_key(id)).collect();
        self.vacant.retain(|id, _| vacant.contains(id));
        for datapath_id in vacant {
            let since = *self.vacant.entry(datapath_id).or_insert(now);
            self.renew(lease).await?;
            let first = seen.first(datapath_id) == Some(&self.name);
            if first || now.saturating_sub(since) >= GRACE {
                self.acquire(datapath_id, lease).await?;
            }
        }
        Ok(())
    }

    /// Makes the store's revision this controller's epoch, if the switch is still its own.
    async fn raise(&mut self, now: Duration, datapath_id: u64, since: u64, lease: Lease) -> Result<(), Trouble> {
        if self.raised.is_some_and(|raised| now.saturating_sub(raised) < RAISE_PAUSE) {
            return Ok(());
        }
        self.raised = Some(now);
        let own = format!("{CONTROLLERS}{}", self.name);
        let put = PutRequest { key: own.into(), value: self.session.clone().into(), lease: lease.id };
        let request = TxnRequest {
            compare: vec![Compare::written_by(&key(datapath_id), i64::try_from(since).unwrap_or(i64::MAX))],
            success: vec![Request::Put(put).into()],
            failure: Vec::new(),
        };
        let answer = self.client.transact(&request).await?;
        if answer.succeeded {
            let epoch = revision(answer.header.unwrap_or_default().revision);
            self.handle.ask(move |controller, now| controller.raise_epoch(now, epoch)).await?;
        }
        Ok(())
    }

    /// Lets others have some of the switches that they wish for, if they are entitled to them.
    async fn hand_over(&self, seen: &Seen) -> Result<(), Trouble> {
        let wished = seen.switches.iter().filter(|(id, (name, _))| {
            *name == self.name
                && seen.wishes.get(id).is_some_and(|wisher| wisher != name && seen.first(**id) == Some(wisher))
        });
        for (datapath_id, (_, since)) in wished.take(AT_ONCE) {
            self.release(*datapath_id, *since).await?;
        }
        Ok(())
    }

    /// Wishes for the switches of others that this controller is entitled to.
    async fn wish(
        &mut self,
        seen: &Seen,
        connected: &BTreeSet<u64>,
        now: Duration,
        lease: Lease,
    ) -> Result<(), Trouble> {
        let of_another = |id: &u64| seen.switches.get(id).is_some_and(|(name, _)| *name != self.name);
        let entitled = |id: &&u64| of_another(id) && seen.first(**id) == Some(&self.name);
        let entitled: BTreeSet<u64> = connected.iter().filter(entitled).copied().collect();
        self.entitled.retain(|id, _| entitled.contains(id));
        for id in &entitled {
            self.entitled.entry(*id).or_insert(now);
        }
        let due = |(id, since): &(&u64, &Duration)| {
            now.saturating_sub(**since) >= SETTLED && !seen.wishes.contains_key(*id)
        };
        let put = |(id, _): (&u64, &Duration)| {
            let key = wish_key(*id);
            Request::Put(PutRequest { key: key.into(), value: self.name.clone().into(), lease: lease.id }).into()
        };
        let mine = seen.wishes.iter().filter(|(id, name)| **name == self.name && !entitled.contains(id));
        let forget = |(id, _): (&u64, &String)| {
            Request::DeleteRange(DeleteRangeRequest { key: wish_key(*id).into(), range_end: Vec::new() }).into()
        };
        let news: Vec<RequestOp> =
            self.entitled.iter().filter(due).take(AT_ONCE).map(put).chain(mine.take(AT_ONCE).map(forget)).collect();
        if !news.is_empty() {
            self.client.transact(&TxnRequest { success: news, ..TxnRequest::default() }).await?;
        }
        Ok(())
    }

    async fn acquire(&self, datapath_id: u64, lease: Lease) -> Result<(), Trouble> {
        let key = key(datapath_id);
        let put = PutRequest { key: key.clone().into(), value: self.name.clone().into(), lease: lease.id };
        let wish = DeleteRangeRequest { key: wish_key(datapath_id).into(), range_end: Vec::new() };
        let request = TxnRequest {
            compare: vec![Compare::absent(&key)],
            // The wish, if there was one, is fulfilled.
            success: vec![Request::Put(put).into(), Request::DeleteRange(wish).into()],
            failure: vec![Request::Range(RangeRequest { key: key.clone().into(), range_end: Vec::new() }).into()],
        };
        let answer = self.client.transact(&request).await?;
        // Who was too late sees it at the next look; as does he whose answer was lost.
        if answer.succeeded {
            let epoch = revision(answer.header.unwrap_or_default().revision);
            self.handle.ask(move |controller, now| controller.own(now, datapath_id, epoch)).await?;
        }
        Ok(())
    }

    /// Lets another controller have a switch: one that is not connected to this one, or that the other one is entitled to.
    async fn release(&self, datapath_id: u64, since: u64) -> Result<(), Trouble> {
        self.handle.ask(move |controller, now| controller.disown(now, datapath_id)).await?;
        let key = key(datapath_id);
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        let range = DeleteRangeRequest { key: key.clone().into(), range_end: Vec::new() };
        let request = TxnRequest {
            compare: vec![Compare::written_by(&key, since)],
            success: vec![Request::DeleteRange(range).into()],
            failure: Vec::new(),
        };
        self.client.transact(&request).await?;
        Ok(())
    }

    async fn now(&self) -> Result<Duration, Trouble> {
        Ok(self.handle.ask(|_, now| now).await?)
    }

    /// The lease was renewed not before `asked`.
    async fn lasts(&self, lease: Lease, asked: Duration) -> Result<(), Trouble> {
        let until = asked.saturating_add(lease.lasts);
        Ok(self.handle.ask(move |controller, _| controller.lease_lasts(until)).await?)
    }
}
