//! The task that copies for one link: it asks the source's brokers, and carries what they answer
//! to the owners of the logs here. It alone has the machines of the partitions.
//!
//! At most one fetch is under way to each broker of the source. A partition whose log is slow is
//! left out of it once what follows has come as well, and does not stop the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;

use super::{Assigned, Key, Target, source_of};
use crate::broker::Broker;
use crate::client::{ClientError, Cluster, ClusterView, Lane, Topics};
use crate::controller::LinkRecord;
use crate::env::{BoxFuture, Rng};
use crate::mirror::{
    Bounds, Effect, FetchPlan, Limits, MirrorPartition, Position, Sent, TokenBucket, Turn,
};
use crate::types::{BrokerId, ErrorCode, Instant, LeaderEpoch, Offset, Timestamp, TopicPartition};
use crate::wire::message::fetch::FetchResponse;

/// Most that one answer of a broker holds, and of one partition in it; a batch may exceed them.
const FETCH_MAX_BYTES: i32 = 16 << 20;
const PARTITION_MAX_BYTES: i32 = 4 << 20;

/// Records that may be on their way to logs here before no more is asked for.
const HELD_MAX_BYTES: u64 = 64 << 20;

/// How long a broker waits where it has nothing new: for all of its partitions, and for some.
const WAIT: Duration = Duration::from_millis(500);
const WAIT_FOR_SOME: Duration = Duration::from_millis(50);

/// What is known of the source is asked for again after this, or as soon as this if it is wrong.
const REFRESH: Duration = Duration::from_secs(30);
const REFRESH_SOON: Duration = Duration::from_millis(200);

/// A partition that is copied.
pub(super) struct Copied {
    pub target: Target,
    pub machine: MirrorPartition,
    /// Bytes that came and are not in its log yet.
    held: u64,
}

/// A broker of the source.
#[derive(Default)]
struct SourceBroker {
    is_fetching: bool,
    /// Partitions that may be asked for.
    ready: BTreeSet<Key>,
    /// Not asked before this.
    paused_until: Option<Instant>,
    failures: u32,
    /// Counts fetches.
    fetches: usize,
}

/// Outcomes of one kind, each of a partition and a turn.
pub(super) type Outcomes<T> = Vec<(Key, Turn, T)>;

/// Something that was under way.
pub(super) enum Done {
    Placed(Outcomes<Result<Position, ErrorCode>>),
    Bounded(Outcomes<Result<Bounds, ErrorCode>>),
    Entered(Outcomes<Result<Vec<(LeaderEpoch, Offset)>, String>>),
    Failed(Outcomes<Result<(), String>>),
    Fetched {
        from: BrokerId,
        plan: FetchPlan<Key>,
        outcome: Result<FetchResponse, ClientError>,
    },
    Refreshed(Result<Arc<ClusterView>, ClientError>),
}

/// See the module.
pub(super) struct LinkTask {
    pub(super) broker: Arc<Broker>,
    pub(super) link: Arc<LinkRecord>,
    changes: mpsc::UnboundedReceiver<Assigned>,
    pub(super) source: Option<Cluster>,
    pub(super) copied: BTreeMap<Key, Copied>,
    brokers: BTreeMap<BrokerId, SourceBroker>,
    pub(super) under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Partitions to look at.
    touched: BTreeSet<Key>,
    /// Of all.
    held: u64,
    alarms: BTreeSet<(Instant, Key)>,
    bucket: Option<TokenBucket>,
    refresh_at: Instant,
    is_refreshing: bool,
    refresh_failures: u32,
    /// Turns that were given to machines before.
    turns: u64,
    random: Rng,
}

impl LinkTask {
    pub(super) fn new(
        broker: Arc<Broker>,
        link: Arc<LinkRecord>,
        changes: mpsc::UnboundedReceiver<Assigned>,
    ) -> Self {
        let source = source_of(&broker, &link, FETCH_MAX_BYTES);
        if let Err(error) = &source {
            tracing::error!(link = %link.name, %error, "the link cannot be used");
        }
        let now = broker.env.now();
        Self {
            source: source.ok(),
            random: broker.env.entropy.stream("mirror-link"),
            bucket: link
                .bytes_per_second
                .map(|rate| TokenBucket::new(rate, now)),
            broker,
            link,
            changes,
            copied: BTreeMap::new(),
            brokers: BTreeMap::new(),
            under_way: FuturesUnordered::new(),
            touched: BTreeSet::new(),
            held: 0,
            alarms: BTreeSet::new(),
            refresh_at: now,
            is_refreshing: false,
            refresh_failures: 0,
            turns: 0,
        }
    }

