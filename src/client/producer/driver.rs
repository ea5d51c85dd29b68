//! Carries out what the accumulator decides: one task per producer that keeps a connection to
//! each leader, sends requests, and brings the answers back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::accumulator::{Effects, Sendable};
use super::record::Acknowledged;
use super::sequencer::{Answer, BatchId, Identity};
use super::{Handle, Shared};
use crate::client::cluster::{Cluster, Lane, Topics};
use crate::client::config::Acks;
use crate::client::connection::{Connection, PendingCall};
use crate::client::error::{ApiError, ClientError};
use crate::client::metadata::ClusterView;
use crate::env::{BoxFuture, Timer};
use crate::types::{
    BrokerId, ErrorCode, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId, TopicPartition,
};
use crate::wire::Str;
use crate::wire::message::init_producer_id::InitProducerIdRequest;
use crate::wire::message::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use crate::wire::primitive::Records;

/// Highest version of Produce that names topics by name.
const BY_NAME_MAX: i16 = 12;

/// What has happened.
enum Event {
    Connected(BrokerId, Result<Connection, ClientError>),
    Answered {
        broker: BrokerId,
        sent: Sent,
        answer: Result<ProduceResponse, ClientError>,
    },
    /// A request without answer was written, or not.
    Told {
        broker: BrokerId,
        sent: Sent,
        told: Result<(), ClientError>,
    },
    Identity(Result<Identity, ClientError>),
    Refreshed(Result<(), ClientError>),
}

/// What a request carried.
struct Sent {
    batches: BTreeMap<TopicPartition, BatchId>,
    /// Names by id, for answers that name topics by id.
    names: BTreeMap<TopicId, Arc<str>>,
}

enum Link {
    Connecting,
    Ready {
        connection: Connection,
        calls: usize,
    },
}

pub(super) struct Driver {
    cluster: Cluster,
    shared: Arc<Shared>,
    links: BTreeMap<BrokerId, Link>,
    under_way: FuturesUnordered<BoxFuture<'static, Event>>,
    fetching_identity: bool,
    refreshing: bool,
    /// Partitions whose leader must be looked up before they are sent to.
    stale: BTreeSet<TopicPartition>,
    failures: u32,
    timer: Box<dyn Timer>,
}

impl Driver {
    pub(super) fn new(cluster: Cluster, shared: Arc<Shared>) -> Self {
        let timer = cluster.env().clock.timer();
        Self {
            cluster,
            shared,
            links: BTreeMap::new(),
            under_way: FuturesUnordered::new(),
            fetching_identity: false,
            refreshing: false,
            stale: BTreeSet::new(),
            failures: 0,
            timer,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.act();
            let woken = Arc::clone(&self.shared);
            let (under_way, timer) = (&mut self.under_way, &mut self.timer);
            let event = tokio::select! {
                biased;
                Some(event) = under_way.next(), if !under_way.is_empty() => Some(event),
                () = woken.wake.notified() => None,
                () = std::future::poll_fn(|cx| timer.poll_fired(cx)) => None,
            };
            if let Some(event) = event {
                self.take_in(event);
            }
        }
    }

    /// Sends all that can be sent and sets the timer for what comes next.
    fn act(&mut self) {
        let now = self.cluster.env().now();
        let (ready, wants_identity, deadline) = {
            let mut effects = Effects::default();
            let mut state = self.shared.lock();
            state.accumulator.expire(now, &mut effects);
            let ready = state.accumulator.ready(now);
            let wants = state.accumulator.wants_identity();
            let deadline = state.accumulator.deadline(now);
            drop(state);
            self.settle(effects);
            (ready, wants, deadline)
        };
        if wants_identity && !self.fetching_identity {
            self.fetch_identity();
        }
        for (broker, partitions) in self.by_leader(ready) {
            self.send_to(broker, &partitions);
        }
        if !self.stale.is_empty() && !self.refreshing {
            self.refresh();
        }
        match deadline {
            Some(at) => self.timer.reset(at),
            None => self.timer.clear(),
        }
    }

    fn by_leader(&mut self, ready: Vec<TopicPartition>) -> BTreeMap<BrokerId, Vec<TopicPartition>> {
        let view = self.cluster.view();
        let mut brokers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for partition in ready {
            if self.stale.contains(&partition) {
                continue;
            }
            match view.leader(&partition) {
                Some((leader, _)) => brokers.entry(leader).or_default().push(partition),
                None => {
                    self.stale.insert(partition);
                }
            }
        }
        brokers
    }

