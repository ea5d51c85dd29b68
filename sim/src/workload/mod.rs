//! What clients do: one driver a [`Role`], over real connections and the bytes of the protocol.
//!
//! [`run`] carries out one client's plan until it is told to stop and writes all it asks and all
//! it is told to the history. Most drivers speak the protocol themselves, so that what is sent
//! again, in which version and when, is theirs to choose; those with `library` use the project's
//! client library and record what that reports.
//!
//! Drivers never panic on what a broker or a network does, wait a drawn while before they try
//! again, and draw only from [`Client::rng`]: a plan and its seed give the same requests at the
//! same times. An operation is one request, except a send, a join and the giving out of
//! assignments, which are all that it takes. Everything is bounded by a time-out; what has no
//! answer when a client ends has no second event in the history.

mod admin;
mod committer;
mod content;
mod deleter;
mod errors;
mod fetching;
pub mod finals;
mod groups;
mod library;
mod library_member;
mod line;
pub mod links;
mod lister;
mod member;
mod offsets;
pub mod operator;
mod produce;
mod reader;
mod sender;
mod stop;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use klamm::env::{Env, Rng};
use klamm_jepsen::history::{Note, Partition};

use crate::plan::{ClientPlan, Role};
use crate::record::Recorder;

use line::Line;
pub use stop::Stop;

/// How long a driver of a node by itself may take to end what was under way when it was stopped.
const GRACE: Duration = Duration::from_secs(5);
/// The same in a cluster: a commit waits for its copies for 5 s (`offsets.commit.timeout.ms`), and
/// may be the second that was begun.
const CLUSTER_GRACE: Duration = Duration::from_secs(15);

/// How long drivers may take to end what was under way when they were stopped. `broker` is where
/// they find the nodes: several have commas between them.
#[must_use]
pub fn grace(broker: &str) -> Duration {
    match broker.contains(',') {
        true => CLUSTER_GRACE,
        false => GRACE,
    }
}

/// Count of partitions by topic.
pub type Topics = BTreeMap<String, i32>;

/// One client and all it may touch.
pub struct Client {
    /// Of the client's host.
    pub env: Env,
    pub plan: ClientPlan,
    pub recorder: Recorder,
    pub rng: Rng,
    /// `host:port`.
    pub broker: String,
    /// The topics of the plan.
    pub topics: Arc<Topics>,
    pub stop: Stop,
    /// Set once what the cluster copies from others was promoted.
    pub promoted: Stop,
}

/// Carries out the plan, beginning `start_ms` after the call, and returns at most [`grace`] after
/// the stop.
pub async fn run(client: Client) {
    let (env, stop) = (client.env.clone(), client.stop.clone());
    let (recorder, process) = (client.recorder.clone(), client.plan.name.clone());
    let is_member = matches!(client.plan.role, Role::Member { .. });
    let patience = grace(&client.broker);
    let late = async {
        stop.wait().await;
        env.sleep(patience).await;
    };
    tokio::select! {
        biased;
        () = drive(client) => {}
        () = late => {
            if is_member {
                recorder.note(&process, Note::Gone);
            }
        }
    }
}

async fn drive(mut client: Client) {
    if client.plan.after_promotion {
        tokio::select! {
            biased;
            () = client.stop.wait() => return,
            () = client.promoted.wait() => {}
        }
    }
    let start = Duration::from_millis(client.plan.start_ms);
    client.rest(start).await;
    match &client.plan.role {
        Role::Producer { library: true, .. } => library::produce(client).await,
        Role::Producer { .. } => sender::run(client).await,
        Role::Reader { library: true, .. } => library::read(client).await,
        Role::Reader { .. } => reader::run(client).await,
        Role::Member { library: true, .. } => library_member::run(client).await,
        Role::Member { .. } => member::run(client).await,
        Role::Committer { .. } => committer::run(client).await,
        Role::Admin { .. } => admin::run(client).await,
        Role::Deleter { .. } => deleter::run(client).await,
        Role::Lister { .. } => lister::run(client).await,
    }
}

impl Client {
    fn line(&mut self) -> Line {
        let rng = Rng::from_seed(self.rng.bytes());
        Line::new(
            self.env.clone(),
            self.recorder.clone(),
            &self.plan.name,
            &self.broker,
            rng,
        )
        .speaking(self.plan.versions)
    }

    fn percent(&mut self, percent: u8) -> bool {
        self.rng.below(100) < u64::from(percent)
    }

    /// Waits a drawn while of at most `most_ms` milliseconds, less when it is to stop.
    async fn pause(&mut self, most_ms: u64) {
        let drawn = self.rng.below(most_ms.saturating_add(1));
        self.rest(Duration::from_millis(drawn)).await;
    }

    /// Waits for `span`, less when it is to stop.
    async fn rest(&mut self, span: Duration) {
        if span.is_zero() {
            return;
        }
        tokio::select! {
            biased;
            () = self.stop.wait() => {}
            () = self.env.sleep(span) => {}
        }
    }

    /// The partitions of a topic of the plan; one if the plan does not know it.
    fn partitions(&self, topic: &str) -> Vec<Partition> {
        let count = self.topics.get(topic).copied().unwrap_or(1);
        (0..count).map(|number| partition(topic, number)).collect()
    }

    /// A drawn partition of a topic.
    fn draw_partition(&mut self, topic: &str) -> Partition {
        let count = self.topics.get(topic).copied().unwrap_or(1);
        let bound = u64::try_from(count).unwrap_or(1);
        partition(topic, i32::try_from(self.rng.below(bound)).unwrap_or(0))
    }
}

fn partition(topic: &str, number: i32) -> Partition {
    Partition {
        topic: topic.to_owned(),
        partition: number,
    }
}

/// Groups partitions by topic, as requests name them.
fn by_topic<'a>(
    partitions: impl IntoIterator<Item = &'a Partition>,
) -> BTreeMap<&'a str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for of in partitions {
        topics.entry(&of.topic).or_default().push(of.partition);
    }
    topics
}
