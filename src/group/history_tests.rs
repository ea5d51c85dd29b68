//! Random histories of one group: clients that join, sync, beat, commit, restart and vanish, a
//! coordinator that loses its newest records and is replayed, and what must hold throughout.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::ledger::{GroupSoft, Reply, Request};
use super::test_group::*;
use super::*;
use crate::coordinator::{Ledger as _, ReplyTo};
use crate::types::{ErrorCode, Offset};
use crate::wire::Str;
use crate::wire::message::heartbeat::HeartbeatRequest;
use crate::wire::message::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};

const CLIENTS: usize = 5;
/// The first clients are static members.
const STATICS: usize = 2;
const PARTITIONS: usize = 4;

#[derive(Clone, Debug)]
enum Op {
    /// A client does what a well-behaved one does next.
    Act(usize),
    /// A client forgets all it knew; a static one comes back under its instance id.
    Restart(usize),
    Leave(usize),
    Vanish(usize),
    Commit(usize),
    /// A client uses a generation that has passed.
    Stale(usize),
    Fetch,
    Advance(u64),
    /// Appends stay unacknowledged until `Acknowledge`.
    Hold,
    Acknowledge,
    /// Appends under way fail; their records are in the log or lost.
    Refuse(bool),
    /// The coordinator is lost with this share (of 4) of its unacknowledged records kept.
    FailOver(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        30 => (0..CLIENTS).prop_map(Op::Act),
        3 => (0..CLIENTS).prop_map(Op::Restart),
        2 => (0..CLIENTS).prop_map(Op::Leave),
        2 => (0..CLIENTS).prop_map(Op::Vanish),
        6 => (0..CLIENTS).prop_map(Op::Commit),
        4 => (0..CLIENTS).prop_map(Op::Stale),
        4 => Just(Op::Fetch),
        8 => (100_u64..4_000).prop_map(Op::Advance),
        1 => (10_000_u64..90_000).prop_map(Op::Advance),
        2 => Just(Op::Hold),
        4 => Just(Op::Acknowledge),
        1 => any::<bool>().prop_map(Op::Refuse),
        2 => (0_usize..5).prop_map(Op::FailOver),
    ]
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    Gone,
    Out,
    Joining(ReplyTo),
    Syncing(ReplyTo),
    In(Option<ReplyTo>),
}

#[derive(Clone, Debug)]
struct Client {
    instance: Option<&'static str>,
    member_id: Str,
    generation: i32,
    phase: Phase,
}

/// Fate of an offset commit, by the order of asking.
struct Commit {
    to: ReplyTo,
    offset: i64,
    generation: i32,
}

struct World {
    bench: Bench,
    clients: Vec<Client>,
    /// Greatest generation any member was told.
    generation_max: i32,
    /// Who was in a generation, as told to its assigning member.
    memberships: BTreeMap<i32, Vec<String>>,
    /// Which assignment a generation got.
    plans: BTreeMap<i32, String>,
    next_plan: u32,
    commits: Vec<Commit>,
    next_offset: i64,
    /// Fetches with the commits (by count) that could have been seen.
    fetches: Vec<(ReplyTo, usize, Option<i64>)>,
    /// Last offset acknowledged or read, and the index of the first commit asked for after it.
    settled: (i64, usize),
    /// Requests that must not succeed.
    stale: Vec<ReplyTo>,
    /// Log records that are acknowledged.
    safe: usize,
    /// Clients that take part in the healing.
    present: Vec<usize>,
}

/// What stays the same of a member when it restarts.
fn identity(member_id: &Str, instance: Option<&Str>) -> String {
    instance.unwrap_or(member_id).to_string()
}

impl World {
    fn new() -> Self {
        let client = |number: usize| Client {
            instance: ["x", "y"].get(number).copied().filter(|_| number < STATICS),
            member_id: nobody(),
            generation: -1,
            phase: Phase::Out,
        };
        Self {
            bench: Bench::new(),
            clients: (0..CLIENTS).map(client).collect(),
            generation_max: 0,
            memberships: BTreeMap::new(),
            plans: BTreeMap::new(),
            next_plan: 0,
            commits: Vec::new(),
            next_offset: 1,
            fetches: Vec::new(),
            settled: (-1, 0),
            stale: Vec::new(),
            safe: 0,
            present: Vec::new(),
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Act(number) => self.act(number),
            Op::Restart(number) => self.restart(number),
            Op::Leave(number) => self.leave(number),
            Op::Vanish(number) => self.clients[number].phase = Phase::Gone,
            Op::Commit(number) => self.commit(number),
            Op::Stale(number) => self.send_stale(number),
            Op::Fetch => self.fetch(),
            Op::Advance(millis) => self.bench.advance(Duration::from_millis(millis)),
            Op::Hold => self.bench.is_prompt = false,
            Op::Acknowledge => self.acknowledge(),
            Op::Refuse(is_lost) => {
                if is_lost {
                    self.bench.log.truncate(self.safe);
                }
                while !self.bench.unacknowledged.is_empty() {
                    let error = ErrorCode::NotEnoughReplicasAfterAppend;
                    self.bench.acknowledge(Err(error));
                }
                self.acknowledge();
            }
            Op::FailOver(share) => {
                let lost = self.bench.log.len() - self.safe;
                self.bench.fail_over(self.safe + lost * share.min(4) / 4);
            }
        }
        self.check();
    }

