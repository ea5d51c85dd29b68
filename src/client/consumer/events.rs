//! What a consumer starts and what it takes in: fetches, positions, commits, joins, metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::fetcher::{self, Asked, Part};
use super::group::{self, Fault, JoinFailed, Joined, Joining};
use super::positions::{self, Found, Want};
use super::protocol::Subscription;
use super::{Consumer, RebalanceEvent, Tracked};
use crate::client::admin::group_offsets::Committer;
use crate::client::cluster::Topics;
use crate::client::error::{ApiError, ClientError};
use crate::types::{BrokerId, ErrorCode, Instant, TopicPartition};

/// How long a broker may hold back a fetch while partitions it leads are left out of the fetch:
/// they may want more at any moment, and a broker is asked by one fetch at a time.
const SHORT_WAIT: Duration = Duration::from_millis(20);

/// What has finished.
pub(super) enum Event {
    Fetched {
        broker: BrokerId,
        asked: BTreeMap<TopicPartition, Asked>,
        result: Result<Vec<Part>, ClientError>,
    },
    Found {
        stamps: BTreeMap<TopicPartition, u64>,
        result: Result<BTreeMap<TopicPartition, Found>, ClientError>,
    },
    Committed(Result<(), ClientError>),
    Joined(Box<Result<Joined, JoinFailed>>),
    Refreshed(Result<(), ClientError>),
}

impl Consumer {
    /// Starts all that is due.
    pub(super) fn act(&mut self, now: Instant) {
        self.commit_if_due(now);
        self.mind_the_group(now);
        if now >= self.retry_at {
            self.find_positions();
            self.refresh_if_due(now);
        }
        self.start_fetches();
    }

    /// When `act` has something to do next, at the latest `deadline`.
    pub(super) fn next_moment(&self, deadline: Instant) -> Instant {
        let mut next = deadline;
        if self.retry_at > self.cluster.env().now() {
            next = next.min(self.retry_at);
        }
        if self.cluster.config().enable_auto_commit && self.may_commit() && !self.committing {
            let interval = self.cluster.config().auto_commit_interval;
            next = next.min(self.committed_at.plus(interval));
        }
        next
    }

    fn failed(&mut self, error: &ClientError, what: &'static str) {
        tracing::debug!(%error, what, "trying again later");
        self.failures = self.failures.saturating_add(1);
        let pause = self.cluster.retry_pause(self.failures);
        self.retry_at = self.cluster.env().now().plus(pause);
    }

    // Commits.

    pub(super) fn may_commit(&self) -> bool {
        match &self.membership {
            Some(membership) => membership.generation().is_some() && !membership.joining,
            None => self.cluster.config().group_id.is_some(),
        }
    }

    pub(super) fn committer(&self) -> Result<Committer, ClientError> {
        let Some(group) = &self.cluster.config().group_id else {
            return Err(ClientError::Misuse("committing needs group.id"));
        };
        match &self.membership {
            Some(membership) => membership.committer().ok_or_else(|| {
                let error = ApiError::from(ErrorCode::RebalanceInProgress);
                ClientError::refused("committing offsets outside a generation", error)
            }),
            None => Ok(Committer {
                group: group.clone(),
                generation: -1,
                member_id: String::new(),
                instance_id: None,
            }),
        }
    }

    fn commit_if_due(&mut self, now: Instant) {
        let config = self.cluster.config();
        let due = self.committed_at.plus(config.auto_commit_interval) <= now;
        if !config.enable_auto_commit || !due || self.committing || !self.may_commit() {
            return;
        }
        let positions = self.positions();
        let (false, Ok(committer)) = (positions.is_empty(), self.committer()) else {
            self.committed_at = now;
            return;
        };
        self.committing = true;
        let cluster = self.cluster.clone();
        self.under_way.push(Box::pin(async move {
            let done = group::commit(&cluster, &committer, &positions).await;
            let first = done.and_then(|results| {
                let mut errors = results.into_values().filter_map(Result::err);
                let what = "committing offsets";
                errors
                    .next()
                    .map_or(Ok(()), |error| Err(ClientError::refused(what, error)))
            });
            Event::Committed(first)
        }));
    }

    // The group.

