//! Where clients are told to find brokers.

use super::Broker;
use super::handler::RequestContext;
use crate::config::{Advertised, Listener};
use crate::controller::{BrokerRecord, ClusterImage};
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

/// Broker `id`, if it is alive, for a client that came by the listener of `context`.
pub fn of(broker: &Broker, context: &RequestContext, id: BrokerId) -> Option<Endpoint> {
    let image = broker.controller.image();
    let record = image.broker(id)?;
    let is_alive = !record.fenced && !record.shutting_down;
    is_alive
        .then(|| endpoint(broker, context, record))
        .flatten()
}

/// Whom clients are to ask what is for the controller: the active one where it is a broker, too.
/// Any broker hands on what it is asked.
pub fn controller(broker: &Broker, image: &ClusterImage) -> BrokerId {
    let active = broker.controller.leader();
    active
        .filter(|id| image.alive().any(|alive| alive == *id))
        .unwrap_or(broker.config.node_id)
}

/// This broker, as the client sees it.
pub fn own(broker: &Broker, context: &RequestContext) -> Endpoint {
    let (dialled_host, dialled_port) = split(&context.local_address);
    let advertised = listener(broker, context).map(|listener| &listener.advertised);
    let (host, port) = match advertised {
        Some(Advertised::Fixed { host, port }) => (host.clone(), i32::from(*port)),
        Some(Advertised::Echo { port: 0 }) | None => (dialled_host, dialled_port),
        Some(Advertised::Echo { port }) => (dialled_host, i32::from(*port)),
    };
    Endpoint {
        id: broker.config.node_id,
        host,
        port,
        rack: broker.config.rack.clone(),
    }
}

/// The listener for clients that the client came by. One that came by a listener for nodes is told
/// of the one that brokers use; a node that is only a controller has none.
fn listener<'a>(broker: &'a Broker, context: &RequestContext) -> Option<&'a Listener> {
    let listeners = &broker.config.listeners;
    let inter_broker = &broker.config.quorum.inter_broker_listener;
    listeners
        .get(context.listener)
        .or_else(|| listeners.iter().find(|one| one.name == *inter_broker))
}

fn endpoint(broker: &Broker, context: &RequestContext, record: &BrokerRecord) -> Option<Endpoint> {
    if record.id == broker.config.node_id {
        return Some(own(broker, context));
    }
    let name = &listener(broker, context)?.name;
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
