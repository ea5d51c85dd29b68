//! The memory that responses are received into.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::wire::frame::LENGTH_BYTES;

/// Bytes read from the socket at least at once, where no more are known to come.
const READ_BYTES: usize = 64 << 10;

/// Room for large responses is made in steps of this, as one is seldom as large as the other.
const LARGE_STEP_BYTES: usize = 1 << 20;

/// So many responses in a row that had no use for a large buffer end it.
const SMALL_IN_A_ROW_MAX: u32 = 16;

/// What arrived and was not taken yet.
///
/// Once nobody holds a response any more, its memory is used for the next.
#[derive(Debug)]
pub(super) struct Input {
    bytes: BytesMut,
    response_max: usize,
    /// Length of the last response, where that is more than a read: the next one may be trusted to
    /// be as long.
    large: usize,
    small_in_a_row: u32,
}

impl Input {
    pub(super) fn new(response_max: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            response_max,
            large: 0,
            small_in_a_row: 0,
        }
    }

    /// Where the next read goes, with room for it.
    pub(super) fn for_read(&mut self) -> Result<&mut BytesMut, String> {
        let room = self.room_wanted()?;
        let is_needless = self.bytes.is_empty() && self.small_in_a_row > SMALL_IN_A_ROW_MAX;
        if is_needless && self.bytes.try_reclaim(LARGE_STEP_BYTES) {
            self.bytes = BytesMut::new();
        }
        if !self.bytes.try_reclaim(room) {
            // A buffer that grows in place doubles, and leaves holes of all sizes behind.
            let mut wanted = self.bytes.len() + room;
            if wanted > LARGE_STEP_BYTES {
                wanted = wanted.next_multiple_of(LARGE_STEP_BYTES);
            }
            let mut next = BytesMut::with_capacity(wanted);
            next.extend_from_slice(&self.bytes);
            self.bytes = next;
        }
        Ok(&mut self.bytes)
    }

    /// Bytes to make room for. A large response is given room as it arrives, so that a length
    /// that lies costs at most twice what was received; or as much as the one before had.
    fn room_wanted(&self) -> Result<usize, String> {
        let Some(frame) = self.frame_bytes()? else {
            return Ok(READ_BYTES);
        };
        let missing = frame.saturating_sub(self.bytes.len());
        let trusted = self.bytes.len().max(self.large).max(READ_BYTES);
        Ok(missing.clamp(1, trusted))
    }

    /// Length of the frame at the start, with its prefix.
    fn frame_bytes(&self) -> Result<Option<usize>, String> {
        let Some(prefix) = self.bytes.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*prefix);
        match usize::try_from(length) {
            Ok(length) if length <= self.response_max => Ok(Some(length + LENGTH_BYTES)),
            _ => Err(format!(
                "a response of {length} bytes; at most {} are accepted",
                self.response_max
            )),
        }
    }

    /// The first response, without its length, once all of it is there.
    pub(super) fn take(&mut self) -> Result<Option<Bytes>, String> {
        let bytes = match self.frame_bytes()? {
            Some(bytes) if bytes <= self.bytes.len() => bytes,
            _ => return Ok(None),
        };
        (self.large, self.small_in_a_row) = match bytes > READ_BYTES {
            true => (bytes, 0),
            false => (0, self.small_in_a_row.saturating_add(1)),
        };
        let mut frame = self.bytes.split_to(bytes).freeze();
        frame.advance(LENGTH_BYTES);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// Receives a response of `length` bytes, `piece` at a time at most.
    fn receive(input: &mut Input, length: usize, piece: usize) -> Bytes {
        let mut frame = BytesMut::from(&(length as i32).to_be_bytes()[..]);
        frame.resize(LENGTH_BYTES + length, 3);
        while !frame.is_empty() {
            assert_eq!(input.take(), Ok(None));
            let buffer = input.for_read().expect("a fair length");
            let spare = buffer.capacity() - buffer.len();
            assert!(spare > 0);
            buffer.extend_from_slice(&frame.split_to(piece.min(spare).min(frame.len())));
        }
        let taken = input.take().expect("a fair length").expect("all of it");
        assert_eq!(taken.len(), length);
        assert!(taken.iter().all(|byte| *byte == 3));
        taken
    }

    /// Whether it has so much memory in one piece that nobody holds.
    fn has_room_for(input: &mut Input, bytes: usize) -> bool {
        input.for_read().expect("a fair length").try_reclaim(bytes)
    }

    #[test]
    fn responses_come_whole_however_they_arrive() {
        let mut input = Input::new(10 * MIB);
        for length in [
            0,
            1,
            5,
            READ_BYTES - 4,
            READ_BYTES,
            3 * MIB + 1,
            200,
            MIB,
            2 * MIB,
        ] {
            for piece in [1 + length / 100, 50_000, usize::MAX] {
                receive(&mut input, length, piece);
            }
        }
    }

    #[test]
    fn memory_that_nobody_holds_is_used_again_and_is_no_larger_than_responses_were() {
        let mut input = Input::new(10 * MIB);
        drop(receive(&mut input, 5 * MIB, 100_000));
        let at = receive(&mut input, 5 * MIB, 100_000).as_ptr();
        for length in [5 * MIB - 7, 3 * MIB, 100, 5 * MIB] {
            let used = at..at.wrapping_add(6 * MIB);
            assert!(used.contains(&receive(&mut input, length, 100_000).as_ptr()));
        }
        let held = receive(&mut input, 5 * MIB, 100_000);
        let other = receive(&mut input, 5 * MIB, 100_000);
        assert_ne!(held.as_ptr(), other.as_ptr());
        drop((held, other));
        assert!(has_room_for(&mut input, 5 * MIB));
        assert!(!has_room_for(&mut input, 6 * MIB + 1));
    }

    #[test]
    fn what_one_large_response_took_is_given_back_after_many_small_ones() {
        let mut input = Input::new(10 * MIB);
        drop(receive(&mut input, 5 * MIB, MIB));
        for _ in 0..SMALL_IN_A_ROW_MAX {
            drop(receive(&mut input, 100, 100));
        }
        assert!(has_room_for(&mut input, 5 * MIB));
        drop(receive(&mut input, 100, 200));
        assert!(!has_room_for(&mut input, READ_BYTES + 1));
    }

    #[test]
    fn an_announced_length_alone_takes_no_memory() {
        let mut input = Input::new(10 * MIB);
        let announced = (9 * (MIB as i32)).to_be_bytes();
        input
            .for_read()
            .expect("room")
            .extend_from_slice(&announced);
        let room = input.for_read().expect("a fair length").capacity();
        assert!(room <= 2 * READ_BYTES, "{room}");
        let mut input = Input::new(MIB);
        input
            .for_read()
            .expect("room")
            .extend_from_slice(&announced);
        let refused = input.for_read().expect_err("too long");
        assert!(refused.contains("at most 1048576"), "{refused}");
        assert!(input.take().is_err());
    }
}
