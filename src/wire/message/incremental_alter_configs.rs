//! IncrementalAlterConfigs (key 44): sets, deletes, appends to or subtracts from single keys
//! (KIP-339). Versions 0 to 1, flexible from 1.

use crate::wire::primitive::Str;

message! {
    pub struct IncrementalAlterConfigsRequest {
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
        /// 0: set; 1: delete; 2: append; 3: subtract.
        config_operation: i8 [0..],
        value: Option<Str> [0..] = Some(Default::default()),
    }

    pub struct IncrementalAlterConfigsResponse {
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
