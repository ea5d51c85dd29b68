//! FindCoordinator (key 10): which broker coordinates a group or a transaction. Versions 0 to 6,
//! flexible from 3.
//!
//! - 1: kind of key; throttle time and error text.
//! - 2: throttled answers are sent at once (KIP-219).
//! - 3: flexible.
//! - 4: several keys in one request (KIP-699).
//! - 5: TRANSACTION_ABORTABLE may come (KIP-890).
//! - 6: share groups, with keys of the form `group:topic-id:partition` (KIP-932).

use crate::wire::primitive::Str;

message! {
    pub struct FindCoordinatorRequest {
        key: Str [0..=3],
        /// 0: group; 1: transaction; 2: share group.
        key_type: i8 [1..],
        coordinator_keys: Vec<Str> [4..],
    }

    pub struct FindCoordinatorResponse {
        throttle_time_ms: i32 [1..],
        error_code: i16 [0..=3],
        error_message: Option<Str> [1..=3] = Some(Default::default()),
        node_id: i32 [0..=3],
        host: Str [0..=3],
        port: i32 [0..=3],
        coordinators: Vec<Coordinator> [4..],
    }

    pub struct Coordinator {
        key: Str [4..],
        node_id: i32 [4..],
        host: Str [4..],
        port: i32 [4..],
        error_code: i16 [4..],
        error_message: Option<Str> [4..] = Some(Default::default()),
    }
}
