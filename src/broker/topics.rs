//! Topics that the broker itself makes, and what a topic's settings mean for its logs.

use std::sync::Arc;
use std::time::Duration;

use super::Broker;
use crate::config::{BrokerConfig, Durability, TimestampType, TopicConfig};
use crate::controller::{CreateTopics, MirrorImage, NewTopic};
use crate::log::{CleanupPolicy, LogConfig};
use crate::replication::WantedDurability;
use crate::types::{ErrorCode, Offset};
use crate::wire::batch;

/// A topic's settings as its logs take them.
#[must_use]
fn log_config(broker: &BrokerConfig, topic: &TopicConfig) -> LogConfig {
    LogConfig {
        segment_bytes: topic.segment_bytes,
        segment_ms: topic.segment_ms,
        segment_jitter_ms: topic.segment_jitter_ms,
        index_interval_bytes: topic.index_interval_bytes,
        recovery_point_interval_bytes: broker.recovery_point_interval_bytes,
        retention_ms: topic.retention_ms,
        retention_bytes: topic.retention_bytes,
        producers_since: None,
        copies_in_memory: broker.replication.rack_aware_reads,
        first_offset: Offset::ZERO,
        max_message_bytes: topic.max_message_bytes,
        cleanup: CleanupPolicy {
            delete: topic.cleanup.delete,
            compact: topic.cleanup.compact,
        },
        min_cleanable_dirty_ratio: topic.min_cleanable_dirty_ratio,
        delete_retention_ms: topic.delete_retention_ms,
        min_compaction_lag_ms: topic.min_compaction_lag_ms,
        max_compaction_lag_ms: topic.max_compaction_lag_ms,
        file_delete_delay_ms: topic.file_delete_delay_ms,
        message_timestamp_type: match topic.message_timestamp_type {
            TimestampType::CreateTime => batch::TimestampType::CreateTime,
            TimestampType::LogAppendTime => batch::TimestampType::LogAppendTime,
        },
        producer_id_expiration_ms: broker.topics.producer_id_expiration_ms,
    }
}

/// The settings of one partition of a topic that is, or was, a mirror as `mirror` says.
#[must_use]
pub fn partition_log_config(
    broker: &BrokerConfig,
    topic: &TopicConfig,
    mirror: Option<&MirrorImage>,
    partition: i32,
) -> LogConfig {
    let mut config = log_config(broker, topic);
    if let Some(mirror) = mirror {
        config.producers_since = mirror.topic.promoted_since(partition);
        if mirror.topic.is_read_only() {
            // The source decides when records go.
            (config.retention_ms, config.retention_bytes) = (None, None);
        }
        let known = mirror.partition(partition);
        if let Some((_, first)) = known.and_then(|known| known.lineage.first()) {
            config.first_offset = *first;
        }
    }
    config
}

/// When appends to the topic count as safe.
#[must_use]
pub fn durability(topic: &TopicConfig) -> WantedDurability {
    match topic.durability {
        Durability::Fsync => WantedDurability::Fsync,
        Durability::Replicated => WantedDurability::Replicated {
            flush_messages: topic.flush_messages,
            flush: match topic.flush_ms {
                i64::MAX => None,
                millis => Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0))),
            },
        },
    }
}

/// Makes topics that a client asked about and that do not exist.
pub async fn create_automatically(broker: &Arc<Broker>, names: &[&str]) {
    let mut topics = Vec::new();
    for name in names {
        if *name == crate::group::TOPIC {
            let _ = ensure_offsets_topic(broker).await;
        } else {
            topics.push(NewTopic::named(*name));
        }
    }
    if topics.is_empty() {
        return;
    }
    let wanted = CreateTopics {
        topics,
        validate_only: false,
    };
    match broker.controller.create_topics(wanted).await {
        Ok(outcomes) => {
            for (name, outcome) in outcomes {
                match outcome {
                    Ok(_) => tracing::info!(topic = %name, "created on a client's first use"),
                    Err(refusal) => tracing::debug!(topic = %name, %refusal, "not created"),
                }
            }
        }
        Err(error) => tracing::warn!(%error, "topics could not be created on first use"),
    }
}

/// Makes the topic that groups are kept in, unless it is there.
pub async fn ensure_offsets_topic(broker: &Arc<Broker>) -> Result<(), ErrorCode> {
    if broker
        .controller
        .image()
        .topic(crate::group::TOPIC)
        .is_some()
    {
        return Ok(());
    }
    let settings = &broker.config.offsets;
    let set = |key: &str, value: String| (key.to_owned(), Some(value));
    let topic = NewTopic {
        partitions: settings.topic_partitions,
        replication_factor: settings.topic_replication_factor,
        configs: vec![
            set("cleanup.policy", "compact".to_owned()),
            set("compression.type", "producer".to_owned()),
            set("segment.bytes", settings.topic_segment_bytes.to_string()),
        ],
        ..NewTopic::named(crate::group::TOPIC)
    };
    let wanted = CreateTopics {
        topics: vec![topic],
        validate_only: false,
    };
    let outcomes = broker
        .controller
        .create_topics(wanted)
        .await
        .map_err(|error| {
            tracing::warn!(%error, "the offsets topic could not be created");
            ErrorCode::CoordinatorNotAvailable
        })?;
    for (_, outcome) in outcomes {
        match outcome {
            Ok(_) => {}
            Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => {}
            Err(refusal) => {
                tracing::warn!(%refusal, "the offsets topic could not be created");
                return Err(ErrorCode::CoordinatorNotAvailable);
            }
        }
    }
    Ok(())
}
