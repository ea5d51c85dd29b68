//! The phases after the faults: progress, final reads, and what is left on the disks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use klamm::types::Instant;
use klamm_jepsen::history::{Note, Partition, Phase};

use super::server::End;
use super::{Stage, phase, white_box};
use crate::audit::{self, Finding, Mode, Replica};
use crate::workload::Topics;
use crate::workload::finals::Lack;

/// Within this a replica that lacks something copies a part of it.
const COPYING: Duration = Duration::from_secs(10);
/// Longest that is waited for replicas that copy, beyond the plan's bound.
const COPYING_MAX: Duration = Duration::from_secs(300);
const IDLE: Duration = Duration::from_secs(3);
/// Most polls of tasks in an idle second. Timers of retention, cleaners and idle connections are a
/// few dozen.
const IDLE_POLLS_MAX: u64 = 2000;
/// The same of a node among others: followers ask leaders, and voters their leader.
const IDLE_POLLS_OF_MANY_MAX: u64 = 6000;

impl Stage {
    /// Everything works again, within the plan's bound.
    pub(super) async fn liveness(&mut self) {
        let within = Duration::from_millis(self.plan.liveness_ms);
        let mut deadline = self.observer.now().plus(within);
        while !self.cluster.is_serving() && self.observer.now() < deadline {
            self.observer.sleep(Duration::from_millis(100)).await;
            self.leave_out_the_damaged().await;
        }
        let down = self.cluster.servers().iter();
        for server in down.filter(|server| !server.is_serving() && !server.is_parked()) {
            let why = server.refusal();
            let why = why.unwrap_or_else(|| "it is neither up nor refusing".to_owned());
            server.broken("V1", &format!("the broker does not start: {why}"));
        }
        if !self.cluster.is_serving() {
            return;
        }
        if self.plan.is_cluster() {
            // Whoever was cut off until now would tell of what was whole before.
            while self.cluster.watch().images_differ().is_some() && self.observer.now() < deadline {
                self.observer.sleep(Duration::from_millis(100)).await;
            }
            let lacking = self.wait_until_whole(deadline).await;
            // Who waited for copies has as long again for the rest.
            deadline = deadline.max(self.observer.now().plus(within / 2));
            for (of, what) in lacking {
                if self.is_spoilt(&of) {
                    self.leave_out(of);
                    continue;
                }
                let property = if what.is_led { "V3" } else { "V1" };
                let detail = format!("{}-{} {}", of.topic, of.partition, what.detail);
                self.cluster.first().broken(property, &detail);
            }
        }
        let left = deadline.since(self.observer.now());
        self.newcomers(left).await;
        let left = deadline.since(self.observer.now());
        let mut finals = self.finals(left);
        let mut topics = finals.topics().await;
        if !self.plan.links.is_empty() {
            let read_only = self.read_only().await;
            topics.retain(|topic, _| !read_only.contains(topic));
        }
        let refused = finals.send_everywhere(&topics).await;
        // Followers that lagged too far are out of sync again, and copy.
        let lacks_copies = |error: &str| error.starts_with("NOT_ENOUGH_REPLICAS");
        let (late, mut refused): (Vec<_>, Vec<_>) = refused
            .into_iter()
            .partition(|(_, error)| lacks_copies(error));
        if !late.is_empty() {
            let late: BTreeSet<&str> = late.iter().map(|(of, _)| of.topic.as_str()).collect();
            topics.retain(|topic, _| late.contains(topic.as_str()));
            self.wait_until_whole(self.observer.now()).await;
            refused.extend(self.finals(within / 2).send_everywhere(&topics).await);
        }
        for (of, error) in refused {
            let (topic, partition) = (of.topic, of.partition);
            let detail = format!("{topic}-{partition} takes no write: {error}");
            self.cluster.first().broken("V2", &detail);
        }
        let groups = self.groups_of(|_| true);
        for (group, state) in finals.wait_until_stable(&groups).await {
            let detail = format!("group {group} stays {state}");
            self.cluster.first().broken("V4", &detail);
        }
    }

    /// What partitions lack by `deadline`, or when nothing more is copied. A node that was wiped
    /// copies everything anew, thousands of small segments on a slow disk: that takes as long as it
    /// takes.
    async fn wait_until_whole(&self, deadline: Instant) -> Vec<(Partition, Lack)> {
        let missing = self.cluster.servers().iter();
        let missing = missing.filter(|server| server.is_parked()).count();
        let last = deadline.plus(COPYING_MAX);
        let mut within = deadline.since(self.observer.now());
        let mut copied: Option<Vec<i64>> = None;
        loop {
            let mut finals = self.finals(within);
            let lacking = finals
                .wait_until_whole(missing, |of| self.is_spoilt(of))
                .await;
            let watch = self.cluster.watch();
            let now = lacking.iter().map(|(of, _)| watch.copied(of)).collect();
            let is_stuck = copied.as_ref().is_some_and(|before| *before == now);
            if lacking.is_empty() || is_stuck || self.observer.now() >= last {
                return lacking;
            }
            copied = Some(now);
            within = COPYING;
        }
    }

    /// A node among others may refuse to start on a disk that was damaged: the others have what it
    /// had, and go on without it.
    async fn leave_out_the_damaged(&self) {
        if !self.plan.is_cluster() {
            return;
        }
        for server in self.cluster.servers() {
            let is_damaged = !server.node().disk().damaged().is_empty();
            if is_damaged && server.refusal().is_some() && !server.is_parked() {
                server.park(End::Kill).await;
            }
        }
    }

