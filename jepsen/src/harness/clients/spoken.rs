//! A member of a group that speaks the classic protocol itself, one request an operation: the
//! history then has its joins, heartbeats and commits as they were asked and answered, each sent
//! once, and the checkers of groups judge them all.
//!
//! It commits numbers that only grow; it reads nothing. After a commit it may leave, vanish, or be
//! silent past its session and then go on with the id and generation it had. After a rebalance, and
//! after it left, it may say once more what it would have said before: requests that come late.

use std::time::{Duration, Instant};

use klamm::client::{ClientError, Cluster, Connection, Lane};
use klamm::env::Rng;
use klamm::types::ErrorCode;
use klamm::wire::api::ApiRequest;
use klamm::wire::message::describe_groups::DescribeGroupsRequest;
use klamm::wire::message::heartbeat::HeartbeatRequest;
use klamm::wire::message::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use klamm::wire::message::leave_group::{LeaveGroupRequest, MemberIdentity};
use klamm::wire::message::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use klamm::wire::message::sync_group::{SyncGroupRequest, SyncGroupResponse};
use klamm::wire::{Request, Str};

use super::{NOT_SENT, Shared, TIMEOUT};
use crate::embedded;
use crate::harness::content;
use crate::history::{Answer, Call, Committed, Join, Membership, Note, Partition};

const PROTOCOL: Str = Str::from_static("spoken");
const TYPE: Str = Str::from_static("consumer");

/// Not an error of the protocol: the first half of a join worked, so that it had an effect.
const JOINED_ONLY: &str = "JOINED_ONLY";
/// The last version of OffsetCommit that names topics by name.
const COMMIT_BY_NAME: i16 = 9;

const SESSION_MS: i32 = 3000;
const REBALANCE_MS: i32 = 4000;
const HEARTBEAT_EVERY: Duration = Duration::from_millis(400);
const COMMIT_EVERY: Duration = Duration::from_millis(100);
const CALL_LIMIT: Duration = Duration::from_secs(3);
const JOIN_LIMIT: Duration = Duration::from_secs(8);

/// A member, and how roughly it lives.
#[derive(Debug, Clone)]
pub struct Spoken {
    pub group: String,
    pub instance: Option<String>,
    /// Of a thousand commits, how many are followed by a leave, a crash, a long silence.
    pub leave: u64,
    pub vanish: u64,
    pub freeze: u64,
}

/// A way to the coordinator of one group.
struct Way {
    shared: Shared,
    name: String,
    group: String,
    cluster: Cluster,
    connection: Option<Connection>,
}

impl Way {
    fn new(shared: &Shared, name: &str, group: &str) -> Self {
        Self {
            cluster: cluster(shared, name),
            shared: shared.clone(),
            name: name.to_owned(),
            group: group.to_owned(),
            connection: None,
        }
    }

    /// Hangs up on everybody and forgets what it knew.
    fn begin_anew(&mut self) {
        self.cluster = cluster(&self.shared, &self.name);
        self.connection = None;
    }

