//! Admin calls: topics, configs, groups, offsets, brokers, replicas, the quorum, links.
//!
//! Each call goes where it must (controller, leader, coordinator, or every broker) and is tried
//! again while its error may pass, for at most `default.api.timeout.ms`. Calls on several things
//! answer for each of them; the outer error says that nothing was learnt at all.
//!
//! A change whose answer was lost and that is tried again may find its own work done: creating
//! then answers `TOPIC_ALREADY_EXISTS`, deleting `UNKNOWN_TOPIC_OR_PARTITION`.

mod brokers;
mod configs;
pub(crate) mod group_offsets;
mod groups;
mod links;
mod offsets;
mod partitions;
mod placement;
mod quorum;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use brokers::{BrokerApis, ClusterDescription, LogDir, LogDirPartition};
pub use configs::{ConfigChange, ConfigEntry, ConfigResource, ResourceKind};
pub use group_offsets::CommittedOffset;
pub use groups::{GroupDescription, GroupListing, GroupMember};
pub use links::{
    LinkChange, LinkDescription, LinkSpec, Links, MirrorDescription, MirrorMakerSpec,
    MirrorProgress, MirrorTrouble,
};
pub use offsets::{FoundOffset, OffsetSpec};
pub use partitions::{EligibleReplicas, PartitionChange};
pub use placement::{ElectionKind, Reassignment};
pub use quorum::{QuorumDescription, QuorumEndpoint, QuorumMember};
pub use topics::{CreatedTopic, TopicSpec};

use super::cluster::Cluster;
use super::config::ClientConfig;
use super::error::{ApiError, ClientError};
use crate::env::Env;
use crate::types::TopicPartition;

/// Results by name, or by partition.
pub type Each<K, T> = BTreeMap<K, Result<T, ApiError>>;

/// Admin calls on one cluster. Cloning shares the connections.
#[derive(Clone)]
pub struct Admin {
    cluster: Cluster,
}

impl Admin {
    pub fn new(env: &Env, config: ClientConfig) -> Result<Self, ClientError> {
        Ok(Self::on(Cluster::new(env, config)?))
    }

    /// Admin calls over connections shared with other parts of this program.
    #[must_use]
    pub fn on(cluster: Cluster) -> Self {
        Self { cluster }
    }

    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The time-out brokers are asked to keep, in milliseconds.
    fn broker_timeout_ms(&self) -> i32 {
        let within = self.cluster.config().request_timeout;
        i32::try_from(within.as_millis()).unwrap_or(i32::MAX)
    }
}

/// Partitions by topic, in order.
pub(crate) fn by_topic(
    partitions: impl IntoIterator<Item = TopicPartition>,
) -> BTreeMap<Arc<str>, Vec<i32>> {
    let mut topics: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in partitions {
        topics.entry(topic).or_default().push(partition);
    }
    topics
}

/// Fails with the first error that may pass, so that the whole call is tried again.
fn first_retriable<'a, T: 'a>(
    what: &str,
    results: impl IntoIterator<Item = &'a Result<T, ApiError>>,
) -> Result<(), ClientError> {
    for result in results {
        if let Err(error) = result
            && error.code.is_retriable()
        {
            return Err(ClientError::refused(what, error.clone()));
        }
    }
    Ok(())
}
