//! AlterConfigs (key 33): replaces the whole configuration of resources; what is not named goes
//! back to its default. IncrementalAlterConfigs is what newer clients use. Versions 0 to 2,
//! flexible from 2.
//!
//! - 1: throttled answers are sent at once (KIP-219).
//! - 2: flexible.

use crate::wire::primitive::Str;

message! {
    pub struct AlterConfigsRequest {
        resources: Vec<AlterConfigsResource> [0..],
        validate_only: bool [0..],
    }

    pub struct AlterConfigsResource {
        resource_type: i8 [0..],
        resource_name: Str [0..],
        configs: Vec<AlterableConfig> [0..],
    }

    pub struct AlterableConfig {
        name: Str [0..],
        value: Option<Str> [0..] = Some(Default::default()),
    }

    pub struct AlterConfigsResponse {
        throttle_time_ms: i32 [0..],
        responses: Vec<AlterConfigsResourceResponse> [0..],
    }

    pub struct AlterConfigsResourceResponse {
        error_code: i16 [0..],
        error_message: Option<Str> [0..] = Some(Default::default()),
        resource_type: i8 [0..],
        resource_name: Str [0..],
    }
}