    /// Finds the coordinator and connects to it: nothing of the history.
    async fn reach(&mut self) -> Result<(), &'static str> {
        let asked = async {
            let coordinator = self.cluster.coordinator(&self.group).await?;
            self.cluster.connection(coordinator, Lane::Group).await
        };
        match tokio::time::timeout(CALL_LIMIT, asked).await {
            Ok(Ok(connection)) => {
                self.connection = Some(connection);
                Ok(())
            }
            _ => {
                self.cluster.forget_coordinator(&self.group);
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(NOT_SENT)
            }
        }
    }

    /// One request to whom [`Way::reach`] found, sent once, or the name of what went wrong.
    async fn ask<R>(&mut self, request: R, within: Duration) -> Result<R::Response, &'static str>
    where
        R: ApiRequest + Into<Request>,
    {
        let Some(connection) = &self.connection else {
            return Err(NOT_SENT);
        };
        let answer = connection.call_capped(request, i16::MAX, within).await;
        answer.map_err(|error| self.failed(&error))
    }

    fn failed(&mut self, error: &ClientError) -> &'static str {
        self.cluster.forget_coordinator(&self.group);
        match error {
            ClientError::UnsupportedVersion { .. } | ClientError::Encode(_) => NOT_SENT,
            _ => TIMEOUT,
        }
    }

    fn invoke(&self, call: Call) -> u64 {
        self.shared.recorder.invoke(&self.name, call)
    }

    fn ok(&self, op: u64, answer: Answer) {
        self.shared.recorder.ok(&self.name, op, answer);
    }

    /// The operation ended with `error`, which is given back.
    fn refused(&mut self, op: u64, error: &'static str) -> &'static str {
        if matches!(error, "NOT_COORDINATOR" | "COORDINATOR_NOT_AVAILABLE") {
            self.cluster.forget_coordinator(&self.group);
        }
        self.shared.recorder.not_ok(&self.name, op, false, &[error]);
        error
    }

    async fn heartbeat(&mut self, by: &Membership) -> Result<(), &'static str> {
        self.reach().await?;
        let request = HeartbeatRequest {
            group_id: by.group.as_str().into(),
            generation_id: by.generation,
            member_id: by.member.as_str().into(),
            group_instance_id: instance(by),
            ..Default::default()
        };
        let op = self.invoke(Call::Heartbeat(by.clone()));
        let answer = self.ask(request, CALL_LIMIT).await;
        match answer.and_then(|answer| check(answer.error_code)) {
            Ok(()) => {
                self.ok(op, Answer::Heartbeat);
                Ok(())
            }
            Err(error) => Err(self.refused(op, error)),
        }
    }

    async fn leave(&mut self, by: &Membership) -> Result<(), &'static str> {
        self.reach().await?;
        let request = LeaveGroupRequest {
            group_id: by.group.as_str().into(),
            member_id: by.member.as_str().into(),
            members: vec![MemberIdentity {
                member_id: by.member.as_str().into(),
                group_instance_id: instance(by),
                ..Default::default()
            }],
            ..Default::default()
        };
        let op = self.invoke(Call::Leave(by.clone()));
        let answer = self.ask(request, CALL_LIMIT).await;
        let checked = answer.and_then(|answer| {
            let single = answer.members.first().map_or(0, |member| member.error_code);
            check(answer.error_code).and_then(|()| check(single))
        });
        match checked {
            Ok(()) => {
                self.ok(op, Answer::Leave);
                Ok(())
            }
            Err(error) => Err(self.refused(op, error)),
        }
    }

    async fn commit(
        &mut self,
        by: &Membership,
        offsets: Vec<Committed>,
    ) -> Result<(), &'static str> {
        self.reach().await?;
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for one in &offsets {
            if topics.last().is_none_or(|last| *last.name != *one.of.topic) {
                topics.push(OffsetCommitRequestTopic {
                    name: one.of.topic.as_str().into(),
                    ..Default::default()
                });
            }
            let partition = OffsetCommitRequestPartition {
                partition_index: one.of.partition,
                committed_offset: one.offset,
                committed_metadata: Some(one.metadata.as_str().into()),
                ..Default::default()
            };
            if let Some(last) = topics.last_mut() {
                last.partitions.push(partition);
            }
        }
        let request = OffsetCommitRequest {
            group_id: by.group.as_str().into(),
            generation_id_or_member_epoch: by.generation,
            member_id: by.member.as_str().into(),
            group_instance_id: instance(by),
            topics,
            ..Default::default()
        };
        let (by, asked) = (by.clone(), offsets.len());
        let connection = self.connection.clone().ok_or(NOT_SENT)?;
        let op = self.invoke(Call::Commit { by, offsets });
        let answer = connection
            .call_capped(request, COMMIT_BY_NAME, CALL_LIMIT)
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let error = self.failed(&error);
                return Err(self.refused(op, error));
            }
        };
        let mut refused = Vec::new();
        for topic in &answer.topics {
            for found in &topic.partitions {
                if let Err(error) = check(found.error_code) {
                    let of = content::partition(&topic.name, found.partition_index);
                    refused.push((of, error));
                }
            }
        }
        match refused.first().map(|(_, error)| *error) {
            // One error for all is one for the request.
            Some(first)
                if refused.len() == asked && refused.iter().all(|(_, error)| *error == first) =>
            {
                Err(self.refused(op, first))
            }
            first => {
                let refused = refused.into_iter();
                let refused = refused.map(|(of, error)| (of, error.to_owned())).collect();
                self.ok(op, Answer::Commit { refused });
                first.map_or(Ok(()), Err)
            }
        }
    }

    async fn describe(&mut self) -> Result<(), &'static str> {
        self.reach().await?;
        let group = self.group.clone();
        let request = DescribeGroupsRequest {
            groups: vec![group.as_str().into()],
            ..Default::default()
        };
        let op = self.invoke(Call::DescribeGroup { group });
        let found = match self.ask(request, CALL_LIMIT).await {
            Ok(answer) => answer.groups.into_iter().next().ok_or(TIMEOUT),
            Err(error) => Err(error),
        };
        match found.and_then(|found| check(found.error_code).map(|()| found)) {
            Ok(found) => {
                let members = found.members.iter().map(|member| {
                    let assigned = embedded::read_assignment(&member.member_assignment);
                    (member.member_id.as_str().to_owned(), assigned)
                });
                let answer = Answer::DescribeGroup {
                    state: found.group_state.as_str().to_owned(),
                    members: members.collect(),
                };
                self.ok(op, answer);
                Ok(())
            }
            Err(error) => Err(self.refused(op, error)),
        }
    }
}

