//! Copies of another cluster's topics: what to ask of the source, what its answers mean, and what
//! of it goes into the log here. It decides; the broker carries out.
//!
//! The promise: a mirror partition holds the batches that the source had committed, at the offsets
//! they have there, from where its log began when the mirror was made, and nothing between two of
//! them was left out. Where that cannot go on, because the source lost, replaced or deleted
//! records before they were copied, copying stops with a [`Fault`] that says so.

mod bucket;
mod discovery;
mod groups;
mod mirror_maker;
mod partition;
mod plan;
mod status;

pub use bucket::TokenBucket;
pub use discovery::{Discovered, Here, Plan, Source, Step};
pub use groups::{GroupOffsets, OffsetHere, OffsetsHere, wanted_offsets};
pub use mirror_maker::{
    GroupPartition, Note, Translated, checkpoint, heartbeat, news, offset_sync,
};
pub use partition::{
    Answer, Asked, Bounds, Effect, Fault, MirrorPartition, Position, SourceSeen, Turn,
};
pub use plan::{FetchPlan, Limits, Sent, SourceTopic};
pub use status::{LinkStatus, MirrorStatus, MirrorStatuses};
