//! A partition of `__consumer_offsets` as the log of a group coordinator's shard.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::partitions::Hosted;
use crate::coordinator::{KeyValue, LoadedBatch, LoadedRecord, ShardLog};
use crate::env::BoxFuture;
use crate::log::ReadError;
use crate::replication::{
    AppendItem, Command, FetchSignal, PartitionView, ShardHandle, WantedAcks,
};
use crate::types::{ErrorCode, LeaderEpoch, Offset};
use crate::wire::batch::{BatchBuilder, Compression, RecordBatch};

/// Bytes read at once while a coordinator loads.
const LOAD_BYTES: usize = 1 << 20;

pub struct GroupLog {
    hosted: Hosted,
    shard: ShardHandle,
    /// In which this broker leads. A coordinator of an earlier epoch knows nothing of what others
    /// wrote in between: it reads and writes nothing any more.
    leader_epoch: LeaderEpoch,
}

impl GroupLog {
    #[must_use]
    pub fn new(hosted: Hosted, shard: ShardHandle, leader_epoch: LeaderEpoch) -> Self {
        Self {
            hosted,
            shard,
            leader_epoch,
        }
    }
}

/// Whether this broker leads in this very epoch.
fn leads(view: &PartitionView, leader_epoch: LeaderEpoch) -> bool {
    let leadership = view.leadership();
    view.is_online()
        && (leadership.is_leader && leadership.leader_epoch == leader_epoch
            || crate::mutant!("groups-stay-with-a-deposed-leader"))
}

impl ShardLog for GroupLog {
    fn append(&self, records: Vec<KeyValue>) -> BoxFuture<'static, Result<Offset, ErrorCode>> {
        let mut batch = BatchBuilder::new(Offset::ZERO, Compression::None, None);
        for record in &records {
            batch.push(
                record.timestamp,
                Some(&record.key),
                record.value.as_deref(),
                &[],
            );
        }
        let item = AppendItem {
            slot: self.hosted.slot,
            batch: batch.build(),
            acks: WantedAcks::InSync,
            budget: None,
        };
        let (reply, outcome) = oneshot::channel();
        let command = Command::Append {
            items: vec![item],
            reply: Some(reply),
        };
        let submitted = leads(&self.hosted.view, self.leader_epoch) && self.shard.submit(command);
        Box::pin(async move {
            if !submitted {
                return Err(ErrorCode::NotCoordinator);
            }
            let outcomes = outcome.await.map_err(|_| ErrorCode::NotCoordinator)?;
            match outcomes.into_iter().next() {
                Some(Ok(placed)) => Ok(placed.base_offset),
                Some(Err(refused)) => Err(refused.code),
                None => Err(ErrorCode::UnknownServerError),
            }
        })
    }

    fn read(&self, from: Offset) -> BoxFuture<'static, Result<LoadedBatch, ErrorCode>> {
        let (view, leader_epoch) = (self.hosted.view.clone(), self.leader_epoch);
        let (slot, shard) = (self.hosted.slot, self.shard.clone());
        let damaged = move || {
            shard.submit(Command::Damaged { slot, leader_epoch });
        };
        Box::pin(async move { read(&view, leader_epoch, from, damaged).await })
    }
}

async fn read(
    view: &Arc<PartitionView>,
    leader_epoch: LeaderEpoch,
    from: Offset,
    damaged: impl Fn(),
) -> Result<LoadedBatch, ErrorCode> {
    let reader = view.reader();
    let until = reader.log_end_offset();
    let from = from.max(reader.log_start_offset());
    exposed(view, leader_epoch, until).await?;
    let read = reader
        .read(from, until, LOAD_BYTES, true)
        .await
        .map_err(|error| {
            tracing::error!(%error, "a group coordinator's log cannot be read");
            if let ReadError::Corrupt(_) = error {
                damaged();
            }
            ErrorCode::CoordinatorNotAvailable
        })?;
    let mut bytes = Bytes::from(read.slices.concat());
    let mut loaded = LoadedBatch {
        records: Vec::new(),
        next: from,
        end: false,
    };
    while !bytes.is_empty() {
        let batch = RecordBatch::split_first(&mut bytes).map_err(|error| {
            tracing::error!(%error, "a group coordinator's log holds a damaged batch");
            ErrorCode::CoordinatorNotAvailable
        })?;
        loaded.next = batch.header.end_offset();
        if !batch.header.attributes.is_control() {
            push_records(&batch, from, &mut loaded.records)?;
        }
    }
    loaded.end = loaded.next >= until || read.end >= until;
    if loaded.end {
        loaded.next = loaded.next.max(until);
    }
    Ok(loaded)
}

/// Waits until everything below `until` is safe to act on.
async fn exposed(
    view: &Arc<PartitionView>,
    leader_epoch: LeaderEpoch,
    until: Offset,
) -> Result<(), ErrorCode> {
    loop {
        let signal = Arc::new(FetchSignal::default());
        view.register(&signal);
        if !leads(view, leader_epoch) {
            return Err(ErrorCode::NotCoordinator);
        }
        if view.high_watermark() >= until {
            return Ok(());
        }
        signal.raised().await;
    }
}

fn push_records(
    batch: &RecordBatch,
    from: Offset,
    records: &mut Vec<LoadedRecord>,
) -> Result<(), ErrorCode> {
    let unreadable = |error: crate::wire::batch::BatchError| {
        tracing::error!(%error, "a group coordinator's log holds an unreadable batch");
        ErrorCode::CoordinatorNotAvailable
    };
    for record in batch.records().map_err(unreadable)? {
        let record = record.map_err(unreadable)?;
        if record.offset >= from {
            records.push(LoadedRecord {
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
            });
        }
    }
    Ok(())
}