    /// Sends requests to `broker` until nothing is ready or it has enough to answer.
    fn send_to(&mut self, broker: BrokerId, partitions: &[TopicPartition]) {
        let in_flight_max = self.cluster.config().max_in_flight;
        let mut left: Vec<TopicPartition> = partitions.to_vec();
        while !left.is_empty() {
            let connection = match self.links.get_mut(&broker) {
                Some(Link::Connecting) => return,
                Some(Link::Ready { connection, calls }) if connection.is_open() => {
                    if *calls >= in_flight_max {
                        return;
                    }
                    connection.clone()
                }
                Some(Link::Ready { .. }) | None => {
                    self.connect(broker);
                    return;
                }
            };
            let Some(permit) = connection.try_permit() else {
                return;
            };
            let taken = self.shared.lock().accumulator.take(&left);
            if taken.is_empty() {
                return;
            }
            left.retain(|partition| !taken.iter().any(|batch| batch.partition == *partition));
            let (request, sent, cap) = self.request(taken);
            if self.cluster.config().acks == Acks::None {
                match connection.tell(permit, request, cap) {
                    Ok(written) => self.await_written(broker, sent, written),
                    Err(error) => self.lost(&sent, &error, false),
                }
                continue;
            }
            match connection.start(permit, request, cap) {
                Ok(pending) => self.await_answer(broker, sent, pending),
                Err(error) => self.lost(&sent, &error, false),
            }
        }
    }

    fn request(&self, taken: Vec<Sendable>) -> (ProduceRequest, Sent, i16) {
        let view = self.cluster.view();
        let config = self.cluster.config();
        let mut sent = Sent {
            batches: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        let mut topics: BTreeMap<Arc<str>, Vec<PartitionProduceData>> = BTreeMap::new();
        for Sendable {
            partition,
            id,
            batch,
        } in taken
        {
            let data = PartitionProduceData {
                index: partition.partition,
                records: Some(Records::from(batch.bytes().clone())),
                ..Default::default()
            };
            let topic = topics.entry(Arc::clone(&partition.topic));
            topic.or_default().push(data);
            sent.batches.insert(partition, id);
        }
        let mut cap = i16::MAX;
        let topic_data = topics.into_iter().map(|(name, partition_data)| {
            let topic_id = view.topic_id(&name);
            if topic_id.is_zero() {
                cap = BY_NAME_MAX;
            }
            sent.names.insert(topic_id, Arc::clone(&name));
            TopicProduceData {
                name: Str::from(&*name),
                topic_id,
                partition_data,
                ..Default::default()
            }
        });
        let topic_data = topic_data.collect();
        let within = config.request_timeout.as_millis();
        let request = ProduceRequest {
            transactional_id: None,
            acks: config.acks.to_wire(),
            timeout_ms: i32::try_from(within).unwrap_or(i32::MAX),
            topic_data,
            ..Default::default()
        };
        (request, sent, cap)
    }

    fn await_answer(&mut self, broker: BrokerId, sent: Sent, call: PendingCall<ProduceRequest>) {
        if let Some(Link::Ready { calls, .. }) = self.links.get_mut(&broker) {
            *calls += 1;
        }
        let within = self.cluster.config().request_timeout;
        let answer = call.answer_within(within);
        self.under_way.push(Box::pin(async move {
            Event::Answered {
                broker,
                sent,
                answer: answer.await,
            }
        }));
    }

    fn await_written(
        &mut self,
        broker: BrokerId,
        sent: Sent,
        written: impl Future<Output = Result<(), ClientError>> + Send + 'static,
    ) {
        if let Some(Link::Ready { calls, .. }) = self.links.get_mut(&broker) {
            *calls += 1;
        }
        self.under_way.push(Box::pin(async move {
            let told = written.await;
            Event::Told { broker, sent, told }
        }));
    }

    fn connect(&mut self, broker: BrokerId) {
        self.links.insert(broker, Link::Connecting);
        let cluster = self.cluster.clone();
        self.under_way.push(Box::pin(async move {
            Event::Connected(broker, cluster.connection(broker, Lane::Data).await)
        }));
    }

    fn fetch_identity(&mut self) {
        self.fetching_identity = true;
        let cluster = self.cluster.clone();
        let pause = self.pause();
        self.under_way.push(Box::pin(async move {
            cluster.env().sleep(pause).await;
            Event::Identity(fetch_identity(&cluster).await)
        }));
    }

    fn refresh(&mut self) {
        self.refreshing = true;
        let topics: BTreeSet<Arc<str>> = self.stale.iter().map(|p| Arc::clone(&p.topic)).collect();
        let topics = Topics::Named(topics.into_iter().collect());
        let cluster = self.cluster.clone();
        let pause = self.pause();
        self.under_way.push(Box::pin(async move {
            cluster.env().sleep(pause).await;
            Event::Refreshed(cluster.refresh(&topics).await.map(|_| ()))
        }));
    }

    fn pause(&self) -> Duration {
        match self.failures {
            0 => Duration::ZERO,
            failures => self.cluster.retry_pause(failures),
        }
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::Connected(broker, Ok(connection)) => {
                let ready = Link::Ready {
                    connection,
                    calls: 0,
                };
                self.links.insert(broker, ready);
            }
            Event::Connected(broker, Err(error)) => {
                tracing::debug!(%broker, %error, "a leader cannot be reached");
                self.links.remove(&broker);
                self.failures = self.failures.saturating_add(1);
                self.distrust(broker);
            }
            Event::Answered {
                broker,
                sent,
                answer,
            } => {
                if let Some(Link::Ready { calls, .. }) = self.links.get_mut(&broker) {
                    *calls = calls.saturating_sub(1);
                }
                match answer {
                    Ok(response) => self.answered(&sent, &response),
                    Err(error) => {
                        self.links.remove(&broker);
                        self.lost(&sent, &error, true);
                    }
                }
            }
            Event::Told { broker, sent, told } => {
                if let Some(Link::Ready { calls, .. }) = self.links.get_mut(&broker) {
                    *calls = calls.saturating_sub(1);
                }
                match told {
                    Ok(()) => self.told(&sent),
                    Err(error) => {
                        self.links.remove(&broker);
                        self.lost(&sent, &error, true);
                    }
                }
            }
            Event::Identity(result) => self.identified(result),
            Event::Refreshed(result) => self.refreshed(result),
        }
    }

