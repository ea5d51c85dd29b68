//! Writes records: collects them into batches, sends each to its partition's leader, and says for
//! every record how it ended.
//!
//! With idempotence (the default) a record is written at most once and records of one task for one
//! partition are written in the order of its sends; a record that fails may leave a gap, never a
//! reordering. A [`DeliveryError`] says whether the record may be in the log all the same.
//! Without idempotence, retries may duplicate, and with several requests in flight reorder.
//!
//! Memory is bounded by `buffer.memory`: a send waits for room, at most `max.block.ms`.

mod accumulator;
mod driver;
#[cfg(test)]
mod driver_tests;
#[cfg(test)]
mod model_broker;
mod partitioner;
mod record;
mod sequencer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use self::accumulator::{Accumulator, Effects, RecordParts};
use self::driver::{Driver, partitions_of};
use self::partitioner::StickyPartitioner;
use self::record::{BatchResult, Completion};
use self::sequencer::Rules;
use super::cluster::{Cluster, Topics};
use super::config::{Acks, ClientConfig};
use super::error::{ApiError, ClientError};
use crate::env::{Env, Task};
use crate::types::{ErrorCode, TopicPartition};

pub use self::partitioner::{murmur2, partition_of_key};
pub use self::record::{Delivery, DeliveryError, Outcome, ProducerRecord, RecordMetadata};

