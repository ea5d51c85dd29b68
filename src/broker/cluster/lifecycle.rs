//! A broker's standing in its cluster: registered, kept alive by heartbeats, and taken out in order
//! when it stops.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::lease::Lease;
use crate::config::BrokerConfig;
use crate::controller::{BrokerHeartbeat, Controller, HeartbeatReply, Refusal, RegisterBroker};
use crate::env::Env;
use crate::types::{BrokerEpoch, ErrorCode, Instant, Offset, Uuid};

/// Between heartbeats while something is waited for: to be unfenced, or to be let go.
const HURRY: Duration = Duration::from_millis(50);

/// Longest that a stopping broker waits until others lead what it led.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);

/// Between two attempts to register.
const PAUSE: Duration = Duration::from_millis(100);

/// What is known of this broker's registration.
#[derive(Default)]
pub struct Standing {
    state: Mutex<State>,
    changed: Notify,
    /// Wakes the one who sends heartbeats.
    hurried: Notify,
    wants_stop: AtomicBool,
    /// Metadata below was carried out by this node.
    carried_out: AtomicI64,
}

#[derive(Clone, Copy, Default)]
struct State {
    epoch: BrokerEpoch,
    is_unfenced: bool,
    may_stop: bool,
    lease: Lease,
}

impl Standing {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_waiters();
    }

    /// The epoch of this broker's registration.
    #[must_use]
    pub fn epoch(&self) -> BrokerEpoch {
        self.state().epoch
    }

    /// Whether the controller lets this broker lead and be told to clients.
    #[must_use]
    pub fn is_unfenced(&self) -> bool {
        self.state().is_unfenced
    }

    pub fn registered(&self, epoch: BrokerEpoch) {
        self.set(|state| {
            *state = State {
                epoch,
                ..State::default()
            }
        });
    }

    /// Says that this node has carried out the metadata below `end`.
    pub fn carried_out(&self, end: Offset) {
        self.carried_out.fetch_max(end.0, Ordering::AcqRel);
        if !self.is_unfenced() {
            self.hurried.notify_one();
        }
    }

    /// A heartbeat sent at `sent` was answered. All below `carried_out` is carried out.
    fn heard(&self, sent: Instant, reply: HeartbeatReply, carried_out: Offset) {
        self.set(|state| {
            state.is_unfenced = !reply.is_fenced;
            state.may_stop |= reply.should_shut_down;
            match reply.is_fenced {
                true => state.lease = Lease::default(),
                false => state.lease.answered(sent, reply.metadata_end, carried_out),
            }
        });
    }

    /// Whether nobody was put in this broker's place for its silence. See [`Lease`].
    pub fn is_in_touch(
        &self,
        now: Instant,
        carried_out: Offset,
        session_timeout: Duration,
    ) -> bool {
        self.state().lease.holds(now, carried_out, session_timeout)
    }

    async fn until(&self, is_reached: impl Fn(State) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if is_reached(*self.state()) {
                return;
            }
            changed.await;
        }
    }

    /// Completes once the controller lets this broker lead.
    pub async fn unfenced(&self) {
        self.until(|state| state.is_unfenced).await;
    }

    /// Asks to be let go, and waits until others lead what this broker led, within a bound.
    pub async fn hand_over(&self, env: &Env) {
        self.wants_stop.store(true, Ordering::Release);
        self.hurried.notify_one();
        let let_go = self.until(|state| state.may_stop);
        match env.timeout(HAND_OVER_MAX, let_go).await {
            Ok(()) => tracing::info!("others lead what this broker led"),
            Err(_) => tracing::warn!(
                "stopping although others do not lead all that this broker led: no controller \
                 took it over within {HAND_OVER_MAX:?}"
            ),
        }
    }
}

/// A broker's way of keeping itself registered.
pub struct Registrar {
    pub env: Env,
    pub controller: Controller,
    pub cluster_id: Uuid,
    pub request: RegisterBroker,
    /// Whether this node goes on trying for ever, because the quorum needs it.
    pub is_controller: bool,
    pub timeout: Duration,
    pub heartbeat_interval: Duration,
    pub session_timeout: Duration,
}

