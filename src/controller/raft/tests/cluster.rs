//! Clusters in one process.

use std::time::Duration;

use super::harness::{Hub, Node, config, peer, run, until};
use crate::controller::local::memory_disk::MemoryDisk;
use crate::controller::quorum::ProposeError;
use crate::controller::raft::RaftError;
use crate::types::{BrokerId, Offset};

struct Cluster {
    hub: Hub,
    nodes: Vec<Node>,
    snapshot_bytes: u64,
}

impl Cluster {
    /// A founded cluster of `count` voters.
    async fn founded(count: i32, snapshot_bytes: u64) -> Self {
        let hub = Hub::default();
        let mut nodes = Vec::new();
        for id in 1..=count {
            let disk = MemoryDisk::default();
            let node = Node::start(&hub, peer(id), &disk, snapshot_bytes).await;
            nodes.push(node.unwrap());
        }
        assert!(!nodes[0].handle.is_founded());
        let voters = (1..=count).map(peer).collect();
        nodes[0].handle.found(voters).await.unwrap();
        let cluster = Self {
            hub,
            nodes,
            snapshot_bytes,
        };
        cluster.leader().await;
        cluster
    }

    /// The node that leads, once all nodes say so.
    async fn leader(&self) -> &Node {
        let mut leader = None;
        until("all agree on a leader", || {
            leader = self.nodes.iter().position(Node::is_leader);
            let id = leader.map(|at| self.nodes[at].me.id);
            id.is_some() && self.nodes.iter().all(|node| node.leader() == id)
        })
        .await;
        &self.nodes[leader.unwrap()]
    }

    /// Takes a node out.
    fn take(&mut self, id: BrokerId) -> Node {
        let at = self.nodes.iter().position(|node| node.me.id == id);
        self.nodes.remove(at.unwrap())
    }

    async fn restart(&mut self, id: i32, disk: &MemoryDisk) {
        let node = Node::start(&self.hub, peer(id), disk, self.snapshot_bytes).await;
        self.nodes.push(node.unwrap());
    }

    /// Proposes at the leader until it is committed.
    async fn commit(&self, number: usize) -> Offset {
        for _ in 0..20 {
            let leader = self.leader().await;
            if let Ok(end) = leader.propose(vec![config(number)]).await {
                return end;
            }
        }
        panic!("nothing is committed");
    }

    async fn agree(&self, end: Offset) {
        until("all have replayed", || {
            self.nodes.iter().all(|node| node.end() >= end)
        })
        .await;
        for node in &self.nodes {
            assert_eq!(node.image(), self.nodes[0].image());
        }
    }
}

#[test]
fn three_nodes_elect_propose_and_agree() {
    run(async {
        let cluster = Cluster::founded(3, u64::MAX).await;
        let mut ends = Vec::new();
        for number in 0..20 {
            ends.push(cluster.commit(number).await);
        }
        assert!(ends.is_sorted());
        cluster.agree(*ends.last().unwrap()).await;
        let leader = cluster.leader().await;
        let description = leader.handle.describe();
        assert_eq!(description.leader, Some(leader.me.id));
        assert_eq!(description.voters.len(), 3);
        assert!(
            description
                .voters
                .iter()
                .all(|voter| voter.last_contact.is_some())
        );
        let follower = cluster.nodes.iter().find(|node| !node.is_leader()).unwrap();
        assert_eq!(
            follower.propose(vec![config(0)]).await,
            Err(ProposeError::NotController {
                leader: Some(leader.me.id)
            })
        );
        assert_eq!(follower.handle.leader(), Some(leader.me.clone()));
    });
}

#[test]
fn a_killed_leader_is_replaced_soon_and_nothing_is_lost() {
    run(async {
        let mut cluster = Cluster::founded(3, u64::MAX).await;
        let end = cluster.commit(1).await;
        let old = cluster.leader().await.me.id;
        let old_node = cluster.take(old);
        let disk = old_node.kill(&cluster.hub).await;
        let begin = std::time::Instant::now();
        for node in &cluster.nodes {
            node.handle.suspect_leader(old);
        }
        let later = cluster.commit(2).await;
        assert!(
            begin.elapsed() < Duration::from_millis(300),
            "{:?}",
            begin.elapsed()
        );
        assert!(later > end);
        cluster.restart(old.0, &disk).await;
        cluster.agree(later).await;
        assert_eq!(cluster.nodes.len(), 3);
    });
}

#[test]
fn without_suspicion_the_timeouts_replace_a_killed_leader() {
    run(async {
        let mut cluster = Cluster::founded(3, u64::MAX).await;
        cluster.commit(1).await;
        let old = cluster.leader().await.me.id;
        cluster.take(old).kill(&cluster.hub).await;
        let end = cluster.commit(2).await;
        cluster.agree(end).await;
    });
}

