//! Counters of what the disk did, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since the start, of all files. Read them with [`DiskStats::get`] at any time.
#[derive(Debug, Default)]
pub struct DiskStats {
    /// Calls of `File::write_at` carried out.
    pub writes: AtomicU64,
    /// Bytes of those.
    pub write_bytes: AtomicU64,
    /// System calls they took: fewer than `writes` where queued writes were joined.
    pub write_calls: AtomicU64,
    /// Calls of `File::write_at` and `File::truncate` that failed.
    pub write_failures: AtomicU64,
    /// Calls of `File::sync` answered by an attempt on the device.
    pub syncs: AtomicU64,
    /// Attempts on the device: fewer than `syncs` where callers shared one.
    pub sync_calls: AtomicU64,
    /// Attempts that failed.
    pub sync_failures: AtomicU64,
    /// Nanoseconds spent in those attempts.
    pub sync_nanos: AtomicU64,
    /// Calls of `File::read_at`, and bytes they gave.
    pub reads: AtomicU64,
    pub read_bytes: AtomicU64,
    /// Bytes of writes called and not yet carried out (a gauge).
    pub queued_bytes: AtomicU64,
}

impl DiskStats {
    /// The value of one counter.
    #[must_use]
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// For those who carry a disk's calls out.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    /// For those who carry a disk's calls out.
    pub fn subtract(counter: &AtomicU64, amount: u64) {
        counter.fetch_sub(amount, Ordering::Relaxed);
    }
}