    /// Copies until the sender of changes is gone.
    pub(super) async fn run(mut self) {
        let env = self.broker.env.clone();
        let mut timer = env.clock.timer();
        loop {
            let next = self.drive(env.now());
            match next {
                Some(at) => timer.reset(at),
                None => timer.clear(),
            }
            tokio::select! {
                biased;
                assigned = self.changes.recv() => match assigned {
                    Some(assigned) => self.assign(assigned),
                    None => return,
                },
                Some(done) = self.under_way.next(), if !self.under_way.is_empty() => {
                    self.take(done);
                }
                () = std::future::poll_fn(|context| timer.poll_fired(context)) => {}
            }
        }
    }

    /// Does all that is due; answers when more is though nothing happens.
    fn drive(&mut self, now: Instant) -> Option<Instant> {
        while let Some((at, key)) = self.alarms.first().copied()
            && at <= now
        {
            self.alarms.pop_first();
            self.touched.insert(key);
        }
        let mut effects = Vec::new();
        for key in std::mem::take(&mut self.touched) {
            self.look_at(key, now, &mut effects);
        }
        self.carry_out(effects);
        let refresh = self.refresh(now);
        let fetch = self.fetch(now);
        let alarm = self.alarms.first().map(|(at, _)| *at);
        [refresh, fetch, alarm].into_iter().flatten().min()
    }

    /// Takes what is due of one partition.
    fn look_at(&mut self, key: Key, now: Instant, effects: &mut Vec<(Key, Turn, Effect)>) {
        for broker in self.brokers.values_mut() {
            broker.ready.remove(&key);
        }
        let Some(copied) = self.copied.get_mut(&key) else {
            return;
        };
        let machine = &mut copied.machine;
        if let Some((turn, effect)) = machine.poll(now) {
            effects.push((key, turn, effect));
        }
        let held = machine.held_bytes() as u64;
        self.held = self.held - std::mem::replace(&mut copied.held, held) + held;
        if let Some(asked) = machine.asks() {
            let broker = self.brokers.entry(asked.leader).or_default();
            broker.ready.insert(key);
        }
        if let Some(at) = machine.wakes_at() {
            self.alarms.insert((at, key));
        }
        if machine.take_refresh() || (machine.leader().is_none() && !machine.has_ended()) {
            self.refresh_at = self.refresh_at.min(now.plus(REFRESH_SOON));
        }
        self.show(key);
    }

    /// What is to be copied from now on.
    fn assign(&mut self, assigned: Assigned) {
        let now = self.broker.env.now();
        if self.link.bytes_per_second != assigned.link.bytes_per_second {
            let rate = assigned.link.bytes_per_second;
            self.bucket = rate.map(|rate| TokenBucket::new(rate, now));
        }
        self.link = assigned.link;
        let gone: Vec<Key> = self
            .copied
            .iter()
            .filter(|(key, copied)| {
                let target = assigned.targets.get(key);
                target.is_none_or(|target| !target.is_same(&copied.target))
            })
            .map(|(key, _)| *key)
            .collect();
        for key in gone {
            let gone = self.copied.remove(&key);
            self.held -= gone.map_or(0, |gone| gone.held);
            self.touched.insert(key);
        }
        for (key, target) in assigned.targets {
            if self.copied.contains_key(&key) {
                continue;
            }
            self.turns += 1;
            let machine = MirrorPartition::new(target.lineage.clone(), Turn(self.turns << 32));
            let copied = Copied {
                target,
                machine,
                held: 0,
            };
            self.copied.insert(key, copied);
            self.touched.insert(key);
            self.refresh_at = now;
        }
        self.tell_leaders();
    }

    /// Tells the machines who leads at the source, as far as is known.
    fn tell_leaders(&mut self) {
        let Some(source) = &self.source else {
            return;
        };
        let view = source.view();
        for (key, copied) in &mut self.copied {
            let topic = &copied.target.source;
            let known = view.topic_id(&topic.name);
            if !known.is_zero() && !topic.id.is_zero() && known != topic.id {
                // Another topic has its name now: discovery says so.
                continue;
            }
            let partition = TopicPartition::new(topic.name.as_str(), key.1);
            copied.machine.led_by(view.leader(&partition));
            self.touched.insert(*key);
        }
    }