    /// All appends under way are acknowledged, and new ones at once.
    fn acknowledge(&mut self) {
        while !self.bench.unacknowledged.is_empty() {
            self.bench.acknowledge(Ok(()));
        }
        self.bench.is_prompt = true;
    }

    fn act(&mut self, number: usize) {
        let client = self.clients[number].clone();
        match client.phase {
            Phase::Gone => self.clients[number].phase = Phase::Out,
            Phase::Out => {
                let request = match client.instance {
                    Some(instance) => static_join(instance, &client.member_id),
                    None => join_request(&client.member_id),
                };
                let to = self.bench.join_as(request, 9);
                self.clients[number].phase = Phase::Joining(to);
            }
            Phase::Joining(to) => self.joined(number, to),
            Phase::Syncing(to) => self.synced(number, to),
            Phase::In(None) => {
                let to = self.beat(number, client.generation);
                self.clients[number].phase = Phase::In(Some(to));
            }
            Phase::In(Some(to)) => match self.bench.answer(to) {
                None => {}
                Some(Ok(Reply::Heartbeat(ErrorCode::None))) => {
                    self.clients[number].phase = Phase::In(None);
                }
                Some(Ok(Reply::Heartbeat(error))) => self.turned_away(number, error.code()),
                Some(Err(_)) => self.clients[number].phase = Phase::In(None),
                other => panic!("not a heartbeat: {other:?}"),
            },
        }
    }

    fn beat(&mut self, number: usize, generation: i32) -> ReplyTo {
        let client = &self.clients[number];
        let request = HeartbeatRequest {
            group_id: GROUP.into(),
            generation_id: generation,
            member_id: client.member_id.clone(),
            group_instance_id: client.instance.map(Str::from),
            ..HeartbeatRequest::default()
        };
        self.bench.ask(Request::Heartbeat(request))
    }

    fn turned_away(&mut self, number: usize, error: i16) {
        let client = &mut self.clients[number];
        client.phase = Phase::Out;
        let forgotten = [ErrorCode::UnknownMemberId, ErrorCode::FencedInstanceId];
        if forgotten.iter().any(|code| code.code() == error) {
            client.member_id = nobody();
        }
    }

    fn joined(&mut self, number: usize, to: ReplyTo) {
        let answer = match self.bench.answer(to) {
            None => return,
            Some(Err(_)) => return self.clients[number].phase = Phase::Out,
            Some(_) => self.bench.joined(to).expect("it is there"),
        };
        if answer.error_code == ErrorCode::MemberIdRequired.code() {
            self.clients[number].member_id = answer.member_id;
            return self.clients[number].phase = Phase::Out;
        }
        if answer.error_code != 0 {
            return self.turned_away(number, answer.error_code);
        }
        let generation = answer.generation_id;
        assert!(
            generation >= self.clients[number].generation,
            "a generation goes back"
        );
        self.generation_max = self.generation_max.max(generation);
        self.clients[number].generation = generation;
        self.clients[number].member_id = answer.member_id.clone();
        let mut plan: Vec<(Str, String)> = Vec::new();
        if answer.leader == answer.member_id {
            let members = answer.members.iter();
            let mut names: Vec<String> = members
                .map(|m| identity(&m.member_id, m.group_instance_id.as_ref()))
                .collect();
            names.sort();
            let known = self.memberships.entry(generation).or_insert(names.clone());
            assert_eq!(*known, names, "one generation number names two memberships");
            if !answer.skip_assignment {
                self.next_plan += 1;
                for (at, member) in answer.members.iter().enumerate() {
                    let share = (0..PARTITIONS).filter(|p| p % answer.members.len() == at);
                    let share: Vec<String> = share.map(|p| p.to_string()).collect();
                    let text = format!("{}:{}", self.next_plan, share.join(","));
                    plan.push((member.member_id.clone(), text));
                }
            }
        }
        let plan: Vec<(&Str, &str)> = plan.iter().map(|(id, text)| (id, text.as_str())).collect();
        let to = self.bench.sync(generation, &answer.member_id, &plan);
        self.clients[number].phase = Phase::Syncing(to);
    }