    fn mind_the_group(&mut self, now: Instant) {
        let Some(membership) = &mut self.membership else {
            return;
        };
        membership.pulse().polled(now);
        match membership.pulse().take_fault() {
            None => {}
            Some(Fault::Rebalance) => membership.rejoin = true,
            Some(fault) => {
                membership.forget(&fault);
                self.lose(&fault);
            }
        }
        let due = self
            .membership
            .as_ref()
            .is_some_and(|m| m.rejoin && !m.joining);
        if due && now >= self.retry_at {
            self.join();
        }
    }

    fn lose(&mut self, fault: &Fault) {
        let partitions: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        self.partitions.clear();
        tracing::warn!(?fault, "put out of the group");
        if !partitions.is_empty() {
            self.events.push(RebalanceEvent::Lost(partitions));
        }
        if let Fault::Lost(
            code @ (ErrorCode::FencedInstanceId | ErrorCode::GroupAuthorizationFailed),
        ) = fault
        {
            let what = "being a member of the group";
            self.errors
                .push_back(ClientError::refused(what, (*code).into()));
        }
    }

    fn join(&mut self) {
        let config = self.cluster.config();
        let cooperative = group::is_cooperative(&config.partition_assignment_strategy);
        let positions = self.positions();
        let commit_first = match config.enable_auto_commit && !positions.is_empty() {
            true => self
                .committer()
                .ok()
                .map(|committer| (committer, positions)),
            false => None,
        };
        if !cooperative {
            self.give_up(|_| true);
        }
        let owned = self.partitions.keys().cloned().collect();
        let Some(membership) = &mut self.membership else {
            return;
        };
        membership.rejoin = false;
        membership.joining = true;
        membership.quiet();
        let joining = Joining {
            group: membership.group().to_owned(),
            member_id: membership.member_id().to_owned(),
            subscription: Subscription {
                topics: membership.topics().iter().cloned().collect(),
                owned,
                generation: membership.generation().unwrap_or(-1),
            },
            commit_first,
        };
        let cluster = self.cluster.clone();
        self.under_way.push(Box::pin(async move {
            Event::Joined(Box::new(group::join(&cluster, &joining).await))
        }));
    }

    /// Stops reading the partitions that `which` names and tells of it.
    fn give_up(&mut self, which: impl Fn(&TopicPartition) -> bool) -> bool {
        let gone: Vec<TopicPartition> = self
            .partitions
            .keys()
            .filter(|p| which(p))
            .cloned()
            .collect();
        if gone.is_empty() {
            return false;
        }
        self.partitions.retain(|partition, _| !which(partition));
        self.events.push(RebalanceEvent::Revoked(gone));
        true
    }

    fn joined(&mut self, joined: &Joined) {
        self.failures = 0;
        let assigned: BTreeSet<TopicPartition> = joined.assignment.iter().cloned().collect();
        // Commits of what is given up now happen in the next join, by its positions: they are
        // taken before the partitions go.
        let kept_back = self.partitions.keys().any(|p| !assigned.contains(p));
        if let Some(membership) = &mut self.membership {
            membership.enter(&self.cluster, joined);
            membership.rejoin |= kept_back;
        }
        if kept_back {
            self.commit_of(|partition| !assigned.contains(partition));
            self.give_up(|partition| !assigned.contains(partition));
        }
        let added: Vec<TopicPartition> = assigned
            .into_iter()
            .filter(|partition| !self.partitions.contains_key(partition))
            .collect();
        for partition in &added {
            self.track(partition.clone());
        }
        self.events.push(RebalanceEvent::Assigned {
            generation: joined.generation,
            partitions: added,
        });
    }

    /// Commits the positions of some partitions in the background, before they are given up.
    fn commit_of(&mut self, which: impl Fn(&TopicPartition) -> bool) {
        let mut positions = self.positions();
        positions.retain(|partition, _| which(partition));
        let commits = self.cluster.config().enable_auto_commit && !positions.is_empty();
        let (true, Ok(committer)) = (commits, self.committer()) else {
            return;
        };
        self.committing = true;
        let cluster = self.cluster.clone();
        self.under_way.push(Box::pin(async move {
            let done = group::commit(&cluster, &committer, &positions).await;
            Event::Committed(done.map(|_| ()))
        }));
    }

