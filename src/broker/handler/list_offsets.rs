//! ListOffsets: the offset at a point in time, or at an end of the log.

use std::sync::Arc;

use super::fetch::read_error;
use super::leadership::{Named, check_leader};
use super::{RequestContext, settling};
use crate::broker::Broker;
use crate::replication::Leadership;
use crate::types::{ErrorCode, LeaderEpoch, Offset, Timestamp};
use crate::wire::message::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};

/// First version that knows OFFSET_NOT_AVAILABLE (KIP-207).
const NOT_AVAILABLE_SINCE: i16 = 5;

/// Timestamps with a meaning of their own.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// Without tiered storage the whole log is local and nothing is tiered or pending.
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

type Found = (Timestamp, Offset, LeaderEpoch);

const NOTHING: Found = (Timestamp::NONE, Offset(-1), LeaderEpoch::NONE);

pub async fn handle(
    broker: Arc<Broker>,
    context: RequestContext,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    settle(&broker, &request).await;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            partitions.push(answer(&broker, context.version, &topic.name, wanted).await);
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
            ..Default::default()
        });
    }
    ListOffsetsResponse {
        topics,
        ..Default::default()
    }
}

async fn settle(broker: &Arc<Broker>, request: &ListOffsetsRequest) {
    let mut partitions = Vec::new();
    for topic in &request.topics {
        let named = Named::Name(&topic.name);
        let indexes = topic.partitions.iter().map(|wanted| wanted.partition_index);
        partitions.extend(indexes.map(|partition| (named, partition)));
    }
    settling::settle(broker, &partitions).await;
}

async fn answer(
    broker: &Broker,
    version: i16,
    topic: &str,
    wanted: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let mut response = ListOffsetsPartitionResponse {
        partition_index: wanted.partition_index,
        ..Default::default()
    };
    match find(broker, topic, wanted).await {
        Ok((timestamp, offset, epoch)) => {
            response.timestamp = timestamp.0;
            response.offset = offset.0;
            response.leader_epoch = epoch.0;
        }
        Err(ErrorCode::OffsetNotAvailable) if version < NOT_AVAILABLE_SINCE => {
            response.error_code = ErrorCode::LeaderNotAvailable.code();
        }
        Err(code) => response.error_code = code.code(),
    }
    response
}

async fn find(
    broker: &Broker,
    topic: &str,
    wanted: &ListOffsetsPartition,
) -> Result<Found, ErrorCode> {
    let partition = wanted.partition_index;
    let hosted = broker
        .partitions
        .table()
        .partition(topic, partition)
        .cloned();
    let hosted = hosted.map_err(|code| {
        let image = broker.controller.image();
        Named::Name(topic).missing(&image, partition, code)
    })?;
    let view = &hosted.view;
    let leadership = check_leader(view, wanted.current_leader_epoch)?;
    let reader = view.reader();
    let visible = view.high_watermark();
    let is_behind = is_behind(&leadership, visible);
    let at = |offset: Offset| (Timestamp::NONE, offset, reader.epoch_of(offset));
    let looked_up = match wanted.timestamp {
        LATEST if crate::mutant!("latest-is-the-log-end") => {
            return Ok((
                Timestamp::NONE,
                reader.log_end_offset(),
                leadership.leader_epoch,
            ));
        }
        LATEST if is_behind => return Err(ErrorCode::OffsetNotAvailable),
        LATEST => return Ok((Timestamp::NONE, visible, leadership.leader_epoch)),
        EARLIEST | EARLIEST_LOCAL => return Ok(at(reader.log_start_offset())),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => return Ok(NOTHING),
        MAX_TIMESTAMP => reader.offset_of_max_timestamp(visible).await,
        timestamp if timestamp >= 0 => {
            reader
                .offset_for_timestamp(Timestamp(timestamp), visible)
                .await
        }
        _ => return Err(ErrorCode::InvalidRequest),
    };
    match looked_up {
        // What lies between the high watermark and the epoch's start may hold the answer.
        Ok(None) if is_behind => Err(ErrorCode::OffsetNotAvailable),
        Ok(found) => Ok(found.unwrap_or(NOTHING)),
        Err(error) => {
            tracing::error!(%topic, partition, %error, "lookup failed");
            Err(read_error(&error))
        }
    }
}

/// Whether the high watermark has not reached the start of the leader's epoch: then consumers may
/// have been told of offsets that this leader does not know to be committed yet (KIP-207).
fn is_behind(leadership: &Leadership, high_watermark: Offset) -> bool {
    let is_behind = high_watermark < leadership.epoch_start
        && !crate::mutant!("list-offsets-before-epoch-start");
    if is_behind {
        tracing::trace!(target: "klamm::probe", name = "offset-not-available");
    }
    is_behind
}