    /// The partitions led by `broker` are looked up before anything is sent to them.
    fn distrust(&mut self, broker: BrokerId) {
        let view = self.cluster.view();
        let now = self.cluster.env().now();
        let ready = self.shared.lock().accumulator.ready(now);
        let led = ready.into_iter();
        let led = led.filter(|p| view.leader(p).is_none_or(|(leader, _)| leader == broker));
        self.stale.extend(led);
    }

    fn identified(&mut self, result: Result<Identity, ClientError>) {
        self.fetching_identity = false;
        match result {
            Ok(identity) => {
                self.failures = 0;
                self.shared.lock().accumulator.set_identity(identity);
            }
            Err(error) if error.is_retriable() => {
                tracing::debug!(%error, "no producer id yet");
                self.failures = self.failures.saturating_add(1);
            }
            Err(error) => {
                tracing::warn!(%error, "no producer id; nothing can be written");
                self.failures = self.failures.saturating_add(1);
                let mut effects = Effects::default();
                self.shared.lock().accumulator.abandon(&error, &mut effects);
                self.settle(effects);
            }
        }
    }

    fn refreshed(&mut self, result: Result<(), ClientError>) {
        self.refreshing = false;
        let view = self.cluster.view();
        let known = |partition: &TopicPartition| view.leader(partition).is_some();
        match result {
            Ok(()) => {
                let stale = self.stale.len();
                self.stale.retain(|partition| !known(partition));
                self.failures = match self.stale.len() < stale {
                    true => 0,
                    false => self.failures.saturating_add(1),
                };
            }
            Err(error) => {
                tracing::debug!(%error, "leaders cannot be looked up");
                self.failures = self.failures.saturating_add(1);
            }
        }
        // A partition that has nothing to send any more needs no leader.
        let state = self.shared.lock();
        self.stale.retain(|p| state.accumulator.is_active(p));
    }

    fn told(&mut self, sent: &Sent) {
        let now = self.cluster.env().now();
        let mut effects = Effects::default();
        let mut state = self.shared.lock();
        for (partition, id) in &sent.batches {
            let answer = Answer::Acknowledged(Acknowledged {
                base_offset: None,
                log_append_time: None,
            });
            let accumulator = &mut state.accumulator;
            accumulator.answered(now, partition, *id, answer, &mut effects);
        }
        drop(state);
        self.settle(effects);
    }

