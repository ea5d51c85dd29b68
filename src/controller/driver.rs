//! The task that runs the controller.
//!
//! One request at a time: the ledger turns it into records; the quorum commits them; they are
//! replayed; the new image is published and given to the subscriber; the answer goes out. The
//! handle passes it on once this node has carried the change out, so a topic's partitions exist by
//! the time its creation is answered.
//!
//! In a cluster the task handles requests only while its node leads the quorum; on every node it
//! replays what is committed, and is never held up by the subscriber.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use super::announcer::Announcer;
use super::delta::{ImageDelta, TopicDelta};
use super::duties::Duties;
use super::forward::{Answered, Forward};
use super::handle::{Command, Controller, Far, Shared};
use super::image::{ClusterImage, ReplayError, TopicImage};
use super::ledger::{ControllerLedger, Situation};
use super::quorum::{Committed, ProposeError, Quorum};
use super::record::{MetadataRecord, PartitionState};
use super::request::{Refusal, Reply, Request};
use crate::config::{BrokerDefaults, ReplicationConfig};
use crate::env::{BoxFuture, Clock, Env, Rng};
use crate::types::{BrokerId, ErrorCode, Offset};

/// Requests that may wait; more wait at their sender.
const COMMANDS_MAX: usize = 256;

/// Why the controller stopped for good. The node must stop too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControllerError {
    #[error("the metadata log failed: {0}")]
    Quorum(String),
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// A change of the metadata, for the one who carries it out.
#[derive(Debug)]
pub struct ImageUpdate {
    pub image: Arc<ClusterImage>,
    /// From the image of the update before; from nothing in the first.
    pub delta: ImageDelta,
    /// To be answered (or dropped) once carried out; what asked for the change waits for it.
    pub done: tokio::sync::oneshot::Sender<()>,
}

/// The controller's task, to be run by its owner.
pub struct ControllerTask {
    ledger: ControllerLedger,
    quorum: Box<dyn Quorum>,
    node: BrokerId,
    /// Whether this node leads the quorum.
    is_active: bool,
    /// The newest term that was told.
    term: u64,
    /// A node by itself handles nothing further before a change is carried out.
    is_alone: bool,
    entropy: Rng,
    clock: Arc<dyn Clock>,
    commands: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    announcer: Announcer,
    flight: Option<Flight>,
    duties: Option<Duties>,
}

/// Records on their way through the quorum. Nothing else is decided before it is known what became
/// of them: it would be decided without what they change, and once both were committed nobody could
/// replay the second.
struct Flight {
    /// The term in which they were proposed.
    term: u64,
    /// `None` once the quorum has answered. Where it could not say what became of them, only a
    /// later term of this node does: what was handed back by then is all there is.
    proposed: Option<BoxFuture<'static, Result<Offset, ProposeError>>>,
    /// Where the records end, once committed.
    end: Option<Offset>,
    asked: Option<(Reply, tokio::sync::oneshot::Sender<Answered>)>,
}

enum Event {
    Committed(Result<Committed, String>),
    Proposed(Result<Offset, ProposeError>),
    CarriedOut(Offset),
    Command(Option<Command>),
    Due,
}

impl Controller {
    /// For a node by itself. Replays what `quorum` kept until somebody leads. Then
    /// [`Controller::image`] is up to date; the task's first deed is to send all of it to `updates`
    /// as one change from nothing.
    pub async fn open(
        env: &Env,
        quorum: Box<dyn Quorum>,
        node: BrokerId,
        defaults: BrokerDefaults,
        updates: mpsc::Sender<ImageUpdate>,
    ) -> Result<(Self, ControllerTask), ControllerError> {
        let entropy = env.entropy.stream("controller");
        let ledger = ControllerLedger::new(node, defaults);
        Self::open_with(quorum, ledger, entropy, env.clock.clone(), updates).await
    }

