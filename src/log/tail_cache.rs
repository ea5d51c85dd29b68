//! The newest batches of all logs, in memory: the same `Bytes` that were appended.
//!
//! One budget in bytes is shared by all logs of a broker; whatever was appended first, in any log,
//! goes first. Each log's part is contiguous and ends at the log's end. It holds what the files
//! hold: batches that a truncation or a compaction changed there are forgotten here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use crate::types::Offset;

/// What an entry costs beside its bytes: the header's allocation and two queue places.
const ENTRY_OVERHEAD_BYTES: usize = 160;

/// As many places of forgotten batches are not worth a sweep.
const STALE_PLACES_MIN: usize = 1024;

/// The cache of a broker. Share it in an `Arc`.
#[derive(Debug)]
pub struct TailCache {
    budget: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Oldest first; the number is the entry's.
    order: VecDeque<(u64, Weak<LogTail>)>,
    next_number: u64,
    used: usize,
    /// Places in `order` whose batch is gone already.
    stale: usize,
}

/// One log's part of the cache.
#[derive(Debug, Default)]
pub(super) struct LogTail {
    batches: Mutex<VecDeque<CachedBatch>>,
}

#[derive(Debug)]
struct CachedBatch {
    number: u64,
    base_offset: Offset,
    end_offset: Offset,
    bytes: [Bytes; 2],
}

impl CachedBatch {
    fn len(&self) -> usize {
        self.bytes[0].len() + self.bytes[1].len()
    }

    fn cost(&self) -> usize {
        self.len() + ENTRY_OVERHEAD_BYTES
    }
}

/// A log's hold on the cache; its part is given back when the hold is dropped.
#[derive(Debug)]
pub(super) struct TailHold {
    cache: Arc<TailCache>,
    tail: Arc<LogTail>,
}

impl TailHold {
    pub fn new(cache: Arc<TailCache>) -> Self {
        Self {
            cache,
            tail: Arc::default(),
        }
    }

    pub fn push(&self, base_offset: Offset, end_offset: Offset, bytes: [Bytes; 2]) {
        self.cache.push(&self.tail, base_offset, end_offset, bytes);
    }

    pub fn truncate(&self, end: Offset) {
        if end >= Offset::ZERO && crate::mutant!("tail-cache-not-truncated") {
            return;
        }
        self.cache.truncate(&self.tail, end);
    }

    /// Forgets all there is of the log.
    pub fn clear(&self) {
        if !self.tail.lock().is_empty() {
            self.cache.truncate(&self.tail, Offset(i64::MIN));
        }
    }

    /// Forgets batches that begin before `offset`: their file was rewritten.
    pub fn forget_before(&self, offset: Offset) {
        self.cache.forget_before(&self.tail, offset);
    }
}

impl std::ops::Deref for TailHold {
    type Target = LogTail;

    fn deref(&self) -> &LogTail {
        &self.tail
    }
}

impl Drop for TailHold {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Batches gathered from a tail.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub slices: Vec<Bytes>,
    pub end_offset: Option<Offset>,
}

impl TailCache {
    /// A cache of about `budget` bytes; 0 keeps nothing.
    #[must_use]
    pub fn new(budget: usize) -> Arc<Self> {
        Arc::new(Self {
            budget,
            queue: Mutex::default(),
        })
    }

    /// Bytes held now.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.lock().used
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(
        &self,
        tail: &Arc<LogTail>,
        base_offset: Offset,
        end_offset: Offset,
        bytes: [Bytes; 2],
    ) {
        let mut batch = CachedBatch {
            number: 0,
            base_offset,
            end_offset,
            bytes,
        };
        let cost = batch.cost();
        if cost > self.budget {
            // What does not fit would leave a hole between its neighbours.
            self.truncate(tail, Offset(i64::MIN));
            return;
        }
        let mut queue = self.lock();
        batch.number = queue.next_number;
        queue.next_number += 1;
        queue.order.push_back((batch.number, Arc::downgrade(tail)));
        queue.used += cost;
        tail.lock().push_back(batch);
        while queue.used > self.budget {
            let Some((number, owner)) = queue.order.pop_front() else {
                break;
            };
            match owner.upgrade().and_then(|owner| owner.pop(number)) {
                Some(freed) => queue.used = queue.used.saturating_sub(freed),
                None => queue.stale = queue.stale.saturating_sub(1),
            }
        }
    }

    /// Forgets batches that end after `end`.
    fn truncate(&self, tail: &LogTail, end: Offset) {
        let mut queue = self.lock();
        let mut batches = tail.lock();
        while let Some(last) = batches.back()
            && last.end_offset > end
        {
            queue.used = queue.used.saturating_sub(last.cost());
            queue.stale += 1;
            batches.pop_back();
        }
        drop(batches);
        queue.sweep();
    }

    /// Forgets batches that begin before `offset`.
    fn forget_before(&self, tail: &LogTail, offset: Offset) {
        let mut queue = self.lock();
        let mut batches = tail.lock();
        while let Some(first) = batches.front()
            && first.base_offset < offset
        {
            queue.used = queue.used.saturating_sub(first.cost());
            queue.stale += 1;
            batches.pop_front();
        }
        drop(batches);
        queue.sweep();
    }
}

impl Queue {
    /// Places of what was forgotten stay until their turn comes, or until they are most of all: a
    /// log that forgets again and again must not make the queue grow.
    fn sweep(&mut self) {
        if self.stale > STALE_PLACES_MIN && self.stale > self.order.len() / 2 {
            self.order.retain(|(number, owner)| {
                let owner = owner.upgrade();
                owner.is_some_and(|owner| owner.holds(*number))
            });
            self.stale = 0;
        }
    }
}

