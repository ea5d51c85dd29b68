//! What is known of one partition: R1, R3 to R7, R9, K6.

use std::collections::{BTreeMap, BTreeSet};

use klamm_jepsen::history::LogState;

use super::copies::{Copies, Kind};
use super::standing::Standing;
use super::{Broken, Fields, now};

/// Ids of brokers.
type Ids = BTreeSet<i32>;
/// Names of nodes by id.
type Names = BTreeMap<i32, String>;

#[derive(Debug, Default)]
pub(super) struct Known {
    /// Who led in which epoch.
    leaders: BTreeMap<i32, String>,
    /// Whom the controller elected for which epoch.
    elected: BTreeMap<i32, i32>,
    /// The highest that a leader told, since the last unclean election.
    pub high_watermark: i64,
    /// The highest that a leader told before an unclean election: who has not cut its log back
    /// since may still show that.
    high_watermark_before: i64,
    /// The highest start to which a leader moved its log, since the last unclean election.
    start: i64,
    /// Every time that it rose, in nanoseconds.
    rises: Vec<(u64, i64)>,
    /// As the controller has it.
    isr: Ids,
    elr: Ids,
    leader: Option<i32>,
    epoch: i32,
    /// Of running nodes.
    logs: BTreeMap<String, LogState>,
    /// The last high watermarks of processes that ended.
    told: BTreeMap<String, i64>,
    /// What each node's image holds.
    views: BTreeMap<String, View>,
    /// What each node's replica goes by: it may have much to do before it hears of the image.
    assigned: BTreeMap<String, View>,
    pub copies: Copies,
    pub standing: Standing,
    /// Who held everything when enough were last in sync, and those who came in sync since.
    holders: Ids,
    /// When the life began in which a replica last came in sync, in nanoseconds.
    in_sync_since: BTreeMap<i32, u64>,
    /// When a leader was elected who may lack what was committed, as the record of it says.
    pub unclean_since: Option<u64>,
    /// Where the first record of a mirror is to be, once a replica went by that.
    first: Option<i64>,
    /// From which leader epoch on the records of a promoted mirror are of clients.
    pub own_since: Option<i32>,
}

/// The partition as one node's image has it.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// Since when, in nanoseconds.
    pub since: u64,
    pub isr: Ids,
    pub replicas: Ids,
}

impl View {
    fn of(fields: &Fields) -> Self {
        Self {
            since: now(),
            isr: fields.ids("isr").unwrap_or_default(),
            replicas: fields.ids("replicas").unwrap_or_default(),
        }
    }

    /// Whether fewer replicas are in sync than the high watermark needs to move: `least`, or all
    /// where there are fewer.
    pub fn is_short(&self, least: usize) -> bool {
        !self.isr.is_empty() && self.isr.len() < least.min(self.replicas.len())
    }
}

/// From which epoch on a mirror that is promoted by this is clients'.
fn own_since(cause: &str, fields: &Fields) -> Option<i32> {
    fields
        .small("leader_epoch")
        .filter(|_| cause == "MIRROR_PROMOTED")
}

/// A reassignment that ends before all of its replicas are in sync.
fn ends_early(cause: &str, isr: &Ids, replicas: &Ids) -> Option<Broken> {
    let early = cause == "REASSIGNMENT_COMPLETED" && isr != replicas;
    early.then(|| {
        let detail = format!("a reassignment ends with {isr:?} in sync of {replicas:?}");
        ("R7", detail)
    })
}

/// What is known of brokers, by their ids.
pub(super) struct Brokers<'a> {
    /// Fenced or shutting down.
    pub dead: &'a Ids,
    /// The epoch of the latest registration.
    pub epoch: &'a dyn Fn(i32) -> i64,
    /// When that was made, in nanoseconds.
    pub since: &'a dyn Fn(i32) -> u64,
    /// When the process last ended without an orderly stop, in nanoseconds.
    pub ended: &'a dyn Fn(i32) -> Option<u64>,
}

/// How long after its image a node's logs may go by what was before, in nanoseconds.
const CARRIED_OUT_WITHIN: u64 = 500_000_000;

impl Known {
    /// The node's process ended.
    pub fn forget(&mut self, node: &str) {
        if let Some(log) = self.logs.remove(node) {
            self.told.insert(node.to_owned(), log.high_watermark);
        }
        self.views.remove(node);
        self.assigned.remove(node);
        self.copies.forget(node);
        self.standing.forget(node);
    }