    fn lost(&mut self, sent: &Sent, error: &ClientError, may_have_arrived: bool) {
        let now = self.cluster.env().now();
        let mut effects = Effects::default();
        let mut state = self.shared.lock();
        for (partition, id) in &sent.batches {
            let answer = Answer::Lost {
                error: error.clone(),
                sent: may_have_arrived,
            };
            let accumulator = &mut state.accumulator;
            accumulator.answered(now, partition, *id, answer, &mut effects);
        }
        drop(state);
        self.settle(effects);
    }

    fn answered(&mut self, sent: &Sent, response: &ProduceResponse) {
        let now = self.cluster.env().now();
        let mut effects = Effects::default();
        let mut open = sent.batches.clone();
        let mut state = self.shared.lock();
        for topic in &response.responses {
            let name = match topic.name.is_empty() {
                true => sent.names.get(&topic.topic_id).cloned(),
                false => Some(Arc::from(topic.name.as_str())),
            };
            let Some(name) = name else { continue };
            for part in &topic.partition_responses {
                let partition = TopicPartition::new(Arc::clone(&name), part.index);
                let Some(id) = open.remove(&partition) else {
                    continue;
                };
                let answer = answer_of(part);
                let before = effects.stale.len();
                let accumulator = &mut state.accumulator;
                accumulator.answered(now, &partition, id, answer, &mut effects);
                let told = &part.current_leader;
                if effects.stale.len() > before
                    && self
                        .cluster
                        .note_leader(&partition, told.leader_id, told.leader_epoch)
                {
                    effects.stale.remove(&partition);
                }
            }
        }
        for (partition, id) in open {
            let answer = Answer::Lost {
                error: ClientError::Missing {
                    what: format!("{partition} in the broker's answer"),
                },
                sent: true,
            };
            let accumulator = &mut state.accumulator;
            accumulator.answered(now, &partition, id, answer, &mut effects);
        }
        drop(state);
        self.settle(effects);
    }

    /// Tells whoever waits.
    fn settle(&mut self, effects: Effects<Handle>) {
        let any = !effects.ended.is_empty();
        for (handle, result) in effects.ended {
            if let Err(error) = &result {
                tracing::debug!(%error, "a batch was not acknowledged");
            }
            handle.end(result);
        }
        self.stale.extend(effects.stale);
        if any {
            self.shared.progress.notify_waiters();
        }
    }
}

fn answer_of(part: &PartitionProduceResponse) -> Answer {
    let text = part.error_message.as_deref();
    match ApiError::from_wire(part.error_code, text) {
        Some(error) => Answer::Refused(error),
        None => Answer::Acknowledged(Acknowledged {
            base_offset: Some(Offset(part.base_offset)).filter(|offset| offset.0 >= 0),
            log_append_time: Some(Timestamp(part.log_append_time_ms)).filter(|time| time.0 >= 0),
        }),
    }
}

async fn fetch_identity(cluster: &Cluster) -> Result<Identity, ClientError> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let answer = cluster.call_any(request).await?;
    ApiError::check(answer.error_code, None)
        .map_err(|error| ClientError::refused("asking for a producer id", error))?;
    Ok(Identity {
        id: ProducerId(answer.producer_id),
        epoch: ProducerEpoch(answer.producer_epoch),
    })
}

/// The partitions of a topic and those with a leader, or why the topic cannot be written to.
pub(super) fn partitions_of(
    view: &ClusterView,
    topic: &str,
) -> Result<Option<(i32, Vec<i32>)>, ApiError> {
    if let Some(known) = view.topics.get(topic) {
        let numbers = known.partitions.keys();
        let count = numbers.max().map_or(0, |last| last + 1);
        let led = known.partitions.values().filter(|p| p.leader.is_some());
        let led: Vec<i32> = led.map(|p| p.partition).collect();
        if count > 0 {
            return Ok(Some((count, led)));
        }
    }
    match view.topic_errors.get(topic) {
        Some(error) if !error.code.is_retriable() => Err(error.clone()),
        Some(error) if error.code == ErrorCode::InvalidTopicException => Err(error.clone()),
        _ => Ok(None),
    }
}
