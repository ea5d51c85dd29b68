//! A partition at a broker, as far as producers can tell.

use std::collections::{BTreeMap, VecDeque};

use crate::types::{ErrorCode, Sequence};
use crate::wire::batch::RecordBatch;

/// First sequence, last sequence and base offset of a batch.
type Sent = (i32, i32, i64);

/// A partition as a broker keeps it: values in order, and the last batches of each producer.
#[derive(Default)]
pub struct Broker {
    pub log: Vec<u32>,
    producers: BTreeMap<i64, (i16, VecDeque<Sent>)>,
}

impl Broker {
    /// Writes a batch, or tells a repetition by its sequence; the base offset.
    pub fn produce(&mut self, batch: &RecordBatch) -> Result<i64, ErrorCode> {
        let header = batch.header;
        if header.has_producer() {
            let (first, last) = (header.base_sequence.0, header.last_sequence().0);
            let known = self.producers.get(&header.producer_id.0);
            if let Some((epoch, recent)) = known {
                if header.producer_epoch.0 < *epoch {
                    return Err(ErrorCode::InvalidProducerEpoch);
                }
                if header.producer_epoch.0 == *epoch {
                    if let Some(same) = recent.iter().find(|b| (b.0, b.1) == (first, last)) {
                        return Ok(same.2);
                    }
                    let expected = recent.back().map_or(0, |b| Sequence(b.1).next().0);
                    if first != expected {
                        return Err(ErrorCode::OutOfOrderSequenceNumber);
                    }
                } else if first != 0 {
                    return Err(ErrorCode::OutOfOrderSequenceNumber);
                }
            }
            let state = self.producers.entry(header.producer_id.0).or_default();
            if state.0 != header.producer_epoch.0 {
                *state = (header.producer_epoch.0, VecDeque::new());
            }
            state.1.push_back((first, last, self.log.len() as i64));
            if state.1.len() > 5 {
                state.1.pop_front();
            }
        }
        let base = self.log.len() as i64;
        for record in batch.records().expect("readable") {
            let value = record.expect("readable").value.expect("a value");
            self.log.push(u32::from_be_bytes(
                value[..].try_into().expect("four bytes"),
            ));
        }
        Ok(base)
    }
}
