//! Brokers that die, come back, lose what was in memory or their whole disk, fall behind, and move;
//! proposals that come late. The controller decides for real; what the replicas do is a model of
//! Kafka's rules: followers copy the leader's log, the high watermark is the least durable end of
//! the in-sync replicas. Whatever happens, a clean leader has everything that was committed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::history::rebuilt;
use super::{Cluster, at_home, ids};
use crate::controller::*;
use crate::types::{BrokerEpoch, BrokerId, LeaderEpoch, Uuid};

const BROKERS: i32 = 4;

#[derive(Clone, Debug)]
enum Step {
    Produce,
    Sync(i32),
    Fetch(i32),
    /// The leader proposes an ISR without, or with, this broker; the proposal may be late.
    Propose {
        id: i32,
        join: bool,
        late: bool,
    },
    /// A late proposal arrives, perhaps not for the last time.
    Deliver {
        which: prop::sample::Index,
        again: bool,
    },
    Kill {
        id: i32,
        kept: prop::sample::Index,
    },
    Start {
        id: i32,
        wiped: bool,
    },
    Beat(i32),
    Fence(i32),
    Stop(i32),
    Reassign(Option<Vec<i32>>),
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 1..=BROKERS;
    let target = prop::sample::subsequence(vec![1, 2, 3, 4], 1..=3).prop_shuffle();
    let index = || any::<prop::sample::Index>();
    prop_oneof![
        6 => Just(Step::Produce),
        4 => id().prop_map(Step::Sync),
        10 => id().prop_map(Step::Fetch),
        6 => (id(), prop::bool::weighted(0.7), prop::bool::weighted(0.3))
            .prop_map(|(id, join, late)| Step::Propose { id, join, late }),
        3 => (index(), any::<bool>()).prop_map(|(which, again)| Step::Deliver { which, again }),
        3 => (id(), index()).prop_map(|(id, kept)| Step::Kill { id, kept }),
        5 => (id(), prop::bool::weighted(0.2)).prop_map(|(id, wiped)| Step::Start { id, wiped }),
        6 => id().prop_map(Step::Beat),
        3 => id().prop_map(Step::Fence),
        1 => id().prop_map(Step::Stop),
        1 => prop::option::weighted(0.8, target).prop_map(Step::Reassign),
    ]
}

/// A broker's process and disk.
#[derive(Default)]
struct Node {
    is_running: bool,
    /// Of its present run, once registered.
    epoch: Option<BrokerEpoch>,
    run: u8,
    directory: u8,
    stopped_cleanly: bool,
    log: Vec<u32>,
    synced: usize,
}

/// What the leader knows in its epoch.
struct Leading {
    epoch: LeaderEpoch,
    start: usize,
    fetched: BTreeMap<i32, (usize, BrokerEpoch)>,
    /// Proposed to join and not answered.
    joining: Vec<i32>,
}

struct World {
    cluster: Cluster,
    nodes: BTreeMap<i32, Node>,
    leading: Option<Leading>,
    committed: Vec<u32>,
    produced: u32,
    late: Vec<AlterPartition>,
    is_fsync: bool,
    was_wiped: bool,
    leaders: BTreeMap<i32, BrokerId>,
    partition_epoch: i32,
    /// Disks that everything committed must be on.
    copies: usize,
}

impl World {
    fn new(durability: &str, min_isr: &str) -> Self {
        let mut cluster = Cluster::of(BROKERS, "");
        let settings = [
            ("klamm.durability", durability),
            ("min.insync.replicas", min_isr),
        ];
        cluster.create_on(&[1, 2, 3], &settings);
        let node = |id: i32| Node {
            is_running: true,
            epoch: Some(cluster.epoch(id)),
            run: 1,
            directory: u8::try_from(id).unwrap(),
            ..Node::default()
        };
        Self {
            nodes: (1..=BROKERS).map(|id| (id, node(id))).collect(),
            cluster,
            leading: None,
            committed: Vec::new(),
            produced: 0,
            late: Vec::new(),
            is_fsync: durability == "fsync",
            was_wiped: false,
            leaders: BTreeMap::new(),
            partition_epoch: -1,
            copies: 0,
        }
    }

