//! A consumer's place in its group: which state it is in and what it holds. The protocol itself is
//! in [`super::group`].

use std::collections::BTreeSet;
use std::sync::Arc;

use super::assignor::Counts;
use super::group::{self, Fault, Joined, Pulse};
use crate::client::admin::group_offsets::Committer;
use crate::client::cluster::Cluster;
use crate::env::Task;

/// Membership of one group.
pub(super) struct Membership {
    group: String,
    instance_id: Option<String>,
    topics: BTreeSet<Arc<str>>,
    member_id: String,
    generation: Option<i32>,
    /// A join is under way.
    pub joining: bool,
    /// A join is due.
    pub rejoin: bool,
    /// For the leader: what the assignment was computed from.
    counts: Option<Counts>,
    pulse: Arc<Pulse>,
    heartbeats: Option<Task>,
}

impl Membership {
    pub(super) fn new(cluster: &Cluster, group: String, topics: BTreeSet<Arc<str>>) -> Self {
        Self {
            group,
            instance_id: cluster.config().group_instance_id.clone(),
            topics,
            member_id: String::new(),
            generation: None,
            joining: false,
            rejoin: true,
            counts: None,
            pulse: Arc::default(),
            heartbeats: None,
        }
    }

    pub(super) fn set_topics(&mut self, topics: BTreeSet<Arc<str>>) {
        self.rejoin |= self.topics != topics;
        self.topics = topics;
    }

    pub(super) fn topics(&self) -> &BTreeSet<Arc<str>> {
        &self.topics
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    pub(super) fn member_id(&self) -> &str {
        &self.member_id
    }

    pub(super) fn set_member_id(&mut self, member_id: String) {
        self.member_id = member_id;
    }

    pub(super) fn generation(&self) -> Option<i32> {
        self.generation
    }

    pub(super) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Who commits now; `None` outside a generation.
    pub(super) fn committer(&self) -> Option<Committer> {
        Some(Committer {
            group: self.group.clone(),
            generation: self.generation?,
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
        })
    }

    /// Takes its place in a new generation and begins its heartbeats.
    pub(super) fn enter(&mut self, cluster: &Cluster, joined: &Joined) {
        self.member_id = joined.member_id.clone();
        self.generation = Some(joined.generation);
        self.counts = joined.counts.clone();
        self.pulse.take_fault();
        let body = group::heartbeats(
            cluster.clone(),
            self.group.clone(),
            self.member_id.clone(),
            joined.generation,
            Arc::clone(&self.pulse),
        );
        self.heartbeats = Some(cluster.env().spawn("client-heartbeat", body));
    }

    /// Leaves its generation without telling anybody.
    pub(super) fn forget(&mut self, fault: &Fault) {
        self.generation = None;
        self.counts = None;
        self.heartbeats = None;
        self.rejoin = true;
        match fault {
            Fault::Lost(_) | Fault::PollTooSlow => self.member_id.clear(),
            Fault::Rebalance => {}
        }
    }

    /// Stops heartbeats while a join is under way.
    pub(super) fn quiet(&mut self) {
        self.heartbeats = None;
    }

    /// Notes what the topics look like now; the leader rejoins where they have changed.
    pub(super) fn observe(&mut self, cluster: &Cluster) {
        let Some(before) = &self.counts else { return };
        let view = cluster.view();
        // Topics of other members count as well.
        let mut topics = self.topics.clone();
        topics.extend(before.keys().cloned());
        let now = group::counts(&view, &topics);
        if now != *before {
            self.rejoin = true;
        }
    }

    pub(super) async fn leave(mut self, cluster: &Cluster) {
        self.heartbeats = None;
        group::leave(cluster, &self.group, &self.member_id).await;
    }
}