#[test]
fn all_killed_at_once_come_back_with_everything() {
    run(async {
        let mut cluster = Cluster::founded(3, 400).await;
        let mut end = Offset::ZERO;
        for round in 0..3 {
            for number in 0..30 {
                end = cluster.commit(round * 30 + number).await;
            }
            cluster.agree(end).await;
            let before = cluster.nodes[0].image();
            let mut disks = Vec::new();
            while let Some(node) = cluster.nodes.pop() {
                let id = node.me.id.0;
                disks.push((id, node.kill(&cluster.hub).await));
            }
            for (id, disk) in &disks {
                let names = disk.names();
                let snapshots = names.iter().filter(|name| name.ends_with(".snapshot"));
                assert_eq!(snapshots.count(), 1, "{names:?}");
                cluster.restart(*id, disk).await;
            }
            cluster.leader().await;
            for node in &cluster.nodes {
                assert_eq!(node.image(), before);
                assert!(node.handle.is_founded());
            }
        }
    });
}

#[test]
fn a_leader_without_a_majority_leads_nobody() {
    run(async {
        let cluster = Cluster::founded(3, u64::MAX).await;
        cluster.commit(1).await;
        let old = cluster.leader().await;
        cluster.hub.isolate(old.me.id);
        until("it gives up", || old.leader().is_none()).await;
        assert_eq!(
            old.propose(vec![config(9)]).await,
            Err(ProposeError::NotController { leader: None })
        );
        until("another leads", || {
            let others = cluster.nodes.iter().filter(|node| node.me.id != old.me.id);
            others.into_iter().any(Node::is_leader)
        })
        .await;
        cluster.hub.heal();
        let end = cluster.commit(2).await;
        cluster.agree(end).await;
    });
}

/// Answers to the leader are lost, so it cannot commit; its own messages still arrive.
#[test]
fn a_leader_that_hears_nobody_is_replaced_even_with_entries_to_send() {
    run(async {
        let cluster = Cluster::founded(3, u64::MAX).await;
        cluster.commit(1).await;
        let old = cluster.leader().await;
        for other in cluster.nodes.iter().filter(|node| node.me.id != old.me.id) {
            cluster.hub.cut(other.me.id, old.me.id);
        }
        let proposed = old.propose(vec![config(9)]);
        let unknown = tokio::time::timeout(Duration::from_secs(1), proposed).await;
        assert!(unknown.is_err(), "{unknown:?}");
        until("another leads", || {
            cluster
                .nodes
                .iter()
                .any(|node| node.me.id != old.me.id && node.is_leader())
        })
        .await;
        cluster.hub.heal();
        let end = cluster.commit(2).await;
        cluster.agree(end).await;
    });
}

#[test]
fn a_node_far_behind_gets_a_snapshot() {
    run(async {
        let mut cluster = Cluster::founded(3, 2000).await;
        let leader = cluster.leader().await.me.id;
        let follower = (1..=3).map(BrokerId).find(|id| *id != leader).unwrap();
        let mut end = Offset::ZERO;
        let mut was_given_one = false;
        // The leader lets go of its log when it comes to it: on a busy machine perhaps not at once.
        for _ in 0..10 {
            let disk = cluster.take(follower).kill(&cluster.hub).await;
            for number in 0..800 {
                end = cluster.commit(number).await;
            }
            cluster.restart(follower.0, &disk).await;
            cluster.agree(end).await;
            let node = cluster.nodes.last().unwrap();
            was_given_one = node.seen.lock().unwrap().snapshots > 0;
            if was_given_one {
                break;
            }
        }
        assert!(was_given_one);
        let disk = cluster.take(follower).kill(&cluster.hub).await;
        cluster.restart(follower.0, &disk).await;
        cluster.agree(end).await;
    });
}

#[test]
fn voters_and_observers_come_and_go() {
    run(async {
        let mut cluster = Cluster::founded(3, u64::MAX).await;
        let end = cluster.commit(1).await;
        for id in [4, 5] {
            cluster.restart(id, &MemoryDisk::default()).await;
            let leader = cluster.nodes.iter().find(|node| node.is_leader()).unwrap();
            leader.handle.add_learner(peer(id)).await.unwrap();
        }
        cluster.agree(end).await;
        let leader = cluster.leader().await;
        assert_eq!(leader.handle.describe().observers.len(), 2);
        leader.handle.add_voter(peer(4)).await.unwrap();
        assert_eq!(leader.handle.state().voters.len(), 4);
        let other = cluster.nodes.iter().find(|node| !node.is_leader()).unwrap();
        assert!(matches!(
            other.handle.add_voter(peer(5)).await,
            Err(RaftError::NotLeader { leader: Some(_) })
        ));
        let mut moved = peer(5);
        moved.host = "elsewhere".to_owned();
        leader.handle.add_learner(moved.clone()).await.unwrap();
        assert_eq!(leader.handle.state().observers, vec![moved]);
        let stale = leader
            .handle
            .remove_voter(BrokerId(4), Some(peer(1).directory_id))
            .await;
        assert!(matches!(stale, Err(RaftError::Refused(_))), "{stale:?}");
        let me = leader.me.id;
        leader.handle.remove_voter(me, None).await.unwrap();
        cluster.take(me).kill(&cluster.hub).await;
        let end = cluster.commit(2).await;
        cluster.agree(end).await;
        let leader = cluster.leader().await;
        assert!(
            leader
                .handle
                .state()
                .voters
                .iter()
                .all(|voter| voter.id != me)
        );
    });
}