    /// Asks the source who leads, when that is due; when it will be.
    fn refresh(&mut self, now: Instant) -> Option<Instant> {
        let source = self.source.as_ref()?;
        if self.is_refreshing || self.copied.is_empty() {
            return None;
        }
        if self.refresh_at > now {
            return Some(self.refresh_at);
        }
        let names = self
            .copied
            .values()
            .map(|copied| &copied.target.source.name);
        let names: BTreeSet<&str> = names.map(String::as_str).collect();
        let topics = Topics::Named(names.into_iter().map(Arc::from).collect());
        let source = source.clone();
        self.is_refreshing = true;
        self.under_way.push(Box::pin(async move {
            Done::Refreshed(source.refresh_with(&topics, false).await)
        }));
        None
    }

    fn refreshed(&mut self, outcome: Result<Arc<ClusterView>, ClientError>) {
        self.is_refreshing = false;
        let now = self.broker.env.now();
        match outcome {
            Ok(_) => {
                self.refresh_failures = 0;
                self.refresh_at = now.plus(REFRESH);
                self.tell_leaders();
                if self
                    .copied
                    .values()
                    .any(|one| one.machine.leader().is_none())
                {
                    self.refresh_at = now.plus(REFRESH_SOON * 2);
                }
            }
            Err(error) => {
                tracing::debug!(link = %self.link.name, %error, "the source cannot be asked");
                self.refresh_failures = self.refresh_failures.saturating_add(1);
                let pause = self.redial_pause(self.refresh_failures);
                self.refresh_at = now.plus(pause);
                let reason = format!("the source cannot be asked: {error}");
                for (topic, partition) in self.copied.keys() {
                    self.broker.mirrors.update(*topic, *partition, |status| {
                        status.error = Some(reason.clone());
                    });
                }
            }
        }
    }

    fn redial_pause(&mut self, failures: u32) -> Duration {
        let backoff = crate::client::Backoff {
            first: REFRESH_SOON,
            longest: Duration::from_secs(5),
        };
        backoff.pause(failures, self.random.u64())
    }

    /// Starts the fetches that may be; when another may though nothing happens.
    fn fetch(&mut self, now: Instant) -> Option<Instant> {
        if let Some(wait) = self.bucket.as_mut().and_then(|bucket| bucket.wait(now)) {
            return Some(now.plus(wait));
        }
        if self.held > HELD_MAX_BYTES {
            return None;
        }
        let mut next: Option<Instant> = None;
        let brokers: Vec<BrokerId> = self.brokers.keys().copied().collect();
        for id in brokers {
            if let Some(at) = self.fetch_from(id, now) {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        next
    }

    fn fetch_from(&mut self, id: BrokerId, now: Instant) -> Option<Instant> {
        let broker = self.brokers.get_mut(&id)?;
        if broker.is_fetching || broker.ready.is_empty() {
            return None;
        }
        if let Some(until) = broker.paused_until.filter(|until| *until > now) {
            return Some(until);
        }
        let source = self.source.clone()?;
        broker.is_fetching = true;
        broker.fetches = broker.fetches.wrapping_add(1);
        let first = broker.fetches;
        let mut plan = FetchPlan::default();
        for key in std::mem::take(&mut broker.ready) {
            if let Some(copied) = self.copied.get_mut(&key)
                && let Some(asked) = copied.machine.asks()
            {
                let turn = copied.machine.sent(asked);
                let sent = Sent { key, turn, asked };
                plan.add(copied.target.source.clone(), key.1, sent);
            }
        }
        let asked = plan.sent().count();
        let mut mine = self.copied.values();
        let is_mine = |copied: &&Copied| copied.machine.leader().is_some_and(|(at, _)| at == id);
        let is_all = mine.by_ref().filter(is_mine).count() <= asked;
        let wait = match is_all {
            true => WAIT,
            false => WAIT_FOR_SOME,
        };
        let share = self.bucket.as_ref().map_or(u64::MAX, TokenBucket::share);
        let most = |bytes: i32| i32::try_from(share).map_or(bytes, |share| bytes.min(share));
        let limits = Limits {
            wait_ms: i32::try_from(wait.as_millis()).unwrap_or(0),
            max_bytes: most(FETCH_MAX_BYTES),
            partition_max_bytes: most(PARTITION_MAX_BYTES),
        };
        let request = plan.request(limits, first);
        let (cap, within) = (plan.version_cap(), self.patience());
        self.under_way.push(Box::pin(async move {
            let outcome = async {
                let connection = source.connection(id, Lane::Fetch).await?;
                connection.call_capped(request, cap, within).await
            };
            Done::Fetched {
                from: id,
                plan,
                outcome: outcome.await,
            }
        }));
        None
    }

    pub(super) fn patience(&self) -> Duration {
        WAIT + self.broker.config.replication.socket_timeout
    }

    fn fetched(
        &mut self,
        from: BrokerId,
        plan: FetchPlan<Key>,
        outcome: Result<FetchResponse, ClientError>,
    ) {
        let now = self.broker.env.now();
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) => return self.fetch_failed(from, &plan, &error),
        };
        let (answers, bytes) = plan.answers(answer);
        if let Some(bucket) = &mut self.bucket {
            bucket.take(bytes, now);
        }
        for (sent, answer) in answers {
            let Some(copied) = self.copied.get_mut(&sent.key) else {
                continue;
            };
            let at = (now, self.random.u64());
            copied.machine.fetched(sent.turn, at, &sent.asked, answer);
            self.touched.insert(sent.key);
        }
        let broker = self.brokers.entry(from).or_default();
        broker.is_fetching = false;
        broker.failures = 0;
        broker.paused_until = None;
    }

