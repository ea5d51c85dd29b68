//! Standing for election before the timeouts, once the leader is proven dead.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::raft::TransferLeaderRequest;

use super::types::{Raft, Vote};
use crate::env::Env;
use crate::types::BrokerId;

/// How much later each voter stands than the one before it: time for its election.
const STAGGER: Duration = Duration::from_millis(40);
/// How often a voter stands; the usual timeouts follow.
const ATTEMPTS: u32 = 5;
/// Between a voter's attempts: at least this, and as much again by chance.
const RETRY: Duration = Duration::from_millis(80);

/// The vote under which `suspect` leads, and the voters besides it.
fn reign(raft: &Raft, suspect: BrokerId) -> Option<(Vote, Vec<BrokerId>)> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let voters = metrics.membership_config.voter_ids();
    (metrics.current_leader == Some(suspect) && suspect != metrics.id)
        .then(|| (metrics.vote, voters.filter(|id| *id != suspect).collect()))
}

/// Stands for election if `suspect` leads, until somebody else does. To be run within `env`.
///
/// The vote of `suspect` is no longer defended against candidates; and the voters stand one after
/// another, as if it had handed over to each. If it lives after all, that is an election like any.
pub(super) async fn stand(env: Arc<Env>, raft: Raft, suspect: BrokerId) {
    let Some((vote, voters)) = reign(&raft, suspect) else {
        return;
    };
    let me = *raft.node_id();
    let Some(position) = voters.iter().position(|voter| *voter == me) else {
        return;
    };
    tracing::trace!(target: "klamm::probe", name = "raft-leader-suspected");
    if position > 0 {
        let yields = TransferLeaderRequest::new(vote, voters[0], None);
        if raft.handle_transfer_leader(yields).await.is_err() {
            return;
        }
        env.sleep(STAGGER * u32::try_from(position).unwrap_or(u32::MAX))
            .await;
    }
    if reign(&raft, suspect).is_none_or(|(current, _)| current != vote) {
        return;
    }
    let stands = TransferLeaderRequest::new(vote, me, None);
    if raft.handle_transfer_leader(stands).await.is_err() {
        return;
    }
    let mut random = env.entropy.stream("raft-suspicion");
    let retry = u64::try_from(RETRY.as_millis()).unwrap_or(u64::MAX);
    for _ in 1..ATTEMPTS {
        env.sleep(RETRY + Duration::from_millis(random.below(retry)))
            .await;
        let is_undecided = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.current_leader.is_none() && metrics.vote.leader_id.voted_for == me
        };
        if !is_undecided || raft.trigger().elect(false).await.is_err() {
            return;
        }
    }
}
