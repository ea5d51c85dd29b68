//! The consensus library's types, filled with this project's.

use std::fmt;

use bytes::Bytes;
use openraft::impls::OneshotResponder;
use openraft::impls::leader_id_std::LeaderId;
use openraft::vote::RaftLeaderId;

use super::runtime::EnvRuntime;
use crate::controller::local::format as batch_format;
use crate::controller::peers::Peer;
use crate::controller::record::MetadataRecord;
use crate::types::{BrokerId, Offset};
use crate::wire::EncodeError;

/// One leader in a term, as in the Raft paper.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Batch;
    type R = ();
    type NodeId = BrokerId;
    type Node = Peer;
    type Term = u64;
    type LeaderId = LeaderId<u64, BrokerId>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Batch, BrokerId, Peer>;
    type Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = EnvRuntime;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(super) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(super) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(super) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(super) type Payload = openraft::type_config::alias::PayloadOf<TypeConfig>;
pub(super) type Membership = openraft::Membership<BrokerId, Peer>;
pub(super) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(super) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
pub(super) type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, Bytes>;
pub(super) type Raft = openraft::Raft<TypeConfig, super::machine::StateMachine>;

/// Records that take effect together, in their binary form: a count, and each record after its
/// length (all 32 bits, big-endian).
#[derive(Clone, PartialEq, Eq)]
pub struct Batch(pub Bytes);

impl Batch {
    pub fn encode(records: &[MetadataRecord]) -> Result<Self, EncodeError> {
        batch_format::encode_body(records).map(Self)
    }

    pub fn decode(&self) -> Result<Vec<MetadataRecord>, String> {
        batch_format::decode_body(self.0.clone())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.id, self.host, self.port)
    }
}

/// The offset after the entry `index`.
pub(super) fn offset_after(index: u64) -> Offset {
    Offset(i64::try_from(index).map_or(i64::MAX, |index| index.saturating_add(1)))
}

/// The offset after the entry of this id; 0 without one.
pub(super) fn end_of(log_id: Option<&LogId>) -> Offset {
    log_id.map_or(Offset::ZERO, |id| offset_after(id.index))
}
