//! The handle on the controller: asks this node's task while it is the active one, else the node
//! that is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use super::asking::Asking;
use super::forward::{self, Answered, Forward, Until};
use super::image::ClusterImage;
use super::peers::PeerError;
use super::request::{ProducerIdBlock, Refusal, Reply, Request};
use crate::env::{Env, Rng};
use crate::types::{BrokerId, ErrorCode, Instant, Offset, ProducerId};

/// Time a request has unless [`Controller::within`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Time one attempt of a request has that may be repeated: of a broker's own traffic, and of what
/// a client asks for, which may be much. A controller that dies or steps down is noticed sooner.
const ATTEMPT: Duration = Duration::from_secs(1);
const LONG_ATTEMPT: Duration = Duration::from_secs(3);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// A request for the task; dropped, if the one who asked has gone.
pub(super) struct Command {
    pub request: Request,
    pub answer: oneshot::Sender<Answered>,
}

/// What the task lets its handles see.
#[derive(Default)]
pub(super) struct Shared {
    seen: Mutex<Seen>,
    changed: Notify,
}

#[derive(Clone, Default)]
struct Seen {
    image: Arc<ClusterImage>,
    carried_out: Offset,
    leader: Option<BrokerId>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn publish(&self, image: Arc<ClusterImage>) {
        self.seen().image = image;
        self.changed.notify_waiters();
    }

    /// Everything below `end` was carried out by the subscriber.
    pub(super) fn carried_out(&self, end: Offset) {
        self.seen().carried_out = end;
        self.changed.notify_waiters();
    }

    pub(super) fn lead(&self, leader: Option<BrokerId>) {
        self.seen().leader = leader;
        self.changed.notify_waiters();
    }

    async fn until(&self, is_reached: impl Fn(&Seen) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Counts from here on, so that no change falls between the look and the wait.
            changed.as_mut().enable();
            if is_reached(&self.seen()) {
                return;
            }
            changed.await;
        }
    }
}

/// Ways of a node of a cluster to the others.
#[derive(Clone)]
pub(super) struct Far {
    pub env: Env,
    pub forward: Arc<dyn Forward>,
    /// For what a request needs to be asked again.
    pub entropy: Arc<Mutex<Rng>>,
}

impl Far {
    fn entropy(&self) -> MutexGuard<'_, Rng> {
        self.entropy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handle on the controller. An `Err` of a method is about the whole request.
///
/// What a request changed is in [`Controller::image`] of the same node once it was answered.
#[derive(Clone)]
pub struct Controller {
    node: BrokerId,
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    far: Option<Far>,
    timeout: Duration,
    producer_ids: Arc<Mutex<Option<ProducerIdBlock>>>,
    /// Held by the one who asks for the next block.
    block_wanted: Arc<Semaphore>,
}

enum Attempt {
    Done(Answered),
    /// Nothing was changed, or the change may be asked for again.
    Again(Refusal),
}

impl Controller {
    pub(super) fn new(
        node: BrokerId,
        commands: mpsc::Sender<Command>,
        shared: Arc<Shared>,
        far: Option<Far>,
    ) -> Self {
        Self {
            node,
            commands,
            shared,
            far,
            timeout: TIMEOUT,
            producer_ids: Arc::default(),
            block_wanted: Arc::new(Semaphore::new(1)),
        }
    }

    /// The newest image of this node.
    #[must_use]
    pub fn image(&self) -> Arc<ClusterImage> {
        self.shared.seen().image.clone()
    }

    /// This node has carried out everything below.
    #[must_use]
    pub fn carried_out(&self) -> Offset {
        self.shared.seen().carried_out
    }

    /// The node whose controller is active, as far as this one knows.
    #[must_use]
    pub fn leader(&self) -> Option<BrokerId> {
        self.shared.seen().leader
    }

    /// Whether this node's controller is the active one, as far as it knows.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.leader() == Some(self.node)
    }

