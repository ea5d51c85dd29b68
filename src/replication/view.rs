//! What readers see of a partition: who leads it, its log up to a bound that depends on who reads,
//! and signals when those bounds move.
//!
//! Consumers read below the high watermark, followers below the log end.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use crate::log::LogReader;
use crate::types::{BrokerId, LeaderEpoch, Offset};

/// Shared by the owner of a partition, who moves it forward, and by everyone who reads.
pub struct PartitionView {
    reader: LogReader,
    leadership: Mutex<Leadership>,
    high_watermark: AtomicI64,
    log_end_offset: AtomicI64,
    wanted_start: AtomicI64,
    online: AtomicBool,
    waiting: Mutex<Waiting>,
    followers: Mutex<Waiting>,
}

/// Who leads a partition, as far as this broker was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leadership {
    pub leader: Option<BrokerId>,
    /// Whether this broker leads and its storage works.
    pub is_leader: bool,
    pub leader_epoch: LeaderEpoch,
    /// The log's end when this broker began to lead in this epoch. Until the high watermark is
    /// there, nobody knows how far the partition was acknowledged (KIP-207).
    pub epoch_start: Offset,
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
    pub fn new(reader: LogReader, leadership: Leadership, high_watermark: Offset) -> Self {
        let log_end_offset = AtomicI64::new(reader.log_end_offset().0);
        let wanted_start = AtomicI64::new(reader.log_start_offset().0);
        Self {
            reader,
            leadership: Mutex::new(leadership),
            high_watermark: AtomicI64::new(high_watermark.0),
            log_end_offset,
            wanted_start,
            online: AtomicBool::new(true),
            waiting: Mutex::default(),
            followers: Mutex::default(),
        }
    }

    #[must_use]
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    #[must_use]
    pub fn leadership(&self) -> Leadership {
        *self
            .leadership
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leadership().is_leader
    }

    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leadership().leader_epoch
    }

    /// Exclusive end of what followers may read.
    #[must_use]
    pub fn log_end_offset(&self) -> Offset {
        Offset(self.log_end_offset.load(Ordering::Acquire))
    }

    /// Where followers are told that the log begins: it will, once they have followed.
    #[must_use]
    pub fn wanted_start(&self) -> Offset {
        Offset(self.wanted_start.load(Ordering::Acquire))
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

    /// Asks for `signal` to be raised when consumers can read more, or the partition's leadership
    /// changes, or the partition goes away. Register
    /// first and look second: then no movement is missed.
    pub fn register(&self, signal: &Arc<FetchSignal>) {
        register(&self.waiting, signal);
    }

    /// Like [`Self::register`], for a follower: also raised when the log end moves, or older
    /// records are to go.
    pub fn register_follower(&self, signal: &Arc<FetchSignal>) {
        register(&self.followers, signal);
    }

    pub(super) fn expose(&self, high_watermark: Offset) {
        self.high_watermark
            .store(high_watermark.0, Ordering::Release);
        raise(&self.waiting);
        raise(&self.followers);
    }

    pub(super) fn set_log_end(&self, log_end_offset: Offset) {
        let before = self.log_end_offset.swap(log_end_offset.0, Ordering::AcqRel);
        if before < log_end_offset.0 {
            raise(&self.followers);
        }
    }

    pub(super) fn set_wanted_start(&self, wanted_start: Offset) {
        let before = self.wanted_start.swap(wanted_start.0, Ordering::AcqRel);
        if before < wanted_start.0 {
            raise(&self.followers);
        }
    }

    /// Raises every signal if that changes anything.
    pub(super) fn set_leadership(&self, leadership: Leadership) {
        let before = {
            let mut held = self
                .leadership
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *held, leadership)
        };
        if before != leadership {
            raise(&self.waiting);
            raise(&self.followers);
        }
    }

    pub(super) fn close(&self) {
        self.online.store(false, Ordering::Release);
        raise(&self.waiting);
        raise(&self.followers);
    }
}

fn register(waiting: &Mutex<Waiting>, signal: &Arc<FetchSignal>) {
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    if waiting.signals.len() >= waiting.sweep_at.max(SWEEP_MIN) {
        waiting.signals.retain(|signal| signal.strong_count() > 0);
        waiting.sweep_at = waiting.signals.len() * 2;
    }
    waiting.signals.push(Arc::downgrade(signal));
}

fn raise(waiting: &Mutex<Waiting>) {
    let signals = {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut waiting.signals)
    };
    for signal in signals {
        if let Some(signal) = signal.upgrade() {
            signal.0.notify_one();
        }
    }
}
