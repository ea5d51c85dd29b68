//! What readers see of a partition: its log below the high watermark, and a signal when that moves.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use crate::log::LogReader;
use crate::types::{LeaderEpoch, Offset};

/// Shared by the owner of a partition, who moves it forward, and by everyone who reads.
pub struct PartitionView {
    reader: LogReader,
    leader_epoch: LeaderEpoch,
    high_watermark: AtomicI64,
    online: AtomicBool,
    waiting: Mutex<Waiting>,
}

/// Wakes one waiting fetch. A fetch registers one with every partition it waits for.
#[derive(Default)]
pub struct FetchSignal(Notify);

impl FetchSignal {
    /// Completes once any partition it was registered with has moved since.
    pub async fn raised(&self) {
        self.0.notified().await;
    }
}

#[derive(Default)]
struct Waiting {
    signals: Vec<Weak<FetchSignal>>,
    /// Length at which abandoned signals are swept out, so that a partition nobody writes to does
    /// not collect those of every fetch that timed out on it.
    sweep_at: usize,
}

const SWEEP_MIN: usize = 32;

impl PartitionView {
    #[must_use]
    pub fn new(reader: LogReader, leader_epoch: LeaderEpoch, high_watermark: Offset) -> Self {
        Self {
            reader,
            leader_epoch,
            high_watermark: AtomicI64::new(high_watermark.0),
            online: AtomicBool::new(true),
            waiting: Mutex::default(),
        }
    }

    #[must_use]
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Exclusive end of what consumers may read.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// Exclusive end of what read-committed consumers may read: without open transactions, the
    /// high watermark.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        self.high_watermark()
    }

    /// Whether the partition is still hosted here.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.online.load(Ordering::Acquire)
    }

    /// Asks for `signal` to be raised when more can be read or the partition goes away. Register
    /// first and look second: then no movement is missed.
    pub fn register(&self, signal: &Arc<FetchSignal>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.signals.len() >= waiting.sweep_at.max(SWEEP_MIN) {
            waiting.signals.retain(|signal| signal.strong_count() > 0);
            waiting.sweep_at = waiting.signals.len() * 2;
        }
        waiting.signals.push(Arc::downgrade(signal));
    }

    pub(super) fn expose(&self, high_watermark: Offset) {
        self.high_watermark
            .store(high_watermark.0, Ordering::Release);
        self.raise();
    }

    pub(super) fn close(&self) {
        self.online.store(false, Ordering::Release);
        self.raise();
    }

    fn raise(&self) {
        let signals = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut waiting.signals)
        };
        for signal in signals {
            if let Some(signal) = signal.upgrade() {
                signal.0.notify_one();
            }
        }
    }
}
