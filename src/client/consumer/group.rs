//! Membership of a group by the classic protocol: join, share out, sync, heartbeat, leave.
//!
//! A member holds its partitions from a successful sync until it gives them up to rejoin, or
//! learns that it was put out of the group (then they count as lost: somebody else may have them
//! already). Offsets are committed in the name of the generation, so that one who was put out
//! cannot overwrite its successor's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::assignor::{self, Assignment, Counts, Member};
use super::protocol::{self, Subscription};
use crate::client::admin::group_offsets::{Committer, commit_offsets};
use crate::client::admin::{CommittedOffset, Each};
use crate::client::cluster::{Cluster, Lane, Topics};
use crate::client::config::Strategy;
use crate::client::error::{ApiError, ClientError};
use crate::client::metadata::ClusterView;
use crate::types::{ErrorCode, Instant, TopicPartition};
use crate::wire::Str;
use crate::wire::message::heartbeat::HeartbeatRequest;
use crate::wire::message::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use crate::wire::message::leave_group::{LeaveGroupRequest, MemberIdentity};
use crate::wire::message::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};

/// Time beyond the rebalance time-out that a join may take.
const JOIN_SLACK: Duration = Duration::from_secs(5);

/// Longest time spent on committing what is given up before a rejoin.
const COMMIT_BEFORE_JOIN: Duration = Duration::from_secs(5);

/// What a member brings to a join.
#[derive(Clone, Debug)]
pub(super) struct Joining {
    pub group: String,
    /// Empty for a new member.
    pub member_id: String,
    pub subscription: Subscription,
    /// Offsets to commit first, and in whose name.
    pub commit_first: Option<(Committer, BTreeMap<TopicPartition, CommittedOffset>)>,
}

/// What a member has after a join.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    pub member_id: String,
    pub generation: i32,
    pub assignment: Vec<TopicPartition>,
    /// For the leader: what the assignment was computed from, to notice when it changes.
    pub counts: Option<Counts>,
}

/// A join that did not work.
#[derive(Debug)]
pub(super) struct JoinFailed {
    /// The id to try again with; empty to begin anew.
    pub member_id: String,
    pub error: ClientError,
}

/// Whether all strategies let members keep partitions through a rebalance.
pub(super) fn is_cooperative(strategies: &[Strategy]) -> bool {
    strategies
        .iter()
        .all(|strategy| *strategy == Strategy::CooperativeSticky)
}

/// Whether a failed join may be tried again.
pub(super) fn may_rejoin(error: &ClientError) -> bool {
    let code = error.code();
    error.is_retriable()
        || matches!(
            code,
            Some(
                ErrorCode::RebalanceInProgress
                    | ErrorCode::UnknownMemberId
                    | ErrorCode::IllegalGeneration
            )
        )
}

/// Joins and syncs once.
pub(super) async fn join(cluster: &Cluster, joining: &Joining) -> Result<Joined, JoinFailed> {
    if let Some((committer, offsets)) = &joining.commit_first {
        let commit = commit(cluster, committer, offsets);
        match cluster.env().timeout(COMMIT_BEFORE_JOIN, commit).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "offsets were not committed before the rebalance");
            }
            Err(_) => tracing::warn!("offsets were not committed before the rebalance in time"),
        }
    }
    let mut member_id = joining.member_id.clone();
    match join_and_sync(cluster, joining, &mut member_id).await {
        Ok(joined) => Ok(joined),
        Err(error) => {
            match error.code() {
                Some(ErrorCode::UnknownMemberId) => member_id.clear(),
                Some(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration) => {}
                _ => cluster.forget_coordinator(&joining.group),
            }
            Err(JoinFailed { member_id, error })
        }
    }
}

async fn join_and_sync(
    cluster: &Cluster,
    joining: &Joining,
    member_id: &mut String,
) -> Result<Joined, ClientError> {
    let answer = join_group(cluster, joining, member_id).await?;
    let is_leader = answer.leader == *member_id.as_str();
    let (assignments, counts) = match is_leader && !answer.skip_assignment {
        true => share_out(cluster, &answer).await?,
        false => (Assignment::new(), None),
    };
    let assignments = assignments.iter().map(|(id, partitions)| {
        let assignment = protocol::write_assignment(partitions);
        SyncGroupRequestAssignment {
            member_id: Str::from(id.as_str()),
            assignment,
            ..Default::default()
        }
    });
    let request = SyncGroupRequest {
        group_id: Str::from(joining.group.as_str()),
        generation_id: answer.generation_id,
        member_id: Str::from(member_id.as_str()),
        group_instance_id: cluster.config().group_instance_id.as_deref().map(Str::from),
        protocol_type: Some(Str::from_static(protocol::PROTOCOL_TYPE)),
        protocol_name: answer.protocol_name.clone(),
        assignments: assignments.collect(),
        ..Default::default()
    };
    let coordinator = cluster.coordinator(&joining.group).await?;
    let connection = cluster.connection(coordinator, Lane::Group).await?;
    let synced = connection.call(request, join_time(cluster)).await?;
    ApiError::check(synced.error_code, None)
        .map_err(|error| ClientError::refused("taking over the group's assignment", error))?;
    let assignment =
        protocol::read_assignment(&synced.assignment).map_err(|error| ClientError::Protocol {
            address: connection.address().to_owned(),
            reason: format!("the group's assignment: {error}"),
        })?;
    Ok(Joined {
        member_id: member_id.clone(),
        generation: answer.generation_id,
        assignment,
        counts,
    })
}

