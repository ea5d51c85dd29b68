//! The care of logs over time: rolling, retention, compaction.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Broker;
use super::partitions::Hosted;
use crate::log::compaction;
use crate::replication::{Command, CompactionRound};

/// Longest pause between rounds of maintenance, so that removed segments give their space back
/// soon after `file.delete.delay.ms`.
const ROUND_MAX: Duration = Duration::from_secs(30);

/// Asks every shard for a round of maintenance at every interval, for ever.
pub async fn run(broker: Arc<Broker>) {
    let interval = match crate::mutant!("maintenance-without-pause") {
        true => 1,
        false => broker.config.topics.retention_check_interval_ms.max(1),
    };
    let interval = Duration::from_millis(interval);
    loop {
        broker.env.sleep(interval.min(ROUND_MAX)).await;
        let now = broker.env.wall();
        for shard in broker.partitions.shards() {
            shard.send(Command::Maintain { now }).await;
        }
    }
}

/// Compacts what is due, one partition at a time, for ever.
pub async fn clean(broker: Arc<Broker>) {
    let backoff = Duration::from_millis(broker.config.cleaner.backoff_ms.max(1));
    loop {
        broker.env.sleep(backoff).await;
        let topics = broker.partitions.table().topics();
        for topic in topics.iter().filter(|topic| topic.config.cleanup.compact) {
            for hosted in topic.partitions.values() {
                compact(&broker, hosted).await;
            }
        }
    }
}

async fn compact(broker: &Broker, hosted: &Hosted) {
    let shard = &broker.partitions.shards()[hosted.shard];
    let (reply, round) = oneshot::channel();
    let now = broker.env.wall();
    let dedupe = broker.config.cleaner.dedupe_buffer_bytes;
    let map_bytes = usize::try_from(dedupe).unwrap_or(usize::MAX);
    shard
        .send(Command::PlanCompaction {
            slot: hosted.slot,
            now,
            map_bytes,
            reply,
        })
        .await;
    let Ok(Some(CompactionRound { job, mut io })) = round.await else {
        return;
    };
    let partition = &hosted.topic_partition;
    let compacted = match compaction::run(&job, &mut io).await {
        Ok(compacted) => Box::new(compacted),
        Err(error) => {
            tracing::error!(%partition, %error, "compaction failed; tried again later");
            io.discard().await;
            return;
        }
    };
    let (reply, installed) = oneshot::channel();
    shard
        .send(Command::InstallCompacted {
            slot: hosted.slot,
            compacted,
            reply,
        })
        .await;
    let Ok(installed) = installed.await else {
        // The shard ended; what it left is for the next start.
        return;
    };
    io.discard().await;
    if installed {
        tracing::debug!(%partition, "compacted");
    }
}
