//! DescribeConfigs (key 32): configuration of topics, brokers and groups. Versions 1 to 4,
//! flexible from 4.
//!
//! - 1: where each value comes from, and what it overrides, on request (KIP-226).
//! - 2: throttled answers are sent at once (KIP-219).
//! - 3: type and documentation of each key (KIP-569).
//! - 4: flexible.

use crate::wire::primitive::Str;

message! {
    pub struct DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource> [0..],
        include_synonyms: bool [0..],
        include_documentation: bool [3..],
    }

    pub struct DescribeConfigsResource {
        resource_type: i8 [0..],
        resource_name: Str [0..],
        /// `None`: all keys.
        configuration_keys: Option<Vec<Str>> [0..] = Some(Default::default()),
    }

    pub struct DescribeConfigsResponse {
        throttle_time_ms: i32 [0..],
        results: Vec<DescribeConfigsResult> [0..],
    }

    pub struct DescribeConfigsResult {
        error_code: i16 [0..],
        error_message: Option<Str> [0..] = Some(Default::default()),
        resource_type: i8 [0..],
        resource_name: Str [0..],
        configs: Vec<DescribeConfigsResourceResult> [0..],
    }

    pub struct DescribeConfigsResourceResult {
        name: Str [0..],
        /// `None` where it is sensitive.
        value: Option<Str> [0..] = Some(Default::default()),
        read_only: bool [0..],
        config_source: i8 [0..] = -1,
        is_sensitive: bool [0..],
        synonyms: Vec<DescribeConfigsSynonym> [0..],
        config_type: i8 [3..],
        documentation: Option<Str> [3..] = Some(Default::default()),
    }

    pub struct DescribeConfigsSynonym {
        name: Str [0..],
        value: Option<Str> [0..] = Some(Default::default()),
        source: i8 [0..],
    }
}