    /// The same handle for requests that are given up after `timeout`, in a cluster.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self {
            timeout,
            ..self.clone()
        }
    }

    /// Completes once the image of this node has reached `end`.
    pub async fn until_seen(&self, end: Offset) {
        self.shared.until(|seen| seen.image.end() >= end).await;
    }

    /// Completes once this node has an image that `is_wanted`.
    pub async fn until_image(&self, is_wanted: impl Fn(&ClusterImage) -> bool) {
        self.shared.until(|seen| is_wanted(&seen.image)).await;
    }

    /// Completes once this node has carried out everything below `end`.
    pub async fn until_carried_out(&self, end: Offset) {
        self.until(Until::CarriedOut, end).await;
    }

    /// Completes once somebody leads, as far as this node knows.
    pub async fn until_led(&self) {
        self.shared.until(|seen| seen.leader.is_some()).await;
    }

    /// Asks the active controller, wherever it is, and waits until this node has what it changed.
    /// Kafka's REQUEST_TIMED_OUT says that the request may have been carried out.
    pub async fn ask(&self, request: Request) -> Result<Reply, Refusal> {
        let until = forward::waits_until(&request);
        let Some(far) = &self.far else {
            let (reply, end) = self.ask_here(request).await?;
            self.until(until, end).await;
            return Ok(reply);
        };
        let deadline = far.env.now().plus(self.timeout);
        let mut asking = Asking::new(request, &self.image(), &mut far.entropy());
        let (reply, end) = self.ask_until(far, &mut asking, deadline).await?;
        let left = deadline.since(far.env.now());
        match far.env.timeout(left, self.until(until, end)).await {
            Ok(()) => Ok(asking.settle(reply, &self.image())),
            Err(_) => Err(Refusal::new(
                ErrorCode::RequestTimedOut,
                format!(
                    "the change was made and has not arrived at node {}",
                    self.node
                ),
            )),
        }
    }

    /// Answers what another node forwarded: a question's bytes in, an answer's bytes out.
    pub async fn answer_forwarded(&self, question: Bytes) -> Bytes {
        let answered = match forward::read_question(&question) {
            Ok(request) => match &self.far {
                Some(far) => match far.env.timeout(TIMEOUT, self.ask_here(request)).await {
                    Ok(answered) => answered,
                    Err(_) => Err(timed_out()),
                },
                None => self.ask_here(request).await,
            },
            Err(refusal) => Err(refusal),
        };
        forward::answer(&answered)
    }

    async fn ask_until(&self, far: &Far, asking: &mut Asking, deadline: Instant) -> Answered {
        loop {
            let refusal = match self.attempt(far, asking, deadline).await {
                Attempt::Done(answered) => return answered,
                Attempt::Again(refusal) => refusal,
            };
            if refusal.code == ErrorCode::RequestTimedOut {
                tracing::trace!(target: "klamm::probe", name = "controller-asked-again");
                asking.lost(&mut far.entropy());
            }
            if far.env.now().plus(PAUSE) >= deadline {
                return Err(refusal);
            }
            far.env.sleep(PAUSE).await;
        }
    }

    async fn attempt(&self, far: &Far, asking: &Asking, deadline: Instant) -> Attempt {
        let request = asking.request();
        let may_repeat = asking.may_repeat();
        let mut left = deadline.since(far.env.now());
        if may_repeat {
            left = left.min(match forward::waits_until(request) {
                Until::CarriedOut => LONG_ATTEMPT,
                Until::Answered | Until::Seen => ATTEMPT,
            });
        }
        let again = |refusal: Refusal| match refusal.code {
            ErrorCode::NotController => Attempt::Again(refusal),
            ErrorCode::RequestTimedOut if may_repeat => Attempt::Again(refusal),
            _ => Attempt::Done(Err(refusal)),
        };
        let answered = match self.leader() {
            None => Err(Refusal::new(
                ErrorCode::NotController,
                "no controller leads at the moment",
            )),
            Some(leader) if leader == self.node => {
                match far.env.timeout(left, self.ask_here(request.clone())).await {
                    Ok(answered) => answered,
                    Err(_) => Err(timed_out()),
                }
            }
            Some(leader) => {
                let question = match forward::question(request) {
                    Ok(question) => question,
                    Err(refusal) => return Attempt::Done(Err(refusal)),
                };
                match far.forward.forward(leader, question, left).await {
                    Ok(bytes) => forward::read_answer(&bytes),
                    Err(error @ (PeerError::NobodyListens(_) | PeerError::Refused(_))) => {
                        Err(Refusal::new(ErrorCode::NotController, error.to_string()))
                    }
                    Err(PeerError::Lost(text)) => {
                        Err(Refusal::new(ErrorCode::RequestTimedOut, text))
                    }
                }
            }
        };
        match answered {
            Ok(answered) => Attempt::Done(Ok(answered)),
            Err(refusal) => again(refusal),
        }
    }

    async fn ask_here(&self, request: Request) -> Answered {
        let (answer, answered) = oneshot::channel();
        let command = Command { request, answer };
        let sent = self.commands.send(command).await;
        sent.map_err(|_| match &self.far {
            // Nothing was asked of it; another will lead.
            Some(_) => Refusal::new(ErrorCode::NotController, "the controller here has stopped"),
            None => stopped(),
        })?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    async fn until(&self, until: Until, end: Offset) {
        let reached = self.shared.until(|seen| match until {
            Until::Answered => true,
            Until::Seen => seen.image.end() >= end,
            Until::CarriedOut => seen.carried_out >= end,
        });
        let mut reached = std::pin::pin!(reached);
        tokio::select! {
            biased;
            () = &mut reached => {}
            // The task is gone, and with it the one who would carry anything out.
            () = self.commands.closed() => {}
        }
    }

    /// A producer id nobody had before or will have again, whatever crashes.
    pub async fn next_producer_id(&self) -> Result<ProducerId, Refusal> {
        loop {
            if let Some(id) = self.take_producer_id() {
                return Ok(id);
            }
            let Ok(_turn) = self.block_wanted.acquire().await else {
                return Err(stopped());
            };
            // Another may have fetched a block while this one waited for its turn.
            if let Some(id) = self.take_producer_id() {
                return Ok(id);
            }
            let request = Request::AllocateProducerIds { broker: self.node };
            match self.ask(request).await? {
                Reply::AllocateProducerIds(block) => *self.block() = Some(block),
                other => return super::calls::mismatched(&other),
            }
        }
    }

    fn block(&self) -> MutexGuard<'_, Option<ProducerIdBlock>> {
        self.producer_ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn take_producer_id(&self) -> Option<ProducerId> {
        let mut block = self.block();
        let block = block.as_mut().filter(|block| block.count > 0)?;
        let id = block.start;
        block.start = ProducerId(id.0 + 1);
        block.count -= 1;
        Some(id)
    }
}

/// The answer when the task is gone: what was asked may have happened.
fn stopped() -> Refusal {
    Refusal::new(
        ErrorCode::RequestTimedOut,
        "the controller stopped before it could answer",
    )
}

fn timed_out() -> Refusal {
    Refusal::new(
        ErrorCode::RequestTimedOut,
        "the controller did not answer in time",
    )
}
