//! A whole partition in a model: replicas as machines with logs in memory, a controller that
//! commits states, and a network that loses, repeats and reorders. Nodes lose what they had not
//! synced and learn late of what the controller committed.
//!
//! Checked after every move: R1 to R6, R9, R10, R18 and K6; and at the end, when all is well again,
//! that everybody agrees, is in sync, and nobody waits.

mod controller;
mod healing;
mod node;

use std::collections::BTreeMap;

use proptest::prelude::*;

use self::controller::Controller;
use self::node::{Answer, ModelLog, Node, Record, Request};
use super::*;
use crate::replication::follower::{FollowerFetch, FollowerTruncate, Served};

const LAG: Duration = Duration::from_millis(100);

/// The round of healing in which logs are mended that stayed damaged.
const MENDED_AT: usize = 20;

type Move = (u8, u8, u8);

/// What is on its way.
#[derive(Clone, Debug)]
enum Packet {
    Fetch(Request),
    Fetched(Answer),
    Propose {
        from: BrokerId,
        broker_epoch: BrokerEpoch,
        proposal: Proposal,
    },
    Proposed {
        to: BrokerId,
        process: u64,
        of: (LeaderEpoch, i32),
        outcome: Result<(), ErrorCode>,
    },
}

/// What was committed, from where the partition's first record may be.
#[derive(Default)]
struct Committed {
    first: Offset,
    records: Vec<Record>,
}

impl Committed {
    fn at(&self, offset: Offset) -> Option<Record> {
        let at = offset.0.checked_sub(self.first.0)?;
        self.records.get(usize::try_from(at).ok()?).copied()
    }

    /// Those from `start` on, with their offsets.
    fn from(&self, start: Offset) -> impl Iterator<Item = (Offset, Record)> + '_ {
        (start.max(self.first).0..).map_while(|at| Some((Offset(at), self.at(Offset(at))?)))
    }
}

/// A DeleteRecords that is not answered yet: at whom, in which process and epoch, and up to where.
#[derive(Debug)]
struct Deletion {
    at: usize,
    process: u64,
    epoch: Option<LeaderEpoch>,
    to: Offset,
}

/// Of a mirror: where its first record is to be, and since which state everybody may know.
#[derive(Clone, Copy, Debug)]
struct First {
    offset: Offset,
    known_from: Option<usize>,
}

struct World {
    /// Nothing is appended before that is known.
    first: Option<First>,
    controller: Controller,
    nodes: Vec<Node>,
    packets: Vec<Packet>,
    now: Instant,
    next_value: u32,
    next_process: u64,
    /// What was committed, by offset: the canonical log.
    committed: Committed,
    /// Values that await an acknowledgement, with their offsets and whether all must have them.
    waiting: BTreeMap<u32, (Offset, WantedAcks)>,
    deletions: Vec<Deletion>,
    /// The furthest deletion that was answered.
    deleted: Offset,
    led: BTreeMap<LeaderEpoch, BrokerId>,
}

fn id_of(at: usize) -> BrokerId {
    BrokerId(i32::try_from(at).expect("few nodes"))
}

fn at_of(id: BrokerId) -> usize {
    usize::try_from(id.0).expect("ids are positive")
}

impl World {
    fn new(count: usize, min_insync: usize) -> Self {
        let controller = Controller::new(count, min_insync);
        let mut world = Self {
            first: None,
            nodes: (0..count).map(|at| Node::new(id_of(at))).collect(),
            controller,
            packets: Vec::new(),
            now: Instant(0),
            next_value: 0,
            next_process: 0,
            committed: Committed::default(),
            waiting: BTreeMap::new(),
            deletions: Vec::new(),
            deleted: Offset::ZERO,
            led: BTreeMap::new(),
        };
        for at in 0..count {
            let epoch = world.controller.registered[&id_of(at)];
            world.host(at, 0, epoch);
        }
        world
    }

    /// Starts the process of a node again. It registers, and hosts the replica from metadata in
    /// which it is registered.
    fn start(&mut self, at: usize, behind: u8) {
        if self.nodes[at].machine.is_some() {
            return;
        }
        let epoch = self.controller.register(id_of(at));
        let applied = match crate::mutant!("epoch-led-again-after-restart") {
            true => self.nodes[at]
                .applied
                .saturating_sub(usize::from(behind % 4)),
            false => self.controller.history.len() - 1,
        };
        self.host(at, applied, epoch);
    }

    fn host(&mut self, at: usize, applied: usize, epoch: BrokerEpoch) {
        self.next_process += 1;
        let state = &self.controller.history[applied];
        let mut effects = Vec::new();
        self.nodes[at].start(self.next_process, applied, state, self.now, &mut effects);
        self.nodes[at].broker_epoch = Some(epoch);
        self.carry_out(at, effects);
        self.begin_at_first(at, applied);
    }

