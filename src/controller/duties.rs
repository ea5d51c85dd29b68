//! What the active controller of a cluster does without being asked: it fences brokers that are not
//! heard any more, and brings leaders back to where they are preferred.

use std::sync::Arc;
use std::time::Duration;

use super::image::ClusterImage;
use super::ledger::ControllerLedger;
use super::liveness::{Event, Expired, Liveness, Member};
use super::record::MetadataRecord;
use super::request::BrokerHeartbeat;
use crate::config::ReplicationConfig;
use crate::env::{Clock, Timer};
use crate::types::{BrokerEpoch, BrokerId, Instant, Timestamp};

/// The duties of a node's controller; it has them while it is active.
pub(super) struct Duties {
    clock: Arc<dyn Clock>,
    timer: Box<dyn Timer>,
    session_timeout: Duration,
    /// `None`: leaders stay where they are.
    balance: Option<Balance>,
    active: Option<Active>,
    /// The members last seen in the image.
    members: Vec<Member>,
}

#[derive(Clone, Copy)]
struct Balance {
    interval: Duration,
    percentage: i32,
}

struct Active {
    liveness: Liveness,
    expired: Vec<Expired>,
    balance_at: Option<Instant>,
}

impl Duties {
    pub(super) fn new(clock: Arc<dyn Clock>, replication: &ReplicationConfig) -> Self {
        let balance = Balance {
            interval: replication.leader_imbalance_check_interval,
            percentage: replication.leader_imbalance_per_broker_percentage,
        };
        Self {
            timer: clock.timer(),
            clock,
            session_timeout: replication.session_timeout,
            balance: replication.auto_leader_rebalance.then_some(balance),
            active: None,
            members: Vec::new(),
        }
    }

    /// Takes note of the newest image, and of whether this node is active.
    pub(super) fn follow(&mut self, image: &ClusterImage, is_active: bool) {
        if !is_active {
            self.active = None;
            self.timer.clear();
            return;
        }
        let now = self.clock.now();
        let members = members(image);
        let is_new = self.active.is_none();
        let active = self.active.get_or_insert_with(|| Active {
            liveness: Liveness::new(now, self.session_timeout),
            expired: Vec::new(),
            balance_at: self.balance.map(|balance| now.plus(balance.interval)),
        });
        if is_new || members != self.members {
            self.members.clone_from(&members);
            let end = image.end();
            let event = Event::Members { members, end };
            active.liveness.step(now, event, &mut active.expired);
        }
        self.set_timer();
    }

    /// Takes note of a heartbeat, and says whether all others know that its sender is stopping.
    pub(super) fn heard(&mut self, heartbeat: &BrokerHeartbeat) -> bool {
        let Some(active) = &mut self.active else {
            return false;
        };
        let event = Event::Heartbeat {
            id: heartbeat.id,
            epoch: heartbeat.epoch,
            metadata_end: heartbeat.metadata_end,
        };
        let now = self.clock.now();
        active.liveness.step(now, event, &mut active.expired);
        let others_know = active.liveness.others_know(heartbeat.id);
        self.set_timer();
        others_know
    }

    /// Completes when there is something to do.
    pub(super) async fn due(&mut self) {
        std::future::poll_fn(|context| self.timer.poll_fired(context)).await;
    }

    /// The records of what is to be done now.
    pub(super) fn attend(
        &mut self,
        ledger: &ControllerLedger,
        wall: Timestamp,
    ) -> Vec<MetadataRecord> {
        let now = self.clock.now();
        let mut records = Vec::new();
        if let Some(active) = &mut self.active {
            let expired = &mut active.expired;
            active.liveness.step(now, Event::Tick, expired);
            let over: Vec<(BrokerId, BrokerEpoch)> =
                expired.drain(..).map(|one| (one.id, one.epoch)).collect();
            for (id, epoch) in &over {
                tracing::warn!(
                    broker = id.0,
                    epoch = epoch.0,
                    "a broker is not heard any more"
                );
            }
            records = ledger.fence_brokers(wall, &over);
            let balance = self.balance.zip(active.balance_at);
            if let Some((balance, at)) = balance
                && at <= now
                && records.is_empty()
            {
                active.balance_at = Some(now.plus(balance.interval));
                records = ledger.balance(wall, balance.percentage);
            }
        }
        self.set_timer();
        records
    }

    fn set_timer(&mut self) {
        let Some(active) = &self.active else {
            return;
        };
        let next = [active.liveness.deadline(), active.balance_at];
        match next.into_iter().flatten().min() {
            Some(at) => self.timer.reset(at),
            None => self.timer.clear(),
        }
    }
}

fn members(image: &ClusterImage) -> Vec<Member> {
    let unfenced = image.brokers().filter(|broker| !broker.fenced);
    let member = unfenced.map(|broker| Member {
        id: broker.id,
        epoch: broker.epoch,
        is_stopping: broker.shutting_down,
    });
    member.collect()
}
