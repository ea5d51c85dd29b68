//! ApiVersions (key 18): what the broker speaks; a client's first request. Versions 0 to 4,
//! flexible from 3.
//!
//! The header of the answer is never flexible, and a version not served is answered in version 0
//! with UNSUPPORTED_VERSION, so that client and broker always find a version in common (KIP-511).
//!
//! - 1: throttle time.
//! - 2: throttled answers are sent at once (KIP-219).
//! - 3: flexible; name and version of the client's software; features (KIP-584).
//! - 4: features whose lowest version is 0 may be told; below 4 they must be left out
//!   (KAFKA-17011).

use crate::wire::primitive::Str;

message! {
    pub struct ApiVersionsRequest {
        client_software_name: Str [3..],
        client_software_version: Str [3..],
    }

    pub struct ApiVersionsResponse {
        error_code: i16 [0..],
        api_keys: Vec<ApiVersion> [0..],
        throttle_time_ms: i32 [1..],
    } tagged {
        0 supported_features: Vec<SupportedFeatureKey> [3..],
        1 finalized_features_epoch: i64 [3..] = -1,
        2 finalized_features: Vec<FinalizedFeatureKey> [3..],
        3 zk_migration_ready: bool [3..],
    }

    pub struct ApiVersion {
        api_key: i16 [0..],
        min_version: i16 [0..],
        max_version: i16 [0..],
    }

    pub struct SupportedFeatureKey {
        name: Str [3..],
        min_version: i16 [3..],
        max_version: i16 [3..],
    }

    pub struct FinalizedFeatureKey {
        name: Str [3..],
        max_version_level: i16 [3..],
        min_version_level: i16 [3..],
    }
}
