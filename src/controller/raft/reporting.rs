//! Tells the controller who leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openraft::async_runtime::WatchReceiver as _;
use openraft::{Instant as _, RaftMetrics};

use super::leadership::{Leadership, View};
use super::outbox::Outbox;
use super::types::{Raft, TypeConfig};
use crate::env::Env;

fn view(metrics: &RaftMetrics<TypeConfig>) -> View {
    let mut voters = metrics.membership_config.voter_ids();
    let is_only_voter = voters.next() == Some(metrics.id) && voters.next().is_none();
    let majority_heard = metrics
        .last_quorum_acked
        .as_ref()
        .map(|acked| acked.elapsed());
    View {
        leader: metrics.current_leader,
        term: metrics.current_term,
        applied: metrics.last_applied,
        committed: metrics.cluster_committed,
        majority_heard: majority_heard.filter(|_| metrics.current_leader == Some(metrics.id)),
        is_only_voter,
    }
}

/// Tells the outbox who leads, until the consensus has stopped. To be run within `env`.
pub(super) async fn watch(
    env: Arc<Env>,
    raft: Raft,
    outbox: Arc<Outbox>,
    mut leadership: Leadership,
    mute: Arc<AtomicBool>,
) {
    let mut metrics = raft.metrics();
    loop {
        let view = {
            let metrics = metrics.borrow_and_update();
            if let Err(fatal) = &metrics.running_state {
                outbox.fail(format!("the quorum stopped: {fatal}"));
                return;
            }
            view(&metrics)
        };
        let leader = leadership.leader(&view);
        outbox.lead(leader, view.term);
        mute.store(leadership.is_mute(&view), Ordering::Relaxed);
        let changed = match leadership.look_again(&view) {
            Some(wait) => env.timeout(wait, metrics.changed()).await.unwrap_or(Ok(())),
            None => metrics.changed().await,
        };
        if changed.is_err() {
            outbox.fail("the quorum stopped".to_owned());
            return;
        }
    }
}