    /// What the node's replica goes by.
    pub fn assigned_to(&self, node: &str) -> Option<&View> {
        self.assigned.get(node)
    }

    /// The highest that a leader ever told.
    pub fn committed_once(&self) -> i64 {
        self.high_watermark.max(self.high_watermark_before)
    }

    /// Whom the controller made the leader, and in which epoch.
    pub fn leader_id(&self) -> Option<i32> {
        self.leader
    }

    pub fn present_epoch(&self) -> i32 {
        self.epoch
    }

    /// Records and gaps in all logs of it.
    pub fn held(&self) -> i64 {
        self.logs.values().map(|log| log.end - log.start).sum()
    }

    /// See [`super::Watch::last_told`].
    pub fn last_told(&self, node: &str) -> Option<i64> {
        self.told.get(node).copied()
    }

    pub fn log_of(&self, node: &str) -> Option<&LogState> {
        self.logs.get(node)
    }

    /// Whether the node is in sync or eligible, as the controller has it.
    pub fn counts(&self, node: &str, names: &Names) -> bool {
        let mut members = self.counted_on().filter_map(|id| names.get(&id));
        members.any(|name| name == node)
    }

    /// Whether the partition has other replicas, as the node's image has it.
    pub fn has_others(&self, node: &str) -> bool {
        let view = self.views.get(node);
        view.is_some_and(|view| view.replicas.len() > 1)
    }

    pub fn leader(&self) -> Option<String> {
        self.leaders.values().next_back().cloned()
    }

    /// In sync or eligible, as the controller has it.
    pub fn counted_on(&self) -> impl Iterator<Item = i32> {
        self.isr.union(&self.elr).copied()
    }

    /// Where a node's log begins, as it told last.
    pub fn start_of(&self, node: &str) -> Option<i64> {
        self.logs.get(node).map(|log| log.start)
    }

    /// `None` before the first was told.
    pub fn high_watermark_at(&self, time: u64) -> Option<i64> {
        let before = self.rises.partition_point(|(at, _)| *at <= time);
        let (_, offset) = self.rises[..before].last()?;
        Some(*offset)
    }

    fn take_back(&mut self, to: i64) {
        self.start = self.start.min(to);
        if to < self.high_watermark {
            self.high_watermark = to;
            self.rises.push((now(), to));
        }
    }

    pub fn on_replica(
        &mut self,
        node: &str,
        fields: &Fields,
        kind: Kind,
        names: &Names,
        registered: impl Fn(i32) -> i64,
    ) -> Vec<Broken> {
        match fields.name() {
            "assigned" => {
                self.assigned.insert(node.to_owned(), View::of(fields));
                self.copies.on_assigned(node, fields);
                self.on_replicas_changed(node, fields, kind, names);
                Vec::new()
            }
            "closed" => {
                self.standing.closed(node);
                Vec::new()
            }
            "compacting" => Vec::from_iter(self.on_compacting(node, fields)),
            "epochs" => {
                self.copies.on_epochs(node, fields);
                Vec::new()
            }
            "counted" => {
                self.standing.on_counted(node, fields);
                self.on_counted(node, fields, kind, names, registered)
            }
            "isr-proposed" => {
                let mut broken = self.copies.on_proposed(node, fields);
                broken.extend(self.on_proposes(node, fields));
                broken
            }
            "leading" => self.on_leading(node, fields),
            "truncated" => {
                let mut broken = self.on_truncated(node, fields, names);
                if let (Some(from), Some(to)) = (fields.number("from"), fields.number("to")) {
                    broken.extend(self.on_cut(node, (from, to), kind, names));
                }
                broken
            }
            "begun" => self.on_begun(node, fields),
            // What it had before its new start is nowhere any more: the leader deleted it.
            "emptied" if fields.number("to") < fields.number("from") => {
                self.on_truncated(node, fields, names)
            }
            _ => Vec::new(),
        }
    }

