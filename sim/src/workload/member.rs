//! A member of a group that speaks the classic protocol itself.
//!
//! It joins, reads what it is assigned from where the group left off, commits, and after a commit
//! may leave, vanish, or sit still past its session and then go on with the id and generation it
//! had: what it then commits has to be refused.

use std::time::Duration;

use klamm::types::Instant;
use klamm::wire::Str;
use klamm::wire::message::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use klamm::wire::message::sync_group::{SyncGroupRequest, SyncGroupResponse};
use klamm_jepsen::embedded;
use klamm_jepsen::history::{Answer, Call, Committed, Join, Membership, Note, Partition, Position};

use super::errors::error_name;
use super::fetching::{FetchOptions, Fetching};
use super::line::Line;
use super::{Client, groups, offsets, reader};
use crate::plan::Role;

const PROTOCOL: Str = Str::from_static("sim");

/// Not an error of the protocol: the first half of a join worked, so that it had an effect.
const JOINED_ONLY: &str = "JOINED_ONLY";

struct Settings {
    group: String,
    topics: Vec<String>,
    instance: Option<String>,
    session_timeout_ms: i32,
    rebalance_timeout_ms: i32,
    commit_ms: u64,
    leave_percent: u8,
    vanish_percent: u8,
    freeze_percent: u8,
}

struct Member {
    client: Client,
    settings: Settings,
    line: Line,
    /// Empty for none.
    member_id: String,
    generation: i32,
    fetching: Fetching,
    /// What it was assigned and does not read yet, since it is not known from where.
    waiting: Vec<Partition>,
    commits: u64,
}

/// Why a stay in a generation ended.
enum Left {
    /// Join again, with the id it has, if any.
    Rejoin,
    /// Come back after a while.
    Pause(Duration),
    Stop,
}

pub(super) async fn run(mut client: Client) {
    let Some(settings) = settings(&client) else {
        return;
    };
    let line = client.line();
    let options = FetchOptions {
        max_bytes: 1 << 20,
        partition_max_bytes: 64 << 10,
        session: client.rng.below(2) == 0,
        committed: false,
    };
    let member = Member {
        client,
        settings,
        line,
        member_id: String::new(),
        generation: -1,
        fetching: Fetching::new(options),
        waiting: Vec::new(),
        commits: 0,
    };
    member.run().await;
}

fn settings(client: &Client) -> Option<Settings> {
    let Role::Member {
        group,
        topics,
        instance,
        session_timeout_ms,
        rebalance_timeout_ms,
        commit_ms,
        leave_percent,
        vanish_percent,
        freeze_percent,
        ..
    } = client.plan.role.clone()
    else {
        return None;
    };
    Some(Settings {
        group,
        topics,
        instance,
        session_timeout_ms,
        rebalance_timeout_ms,
        commit_ms,
        leave_percent,
        vanish_percent,
        freeze_percent,
    })
}

impl Member {
    async fn run(mut self) {
        while !self.client.stop.is_set() {
            if self.join().await.is_err() {
                self.line.wait_a_little().await;
                continue;
            }
            match self.stay().await {
                Left::Rejoin => self.client.pause(50).await,
                Left::Pause(span) => self.client.rest(span).await,
                Left::Stop => break,
            }
        }
        if !self.member_id.is_empty() && !self.leave().await {
            self.note_gone();
        }
    }

    fn membership(&self) -> Membership {
        Membership {
            group: self.settings.group.clone(),
            member: self.member_id.clone(),
            generation: self.generation,
            instance: self.settings.instance.clone(),
        }
    }

