//! ListOffsets: the offset at a point in time, or at an end of the log.

use std::sync::Arc;

use super::RequestContext;
use super::fetch::read_error;
use crate::broker::Broker;
use crate::broker::partitions::Table;
use crate::replication::PartitionView;
use crate::types::{ErrorCode, LeaderEpoch, Offset, Timestamp};
use crate::wire::message::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};

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
    _: RequestContext,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let table = broker.partitions.table();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            partitions.push(answer(&table, &topic.name, wanted).await);
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

async fn answer(
    table: &Table,
    topic: &str,
    wanted: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let mut response = ListOffsetsPartitionResponse {
        partition_index: wanted.partition_index,
        ..Default::default()
    };
    match find(table, topic, wanted).await {
        Ok((timestamp, offset, epoch)) => {
            response.timestamp = timestamp.0;
            response.offset = offset.0;
            response.leader_epoch = epoch.0;
        }
        Err(code) => response.error_code = code.code(),
    }
    response
}

async fn find(
    table: &Table,
    topic: &str,
    wanted: &ListOffsetsPartition,
) -> Result<Found, ErrorCode> {
    let hosted = table.partition(topic, wanted.partition_index)?;
    let view: &PartitionView = &hosted.view;
    super::check_leader_epoch(wanted.current_leader_epoch, view.leader_epoch())?;
    let reader = view.reader();
    let visible = view.high_watermark();
    let at = |offset: Offset| (Timestamp::NONE, offset, reader.epoch_of(offset));
    let looked_up = match wanted.timestamp {
        LATEST if crate::mutant!("latest-is-the-log-end") => {
            return Ok((
                Timestamp::NONE,
                reader.log_end_offset(),
                view.leader_epoch(),
            ));
        }
        LATEST => return Ok((Timestamp::NONE, visible, view.leader_epoch())),
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
        Ok(found) => Ok(found.unwrap_or(NOTHING)),
        Err(error) => {
            tracing::error!(%topic, partition = wanted.partition_index, %error, "lookup failed");
            Err(read_error(&error))
        }
    }
}
