//! Memory that requests are received into, used again.
//!
//! Batches stay where they were received until they are on the disk and out of the tail cache: that
//! is what keeps them from being copied, and what keeps the whole block around them. Blocks taken
//! from the allocator and given back in that rhythm leave it with two to three times what is in
//! use, and the first touch of a page is dear. So a connection leaves a block that it has filled
//! here, and whoever needs one next takes the oldest whose last slice is gone.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;

/// Sizes of blocks: what is smaller or larger is left to the allocator.
const SIZES: [usize; 4] = [64 << 10, 256 << 10, 512 << 10, 1 << 20];

/// Blocks of a size looked at for one that is free. They come free about in the order they were
/// filled.
const LOOKS: usize = 4;

/// Bytes of the blocks remembered. What is forgotten goes back to the allocator in time.
const REMEMBERED_MAX: usize = 64 << 20;

/// The blocks that were filled, and may be free by now.
#[derive(Debug, Default)]
pub struct ReceiveMemory {
    filled: Mutex<Filled>,
}

#[derive(Debug, Default)]
struct Filled {
    /// By size, the oldest first.
    blocks: [VecDeque<BytesMut>; SIZES.len()],
    bytes: usize,
}

impl Filled {
    /// One of the oldest blocks of a size, if one of them is free.
    fn take(&mut self, size: usize) -> Option<BytesMut> {
        for _ in 0..LOOKS.min(self.blocks[size].len()) {
            let mut block = self.blocks[size].pop_front()?;
            if block.try_reclaim(SIZES[size]) {
                self.bytes -= SIZES[size];
                return Some(block);
            }
            self.blocks[size].push_back(block);
        }
        None
    }
}

/// Which size a buffer was made with, if one of [`SIZES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Block(Option<usize>);

impl ReceiveMemory {
    fn lock(&self) -> MutexGuard<'_, Filled> {
        self.filled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for `room` more bytes in `buffer`, which was made as `block`: in another buffer,
    /// where there is none left.
    pub fn reserve(&self, buffer: &mut BytesMut, block: Block, room: usize) -> Block {
        if buffer.try_reclaim(room) {
            return block;
        }
        let wanted = buffer.len() + room;
        let size = SIZES.iter().position(|size| *size >= wanted);
        let size = size.filter(|_| wanted > SIZES[0] / 4);
        let (mut next, size) = match size {
            Some(size) => self.take(size),
            None => (BytesMut::with_capacity(wanted), None),
        };
        next.extend_from_slice(buffer);
        buffer.clear();
        self.give(std::mem::replace(buffer, next), block);
        Block(size)
    }

    /// A block of this size, or of a larger one that is free.
    fn take(&self, size: usize) -> (BytesMut, Option<usize>) {
        let mut filled = self.lock();
        for larger in size..SIZES.len() {
            if let Some(block) = filled.take(larger) {
                return (block, Some(larger));
            }
        }
        // Sizes come and go with the load: what the one before left behind makes way.
        let mut gone = 0;
        for smaller in (0..size).rev() {
            while gone < SIZES[size] && filled.take(smaller).is_some() {
                gone += SIZES[smaller];
            }
        }
        drop(filled);
        (BytesMut::with_capacity(SIZES[size]), Some(size))
    }