    fn min_isr(&self, state: &PartitionState) -> usize {
        let overrides = self.cluster.ledger.image().topic_overrides("a");
        state.min_isr(overrides["min.insync.replicas"].parse().unwrap())
    }

    /// Whether the process of `id` is the run that is registered.
    fn is_up(&self, id: i32) -> bool {
        let node = &self.nodes[&id];
        node.is_running && node.epoch == Some(self.cluster.epoch(id))
    }

    fn has_committed(&self, id: i32) -> bool {
        self.nodes[&id].log.starts_with(&self.committed)
    }

    /// The leader, if its process runs; it takes up its office the first time in an epoch.
    fn lead(&mut self) -> Option<i32> {
        let state = self.cluster.state();
        let leader = state.leader?.0;
        if !self.is_up(leader) {
            return None;
        }
        if self
            .leading
            .as_ref()
            .is_some_and(|leading| leading.epoch == state.leader_epoch)
        {
            return Some(leader);
        }
        if state.recovering {
            assert!(!self.is_fsync, "unclean: {state:?}");
            let log = &self.nodes[&leader].log;
            let kept = log
                .iter()
                .zip(&self.committed)
                .take_while(|(a, b)| a == b)
                .count();
            self.committed.truncate(kept);
        }
        assert!(
            self.has_committed(leader),
            "a clean leader lacks records: {state:?}"
        );
        self.leading = Some(Leading {
            epoch: state.leader_epoch,
            start: self.nodes[&leader].log.len(),
            fetched: BTreeMap::new(),
            joining: Vec::new(),
        });
        if state.recovering {
            let isr = self.members(&[leader]);
            let request = self.proposal(leader, isr);
            self.deliver(request);
        }
        Some(leader)
    }

    fn members(&self, isr: &[i32]) -> Vec<(BrokerId, BrokerEpoch)> {
        let seen = |id: &i32| {
            let leading = self.leading.as_ref()?;
            leading.fetched.get(id).map(|(_, epoch)| *epoch)
        };
        let member = |id: &i32| {
            (
                BrokerId(*id),
                seen(id).unwrap_or_else(|| self.cluster.epoch(*id)),
            )
        };
        isr.iter().map(member).collect()
    }

    fn proposal(&self, leader: i32, isr: Vec<(BrokerId, BrokerEpoch)>) -> AlterPartition {
        let state = self.cluster.state();
        let change = IsrChange {
            topic_id: self.cluster.ledger.image().topic("a").unwrap().id,
            partition: 0,
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            isr,
            recovering: false,
        };
        AlterPartition {
            broker: BrokerId(leader),
            broker_epoch: self.cluster.epoch(leader),
            changes: vec![change],
        }
    }

    fn deliver(&mut self, request: AlterPartition) {
        // Refused or not, the leader goes on from the image.
        let _ = self.cluster.ask(Request::AlterPartition(request));
        if let Some(leading) = &mut self.leading
            && self.late.is_empty()
        {
            leading.joining.clear();
        }
    }

    fn propose(&mut self, id: i32, join: bool, late: bool) {
        let Some(leader) = self.lead() else { return };
        let state = self.cluster.state();
        let mut isr: Vec<i32> = state
            .isr
            .iter()
            .map(|id| id.0)
            .filter(|one| *one != id)
            .collect();
        let Some(leading) = &mut self.leading else {
            return;
        };
        if join {
            let caught_up = leading
                .fetched
                .get(&id)
                .is_some_and(|(end, _)| *end >= self.committed.len().max(leading.start));
            if !caught_up || !state.replicas.contains(&BrokerId(id)) {
                return;
            }
            isr.push(id);
            leading.joining.push(id);
        } else if id == leader {
            return;
        }
        let isr = self.members(&isr);
        let request = self.proposal(leader, isr);
        match late {
            true => self.late.push(request),
            false => self.deliver(request),
        }
    }