    fn fetch_failed(&mut self, from: BrokerId, plan: &FetchPlan<Key>, error: &ClientError) {
        tracing::debug!(link = %self.link.name, %from, %error, "a fetch from the source failed");
        tracing::trace!(target: "klamm::probe", name = "mirror-fetch-failed");
        let now = self.broker.env.now();
        let failures = self.brokers.get(&from).map_or(0, |broker| broker.failures);
        let pause = self.redial_pause(failures.saturating_add(1));
        for Sent { key, turn, .. } in plan.sent() {
            if let Some(copied) = self.copied.get_mut(key) {
                let at = (now, self.random.u64());
                let reason = format!("the source cannot be asked: {error}");
                copied.machine.interrupted(*turn, at, reason);
                self.touched.insert(*key);
            }
        }
        let broker = self.brokers.entry(from).or_default();
        broker.is_fetching = false;
        broker.failures = broker.failures.saturating_add(1);
        broker.paused_until = Some(now.plus(pause));
    }

    /// Takes what came of something that was under way.
    fn take(&mut self, done: Done) {
        match done {
            Done::Fetched {
                from,
                plan,
                outcome,
            } => self.fetched(from, plan, outcome),
            Done::Refreshed(outcome) => self.refreshed(outcome),
            Done::Placed(outcomes) => self.told(outcomes, MirrorPartition::placed),
            Done::Bounded(outcomes) => self.told(outcomes, MirrorPartition::bounded),
            Done::Entered(outcomes) => self.told(outcomes, MirrorPartition::entered),
            Done::Failed(outcomes) => self.told(outcomes, MirrorPartition::failed),
        }
    }

    fn told<T>(
        &mut self,
        outcomes: Outcomes<T>,
        tell: fn(&mut MirrorPartition, Turn, (Instant, u64), T),
    ) {
        let now = self.broker.env.now();
        for (key, turn, outcome) in outcomes {
            if let Some(copied) = self.copied.get_mut(&key) {
                let at = (now, self.random.u64());
                tell(&mut copied.machine, turn, at, outcome);
                self.touched.insert(key);
            }
        }
    }

    /// Shows whoever asks how far a partition is.
    fn show(&self, key: Key) {
        let Some(copied) = self.copied.get(&key) else {
            return;
        };
        let (machine, wall) = (&copied.machine, self.broker.env.wall());
        let now = self.broker.env.now();
        self.broker.mirrors.update(key.0, key.1, |status| {
            if let Some(position) = machine.position() {
                status.log_end_offset = position.log_end_offset;
            }
            if let Some(seen) = machine.seen() {
                status.source_log_start = seen.log_start_offset;
                status.source_log_end = seen.high_watermark;
                let age = i64::try_from(now.since(seen.at).as_millis()).unwrap_or(i64::MAX);
                status.seen_at = Timestamp(wall.0.saturating_sub(age));
                if status.log_end_offset >= seen.high_watermark {
                    status.caught_up_at = status.seen_at.max(status.caught_up_at);
                }
            }
            status.error = machine.error().map(str::to_owned);
        });
    }
}