    /// A log that has no record moves to where its first is to be, once its node knows that.
    fn begin_at_first(&mut self, at: usize, applied: usize) {
        if let Some(first) = self.first
            && first.known_from.is_some_and(|from| from <= applied)
        {
            self.with(at, |node, _, effects| node.begin_at(first.offset, effects));
        }
    }

    /// Whether a leader learns of its source where the first record is to be, and has that
    /// committed; nothing is appended before.
    fn has_first(&mut self, at: usize) -> bool {
        let Some(first) = &mut self.first else {
            return true;
        };
        let node = &self.nodes[at];
        let leads = node.machine.as_ref().is_some_and(Partition::is_leader);
        if first.known_from.is_none()
            && leads
            && node.leader_epoch() == Some(self.controller.leader_epoch())
        {
            self.controller.repeat();
            first.known_from = Some(self.controller.history.len() - 1);
        }
        first.known_from.is_some_and(|from| from <= node.applied)
    }

    fn carry_out(&mut self, at: usize, effects: Vec<Effect<u32>>) {
        let id = id_of(at);
        for effect in effects {
            match effect {
                Effect::BeginEpoch { epoch, start } => {
                    let other = self.led.insert(epoch, id);
                    assert!(
                        other.is_none_or(|other| other == id),
                        "R1: two lead {epoch:?}"
                    );
                    let log = &mut self.nodes[at].log;
                    if !crate::mutant!("epoch-start-at-first-append") {
                        log.epochs.assign(epoch, start);
                    }
                    // One that learns late of its election may lack what its successor committed.
                    let now = self.controller.leader_epoch() == epoch;
                    for (offset, record) in self.committed.from(log.start).filter(|_| now) {
                        let have = log.at(offset);
                        assert_eq!(have, Some(record), "R3: {id} leads without {offset}");
                    }
                }
                Effect::Expose(_) => self.exposed(at),
                Effect::Acknowledge(value) => self.acknowledged(at, value),
                Effect::Refuse(value, _) => {
                    self.waiting.remove(&value);
                }
                Effect::Propose(proposal) => {
                    if let Some(broker_epoch) = self.nodes[at].broker_epoch {
                        self.packets.push(Packet::Propose {
                            from: id,
                            broker_epoch,
                            proposal,
                        });
                    } else {
                        let of = (proposal.leader_epoch, proposal.partition_epoch);
                        self.answer_proposal(id, of, Err(ErrorCode::StaleBrokerEpoch));
                    }
                }
                Effect::GiveUp(epoch) => self.controller.give_up(id, epoch),
            }
        }
    }

    fn answer_proposal(
        &mut self,
        to: BrokerId,
        of: (LeaderEpoch, i32),
        outcome: Result<(), ErrorCode>,
    ) {
        self.packets.push(Packet::Proposed {
            to,
            process: self.nodes[at_of(to)].process,
            of,
            outcome,
        });
    }

    /// What a replica exposes is committed, and the same everywhere.
    fn exposed(&mut self, at: usize) {
        let Some(machine) = &self.nodes[at].machine else {
            return;
        };
        let log = &self.nodes[at].log;
        for offset in log.start.0..machine.high_watermark().0 {
            let offset = Offset(offset);
            let Some(record) = log.at(offset) else {
                panic!(
                    "R10: {} exposes {offset}, which it does not have",
                    id_of(at)
                );
            };
            let Some(canonical) = self.committed.at(offset) else {
                self.committed.records.push(record);
                continue;
            };
            assert_eq!(record, canonical, "R2: {} differs at {offset}", id_of(at));
        }
    }

    fn acknowledged(&mut self, at: usize, value: u32) {
        let (offset, acks) = self.waiting.remove(&value).expect("nobody is told twice");
        self.exposed(at);
        let node = &self.nodes[at];
        assert_eq!(node.log.at(offset).map(|record| record.1), Some(value));
        assert!(
            offset < node.log.durable,
            "P2: acknowledged and not durable"
        );
        if acks == WantedAcks::InSync {
            let there = self.committed.at(offset).map(|record| record.1);
            assert_eq!(there, Some(value), "R18: acknowledged and not committed");
            let machine = node.machine.as_ref().expect("it runs");
            let assignment = machine.assignment();
            assert!(
                assignment.isr.len() >= assignment.wanted_in_sync(),
                "R18: acknowledged by too few"
            );
        }
    }

