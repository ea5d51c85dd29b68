//! DescribeCluster: the brokers and the cluster's id (KIP-700).

use std::sync::Arc;

use super::RequestContext;
use crate::broker::Broker;
use crate::broker::endpoints::{self, Endpoint};
use crate::types::ErrorCode;
use crate::wire::message::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

/// Asks for brokers.
const BROKERS: i8 = 1;

/// Asks for controllers, on a controller's own listener (KIP-919).
const CONTROLLERS: i8 = 2;

pub fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    if request.endpoint_type != BROKERS {
        let code = match request.endpoint_type {
            CONTROLLERS => ErrorCode::MismatchedEndpointType,
            _ => ErrorCode::UnsupportedEndpointType,
        };
        return DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some("this listener tells of brokers only".into()),
            endpoint_type: request.endpoint_type,
            ..Default::default()
        };
    }
    let image = broker.controller.image();
    let described = |endpoint: Endpoint, is_fenced| DescribeClusterBroker {
        broker_id: endpoint.id.0,
        host: endpoint.host.into(),
        port: endpoint.port,
        rack: endpoint.rack.map(Into::into),
        is_fenced,
        ..Default::default()
    };
    let alive = endpoints::alive(broker, context);
    let mut brokers: Vec<_> = alive.into_iter().map(|one| described(one, false)).collect();
    if request.include_fenced_brokers {
        let fenced = endpoints::fenced(broker, context);
        brokers.extend(fenced.into_iter().map(|one| described(one, true)));
        brokers.sort_by_key(|one| one.broker_id);
    }
    DescribeClusterResponse {
        cluster_id: image
            .cluster_id()
            .map(|id| id.to_string())
            .unwrap_or_default()
            .into(),
        controller_id: endpoints::controller(broker, &image).0,
        brokers,
        cluster_authorized_operations: super::operations(
            request.include_cluster_authorized_operations,
            super::CLUSTER_OPERATIONS,
        ),
        ..Default::default()
    }
}
