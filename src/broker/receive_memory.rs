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

/// Blocks looked at for one that is free. They come free about in the order they were filled.
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
        let mut next = match size {
            Some(size) => self.take(size),
            None => BytesMut::with_capacity(wanted),
        };
        next.extend_from_slice(buffer);
        buffer.clear();
        self.give(std::mem::replace(buffer, next), block);
        Block(size)
    }

    fn take(&self, size: usize) -> BytesMut {
        let mut filled = self.lock();
        for _ in 0..LOOKS.min(filled.blocks[size].len()) {
            let Some(mut block) = filled.blocks[size].pop_front() else {
                break;
            };
            if block.try_reclaim(SIZES[size]) {
                filled.bytes -= SIZES[size];
                return block;
            }
            filled.blocks[size].push_back(block);
        }
        drop(filled);
        BytesMut::with_capacity(SIZES[size])
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
