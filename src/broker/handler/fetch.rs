//! Fetch: batches below the high watermark, waiting for `min_bytes` of them as long as asked.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::RequestContext;
use crate::broker::Broker;
use crate::broker::fetch_session::{Plan, Target, Told};
use crate::broker::metrics::TopicCounters;
use crate::broker::partitions::Table;
use crate::log::ReadError;
use crate::replication::{FetchSignal, PartitionView};
use crate::types::{ErrorCode, LeaderEpoch, Offset};
use crate::wire::message::fetch::{
    EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use crate::wire::primitive::Records;

const READ_COMMITTED: i8 = 1;

/// First version that names topics by id.
const TOPIC_ID_SINCE: i16 = 13;

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
        version: context.version,
        request: &request,
    };
    let partitions = fetch.wait_and_read(&plan.targets).await;
    answer(&broker, plan, partitions)
}

struct Fetch<'a> {
    broker: &'a Arc<Broker>,
    version: i16,
    request: &'a FetchRequest,
}

/// A target with what serves it, or why nothing does.
struct Source<'a> {
    target: &'a Target,
    view: Result<Arc<PartitionView>, ErrorCode>,
    counters: Option<Arc<TopicCounters>>,
    diverging: Option<EpochEndOffset>,
}

impl Fetch<'_> {
    async fn wait_and_read(&self, targets: &[Target]) -> Vec<PartitionData> {
        let wait = Duration::from_millis(u64::try_from(self.request.max_wait_ms).unwrap_or(0));
        let deadline = self.broker.env.now().plus(wait);
        let table = self.broker.partitions.table();
        let sources: Vec<Source<'_>> = targets
            .iter()
            .map(|target| self.source(&table, target))
            .collect();
        if !wait.is_zero() {
            self.wait(&sources, deadline).await;
        }
        self.read(&sources).await
    }

    fn source<'a>(&self, table: &Table, target: &'a Target) -> Source<'a> {
        let topic = if self.version >= TOPIC_ID_SINCE {
            table
                .topic_by_id(target.key.topic_id)
                .ok_or(ErrorCode::UnknownTopicId)
        } else {
            table
                .topic(&target.key.topic)
                .ok_or(ErrorCode::UnknownTopicOrPartition)
        };
        let counters = topic.ok().map(|topic| topic.counters.clone());
        let view = topic.and_then(|topic| {
            let view = topic.find(target.key.partition)?.view.clone();
            super::check_leader_epoch(target.fetch.current_leader_epoch, view.leader_epoch())?;
            Ok(view)
        });
        let diverging = view.as_ref().ok().and_then(|view| divergence(view, target));
        Source {
            target,
            view,
            counters,
            diverging,
        }
    }

    /// Waits until the answer would hold `min_bytes`, has an error to tell, or is late.
    async fn wait(&self, sources: &[Source<'_>], deadline: crate::types::Instant) {
        if self.is_due(sources) {
            return;
        }
        let env = &self.broker.env;
        let mut timer = env.clock.timer();
        timer.reset(deadline);
        loop {
            // Registered before the look, so that no append between the two is missed.
            let signal = Arc::new(FetchSignal::default());
            for view in sources
                .iter()
                .filter_map(|source| source.view.as_ref().ok())
            {
                view.register(&signal);
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
            let (Ok(view), None) = (&source.view, &source.diverging) else {
                return true;
            };
            let from = Offset(source.target.fetch.fetch_offset);
            let reader = view.reader();
            if !view.is_online()
                || from < reader.log_start_offset()
                || from > reader.log_end_offset()
            {
                return true;
            }
            let most = u64::try_from(source.target.fetch.partition_max_bytes).unwrap_or(0);
            let visible = visible(view);
            if from < visible {
                available += reader.bytes_between(from, visible).min(most.max(1));
            }
            if available >= wanted {
                return true;
            }
        }
        available >= wanted
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

    async fn read_one(&self, source: &Source<'_>, left: usize, first: bool) -> PartitionData {
        let mut data = PartitionData {
            partition_index: source.target.key.partition,
            ..Default::default()
        };
        data.aborted_transactions = (self.request.isolation_level == READ_COMMITTED).then(Vec::new);
        let view = match &source.view {
            Ok(view) if view.is_online() => view,
            Ok(_) => return failed(data, ErrorCode::NotLeaderOrFollower),
            Err(code) => return failed(data, *code),
        };
        let visible = visible(view);
        data.high_watermark = view.high_watermark().0;
        data.last_stable_offset = view.last_stable_offset().0;
        data.log_start_offset = view.reader().log_start_offset().0;
        if let Some(diverging) = &source.diverging {
            data.diverging_epoch = diverging.clone();
            return data;
        }
        let from = Offset(source.target.fetch.fetch_offset);
        let end = view.reader().log_end_offset();
        if from.0 < data.log_start_offset || from > end {
            return failed(data, ErrorCode::OffsetOutOfRange);
        }
        if from >= visible || (left == 0 && !first) {
            return data;
        }
        let most = usize::try_from(source.target.fetch.partition_max_bytes)
            .unwrap_or(0)
            .min(left);
        match view.reader().read(from, visible, most, first).await {
            Ok(batches) => {
                let records = Records(batches.slices);
                if let Some(counters) = &source.counters {
                    counters.fetched(records.len());
                }
                data.records = Some(records);
                data
            }
            Err(error) => {
                if let Some(counters) = &source.counters {
                    counters.fetch_failed();
                }
                let code = read_error(&error);
                if code != ErrorCode::OffsetOutOfRange {
                    let partition = source.target.key.partition;
                    let topic = &source.target.key.topic;
                    tracing::error!(%topic, partition, offset = from.0, %error, "read failed");
                }
                failed(data, code)
            }
        }
    }
}

/// Exclusive end of what a fetch may give.
fn visible(view: &PartitionView) -> Offset {
    match crate::mutant!("serve-beyond-durable-end") {
        true => view.reader().log_end_offset(),
        false => view.high_watermark(),
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

/// Where the client's log and ours part, when its last epoch is not ours at that offset (KIP-595).
fn divergence(view: &PartitionView, target: &Target) -> Option<EpochEndOffset> {
    let last = LeaderEpoch(target.fetch.last_fetched_epoch);
    if last.0 < 0 {
        return None;
    }
    let (epoch, end) = view.reader().end_of_epoch(last);
    let agrees = epoch == last && end.0 >= target.fetch.fetch_offset;
    (!agrees).then(|| EpochEndOffset {
        epoch: epoch.0,
        end_offset: end.0,
        ..Default::default()
    })
}

/// Leaves out what the session says is no news, and groups the rest by topic.
fn answer(broker: &Broker, plan: Plan, partitions: Vec<PartitionData>) -> FetchResponse {
    let told: Vec<Told> = partitions
        .iter()
        .map(|data| Told {
            high_watermark: Offset(data.high_watermark),
            log_start_offset: Offset(data.log_start_offset),
            has_records: data
                .records
                .as_ref()
                .is_some_and(|records| !records.is_empty()),
            has_error: data.error_code != 0 || data.diverging_epoch.end_offset >= 0,
        })
        .collect();
    let left_out = {
        let mut sessions = broker
            .fetch_sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sessions.finish(&plan, &told)
    };
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    for (at, (target, data)) in plan.targets.into_iter().zip(partitions).enumerate() {
        if left_out.contains(&at) {
            continue;
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
        ..Default::default()
    }
}