    /// Lets a node's machine do something.
    fn with<T>(
        &mut self,
        at: usize,
        act: impl FnOnce(&mut Node, Instant, &mut Vec<Effect<u32>>) -> T,
    ) -> T {
        let now = self.now;
        let mut effects = Vec::new();
        let result = act(&mut self.nodes[at], now, &mut effects);
        self.carry_out(at, effects);
        result
    }

    fn apply(&mut self, (kind, a, b): Move) {
        let at = usize::from(a) % self.nodes.len();
        match kind {
            0..=39 => self.append(at, b),
            40..=69 => self.with(at, |node, _, effects| node.sync(effects)),
            70..=109 => self.fetch(at),
            110..=169 => self.deliver(usize::from(a), true),
            170..=179 => self.deliver(usize::from(a), false),
            180..=184 => {
                if !self.packets.is_empty() {
                    let lost = usize::from(a) % self.packets.len();
                    self.lose(lost);
                }
            }
            185..=209 => self.learn(at),
            210..=215 => self.crash(at, b),
            216..=225 => self.start(at, b),
            226..=229 => self.controller.fence(id_of(at)),
            230..=235 => self.unfence(at),
            236..=239 => self.controller.elect(id_of(at)),
            240..=247 => {
                self.now = self.now.plus(Duration::from_millis(u64::from(b)));
                self.with(at, Node::tick);
                self.begin_another_log(at);
            }
            248..=249 => self.with(at, Node::fail_sync),
            250 => self.nodes[at].rot(),
            251..=252 => self.delete(at, b),
            253 => self.nodes[at].move_start(),
            254 => self.nodes[at].checkpoint(),
            _ => self.with(at, Node::find_damage),
        }
    }

    fn append(&mut self, at: usize, b: u8) {
        let acks = match b % 3 {
            0 => WantedAcks::Leader,
            _ => WantedAcks::InSync,
        };
        if !self.has_first(at) {
            return;
        }
        let value = self.next_value;
        let Some(offset) = self.nodes[at].may_append(acks) else {
            return;
        };
        self.next_value += 1;
        self.waiting.insert(value, (offset, acks));
        self.with(at, |node, _, effects| node.append(value, acks, effects));
    }

    fn delete(&mut self, at: usize, amount: u8) {
        if let Some(to) = self.nodes[at].want_deleted(amount) {
            let node = &self.nodes[at];
            self.deletions.push(Deletion {
                at,
                process: node.process,
                epoch: node.leader_epoch(),
                to,
            });
        }
    }

    /// A deletion is answered once no replica that may be in sync begins before it.
    fn answer_deletions(&mut self) {
        let (nodes, deleted) = (&self.nodes, &mut self.deleted);
        self.deletions.retain(|deletion| {
            let node = &nodes[deletion.at];
            let leads = node.machine.as_ref().is_some_and(Partition::is_leader);
            let to = deletion.to;
            let is_done = node.replicated_start().is_some_and(|start| to <= start);
            let is_same =
                leads && node.process == deletion.process && node.leader_epoch() == deletion.epoch;
            if is_same && is_done {
                *deleted = (*deleted).max(to);
            }
            is_same && !is_done
        });
    }

    fn fetch(&mut self, at: usize) {
        if let Some(request) = self.nodes[at].request() {
            self.packets.push(Packet::Fetch(request));
        }
    }

    fn lose(&mut self, lost: usize) {
        // Who proposes is always told something.
        match self.packets.remove(lost) {
            Packet::Propose { from, proposal, .. } => {
                let of = (proposal.leader_epoch, proposal.partition_epoch);
                self.answer_proposal(from, of, Err(ErrorCode::RequestTimedOut));
            }
            Packet::Proposed {
                to, process, of, ..
            } => self.packets.push(Packet::Proposed {
                to,
                process,
                of,
                outcome: Err(ErrorCode::RequestTimedOut),
            }),
            Packet::Fetch(_) | Packet::Fetched(_) => {}
        }
    }

    fn deliver(&mut self, which: usize, once: bool) {
        if self.packets.is_empty() {
            return;
        }
        let which = which % self.packets.len();
        let packet = match once {
            true => self.packets.remove(which),
            false => self.packets[which].clone(),
        };
        match packet {
            Packet::Fetch(request) => {
                let at = at_of(request.to);
                let answer = self.with(at, |node, now, effects| node.serve(&request, now, effects));
                if let Some(answer) = answer {
                    self.packets.push(Packet::Fetched(answer));
                }
            }
            Packet::Fetched(answer) => {
                let at = at_of(answer.to);
                // One that is trusted by nobody may follow a leader that was replaced meanwhile.
                let trusted = self.controller.trusted().contains(&answer.to);
                let committed = std::mem::take(&mut self.committed);
                let needed = |offset| committed.at(offset).filter(|_| trusted);
                let (node, mut effects) = (&mut self.nodes[at], Vec::new());
                node.take(answer, needed, &mut effects);
                self.committed = committed;
                self.carry_out(at, effects);
            }
            Packet::Propose {
                from,
                broker_epoch,
                proposal,
            } => {
                let of = (proposal.leader_epoch, proposal.partition_epoch);
                let outcome = self.controller.alter(from, broker_epoch, &proposal);
                self.answer_proposal(from, of, outcome);
            }
            Packet::Proposed {
                to,
                process,
                of,
                outcome,
            } => self.proposed(to, process, of, outcome),
        }
    }