    fn session(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.settings.session_timeout_ms).unwrap_or(6000))
    }

    fn note_gone(&self) {
        self.line.recorder().note(self.line.process(), Note::Gone);
    }

    /// Takes in an error of the group: whom it says not to be known needs a new id.
    fn take_in(&mut self, error: &str) -> bool {
        if matches!(error, "UNKNOWN_MEMBER_ID" | "FENCED_INSTANCE_ID") {
            self.member_id.clear();
        }
        matches!(
            error,
            "UNKNOWN_MEMBER_ID"
                | "FENCED_INSTANCE_ID"
                | "ILLEGAL_GENERATION"
                | "REBALANCE_IN_PROGRESS"
        )
    }

    /// How long JoinGroup and SyncGroup may wait for the others.
    fn join_within(&self) -> Duration {
        let rebalance = u64::try_from(self.settings.rebalance_timeout_ms).unwrap_or(0);
        let rebalance = Duration::from_millis(rebalance + 3000);
        rebalance.max(self.line.call_timeout())
    }

    /// JoinGroup and SyncGroup.
    async fn join(&mut self) -> Result<(), String> {
        self.line.coordinator(&self.settings.group).await?;
        let op = self.line.invoke(Call::Join(Join {
            group: self.settings.group.clone(),
            member: self.member_id.clone(),
            instance: self.settings.instance.clone(),
            topics: self.settings.topics.clone(),
            session_timeout_ms: self.settings.session_timeout_ms,
            rebalance_timeout_ms: self.settings.rebalance_timeout_ms,
        }));
        let joined = match self.enter().await {
            Ok(joined) => joined,
            Err(error) => {
                self.take_in(&error);
                return Err(self.line.refused(op, error));
            }
        };
        self.member_id = joined.member_id.as_str().to_owned();
        self.generation = joined.generation_id;
        let leads = joined.leader == joined.member_id;
        match self.synchronize(&joined, leads).await {
            Ok(answer) => {
                let assigned = embedded::read_assignment(&answer.assignment);
                self.line.ok(
                    op,
                    Answer::Join {
                        member: self.member_id.clone(),
                        generation: self.generation,
                        leader: leads,
                        assigned: assigned.clone(),
                    },
                );
                self.fetching.assign(&[]);
                self.waiting = assigned;
                Ok(())
            }
            Err(error) => {
                self.take_in(&error);
                self.line.not_ok(op, &[JOINED_ONLY, &error]);
                Err(error)
            }
        }
    }

    /// JoinGroup, twice where the first only gives out an id.
    async fn enter(&mut self) -> Result<JoinGroupResponse, String> {
        let floor = groups::static_floor(self.settings.instance.as_ref(), 5);
        let within = self.join_within();
        for _ in 0..2 {
            let request = JoinGroupRequest {
                group_id: self.settings.group.as_str().into(),
                session_timeout_ms: self.settings.session_timeout_ms,
                rebalance_timeout_ms: self.settings.rebalance_timeout_ms,
                member_id: self.member_id.as_str().into(),
                group_instance_id: self.settings.instance.as_deref().map(Str::from),
                protocol_type: Str::from_static("consumer"),
                protocols: vec![JoinGroupRequestProtocol {
                    name: PROTOCOL,
                    metadata: embedded::write_subscription(&self.settings.topics),
                    ..Default::default()
                }],
                ..Default::default()
            };
            let answer = self.line.call_within(request, floor, within).await?;
            match error_name(answer.error_code) {
                None => return Ok(answer),
                Some(error) if error == "MEMBER_ID_REQUIRED" => {
                    self.member_id = answer.member_id.as_str().to_owned();
                }
                Some(error) => return Err(error),
            }
        }
        Err("MEMBER_ID_REQUIRED".to_owned())
    }

    async fn synchronize(
        &mut self,
        joined: &JoinGroupResponse,
        leads: bool,
    ) -> Result<SyncGroupResponse, String> {
        let counts = self.client.topics.iter();
        let counts = counts.map(|(topic, count)| (topic.as_str(), *count));
        let assignments = match leads && !joined.skip_assignment {
            true => embedded::share_out(&joined.members, counts),
            false => Vec::new(),
        };
        let request = SyncGroupRequest {
            group_id: self.settings.group.as_str().into(),
            generation_id: self.generation,
            member_id: self.member_id.as_str().into(),
            group_instance_id: self.settings.instance.as_deref().map(Str::from),
            protocol_type: Some(Str::from_static("consumer")),
            protocol_name: Some(PROTOCOL),
            assignments,
            ..Default::default()
        };
        let floor = groups::static_floor(self.settings.instance.as_ref(), 3);
        let within = self.join_within();
        let answer = self.line.call_within(request, floor, within).await?;
        match error_name(answer.error_code) {
            None => Ok(answer),
            Some(error) => Err(error),
        }
    }

    /// Reads what was assigned from where the group left off, once that is known.
    async fn begin(&mut self) {
        let assigned = self.waiting.clone();
        match self.positions(&assigned).await {
            Ok(positions) => {
                offsets::assign(&self.line, positions.clone());
                self.fetching.assign(&positions);
                self.waiting.clear();
            }
            Err(_) => self.line.wait_a_little().await,
        }
    }

    async fn positions(&mut self, assigned: &[Partition]) -> Result<Vec<Position>, String> {
        let group = self.settings.group.clone();
        let found = groups::fetch_committed(&mut self.line, &group, assigned).await?;
        let (known, unknown): (Vec<_>, Vec<_>) = found.into_iter().partition(|c| c.offset >= 0);
        let unknown: Vec<Partition> = unknown.into_iter().map(|c| c.of).collect();
        let mut positions = offsets::starts(&mut self.line, &unknown).await?;
        let known = known.into_iter();
        positions.extend(known.map(|Committed { of, offset, .. }| Position { of, offset }));
        Ok(positions)
    }

    /// What a member does until the next rebalance, or its own end.
    async fn stay(&mut self) -> Left {
        let every = self.session() / 3;
        let commit_every = Duration::from_millis(self.settings.commit_ms.max(20));
        let mut heartbeat_at = self.client.env.now().plus(every);
        let mut commit_at = self.client.env.now().plus(commit_every);
        while !self.client.stop.is_set() {
            if self.client.env.now() >= heartbeat_at {
                heartbeat_at = self.client.env.now().plus(every);
                let by = self.membership();
                if let Err(error) = groups::heartbeat(&mut self.line, &by).await {
                    if error == "REBALANCE_IN_PROGRESS" {
                        // As clients do before they give up what they had.
                        let _ = self.commit().await;
                    }
                    if self.take_in(&error) {
                        return Left::Rejoin;
                    }
                }
            }
            if self.waiting.is_empty() {
                self.read(heartbeat_at.min(commit_at)).await;
            } else {
                self.begin().await;
            }
            if self.client.env.now() >= commit_at {
                commit_at = self.client.env.now().plus(commit_every);
                if let Err(error) = self.commit().await
                    && self.take_in(&error)
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

    /// Reads what it has, or waits, up to `until` or thereabouts.
    async fn read(&mut self, until: Instant) {
        let left = until.since(self.client.env.now());
        let wait = left.min(Duration::from_millis(300));
        if self.fetching.is_empty() {
            let wait = wait.max(Duration::from_millis(5));
            return self.client.rest(wait).await;
        }
        let wait = i32::try_from(wait.as_millis()).unwrap_or(0);
        match self.fetching.fetch(&mut self.line, wait).await {
            Ok(fetched) => {
                if reader::recover(&mut self.line, &mut self.fetching, &fetched).await {
                    self.line.wait_a_little().await;
                }
            }
            Err(_) => self.line.wait_a_little().await,
        }
    }

    async fn commit(&mut self) -> Result<(), String> {
        if self.fetching.is_empty() {
            return Ok(());
        }
        self.commits += 1;
        let metadata = format!("{}:{}", self.line.process(), self.commits);
        let positions = self.fetching.positions().into_iter();
        let offsets: Vec<Committed> = positions
            .map(|Position { of, offset }| Committed {
                of,
                offset,
                metadata: metadata.clone(),
            })
            .collect();
        let by = self.membership();
        let refused = groups::commit(&mut self.line, &by, &offsets).await?;
        match refused.into_iter().next() {
            None => Ok(()),
            Some((_, error)) => Err(error),
        }
    }

    /// Whether it leaves, vanishes or freezes now.
    async fn draw_end(&mut self) -> Option<Left> {
        if self.client.percent(self.settings.leave_percent) {
            if !self.leave().await {
                self.note_gone();
            }
            return Some(Left::Pause(self.draw_absence()));
        }
        if self.client.percent(self.settings.vanish_percent) {
            self.note_gone();
            self.line.close();
            self.member_id.clear();
            return Some(Left::Pause(self.draw_absence()));
        }
        if self.client.percent(self.settings.freeze_percent) {
            return self.freeze().await;
        }
        None
    }

    fn draw_absence(&mut self) -> Duration {
        let session = u64::try_from(self.session().as_millis()).unwrap_or(0);
        Duration::from_millis(self.client.rng.below(session * 2))
    }

    /// Whether the group knows that it left. It has no id afterwards.
    async fn leave(&mut self) -> bool {
        let by = self.membership();
        let left = groups::leave(&mut self.line, &by).await.is_ok();
        self.member_id.clear();
        left
    }

    /// Nothing is said for longer than the session; then all goes on as if nothing had been.
    async fn freeze(&mut self) -> Option<Left> {
        let more = u64::try_from(self.session().as_millis()).unwrap_or(0);
        let more = Duration::from_millis(200 + self.client.rng.below(more));
        self.client.rest(self.session() + more).await;
        let committed = self.commit().await;
        let by = self.membership();
        let beaten = groups::heartbeat(&mut self.line, &by).await;
        let errors = [committed.err(), beaten.err()].into_iter().flatten();
        let mut left = None;
        for error in errors {
            if self.take_in(&error) {
                left = Some(Left::Rejoin);
            }
        }
        left
    }
}
