//! Calls to a cluster: one node after the other, until one answers.

use std::{
    future::Future,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use prost::Message;
use tokio_stream::{StreamExt as _, once, pending};
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use tonic_prost::ProstCodec;

use super::message::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse, Nothing, TxnRequest, TxnResponse,
    WatchRequest, WatchResponse,
};
use crate::store::StoreError;

/// Longest time for one answer of one node. A node without a leader answers nothing; its neighbours may.
const PATIENCE: Duration = Duration::from_millis(700);
/// The same for what writes to discs or reads everything.
const MUCH_PATIENCE: Duration = Duration::from_secs(5);
/// How often a silent connection is tested. etcd closes those of clients that do so more often than every 5 s.
const KEEP_ALIVE: Duration = Duration::from_secs(6);
/// Longest answer: desired state as a whole.
const MAX_ANSWER: usize = 1 << 30;
/// Each node is asked so often before a call is given up.
const ROUNDS: usize = 4;
/// Pause between two rounds.
const PAUSE: Duration = Duration::from_millis(200);

/// The way to a cluster.
#[derive(Debug)]
pub struct Client {
    nodes: Vec<(String, Channel)>,
    /// The node that answered last.
    current: AtomicUsize,
}

impl Client {
    /// A client of the cluster with these nodes, each `host:port`. Nobody is connected to yet.
    ///
    /// # Errors
    /// A name is not one, or a certificate cannot be used.
    pub fn new(nodes: &[String], tls: Option<&ClientTlsConfig>) -> Result<Self, StoreError> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let node = |name: &String| {
            let endpoint = Endpoint::from_shared(format!("{scheme}://{name}")).map_err(|error| {
                StoreError::Unusable(format!(
                    "{name:?} is not the address of an etcd node ({error}): write HOST:PORT"
                ))
            })?;
            let endpoint = match tls.cloned() {
                Some(tls) => endpoint.tls_config(tls).map_err(|error| {
                    StoreError::Unusable(format!("the certificates for the etcd cluster cannot be used: {error:?}"))
                })?,
                None => endpoint,
            };
            let endpoint = endpoint
                .connect_timeout(PATIENCE)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(PATIENCE)
                .keep_alive_while_idle(true)
                .tcp_nodelay(true);
            Ok((name.clone(), endpoint.connect_lazy()))
        };
        let nodes = nodes.iter().map(node).collect::<Result<_, StoreError>>()?;
        Ok(Self { nodes, current: AtomicUsize::new(0) })
    }

    /// Reads and writes. A transaction whose answer was lost is sent again: it must be one that does no harm twice.
    ///
    /// # Errors
    /// No node answers.
    pub async fn transact(&self, request: &TxnRequest) -> Result<TxnResponse, StoreError> {
        self.call("/etcdserverpb.KV/Txn", request, PATIENCE).await
    }

    /// The same for a transaction that is large, or reads much.
    ///
    /// # Errors
    /// No node answers.
    pub async fn transact_much(&self, request: &TxnRequest) -> Result<TxnResponse, StoreError> {
        self.call("/etcdserverpb.KV/Txn", request, MUCH_PATIENCE).await
    }

    /// Asks for a lease.
    ///
    /// # Errors
    /// No node answers.
    pub async fn grant(&self, seconds: i64) -> Result<LeaseGrantResponse, StoreError> {
        self.call("/etcdserverpb.Lease/LeaseGrant", &LeaseGrantRequest { ttl: seconds }, PATIENCE).await
    }

    /// Ends a lease, and with it every key that was put under it.
    ///
    /// # Errors
    /// No node answers, or there is no such lease.
    pub async fn revoke(&self, lease: i64) -> Result<Nothing, StoreError> {
        self.call("/etcdserverpb.Lease/LeaseRevoke", &LeaseId { id: lease }, PATIENCE).await
    }

    /// Lets a lease begin anew. Returns the seconds that it has now; 0: it was over.
    ///
    /// # Errors
    /// No node answers.
    pub async fn keep_alive(&self, lease: i64) -> Result<i64, StoreError> {
        let request = LeaseId { id: lease };
        let mut answers: Streaming<LeaseKeepAliveResponse> =
            self.stream("/etcdserverpb.Lease/LeaseKeepAlive", &request).await?;
        let answer = tokio::time::timeout(PATIENCE, answers.message()).await;
        match answer {
            Ok(Ok(Some(answer))) => Ok(answer.ttl),
            Ok(Ok(None)) => Err(self.moved_on("the answer ended early")),
            Ok(Err(status)) => Err(self.moved_on(status.message())),
            Err(_) => Err(self.moved_on("no answer in time")),
        }
    }

    /// Begins to watch.
    ///
    /// # Errors
    /// No node answers.
    pub async fn watch(&self, request: &WatchRequest) -> Result<Streaming<WatchResponse>, StoreError> {
        self.stream("/etcdserverpb.Watch/Watch", request).await
    }

    /// The node that was asked last is not asked first any more. Returns what to say about it.
    pub fn moved_on(&self, why: &str) -> StoreError {
        let (at, name) = self.node();
        self.leave(at);
        StoreError::Unusable(format!("the etcd node {name}: {why}"))
    }

    async fn call<Q, A>(&self, path: &'static str, request: &Q, patience: Duration) -> Result<A, StoreError>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        self.try_all(patience, |mut grpc| {
            let request = Request::new(request.clone());
            async move {
                let codec = ProstCodec::<Q, A>::default();
                let answer = grpc.unary(request, PathAndQuery::from_static(path), codec).await?;
                Ok(answer.into_inner())
            }
        })
        .await
    }

    async fn stream<Q, A>(&self, path: &'static str, request: &Q) -> Result<Streaming<A>, StoreError>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        self.try_all(PATIENCE, |mut grpc| {
            // The stream of requests stays open, and with it the stream of answers.
            let requests = Request::new(once(request.clone()).chain(pending()));
            async move {
                let codec = ProstCodec::<Q, A>::default();
                let answers = grpc.streaming(requests, PathAndQuery::from_static(path), codec).await?;
                Ok(answers.into_inner())
            }
        })
        .await
    }

    /// Does it with the node that answered last, or the next one, and so on.
    async fn try_all<A, F>(&self, patience: Duration, call: impl Fn(Grpc<Channel>) -> F) -> Result<A, StoreError>
    where
        F: Future<Output = Result<A, Status>>,
    {
        let mut complaints = Vec::new();
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            for _ in 0..self.nodes.len() {
                let (at, name) = self.node();
                let Some((_, channel)) = self.nodes.get(at) else { continue };
                let attempt = async {
                    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(MAX_ANSWER);
                    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
                    call(grpc).await
                };
                let why = match tokio::time::timeout(patience, attempt).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(status)) if is_final(status.code()) => {
                        return Err(StoreError::Unusable(format!(
                            "the etcd cluster refuses: {}",
                            status.message()
                        )));
                    }
                    Ok(Err(status)) => status.message().to_owned(),
                    Err(_) => format!("no answer within {patience:?}"),
                };
                if round == 0 {
                    complaints.push(format!("{name}: {why}"));
                }
                self.leave(at);
            }
        }
        Err(StoreError::Unusable(format!(
            "no node of the etcd cluster answers ({}): are most of its nodes up, and reachable from here?",
            complaints.join("; ")
        )))
    }

    fn node(&self) -> (usize, &str) {
        let at = self.current.load(Ordering::Relaxed);
        (at, self.nodes.get(at).map_or("", |(name, _)| name))
    }

    fn leave(&self, at: usize) {
        let next = if at + 1 < self.nodes.len() { at + 1 } else { 0 };
        // If another call has left it already, the node that it chose is as good.
        let _ = self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Whether another node, or a later time, would say the same.
const fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::FailedPrecondition
    )
}
