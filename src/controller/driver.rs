//! The task that runs the controller, and the handle on it.
//!
//! One request at a time: the ledger turns it into records; the quorum commits them; they are
//! replayed; the new image is published; the subscriber carries the change out; the answer goes
//! out. So a topic's partitions exist by the time its creation is answered.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{mpsc, oneshot};

use super::delta::ImageDelta;
use super::image::{ClusterImage, ReplayError};
use super::ledger::ControllerLedger;
use super::quorum::{Committed, ProposeError, Quorum};
use super::record::{ConfigResource, MetadataRecord};
use super::request::{
    AlterConfigs, CreatePartitions, CreateTopics, CreatedTopic, DeleteTopics, DeletedTopic,
    IncrementalAlterConfigs, ProducerIdBlock, Refusal, RegisterBroker, Reply, Request,
    TopicSelector,
};
use crate::config::BrokerDefaults;
use crate::env::{Env, Rng};
use crate::types::{BrokerEpoch, BrokerId, ErrorCode, ProducerId, Uuid};

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
    pub done: oneshot::Sender<()>,
}

enum Command {
    Request(Request, oneshot::Sender<Result<Reply, Refusal>>),
    ProducerId(oneshot::Sender<Result<ProducerId, Refusal>>),
}

type SharedImage = Arc<RwLock<Arc<ClusterImage>>>;

/// Handle on the controller. An `Err` of a method is about the whole request.
#[derive(Clone)]
pub struct Controller {
    commands: mpsc::Sender<Command>,
    image: SharedImage,
}

/// The controller's task, to be run by its owner.
pub struct ControllerTask {
    ledger: ControllerLedger,
    quorum: Box<dyn Quorum>,
    node: BrokerId,
    entropy: Rng,
    producer_ids: Option<ProducerIdBlock>,
    commands: mpsc::Receiver<Command>,
    image: SharedImage,
    updates: mpsc::Sender<ImageUpdate>,
}

impl Controller {
    /// Replays what `quorum` kept until somebody leads. Then [`Controller::image`] is up to date;
    /// the task's first deed is to send all of it to `updates` as one change from nothing.
    pub async fn open(
        env: &Env,
        quorum: Box<dyn Quorum>,
        node: BrokerId,
        defaults: BrokerDefaults,
        updates: mpsc::Sender<ImageUpdate>,
    ) -> Result<(Self, ControllerTask), ControllerError> {
        let entropy = env.entropy.stream("controller");
        Self::open_with(quorum, node, defaults, entropy, updates).await
    }

    /// As [`Controller::open`], with the randomness for ids and placement.
    pub(super) async fn open_with(
        quorum: Box<dyn Quorum>,
        node: BrokerId,
        defaults: BrokerDefaults,
        entropy: Rng,
        updates: mpsc::Sender<ImageUpdate>,
    ) -> Result<(Self, ControllerTask), ControllerError> {
        let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
        let mut task = ControllerTask {
            ledger: ControllerLedger::new(node, defaults),
            quorum,
            node,
            entropy,
            producer_ids: None,
            commands: receiver,
            image: SharedImage::default(),
            updates,
        };
        loop {
            let committed = task.next_committed().await?;
            task.ledger.replay(&committed)?;
            if matches!(
                committed,
                Committed::Leader {
                    leader: Some(_),
                    ..
                }
            ) {
                break;
            }
        }
        task.publish();
        let controller = Self {
            commands: sender,
            image: task.image.clone(),
        };
        Ok((controller, task))
    }

    /// The newest image. What a request of this handle changed is in it once that was answered.
    #[must_use]
    pub fn image(&self) -> Arc<ClusterImage> {
        self.image
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Founds the cluster, or checks that it is this one.
    pub async fn found(&self, cluster_id: Uuid) -> Result<Uuid, Refusal> {
        match self.ask(Request::Found { cluster_id }).await? {
            Reply::Found(id) => Ok(id),
            other => mismatched(&other),
        }
    }

    pub async fn register_broker(&self, request: RegisterBroker) -> Result<BrokerEpoch, Refusal> {
        match self.ask(Request::RegisterBroker(request)).await? {
            Reply::RegisterBroker(epoch) => Ok(epoch),
            other => mismatched(&other),
        }
    }

    pub async fn create_topics(
        &self,
        request: CreateTopics,
    ) -> Result<Vec<(String, Result<CreatedTopic, Refusal>)>, Refusal> {
        match self.ask(Request::CreateTopics(request)).await? {
            Reply::CreateTopics(results) => Ok(results),
            other => mismatched(&other),
        }
    }

    pub async fn delete_topics(
        &self,
        request: DeleteTopics,
    ) -> Result<Vec<(TopicSelector, Result<DeletedTopic, Refusal>)>, Refusal> {
        match self.ask(Request::DeleteTopics(request)).await? {
            Reply::DeleteTopics(results) => Ok(results),
            other => mismatched(&other),
        }
    }

    pub async fn create_partitions(
        &self,
        request: CreatePartitions,
    ) -> Result<Vec<(String, Result<(), Refusal>)>, Refusal> {
        match self.ask(Request::CreatePartitions(request)).await? {
            Reply::CreatePartitions(results) => Ok(results),
            other => mismatched(&other),
        }
    }

    pub async fn incremental_alter_configs(
        &self,
        request: IncrementalAlterConfigs,
    ) -> Result<Vec<(ConfigResource, Result<(), Refusal>)>, Refusal> {
        match self.ask(Request::IncrementalAlterConfigs(request)).await? {
            Reply::AlterConfigs(results) => Ok(results),
            other => mismatched(&other),
        }
    }

    pub async fn alter_configs(
        &self,
        request: AlterConfigs,
    ) -> Result<Vec<(ConfigResource, Result<(), Refusal>)>, Refusal> {
        match self.ask(Request::AlterConfigs(request)).await? {
            Reply::AlterConfigs(results) => Ok(results),
            other => mismatched(&other),
        }
    }

    /// A producer id nobody had before or will have again, whatever crashes.
    pub async fn next_producer_id(&self) -> Result<ProducerId, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::ProducerId(answer)).await?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    async fn ask(&self, request: Request) -> Result<Reply, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Request(request, answer)).await?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    async fn send(&self, command: Command) -> Result<(), Refusal> {
        self.commands.send(command).await.map_err(|_| stopped())
    }
}

