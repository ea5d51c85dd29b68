//! DescribeCluster: the brokers and the cluster's id (KIP-700).

use std::sync::Arc;

use super::RequestContext;
use crate::broker::{Broker, endpoints};
use crate::types::ErrorCode;
use crate::wire::message::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

/// Asks for brokers; 2 would ask for controllers, on a controller's own listener (KIP-919).
const BROKERS: i8 = 1;

pub fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    if request.endpoint_type != BROKERS {
        return DescribeClusterResponse {
            error_code: ErrorCode::MismatchedEndpointType.code(),
            error_message: Some("this listener tells of brokers only".into()),
            endpoint_type: request.endpoint_type,
            ..Default::default()
        };
    }
    let image = broker.controller.image();
    let brokers = endpoints::alive(broker, context)
        .into_iter()
        .map(|endpoint| DescribeClusterBroker {
            broker_id: endpoint.id.0,
            host: endpoint.host.into(),
            port: endpoint.port,
            rack: endpoint.rack.map(Into::into),
            ..Default::default()
        });
    DescribeClusterResponse {
        cluster_id: image
            .cluster_id()
            .map(|id| id.to_string())
            .unwrap_or_default()
            .into(),
        controller_id: endpoints::controller(broker, &image).0,
        brokers: brokers.collect(),
        cluster_authorized_operations: super::operations(
            request.include_cluster_authorized_operations,
            super::CLUSTER_OPERATIONS,
        ),
        ..Default::default()
    }
}