fn join_time(cluster: &Cluster) -> Duration {
    let config = cluster.config();
    config.max_poll_interval.max(config.request_timeout) + JOIN_SLACK
}

async fn join_group(
    cluster: &Cluster,
    joining: &Joining,
    member_id: &mut String,
) -> Result<JoinGroupResponse, ClientError> {
    let config = cluster.config();
    let metadata = protocol::write_subscription(&joining.subscription);
    let strategies = config.partition_assignment_strategy.iter();
    let protocols = strategies.map(|strategy| JoinGroupRequestProtocol {
        name: Str::from_static(strategy.name()),
        metadata: metadata.clone(),
        ..Default::default()
    });
    let millis = |span: Duration| i32::try_from(span.as_millis()).unwrap_or(i32::MAX);
    let mut request = JoinGroupRequest {
        group_id: Str::from(joining.group.as_str()),
        session_timeout_ms: millis(config.session_timeout),
        rebalance_timeout_ms: millis(config.max_poll_interval),
        member_id: Str::from(member_id.as_str()),
        group_instance_id: config.group_instance_id.as_deref().map(Str::from),
        protocol_type: Str::from_static(protocol::PROTOCOL_TYPE),
        protocols: protocols.collect(),
        ..Default::default()
    };
    let coordinator = cluster.coordinator(&joining.group).await?;
    let connection = cluster.connection(coordinator, Lane::Group).await?;
    let mut answer = connection.call(request.clone(), join_time(cluster)).await?;
    if answer.error_code == ErrorCode::MemberIdRequired.code() {
        // The first of two steps: the id is ours, now join with it.
        request.member_id = answer.member_id.clone();
        *member_id = answer.member_id.to_string();
        answer = connection.call(request, join_time(cluster)).await?;
    }
    let what = || format!("joining group '{}'", joining.group);
    ApiError::check(answer.error_code, None)
        .map_err(|error| ClientError::refused(what(), error))?;
    *member_id = answer.member_id.to_string();
    Ok(answer)
}

/// The leader's work.
async fn share_out(
    cluster: &Cluster,
    answer: &JoinGroupResponse,
) -> Result<(Assignment, Option<Counts>), ClientError> {
    let mut members = Vec::new();
    let mut topics: BTreeSet<Arc<str>> = BTreeSet::new();
    for member in &answer.members {
        let subscription = protocol::read_subscription(&member.metadata).unwrap_or_else(|error| {
            tracing::warn!(member = %member.member_id, %error, "a subscription cannot be read");
            Subscription::default()
        });
        topics.extend(subscription.topics.iter().cloned());
        members.push(Member {
            member_id: member.member_id.to_string(),
            instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
            subscription,
        });
    }
    let view = cluster
        .refresh(&Topics::Named(topics.iter().cloned().collect()))
        .await?;
    let counts = counts(&view, &topics);
    let chosen = answer.protocol_name.as_ref().map_or("", Str::as_str);
    let strategies = cluster.config().partition_assignment_strategy.iter();
    let mut strategies = strategies.filter(|strategy| strategy.name() == chosen);
    let strategy = strategies.next().copied().ok_or_else(|| {
        let error = ApiError::from(ErrorCode::InconsistentGroupProtocol);
        ClientError::refused(format!("sharing out by '{chosen}'"), error)
    })?;
    let assignment = assignor::assign(strategy, &members, &counts);
    Ok((assignment, Some(counts)))
}

/// Partitions of those of `topics` that exist.
pub(super) fn counts(view: &ClusterView, topics: &BTreeSet<Arc<str>>) -> Counts {
    let known = topics.iter().filter_map(|name| view.topics.get(name));
    known
        .map(|topic| {
            let last = topic.partitions.keys().max();
            (Arc::clone(&topic.name), last.map_or(0, |last| last + 1))
        })
        .collect()
}