    fn join_failed(&mut self, failed: JoinFailed) {
        let JoinFailed { member_id, error } = failed;
        let lost = member_id.is_empty();
        if let Some(membership) = &mut self.membership {
            membership.rejoin = true;
            membership.set_member_id(member_id);
        }
        if lost && !self.partitions.is_empty() {
            self.lose(&Fault::Lost(ErrorCode::UnknownMemberId));
        }
        self.failed(&error, "joining the group");
        if !group::may_rejoin(&error) {
            self.errors.push_back(error);
        }
    }

    // Positions and metadata.

    fn find_positions(&mut self) {
        if self.finding {
            return;
        }
        let open = self.partitions.iter().filter(|(_, t)| t.position.is_none());
        let open: Vec<(&TopicPartition, &Tracked)> = open.collect();
        if open.is_empty() {
            return;
        }
        let wants: BTreeMap<TopicPartition, Want> =
            open.iter().map(|(p, t)| ((*p).clone(), t.want)).collect();
        let stamps = open.iter().map(|(p, t)| ((*p).clone(), t.stamp)).collect();
        self.finding = true;
        let cluster = self.cluster.clone();
        self.under_way.push(Box::pin(async move {
            Event::Found {
                stamps,
                result: positions::find(&cluster, &wants).await,
            }
        }));
    }

    fn refresh_if_due(&mut self, now: Instant) {
        let max_age = self.cluster.config().metadata_max_age;
        let aged = now >= self.refreshed_at.plus(max_age);
        let stale = self.partitions.values().any(|tracked| tracked.stale);
        if self.refreshing || !(aged || stale) {
            return;
        }
        let mut topics: BTreeSet<Arc<str>> = self
            .partitions
            .keys()
            .map(|p| Arc::clone(&p.topic))
            .collect();
        if let Some(membership) = &self.membership {
            topics.extend(membership.topics().iter().cloned());
        }
        self.refreshing = true;
        self.refreshed_at = now;
        let cluster = self.cluster.clone();
        self.under_way.push(Box::pin(async move {
            let topics = Topics::Named(topics.into_iter().collect());
            Event::Refreshed(cluster.refresh(&topics).await.map(|_| ()))
        }));
    }

    // Fetches.

    /// Fetches from every leader that has no fetch under way what is not buffered.
    pub(super) fn start_fetches(&mut self) {
        let view = self.cluster.view();
        let mut brokers: BTreeMap<BrokerId, BTreeMap<TopicPartition, Asked>> = BTreeMap::new();
        // Leaders of partitions that have enough for now, but will soon want more.
        let mut impatient: BTreeSet<BrokerId> = BTreeSet::new();
        for (partition, tracked) in &mut self.partitions {
            if tracked.position.is_none() || tracked.paused || tracked.stale {
                continue;
            }
            match (view.leader(partition), tracked.fetch_from()) {
                (None, _) => tracked.stale = true,
                (Some((leader, _)), _) if self.fetching.contains(&leader) => {}
                (Some((leader, _)), None) => {
                    impatient.insert(leader);
                }
                (Some((leader, _)), Some(position)) => {
                    let asked = Asked {
                        position,
                        stamp: tracked.stamp,
                    };
                    let wanted = brokers.entry(leader).or_default();
                    wanted.insert(partition.clone(), asked);
                    if tracked.buffer.is_some() {
                        impatient.insert(leader);
                    }
                }
            }
        }
        for (broker, asked) in brokers {
            self.fetching.insert(broker);
            let cluster = self.cluster.clone();
            let wait_max = match impatient.contains(&broker) {
                true => SHORT_WAIT,
                false => Duration::MAX,
            };
            self.under_way.push(Box::pin(async move {
                let result = fetcher::fetch(&cluster, broker, &asked, wait_max).await;
                Event::Fetched {
                    broker,
                    asked,
                    result,
                }
            }));
        }
    }

    pub(super) fn take_in(&mut self, event: Event) {
        match event {
            Event::Fetched {
                broker,
                asked,
                result,
            } => {
                self.fetching.remove(&broker);
                match result {
                    Ok(parts) => self.fetched(&asked, parts),
                    Err(error) => self.fetch_failed(&asked, &error),
                }
            }
            Event::Found { stamps, result } => {
                self.finding = false;
                match result {
                    Ok(found) => self.found(&stamps, found),
                    Err(error) => {
                        self.failed(&error, "finding positions");
                        self.errors.push_back(error);
                    }
                }
            }
            Event::Committed(result) => {
                self.committing = false;
                self.committed_at = self.cluster.env().now();
                if let Err(error) = result {
                    tracing::warn!(%error, "offsets were not committed; a later commit has them");
                }
            }
            Event::Joined(result) => {
                if let Some(membership) = &mut self.membership {
                    membership.joining = false;
                    match *result {
                        Ok(joined) => self.joined(&joined),
                        Err(failed) => self.join_failed(failed),
                    }
                }
            }
            Event::Refreshed(result) => self.refreshed(result),
        }
    }

