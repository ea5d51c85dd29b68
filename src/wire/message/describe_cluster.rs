//! DescribeCluster (key 60): brokers or controllers of the cluster (KIP-700). Versions 0 to 2,
//! flexible from 0.
//!
//! - 1: the client says which of the two it asks for (KIP-919).
//! - 2: fenced brokers on request (KIP-1073).

use crate::wire::primitive::Str;

message! {
    pub struct DescribeClusterRequest {
        include_cluster_authorized_operations: bool [0..],
        /// 1: brokers; 2: controllers.
        endpoint_type: i8 [1..] = 1,
        include_fenced_brokers: bool [2..],
    }

    pub struct DescribeClusterResponse {
        throttle_time_ms: i32 [0..],
        error_code: i16 [0..],
        error_message: Option<Str> [0..],
        endpoint_type: i8 [1..] = 1,
        cluster_id: Str [0..],
        controller_id: i32 [0..] = -1,
        brokers: Vec<DescribeClusterBroker> [0..],
        cluster_authorized_operations: i32 [0..] = -2147483648,
    }

    pub struct DescribeClusterBroker {
        broker_id: i32 [0..],
        host: Str [0..],
        port: i32 [0..],
        rack: Option<Str> [0..],
        is_fenced: bool [2..],
    }
}