    fn on_leading(&mut self, node: &str, fields: &Fields) -> Vec<Broken> {
        let mut broken = Vec::new();
        let Some(epoch) = fields.small("leader_epoch") else {
            return broken;
        };
        self.copies.on_leading(node, epoch);
        // Where it is the only replica it may, after a restart, lead again as before.
        let is_new = !self.leaders.contains_key(&epoch);
        let first = self.leaders.entry(epoch).or_insert_with(|| node.to_owned());
        if first != node {
            let detail = format!("{first} and {node} both lead in epoch {epoch}");
            broken.push(("R1", detail));
        } else {
            broken.extend(self.on_led(node, epoch, is_new));
        }
        // One who hears late that it was elected, and not yet that another was since, leads nobody.
        let is_past = self.leaders.keys().any(|known| *known > epoch);
        let start = fields.number("start").map(|start| {
            let log = self.logs.get(node).filter(|log| log.start == log.end);
            log.map_or(start, |log| log.end.max(start))
        });
        if let Some(start) = start.filter(|_| is_new && !is_past)
            && start < self.high_watermark
        {
            let detail = format!(
                "{node} begins epoch {epoch} at {start}; the high watermark was {}",
                self.high_watermark
            );
            broken.push(("R3", detail));
        }
        if let Some(log) = self.logs.get(node).filter(|_| is_new && !is_past)
            && log.start < self.start
        {
            let detail = format!(
                "{node} leads in epoch {epoch} with a log that begins at {}; an earlier leader's \
                 had been made to begin at {}",
                log.start, self.start
            );
            broken.push(("K6", detail));
        }
        broken
    }

    /// A mirror's source begins beyond offset 0, so a replica of it does, by itself and in no order
    /// with the others, where its log has no record. Below that no log of the partition had any, so
    /// whoever has none yet lacks nothing there: see [`Self::counted_from_first`].
    fn on_begun(&mut self, node: &str, fields: &Fields) -> Vec<Broken> {
        let Some(to) = fields.number("to") else {
            return Vec::new();
        };
        let mut broken = Vec::new();
        let first = *self.first.get_or_insert(to);
        if first != to {
            let detail = format!("{node} begins at {to}, where another replica began at {first}");
            broken.push(("R2", detail));
        }
        // One that ends there was on its way there when its process ended.
        let has_records = |log: &&LogState| log.start < log.end && log.end != to;
        if let Some(log) = self.logs.get(node).filter(has_records) {
            let (start, end) = (log.start, log.end);
            let detail = format!("{node} begins at {to}, and had records from {start} to {end}");
            broken.push(("R9", detail));
        }
        for log in self.logs.values_mut() {
            *log = Self::counted_from(first, *log);
        }
        if self.high_watermark < first {
            self.high_watermark = first;
            self.rises.push((now(), first));
        }
        broken
    }

    /// A log without records that ends before the first of a mirror counts as if it ended there.
    fn counted_from_first(&self, log: LogState) -> LogState {
        self.first
            .map_or(log, |first| Self::counted_from(first, log))
    }

    fn counted_from(first: i64, log: LogState) -> LogState {
        if log.start < log.end || first <= log.end {
            return log;
        }
        LogState {
            start: first,
            high_watermark: first,
            end: first,
            recovery_point: first,
            ..log
        }
    }

    /// A leader's log begins later now: so must all that are in sync.
    fn on_start(&mut self, node: &str, start: i64, names: &Names) -> Vec<Broken> {
        let mut broken = Vec::new();
        let View { since, isr, .. } = self.views.get(node).cloned().unwrap_or_default();
        let is_settled = since + CARRIED_OUT_WITHIN < now();
        let members = isr.iter().filter_map(|id| names.get(id));
        for member in members.filter(|name| is_settled && *name != node) {
            if let Some(log) = self.logs.get(member).filter(|log| log.start < start) {
                let detail = format!(
                    "the log is made to begin at {start} on its leader {node}; that of {member}, \
                     in sync, begins at {}",
                    log.start
                );
                broken.push(("K6", detail));
            }
        }
        self.start = self.start.max(start);
        broken
    }