/// The answer when the task is gone: what was asked may have happened.
fn stopped() -> Refusal {
    Refusal::new(
        ErrorCode::RequestTimedOut,
        "the controller stopped before it could answer",
    )
}

fn mismatched<T>(reply: &Reply) -> Result<T, Refusal> {
    tracing::error!(?reply, "the controller answered another question");
    let text = "the controller answered another question";
    Err(Refusal::new(ErrorCode::UnknownServerError, text))
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
    /// Serves until every handle is dropped, or the metadata can no longer be trusted.
    pub async fn run(mut self) -> Result<(), ControllerError> {
        let whole = ImageDelta::between(&ClusterImage::default(), self.ledger.image());
        self.announce(whole).await;
        loop {
            let command = tokio::select! {
                biased;
                committed = self.quorum.next_committed() => {
                    self.apply(committed.map_err(ControllerError::Quorum)?).await?;
                    continue;
                }
                command = self.commands.recv() => command,
            };
            match command {
                None => return Ok(()),
                Some(Command::Request(request, answer)) => {
                    let reply = self.serve(&request).await?;
                    // Whoever asked may have gone.
                    answer.send(reply).ok();
                }
                Some(Command::ProducerId(answer)) => {
                    let id = self.producer_id().await?;
                    answer.send(id).ok();
                }
            }
        }
    }

    async fn serve(
        &mut self,
        request: &Request,
    ) -> Result<Result<Reply, Refusal>, ControllerError> {
        let (records, reply) = match self.ledger.handle(&mut self.entropy, request) {
            Ok(outcome) => outcome,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if records.is_empty() {
            return Ok(Ok(reply));
        }
        let committed = self.commit(records).await?;
        Ok(committed.map(|()| reply))
    }

    /// Commits `records` and replays everything up to them.
    async fn commit(
        &mut self,
        records: Vec<MetadataRecord>,
    ) -> Result<Result<(), Refusal>, ControllerError> {
        let mut proposed = self.quorum.propose(records);
        let end = loop {
            tokio::select! {
                biased;
                committed = self.quorum.next_committed() => {
                    self.apply(committed.map_err(ControllerError::Quorum)?).await?;
                }
                outcome = &mut proposed => match outcome {
                    Ok(end) => break end,
                    Err(error) => return Ok(Err(error.into())),
                },
            }
        };
        while self.ledger.image().end() < end {
            let committed = self.next_committed().await?;
            self.apply(committed).await?;
        }
        Ok(Ok(()))
    }

    async fn next_committed(&mut self) -> Result<Committed, ControllerError> {
        self.quorum
            .next_committed()
            .await
            .map_err(ControllerError::Quorum)
    }

    async fn apply(&mut self, committed: Committed) -> Result<(), ControllerError> {
        let delta = self.ledger.replay(&committed)?;
        self.publish();
        if !delta.is_empty() {
            self.announce(delta).await;
        }
        let image = self.ledger.image().clone();
        self.quorum
            .applied(&image)
            .await
            .map_err(ControllerError::Quorum)
    }

    fn publish(&self) {
        let image = Arc::new(self.ledger.image().clone());
        *self.image.write().unwrap_or_else(PoisonError::into_inner) = image;
    }

    /// Tells the subscriber and waits until it is done. Without one (it has stopped, or the node is
    /// stopping) there is nobody to wait for.
    async fn announce(&mut self, delta: ImageDelta) {
        let image = self
            .image
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (done, carried_out) = oneshot::channel();
        let update = ImageUpdate { image, delta, done };
        if self.updates.send(update).await.is_ok() {
            carried_out.await.ok();
        }
    }

    async fn producer_id(&mut self) -> Result<Result<ProducerId, Refusal>, ControllerError> {
        if self.producer_ids.is_none_or(|block| block.count == 0) {
            let request = Request::AllocateProducerIds { broker: self.node };
            match self.serve(&request).await? {
                Ok(Reply::AllocateProducerIds(block)) => self.producer_ids = Some(block),
                Ok(other) => return Ok(mismatched(&other)),
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        let Some(block) = &mut self.producer_ids else {
            return Ok(Err(stopped()));
        };
        let id = block.start;
        block.start = ProducerId(id.0 + 1);
        block.count -= 1;
        Ok(Ok(id))
    }
}
