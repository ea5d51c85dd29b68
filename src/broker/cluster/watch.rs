//! Notices at once when the process of another node is gone.
//!
//! A controller keeps a connection to every other node. When one breaks it dials again; where
//! nobody listens any more the process is dead, with whatever epoch its broker had when the dial
//! began. The active controller fences that broker, and a voter whose leader died stands for
//! election, both without waiting for a timeout. Where a node is there again already, the run that
//! it tells of is another than the one before, which is dead just the same. Epochs keep this safe:
//! a process that was started again in between has another.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use super::ClusterPart;
use super::decide;
use super::question::{self, NodeAnswer, NodeQuestion};
use crate::config::address;
use crate::controller::{Controller, Peer};
use crate::env::{Env, Stream, Task};
use crate::types::{BrokerEpoch, BrokerId, Instant, Uuid};

/// Between two looks at who belongs to the cluster.
const LOOK: Duration = Duration::from_millis(500);
/// Longest wait for a connection.
const DIAL_MAX: Duration = Duration::from_secs(1);
/// Between two dials, at first and once the node has been away for [`AWAY`].
const REDIAL: Duration = Duration::from_millis(20);
const REDIAL_SLOWLY: Duration = Duration::from_millis(500);
const AWAY: Duration = Duration::from_secs(3);
/// A connection that breaks sooner is not dialled again at once.
const BRIEF: Duration = Duration::from_secs(1);

/// Watches every other member until dropped.
pub(super) async fn run(env: Env, part: Arc<ClusterPart>, controller: Controller) {
    let mut watching: BTreeMap<BrokerId, (Peer, Task)> = BTreeMap::new();
    loop {
        let state = part.raft.state();
        let mut members: BTreeMap<BrokerId, Peer> = BTreeMap::new();
        for peer in state.observers.into_iter().chain(state.voters) {
            if peer.id != part.identity.node {
                members.insert(peer.id, peer);
            }
        }
        watching.retain(|id, (peer, _)| members.get(id) == Some(peer));
        for (id, peer) in members {
            watching.entry(id).or_insert_with(|| {
                let watch = Watch {
                    env: env.clone(),
                    part: part.clone(),
                    controller: controller.clone(),
                    peer: peer.clone(),
                };
                (peer, env.spawn("watch-node", watch.run()))
            });
        }
        env.sleep(LOOK).await;
    }
}

/// What is known of a node before it is dialled.
#[derive(Clone, Copy)]
struct Known {
    /// Of its broker, unless that is fenced, and the run that has it.
    epoch: Option<BrokerEpoch>,
    registered: Option<Uuid>,
    /// The term in which it leads the quorum.
    led: Option<u64>,
}

/// What came of greeting a node.
enum Greeting {
    /// The run of the node that is there.
    Run(Uuid),
    Silence,
    /// It is another node, or speaks another language.
    Stranger,
}

struct Watch {
    env: Env,
    part: Arc<ClusterPart>,
    controller: Controller,
    peer: Peer,
}

