//! RemoveRaftVoter (key 81): takes a controller's vote away (KIP-853). Version 0, flexible.

use crate::types::Uuid;
use crate::wire::primitive::Str;

message! {
    pub struct RemoveRaftVoterRequest {
        /// `None`: whatever cluster this is.
        cluster_id: Option<Str> [0..],
        voter_id: i32 [0..],
        voter_directory_id: Uuid [0..],
    }

    pub struct RemoveRaftVoterResponse {
        throttle_time_ms: i32 [0..],
        error_code: i16 [0..],
        error_message: Option<Str> [0..],
    }
}
