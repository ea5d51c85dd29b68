//! Tries the addresses that clients are told, once at the start, and says what to change when they
//! lead nowhere. Nothing depends on the outcome: a firewall may hide from a broker what its clients
//! reach.

use std::sync::Arc;
use std::time::Duration;

use super::Broker;
use crate::config::Advertised;

/// Longest wait for a connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// Tries every fixed advertised address.
pub async fn run(broker: Arc<Broker>) {
    for listener in &broker.config.listeners {
        let Advertised::Fixed { host, port } = &listener.advertised else {
            continue;
        };
        let address = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let connecting = broker.env.net.connect(&address);
        let failure = match broker.env.timeout(PATIENCE, connecting).await {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        tracing::warn!(
            listener = %listener.name,
            "advertised.listeners: clients are told to connect to {address}, which cannot be \
             reached from here ({failure}). Set advertised.listeners to a name and port of this \
             node that clients can reach, or leave it unset to tell each client the address it \
             dialled"
        );
    }
}
