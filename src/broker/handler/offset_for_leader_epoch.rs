//! OffsetForLeaderEpoch: where the log of an epoch ends (KIP-101, KIP-279), so that a client can
//! tell whether what it read was cut off.

use std::sync::Arc;

use super::leadership::{Named, check_leader};
use crate::broker::Broker;
use crate::types::{ErrorCode, LeaderEpoch, Offset};
use crate::wire::message::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};

pub fn handle(
    broker: &Arc<Broker>,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request
        .topics
        .into_iter()
        .map(|topic| OffsetForLeaderTopicResult {
            partitions: topic
                .partitions
                .iter()
                .map(|wanted| answer(broker, &topic.topic, wanted))
                .collect(),
            topic: topic.topic,
            ..Default::default()
        })
        .collect();
    OffsetForLeaderEpochResponse {
        topics,
        ..Default::default()
    }
}

fn answer(broker: &Broker, topic: &str, wanted: &OffsetForLeaderPartition) -> EpochEndOffset {
    let mut response = EpochEndOffset {
        partition: wanted.partition,
        ..Default::default()
    };
    match find(broker, topic, wanted) {
        Ok((epoch, end)) => {
            response.leader_epoch = epoch.0;
            response.end_offset = end.0;
        }
        Err(code) => response.error_code = code.code(),
    }
    response
}

fn find(
    broker: &Broker,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<(LeaderEpoch, Offset), ErrorCode> {
    let table = broker.partitions.table();
    let hosted = table.partition(topic, wanted.partition).map_err(|code| {
        let image = broker.controller.image();
        Named::Name(topic).missing(&image, wanted.partition, code)
    })?;
    check_leader(&hosted.view, wanted.current_leader_epoch)?;
    Ok(hosted
        .view
        .reader()
        .end_of_epoch(LeaderEpoch(wanted.leader_epoch)))
}