/// Writes records to any topics of a cluster. Cloning shares it; dropping the last clone stops
/// it, and what was not acknowledged by then may or may not be written (see [`Producer::drain`]).
#[derive(Clone)]
pub struct Producer {
    cluster: Cluster,
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

/// Who waits for a batch, and the memory it holds.
struct Handle {
    completion: Arc<Completion>,
    memory: Option<OwnedSemaphorePermit>,
}

struct Shared {
    state: Mutex<State>,
    memory: Arc<Semaphore>,
    memory_bytes: usize,
    /// Wakes the driver.
    wake: Notify,
    /// Wakes those who drain.
    progress: Notify,
}

struct State {
    accumulator: Accumulator<Handle>,
    sticky: StickyPartitioner,
    closed: bool,
}

impl Handle {
    fn end(self, result: BatchResult) {
        drop(self.memory);
        self.completion.complete(result);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Producer {
    pub fn new(env: &Env, config: ClientConfig) -> Result<Self, ClientError> {
        Ok(Self::on(Cluster::new(env, config)?))
    }

    /// A producer over connections shared with other parts of this program.
    #[must_use]
    pub fn on(cluster: Cluster) -> Self {
        let config = cluster.config();
        let rules = Rules {
            idempotent: config.enable_idempotence,
            unresolved_max: match config.enable_idempotence {
                true => config.max_in_flight.min(5),
                false => config.max_in_flight,
            },
            retries: match config.acks {
                Acks::None => 0,
                Acks::Leader | Acks::All => config.retries,
            },
            retry_pause: config.retry_backoff,
            linger: config.linger,
            batch_size: config.batch_size,
            delivery_timeout: config.delivery_timeout,
        };
        let accumulator = Accumulator::new(rules, config.max_request_size, config.compression_type);
        let memory_bytes = config.buffer_memory.min(u32::MAX as usize);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                accumulator,
                sticky: StickyPartitioner::default(),
                closed: false,
            }),
            memory: Arc::new(Semaphore::new(memory_bytes)),
            memory_bytes,
            wake: Notify::new(),
            progress: Notify::new(),
        });
        let driver = Driver::new(cluster.clone(), Arc::clone(&shared));
        let task = cluster.env().spawn("client-producer", driver.run());
        Self {
            cluster,
            shared,
            _task: Arc::new(task),
        }
    }

    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Takes a record in: returns once it has its place among the records of its partition, with
    /// a future of its delivery. Waits while the topic is not known and while memory is short, at
    /// most `max.block.ms`; an error means that the record was not taken in.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ClientError> {
        let bytes = record.bytes_max();
        let config = self.cluster.config();
        let size_max = config.max_request_size.min(self.shared.memory_bytes);
        if bytes > size_max {
            let text = format!("a record of {bytes} bytes; at most {size_max} may be sent");
            let error = ApiError {
                code: ErrorCode::MessageTooLarge,
                text: Some(text),
            };
            return Err(ClientError::refused("sending", error));
        }
        let (count, led) = self.partitions(&record.topic).await?;
        if let Some(partition) = record.partition
            && !(0..count).contains(&partition)
        {
            let what = format!("partition {partition} of topic {}", record.topic);
            return Err(ClientError::Missing { what });
        }
        let memory = self.memory(bytes).await?;
        self.append(record, bytes, count, &led, memory)
    }

    fn append(
        &self,
        record: ProducerRecord,
        bytes: usize,
        count: i32,
        led: &[i32],
        memory: OwnedSemaphorePermit,
    ) -> Result<Delivery, ClientError> {
        let env = self.cluster.env();
        let timestamp = record.timestamp.unwrap_or_else(|| env.wall());
        let now = env.now();
        let mut state = self.shared.lock();
        if let Some(error) = state.accumulator.fenced() {
            return Err(ClientError::refused("sending", error.clone()));
        }
        if state.closed {
            return Err(ClientError::Closed);
        }
        let number = match (record.partition, &record.key) {
            (Some(number), _) => number,
            (None, Some(key)) => partition_of_key(key, count),
            (None, None) => {
                let all: Vec<i32>;
                let open = match led.is_empty() {
                    true => {
                        all = (0..count).collect();
                        &all
                    }
                    false => led,
                };
                let after = self.cluster.config().batch_size;
                let random = self.cluster.random();
                state.sticky.next(&record.topic, open, bytes, after, random)
            }
        };
        let partition = TopicPartition::new(record.topic, number);
        let parts = RecordParts {
            timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
            bytes_max: bytes,
        };
        let made = || Handle {
            completion: Arc::default(),
            memory: None,
        };
        let (handle, index, wake) = state.accumulator.append(now, &partition, parts, made);
        match &mut handle.memory {
            Some(held) => held.merge(memory),
            none => *none = Some(memory),
        }
        let completion = Arc::clone(&handle.completion);
        drop(state);
        if wake {
            self.shared.wake.notify_one();
        }
        Ok(Delivery {
            completion,
            index,
            partition,
            timestamp,
        })
    }

    /// Count of partitions, and those with a leader.
    async fn partitions(&self, topic: &Arc<str>) -> Result<(i32, Vec<i32>), ClientError> {
        let what = || format!("sending to topic {topic}");
        let refuse = |error| ClientError::refused(what(), error);
        if let Some(known) = partitions_of(&self.cluster.view(), topic).map_err(refuse)? {
            return Ok(known);
        }
        let asked = Topics::Named(vec![Arc::clone(topic)]);
        let within = self.cluster.config().max_block;
        let attempt = || async {
            let view = self.cluster.refresh(&asked).await?;
            let known = partitions_of(&view, topic).map_err(refuse)?;
            known.ok_or_else(|| {
                let error = view.topic_errors.get(topic).cloned();
                refuse(error.unwrap_or_else(|| ErrorCode::LeaderNotAvailable.into()))
            })
        };
        self.cluster.retry_within(&what(), within, attempt).await
    }

    async fn memory(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ClientError> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let semaphore = &self.shared.memory;
        if let Ok(permit) = Arc::clone(semaphore).try_acquire_many_owned(bytes) {
            return Ok(permit);
        }
        // Memory is short: nothing lingers.
        self.shared.lock().accumulator.hurry();
        self.shared.wake.notify_one();
        let within = self.cluster.config().max_block;
        let acquired = Arc::clone(semaphore).acquire_many_owned(bytes);
        match self.cluster.env().timeout(within, acquired).await {
            Ok(permit) => permit.map_err(|_| ClientError::Closed),
            Err(_) => Err(ClientError::GaveUp {
                what: "sending (waiting for room in buffer.memory)".to_owned(),
                millis: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
                last: Box::new(ClientError::Missing {
                    what: "an acknowledgement that frees memory".to_owned(),
                }),
            }),
        }
    }

    /// Waits until every record taken in before has been acknowledged or has failed. Nothing
    /// lingers meanwhile. Ends by `delivery.timeout.ms` at the latest.
    pub async fn drain(&self) {
        let until = self.shared.lock().accumulator.hurry();
        self.shared.wake.notify_one();
        loop {
            let mut progress = std::pin::pin!(self.shared.progress.notified());
            progress.as_mut().enable();
            if self.shared.lock().accumulator.is_done(until) {
                return;
            }
            progress.await;
        }
    }

    /// Takes no more records and waits at most `within` for those taken in; what has not ended by
    /// then fails with [`Outcome::Unknown`] where it was sent.
    pub async fn close(self, within: Duration) {
        self.shared.lock().closed = true;
        let drained = self.cluster.env().timeout(within, self.drain()).await;
        if drained.is_err() {
            let mut effects = Effects::default();
            let mut state = self.shared.lock();
            state
                .accumulator
                .abandon(&ClientError::Closed, &mut effects);
            drop(state);
            for (handle, result) in effects.ended {
                handle.end(result);
            }
            self.shared.progress.notify_waiters();
        }
    }
}

impl Drop for Shared {
    /// Nobody is left to send; those who still wait for a delivery learn that.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut effects = Effects::default();
        state
            .accumulator
            .abandon(&ClientError::Closed, &mut effects);
        for (handle, result) in effects.ended {
            handle.end(result);
        }
    }
}
