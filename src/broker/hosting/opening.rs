//! Opens or makes the log of one partition, and hands it to a shard.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dirs::set_aside;
use crate::broker::partitions::Hosted;
use crate::broker::{Broker, topics};
use crate::config::TopicConfig;
use crate::controller::PartitionState;
use crate::log::{CleanEnd, Log, LogError, LogIdentity, OpenOptions};
use crate::replication::Past;
use crate::types::{BrokerId, Offset, TopicId, TopicPartition};

/// A partition to host.
pub(super) struct Wanted {
    pub topic_partition: TopicPartition,
    pub topic_id: TopicId,
    pub state: Arc<PartitionState>,
    pub config: Arc<TopicConfig>,
}

/// How one partition is to be opened.
pub(super) struct Plan {
    pub wanted: Wanted,
    pub dir: PathBuf,
    pub exists: bool,
    /// Whether a log of this very partition was here, and others were told so.
    pub registered: bool,
    pub clean: Option<CleanEnd>,
    /// The one last checkpointed.
    pub high_watermark: Option<Offset>,
}

/// Why a partition cannot be hosted.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostError {
    #[error(
        "its log was here and is gone from {}: restore the directory, or delete the topic", .0.display()
    )]
    Lost(PathBuf),
    #[error("{0}")]
    Log(#[from] LogError),
    #[error("the broker is shutting down")]
    Stopping,
}

pub(super) async fn open(broker: Arc<Broker>, plan: Plan) -> (i32, Result<Hosted, HostError>) {
    (
        plan.wanted.topic_partition.partition,
        try_open(&broker, plan).await,
    )
}

async fn try_open(broker: &Arc<Broker>, plan: Plan) -> Result<Hosted, HostError> {
    let Plan {
        wanted,
        dir,
        exists,
        registered,
        clean,
        high_watermark,
    } = plan;
    let me = broker.config.node_id;
    if registered && !exists && !may_copy_anew(me, &wanted.state) {
        return Err(HostError::Lost(dir));
    }
    let topic_partition = wanted.topic_partition;
    let options = OpenOptions {
        identity: LogIdentity {
            topic_id: wanted.topic_id,
            topic_partition: topic_partition.clone(),
        },
        config: topics::log_config(&broker.config, &wanted.config),
        clean,
        tail_cache: broker.tail_cache.clone(),
    };
    let log = match exists {
        true => reopen(broker, &dir, options, registered).await?,
        false => Log::create(&broker.env, &dir, options).await?,
    };
    let durability = topics::durability(&wanted.config);
    let past = Past {
        high_watermark,
        is_new: !exists && !registered,
    };
    let assignment = super::assignment(me, &wanted.state, &wanted.config);
    let hosted = broker
        .partitions
        .host(topic_partition, dir, log, assignment, durability, past)
        .await;
    hosted.ok_or(HostError::Stopping)
}

/// Whether a log that was lost may be made anew: nobody counts on what was in it, and another
/// broker has all of it.
fn may_copy_anew(me: BrokerId, state: &PartitionState) -> bool {
    let counted = [&state.isr, &state.elr, &state.last_known_elr];
    let is_led_elsewhere = state.leader.is_some_and(|leader| leader != me);
    let may = is_led_elsewhere && counted.iter().all(|brokers| !brokers.contains(&me));
    if may {
        tracing::trace!(target: "klamm::probe", name = "lost-log-copied-anew");
    }
    may
}

/// Opens a log that was found. One of another topic is that of an earlier topic of this name, which
/// was deleted when the broker ended, and one of none was being made; unless a log of this very
/// topic was there before: then it is damaged, and never put aside for an empty log.
async fn reopen(
    broker: &Broker,
    dir: &Path,
    options: OpenOptions,
    registered: bool,
) -> Result<Log, LogError> {
    let partition = options.identity.topic_partition.clone();
    match Log::open(&broker.env, dir, options.clone()).await {
        Ok((log, recovery)) => {
            if let Some(cut) = &recovery.cut {
                tracing::warn!(%partition, ?cut, "an unsynced tail was cut off");
            }
            Ok(log)
        }
        Err(LogError::AnotherTopic { .. } | LogError::Foreign { .. }) if !registered => {
            set_aside(broker, dir).await;
            Log::create(&broker.env, dir, options).await
        }
        Err(error) => Err(error),
    }
}