    fn proposed(
        &mut self,
        to: BrokerId,
        process: u64,
        of: (LeaderEpoch, i32),
        outcome: Result<(), ErrorCode>,
    ) {
        if self.nodes[at_of(to)].process != process {
            return;
        }
        let history = &self.controller.history;
        let outcome = match outcome {
            Ok(()) => {
                let state = history.iter().find(|state| state.1.partition_epoch > of.1);
                let (_, accepted) = state.expect("it was committed");
                let mut assignment = Assignment::clone(accepted);
                assignment.me = to;
                IsrOutcome::Accepted(Arc::new(assignment))
            }
            Err(ErrorCode::RequestTimedOut) => IsrOutcome::Unknown,
            Err(code) => IsrOutcome::Refused(code),
        };
        self.with(at_of(to), |node, now, effects| {
            node.answered(of, &outcome, now, effects);
        });
    }

    fn learn(&mut self, at: usize) {
        let next = self.nodes[at].applied + 1;
        if self.nodes[at].machine.is_none() || next >= self.controller.history.len() {
            return;
        }
        let state = self.controller.history[next].clone();
        self.begin_at_first(at, next);
        self.with(at, |node, now, effects| {
            node.learn(next, &state, now, effects)
        });
    }

    fn begin_another_log(&mut self, at: usize) {
        let state = self.controller.history[self.nodes[at].applied].clone();
        self.with(at, |node, now, effects| {
            node.begin_another_log(&state, now, effects)
        });
    }

    fn crash(&mut self, at: usize, survives: u8) {
        self.nodes[at].crash(usize::from(survives));
        self.waiting.retain(|value, _| {
            let leads = |node: &Node| node.machine.is_some() && node.waiters.contains(value);
            self.nodes.iter().any(leads)
        });
    }

    fn unfence(&mut self, at: usize) {
        let node = &self.nodes[at];
        let caught_up = node.applied + 1 == self.controller.history.len();
        if node.machine.is_some() && node.broker_epoch.is_some() && caught_up {
            self.controller.unfence(id_of(at));
        }
    }

    fn check(&mut self) {
        for at in 0..self.nodes.len() {
            self.exposed(at);
            self.nodes[at].check();
        }
        self.answer_deletions();
        for id in self.controller.trusted() {
            let node = &self.nodes[at_of(id)];
            let (start, deleted) = (node.log.start, self.deleted);
            assert!(
                start >= deleted,
                "K6: {id} begins at {start}; records up to {deleted} were said to be gone"
            );
            for (offset, record) in self.committed.from(node.log.start) {
                let have = node.log.at_durable(offset);
                assert_eq!(have, Some(record), "R4: {id} lacks {offset}");
            }
        }
    }
}

/// With `KLAMM_MUTANT`, and the feature `mutants`, the replicas have that bug.
#[expect(
    clippy::disallowed_methods,
    reason = "whoever runs this test chooses the bug; the broker's settings have none"
)]
fn run(count: usize, min_insync: usize, first: Option<Offset>, moves: Vec<Move>) {
    let asked = || std::env::var("KLAMM_MUTANT").ok();
    crate::mutant::choose_asked(asked).expect("a mutant of this build");
    let mut world = World::new(count, min_insync);
    world.committed.first = first.unwrap_or_default();
    world.first = first.map(|offset| First {
        offset,
        known_from: None,
    });
    for next in moves {
        world.apply(next);
        world.check();
    }
    world.heal();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_acknowledged_is_lost_and_replicas_agree(
        count in 3_usize..=5,
        min_insync in 1_usize..=2,
        moves in proptest::collection::vec(any::<Move>(), 1..400),
    ) {
        run(count, min_insync, None, moves);
    }

    #[test]
    fn a_mirror_that_begins_late_begins_there_for_whoever_leads(
        count in 3_usize..=5,
        min_insync in 1_usize..=2,
        first in 1_i64..=9,
        moves in proptest::collection::vec(any::<Move>(), 1..400),
    ) {
        run(count, min_insync, Some(Offset(first)), moves);
    }
}
