//! A producer under load: one task sends, another takes in the acknowledgements.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot};

use super::figures::Latencies;
use super::payload::Payload;
use super::{Live, Schedule, Span};
use crate::client::{
    ClientError, Delivery, DeliveryError, Producer, ProducerRecord, RecordMetadata,
};
use crate::env::{Env, Task};
use crate::types::Instant;

/// Records after which a sender lets other tasks of its thread run.
const TURN: u64 = 64;

/// What one producer does.
pub struct Plan {
    pub topic: Arc<str>,
    pub span: Span,
    /// Due times of this producer's records; `None`: as fast as it goes.
    pub schedule: Option<Schedule>,
    /// Records to send from the measurement's begin on; `None`: until the span ends.
    pub records: Option<u64>,
    pub payload: Payload,
    /// A value begins with these bytes, followed by the record's number (8 bytes).
    pub mark: Option<[u8; 8]>,
}

/// What one producer saw of its cluster; records that were due before the measurement are left
/// out of all but `sent`.
pub struct Outcome {
    /// Sends, the warm-up's included.
    pub sent: u64,
    pub acknowledged: u64,
    pub failed: u64,
    pub first_error: Option<DeliveryError>,
    /// From due (or sent) to acknowledged.
    pub latencies: Latencies,
    /// From due to sent: how late this program was itself.
    pub delays: Latencies,
    /// Of the last acknowledgement.
    pub last: Instant,
}

/// A record under way.
struct Sent {
    delivery: Delivery,
    due: Instant,
}

type Acknowledged = (i32, Instant, Result<RecordMetadata, DeliveryError>);

/// A producer at work; dropping it stops it.
pub struct Running {
    pub outcome: oneshot::Receiver<Result<Outcome, ClientError>>,
    _task: Task,
}

/// Starts a producer's two tasks.
pub fn start(env: &Env, producer: Producer, plan: Plan, live: &Arc<Live>) -> Running {
    let (sent, taken) = mpsc::unbounded_channel();
    let (done, outcome) = oneshot::channel();
    let collector = Collector {
        env: env.clone(),
        live: Arc::clone(live),
        bytes: plan.payload.size() as u64,
        begin: plan.span.begin,
        fronts: FuturesUnordered::new(),
        queues: BTreeMap::new(),
        outcome: Outcome {
            sent: 0,
            acknowledged: 0,
            failed: 0,
            first_error: None,
            latencies: Latencies::new(),
            delays: Latencies::new(),
            last: plan.span.begin,
        },
    };
    let (counted, collected) = oneshot::channel();
    let collecting = env.spawn("perf-collector", async move {
        // The receiver is gone only when nobody wants the outcome.
        let _ = counted.send(collector.run(taken).await);
    });
    let sender_env = env.clone();
    let task = env.spawn("perf-sender", async move {
        let sending = send(&sender_env, &producer, plan, &sent).await;
        drop(sent);
        producer.drain().await;
        let result = match (sending, collected.await) {
            (Ok((sent, delays)), Ok(outcome)) => Ok(Outcome {
                sent,
                delays,
                ..outcome
            }),
            (Err(error), _) => Err(error),
            (Ok(_), Err(_)) => Err(ClientError::Closed),
        };
        drop(collecting);
        let _ = done.send(result);
    });
    Running {
        outcome,
        _task: task,
    }
}

async fn send(
    env: &Env,
    producer: &Producer,
    mut plan: Plan,
    sent: &mpsc::UnboundedSender<Sent>,
) -> Result<(u64, Latencies), ClientError> {
    env.sleep_until(plan.span.start).await;
    let mut delays = Latencies::new();
    let mut counted = 0;
    let mut index = 0;
    loop {
        let now = env.now();
        let due = plan.schedule.map_or(now, |schedule| schedule.due(index));
        let is_over = plan.span.stop.is_some_and(|stop| due >= stop);
        if is_over || plan.records.is_some_and(|records| counted >= records) {
            return Ok((index, delays));
        }
        if due > now {
            env.sleep_until(due).await;
        } else if index.is_multiple_of(TURN) {
            give_way().await;
        }
        let value = match plan.mark {
            None => plan.payload.value(),
            Some(mark) => plan.payload.marked(&[mark, index.to_be_bytes()].concat()),
        };
        let counts = due >= plan.span.begin;
        if counts && plan.schedule.is_some() {
            delays.record(env.now().since(due));
        }
        let record = ProducerRecord::new(Arc::clone(&plan.topic), value);
        let delivery = producer.send(record).await?;
        counted += u64::from(counts);
        index += 1;
        if sent.send(Sent { delivery, due }).is_err() {
            return Err(ClientError::Closed);
        }
    }
}

/// Lets other tasks run once.
async fn give_way() {
    let mut gave = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut gave, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// Takes acknowledgements in. Records of a partition are acknowledged in their order, so only the
/// first of each partition is waited for: one wake-up takes a whole batch.
struct Collector {
    env: Env,
    live: Arc<Live>,
    bytes: u64,
    begin: Instant,
    fronts: FuturesUnordered<crate::env::BoxFuture<'static, Acknowledged>>,
    /// Records behind the front of each partition that has one.
    queues: BTreeMap<i32, VecDeque<Sent>>,
    outcome: Outcome,
}

impl Collector {
    async fn run(mut self, mut taken: mpsc::UnboundedReceiver<Sent>) -> Outcome {
        let mut open = true;
        while open || !self.fronts.is_empty() {
            tokio::select! {
                biased;
                Some((partition, due, result)) = self.fronts.next(), if !self.fronts.is_empty() => {
                    let now = self.env.now();
                    self.take(due, now, result);
                    self.next_of(partition, now);
                }
                sent = taken.recv(), if open => match sent {
                    Some(sent) => self.queue(sent),
                    None => open = false,
                },
            }
        }
        self.outcome
    }

    fn queue(&mut self, sent: Sent) {
        let partition = sent.delivery.partition().partition;
        match self.queues.get_mut(&partition) {
            Some(queue) => queue.push_back(sent),
            None => {
                self.queues.insert(partition, VecDeque::new());
                self.wait_for(partition, sent);
            }
        }
    }

    fn wait_for(&mut self, partition: i32, sent: Sent) {
        let Sent { delivery, due } = sent;
        self.fronts
            .push(Box::pin(async move { (partition, due, delivery.await) }));
    }

    /// Takes in what else of a partition is acknowledged, and waits for the first that is not.
    fn next_of(&mut self, partition: i32, now: Instant) {
        loop {
            let queue = self.queues.get_mut(&partition);
            let Some(mut sent) = queue.and_then(VecDeque::pop_front) else {
                self.queues.remove(&partition);
                return;
            };
            match (&mut sent.delivery).now_or_never() {
                Some(result) => self.take(sent.due, now, result),
                None => return self.wait_for(partition, sent),
            }
        }
    }

    fn take(&mut self, due: Instant, now: Instant, result: Result<RecordMetadata, DeliveryError>) {
        self.live.add(1, self.bytes);
        if due < self.begin {
            return;
        }
        self.outcome.last = self.outcome.last.max(now);
        match result {
            Ok(_) => {
                self.outcome.acknowledged += 1;
                self.outcome.latencies.record(now.since(due));
            }
            Err(error) => {
                self.outcome.failed += 1;
                self.outcome.first_error.get_or_insert(error);
            }
        }
    }
}
