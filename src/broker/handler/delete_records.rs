//! DeleteRecords: raises the log start of partitions.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::leadership::{Named, check_leader};
use super::settling;
use crate::broker::Broker;
use crate::broker::partitions::Table;
use crate::replication::Command;
use crate::types::{ErrorCode, Offset};
use crate::wire::message::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};

/// The request names no leader epoch.
const ANY_EPOCH: i32 = -1;

/// Stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

pub async fn handle(broker: Arc<Broker>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut named = Vec::new();
    for topic in &request.topics {
        let all = topic.partitions.iter();
        named.extend(all.map(|wanted| (Named::Name(&topic.name), wanted.partition_index)));
    }
    settling::settle(&broker, &named).await;
    let table = broker.partitions.table();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let deleted = delete(
                &broker,
                &table,
                &topic.name,
                wanted.partition_index,
                wanted.offset,
            );
            let (low_watermark, code) = match deleted.await {
                Ok(start) => (start.0, ErrorCode::None),
                Err(code) => (-1, code),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: wanted.partition_index,
                low_watermark,
                error_code: code.code(),
                ..Default::default()
            });
        }
        topics.push(DeleteRecordsTopicResult {
            name: topic.name,
            partitions,
            ..Default::default()
        });
    }
    DeleteRecordsResponse {
        topics,
        ..Default::default()
    }
}

async fn delete(
    broker: &Broker,
    table: &Table,
    topic: &str,
    partition: i32,
    before: i64,
) -> Result<Offset, ErrorCode> {
    let found = table.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition);
    let found = found.and_then(|topic| Ok((topic, topic.find(partition)?)));
    let (hosted_topic, hosted) = found.map_err(|code| {
        let image = broker.controller.image();
        Named::Name(topic).missing(&image, partition, code)
    })?;
    check_leader(&hosted.view, ANY_EPOCH)?;
    // Kafka's rule: records of a topic that is only compacted are not for deletion.
    if !hosted_topic.config.cleanup.delete && hosted_topic.config.cleanup.compact {
        return Err(ErrorCode::PolicyViolation);
    }
    let before = (before != HIGH_WATERMARK).then_some(Offset(before));
    let (reply, done) = oneshot::channel();
    let command = Command::DeleteRecords {
        slot: hosted.slot,
        before,
        reply,
    };
    broker.partitions.shards()[hosted.shard].send(command).await;
    done.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower))
}
