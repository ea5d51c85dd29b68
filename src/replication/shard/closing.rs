//! Letting go of partitions, once their writes have ended.

use super::{Closing, Replica, Shard, Slot};

impl Shard {
    pub(super) fn close(&mut self, slot: Slot, closing: Closing) {
        if !self.replicas.contains_key(&slot) {
            let _ = closing.reply.send(None);
            return;
        }
        if self.replicas.get(&slot).is_some_and(Replica::is_busy) {
            tracing::trace!(target: "klamm::probe", name = "log-closed-while-appending");
        }
        self.closing.insert(slot, closing);
        self.finish_close(slot);
    }

    /// Ends a partition that is being closed once its writes have ended.
    pub(super) fn finish_close(&mut self, slot: Slot) {
        if !self.closing.contains_key(&slot)
            || self.replicas.get(&slot).is_some_and(Replica::is_busy)
        {
            return;
        }
        self.resign(slot);
        let (Some(closing), Some(replica)) =
            (self.closing.remove(&slot), self.replicas.remove(&slot))
        else {
            return;
        };
        replica.view.close();
        let failed = replica.is_storage_failed();
        let partition = replica.topic_partition().clone();
        tracing::trace!(
            target: "klamm::replica", event = "closed", topic = &*partition.topic,
            partition = partition.partition,
        );
        let Closing { is_doomed, reply } = closing;
        if is_doomed {
            tracing::trace!(target: "klamm::probe", name = "doomed-log-let-go");
            self.closings.push(Box::pin(async move {
                replica.log.abandon().await;
                let _ = reply.send(None);
            }));
            return;
        }
        // Beside the mailbox: closing waits for the disk, and many may be closed at once.
        self.closings.push(Box::pin(async move {
            let end = match replica.log.close().await {
                Ok(end) if !failed => Some(end),
                Ok(_) => None,
                Err(error) => {
                    tracing::warn!(%partition, %error, "the log was not closed cleanly");
                    None
                }
            };
            let _ = reply.send(end);
        }));
    }
}
