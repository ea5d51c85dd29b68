//! AddRaftVoter (key 80): gives a controller a vote (KIP-853). Versions 0 to 1, flexible from 0.
//!
//! - 1: the client may be content with less than a committed change (KIP-1186).

use crate::types::Uuid;
use crate::wire::primitive::Str;

message! {
    pub struct AddRaftVoterRequest {
        /// `None`: whatever cluster this is.
        cluster_id: Option<Str> [0..],
        timeout_ms: i32 [0..],
        voter_id: i32 [0..],
        voter_directory_id: Uuid [0..],
        /// Where the other controllers reach it.
        listeners: Vec<Listener> [0..],
        /// Whether the answer waits until the change is committed.
        ack_when_committed: bool [1..] = true,
    }

    pub struct Listener {
        name: Str [0..],
        host: Str [0..],
        port: u16 [0..],
    }

    pub struct AddRaftVoterResponse {
        throttle_time_ms: i32 [0..],
        error_code: i16 [0..],
        error_message: Option<Str> [0..],
    }
}
