//! Produce: batches go to the logs of their partitions; the answer waits for what `acks` asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::leadership::{Leaders, Named};
use super::{Answer, Handling, RequestContext, mirrors, settling};
use crate::broker::partitions::{Hosted, HostedTopic, Table};
use crate::broker::{Broker, acceptance};
use crate::replication::{AppendItem, AppendOutcome, AppendRefused, Command, WantedAcks};
use crate::types::{ErrorCode, Offset, Timestamp};
use crate::wire::batch::RecordBatch;
use crate::wire::message::produce::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData, TopicProduceResponse,
};
use crate::wire::primitive::Records;

/// First version that names topics by id.
const TOPIC_ID_SINCE: i16 = 13;

/// Batches up to this size are copied out of the receive buffer, so that a small batch kept in the
/// tail cache does not keep a large buffer alive.
const COPY_BYTES_MAX: usize = 8 << 10;

/// Where the outcome of an item belongs in the response: topic, partition.
type Place = (usize, usize);

/// The items of one request, by shard.
#[derive(Default)]
struct Split {
    items: BTreeMap<usize, (Vec<AppendItem>, Vec<Place>)>,
    response: ProduceResponse,
    failed: bool,
}

/// Hands the batches to their shards, in order, before it returns; the answer follows.
pub async fn start(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: ProduceRequest,
) -> Handling {
    let acks = request.acks;
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    settle(broker, context, &request).await;
    let mut split = split(broker, context, request);
    let budget = Arc::new(reserve(broker, &split).await);
    let mut waiting = Vec::new();
    let mut response = split.response;
    for (shard, (mut items, places)) in std::mem::take(&mut split.items) {
        for item in &mut items {
            item.budget = Some(budget.clone());
        }
        let (reply, outcomes) = oneshot::channel();
        let reply = (acks != 0).then_some(reply);
        broker.partitions.shards()[shard]
            .send(Command::Append { items, reply })
            .await;
        waiting.push((places, outcomes));
    }
    if acks == 0 {
        let answer = split.failed.then_some(Answer::CloseConnection);
        return Handling::pipelined(async move { answer });
    }
    let (broker, context) = (broker.clone(), context.clone());
    Handling::pipelined(async move {
        let env = &broker.env;
        let deadline = env.now().plus(timeout);
        for (places, outcomes) in waiting {
            let left = deadline.since(env.now());
            let outcomes = env.timeout(left, outcomes).await;
            fill(
                &mut response,
                &places,
                outcomes.map_err(|_| ErrorCode::RequestTimedOut),
            );
        }
        name_leaders(&broker, &context, &mut response);
        Some(Answer::Response(response.into()))
    })
}

async fn settle(broker: &Arc<Broker>, context: &RequestContext, request: &ProduceRequest) {
    let mut partitions = Vec::new();
    for topic in &request.topic_data {
        let named = Named::of(context.version, TOPIC_ID_SINCE, &topic.name, topic.topic_id);
        let all = topic.partition_data.iter().map(|data| (named, data.index));
        partitions.extend(all);
    }
    settling::settle(broker, &partitions).await;
}

/// Tells who leads what this broker does not (KIP-951).
fn name_leaders(broker: &Broker, context: &RequestContext, response: &mut ProduceResponse) {
    let mut leaders = Leaders::default();
    for topic in &mut response.responses {
        let named = Named::of(context.version, TOPIC_ID_SINCE, &topic.name, topic.topic_id);
        for slot in &mut topic.partition_responses {
            let code = ErrorCode::from_wire(slot.error_code).unwrap_or(ErrorCode::None);
            if let Some((leader, epoch)) = leaders.name(broker, context, (named, slot.index), code)
            {
                slot.current_leader = LeaderIdAndEpoch {
                    leader_id: leader.0,
                    leader_epoch: epoch.0,
                    ..Default::default()
                };
            }
        }
    }
    let endpoints = leaders.into_endpoints().map(|endpoint| NodeEndpoint {
        node_id: endpoint.id.0,
        host: endpoint.host.into(),
        port: endpoint.port,
        rack: endpoint.rack.map(Into::into),
        ..Default::default()
    });
    response.node_endpoints = endpoints.collect();
}

/// Waits until the batches fit the memory that batches on their way to the disk may take; until
/// then the connection is not read further.
async fn reserve(broker: &Broker, split: &Split) -> OwnedSemaphorePermit {
    let items = split.items.values().flat_map(|(items, _)| items);
    let bytes: usize = items.map(|item| item.batch.total_bytes()).sum();
    let kib = u32::try_from(bytes.div_ceil(1024))
        .unwrap_or(u32::MAX)
        .min(broker.config.network.queued_max_kib);
    let permit = broker.produce_memory.clone().acquire_many_owned(kib).await;
    permit.expect("the semaphore is never closed")
}

