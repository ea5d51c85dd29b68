//! DeleteRecords: raises the log start of partitions, on every replica in sync.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::leadership::{Named, check_leader};
use super::{mirrors, settling};
use crate::broker::Broker;
use crate::broker::partitions::Table;
use crate::env::Timer;
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

/// What the owner of a log answers: where the log begins, on every replica in sync.
type Outcome = Result<Offset, ErrorCode>;

/// A deletion under way.
struct Asked {
    answer: oneshot::Receiver<Outcome>,
    /// No other broker has the partition: there is nobody to wait for.
    is_alone: bool,
}

pub async fn handle(broker: Arc<Broker>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut named = Vec::new();
    for topic in &request.topics {
        let all = topic.partitions.iter();
        named.extend(all.map(|wanted| (Named::Name(&topic.name), wanted.partition_index)));
    }
    settling::settle(&broker, &named).await;
    let table = broker.partitions.table();
    let within = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let mut timer = broker.env.clock.timer();
    timer.reset(broker.env.now().plus(within));
    // All are asked before any is waited for: they share the time.
    let mut asked = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let of = (&*topic.name, wanted.partition_index);
            let answer = ask(&broker, &table, of, wanted.offset).await;
            partitions.push((wanted.partition_index, answer));
        }
        asked.push((topic.name, partitions));
    }
    let mut topics = Vec::with_capacity(asked.len());
    for (name, asked) in asked {
        let mut partitions = Vec::with_capacity(asked.len());
        for (partition_index, answer) in asked {
            let outcome = match answer {
                Ok(asked) => outcome(asked, &mut *timer).await,
                Err(code) => Err(code),
            };
            let (low_watermark, code) = match outcome {
                Ok(start) => (start.0, ErrorCode::None),
                Err(code) => (-1, code),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index,
                low_watermark,
                error_code: code.code(),
                ..Default::default()
            });
        }
        topics.push(DeleteRecordsTopicResult {
            name,
            partitions,
            ..Default::default()
        });
    }
    DeleteRecordsResponse {
        topics,
        ..Default::default()
    }
}

/// Has the owner of a partition's log delete what lies before.
async fn ask(
    broker: &Broker,
    table: &Table,
    (topic, partition): (&str, i32),
    before: i64,
) -> Result<Asked, ErrorCode> {
    let found = table.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition);
    let found = found.and_then(|topic| Ok((topic, topic.find(partition)?)));
    let (image, named) = (broker.controller.image(), Named::Name(topic));
    let missing = |code| named.missing(&image, partition, code);
    let (hosted_topic, hosted) = found.map_err(missing)?;
    check_leader(&hosted.view, ANY_EPOCH)?;
    // A mirror begins where its source does.
    if mirrors::is_read_only(hosted_topic) {
        return Err(ErrorCode::PolicyViolation);
    }
    // Kafka's rule: records of a topic that is only compacted are not for deletion.
    if !hosted_topic.config.cleanup.delete && hosted_topic.config.cleanup.compact {
        return Err(ErrorCode::PolicyViolation);
    }
    let before = (before != HIGH_WATERMARK).then_some(Offset(before));
    let (reply, answer) = oneshot::channel();
    let command = Command::DeleteRecords {
        slot: hosted.slot,
        before,
        reply,
    };
    broker.partitions.shards()[hosted.shard].send(command).await;
    let state = named.state(&image, partition);
    Ok(Asked {
        answer,
        is_alone: state.is_none_or(|state| state.replicas.len() == 1),
    })
}

/// Waits for an answer until the time of the request is over, if others have a part in it.
async fn outcome(asked: Asked, timer: &mut dyn Timer) -> Outcome {
    let gone = Err(ErrorCode::NotLeaderOrFollower);
    if asked.is_alone {
        return asked.answer.await.unwrap_or(gone);
    }
    tokio::select! {
        biased;
        answer = asked.answer => answer.unwrap_or(gone),
        () = std::future::poll_fn(|cx| timer.poll_fired(cx)) => {
            tracing::trace!(target: "klamm::probe", name = "delete-records-timed-out");
            Err(ErrorCode::RequestTimedOut)
        }
    }
}
