//! UnregisterBroker (key 64): takes a broker that is gone for good out of the cluster (KIP-631).
//! Version 0, flexible.

use crate::wire::primitive::Str;

message! {
    pub struct UnregisterBrokerRequest {
        broker_id: i32 [0..],
    }

    pub struct UnregisterBrokerResponse {
        throttle_time_ms: i32 [0..],
        error_code: i16 [0..],
        error_message: Option<Str> [0..],
    }
}