    /// Leaves a buffer here, empty but for what others hold of it.
    pub fn give(&self, mut buffer: BytesMut, block: Block) {
        let Some(size) = block.0 else {
            return;
        };
        buffer.clear();
        let mut filled = self.lock();
        filled.bytes += SIZES[size];
        filled.blocks[size].push_back(buffer);
        while filled.bytes > REMEMBERED_MAX {
            let most =
                (0..SIZES.len()).max_by_key(|size| filled.blocks[*size].len() * SIZES[*size]);
            let most = most.unwrap_or_default();
            filled.blocks[most].pop_front();
            filled.bytes -= SIZES[most];
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// A buffer of the smallest size, and what it was made as.
    fn small(memory: &ReceiveMemory) -> (BytesMut, Block) {
        let mut buffer = BytesMut::new();
        let block = memory.reserve(&mut buffer, Block::default(), SIZES[0]);
        assert_eq!(block, Block(Some(0)));
        (buffer, block)
    }

    /// Fills `buffer` up, and takes all of it out as a frame is.
    fn fill(buffer: &mut BytesMut, with: u8) -> Bytes {
        buffer.resize(buffer.capacity(), with);
        buffer.split_to(buffer.len()).freeze()
    }

    #[test]
    fn a_block_is_used_again_once_its_last_slice_is_gone() {
        let memory = ReceiveMemory::default();
        let (mut buffer, block) = small(&memory);
        let frame = fill(&mut buffer, 1);
        let (at, slice) = (frame.as_ptr(), frame.slice(5..6));
        drop(frame);
        memory.give(buffer, block);
        let (mut second, block) = small(&memory);
        assert_ne!(second.as_ptr(), at);
        drop(fill(&mut second, 2));
        assert_eq!(slice[..], [1]);
        drop(slice);
        memory.give(second, block);
        assert_eq!(small(&memory).0.as_ptr(), at);
    }

    #[test]
    fn a_connection_whose_frames_are_gone_goes_on_with_its_block() {
        let memory = ReceiveMemory::default();
        let (mut buffer, block) = small(&memory);
        let at = buffer.as_ptr();
        drop(fill(&mut buffer, 1));
        assert_eq!(memory.reserve(&mut buffer, block, SIZES[0]), block);
        assert_eq!(buffer.as_ptr(), at);
        assert_eq!(memory.lock().bytes, 0);
    }

    #[test]
    fn what_has_arrived_of_a_frame_moves_along() {
        let memory = ReceiveMemory::default();
        let (mut buffer, block) = small(&memory);
        buffer.resize(buffer.capacity(), 7);
        let frame = buffer.split_to(buffer.len() - 5).freeze();
        let block = memory.reserve(&mut buffer, block, 700 << 10);
        assert_eq!(block, Block(Some(3)));
        assert_eq!(buffer[..], [7; 5]);
        assert!(frame.iter().all(|byte| *byte == 7));
    }

    /// Blocks of `SIZES[size]`, each filled, and what was filled in.
    fn filled(memory: &ReceiveMemory, size: usize, count: usize) -> Vec<Bytes> {
        let mut frames = Vec::new();
        for _ in 0..count {
            let mut buffer = BytesMut::new();
            let block = memory.reserve(&mut buffer, Block::default(), SIZES[size]);
            frames.push(fill(&mut buffer, 1));
            memory.give(buffer, block);
        }
        frames
    }

    #[test]
    fn a_larger_block_that_is_free_is_better_than_a_new_one() {
        let memory = ReceiveMemory::default();
        let frame = filled(&memory, 3, 1);
        let at = frame[0].as_ptr();
        drop(frame);
        let (mut buffer, block) = (BytesMut::new(), Block::default());
        let block = memory.reserve(&mut buffer, block, SIZES[1]);
        assert_eq!((buffer.as_ptr(), block), (at, Block(Some(3))));
        memory.give(buffer, block);
        assert_eq!(memory.lock().bytes, SIZES[3]);
        assert_eq!(memory.lock().blocks[3].len(), 1);
    }

    #[test]
    fn free_blocks_of_sizes_nobody_asks_for_make_way() {
        let memory = ReceiveMemory::default();
        let (small, pinned) = (filled(&memory, 2, 9), filled(&memory, 1, 2));
        drop(small);
        // As if under load: none of the large ones comes free.
        let large = filled(&memory, 3, 4);
        let counts = |memory: &ReceiveMemory| {
            let filled = memory.lock();
            (filled.blocks.each_ref().map(VecDeque::len), filled.bytes)
        };
        let bytes = SIZES[2] + 2 * SIZES[1] + 4 * SIZES[3];
        assert_eq!(counts(&memory), ([0, 2, 1, 4], bytes));
        drop((pinned, large));
    }

    #[test]
    fn other_sizes_are_not_kept_and_no_more_than_the_bound_is() {
        let memory = ReceiveMemory::default();
        for room in [1, SIZES[0] / 4, SIZES[3] + 1] {
            let mut buffer = BytesMut::new();
            let block = memory.reserve(&mut buffer, Block::default(), room);
            assert_eq!(block, Block(None));
            memory.give(buffer, block);
        }
        assert_eq!(memory.lock().bytes, 0);
        for _ in 0..2 * REMEMBERED_MAX / SIZES[3] {
            memory.give(BytesMut::with_capacity(SIZES[3]), Block(Some(3)));
        }
        assert_eq!(memory.lock().bytes, REMEMBERED_MAX);
        assert_eq!(memory.lock().blocks[3].len(), REMEMBERED_MAX / SIZES[3]);
    }
}
