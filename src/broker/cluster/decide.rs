//! What a starting node does about its cluster: pure.
//!
//! A cluster is founded only when every configured voter is up, has no metadata, and has the same
//! voters configured; the voter with the lowest id does it. A node that finds a cluster joins it.
//! What can only be a mistake is refused, with what to fix.

use super::question::View;
use crate::config::{Voter, address};
use crate::controller::Peer;
use crate::types::Uuid;

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

/// What was heard from one address.
pub(super) struct Heard {
    pub address: String,
    /// The voter that the settings say is there.
    pub expected: Option<Voter>,
    pub answer: Result<View, String>,
}

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// Ask again later; why, for the operator.
    Wait(String),
    /// The settings cannot be right.
    Refuse(String),
    /// There is a cluster, with these voters.
    Join {
        cluster_id: Uuid,
        members: Vec<Peer>,
    },
    /// All is ready, and this node is the one to found it.
    Found { cluster_id: Option<Uuid> },
}

/// Decides for the node `me`, whose settings say `voters`, on what was `heard`.
pub(super) fn decide(me: &View, voters: &[Voter], heard: &[Heard]) -> Decision {
    if me.has_metadata {
        return Decision::Wait("a leader".to_owned());
    }
    let mut waiting = Vec::new();
    // Nodes that are behind may know a voter that was removed by now.
    let was_removed = knowing(heard).any(|view| view.members.iter().all(|one| one.id != me.node));
    let mut cluster_id = me.cluster_id;
    for one in heard {
        let view = match &one.answer {
            Ok(view) => view,
            Err(reason) => {
                waiting.push(reason.clone());
                continue;
            }
        };
        if let Some(text) = complaint(me, view, &one.address, one.expected.as_ref()) {
            return Decision::Refuse(text);
        }
        if let Some(member) = replaced(me, view).filter(|_| !was_removed) {
            return Decision::Refuse(directory_gone(member, me.directory_id));
        }
        match (cluster_id, view.cluster_id) {
            (Some(known), Some(other)) if known != other => {
                return Decision::Refuse(format!(
                    "the nodes belong to different clusters ({known} and {other}, of node {} at \
                     {}): correct cluster.id, or the addresses in controller.quorum.voters",
                    view.node, one.address
                ));
            }
            (None, other) => cluster_id = other,
            _ => {}
        }
    }
    // A voter whose vote was taken can be let in where that is known.
    let existing = knowing(heard).filter(|view| replaced(me, view).is_none());
    let mut existing = existing.filter_map(|view| Some((view.cluster_id?, view.members.clone())));
    if let Some((cluster_id, members)) = existing.next() {
        return Decision::Join {
            cluster_id,
            members,
        };
    }
    let is_voter = voters.iter().any(|voter| voter.id == me.node);
    let answered = |voter: &&Voter| {
        voter.id == me.node
            || heard.iter().any(|one| {
                matches!(&one.answer, Ok(view) if view.node == voter.id && !view.has_metadata)
            })
    };
    let lowest = voters.iter().map(|voter| voter.id).min();
    if !is_voter {
        waiting.push("no node that was asked knows a cluster yet".to_owned());
    } else if voters.iter().all(|voter| answered(&voter)) {
        if lowest == Some(me.node) && waiting.is_empty() {
            return Decision::Found { cluster_id };
        }
        if let Some(lowest) = lowest.filter(|lowest| *lowest != me.node) {
            waiting.push(format!("node {lowest} is about to found the cluster"));
        }
    }
    if waiting.is_empty() {
        waiting
            .push("a node has metadata of a cluster and does not know its voters yet".to_owned());
    }
    Decision::Wait(waiting.join("; "))
}

/// What those say who know the voters of a cluster.
fn knowing(heard: &[Heard]) -> impl Iterator<Item = &View> {
    let views = heard.iter().filter_map(|one| one.answer.as_ref().ok());
    views.filter(|view| view.has_metadata && !view.members.is_empty())
}

/// The voter with the id of the node `me` and another directory, if `view` knows one.
fn replaced<'a>(me: &View, view: &'a View) -> Option<&'a Peer> {
    let mut members = view.members.iter();
    members.find(|member| {
        let is_other = !member.directory_id.is_zero() && member.directory_id != me.directory_id;
        member.id == me.node && is_other
    })
}

/// What is wrong between the node `me` and the one that answered at `at`, if anything.
pub(super) fn complaint(
    me: &View,
    view: &View,
    at: &str,
    expected: Option<&Voter>,
) -> Option<String> {
    let node = me.node;
    if view.node == node && view.incarnation != me.incarnation {
        return Some(format!(
            "another node with node.id={node} runs at {at}: give each node an id of its own"
        ));
    }
    if view.node == node && expected.is_none() {
        return Some(format!(
            "controller.quorum.bootstrap.servers names {at}, which is this node itself: name other \
             nodes, or leave it out for a single node"
        ));
    }
    if let Some(expected) = expected.filter(|expected| expected.id != view.node) {
        return Some(format!(
            "controller.quorum.voters says that node {} is at {at}, but node {} is there: correct \
             controller.quorum.voters, or the node.id of the node at {at}",
            expected.id, view.node
        ));
    }
    if let (Some(ours), Some(theirs)) = (me.cluster_id, view.cluster_id)
        && ours != theirs
    {
        return Some(format!(
            "node {} at {at} belongs to cluster {theirs}, and this node to {ours}: correct \
             cluster.id or the addresses of the quorum, or point log.dirs at this cluster's \
             directory",
            view.node
        ));
    }
    mismatched_voters(me, view, at)
}

/// Said to a node that comes in the place of the voter `known` with another directory.
pub(super) fn directory_gone(known: &Peer, given: Uuid) -> String {
    format!(
        "directory {} of voter {id} is gone: the cluster knows node {id} by it, and this directory \
         is {given}. Restore it from a backup, or remove the voter and add it again. If node {id} \
         still runs at {}, give this node an id of its own",
        known.directory_id,
        address(&known.host, known.port),
        id = known.id,
    )
}

/// Two controllers that would found a cluster must agree on its voters.
fn mismatched_voters(me: &View, view: &View, at: &str) -> Option<String> {
    let both_found = !me.voters.is_empty() && !view.voters.is_empty();
    let neither_has = !me.has_metadata && !view.has_metadata;
    if !both_found || !neither_has || !me.is_controller || !view.is_controller {
        return None;
    }
    (me.voters != view.voters).then(|| {
        format!(
            "controller.quorum.voters differs: this node has {}, node {} at {at} has {}: give \
             every node the same",
            list(&me.voters),
            view.node,
            list(&view.voters)
        )
    })
}

fn list(voters: &[(crate::types::BrokerId, String, u16)]) -> String {
    let one = |(id, host, port): &(crate::types::BrokerId, String, u16)| {
        format!("{id}@{}", address(host, *port))
    };
    voters.iter().map(one).collect::<Vec<_>>().join(",")
}
