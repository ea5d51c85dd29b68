//! FindCoordinator: which broker to ask about a group.

use std::sync::Arc;

use super::RequestContext;
use crate::broker::endpoints::{self, Endpoint};
use crate::broker::{Broker, topics};
use crate::types::ErrorCode;
use crate::wire::message::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};

/// First version that asks for many at once.
const BATCHED_SINCE: i16 = 4;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub async fn handle(
    broker: Arc<Broker>,
    context: RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let ready = prepare(&broker, request.key_type).await;
    let find = |key: &str| {
        ready?;
        find(&broker, &context, key)
    };
    if context.version >= BATCHED_SINCE {
        let keys = request.coordinator_keys.into_iter();
        let coordinators = keys.map(|key| {
            let mut coordinator = Coordinator {
                key,
                ..Default::default()
            };
            match find(&coordinator.key) {
                Ok(endpoint) => {
                    coordinator.node_id = endpoint.id.0;
                    coordinator.host = endpoint.host.as_str().into();
                    coordinator.port = endpoint.port;
                    coordinator.error_message = None;
                }
                Err((code, text)) => {
                    coordinator.node_id = -1;
                    coordinator.port = -1;
                    coordinator.error_code = code.code();
                    coordinator.error_message = Some(text.into());
                }
            }
            coordinator
        });
        let coordinators = coordinators.collect();
        return FindCoordinatorResponse {
            coordinators,
            ..Default::default()
        };
    }
    match find(&request.key) {
        Ok(endpoint) => FindCoordinatorResponse {
            node_id: endpoint.id.0,
            host: endpoint.host.into(),
            port: endpoint.port,
            error_message: None,
            ..Default::default()
        },
        Err((code, text)) => FindCoordinatorResponse {
            error_code: code.code(),
            error_message: Some(text.into()),
            node_id: -1,
            port: -1,
            ..Default::default()
        },
    }
}

type Missing = (ErrorCode, &'static str);

/// Makes what coordinators of the type need.
async fn prepare(broker: &Arc<Broker>, key_type: i8) -> Result<(), Missing> {
    match key_type {
        GROUP => topics::ensure_offsets_topic(broker)
            .await
            .map_err(|code| (code, "the topic that groups are kept in could not be made")),
        TRANSACTION => Err((
            ErrorCode::InvalidRequest,
            "transactions are not supported yet",
        )),
        _ => Err((ErrorCode::InvalidRequest, "no coordinator of this type")),
    }
}

/// The broker that leads the partition on which the group is kept.
fn find(broker: &Broker, context: &RequestContext, group_id: &str) -> Result<Endpoint, Missing> {
    const NOBODY: Missing = (
        ErrorCode::CoordinatorNotAvailable,
        "nobody leads the partition that the group is kept in",
    );
    let image = broker.controller.image();
    let topic = image.topic(crate::group::TOPIC).ok_or(NOBODY)?;
    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let partition = crate::group::partition_for(group_id, count);
    let state = topic.partition(partition).ok_or(NOBODY)?;
    let leader = state.leader.ok_or(NOBODY)?;
    endpoints::of(broker, context, leader).ok_or(NOBODY)
}