    /// As [`Controller::open`], with the randomness for ids and placement.
    pub(super) async fn open_with(
        quorum: Box<dyn Quorum>,
        ledger: ControllerLedger,
        entropy: Rng,
        clock: Arc<dyn Clock>,
        updates: mpsc::Sender<ImageUpdate>,
    ) -> Result<(Self, ControllerTask), ControllerError> {
        let (controller, mut task) =
            ControllerTask::start(quorum, ledger, entropy, clock, updates, None);
        while !task.is_active {
            let committed = task.quorum.next_committed().await;
            let committed = committed.map_err(ControllerError::Quorum)?;
            task.ledger.replay(&committed)?;
            task.follow(&committed);
        }
        let image = Arc::new(task.ledger.image().clone());
        let whole = ImageDelta::between(&ClusterImage::default(), &image);
        task.shared.publish(image.clone());
        task.announcer.offer(image, whole);
        Ok((controller, task))
    }

    /// For a node of a cluster. Waits for nothing: [`Controller::image`] follows while the task
    /// runs, and requests wait until somebody leads. `updates` gets what changes, from nothing on;
    /// while one update is carried out, all that follow become one.
    #[must_use]
    pub fn open_in_cluster(
        env: &Env,
        quorum: Box<dyn Quorum>,
        node: BrokerId,
        defaults: BrokerDefaults,
        replication: &ReplicationConfig,
        forward: Arc<dyn Forward>,
        updates: mpsc::Sender<ImageUpdate>,
    ) -> (Self, ControllerTask) {
        let entropy = env.entropy.stream("controller");
        let ledger = ControllerLedger::in_cluster(node, defaults);
        let far = Far {
            env: env.clone(),
            forward,
            entropy: Arc::new(Mutex::new(env.entropy.stream("asking"))),
        };
        let clock = env.clock.clone();
        let (controller, mut task) =
            ControllerTask::start(quorum, ledger, entropy, clock, updates, Some(far));
        task.duties = Some(Duties::new(env.clock.clone(), replication));
        (controller, task)
    }
}

impl From<ProposeError> for Refusal {
    fn from(error: ProposeError) -> Self {
        let code = match error {
            ProposeError::NotController { .. } => ErrorCode::NotController,
            ProposeError::Refused(_) => ErrorCode::KafkaStorageError,
            // It may have happened: the code that says so.
            ProposeError::Unavailable(_) => ErrorCode::RequestTimedOut,
        };
        Self::new(code, error.to_string())
    }
}

impl ControllerTask {
    fn start(
        quorum: Box<dyn Quorum>,
        ledger: ControllerLedger,
        entropy: Rng,
        clock: Arc<dyn Clock>,
        updates: mpsc::Sender<ImageUpdate>,
        far: Option<Far>,
    ) -> (Controller, Self) {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let shared = Arc::new(Shared::default());
        let node = ledger.node();
        let task = Self {
            ledger,
            quorum,
            node,
            is_active: false,
            term: 0,
            is_alone: far.is_none(),
            entropy,
            clock,
            commands,
            shared: shared.clone(),
            announcer: Announcer::new(updates),
            flight: None,
            duties: None,
        };
        (Controller::new(node, sender, shared, far), task)
    }

    /// Serves until every handle is dropped, or the metadata can no longer be trusted.
    pub async fn run(mut self) -> Result<(), ControllerError> {
        self.settle().await;
        loop {
            match self.next().await {
                Event::Committed(committed) => {
                    self.apply(committed.map_err(ControllerError::Quorum)?)
                        .await?;
                }
                Event::Proposed(outcome) => self.proposed(outcome),
                Event::CarriedOut(end) => self.shared.carried_out(end),
                Event::Command(None) => return Ok(()),
                Event::Command(Some(command)) => self.handle(command),
                Event::Due => self.attend(),
            }
            self.land();
        }
    }

