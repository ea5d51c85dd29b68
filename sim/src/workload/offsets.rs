//! Where partitions begin and end: ListOffsets, one partition a request.

use klamm::wire::message::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use klamm_jepsen::history::{Answer, Call, ListedAt, Partition, Position};

use super::errors::error_name;
use super::line::{DISCONNECTED, Line};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// The offset asked for; -1 where there is none. Recorded.
pub(super) async fn list(line: &mut Line, of: &Partition, at: ListedAt) -> Result<i64, String> {
    line.leader(of).await?;
    line.open().await?;
    let op = line.invoke(Call::ListOffsets { of: of.clone(), at });
    let wanted = ListOffsetsPartition {
        partition_index: of.partition,
        timestamp: match at {
            ListedAt::Earliest => EARLIEST,
            ListedAt::Latest => LATEST,
            ListedAt::Timestamp(time) => time,
        },
        ..Default::default()
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: of.topic.as_str().into(),
            partitions: vec![wanted],
            ..Default::default()
        }],
        timeout_ms: 5000,
        ..Default::default()
    };
    let answer = match line.call(request, 0).await {
        Ok(answer) => answer,
        Err(error) => return Err(line.refused(op, error)),
    };
    let mut partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
    let Some(found) = partitions.find(|found| found.partition_index == of.partition) else {
        line.broken("P18", "ListOffsets is answered without the partition");
        return Err(line.refused(op, DISCONNECTED));
    };
    if let Some(error) = error_name(found.error_code) {
        return Err(line.refused(op, error));
    }
    let answer = Answer::ListOffsets {
        offset: found.offset,
        timestamp: found.timestamp,
        leader_epoch: found.leader_epoch,
    };
    line.ok(op, answer);
    Ok(found.offset)
}

/// The positions at which these partitions begin, as far as they are told.
pub(super) async fn starts(line: &mut Line, of: &[Partition]) -> Result<Vec<Position>, String> {
    let mut positions = Vec::with_capacity(of.len());
    for of in of {
        let offset = list(line, of, ListedAt::Earliest).await?;
        let of = of.clone();
        positions.push(Position { of, offset });
    }
    Ok(positions)
}

/// Records that reading goes on at `positions`.
pub(super) fn assign(line: &Line, positions: Vec<Position>) {
    let op = line.invoke(Call::Assign { positions });
    line.ok(op, Answer::Assign);
}
