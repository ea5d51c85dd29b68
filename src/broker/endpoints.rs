//! Where clients are told to find brokers.

use super::Broker;
use super::handler::RequestContext;
use crate::config::Advertised;
use crate::controller::BrokerRecord;
use crate::types::BrokerId;

/// A broker as clients see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    pub id: BrokerId,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

/// All brokers alive, for a client that came by the listener of `context`.
pub fn alive(broker: &Broker, context: &RequestContext) -> Vec<Endpoint> {
    let image = broker.controller.image();
    let ids: Vec<BrokerId> = image.alive().collect();
    ids.into_iter()
        .filter_map(|id| image.broker(id))
        .filter_map(|record| endpoint(broker, context, record))
        .collect()
}

/// Brokers that are registered and not alive, as [`alive`] tells of the others.
pub fn fenced(broker: &Broker, context: &RequestContext) -> Vec<Endpoint> {
    let image = broker.controller.image();
    let fenced = image.brokers().filter(|record| record.fenced);
    fenced
        .filter_map(|record| endpoint(broker, context, record))
        .collect()
}

/// This broker, as the client sees it.
pub fn own(broker: &Broker, context: &RequestContext) -> Endpoint {
    let listener = &broker.config.listeners[context.listener];
    let (dialled_host, dialled_port) = split(&context.local_address);
    let (host, port) = match &listener.advertised {
        Advertised::Fixed { host, port } => (host.clone(), i32::from(*port)),
        Advertised::Echo { port: 0 } => (dialled_host, dialled_port),
        Advertised::Echo { port } => (dialled_host, i32::from(*port)),
    };
    Endpoint {
        id: broker.config.node_id,
        host,
        port,
        rack: broker.config.rack.clone(),
    }
}

fn endpoint(broker: &Broker, context: &RequestContext, record: &BrokerRecord) -> Option<Endpoint> {
    if record.id == broker.config.node_id {
        return Some(own(broker, context));
    }
    let name = &broker.config.listeners[context.listener].name;
    let found = record
        .endpoints
        .iter()
        .find(|endpoint| endpoint.listener == *name)?;
    Some(Endpoint {
        id: record.id,
        host: found.host.clone(),
        port: i32::from(found.port),
        rack: record.rack.clone(),
    })
}

/// Host, without brackets, and port of `ip:port`.
fn split(address: &str) -> (String, i32) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host.to_owned(), port.parse().unwrap_or(0))
}
