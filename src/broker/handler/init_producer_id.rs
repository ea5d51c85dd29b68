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
            refused(for_producers(refusal.code))
        }
    }
}

/// What a producer is told for a refusal of the controller. While there is no active controller
/// that is what Kafka says until it has its next block of ids: producers ask again after that, and
/// for some of them any other code is the end.
fn for_producers(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::NotController | ErrorCode::RequestTimedOut => {
            ErrorCode::CoordinatorLoadInProgress
        }
        other => other,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_ask_again_while_no_controller_is_active() {
        for code in [ErrorCode::NotController, ErrorCode::RequestTimedOut] {
            assert_eq!(for_producers(code), ErrorCode::CoordinatorLoadInProgress);
        }
        let lasting = ErrorCode::KafkaStorageError;
        assert_eq!(for_producers(lasting), lasting);
    }
}