    fn synced(&mut self, number: usize, to: ReplyTo) {
        let answer = match self.bench.answer(to) {
            None => return,
            Some(Err(_)) => return self.clients[number].phase = Phase::Out,
            Some(_) => self.bench.synced(to).expect("it is there"),
        };
        if answer.error_code != 0 {
            return self.turned_away(number, answer.error_code);
        }
        let text = String::from_utf8(answer.assignment.to_vec()).expect("our own text");
        let (plan, _) = text.split_once(':').expect("every member has a share");
        let generation = self.clients[number].generation;
        let known = self.plans.entry(generation).or_insert(plan.into());
        assert_eq!(known, plan, "one generation has two assignments");
        self.clients[number].phase = Phase::In(None);
    }

    fn restart(&mut self, number: usize) {
        let Some(instance) = self.clients[number].instance else {
            self.clients[number].member_id = nobody();
            self.clients[number].phase = Phase::Out;
            return;
        };
        let is_member = |bench: &Bench| {
            let metadata = bench.metadata();
            let mut members = metadata.members.values();
            members.any(|member| member.group_instance_id == Some(instance.into()))
        };
        let is_quiet = self.bench.is_prompt
            && self.bench.state() == GroupState::Stable
            && is_member(&self.bench);
        let before = is_quiet.then(|| self.bench.metadata().generation);
        let to = self.bench.join_as(static_join(instance, &nobody()), 9);
        self.clients[number].phase = Phase::Joining(to);
        if let Some(generation) = before {
            assert_eq!(
                self.bench.state(),
                GroupState::Stable,
                "a restart is no rebalance"
            );
            assert_eq!(self.bench.metadata().generation, generation);
        }
    }

    fn leave(&mut self, number: usize) {
        let client = &mut self.clients[number];
        client.phase = Phase::Gone;
        let member_id = std::mem::take(&mut client.member_id);
        if !member_id.is_empty() && self.bench.is_prompt {
            self.bench.leave(&[(&member_id, None)]);
        }
    }

    fn commit(&mut self, number: usize) {
        let client = &self.clients[number];
        let offset = self.next_offset;
        self.next_offset += 1;
        let generation = client.generation;
        let request = Bench::commit_request(generation, &client.member_id, offset);
        let to = self.bench.ask(Request::CommitOffsets(request));
        self.commits.push(Commit {
            to,
            offset,
            generation,
        });
    }

    fn send_stale(&mut self, number: usize) {
        if self.generation_max < 2 {
            return;
        }
        let generation = self.generation_max - 1;
        let to = self.beat(number, generation);
        self.stale.push(to);
        let member_id = self.clients[number].member_id.clone();
        let to = self
            .bench
            .sync(generation, &member_id, &[(&member_id, "stale")]);
        self.stale.push(to);
        let request = Bench::commit_request(generation, &member_id, -7);
        let to = self.bench.ask(Request::CommitOffsets(request));
        self.stale.push(to);
    }

    fn fetch(&mut self) {
        let request = OffsetFetchRequestGroup {
            group_id: GROUP.into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".into(),
                partition_indexes: vec![0],
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        };
        let to = self.bench.ask(Request::FetchOffsets(request));
        self.fetches.push((to, self.commits.len(), None));
    }

    fn commit_error(&self, to: ReplyTo) -> Option<Option<i16>> {
        match self.bench.answer(to)? {
            Ok(Reply::CommitOffsets(answer)) => {
                Some(Some(answer.topics[0].partitions[0].error_code))
            }
            Err(_) => Some(None),
            other => panic!("not a commit: {other:?}"),
        }
    }

    fn check(&mut self) {
        self.safe = match self.bench.unacknowledged.front() {
            Some(base) => usize::try_from(base.0).expect("offsets begin at 0"),
            None => self.bench.log.len(),
        };
        self.check_stale();
        self.check_offsets();
        self.check_replay();
    }

    fn check_stale(&mut self) {
        for to in &self.stale {
            let code = match self.bench.answer(*to) {
                None | Some(Err(_)) => continue,
                Some(Ok(Reply::Heartbeat(error))) => error.code(),
                Some(Ok(Reply::Sync(answer))) => answer.error_code,
                Some(Ok(Reply::CommitOffsets(answer))) => answer.topics[0].partitions[0].error_code,
                other => panic!("not a request of a member: {other:?}"),
            };
            assert_ne!(code, 0, "the past had an effect");
        }
        self.stale.retain(|to| self.bench.answer(*to).is_none());
    }

