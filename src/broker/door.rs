//! Who answers the requests that come by a listener.

use std::sync::{Arc, OnceLock, Weak};

use tokio::sync::Notify;

use super::Broker;
use super::cluster::gate::{self, Gate};
use super::handler::{self, Handling, RequestContext, api_versions};
use crate::wire::api::Request;

/// Who answers by one listener.
pub enum Door {
    /// A listener for clients.
    Clients(Arc<Broker>),
    /// A listener for nodes, where clients may ask as well.
    Nodes(Arc<NodeDoor>),
}

/// Answers other nodes at once, and everything else when the broker is there.
pub struct NodeDoor {
    gate: Arc<Gate>,
    broker: OnceLock<Weak<Broker>>,
    opened: Notify,
}

impl NodeDoor {
    #[must_use]
    pub fn new(gate: Arc<Gate>) -> Arc<Self> {
        Arc::new(Self {
            gate,
            broker: OnceLock::new(),
            opened: Notify::new(),
        })
    }

    /// Lets requests through to `broker`.
    pub fn open(&self, broker: &Arc<Broker>) {
        let _ = self.broker.set(Arc::downgrade(broker));
        self.opened.notify_waiters();
    }

    /// The broker, once it is there; `None` once it is gone.
    async fn broker(&self) -> Option<Arc<Broker>> {
        loop {
            let mut opened = std::pin::pin!(self.opened.notified());
            opened.as_mut().enable();
            if let Some(broker) = self.broker.get() {
                return broker.upgrade();
            }
            opened.await;
        }
    }
}

impl Door {
    /// Starts a request. What must keep the order of the connection has happened when this returns.
    pub async fn start(&self, context: RequestContext, request: Request) -> Handling {
        let door = match self {
            Self::Clients(broker) => return clients(broker, context, request).await,
            Self::Nodes(door) => door,
        };
        match request {
            Request::AskPeer(body) => {
                let answer = door.gate.clone().answer(body);
                Handling::pipelined(async { Some(handler::Answer::Response(answer.await.into())) })
            }
            Request::ApiVersions(body) => {
                Handling::ready(api_versions::handle_node(context.version, &body))
            }
            other => match door.broker().await {
                Some(broker) => handler::start(&broker, context, other).await,
                None => Handling::pipelined(async { Some(handler::Answer::CloseConnection) }),
            },
        }
    }
}

async fn clients(broker: &Arc<Broker>, context: RequestContext, request: Request) -> Handling {
    match request {
        Request::AskPeer(_) => Handling::ready(gate::refused(
            "this listener is for clients: connect to one that controller.listener.names names"
                .to_owned(),
        )),
        other => handler::start(broker, context, other).await,
    }
}