impl Watch {
    async fn run(self) {
        let at = address(&self.peer.host, self.peer.port);
        let mut away_since: Option<Instant> = None;
        let mut met: Option<Uuid> = None;
        loop {
            // Read before the dial: what is found dead is this or older.
            let known = self.known();
            let dialled = self.env.timeout(DIAL_MAX, self.env.net.connect(&at)).await;
            match dialled {
                Ok(Ok(stream)) => {
                    away_since = None;
                    let began = self.env.now();
                    tokio::select! {
                        biased;
                        () = hold(stream) => {}
                        () = self.meet(&at, known, &mut met) => {}
                    }
                    tracing::debug!(node = %self.peer.id, "the connection to it broke");
                    if self.env.now().since(began) < BRIEF {
                        self.env.sleep(5 * REDIAL).await;
                    }
                    continue;
                }
                Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
                    self.led_until_now(known.led);
                    self.is_dead(known.epoch).await;
                }
                Ok(Err(_)) | Err(_) => {}
            }
            let now = self.env.now();
            let since = *away_since.get_or_insert(now);
            let pause = match now.since(since) < AWAY {
                true => REDIAL,
                false => REDIAL_SLOWLY,
            };
            self.env.sleep(pause).await;
        }
    }

    /// Finds out which run of the node is there, and what that says of the one before: where
    /// another process is now, it is dead. Never returns.
    async fn meet(&self, at: &str, known: Known, met: &mut Option<Uuid>) {
        let found = loop {
            match self.greet(at).await {
                Greeting::Run(found) => break found,
                Greeting::Silence => self.env.sleep(5 * REDIAL).await,
                Greeting::Stranger => return std::future::pending().await,
            }
        };
        let is_gone = |before: Option<Uuid>| before.is_some_and(|before| before != found);
        if is_gone(*met) {
            self.led_until_now(known.led);
        }
        *met = Some(found);
        if is_gone(known.registered) {
            // This node may be about to lead the quorum.
            while self.known().epoch == known.epoch {
                self.is_dead(known.epoch).await;
                self.env.sleep(REDIAL).await;
            }
        }
        std::future::pending().await
    }

    /// Says so when what is there does not fit.
    async fn greet(&self, at: &str) -> Greeting {
        let me = self.part.gate.view();
        let question = question::question(&NodeQuestion::Hello(me.clone()));
        let asked = self
            .part
            .calls
            .ask_at(at.to_owned(), None, Uuid::ZERO, question, DIAL_MAX);
        let Ok(bytes) = asked.await else {
            return Greeting::Silence;
        };
        let Ok(NodeAnswer::Hello(view)) = question::read(&bytes) else {
            return Greeting::Stranger;
        };
        let node = view.node;
        let is_meant = node == self.peer.id;
        let complaint = match is_meant {
            true => decide::complaint(&me, &view, at, None),
            false => Some(format!(
                "the cluster knows node {} at {at}, but node {node} is there: correct its \
                 node.id or its address",
                self.peer.id
            )),
        };
        if let Some(text) = complaint {
            tracing::error!("{text}");
        }
        match is_meant {
            true => Greeting::Run(view.incarnation),
            false => Greeting::Stranger,
        }
    }

    fn known(&self) -> Known {
        let image = self.controller.image();
        let broker = image.broker(self.peer.id).filter(|broker| !broker.fenced);
        Known {
            epoch: broker.map(|broker| broker.epoch),
            registered: broker.map(|broker| broker.incarnation),
            led: self.led_term(),
        }
    }

    /// The term in which the node leads the quorum.
    fn led_term(&self) -> Option<u64> {
        let raft = &self.part.raft;
        let is_leader = raft
            .leader()
            .is_some_and(|leader| leader.id == self.peer.id);
        is_leader.then(|| raft.state().term)
    }

    /// The process is dead that led the quorum in the term `led`.
    fn led_until_now(&self, led: Option<u64>) {
        let id = self.peer.id;
        if led.is_some() && led == self.led_term() {
            tracing::info!(node = %id, "the process that led the quorum is gone");
            tracing::trace!(target: "klamm::probe", name = "leader-suspected");
            self.part.raft.suspect_leader(id);
        }
    }

    /// The process is dead that had the broker's `epoch`.
    async fn is_dead(&self, epoch: Option<BrokerEpoch>) {
        let id = self.peer.id;
        let Some(epoch) = epoch else { return };
        if !self.controller.is_active() {
            return;
        }
        tracing::info!(broker = %id, epoch = epoch.0, "the process of the broker is gone");
        tracing::trace!(target: "klamm::probe", name = "dead-broker-fenced");
        let controller = self.controller.within(DIAL_MAX);
        if let Err(refusal) = controller.fence_broker(id, epoch).await {
            tracing::debug!(%refusal, broker = %id, "the broker was not fenced");
        }
    }
}

/// Returns when the other end is gone.
async fn hold(mut stream: Box<dyn Stream>) {
    let mut byte = [0];
    // Nothing is ever sent here; anything but silence is the end.
    let _ = stream.read(&mut byte).await;
}
