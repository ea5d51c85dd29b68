//! What the controller needs of whatever keeps its records: the seam between the metadata and
//! the consensus beneath it.

use super::image::ClusterImage;
use super::record::MetadataRecord;
use crate::env::BoxFuture;
use crate::types::{BrokerId, Offset};

/// What a quorum hands back, in one order on every node.
#[derive(Clone, PartialEq, Debug)]
pub enum Committed {
    /// The state up to `end` as records, in place of everything before. First, or when this node
    /// fell too far behind.
    Snapshot {
        end: Offset,
        records: Vec<MetadataRecord>,
    },
    /// Records that take effect together; `end` is the offset after the last. Ends only grow.
    Batch {
        end: Offset,
        records: Vec<MetadataRecord>,
    },
    /// Who leads from here on. When it is this node, every batch of earlier leaders was handed
    /// back before.
    Leader { leader: Option<BrokerId>, term: u64 },
}

/// Why a batch was not accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Not written, and never will be.
    #[error("this node is not the active controller")]
    NotController { leader: Option<BrokerId> },
    /// Not written, and never will be; later batches may be.
    #[error("the metadata log refused the records: {0}")]
    Refused(String),
    /// May or may not take effect, and if so before this node leads in a later term.
    #[error("the metadata log did not accept the records: {0}")]
    Unavailable(String),
}

/// Keeps batches of records, durable and agreed.
pub trait Quorum: Send + 'static {
    /// Asks for `records` to become the next batch, whole or not at all, if this node still leads
    /// in the term in which `next_committed` last said so. Succeeds, with the batch's end, once it
    /// is committed: it is then handed back by `next_committed`, on this node too. Has no end while
    /// nobody knows what becomes of the batch; dropping the future cancels nothing.
    fn propose(
        &self,
        records: Vec<MetadataRecord>,
    ) -> BoxFuture<'static, Result<Offset, ProposeError>>;

    /// What was committed next. The first calls hand back what was kept from earlier runs. May be
    /// dropped and called again without loss. An error is final: the node's metadata cannot be
    /// trusted to go on.
    fn next_committed(&mut self) -> BoxFuture<'_, Result<Committed, String>>;

    /// Says that everything up to `image.end()` was replayed, so that a snapshot may be kept and
    /// what precedes it dropped.
    fn applied<'a>(&'a mut self, image: &'a ClusterImage) -> BoxFuture<'a, Result<(), String>>;
}
