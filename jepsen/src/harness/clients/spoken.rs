//! A member of a group that speaks the classic protocol itself, one request an operation: the
//! history then has its joins, heartbeats and commits as they were asked and answered, each sent
//! once, and the checkers of groups judge them all.
//!
//! It commits numbers that only grow; it reads nothing. After a commit it may leave, vanish, or be
//! silent past its session and then go on with the id and generation it had. After a rebalance, and
//! after it left, it may say once more what it would have said before: requests that come late.

use std::time::{Duration, Instant};

use klamm::env::Rng;
use klamm::wire::Str;
use klamm::wire::message::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use klamm::wire::message::sync_group::{SyncGroupRequest, SyncGroupResponse};

use super::Shared;
use super::way::{Way, check};
use crate::embedded;
use crate::history::{Answer, Call, Committed, Join, Membership, Note, Partition};

const PROTOCOL: Str = Str::from_static("spoken");
const TYPE: Str = Str::from_static("consumer");

/// Not an error of the protocol: the first half of a join worked, so that it had an effect.
const JOINED_ONLY: &str = "JOINED_ONLY";

/// How long a member may be silent.
pub const SESSION: Duration = Duration::from_secs(3);
const SESSION_MS: i32 = 3000;
const REBALANCE_MS: i32 = 4000;
const HEARTBEAT_EVERY: Duration = Duration::from_millis(400);
const COMMIT_EVERY: Duration = Duration::from_millis(100);
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
    /// Longer than it is never away after it left or vanished.
    pub absence: Duration,
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

/// Waits until a group of which nobody lives any more has no members, for `within` at most. Whether
/// that came about.
pub async fn is_left(shared: &Shared, name: &str, group: &str, within: Duration) -> bool {
    let mut way = Way::new(shared, name, group);
    let began = Instant::now();
    while began.elapsed() < within {
        match way.describe().await {
            Ok(state) if ["Empty", "Dead"].contains(&state.as_str()) => return true,
            Err("GROUP_ID_NOT_FOUND") => return true,
            _ => tokio::time::sleep(Duration::from_millis(250)).await,
        }
    }
    false
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
        // Some are gone without a word: their sessions have to end.
        let is_quiet = self.rng.below(2) == 0;
        if !self.member.is_empty() && (is_quiet || self.leave().await.is_err()) {
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
        let most = u64::try_from(self.how.absence.as_millis()).unwrap_or(0);
        let absence = Duration::from_millis(self.rng.below(most.max(1)));
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
        self.rest(SESSION + more).await;
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
