//! Memory for reads of files, used again.
//!
//! The first touch of a page is the dearest step of a read: measured on a virtual machine, reading
//! a GiB of cached pages costs 0.06 s of CPU into memory that was used before, and 0.52 s into
//! memory fresh from the operating system. So blocks that readers are done with wait here for the
//! next one, the last one used first, as it is most likely in the processor's caches.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Bytes of a block: what consumers ask of a partition by default, and what indexes round it up to.
/// Of a block only pages that were once used take memory.
pub(super) const BLOCK_BYTES: usize = 2 << 20;

/// Smaller reads get memory of their own: a reader that keeps one must not keep a block.
const BLOCK_FROM: usize = 32 << 10;

/// Blocks that may wait for a reader: as many as fetches of a few consumers have under way.
const IDLE_MAX: usize = 16;

/// The blocks that nobody uses.
#[derive(Debug, Default)]
pub(super) struct ReadMemory {
    idle: Mutex<Vec<Box<[u8]>>>,
}

/// Memory to read into, of at least the size asked for; holds anything before it is filled.
pub(super) struct Target {
    bytes: Box<[u8]>,
    filled: usize,
    /// Where a block goes back to.
    home: Option<Arc<ReadMemory>>,
}

impl ReadMemory {
    fn lock(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory for `len` bytes.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Target {
        let is_block = (BLOCK_FROM..=BLOCK_BYTES).contains(&len);
        let waiting = is_block.then(|| self.lock().pop()).flatten();
        let size = if is_block { BLOCK_BYTES } else { len };
        Target {
            // Zeros from the operating system: not touched, and so not there, until used.
            bytes: waiting.unwrap_or_else(|| vec![0; size].into_boxed_slice()),
            filled: 0,
            home: is_block.then(|| Arc::clone(self)),
        }
    }
}

impl Target {
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// What may still be filled of the first `len` bytes.
    pub(super) fn rest(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[self.filled..len]
    }

    /// Counts `more` bytes of the rest as filled.
    pub(super) fn fill(&mut self, more: usize) {
        self.filled += more;
    }

    /// What was filled. The block is used again once all slices of it are gone.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Target {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let Some(home) = self.home.take() else {
            return;
        };
        let mut idle = home.lock();
        if idle.len() < IDLE_MAX {
            idle.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(memory: &Arc<ReadMemory>, len: usize, with: u8) -> Bytes {
        let mut target = memory.take(len);
        target.rest(len).fill(with);
        target.fill(len);
        target.freeze()
    }

    #[test]
    fn a_block_is_used_again_once_its_last_slice_is_gone() {
        let memory = Arc::<ReadMemory>::default();
        let first = filled(&memory, 1 << 20, 1);
        let (at, slice) = (first.as_ptr(), first.slice(5..6));
        drop(first);
        let second = filled(&memory, 1 << 20, 2);
        assert_ne!(second.as_ptr(), at);
        assert_eq!(slice[..], [1]);
        drop(slice);
        let third = filled(&memory, BLOCK_FROM, 3);
        assert_eq!(third.as_ptr(), at);
        assert_eq!(third.len(), BLOCK_FROM);
        assert!(third.iter().all(|byte| *byte == 3));
    }

    #[test]
    fn what_an_earlier_reader_left_in_a_block_is_not_seen() {
        let memory = Arc::<ReadMemory>::default();
        drop(filled(&memory, BLOCK_BYTES, 7));
        let mut target = memory.take(BLOCK_BYTES);
        target.rest(BLOCK_BYTES)[..3].fill(1);
        target.fill(3);
        assert_eq!(target.rest(4).len(), 1);
        assert_eq!(target.freeze()[..], [1, 1, 1]);
    }

    #[test]
    fn few_blocks_wait_and_other_sizes_do_not() {
        let memory = Arc::<ReadMemory>::default();
        let held: Vec<Bytes> = (0..IDLE_MAX + 5)
            .map(|_| filled(&memory, BLOCK_FROM, 0))
            .collect();
        drop(held);
        assert_eq!(memory.lock().len(), IDLE_MAX);
        memory.lock().clear();
        drop(filled(&memory, BLOCK_FROM - 1, 0));
        drop(filled(&memory, BLOCK_BYTES + 1, 0));
        drop(filled(&memory, 0, 0));
        assert!(memory.lock().is_empty());
    }
}