    /// What is durable, as far as the topic wants it durable.
    fn end(&self, id: i32) -> usize {
        let node = &self.nodes[&id];
        match self.is_fsync {
            true => node.synced,
            false => node.log.len(),
        }
    }

    fn fetch(&mut self, id: i32) {
        let Some(leader) = self.lead() else { return };
        let is_replica = self.cluster.state().replicas.contains(&BrokerId(id));
        if id == leader || !self.is_up(id) || !is_replica {
            return;
        }
        let source = self.nodes[&leader].log.clone();
        let is_fsync = self.is_fsync;
        let node = self.nodes.get_mut(&id).unwrap();
        let agreed = node
            .log
            .iter()
            .zip(&source)
            .take_while(|(a, b)| a == b)
            .count();
        node.synced = node.synced.min(agreed);
        node.log = source;
        if is_fsync {
            node.synced = node.log.len();
        }
        let fetched = (node.log.len(), node.epoch.unwrap());
        self.leading.as_mut().unwrap().fetched.insert(id, fetched);
    }

    /// The leader moves the high watermark as far as it may.
    fn commit(&mut self) {
        let Some(leader) = self.lead() else { return };
        let state = self.cluster.state();
        if state.isr.len() < self.min_isr(&state) {
            return;
        }
        let leading = self.leading.as_ref().unwrap();
        let others = state
            .isr
            .iter()
            .map(|id| id.0)
            .chain(leading.joining.iter().copied());
        let mut end = self.end(leader);
        for id in others.filter(|id| *id != leader) {
            end = end.min(leading.fetched.get(&id).map_or(0, |(end, _)| *end));
        }
        if end > self.committed.len() {
            let log = &self.nodes[&leader].log;
            assert!(log.starts_with(&self.committed));
            self.committed = log[..end].to_vec();
            self.copies = self.min_isr(&state);
        }
    }

    fn register(&mut self, id: i32) {
        let node = &self.nodes[&id];
        let registration = RegisterBroker {
            directories: vec![Uuid([node.directory; 16])],
            after_clean_shutdown: node.stopped_cleanly,
            ..at_home(id, node.run)
        };
        let epoch = self.cluster.register(registration).ok();
        self.nodes.get_mut(&id).unwrap().epoch = epoch;
    }