fn cluster(shared: &Shared, name: &str) -> Cluster {
    let made = Cluster::new(&shared.env, shared.config(name, &[]));
    made.expect("settings that the harness itself wrote")
}

fn instance(by: &Membership) -> Option<Str> {
    by.instance.as_deref().map(Str::from)
}

/// An error by its name in the protocol.
fn check(code: i16) -> Result<(), &'static str> {
    match ErrorCode::from_wire(code) {
        Some(ErrorCode::None) => Ok(()),
        Some(code) => Err(code.name()),
        None => Err("UNKNOWN_SERVER_ERROR"),
    }
}

/// One member.
struct Member {
    way: Way,
    how: Spoken,
    topics: Vec<String>,
    /// Empty for none.
    member: String,
    generation: i32,
    assigned: Vec<Partition>,
    commits: u64,
    rng: Rng,
}

/// Why a stay in a generation ended.
enum Left {
    Rejoin,
    /// Come back after a while.
    Pause(Duration),
    Stop,
}

/// Lives until nothing is in flight any more.
pub async fn speak(shared: Shared, name: String, how: Spoken) {
    let topics = shared.topics.iter().map(|(topic, _)| topic.clone());
    let member = Member {
        way: Way::new(&shared, &name, &how.group),
        topics: topics.collect(),
        member: String::new(),
        generation: -1,
        assigned: Vec::new(),
        commits: 0,
        rng: shared.rng(&name),
        how,
    };
    member.live().await;
}

