//! InitProducerId (key 22): gives out a producer id, or the next epoch of one (KIP-98). Versions 0
//! to 5, flexible from 2.
//!
//! - 1: throttled answers are sent at once (KIP-219).
//! - 2: flexible.
//! - 3: a producer names its id and epoch to go on with the next epoch (KIP-360).
//! - 4: PRODUCER_FENCED may come (KIP-588).
//! - 5: TRANSACTION_ABORTABLE may come (KIP-890).

use crate::wire::primitive::Str;

message! {
    pub struct InitProducerIdRequest {
        /// `None` for producers that are only idempotent.
        transactional_id: Option<Str> [0..] = Some(Default::default()),
        transaction_timeout_ms: i32 [0..],
        /// Id to go on with; -1 for a new one.
        producer_id: i64 [3..] = -1,
        producer_epoch: i16 [3..] = -1,
    }

    pub struct InitProducerIdResponse {
        throttle_time_ms: i32 [0..],
        error_code: i16 [0..],
        producer_id: i64 [0..] = -1,
        producer_epoch: i16 [0..],
    }
}
