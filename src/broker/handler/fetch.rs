//! Fetch: batches for consumers and followers, waiting for `min_bytes` of them as long as asked.
//!
//! Consumers get what is below the high watermark, from the leader, or, when they say in which rack
//! they are, from a follower as far as it knows that. Followers get what the leader has.

mod later;
mod source;

use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::leadership::{Leaders, Named};
use super::{RequestContext, settling};
use crate::broker::Broker;
use crate::broker::fetch_session::{Plan, Target, Told};
use crate::log::ReadError;
use crate::replication::FetchSignal;
use crate::types::{ErrorCode, Instant, Offset};
use crate::wire::message::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData,
};
use crate::wire::primitive::Records;

use later::later;
use source::{Reader, Serving, Source, TOPIC_ID_SINCE};

const READ_COMMITTED: i8 = 1;

pub async fn handle(
    broker: Arc<Broker>,
    context: RequestContext,
    request: FetchRequest,
) -> FetchResponse {
    let plan = {
        let random = i32::from_be_bytes(broker.random_bytes());
        let mut sessions = broker
            .fetch_sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sessions.begin(broker.env.now(), &request, random)
    };
    let plan = match plan {
        Ok(plan) => plan,
        Err(code) => {
            return FetchResponse {
                error_code: code.code(),
                ..Default::default()
            };
        }
    };
    let fetch = Fetch {
        broker: &broker,
        context: &context,
        request: &request,
        reader: Reader::of(&request),
    };
    fetch.settle(&plan.targets).await;
    let partitions = fetch.wait_and_read(&plan.targets).await;
    answer(&broker, &context, plan, partitions)
}

struct Fetch<'a> {
    broker: &'a Arc<Broker>,
    context: &'a RequestContext,
    request: &'a FetchRequest,
    reader: Reader,
}