    /// A node's log stands somewhere else.
    pub fn on_log(&mut self, node: &str, log: LogState, kind: Kind, names: &Names) -> Vec<Broken> {
        let log = self.counted_from_first(log);
        let before = self.logs.insert(node.to_owned(), log);
        let mut of_end = self.on_end(node, before, log, kind, names);
        of_end.extend(self.standing.on_log(node, log));
        let leads = self.leaders.get(&log.leader_epoch);
        let rises = before.is_some_and(|before| {
            before.leader_epoch == log.leader_epoch && before.start < log.start
        });
        let mut broken = match rises && leads.is_some_and(|leader| leader == node) {
            true => self.on_start(node, log.start, names),
            false => Vec::new(),
        };
        broken.extend(of_end);
        if log.high_watermark <= self.high_watermark {
            return broken;
        }
        let elected = self.elected.get(&log.leader_epoch);
        let elected = elected.and_then(|id| names.get(id));
        // It says where its log stands before it says that it leads.
        let leader = self.leaders.get(&log.leader_epoch).or(elected);
        if leader.is_some_and(|leader| leader == node) || self.holds_alone(node, names) {
            broken.extend(self.on_high_watermark(node, log.high_watermark, kind, names));
            return broken;
        }
        if log.high_watermark <= self.high_watermark_before {
            return broken;
        }
        let detail = format!(
            "{node} follows and has the high watermark {}; no leader told more than {}",
            log.high_watermark, self.high_watermark
        );
        broken.push(("R17", detail));
        broken
    }

    /// The only replica has nobody to wait for: all that it finds in its log when it starts is
    /// committed, whether it leads yet or not. What it goes by may be behind its image.
    fn holds_alone(&self, node: &str, names: &Names) -> bool {
        let view = self.assigned.get(node).or(self.views.get(node));
        view.is_some_and(|view| {
            let mut holders = view.replicas.iter().map(|id| names.get(id));
            holders.len() == 1 && holders.all(|name| name.is_some_and(|name| name == node))
        })
    }

    fn on_truncated(&mut self, node: &str, fields: &Fields, names: &Names) -> Vec<Broken> {
        let Some(to) = fields.number("to") else {
            return Vec::new();
        };
        let counts = |ids: &Ids| {
            let mut members = ids.iter().filter_map(|id| names.get(id));
            members.any(|name| name == node)
        };
        if to < self.high_watermark && (counts(&self.isr) || counts(&self.elr)) {
            let detail = format!(
                "{node} truncates to {to}; the high watermark is {} and it counts as having all \
                 below",
                self.high_watermark
            );
            return vec![("R9", detail)];
        }
        Vec::new()
    }

    fn on_high_watermark(
        &mut self,
        node: &str,
        offset: i64,
        kind: Kind,
        names: &Names,
    ) -> Vec<Broken> {
        let mut broken = Vec::new();
        let least = kind.least;
        if let Some(View { isr, .. }) = self.assigned.get(node).filter(|it| it.is_short(least)) {
            let detail = format!(
                "the high watermark rises to {offset} with {isr:?} in sync; {least} are needed"
            );
            broken.push(("R7", detail));
        }
        let epoch = self.logs.get(node).map_or(-1, |log| log.leader_epoch);
        // A leader may hear that its ISR shrank before its image tells.
        let isr = match epoch == self.epoch {
            true => self.isr.clone(),
            false => self
                .views
                .get(node)
                .map(|view| view.isr.clone())
                .unwrap_or_default(),
        };
        for member in isr.iter().filter_map(|id| names.get(id)) {
            if let Some(log) = self.logs.get(member).filter(|_| member != node)
                && let has = match kind.in_memory {
                    true => log.end,
                    false => log.recovery_point,
                }
                && has < offset
            {
                let detail = format!(
                    "the high watermark rises to {offset}; {member}, in sync, has all up to {has}"
                );
                broken.push(("R6", detail));
            }
        }
        self.high_watermark = offset;
        self.rises.push((now(), offset));
        broken
    }

    /// A node's image holds this state.
    pub fn on_view(&mut self, node: &str, fields: &Fields) {
        self.views.insert(node.to_owned(), View::of(fields));
    }

