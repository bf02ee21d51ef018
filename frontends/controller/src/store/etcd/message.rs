//! The messages of etcd's API, version 3, as far as they are used here (`etcd/api/etcdserverpb/rpc.proto` and
//! `mvccpb/kv.proto` of etcd 3.4; the numbers are the protocol). They are written down instead of generated, so that
//! nobody who builds this needs a protobuf compiler.

use prost::Message;

/// What every answer begins with.
#[derive(Clone, PartialEq, Message)]
pub struct Header {
    /// The store's revision when the answer was made.
    #[prost(int64, tag = "3")]
    pub revision: i64,
}

/// One key.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// The key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// The revision that made it.
    #[prost(int64, tag = "2")]
    pub create_revision: i64,
    /// The revision that wrote it last.
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    /// Its value.
    #[prost(bytes = "vec", tag = "5")]
    pub value: Vec<u8>,
}

/// `RangeRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct RangeRequest {
    /// First key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// First key that does not belong any more; empty: only `key`.
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
}

/// `RangeResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct RangeResponse {
    /// Header.
    #[prost(message, optional, tag = "1")]
    pub header: Option<Header>,
    /// The keys that there are.
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<KeyValue>,
}

/// `PutRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct PutRequest {
    /// The key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// Its value.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
    /// The lease that it ends with; 0: none.
    #[prost(int64, tag = "3")]
    pub lease: i64,
}

/// `DeleteRangeRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteRangeRequest {
    /// The key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// As in [`RangeRequest`].
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
}

/// `RequestOp`.
#[derive(Clone, PartialEq, Message)]
pub struct RequestOp {
    /// What is to be done.
    #[prost(oneof = "Request", tags = "1, 2, 3")]
    pub request: Option<Request>,
}

/// What a [`RequestOp`] does.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Request {
    /// Read.
    #[prost(message, tag = "1")]
    Range(RangeRequest),
    /// Write.
    #[prost(message, tag = "2")]
    Put(PutRequest),
    /// Remove.
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRangeRequest),
}

impl From<Request> for RequestOp {
    fn from(request: Request) -> Self {
        Self { request: Some(request) }
    }
}

/// `ResponseOp`, of which only reads are of interest.
#[derive(Clone, PartialEq, Message)]
pub struct ResponseOp {
    /// What was read.
    #[prost(message, optional, tag = "1")]
    pub range: Option<RangeResponse>,
}

/// `Compare`: the revision that wrote, or made, a key; 0 if it is not there.
#[derive(Clone, PartialEq, Message)]
pub struct Compare {
    /// 0: equal.
    #[prost(int32, tag = "1")]
    pub result: i32,
    /// [`Compare::CREATED`] or [`Compare::MODIFIED`].
    #[prost(int32, tag = "2")]
    pub target: i32,
    /// The key.
    #[prost(bytes = "vec", tag = "3")]
    pub key: Vec<u8>,
    /// For [`Compare::CREATED`].
    #[prost(int64, optional, tag = "5")]
    pub create_revision: Option<i64>,
    /// For [`Compare::MODIFIED`].
    #[prost(int64, optional, tag = "6")]
    pub mod_revision: Option<i64>,
}

impl Compare {
    /// Compares the revision that made the key.
    pub const CREATED: i32 = 1;
    /// Compares the revision that wrote the key last.
    pub const MODIFIED: i32 = 2;

    /// The key is not there.
    pub fn absent(key: &str) -> Self {
        Self { target: Self::CREATED, key: key.into(), create_revision: Some(0), ..Self::default() }
    }

    /// The key was made by this revision, and was there ever since.
    pub fn made_by(key: &str, revision: i64) -> Self {
        Self { target: Self::CREATED, key: key.into(), create_revision: Some(revision), ..Self::default() }
    }

    /// The key was last written by this revision; 0: it is not there.
    pub fn written_by(key: &str, revision: i64) -> Self {
        Self { target: Self::MODIFIED, key: key.into(), mod_revision: Some(revision), ..Self::default() }
    }
}

/// `TxnRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct TxnRequest {
    /// If all of these hold ...
    #[prost(message, repeated, tag = "1")]
    pub compare: Vec<Compare>,
    /// ... these are done, ...
    #[prost(message, repeated, tag = "2")]
    pub success: Vec<RequestOp>,
    /// ... else these.
    #[prost(message, repeated, tag = "3")]
    pub failure: Vec<RequestOp>,
}

/// `TxnResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct TxnResponse {
    /// Header.
    #[prost(message, optional, tag = "1")]
    pub header: Option<Header>,
    /// Whether all comparisons held.
    #[prost(bool, tag = "2")]
    pub succeeded: bool,
    /// What the operations gave.
    #[prost(message, repeated, tag = "3")]
    pub responses: Vec<ResponseOp>,
}

/// `WatchRequest` with a `WatchCreateRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct WatchRequest {
    /// What is to be watched.
    #[prost(message, optional, tag = "1")]
    pub create: Option<WatchCreateRequest>,
}

/// `WatchCreateRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct WatchCreateRequest {
    /// First key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// As in [`RangeRequest`].
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
    /// First revision that is of interest.
    #[prost(int64, tag = "3")]
    pub start_revision: i64,
    /// Whether a quiet watch is told the revision now and then.
    #[prost(bool, tag = "4")]
    pub progress_notify: bool,
}

/// `WatchResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct WatchResponse {
    /// Header.
    #[prost(message, optional, tag = "1")]
    pub header: Option<Header>,
    /// The watch is over.
    #[prost(bool, tag = "4")]
    pub canceled: bool,
    /// Not 0: what was asked for was compacted away up to here.
    #[prost(int64, tag = "5")]
    pub compact_revision: i64,
    /// What has happened.
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<Event>,
}

/// `Event`.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// 0: written, 1: removed.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// The key; of a removed one, its name and the revision that removed it.
    #[prost(message, optional, tag = "2")]
    pub kv: Option<KeyValue>,
}

impl Event {
    /// The key was removed.
    pub const REMOVED: i32 = 1;
}

/// `LeaseGrantRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct LeaseGrantRequest {
    /// Seconds.
    #[prost(int64, tag = "1")]
    pub ttl: i64,
}

/// `LeaseGrantResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct LeaseGrantResponse {
    /// The lease.
    #[prost(int64, tag = "2")]
    pub id: i64,
    /// Seconds.
    #[prost(int64, tag = "3")]
    pub ttl: i64,
}

/// `LeaseKeepAliveRequest` and `LeaseRevokeRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct LeaseId {
    /// The lease.
    #[prost(int64, tag = "1")]
    pub id: i64,
}

/// `LeaseKeepAliveResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct LeaseKeepAliveResponse {
    /// The lease.
    #[prost(int64, tag = "2")]
    pub id: i64,
    /// Seconds that are left; 0: it is over.
    #[prost(int64, tag = "3")]
    pub ttl: i64,
}

/// `LeaseRevokeResponse` and other answers of no interest.
#[derive(Clone, PartialEq, Message)]
pub struct Nothing {}