impl Registrar {
    pub fn new(
        env: &Env,
        config: &BrokerConfig,
        controller: &Controller,
        cluster_id: Uuid,
        request: RegisterBroker,
    ) -> Self {
        Self {
            env: env.clone(),
            controller: controller.clone(),
            cluster_id,
            request,
            is_controller: config.quorum.is_controller,
            timeout: config.replication.registration_timeout,
            heartbeat_interval: config.replication.heartbeat_interval,
            session_timeout: config.replication.session_timeout,
        }
    }

    /// Registers, and tries again while that may help.
    pub async fn register(&self) -> Result<BrokerEpoch, Refusal> {
        let deadline = self.env.now().plus(self.timeout);
        let mut told: Option<Instant> = None;
        loop {
            let attempt = self.controller.within(Duration::from_secs(5));
            let outcome = async {
                attempt.found(self.cluster_id).await?;
                attempt.register_broker(self.request.clone()).await
            };
            let refusal = match outcome.await {
                Ok(epoch) => return Ok(epoch),
                Err(refusal) => refusal,
            };
            let may_help = refusal.code.is_retriable()
                || matches!(
                    refusal.code,
                    ErrorCode::NotController | ErrorCode::DuplicateBrokerRegistration
                );
            let now = self.env.now();
            let gives_up = now >= deadline
                && (!self.is_controller || refusal.code == ErrorCode::DuplicateBrokerRegistration);
            if !may_help || gives_up {
                return Err(refusal);
            }
            if told.is_none_or(|told| now.since(told) >= Duration::from_secs(5)) {
                told = Some(now);
                tracing::warn!(
                    reason = %refusal,
                    "not registered yet: a majority of the controllers must be up"
                );
            }
            self.env.sleep(PAUSE).await;
        }
    }

    /// Sends heartbeats until dropped; ends when this broker was replaced by another process.
    /// `told` learns every new epoch.
    pub async fn keep_alive(&self, standing: &Standing, told: &AtomicI64) -> Refusal {
        loop {
            let wants_stop = standing.wants_stop.load(Ordering::Acquire);
            // A change that undid the one before is told to nobody, and carried out all the same.
            let known = Offset(standing.carried_out.load(Ordering::Acquire));
            let heartbeat = BrokerHeartbeat {
                id: self.request.id,
                epoch: standing.epoch(),
                metadata_end: known.max(self.controller.carried_out()),
                wants_fence: false,
                wants_shut_down: wants_stop,
            };
            let controller = self.controller.within(self.session_timeout);
            let sent = self.env.now();
            match controller.heartbeat(heartbeat).await {
                Ok(reply) => standing.heard(sent, reply, self.controller.carried_out()),
                Err(refusal)
                    if matches!(
                        refusal.code,
                        ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered
                    ) =>
                {
                    if wants_stop {
                        // Nothing is led under an epoch that is over.
                        standing.set(|state| state.may_stop = true);
                    } else if let Err(refusal) = self.register_again(standing, told).await {
                        return refusal;
                    }
                }
                Err(refusal) => tracing::debug!(%refusal, "heartbeat not answered"),
            }
            let is_quiet = standing.is_unfenced() && !wants_stop;
            let pause = match is_quiet {
                true => self.heartbeat_interval,
                false => HURRY,
            };
            let woken = standing.hurried.notified();
            let _ = self.env.timeout(pause, woken).await;
        }
    }

    async fn register_again(&self, standing: &Standing, told: &AtomicI64) -> Result<(), Refusal> {
        tracing::trace!(target: "klamm::probe", name = "broker-registered-again");
        tracing::warn!("the controller does not know this broker's epoch: registering again");
        let epoch = self.register().await?;
        standing.registered(epoch);
        told.store(epoch.0, Ordering::Release);
        Ok(())
    }
}
