//! A partition's producer state in a file.
//!
//! `%020d.snapshot` holds the state after all batches below the offset in its name. Recovery
//! starts from the newest one at or below what it trusts of the log and appends the rest. It is
//! more than a cache: the batches of a producer may have been deleted while the producer lives.

use std::collections::VecDeque;
use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::checkpoint::{self, CheckpointError};
use super::producer_state::{BATCHES_KEPT, Producer, ProducerBatch, ProducerState};
use crate::env::Disk;
use crate::types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

const VERSION: u16 = 1;
const HEAD_BYTES: usize = 2 + 8 + 4;
const PRODUCER_BYTES: usize = 8 + 2 + 8 + 8 + 1;
const BATCH_BYTES: usize = 4 + 4 + 8 + 8 + 8;
const NO_TRANSACTION: i64 = -1;

/// What the snapshot of the state before `offset` is called.
#[must_use]
pub fn file_name(offset: Offset) -> String {
    format!("{:020}.snapshot", offset.0)
}

/// The offset in a snapshot's name; `None` for any other file.
#[must_use]
pub fn offset_in(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".snapshot")?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(Offset)
}

/// Makes the snapshot of `state` durable in `dir`, named by [`ProducerState::end`].
pub async fn save(
    disk: &dyn Disk,
    dir: &Path,
    state: &ProducerState,
) -> Result<(), CheckpointError> {
    checkpoint::write(disk, dir, &file_name(state.end()), encode(state)).await
}

/// The state before `offset` as a snapshot in `dir` has it; `None` without such a file.
pub async fn load(
    disk: &dyn Disk,
    dir: &Path,
    offset: Offset,
) -> Result<Option<ProducerState>, CheckpointError> {
    let name = file_name(offset);
    let Some(body) = checkpoint::read(disk, dir, &name).await? else {
        return Ok(None);
    };
    let state = decode(body).map_err(|reason| CheckpointError::damaged(dir, &name, reason))?;
    if state.end() != offset {
        let reason = format!("it holds the state at offset {}", state.end());
        return Err(CheckpointError::damaged(dir, &name, reason));
    }
    Ok(Some(state))
}

/// The bytes [`decode`] reads.
#[must_use]
pub fn encode(state: &ProducerState) -> Bytes {
    let most = PRODUCER_BYTES + BATCHES_KEPT * BATCH_BYTES;
    let mut to = BytesMut::with_capacity(HEAD_BYTES + state.len() * most);
    to.put_u16(VERSION);
    to.put_i64(state.end.0);
    to.put_u32(u32::try_from(state.len()).expect("far fewer producers than 2^32 fit in memory"));
    for (id, producer) in &state.producers {
        to.put_i64(id.0);
        to.put_i16(producer.epoch.0);
        to.put_i64(producer.last_timestamp.0);
        to.put_i64(
            producer
                .transaction_start
                .map_or(NO_TRANSACTION, |start| start.0),
        );
        to.put_u8(u8::try_from(producer.batches.len()).expect("at most five"));
        for batch in &producer.batches {
            to.put_i32(batch.base_sequence.0);
            to.put_i32(batch.last_sequence.0);
            to.put_i64(batch.base_offset.0);
            to.put_i64(batch.last_offset.0);
            to.put_i64(batch.timestamp.0);
        }
    }
    to.freeze()
}

/// Reads what [`encode`] wrote; the reason when it cannot be that.
pub fn decode(mut from: Bytes) -> Result<ProducerState, String> {
    if from.len() < HEAD_BYTES {
        return Err(format!("{} bytes are too few", from.len()));
    }
    let version = from.get_u16();
    if version != VERSION {
        return Err(format!(
            "its version is {version}, this program knows {VERSION}"
        ));
    }
    let mut state = ProducerState::default();
    state.restart_at(Offset(from.get_i64()));
    let count = from.get_u32();
    let mut previous = ProducerId::NONE;
    for _ in 0..count {
        let (id, producer) = decode_producer(&mut from)?;
        if id <= previous {
            return Err("its producers are not in order".to_owned());
        }
        previous = id;
        if let Some(start) = producer.transaction_start
            && state.open.insert(start, id).is_some()
        {
            return Err(format!("two transactions begin at offset {start}"));
        }
        state.producers.insert(id, producer);
    }
    if from.has_remaining() {
        return Err(format!(
            "{} bytes follow the last producer",
            from.remaining()
        ));
    }
    Ok(state)
}

fn decode_producer(from: &mut Bytes) -> Result<(ProducerId, Producer), String> {
    if from.len() < PRODUCER_BYTES {
        return Err("it ends within a producer".to_owned());
    }
    let id = ProducerId(from.get_i64());
    let mut producer = Producer::new(ProducerEpoch(from.get_i16()));
    producer.last_timestamp = Timestamp(from.get_i64());
    producer.transaction_start = match from.get_i64() {
        NO_TRANSACTION => None,
        start => Some(Offset(start)),
    };
    let count = usize::from(from.get_u8());
    if count > BATCHES_KEPT || from.len() < count * BATCH_BYTES {
        return Err(format!("producer {} cannot have {count} batches", id.0));
    }
    producer.batches = VecDeque::with_capacity(count);
    for _ in 0..count {
        producer.batches.push_back(ProducerBatch {
            base_sequence: Sequence(from.get_i32()),
            last_sequence: Sequence(from.get_i32()),
            base_offset: Offset(from.get_i64()),
            last_offset: Offset(from.get_i64()),
            timestamp: Timestamp(from.get_i64()),
        });
    }
    Ok((id, producer))
}