    /// The controller's state of the partition changed.
    pub fn on_metadata(
        &mut self,
        fields: &Fields,
        brokers: Brokers<'_>,
        least: Option<usize>,
        names: &Names,
    ) -> Vec<Broken> {
        let replicas = fields.ids("replicas").unwrap_or_default();
        let isr = fields.ids("isr").unwrap_or_default();
        let elr = fields.ids("elr").unwrap_or_default();
        let leader = fields.small("leader").filter(|id| *id >= 0);
        let cause = fields.text("cause").unwrap_or_default();
        self.own_since = own_since(cause, fields).or(self.own_since);
        let mut broken = Vec::from_iter(ends_early(cause, &isr, &replicas));
        let is_unclean = cause.to_lowercase().contains("unclean")
            || fields.number("recovering").is_some_and(|yes| yes != 0);
        if !isr.is_subset(&replicas) || !elr.is_subset(&replicas) {
            let detail = format!("{isr:?} in sync and {elr:?} eligible, of replicas {replicas:?}");
            broken.push(("R7", detail));
        }
        if let Some(leader) = leader
            && !isr.contains(&leader)
        {
            broken.push(("R7", format!("leader {leader} is not in sync: {isr:?}")));
        }
        if let Some(least) = least
            && isr.len() >= least.min(replicas.len())
            && !elr.is_empty()
        {
            let detail = format!("{elr:?} stay eligible though {isr:?} are enough in sync");
            broken.push(("R7", detail));
        }
        let is_known = !self.isr.is_empty();
        for id in isr.difference(&self.isr).filter(|_| is_known) {
            if brokers.dead.contains(id) {
                let detail = format!("{id} comes in sync while it is fenced or shutting down");
                broken.push(("R7", detail));
            }
            if let Some(log) = names.get(id).and_then(|name| self.logs.get(name))
                && log.end < self.high_watermark
                && !is_unclean
            {
                let detail = format!(
                    "{id} comes in sync with a log that ends at {}; the high watermark is {}",
                    log.end, self.high_watermark
                );
                broken.push(("R4", detail));
            }
        }
        if cause == "ISR_CHANGED" && is_known {
            broken.extend(self.on_taken(fields, (&self.isr, &isr), brokers.epoch));
        }
        if is_unclean && let Some(leader) = leader.filter(|id| self.leader != Some(*id)) {
            broken.extend(self.on_last_known(cause, leader, brokers.ended));
            self.begin_again(leader, names);
        }
        if let (Some(epoch), Some(leader)) = (fields.small("leader_epoch"), leader)
            && let Some(first) = self.elected.insert(epoch, leader)
            && first != leader
        {
            let detail = format!("{first} and {leader} are both elected for epoch {epoch}");
            broken.push(("R1", detail));
        }
        self.epoch = fields.small("leader_epoch").unwrap_or(self.epoch);
        let is_enough = isr.len() >= least.unwrap_or(1).min(replicas.len());
        self.hold((&isr, &elr), is_enough, brokers.since);
        (self.isr, self.elr, self.leader) = (isr, elr, leader);
        broken
    }

    /// What is committed is from now on what this leader, elected uncleanly, has.
    fn begin_again(&mut self, leader: i32, names: &Names) {
        self.unclean_since.get_or_insert(now());
        self.high_watermark_before = self.high_watermark_before.max(self.high_watermark);
        let log = names.get(&leader).and_then(|name| self.logs.get(name));
        self.take_back(log.map_or(0, |log| log.end));
    }

    /// Takes note of who holds what is committed from now on.
    fn hold(&mut self, (isr, elr): (&Ids, &Ids), is_enough: bool, since: &dyn Fn(i32) -> u64) {
        for id in isr.difference(&self.isr) {
            self.in_sync_since.insert(*id, since(*id));
        }
        match is_enough && !isr.is_empty() {
            true => self.holders = isr.union(elr).copied().collect(),
            false => self.holders.extend(isr.iter().copied()),
        }
    }

    /// Who led last is elected though it may lack what was committed: then everybody who had that
    /// has ended without an orderly stop, in the life in which it came in sync.
    fn on_last_known(
        &self,
        cause: &str,
        leader: i32,
        ended: impl Fn(i32) -> Option<u64>,
    ) -> Option<Broken> {
        if cause != "LAST_KNOWN_LEADER" {
            return None;
        }
        let since = |id: &i32| self.in_sync_since.get(id).copied().unwrap_or(0);
        let is_sound = |id: &&i32| ended(**id).is_none_or(|at| at < since(id));
        let sound = self.holders.iter().find(is_sound)?;
        let detail = format!(
            "{leader} is elected as the last leader known, though {sound}, which had all that was \
             committed, has not ended but in order since"
        );
        Some(("R3", detail))
    }
}