    async fn next(&mut self) -> Event {
        // A node that does not lead decides nothing, and has an answer at once.
        let is_idle =
            self.flight.is_none() || !self.is_active || crate::mutant!("decides-in-doubt");
        tokio::select! {
            biased;
            committed = self.quorum.next_committed() => Event::Committed(committed),
            outcome = outcome(&mut self.flight) => Event::Proposed(outcome),
            end = self.announcer.progress() => Event::CarriedOut(end),
            command = self.commands.recv(), if is_idle => Event::Command(command),
            () = due(&mut self.duties), if is_idle => Event::Due,
        }
    }

    fn handle(&mut self, command: Command) {
        let Command { request, answer } = command;
        if answer.is_closed() {
            return;
        }
        let outcome = match self.is_active {
            true => self.decide(&request),
            false => Err(Refusal::new(
                ErrorCode::NotController,
                format!("node {} is not the active controller", self.node),
            )),
        };
        match outcome {
            Ok((records, reply)) if records.is_empty() => {
                // Whoever asked may have gone.
                answer.send(Ok((reply, self.ledger.image().end()))).ok();
            }
            Ok((records, reply)) if answers_early(&request) => {
                let end = self.ledger.image().end();
                answer.send(Ok((reply, end))).ok();
                self.propose(records, None);
            }
            Ok((records, reply)) => self.propose(records, Some((reply, answer))),
            Err(refusal) => {
                answer.send(Err(refusal)).ok();
            }
        }
    }

    fn decide(&mut self, request: &Request) -> Result<(Vec<MetadataRecord>, Reply), Refusal> {
        let mut now = Situation {
            wall: self.clock.wall(),
            others_know: true,
        };
        if let Some(duties) = &mut self.duties
            && let Request::Heartbeat(heartbeat) = request
        {
            now.others_know = duties.heard(heartbeat);
        }
        self.ledger.handle(&mut self.entropy, now, request)
    }

    /// Does what is due without being asked.
    fn attend(&mut self) {
        let Some(duties) = &mut self.duties else {
            return;
        };
        let records = duties.attend(&self.ledger, self.clock.wall());
        if !records.is_empty() {
            self.propose(records, None);
        }
    }

    fn propose(
        &mut self,
        records: Vec<MetadataRecord>,
        asked: Option<(Reply, tokio::sync::oneshot::Sender<Answered>)>,
    ) {
        self.flight = Some(Flight {
            term: self.term,
            proposed: Some(self.quorum.propose(records)),
            end: None,
            asked,
        });
    }

    fn proposed(&mut self, outcome: Result<Offset, ProposeError>) {
        match outcome {
            Ok(end) => {
                if let Some(flight) = &mut self.flight {
                    flight.proposed = None;
                    flight.end = Some(end);
                }
            }
            Err(error) => {
                let is_doubtful = matches!(error, ProposeError::Unavailable(_));
                let asked = self.flight.as_mut().and_then(|flight| {
                    flight.proposed = None;
                    flight.asked.take()
                });
                if !is_doubtful {
                    self.flight = None;
                }
                match asked {
                    Some((_, answer)) => {
                        answer.send(Err(error.into())).ok();
                    }
                    None => tracing::info!(%error, "the controller's own change was not made"),
                }
            }
        }
    }

    /// Answers what was committed and is replayed by now.
    fn land(&mut self) {
        let end = self.ledger.image().end();
        let is_landed = |flight: &mut Flight| flight.end.is_some_and(|wanted| wanted <= end);
        if let Some(flight) = self.flight.take_if(is_landed)
            && let Some((reply, answer)) = flight.asked
        {
            answer.send(Ok((reply, end))).ok();
        }
    }

    async fn apply(&mut self, committed: Committed) -> Result<(), ControllerError> {
        let delta = self.ledger.replay(&committed)?;
        let image = Arc::new(self.ledger.image().clone());
        self.shared.publish(image.clone());
        self.follow(&committed);
        tell(&image, &delta);
        if let Some(duties) = &mut self.duties {
            duties.follow(&image, self.is_active);
        }
        self.announcer.offer(image.clone(), delta);
        if self.is_alone {
            self.settle().await;
        }
        self.quorum
            .applied(&image)
            .await
            .map_err(ControllerError::Quorum)
    }