/// Asks over and over how a group is, until nothing is in flight any more.
pub async fn watch(shared: Shared, name: String, group: String) {
    let mut way = Way::new(&shared, &name, &group);
    while !shared.is_drained() {
        // What failed is in the history.
        let _ = way.describe().await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

impl Member {
    async fn live(mut self) {
        while !self.is_over() {
            let before = self.membership();
            if self.join().await.is_err() {
                self.pause(200).await;
                continue;
            }
            self.say_again(before).await;
            match self.stay().await {
                Left::Rejoin => self.pause(50).await,
                Left::Pause(span) => self.rest(span).await,
                Left::Stop => break,
            }
        }
        if !self.member.is_empty() && self.leave().await.is_err() {
            self.note_gone();
        }
    }

    fn is_over(&self) -> bool {
        self.way.shared.is_drained()
    }

    fn membership(&self) -> Membership {
        Membership {
            group: self.how.group.clone(),
            member: self.member.clone(),
            generation: self.generation,
            instance: self.how.instance.clone(),
        }
    }

    async fn pause(&mut self, at_most_ms: u64) {
        let pause = 10 + self.rng.below(at_most_ms);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    /// Sleeps, unless the run ends.
    async fn rest(&self, span: Duration) {
        let until = Instant::now() + span;
        while Instant::now() < until && !self.is_over() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn note_gone(&self) {
        self.way.shared.recorder.note(&self.way.name, Note::Gone);
    }

    /// Takes in an error of the group. Whether it has to join again.
    fn take_in(&mut self, error: &str) -> bool {
        if matches!(error, "UNKNOWN_MEMBER_ID" | "FENCED_INSTANCE_ID") {
            self.member.clear();
        }
        matches!(
            error,
            "UNKNOWN_MEMBER_ID"
                | "FENCED_INSTANCE_ID"
                | "ILLEGAL_GENERATION"
                | "REBALANCE_IN_PROGRESS"
        )
    }

    /// JoinGroup and SyncGroup.
    async fn join(&mut self) -> Result<(), &'static str> {
        self.way.reach().await?;
        let op = self.way.invoke(Call::Join(Join {
            group: self.how.group.clone(),
            member: self.member.clone(),
            instance: self.how.instance.clone(),
            topics: self.topics.clone(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
        }));
        let joined = match self.enter().await {
            Ok(joined) => joined,
            Err(error) => {
                self.take_in(error);
                return Err(self.way.refused(op, error));
            }
        };
        self.member = joined.member_id.as_str().to_owned();
        self.generation = joined.generation_id;
        let leader = joined.leader == joined.member_id;
        match self.synchronize(&joined, leader).await {
            Ok(answer) => {
                self.assigned = embedded::read_assignment(&answer.assignment);
                self.assigned.sort();
                let answer = Answer::Join {
                    member: self.member.clone(),
                    generation: self.generation,
                    leader,
                    assigned: self.assigned.clone(),
                };
                self.way.ok(op, answer);
                Ok(())
            }
            Err(error) => {
                self.take_in(error);
                let errors = [JOINED_ONLY, error];
                let recorder = &self.way.shared.recorder;
                recorder.not_ok(&self.way.name, op, false, &errors);
                Err(error)
            }
        }
    }

    /// JoinGroup, twice where the first only gives out an id.
    async fn enter(&mut self) -> Result<JoinGroupResponse, &'static str> {
        for _ in 0..2 {
            let request = JoinGroupRequest {
                group_id: self.how.group.as_str().into(),
                session_timeout_ms: SESSION_MS,
                rebalance_timeout_ms: REBALANCE_MS,
                member_id: self.member.as_str().into(),
                group_instance_id: self.how.instance.as_deref().map(Str::from),
                protocol_type: TYPE,
                protocols: vec![JoinGroupRequestProtocol {
                    name: PROTOCOL,
                    metadata: embedded::write_subscription(&self.topics),
                    ..Default::default()
                }],
                ..Default::default()
            };
            let answer = self.way.ask(request, JOIN_LIMIT).await?;
            match check(answer.error_code) {
                Ok(()) => return Ok(answer),
                Err("MEMBER_ID_REQUIRED") => answer.member_id.as_str().clone_into(&mut self.member),
                Err(error) => return Err(error),
            }
        }
        Err("MEMBER_ID_REQUIRED")
    }

    async fn synchronize(
        &mut self,
        joined: &JoinGroupResponse,
        leads: bool,
    ) -> Result<SyncGroupResponse, &'static str> {
        let counts = self.way.shared.topics.iter();
        let counts = counts.map(|(topic, count)| (topic.as_str(), *count));
        let assignments = match leads && !joined.skip_assignment {
            true => embedded::share_out(&joined.members, counts),
            false => Vec::new(),
        };
        let request = SyncGroupRequest {
            group_id: self.how.group.as_str().into(),
            generation_id: self.generation,
            member_id: self.member.as_str().into(),
            group_instance_id: self.how.instance.as_deref().map(Str::from),
            protocol_type: Some(TYPE),
            protocol_name: Some(PROTOCOL),
            assignments,
            ..Default::default()
        };
        if !leads {
            // Before the leader's or after it: both happen.
            self.pause(60).await;
        }
        let answer = self.way.ask(request, JOIN_LIMIT).await?;
        check(answer.error_code).map(|()| answer)
    }

    /// What a member does until the next rebalance, or its own end.
    async fn stay(&mut self) -> Left {
        let mut heartbeat_at = Instant::now() + HEARTBEAT_EVERY;
        let mut commit_at = Instant::now() + COMMIT_EVERY;
        while !self.is_over() {
            let next = heartbeat_at.min(commit_at);
            tokio::time::sleep(next.saturating_duration_since(Instant::now())).await;
            if Instant::now() >= heartbeat_at {
                heartbeat_at = Instant::now() + HEARTBEAT_EVERY;
                let by = self.membership();
                if let Err(error) = self.way.heartbeat(&by).await {
                    if error == "REBALANCE_IN_PROGRESS" {
                        // As clients do before they give up what they had.
                        let _ = self.commit(&by).await;
                    }
                    if self.take_in(error) {
                        return Left::Rejoin;
                    }
                }
            }
            if Instant::now() >= commit_at {
                commit_at = Instant::now() + COMMIT_EVERY;
                let by = self.membership();
                if let Err(error) = self.commit(&by).await
                    && self.take_in(error)
                {
                    return Left::Rejoin;
                }
                if let Some(left) = self.draw_end().await {
                    return left;
                }
            }
        }
        Left::Stop
    }

    /// Commits what is assigned in the name of `by`.
    async fn commit(&mut self, by: &Membership) -> Result<(), &'static str> {
        if self.assigned.is_empty() {
            return Ok(());
        }
        self.commits += 1;
        let metadata = format!("{}:{}", self.way.name, self.commits);
        let each = self.assigned.iter().map(|of| Committed {
            of: of.clone(),
            offset: i64::try_from(self.commits).unwrap_or(0),
            metadata: metadata.clone(),
        });
        let offsets = each.collect();
        self.way.commit(by, offsets).await
    }

    /// Requests of a membership that is over: they must be refused.
    async fn say_again(&mut self, before: Membership) {
        if before.member.is_empty() || before.generation < 0 {
            return;
        }
        // What they are answered changes nothing for the member that it is now.
        match self.rng.below(4) {
            0 => drop(self.commit(&before).await),
            1 => drop(self.way.heartbeat(&before).await),
            _ => {}
        }
    }

    /// Whether it leaves, vanishes or is silent now.
    async fn draw_end(&mut self) -> Option<Left> {
        let drawn = self.rng.below(1000);
        let session = u64::try_from(SESSION_MS).unwrap_or(0);
        let absence = Duration::from_millis(self.rng.below(session * 2));
        let (leave, vanish) = (self.how.leave, self.how.vanish);
        if drawn < leave {
            let before = self.membership();
            match self.leave().await {
                Ok(()) => self.say_again(before).await,
                Err(_) => self.note_gone(),
            }
            return Some(Left::Pause(absence));
        }
        if drawn < leave + vanish {
            self.note_gone();
            self.way.begin_anew();
            self.member.clear();
            return Some(Left::Pause(absence));
        }
        if drawn < leave + vanish + self.how.freeze {
            return self.freeze(absence).await;
        }
        None
    }

    /// It has no id afterwards.
    async fn leave(&mut self) -> Result<(), &'static str> {
        let by = self.membership();
        self.member.clear();
        self.way.leave(&by).await
    }

    /// Nothing is said for longer than the session; then all goes on as if nothing had been.
    async fn freeze(&mut self, more: Duration) -> Option<Left> {
        let session = Duration::from_millis(u64::try_from(SESSION_MS).unwrap_or(0));
        self.rest(session + more).await;
        let by = self.membership();
        let committed = self.commit(&by).await;
        let beaten = self.way.heartbeat(&by).await;
        let mut left = None;
        for error in [committed.err(), beaten.err()].into_iter().flatten() {
            if self.take_in(error) {
                left = Some(Left::Rejoin);
            }
        }
        left
    }
}