    fn check_offsets(&mut self) {
        for at in self.settled.1..self.commits.len() {
            let commit = &self.commits[at];
            if self.commit_error(commit.to) == Some(Some(0)) {
                let known = commit.generation != 0;
                assert!(known, "nobody is a member of generation 0");
                self.settled = (commit.offset, at + 1);
            }
        }
        let mut fetches = std::mem::take(&mut self.fetches);
        fetches.retain_mut(|(to, seen, least)| {
            // What was settled when the fetch was asked is the oldest it may show.
            let oldest = *least.get_or_insert(self.settled_before(*seen));
            let offset = match self.bench.answer(*to) {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(Reply::FetchOffsets(answer))) => {
                    answer.topics[0].partitions[0].committed_offset
                }
                other => panic!("not a fetch: {other:?}"),
            };
            let asked = &self.commits[..*seen];
            let refused = |commit: &Commit| {
                matches!(self.commit_error(commit.to), Some(Some(code)) if code != 0)
            };
            let later = asked.iter().filter(|c| c.offset > oldest && !refused(c));
            let possible: Vec<i64> = later.map(|c| c.offset).chain([oldest]).collect();
            assert!(possible.contains(&offset), "read {offset}, possible {possible:?}");
            false
        });
        self.fetches = fetches;
    }

    fn settled_before(&self, seen: usize) -> i64 {
        match self.settled {
            (offset, next) if next <= seen => offset,
            _ => -1,
        }
    }

    fn check_replay(&self) {
        let ledger = self.bench.shard.ledger();
        let mut replayed = ledger.blank();
        let mut soft = GroupSoft::default();
        for (at, record) in self.bench.log.iter().enumerate() {
            let offset = Offset(i64::try_from(at).expect("a small log"));
            let key = Some(record.key.clone());
            let known = GroupLedger::decode(key, record.value.clone()).expect("our own record");
            replayed.replay(&mut soft, offset, record.timestamp, known);
        }
        if self.bench.shard.is_leading() {
            assert_eq!(replayed.groups(), ledger.groups());
        }
        let live = self.bench.shard.soft().live.get(&Str::from(GROUP));
        let Some(live) = live else { return };
        let recorded = ledger.groups().get(&Str::from(GROUP));
        let metadata = recorded.and_then(|group| group.metadata.as_ref());
        if matches!(
            live.state,
            GroupState::Stable | GroupState::CompletingRebalance
        ) {
            let metadata = metadata.expect("a generation is recorded");
            assert!(live.members.keys().eq(metadata.members.keys()));
            assert_eq!(live.state == GroupState::Stable, metadata.leader.is_some());
        }
    }

    /// Faults are over: who is `present` behaves, the others never come back, and the group must
    /// come to rest.
    fn heal(&mut self, present: &[bool]) {
        self.acknowledge();
        let presence = present.iter().enumerate();
        self.present = presence
            .filter(|(_, here)| **here)
            .map(|(number, _)| number)
            .collect();
        for _ in 0..300 {
            self.round();
        }
        let generation = self.bench.metadata().generation;
        for _ in 0..60 {
            self.round();
            let inside = |number: &usize| matches!(self.clients[*number].phase, Phase::In(_));
            assert!(self.present.iter().all(inside), "{:?}", self.clients);
            assert_eq!(self.bench.state(), GroupState::Stable);
            assert_eq!(
                self.bench.metadata().generation,
                generation,
                "it rebalances for ever"
            );
        }
        let metadata = self.bench.metadata();
        assert_eq!(metadata.members.len(), self.present.len());
        let shares = metadata.members.values().flat_map(|member| {
            let text = String::from_utf8(member.assignment.to_vec()).expect("our own text");
            let (_, share) = text.split_once(':').expect("every member has a share");
            let parts = share.split(',').filter(|part| !part.is_empty());
            parts.map(String::from).collect::<Vec<_>>()
        });
        let mut all: Vec<String> = shares.collect();
        all.sort();
        assert_eq!(
            all,
            ["0", "1", "2", "3"],
            "each partition has exactly one owner"
        );
    }

    fn round(&mut self) {
        for number in self.present.clone() {
            for _ in 0..2 {
                self.act(number);
            }
        }
        self.bench.advance(Duration::from_secs(1));
        self.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_history_keeps_the_promises_and_comes_to_rest(
        ops in proptest::collection::vec(op(), 1..200),
        mut present in proptest::collection::vec(any::<bool>(), CLIENTS),
        somebody in 0..CLIENTS,
    ) {
        let mut world = World::new();
        for op in ops {
            world.apply(op);
        }
        present[somebody] = true;
        world.heal(&present);
    }
}