    /// Takes note of who leads.
    fn follow(&mut self, committed: &Committed) {
        let Committed::Leader { leader, term } = committed else {
            return;
        };
        self.is_active = *leader == Some(self.node);
        self.term = *term;
        if self.is_active {
            let is_over = |flight: &mut Flight| flight.term < *term;
            if let Some(flight) = self.flight.take_if(is_over)
                && let Some((_, answer)) = flight.asked
            {
                let reason = "another term began before an answer came".to_owned();
                answer
                    .send(Err(ProposeError::Unavailable(reason).into()))
                    .ok();
            }
            let term = i64::try_from(*term).unwrap_or(i64::MAX);
            tracing::trace!(target: "klamm::metadata", event = "active", term);
        }
        self.shared.lead(*leader);
    }

    /// Waits until everything replayed is carried out.
    async fn settle(&mut self) {
        if self.is_alone {
            self.announcer.finish().await;
            self.shared.carried_out(self.ledger.image().end());
        }
    }
}

/// Whether a change is answered before it is committed: never, but by a mutant.
fn answers_early(request: &Request) -> bool {
    matches!(
        request,
        Request::IncrementalAlterConfigs(_) | Request::CreateTopics(_) | Request::DeleteTopics(_)
    ) && crate::mutant!("change-answered-before-commit")
}

/// The outcome of what is proposed; never, if nothing is.
async fn outcome(flight: &mut Option<Flight>) -> Result<Offset, ProposeError> {
    match flight.as_mut().and_then(|flight| flight.proposed.as_mut()) {
        Some(proposed) => proposed.await,
        None => std::future::pending().await,
    }
}

/// Completes when the controller of a cluster has something to do by itself.
async fn due(duties: &mut Option<Duties>) {
    match duties {
        Some(duties) => duties.due().await,
        None => std::future::pending().await,
    }
}

/// Tells listeners of `klamm::metadata` what was replayed.
fn tell(image: &ClusterImage, delta: &ImageDelta) {
    if !tracing::enabled!(target: "klamm::metadata", tracing::Level::TRACE) {
        return;
    }
    let end = image.end().0;
    tracing::trace!(target: "klamm::metadata", event = "applied", end);
    for id in &delta.brokers {
        let broker = image.broker(*id);
        tracing::trace!(
            target: "klamm::metadata",
            end,
            broker = id.0,
            epoch = broker.map_or(-1, |broker| broker.epoch.0),
            is_alive = broker.is_some_and(|broker| broker.is_alive()),
            run = broker.map(|broker| broker.incarnation.to_string()),
        );
    }
    for (id, change) in &delta.topics {
        let Some(topic) = image.topic_by_id(*id) else {
            tracing::trace!(target: "klamm::metadata", end, topic_id = %id, deleted = true);
            continue;
        };
        for (partition, state) in (0..).zip(&topic.partitions) {
            let is_told = match change {
                TopicDelta::Changed(changes) => {
                    changes.created.contains(&partition) || changes.changed.contains(&partition)
                }
                _ => true,
            };
            if is_told {
                tell_partition(topic, partition, state, end);
            }
        }
    }
}

fn tell_partition(topic: &TopicImage, partition: i32, state: &PartitionState, end: i64) {
    tracing::trace!(
        target: "klamm::metadata",
        end,
        topic = &*topic.name,
        topic_id = %topic.id,
        partition,
        leader = state.leader.map_or(-1, |leader| leader.0),
        leader_epoch = state.leader_epoch.0,
        partition_epoch = state.partition_epoch,
        replicas = ?state.replicas,
        isr = ?state.isr,
        elr = ?state.elr,
        recovering = state.recovering,
        cause = state.cause.name(),
    );
}