/// Commits offsets, following the coordinator where it moves.
pub(super) async fn commit(
    cluster: &Cluster,
    committer: &Committer,
    offsets: &BTreeMap<TopicPartition, CommittedOffset>,
) -> Result<Each<TopicPartition, ()>, ClientError> {
    let attempt = || async {
        let coordinator = cluster.coordinator(&committer.group).await?;
        let done = commit_offsets(cluster, coordinator, committer, offsets).await;
        if done.is_err() {
            cluster.forget_coordinator(&committer.group);
        }
        done
    };
    cluster.retry("committing offsets", attempt).await
}

/// Leaves the group; static members stay until their session ends.
pub(super) async fn leave(cluster: &Cluster, group: &str, member_id: &str) {
    if cluster.config().group_instance_id.is_some() || member_id.is_empty() {
        return;
    }
    let request = LeaveGroupRequest {
        group_id: Str::from(group),
        member_id: Str::from(member_id),
        members: vec![MemberIdentity {
            member_id: Str::from(member_id),
            reason: Some(Str::from_static("the consumer is being closed")),
            ..Default::default()
        }],
        ..Default::default()
    };
    let left = async {
        let coordinator = cluster.coordinator(group).await?;
        let answer = cluster.call(coordinator, request).await?;
        ApiError::check(answer.error_code, None)
            .map_err(|error| ClientError::refused("leaving the group", error))
    };
    if let Err(error) = left.await {
        tracing::debug!(%error, group, "the group was not told of leaving");
    }
}

/// What heartbeats have learnt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// The group rebalances: join again.
    Rebalance,
    /// This member is out; its partitions may be somebody else's.
    Lost(ErrorCode),
    /// No poll for `max.poll.interval.ms`: this member left.
    PollTooSlow,
}

/// Shared by the heartbeat task and the consumer.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    state: Mutex<PulseState>,
    pub changed: Notify,
}

#[derive(Debug, Default)]
struct PulseState {
    fault: Option<Fault>,
    last_poll: Instant,
}

impl Pulse {
    fn lock(&self) -> MutexGuard<'_, PulseState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn polled(&self, now: Instant) {
        self.lock().last_poll = now;
    }

    pub(super) fn take_fault(&self) -> Option<Fault> {
        self.lock().fault.take()
    }

    fn set_fault(&self, fault: Fault) {
        self.lock().fault = Some(fault);
        self.changed.notify_one();
    }
}

/// Sends heartbeats for one generation until the member is out or the task is dropped.
pub(super) async fn heartbeats(
    cluster: Cluster,
    group: String,
    member_id: String,
    generation: i32,
    pulse: Arc<Pulse>,
) {
    let config = cluster.config().clone();
    let request = HeartbeatRequest {
        group_id: Str::from(group.as_str()),
        generation_id: generation,
        member_id: Str::from(member_id.as_str()),
        group_instance_id: config.group_instance_id.as_deref().map(Str::from),
        ..Default::default()
    };
    let mut pause = config.heartbeat_interval;
    loop {
        cluster.env().sleep(pause).await;
        let last_poll = pulse.lock().last_poll;
        if cluster.env().now().since(last_poll) > config.max_poll_interval {
            leave(&cluster, &group, &member_id).await;
            pulse.set_fault(Fault::PollTooSlow);
            return;
        }
        pause = config.heartbeat_interval;
        match beat(&cluster, &group, &request).await {
            Ok(()) => {}
            Err(error) => match error.code() {
                Some(ErrorCode::RebalanceInProgress) => pulse.set_fault(Fault::Rebalance),
                Some(
                    code @ (ErrorCode::UnknownMemberId
                    | ErrorCode::IllegalGeneration
                    | ErrorCode::FencedInstanceId
                    | ErrorCode::GroupAuthorizationFailed),
                ) => {
                    pulse.set_fault(Fault::Lost(code));
                    return;
                }
                _ => {
                    tracing::debug!(%error, group, "a heartbeat did not arrive");
                    cluster.forget_coordinator(&group);
                    pause = config.retry_backoff;
                }
            },
        }
    }
}

async fn beat(
    cluster: &Cluster,
    group: &str,
    request: &HeartbeatRequest,
) -> Result<(), ClientError> {
    let coordinator = cluster.coordinator(group).await?;
    let connection = cluster.connection(coordinator, Lane::Group).await?;
    let config = cluster.config();
    let within = config.request_timeout.min(config.session_timeout);
    let answer = connection.call(request.clone(), within).await?;
    ApiError::check(answer.error_code, None)
        .map_err(|error| ClientError::refused("heartbeat", error))
}