#[test]
fn a_leader_hands_over_before_it_stops() {
    run(async {
        let cluster = Cluster::founded(3, u64::MAX).await;
        cluster.commit(1).await;
        let old = cluster.leader().await;
        old.handle.resign().await.unwrap();
        until("another leads", || {
            cluster
                .nodes
                .iter()
                .any(|node| node.me.id != old.me.id && node.is_leader())
        })
        .await;
    });
}

#[test]
fn a_node_whose_disk_fails_stops_for_good() {
    run(async {
        let cluster = Cluster::founded(3, u64::MAX).await;
        cluster.commit(1).await;
        let leader = cluster.leader().await;
        let victim = cluster.nodes.iter().find(|node| !node.is_leader()).unwrap();
        victim.disk.stop_after(Some(0));
        leader.propose(vec![config(2)]).await.unwrap();
        until("it stops", || victim.seen.lock().unwrap().failed.is_some()).await;
        victim.disk.stop_after(None);
        assert!(leader.propose(vec![config(3)]).await.is_ok());
    });
}

/// A leader that cannot write would still be followed: it ends, so that another leads.
#[test]
fn a_leader_whose_disk_is_full_says_so_and_ends_and_comes_back_once_there_is_room() {
    run(async {
        let mut cluster = Cluster::founded(3, u64::MAX).await;
        cluster.commit(1).await;
        let full = cluster.leader().await.me.id;
        let victim = cluster.take(full);
        victim.disk.fill(true);
        let outcome = victim.propose(vec![config(2)]).await;
        assert!(outcome.is_err(), "{outcome:?}");
        let seen = victim.seen.clone();
        until("it stops", || seen.lock().unwrap().failed.is_some()).await;
        let reason = seen.lock().unwrap().failed.clone().unwrap();
        for part in ["__cluster_metadata-0", "make room"] {
            assert!(reason.contains(part), "{reason}");
        }
        let disk = victim.kill(&cluster.hub).await;
        cluster.commit(3).await;
        disk.fill(false);
        cluster.restart(full.0, &disk).await;
        let end = cluster.commit(4).await;
        cluster.agree(end).await;
    });
}

#[test]
fn a_leader_of_two_may_remove_itself_and_the_other_leads() {
    run(async {
        for _ in 0..5 {
            let mut cluster = Cluster::founded(2, u64::MAX).await;
            cluster.commit(1).await;
            let me = cluster.leader().await.me.id;
            let leader = cluster.take(me);
            leader.handle.remove_voter(me, None).await.unwrap();
            until("the other leads", || cluster.nodes[0].is_leader()).await;
            cluster.commit(2).await;
            leader.kill(&cluster.hub).await;
            cluster.commit(3).await;
        }
    });
}

/// What is proposed while answers are lost may be committed once they arrive again, in the same
/// term or by another leader; its future ends then, and not before.
#[test]
fn the_outcome_of_a_proposal_is_told_once_it_is_known() {
    run(async {
        let cluster = Cluster::founded(2, u64::MAX).await;
        cluster.commit(1).await;
        let leader = cluster.leader().await;
        let other = cluster.nodes.iter().find(|node| !node.is_leader()).unwrap();
        cluster.hub.cut(other.me.id, leader.me.id);
        let mut proposed = std::pin::pin!(leader.propose(vec![config(2)]));
        let span = Duration::from_millis(1500);
        let early = tokio::time::timeout(span, proposed.as_mut()).await;
        assert!(early.is_err(), "{early:?}");
        cluster.hub.heal();
        let span = Duration::from_secs(10);
        let outcome = tokio::time::timeout(span, proposed).await.unwrap();
        let end = match outcome {
            Ok(end) => end,
            // The other had it not, and led.
            Err(ProposeError::Unavailable(_)) => cluster.commit(3).await,
            Err(other) => panic!("{other:?}"),
        };
        cluster.agree(end).await;
    });
}
