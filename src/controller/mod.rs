//! The cluster's metadata: what topics, partitions, brokers and settings there are.
//!
//! - [`MetadataRecord`]: the vocabulary, with a published binary form (`docs/metadata-records.md`).
//! - [`ClusterImage`]: the state, built by replaying committed records and by nothing else;
//!   [`ImageDelta`] says what a batch changed.
//! - [`ControllerLedger`]: pure: a request and the image in, records and an answer out.
//! - [`Quorum`]: makes batches of records durable and agreed, and hands them back in order.
//!   [`LocalQuorum`] is a quorum of one.
//! - [`Controller`]: the handle on the task that drives all this: handle, propose, replay, publish
//!   the image, tell the broker, answer. In a cluster only the task of the node that leads the
//!   quorum handles requests; the handles of the others [`Forward`] theirs to it.
//!
//! **Promises.** An answer goes out only after its records are durable, and replayed and carried
//! out on the node that is asked (but for a broker's own traffic, which does not wait for what it
//! is still carrying out). Topic ids, producer ids and broker epochs are never given twice, and
//! the epochs of a partition only grow. An image from a snapshot and the records after it equals
//! the image from all records.

mod announcer;
mod asking;
mod calls;
mod delta;
mod driver;
mod duties;
mod election;
mod forward;
mod handle;
mod image;
mod ledger;
mod link;
mod liveness;
mod local;
mod next_state;
mod peers;
mod placement;
mod quorum;
mod raft;
mod record;
mod request;
mod sorted;
#[cfg(test)]
mod tests;
mod topic_name;

pub use delta::{ImageDelta, PartitionChanges, TopicDelta};
pub use driver::{ControllerError, ControllerTask, ImageUpdate};
pub use forward::Forward;
pub use handle::Controller;
pub use image::{ClusterImage, HISTORY_MAX, MirrorImage, ReplayError, TopicImage};
pub use ledger::{ControllerLedger, Situation};
pub use link::{
    LinkId, LinkMode, LinkRecord, MirrorFault, MirrorMaker, MirrorPartition, MirrorState,
    MirrorTopic, PROVENANCE, ReplicationPolicy, is_mirrored_setting, pattern_matches,
    validate_link_name,
};
pub use local::{LocalQuorum, LocalQuorumError};
pub use peers::{Peer, PeerError, PeerService, Peers};
pub use quorum::{Committed, ProposeError, Quorum};
pub use raft::{
    QUESTION_BYTES_MAX, QuorumDescription, RAFT_QUESTION, RaftError, RaftHandle, RaftOpenError,
    RaftOptions, RaftQuorum, RaftState, ReplicaDescription,
};
pub use record::{
    BrokerEndpoint, BrokerRecord, Cause, ConfigResource, MetadataRecord, PartitionEvent,
    PartitionRecord, PartitionState, RecordError, ResourceType,
};
pub use request::{
    AlterConfigs, AlterLink, AlterOperation, AlterPartition, AlterReassignments, BrokerHeartbeat,
    ConfigChange, CreateLink, CreatePartitions, CreateTopics, CreatedTopic, DeleteLink,
    DeleteTopics, DeletedTopic, ElectLeaders, ElectionKind, EnterEpoch, EpochEntered, FailMirror,
    HeartbeatReply, IncrementalAlterConfigs, IsrChange, IsrChanged, LearnSource, LinkChange,
    MorePartitions, NewLink, NewMirror, NewSetting, NewTopic, PartitionResult, ProducerIdBlock,
    PromoteMirrors, PromotedMirror, Refusal, RegisterBroker, Reply, Request, TopicSelector,
};
pub use topic_name::{INTERNAL_TOPICS, is_internal_topic, validate_topic_name};
