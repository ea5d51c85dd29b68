//! Deletes the oldest records of a topic, up to drawn offsets.

use klamm::wire::message::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use klamm_jepsen::history::{Answer, Call, ListedAt, Partition};

use super::errors::error_name;
use super::line::{DISCONNECTED, Line};
use super::{Client, offsets};
use crate::plan::Role;

/// Stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

pub(super) async fn run(mut client: Client) {
    let Role::Deleter { topic, pause_ms } = client.plan.role.clone() else {
        return;
    };
    let mut line = client.line();
    while !client.stop.is_set() {
        client.pause(pause_ms).await;
        let of = client.draw_partition(&topic);
        if step(&mut client, &mut line, &of).await.is_err() {
            line.wait_a_little().await;
        }
    }
}

async fn step(client: &mut Client, line: &mut Line, of: &Partition) -> Result<(), String> {
    let start = offsets::list(line, of, ListedAt::Earliest).await?;
    let end = offsets::list(line, of, ListedAt::Latest).await?;
    let span = u64::try_from(end - start).unwrap_or(0);
    let before = match client.rng.below(10) {
        0 => HIGH_WATERMARK,
        1 => end,
        _ => start + i64::try_from(client.rng.below(span / 2 + 1)).unwrap_or(0),
    };
    delete(line, of, before).await
}

async fn delete(line: &mut Line, of: &Partition, before: i64) -> Result<(), String> {
    line.leader(of).await?;
    line.open().await?;
    let of = of.clone();
    let op = line.invoke(Call::DeleteRecords {
        of: of.clone(),
        before,
    });
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: of.topic.as_str().into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: of.partition,
                offset: before,
                ..Default::default()
            }],
            ..Default::default()
        }],
        timeout_ms: 5000,
        ..Default::default()
    };
    let answer = match line.call(request, 0).await {
        Ok(answer) => answer,
        Err(error) => return Err(line.refused(op, error)),
    };
    let mut results = answer.topics.into_iter().flat_map(|topic| topic.partitions);
    let Some(result) = results.next() else {
        line.broken("P18", "DeleteRecords is answered without the partition");
        return Err(line.refused(op, DISCONNECTED));
    };
    if let Some(error) = error_name(result.error_code) {
        return Err(line.refused(op, error));
    }
    let log_start_offset = result.low_watermark;
    line.ok(op, Answer::DeleteRecords { log_start_offset });
    Ok(())
}
