//! The classic group protocol: handed to the group coordinator.

use std::sync::Arc;

use super::RequestContext;
use crate::broker::Broker;
use crate::wire::Str;
use crate::wire::message::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use crate::wire::message::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use crate::wire::message::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::wire::message::join_group::{JoinGroupRequest, JoinGroupResponse};
use crate::wire::message::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use crate::wire::message::list_groups::{ListGroupsRequest, ListGroupsResponse};
use crate::wire::message::sync_group::{SyncGroupRequest, SyncGroupResponse};

pub async fn join(
    broker: Arc<Broker>,
    context: RequestContext,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    // Shown by DescribeGroups, in Kafka's form: a slash before the address.
    let host = context
        .peer_address
        .rsplit_once(':')
        .map_or("", |(host, _)| host);
    let client_host = Str::from(format!("/{host}"));
    let client_id = context.client_id.unwrap_or_default();
    broker
        .groups
        .join_group(request, context.version, client_id, client_host)
        .await
}

pub async fn sync(broker: Arc<Broker>, request: SyncGroupRequest) -> SyncGroupResponse {
    broker.groups.sync_group(request).await
}

pub async fn heartbeat(broker: Arc<Broker>, request: HeartbeatRequest) -> HeartbeatResponse {
    broker.groups.heartbeat(request).await
}

pub async fn leave(
    broker: Arc<Broker>,
    context: RequestContext,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    broker.groups.leave_group(request, context.version).await
}

pub async fn describe(
    broker: Arc<Broker>,
    context: RequestContext,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let wanted = request.include_authorized_operations;
    let mut response = broker
        .groups
        .describe_groups(request, context.version)
        .await;
    for group in &mut response.groups {
        group.authorized_operations = super::operations(wanted, super::GROUP_OPERATIONS);
    }
    response
}

pub async fn list(broker: Arc<Broker>, request: ListGroupsRequest) -> ListGroupsResponse {
    broker.groups.list_groups(request).await
}

pub async fn delete(broker: Arc<Broker>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    broker.groups.delete_groups(request).await
}
