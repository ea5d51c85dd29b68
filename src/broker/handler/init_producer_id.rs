//! InitProducerId: an identity for an idempotent producer.

use std::sync::Arc;

use crate::broker::Broker;
use crate::types::ErrorCode;
use crate::wire::message::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

pub async fn handle(broker: Arc<Broker>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    if request.transactional_id.is_some() {
        // The one error on which every client stops with "not supported by the broker".
        return refused(ErrorCode::UnsupportedVersion);
    }
    match broker.controller.next_producer_id().await {
        Ok(id) => InitProducerIdResponse {
            producer_id: id.0,
            producer_epoch: 0,
            ..Default::default()
        },
        Err(refusal) => {
            tracing::warn!(%refusal, "no producer ids");
            refused(refusal.code)
        }
    }
}

fn refused(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    }
}