impl LogTail {
    fn lock(&self) -> MutexGuard<'_, VecDeque<CachedBatch>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the oldest batch if it is `number`; what that frees.
    fn pop(&self, number: u64) -> Option<usize> {
        let mut batches = self.lock();
        batches.front().filter(|first| first.number == number)?;
        batches.pop_front().map(|batch| batch.cost())
    }

    fn holds(&self, number: u64) -> bool {
        let batches = self.lock();
        batches
            .binary_search_by_key(&number, |batch| batch.number)
            .is_ok()
    }

    /// The batches from the one that holds `from` on, up to `up_to` and `max_bytes` (the first one
    /// whole all the same if `at_least_one`). `None`: `from` is not cached.
    pub fn gather(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<Gathered> {
        let batches = self.lock();
        if batches.front().is_none_or(|first| first.base_offset > from) {
            return None;
        }
        let first = batches.partition_point(|batch| batch.end_offset <= from);
        if first == batches.len() {
            return None;
        }
        let mut gathered = Gathered::default();
        let mut bytes = 0;
        for batch in batches.range(first..) {
            let fits = bytes + batch.len() <= max_bytes || (bytes == 0 && at_least_one);
            if batch.end_offset > up_to || !fits {
                break;
            }
            bytes += batch.len();
            gathered.slices.extend(batch.bytes.iter().cloned());
            gathered.end_offset = Some(batch.end_offset);
        }
        Some(gathered)
    }

    /// Bytes of the batches in `[from, up_to)`, if all are cached.
    pub fn bytes_between(&self, from: Offset, up_to: Offset) -> Option<u64> {
        let batches = self.lock();
        if batches.front().is_none_or(|first| first.base_offset > from) {
            return None;
        }
        let first = batches.partition_point(|batch| batch.end_offset <= from);
        let last = batches.partition_point(|batch| batch.end_offset <= up_to);
        let span = batches.range(first..last.max(first));
        Some(span.map(|batch| batch.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(size: usize) -> [Bytes; 2] {
        [
            Bytes::from_static(&[1; 61]),
            Bytes::from(vec![2; size - 61]),
        ]
    }

    #[test]
    fn what_was_appended_first_goes_first_whichever_log_it_is_in() {
        let cache = TailCache::new(3 * (1000 + ENTRY_OVERHEAD_BYTES));
        let (one, two) = (Arc::<LogTail>::default(), Arc::<LogTail>::default());
        cache.push(&one, Offset(0), Offset(1), batch(1000));
        cache.push(&two, Offset(0), Offset(1), batch(1000));
        cache.push(&one, Offset(1), Offset(2), batch(1000));
        cache.push(&one, Offset(2), Offset(3), batch(1000));
        assert!(one.gather(Offset(0), Offset(9), 9999, true).is_none());
        assert!(two.gather(Offset(0), Offset(9), 9999, true).is_some());
        let found = one.gather(Offset(1), Offset(9), 9999, true);
        assert_eq!(found.and_then(|found| found.end_offset), Some(Offset(3)));
        assert_eq!(cache.used_bytes(), 3 * (1000 + ENTRY_OVERHEAD_BYTES));
    }

    #[test]
    fn a_truncated_tail_gives_its_bytes_back() {
        let cache = TailCache::new(1 << 20);
        let log = Arc::<LogTail>::default();
        for offset in 0..5 {
            cache.push(&log, Offset(offset), Offset(offset + 1), batch(500));
        }
        cache.truncate(&log, Offset(2));
        assert_eq!(cache.used_bytes(), 2 * (500 + ENTRY_OVERHEAD_BYTES));
        assert_eq!(log.bytes_between(Offset(0), Offset(9)), Some(1000));
        cache.truncate(&log, Offset(i64::MIN));
        assert_eq!(cache.used_bytes(), 0);
    }

    #[test]
    fn what_is_forgotten_leaves_the_rest_readable_and_no_places_behind() {
        let cache = TailCache::new(1 << 20);
        let log = Arc::<LogTail>::default();
        for offset in 0..10_000 {
            cache.push(&log, Offset(offset), Offset(offset + 1), batch(100));
            cache.forget_before(&log, Offset(offset - 4));
        }
        assert_eq!(cache.used_bytes(), 5 * (100 + ENTRY_OVERHEAD_BYTES));
        assert!(
            log.gather(Offset(9994), Offset(10_000), 9999, true)
                .is_none()
        );
        assert_eq!(log.bytes_between(Offset(9995), Offset(10_000)), Some(500));
        assert!(cache.lock().order.len() < 3 * STALE_PLACES_MIN);
    }

    #[test]
    fn a_first_batch_over_the_limit_comes_whole_only_when_asked() {
        let cache = TailCache::new(1 << 20);
        let log = Arc::<LogTail>::default();
        cache.push(&log, Offset(0), Offset(10), batch(500));
        let whole = log.gather(Offset(5), Offset(10), 100, true);
        assert_eq!(whole.map(|found| found.slices.len()), Some(2));
        let none = log.gather(Offset(5), Offset(10), 100, false);
        assert_eq!(none.map(|found| found.slices.len()), Some(0));
        let bounded = log.gather(Offset(5), Offset(9), 1000, true);
        assert_eq!(bounded.and_then(|found| found.end_offset), None);
    }
}