fn split(broker: &Broker, context: &RequestContext, request: ProduceRequest) -> Split {
    let table = broker.partitions.table();
    let image = broker.controller.image();
    let transactional = request.transactional_id.is_some();
    let acks = match request.acks {
        -1 => WantedAcks::InSync,
        _ => WantedAcks::Leader,
    };
    let mut split = Split::default();
    for (topic_at, data) in request.topic_data.into_iter().enumerate() {
        let mut answer = TopicProduceResponse {
            // A copy: the answer may wait for replicas, and is not to keep the whole request.
            name: data.name.detached(),
            topic_id: data.topic_id,
            ..Default::default()
        };
        let topic = find_topic(&table, context.version, &data);
        for (partition_at, partition) in data.partition_data.iter().enumerate() {
            let records = partition.records.as_ref().map(Records::contiguous);
            let records = records.unwrap_or_default();
            let missing = |code| {
                let named = Named::of(context.version, TOPIC_ID_SINCE, &data.name, data.topic_id);
                named.missing(&image, partition.index, code)
            };
            let accepted = locate(topic, partition.index, missing).and_then(|(topic, hosted)| {
                if transactional {
                    return Err(refused(ErrorCode::InvalidTxnState, NO_TRANSACTIONS));
                }
                if mirrors::is_read_only(topic) {
                    let refusal = mirrors::refuse(&image, &topic.name);
                    return Err(refused(refusal.code, refusal.text));
                }
                let batch = accept(broker, context, topic, request.acks, records)?;
                Ok((hosted, batch))
            });
            let mut slot = PartitionProduceResponse {
                index: partition.index,
                ..Default::default()
            };
            match accepted {
                Ok((hosted, batch)) => {
                    let (items, places) = split.items.entry(hosted.shard).or_default();
                    if let Ok(topic) = topic {
                        topic
                            .counters
                            .produced(batch.header.record_count, batch.total_bytes());
                    }
                    items.push(AppendItem {
                        slot: hosted.slot,
                        batch,
                        acks,
                        budget: None,
                    });
                    places.push((topic_at, partition_at));
                }
                Err(error) => {
                    split.failed = true;
                    if let Ok(topic) = topic {
                        topic.counters.produce_failed();
                    }
                    refuse(&mut slot, &error);
                }
            }
            answer.partition_responses.push(slot);
        }
        split.response.responses.push(answer);
    }
    split
}

const NO_TRANSACTIONS: &str =
    "transactions are not supported yet: produce without a transactional.id";

fn refused(code: ErrorCode, reason: impl Into<String>) -> AppendRefused {
    AppendRefused {
        code,
        reason: reason.into(),
    }
}

type Found<'a> = Result<&'a Arc<HostedTopic>, ErrorCode>;

fn find_topic<'a>(table: &'a Table, version: i16, data: &TopicProduceData) -> Found<'a> {
    if version >= TOPIC_ID_SINCE {
        return table
            .topic_by_id(data.topic_id)
            .ok_or(ErrorCode::UnknownTopicId);
    }
    table
        .topic(&data.name)
        .ok_or(ErrorCode::UnknownTopicOrPartition)
}

fn locate<'a>(
    topic: Found<'a>,
    partition: i32,
    missing: impl Fn(ErrorCode) -> ErrorCode,
) -> Result<(&'a Arc<HostedTopic>, &'a Hosted), AppendRefused> {
    let not_here = |code| refused(missing(code), "this broker does not host the topic");
    let topic = topic.map_err(not_here)?;
    match topic.find(partition) {
        Ok(hosted) if hosted.view.is_leader() => Ok((topic, hosted)),
        Ok(_) => Err(refused(
            ErrorCode::NotLeaderOrFollower,
            format!(
                "another broker leads partition {partition} of '{}'",
                topic.name
            ),
        )),
        Err(code) => Err(refused(
            missing(code),
            format!("topic '{}' has no partition {partition} here", topic.name),
        )),
    }
}

/// Checks a batch before it may touch a log.
fn accept(
    broker: &Broker,
    context: &RequestContext,
    topic: &HostedTopic,
    acks: i16,
    records: Bytes,
) -> Result<RecordBatch, AppendRefused> {
    acceptance::check_acks(acks)?;
    if topic.name.as_ref() == crate::group::TOPIC {
        return Err(refused(
            ErrorCode::InvalidTopicException,
            format!("'{}' is written by the group coordinator only", topic.name),
        ));
    }
    let records = match records.len() {
        small if small <= COPY_BYTES_MAX => Bytes::copy_from_slice(&records),
        _ => records,
    };
    acceptance::check_batch(records, &topic.config, context.version, broker.env.wall())
}

fn fill(
    response: &mut ProduceResponse,
    places: &[Place],
    outcomes: Result<Result<Vec<AppendOutcome>, oneshot::error::RecvError>, ErrorCode>,
) {
    let outcomes = match outcomes {
        Ok(Ok(outcomes)) => outcomes,
        Ok(Err(_)) => vec![Err(gone()); places.len()],
        Err(code) => {
            tracing::trace!(target: "klamm::probe", name = "produce-timed-out");
            vec![Err(refused(code, "the batch may or may not be stored")); places.len()]
        }
    };
    for ((topic, partition), outcome) in places.iter().zip(outcomes) {
        let slot = &mut response.responses[*topic].partition_responses[*partition];
        match outcome {
            Ok(placed) => {
                slot.base_offset = placed.base_offset.0;
                slot.log_append_time_ms = placed.log_append_time.0;
                slot.log_start_offset = placed.log_start_offset.0;
            }
            Err(error) => refuse(slot, &error),
        }
    }
}

fn gone() -> AppendRefused {
    refused(
        ErrorCode::NotLeaderOrFollower,
        "the broker is shutting down",
    )
}

fn refuse(slot: &mut PartitionProduceResponse, error: &AppendRefused) {
    slot.error_code = error.code.code();
    slot.base_offset = Offset(-1).0;
    slot.log_append_time_ms = Timestamp::NONE.0;
    slot.error_message = (!error.reason.is_empty()).then(|| error.reason.as_str().into());
}