impl Fetch<'_> {
    /// Followers do not wait: what they fetch beside it must not wait either.
    async fn settle(&self, targets: &[Target]) {
        if self.reader != Reader::Consumer || targets.is_empty() {
            return;
        }
        let version = self.context.version;
        let keys = targets.iter().map(|target| &target.key);
        let named = keys.map(|key| {
            let named = Named::of(version, TOPIC_ID_SINCE, &key.topic, key.topic_id);
            (named, key.partition)
        });
        let partitions: Vec<_> = named.collect();
        settling::settle(self.broker, &partitions).await;
    }

    async fn wait_and_read(&self, targets: &[Target]) -> Vec<PartitionData> {
        let wait = Duration::from_millis(u64::try_from(self.request.max_wait_ms).unwrap_or(0));
        let deadline = self.broker.env.now().plus(wait);
        let sources = self.sources(targets).await;
        if !wait.is_zero() {
            self.wait(&sources, deadline).await;
        }
        self.read(&sources).await
    }

    /// Waits until the answer would hold `min_bytes`, has news of another kind, or is late.
    async fn wait(&self, sources: &[Source<'_>], deadline: Instant) {
        if self.is_due(sources) {
            return;
        }
        let env = &self.broker.env;
        let mut timer = env.clock.timer();
        timer.reset(deadline);
        loop {
            // Registered before the look, so that no append between the two is missed.
            let signal = Arc::new(FetchSignal::default());
            for serving in sources
                .iter()
                .filter_map(|source| source.serving.as_ref().ok())
            {
                self.register(serving, &signal);
            }
            if self.is_due(sources) {
                return;
            }
            tokio::select! {
                biased;
                () = signal.raised() => {
                    tracing::trace!(target: "klamm::probe", name = "fetch-woken");
                }
                () = self.broker.drain.started() => return,
                () = std::future::poll_fn(|cx| timer.poll_fired(cx)) => {
                    tracing::trace!(target: "klamm::probe", name = "fetch-wait-expired");
                    return;
                }
            }
        }
    }

    fn is_due(&self, sources: &[Source<'_>]) -> bool {
        let wanted = u64::try_from(self.request.min_bytes).unwrap_or(0);
        let mut available = 0;
        for source in sources {
            let Ok(serving) = &source.serving else {
                return true;
            };
            if self.has_other_news(source, serving) {
                return true;
            }
            let most = u64::try_from(source.target.fetch.partition_max_bytes).unwrap_or(0);
            let (from, visible) = (source.from(), self.visible(serving));
            if from < visible {
                let reader = serving.view().reader();
                available += reader.bytes_between(from, visible).min(most.max(1));
            }
            if available >= wanted {
                return true;
            }
        }
        available >= wanted
    }

    /// Whether there is something to tell beside records.
    fn has_other_news(&self, source: &Source<'_>, serving: &Serving) -> bool {
        let reader = serving.view().reader();
        let from = source.from();
        // A follower that does not know how far the partition is committed is told at once
        // (KIP-1166).
        let told = Offset(source.target.fetch.high_watermark);
        let high_watermark = serving.view().high_watermark();
        let is_follower = self.reader != Reader::Consumer;
        let may_know = is_follower && from >= high_watermark;
        // One that has records which are to go holds up their going.
        let starts_at = source.target.fetch.log_start_offset;
        let has_deleted = starts_at < 0 || starts_at >= serving.view().wanted_start().0;
        serving.diverging.is_some()
            || serving.preferred.is_some()
            || !serving.is_current()
            || from < reader.log_start_offset()
            || from > reader.log_end_offset()
            || (may_know && told < high_watermark)
            || (is_follower && !has_deleted)
    }

    async fn read(&self, sources: &[Source<'_>]) -> Vec<PartitionData> {
        let limit = self.broker.config.network.fetch_max_bytes;
        let mut left = usize::try_from(self.request.max_bytes)
            .unwrap_or(0)
            .min(limit);
        let mut nothing_yet = true;
        let mut partitions = Vec::with_capacity(sources.len());
        for source in sources {
            let data = self.read_one(source, left, nothing_yet).await;
            let bytes = data.records.as_ref().map_or(0, Records::len);
            nothing_yet &= bytes == 0;
            left = left.saturating_sub(bytes);
            partitions.push(data);
        }
        partitions
    }

    /// The high watermark that is told to who asked from outside of a log from `start` to `end`. A
    /// follower would begin at `start` if it were no more, as it is for new leaders that are yet to
    /// learn how far they reach; and that may lie within a batch.
    fn told_outside(&self, start: Offset, end: Offset, high_watermark: i64) -> i64 {
        let is_follower = self.reader != Reader::Consumer;
        match is_follower && start < end && !crate::mutant!("restart-within-a-batch-refused") {
            true => -1,
            false => high_watermark,
        }
    }

    async fn read_one(&self, source: &Source<'_>, left: usize, first: bool) -> PartitionData {
        let mut data = PartitionData {
            partition_index: source.target.key.partition,
            ..Default::default()
        };
        data.aborted_transactions = (self.request.isolation_level == READ_COMMITTED).then(Vec::new);
        let serving = match &source.serving {
            Ok(serving) if serving.is_current() => serving,
            Ok(_) => return failed(data, ErrorCode::NotLeaderOrFollower),
            Err(code) => return failed(data, *code),
        };
        let view = serving.view();
        let visible = self.visible(serving);
        data.high_watermark = view.high_watermark().0;
        data.last_stable_offset = view.last_stable_offset().0;
        let (from, start) = (source.from(), view.reader().log_start_offset());
        // Who is told that it may begin anew has yet to let go of what it has.
        let is_same = serving.diverging.is_none();
        data.log_start_offset = match self.reader {
            Reader::Follower { .. } if is_same && from >= view.wanted_start() => {
                view.wanted_start().max(start).0
            }
            _ => start.0,
        };
        if let Some(diverging) = &serving.diverging {
            data.diverging_epoch = diverging.clone();
            return data;
        }
        let end = view.reader().log_end_offset();
        if from < start || from > end {
            data.high_watermark = self.told_outside(start, end, data.high_watermark);
            return failed(data, ErrorCode::OffsetOutOfRange);
        }
        if let Some(preferred) = serving.preferred {
            tracing::trace!(target: "klamm::probe", name = "consumer-sent-to-its-rack");
            data.preferred_read_replica = preferred.0;
            return data;
        }
        if from >= visible || (left == 0 && !first) {
            return data;
        }
        let most = usize::try_from(source.target.fetch.partition_max_bytes)
            .unwrap_or(0)
            .min(left);
        let data = self.read_records(source, serving, (from..visible, most, first), data);
        data.await
    }

    /// Adds the records of `span`, at most so many bytes, but the first batch in any case where
    /// they are the first of the answer.
    async fn read_records(
        &self,
        source: &Source<'_>,
        serving: &Serving,
        (span, most, first): (Range<Offset>, usize, bool),
        mut data: PartitionData,
    ) -> PartitionData {
        let reader = serving.view().reader();
        let most = (most, self.broker.config.network.fetch_piece_bytes);
        let read = reader.read_beginning(span.start, span.end, most, first);
        let read = read.await;
        if !serving.is_current() {
            // The log may have been truncated and written anew under the read.
            return failed(data, ErrorCode::NotLeaderOrFollower);
        }
        match read {
            Ok((batches, stretch)) => {
                let counters = source.counters.as_ref();
                let later = stretch.map(|stretch| later(self.broker, serving, counters, stretch));
                let records = Records {
                    slices: batches.slices,
                    later,
                };
                if let Some(counters) = &source.counters
                    && self.reader == Reader::Consumer
                {
                    counters.fetched(records.len());
                }
                data.records = Some(records);
                data
            }
            Err(error) => {
                if let ReadError::Corrupt(_) = error {
                    let (hosted, epoch) = (&serving.hosted, serving.leader_epoch);
                    self.broker.partitions.damaged(hosted, epoch);
                }
                self.read_failed(source, data, &error)
            }
        }
    }

    fn read_failed(
        &self,
        source: &Source<'_>,
        data: PartitionData,
        error: &ReadError,
    ) -> PartitionData {
        if let Some(counters) = &source.counters {
            counters.fetch_failed();
        }
        let code = read_error(error);
        if code != ErrorCode::OffsetOutOfRange {
            let (partition, offset) = (source.target.key.partition, source.from().0);
            let topic = &source.target.key.topic;
            tracing::error!(%topic, partition, offset, %error, "read failed");
        }
        failed(data, code)
    }
}

fn failed(mut data: PartitionData, code: ErrorCode) -> PartitionData {
    data.error_code = code.code();
    if code != ErrorCode::OffsetOutOfRange {
        data.high_watermark = -1;
    }
    data
}

/// The error a client sees for a read that failed.
pub(super) fn read_error(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Corrupt { .. } => {
            tracing::trace!(target: "klamm::probe", name = "read-met-corruption");
            ErrorCode::CorruptMessage
        }
        _ => ErrorCode::KafkaStorageError,
    }
}

/// What a session remembers of an answer.
fn told(data: &PartitionData) -> Told {
    let records = data.records.as_ref();
    Told {
        high_watermark: Offset(data.high_watermark),
        log_start_offset: Offset(data.log_start_offset),
        has_records: records.is_some_and(|records| !records.is_empty()),
        has_error: data.error_code != 0
            || data.diverging_epoch.end_offset >= 0
            || data.preferred_read_replica >= 0,
    }
}

/// Leaves out what the session says is no news, and groups the rest by topic.
fn answer(
    broker: &Broker,
    context: &RequestContext,
    plan: Plan,
    partitions: Vec<PartitionData>,
) -> FetchResponse {
    let told: Vec<Told> = partitions.iter().map(told).collect();
    let left_out = {
        let mut sessions = broker
            .fetch_sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sessions.finish(&plan, &told)
    };
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    let mut leaders = Leaders::default();
    for (at, (target, mut data)) in plan.targets.into_iter().zip(partitions).enumerate() {
        if left_out.contains(&at) {
            continue;
        }
        let key = &target.key;
        let named = Named::of(context.version, TOPIC_ID_SINCE, &key.topic, key.topic_id);
        let code = ErrorCode::from_wire(data.error_code).unwrap_or(ErrorCode::None);
        let leader = leaders.name(broker, context, (named, key.partition), code);
        if let Some((leader, epoch)) = leader {
            data.current_leader = LeaderIdAndEpoch {
                leader_id: leader.0,
                leader_epoch: epoch.0,
                ..Default::default()
            };
        }
        match responses.last_mut() {
            Some(last)
                if last.topic == target.key.topic && last.topic_id == target.key.topic_id =>
            {
                last.partitions.push(data);
            }
            _ => responses.push(FetchableTopicResponse {
                topic: target.key.topic,
                topic_id: target.key.topic_id,
                partitions: vec![data],
                ..Default::default()
            }),
        }
    }
    FetchResponse {
        session_id: plan.session_id,
        responses,
        node_endpoints: leaders
            .into_endpoints()
            .map(|endpoint| NodeEndpoint {
                node_id: endpoint.id.0,
                host: endpoint.host.into(),
                port: endpoint.port,
                rack: endpoint.rack.map(Into::into),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}
