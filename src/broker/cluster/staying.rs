//! Sees to it that this node stays a member of its quorum, and tells when no controller is active.
//!
//! A node that follows without a vote is a member only while the quorum says so. It may be left out
//! without hearing of it: it was let in by a leader that lost its lead before others had agreed, or
//! its vote was taken while it was away. Nobody writes to it then, and it asks to be let in again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::ClusterPart;
use super::question::{self, NodeAnswer, NodeQuestion};
use crate::config::address;
use crate::controller::{Peer, RaftState};
use crate::env::Env;
use crate::types::{BrokerId, Instant, Uuid};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Time for one question.
const PATIENCE: Duration = Duration::from_secs(1);
/// Without a controller for this long there is something to tell.
const QUIET: Duration = Duration::from_secs(3);
/// Between two lines that say the same.
const TELL: Duration = Duration::from_secs(5);

/// Looks after this node's membership until dropped. `places` are the addresses that the settings
/// name.
pub(super) async fn run(env: Env, part: Arc<ClusterPart>, places: Vec<String>) {
    let mut told: Option<Instant> = None;
    loop {
        env.sleep(LOOK).await;
        let (silence, state) = (part.raft.silence(), part.raft.state());
        let is_quiet = silence >= QUIET;
        if is_member(&state, &part.me) && !is_quiet {
            if told.take().is_some() {
                tracing::info!("a controller is active again");
            }
            continue;
        }
        let answers = ask_all(&part, candidates(&part, &state, &places)).await;
        let is_due = told.is_none_or(|told| env.now().since(told) >= TELL);
        if !is_due {
            continue;
        }
        let refusal = answers.values().find_map(|answer| match answer {
            Ok(NodeAnswer::Refused(text)) => Some(text),
            _ => None,
        });
        if let Some(text) = refusal {
            told = Some(env.now());
            tracing::error!("the quorum does not let this node follow: {text}");
        } else if is_quiet {
            told = Some(env.now());
            let missing = |peer: &Peer| {
                let answer = answers.get(&address(&peer.host, peer.port))?;
                answer.as_ref().err().cloned()
            };
            tracing::warn!("{}", no_controller(&state.voters, part.me.id, missing));
        }
    }
}

/// A voter's address is what an administrator gave; that of others, what they say themselves.
fn is_member(state: &RaftState, me: &Peer) -> bool {
    let is_own = |voter: &Peer| voter.id == me.id && voter.directory_id == me.directory_id;
    state.voters.iter().any(is_own) || state.observers.contains(me)
}

/// Where a member, or whoever knows one, may be: each address with the node that must be there.
fn candidates(
    part: &ClusterPart,
    state: &RaftState,
    places: &[String],
) -> BTreeMap<String, Option<BrokerId>> {
    let unknown = places.iter().map(|place| (place.clone(), None));
    let mut candidates: BTreeMap<String, Option<BrokerId>> = unknown.collect();
    let known = state.voters.iter().chain(&state.observers).cloned();
    for peer in known.chain(part.raft.leader()) {
        candidates.insert(address(&peer.host, peer.port), Some(peer.id));
    }
    let own = address(&part.me.host, part.me.port);
    candidates.retain(|at, id| *at != own && *id != Some(part.me.id));
    candidates
}

/// Asks everyone at once to let this node follow: only a leader will, and others say who leads.
async fn ask_all(
    part: &ClusterPart,
    candidates: BTreeMap<String, Option<BrokerId>>,
) -> BTreeMap<String, Result<NodeAnswer, String>> {
    let question = question::question(&NodeQuestion::Join(part.me.clone()));
    let ask = |(at, id): (String, Option<BrokerId>)| {
        let asked = part
            .calls
            .ask_at(at.clone(), id, Uuid::ZERO, question.clone(), PATIENCE);
        async move {
            let answer = match asked.await {
                Ok(bytes) => question::read(&bytes),
                Err(error) => Err(error.to_string()),
            };
            (at, answer)
        }
    };
    join_all(candidates.into_iter().map(ask))
        .await
        .into_iter()
        .collect()
}

/// Says what is missing for a controller to be active; `missing` says why a voter is not reached.
fn no_controller(
    voters: &[Peer],
    me: BrokerId,
    missing: impl Fn(&Peer) -> Option<String>,
) -> String {
    let others = voters.iter().filter(|voter| voter.id != me);
    let unreached = others.filter_map(|voter| {
        let why = missing(voter)?;
        let at = address(&voter.host, voter.port);
        Some(format!("node {} at {at} ({why})", voter.id))
    });
    let unreached: Vec<String> = unreached.collect();
    let (majority, all) = (voters.len() / 2 + 1, voters.len());
    let told = match unreached.is_empty() {
        true => "they can be reached, and none of them leads yet".to_owned(),
        false => format!("these cannot be reached: {}", unreached.join(", ")),
    };
    format!(
        "no controller is active: a majority of the controllers ({majority} of {all}) must be up \
         and reach each other; {told}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(id: i32) -> Peer {
        Peer {
            id: BrokerId(id),
            directory_id: Uuid([1; 16]),
            host: format!("n{id}"),
            port: 9093,
        }
    }

    #[test]
    fn the_controllers_that_are_missed_are_named() {
        let voters = [voter(1), voter(2), voter(3)];
        let missing = |peer: &Peer| (peer.id != BrokerId(1)).then(|| "refused".to_owned());
        let text = no_controller(&voters, BrokerId(3), missing);
        assert!(text.contains("2 of 3"), "{text}");
        assert!(
            text.ends_with("reached: node 2 at n2:9093 (refused)"),
            "{text}"
        );
        let text = no_controller(&voters, BrokerId(3), |_| None);
        assert!(text.contains("none of them leads"), "{text}");
    }

    #[test]
    fn a_node_known_by_another_directory_is_no_member() {
        let state = RaftState {
            voters: vec![voter(1)],
            observers: vec![voter(2)],
            ..RaftState::default()
        };
        assert!(is_member(&state, &voter(1)) && is_member(&state, &voter(2)));
        let mut other = voter(2);
        other.directory_id = Uuid([2; 16]);
        assert!(!is_member(&state, &other) && !is_member(&state, &voter(3)));
    }
}