    fn refreshed(&mut self, result: Result<(), ClientError>) {
        self.refreshing = false;
        if let Err(error) = result {
            self.failed(&error, "looking up leaders");
            return;
        }
        let view = self.cluster.view();
        let mut missing = None;
        for (partition, tracked) in &mut self.partitions {
            tracked.stale = view.leader(partition).is_none();
            if tracked.stale {
                missing = Some(ClientError::Missing {
                    what: format!("the leader of {partition}"),
                });
            }
        }
        if let Some(membership) = &mut self.membership {
            membership.observe(&self.cluster);
        }
        match missing {
            Some(error) => self.failed(&error, "looking up leaders"),
            None => self.failures = 0,
        }
    }

    fn found(
        &mut self,
        stamps: &BTreeMap<TopicPartition, u64>,
        found: BTreeMap<TopicPartition, Found>,
    ) {
        for (partition, result) in found {
            let stamp = stamps.get(&partition).copied();
            let Some(tracked) = self.partitions.get_mut(&partition) else {
                continue;
            };
            if Some(tracked.stamp) != stamp || tracked.position.is_some() {
                continue;
            }
            match result {
                Ok((offset, leader_epoch)) => {
                    tracked.position = Some(offset);
                    tracked.leader_epoch = leader_epoch;
                }
                Err(error) => {
                    self.failed(&error, "finding a position");
                    self.errors.push_back(error);
                }
            }
        }
    }

    fn fetch_failed(&mut self, asked: &BTreeMap<TopicPartition, Asked>, error: &ClientError) {
        for partition in asked.keys() {
            if let Some(tracked) = self.partitions.get_mut(partition) {
                tracked.stale = true;
            }
        }
        self.failed(error, "fetching");
        if !error.is_retriable() {
            self.errors.push_back(error.clone());
        }
    }

    fn fetched(&mut self, asked: &BTreeMap<TopicPartition, Asked>, parts: Vec<Part>) {
        for part in parts {
            let Some(asked) = asked.get(&part.partition) else {
                continue;
            };
            let Some(tracked) = self.partitions.get_mut(&part.partition) else {
                continue;
            };
            if tracked.stamp != asked.stamp {
                continue;
            }
            match part.result {
                Ok(buffer) => {
                    tracked.put(asked.position, buffer);
                    tracked.high_watermark = Some(part.high_watermark);
                    tracked.log_start_offset = Some(part.log_start_offset);
                }
                Err(error) => {
                    if let Some((leader, epoch)) = part.leader {
                        self.cluster.note_leader(&part.partition, leader, epoch);
                    }
                    self.refused(&part.partition, error);
                }
            }
        }
    }

    fn refused(&mut self, partition: &TopicPartition, error: ApiError) {
        let stamp = self.stamp();
        let Some(tracked) = self.partitions.get_mut(partition) else {
            return;
        };
        // An error at the end of what is buffered will come again when the position is there.
        let ahead = tracked.buffer.is_some();
        match error.code {
            ErrorCode::OffsetOutOfRange if ahead => {
                tracked.stale = true;
                let error = ClientError::refused(format!("fetching {partition}"), error);
                self.failed(&error, "fetching ahead");
            }
            ErrorCode::OffsetOutOfRange => {
                tracing::warn!(%partition, position = ?tracked.position, "out of range");
                tracked.position = None;
                tracked.want = Want::Policy;
                tracked.stamp = stamp;
            }
            code if code.is_retriable() => {
                tracked.stale = true;
                let error = ClientError::refused(format!("fetching {partition}"), error);
                self.failed(&error, "fetching");
            }
            _ => {
                let error = ClientError::refused(format!("fetching {partition}"), error);
                self.failed(&error, "fetching");
                self.errors.push_back(error);
            }
        }
    }
}