    fn stop(&mut self, id: i32) {
        if !self.is_up(id) {
            return;
        }
        for _ in 0..2 {
            let heartbeat = BrokerHeartbeat {
                wants_shut_down: true,
                ..self.cluster.heartbeat(id)
            };
            self.cluster.tell(heartbeat).unwrap();
        }
        let node = self.nodes.get_mut(&id).unwrap();
        (node.is_running, node.stopped_cleanly) = (false, true);
        node.synced = node.log.len();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Produce => {
                if let Some(leader) = self.lead() {
                    self.produced += 1;
                    self.nodes.get_mut(&leader).unwrap().log.push(self.produced);
                }
            }
            Step::Sync(id) => {
                let node = self.nodes.get_mut(&id).unwrap();
                if node.is_running {
                    node.synced = node.log.len();
                }
            }
            Step::Fetch(id) => self.fetch(id),
            Step::Propose { id, join, late } => self.propose(id, join, late),
            Step::Deliver { which, again } if !self.late.is_empty() => {
                let at = which.index(self.late.len());
                let request = match again {
                    true => self.late[at].clone(),
                    false => self.late.remove(at),
                };
                self.deliver(request);
            }
            Step::Deliver { .. } => {}
            Step::Kill { id, kept } => {
                let node = self.nodes.get_mut(&id).unwrap();
                if node.is_running {
                    let unsynced = node.log.len() - node.synced;
                    node.log.truncate(node.synced + kept.index(unsynced + 1));
                    (node.is_running, node.stopped_cleanly) = (false, false);
                }
            }
            Step::Start { id, wiped } => self.start(id, wiped),
            Step::Beat(id) if self.is_up(id) => drop(self.cluster.beat(id).unwrap()),
            Step::Beat(id) if self.nodes[&id].is_running => self.register(id),
            Step::Beat(_) => {}
            Step::Fence(id) => self.cluster.fence(id),
            Step::Stop(id) => self.stop(id),
            Step::Reassign(target) => {
                let target = target.map(|target| ids(&target));
                let request = AlterReassignments {
                    allow_replication_factor_change: true,
                    partitions: vec![("a".to_owned(), 0, target)],
                };
                self.cluster
                    .ask(Request::AlterReassignments(request))
                    .unwrap();
            }
        }
    }

    fn start(&mut self, id: i32, wiped: bool) {
        let node = self.nodes.get_mut(&id).unwrap();
        if node.is_running {
            return;
        }
        node.is_running = true;
        node.run += 1;
        if wiped {
            self.was_wiped = true;
            (node.log, node.synced) = (Vec::new(), 0);
            (node.directory, node.stopped_cleanly) = (node.directory + 8, false);
        }
        self.register(id);
    }

    /// Properties R1, R4, R7 and M11 of the state after a step.
    fn check(&mut self) {
        let state = self.cluster.state();
        let image = self.cluster.ledger.image();
        let alive = |id: &BrokerId| image.alive().any(|one| one == *id);
        assert!(
            state
                .isr
                .iter()
                .all(|id| alive(id) && state.replicas.contains(id)),
            "{state:?}"
        );
        assert!(
            state
                .elr
                .iter()
                .all(|id| state.replicas.contains(id) && !state.isr.contains(id))
        );
        assert!(
            state.isr.len() < self.min_isr(&state) || state.elr.is_empty(),
            "{state:?}"
        );
        match state.leader {
            Some(leader) => assert!(state.isr.contains(&leader), "{state:?}"),
            None => assert!(state.isr.is_empty(), "{state:?}"),
        }
        if let Some(leader) = state.leader {
            let known = *self.leaders.entry(state.leader_epoch.0).or_insert(leader);
            assert_eq!(known, leader, "two leaders in one epoch: {state:?}");
        }
        assert!(state.partition_epoch >= self.partition_epoch);
        self.partition_epoch = state.partition_epoch;
        for id in state.isr.iter().chain(&state.elr) {
            let counts = !state.recovering && self.is_up(id.0);
            assert!(
                !counts || self.has_committed(id.0),
                "{id} lacks records: {state:?}"
            );
        }
        let kept: Vec<i32> = state.replicas.iter().map(|id| id.0).collect();
        for (id, node) in &mut self.nodes {
            if node.is_running && !kept.contains(id) {
                (node.log, node.synced) = (Vec::new(), 0);
            }
        }
        if self.is_fsync && !self.was_wiped {
            self.check_copies();
        }
    }

    /// Whatever moves: what was committed stays on as many disks as the topic asks for.
    fn check_copies(&mut self) {
        self.copies = self.copies.min(self.min_isr(&self.cluster.state()));
        let holds = |node: &&Node| node.log[..node.synced].starts_with(&self.committed);
        let copies = self.nodes.values().filter(holds).count();
        assert!(
            copies >= self.copies,
            "{copies} copies: {:?}",
            self.cluster.state()
        );
    }

    /// Everybody comes back with what its disk has.
    fn heal(&mut self) {
        for id in 1..=BROKERS {
            if !self.is_up(id) {
                self.cluster.fence(id);
            }
            self.start(id, false);
            self.take(Step::Beat(id));
            self.take(Step::Beat(id));
            self.check();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_clean_leader_has_everything_that_was_committed(
        steps in prop::collection::vec(step(), 1..120),
        durability in prop::sample::select(vec!["fsync", "replicated"]),
        min_isr in prop::sample::select(vec!["1", "2"]),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new(durability, min_isr);
        for step in steps {
            world.take(step);
            world.check();
            world.commit();
            world.check();
        }
        world.heal();
        world.lead();
        let state = world.cluster.state();
        prop_assert!(state.leader.is_some() || world.was_wiped, "nobody leads: {:?}", state);
        let batches = &world.cluster.batches;
        let image = rebuilt(batches, cut.index(batches.len() + 1));
        prop_assert_eq!(&image, world.cluster.ledger.image());
    }
}
