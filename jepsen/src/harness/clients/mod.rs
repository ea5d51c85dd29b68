//! Clients of a run. Each writes what it asked and was answered; none judges.

mod everyone;
mod log;
mod member;
mod registers;
mod spoken;
mod way;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use klamm::client::{ClientConfig, ClientError};
use klamm::env::{Env, Rng};
use klamm::types::ErrorCode;
use tokio::task::JoinHandle;

use super::content;
use super::recorder::Recorder;
use crate::history::Partition;

pub use everyone::ask_node;
pub use log::{Producing, assign, list, list_ends, poll, positions, produce, read};
pub use member::{Membered, fetch_committed, observe, run as run_member};
pub use registers::{configs, settings_everywhere, topics};
pub use spoken::{SESSION, Spoken, is_left, speak, watch};
pub use worker::{Language, Worker};

/// The request may have had its effect.
pub const TIMEOUT: &str = "TIMEOUT";
/// The request was not sent.
pub const NOT_SENT: &str = "NOT_SENT";

/// What all clients share.
#[derive(Clone)]
pub struct Shared {
    pub env: Env,
    pub servers: String,
    pub recorder: Arc<Recorder>,
    pub seed: u64,
    pub stage: Arc<Stage>,
    /// Topics of the log workload.
    pub topics: Vec<(String, i32)>,
}

/// How far the run is.
#[derive(Debug, Default)]
pub struct Stage {
    /// Producers and those that change things end.
    ending: AtomicBool,
    /// Nothing is in flight any more; readers end.
    drained: AtomicBool,
}

impl Shared {
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.stage.ending.load(Ordering::Acquire)
    }

    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.stage.drained.load(Ordering::Acquire)
    }

    /// The stream of random numbers of the client `name`.
    #[must_use]
    pub fn rng(&self, name: &str) -> Rng {
        let mut root = [0; 32];
        root[..8].copy_from_slice(&self.seed.to_be_bytes());
        Rng::derived(root, name, 0)
    }

    /// Settings of a client called `name`.
    ///
    /// # Panics
    /// If they contradict each other.
    #[must_use]
    pub fn config(&self, name: &str, pairs: &[(&str, &str)]) -> ClientConfig {
        let own = [
            ("bootstrap.servers", self.servers.as_str()),
            ("client.id", name),
            ("retry.backoff.ms", "50"),
            ("retry.backoff.max.ms", "500"),
            ("reconnect.backoff.ms", "50"),
            ("reconnect.backoff.max.ms", "500"),
            ("socket.connection.setup.timeout.ms", "2000"),
            ("request.timeout.ms", "4000"),
            ("default.api.timeout.ms", "8000"),
            ("metadata.max.age.ms", "5000"),
            ("allow.auto.create.topics", "false"),
        ];
        let all = own.into_iter().chain(pairs.iter().copied());
        ClientConfig::from_pairs(all).expect("settings that the harness itself wrote")
    }

    /// Every partition of the topics of the log workload.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> + '_ {
        let each = self.topics.iter();
        each.flat_map(|(topic, count)| (0..*count).map(|number| content::partition(topic, number)))
    }
}

/// What a question that was not answered is recorded as: its attempts.
#[must_use]
pub fn attempts(error: &ClientError) -> Vec<&'static str> {
    let known = error.code().map_or(TIMEOUT, ErrorCode::name);
    match error.outcome_unknown() {
        true => vec![TIMEOUT],
        false => vec![known],
    }
}

/// What a change that did not work is recorded as. The library tries again where it may, and the
/// refusal of the last attempt says nothing about one whose answer was lost.
#[must_use]
pub fn attempts_to_change(error: &ClientError) -> Vec<&'static str> {
    let mut all = vec![TIMEOUT];
    all.extend(attempts(error));
    all
}

/// Clients at work.
#[derive(Debug, Default)]
pub struct Crew {
    /// They end when the run is ending.
    writers: Vec<JoinHandle<()>>,
    /// They end when all writers have.
    readers: Vec<JoinHandle<()>>,
    pub workers: Vec<Worker>,
}

impl Crew {
    pub fn writer(&mut self, client: impl Future<Output = ()> + Send + 'static) {
        self.writers.push(tokio::spawn(client));
    }

    pub fn reader(&mut self, client: impl Future<Output = ()> + Send + 'static) {
        self.readers.push(tokio::spawn(client));
    }

    /// Ends all clients, writers first. Those that do not end in time are left where they are: what
    /// they asked has no answer. How many these were.
    pub async fn end(mut self, stage: &Stage, within: Duration) -> usize {
        stage.ending.store(true, Ordering::Release);
        for worker in &mut self.workers {
            worker.tell("end writing");
        }
        let mut late = join(self.writers, within).await;
        stage.drained.store(true, Ordering::Release);
        late += join(self.readers, within).await;
        for worker in &mut self.workers {
            late += usize::from(!worker.end(within).await);
        }
        late
    }
}

async fn join(clients: Vec<JoinHandle<()>>, within: Duration) -> usize {
    let deadline = tokio::time::Instant::now() + within;
    let mut late = 0;
    for client in clients {
        let stop = client.abort_handle();
        if tokio::time::timeout_at(deadline, client).await.is_err() {
            stop.abort();
            late += 1;
        }
    }
    late
}
