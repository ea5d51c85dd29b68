//! Syncing logs beside appends that do not ask for it.
//!
//! Where an acknowledgement waits for no sync, nobody but the operating system decides when what
//! was appended gets to the disk, and what no sync is known to cover is written once more by the
//! start after a crash. So such a log is synced each time a recovery point waits for it, without
//! holding up what is appended meanwhile.

use std::io;

use super::{Alarm, STAMP_AFTER, Shard, Slot};
use crate::log::Flushed;

/// Logs of a shard that are synced so at once.
const FLUSHES_MAX: usize = 2;

pub(super) struct FlushEnd {
    slot: Slot,
    flushed: Flushed,
    incarnation: u64,
    result: io::Result<()>,
}

impl Shard {
    /// Begins to sync logs that wait for it, as many as may be at once.
    pub(super) async fn flush_due(&mut self) {
        while self.flushes.len() < FLUSHES_MAX
            && let Some(slot) = self.flushes_due.pop_first()
        {
            let Some(replica) = self.replicas.get_mut(&slot) else {
                continue;
            };
            let incarnation = replica.incarnation;
            match replica.flush().await {
                Ok(Some(flushing)) => {
                    let (flushed, done) = flushing.parts();
                    self.flushes.push(Box::pin(async move {
                        FlushEnd {
                            slot,
                            flushed,
                            incarnation,
                            result: done.await,
                        }
                    }));
                }
                Ok(None) => {}
                Err(error) => {
                    let partition = replica.topic_partition();
                    tracing::warn!(%partition, %error, "the log could not be synced");
                }
            }
        }
    }

    pub(super) async fn on_flush_end(&mut self, end: FlushEnd) {
        let Some(replica) = self.replicas.get_mut(&end.slot) else {
            return;
        };
        if end.incarnation != replica.incarnation || replica.is_storage_failed() {
            return;
        }
        match end.result {
            Ok(()) => replica.log.flushed(end.flushed),
            Err(error) => {
                tracing::trace!(target: "klamm::probe", name = "flush-beside-appends-failed");
                tracing::error!(partition = %replica.topic_partition(), %error, "sync failed");
                self.recover(end.slot).await;
            }
        }
        self.carry_out(end.slot);
    }

    /// `flush.ms` has passed.
    pub(super) async fn sync(&mut self, slot: Slot) {
        let Some(replica) = self.replicas.get_mut(&slot) else {
            return;
        };
        replica.sync_due = false;
        if let Err(error) = replica.log.sync_all().await {
            tracing::trace!(target: "klamm::probe", name = "delayed-sync-failed");
            tracing::error!(partition = %replica.topic_partition(), %error, "sync failed");
            self.recover(slot).await;
        }
        self.carry_out(slot);
    }

    /// Notes in an idle log how far it is durable.
    pub(super) async fn stamp(&mut self, slot: Slot) {
        let Some(replica) = self.replicas.get_mut(&slot) else {
            return;
        };
        if replica.is_busy() {
            self.alarms
                .insert((self.env.now().plus(STAMP_AFTER), Alarm::Stamp(slot)));
            return;
        }
        replica.stamp_due = false;
        // A slot is synced, and with it all that nobody asked to be.
        let is_unsynced = replica.log.durable_end() < replica.log.log_end_offset();
        if replica.is_storage_failed() || is_unsynced {
            return;
        }
        if let Err(error) = replica.log.stamp().await {
            let partition = replica.topic_partition();
            tracing::warn!(%partition, %error, "the log could not note how far it is durable");
        }
    }
}
