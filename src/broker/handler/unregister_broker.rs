//! UnregisterBroker: forgets a broker that is gone for good.

use std::sync::Arc;

use crate::broker::Broker;
use crate::types::BrokerId;
use crate::wire::message::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};

pub async fn handle(
    broker: Arc<Broker>,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let done = broker
        .controller
        .unregister_broker(BrokerId(request.broker_id))
        .await;
    let (error_code, error_message) = super::outcome(done);
    UnregisterBrokerResponse {
        error_code,
        error_message,
        ..Default::default()
    }
}