    /// Whether all that the controller may elect for a partition was damaged on purpose: others
    /// that might have it whole lost power, and nobody knows. What it held may stay out of reach.
    fn is_spoilt(&self, of: &Partition) -> bool {
        let counted_on = self.cluster.watch().counted_on(of);
        let is_damaged = |name: &String| {
            let mut servers = self.cluster.servers().iter();
            let server = servers.find(|server| server.name() == name);
            server.is_some_and(|server| server.has_damaged(of))
        };
        !counted_on.is_empty() && counted_on.iter().all(is_damaged)
    }

    /// Nothing more is asked of a partition, and nothing of it is judged.
    fn leave_out(&self, of: Partition) {
        let note = Note::Damaged { of: of.clone() };
        self.recorder.note("run", note);
        let mut spoilt = self.spoilt.lock().unwrap_or_else(PoisonError::into_inner);
        spoilt.insert(of);
    }

    /// Reads everything.
    pub(super) async fn read_finally(&self) {
        self.recorder.note("run", phase(Phase::Final));
        if self.cluster.is_serving() {
            self.read_all().await;
            if self.is_linked {
                self.describe_finally().await;
            }
        }
    }

    /// Looks at what is left when nobody asks for anything, and once the nodes have stopped.
    pub(super) async fn finale(&self) {
        let mode = match self.cluster.is_serving() {
            true => Mode::Stopped,
            // One refuses to start: its disk is as the last process left it.
            false => Mode::Crashed,
        };
        if self.cluster.is_serving() {
            self.idle().await;
            self.cluster.stop(&self.observer).await;
        }
        for server in self.cluster.servers() {
            // One that was left out did not stop in order with the others.
            match server.is_parked() {
                true => server.audit(Mode::Crashed),
                false => server.audit(mode),
            }
        }
        self.compare(mode);
    }

    async fn read_all(&self) {
        let mut finals = self.finals(Duration::from_millis(self.plan.liveness_ms));
        let topics = finals.topics().await;
        let undone = finals.read_to_end(&topics).await;
        // A deletion whose end nobody learnt of may have its effect only now.
        let topics: Topics = finals.topics().await;
        for (of, error) in undone {
            let (topic, partition) = (of.topic, of.partition);
            if !topics.contains_key(&topic) {
                continue;
            }
            let detail = format!("{topic}-{partition} cannot be read to its end: {error}");
            self.cluster.first().broken("V4", &detail);
        }
        for (group, error) in finals
            .fetch_committed_all(&self.groups_of(|_| true), &topics)
            .await
        {
            let detail = format!("the offsets of group {group} cannot be fetched: {error}");
            self.cluster.first().broken("V4", &detail);
        }
    }

    /// Compares the disks with what clients were told, and with each other.
    fn compare(&self, mode: Mode) {
        let events = self.recorder.own_events();
        let replicas = self.cluster.servers().iter().map(|server| {
            let disk = server.node().disk();
            Replica {
                node: server.name().to_owned(),
                files: disk.files(),
                damaged: disk.damaged(),
            }
        });
        let replicas: Vec<Replica> = replicas.collect();
        let sound = |replica: &&Replica| replica.damaged.is_empty() && mode == Mode::Stopped;
        for replica in replicas.iter().filter(sound) {
            let mut told = white_box::records(&events, &replica.files);
            if !self.plan.is_cluster() {
                told.extend(white_box::offsets(&events, &replica.files));
            }
            self.cluster.first().add_findings(told);
        }
        if !self.plan.is_cluster() {
            return;
        }
        let watch = self.cluster.watch();
        let is_parked = |node: &str| {
            let mut servers = self.cluster.servers().iter();
            servers.any(|server| server.name() == node && server.is_parked())
        };
        let settled = |node: &str, of: &Partition| match mode {
            // It did not live to cut off what the others do not have.
            Mode::Stopped if is_parked(node) => watch.last_told(node, of).or(Some(0)),
            Mode::Stopped => None,
            Mode::Crashed => watch.high_watermark(of).or(Some(0)),
        };
        let found = audit::compare_replicas(&replicas, &settled);
        self.cluster.first().add_findings(found);
        let found = watch.judge_acknowledgements(&events);
        let found = found.into_iter().map(|(of, (property, detail))| Finding {
            property,
            partition: Some(of),
            detail,
        });
        self.cluster.first().add_findings(found.collect());
    }

    /// V8: a broker nobody talks to does next to nothing. V7: all stand at the same metadata.
    async fn idle(&self) {
        self.observer.sleep(IDLE).await;
        let servers = self.cluster.servers();
        let before: Vec<u64> = servers.iter().map(|server| server.node().polls()).collect();
        self.observer.sleep(IDLE).await;
        let seconds = IDLE.as_secs();
        let most = match self.plan.is_cluster() {
            true => IDLE_POLLS_OF_MANY_MAX,
            false => IDLE_POLLS_MAX,
        };
        for (server, before) in servers.iter().zip(before) {
            let polls = server.node().polls() - before;
            if polls > most * seconds {
                let detail = format!("{polls} polls in {seconds} idle seconds");
                server.broken("V8", &detail);
            }
        }
        if let Some(detail) = self.cluster.watch().images_differ() {
            self.cluster.first().broken("V7", &detail);
        }
    }

    /// All that was found on disks.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let servers = self.cluster.servers().iter();
        servers.flat_map(super::Server::take_findings).collect()
    }

    /// How often each fault took effect on its nodes.
    pub(super) fn faults(&self) -> BTreeMap<String, u64> {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let mut faults = done.clone();
        let servers = self.cluster.servers();
        let of_disks = servers
            .iter()
            .flat_map(|server| server.node().disk().counts());
        for (kind, count) in of_disks {
            *faults.entry(kind.to_owned()).or_default() += count;
        }
        let starts = servers.iter().map(super::Server::starts).sum();
        faults.insert("start".to_owned(), starts);
        faults
    }
}
