//! A broker with its log, as the shard and a fetcher would drive its machine.

use super::controller::State;
use super::*;
use crate::log::epoch_cache::EpochCache;

pub(super) type Record = (LeaderEpoch, u32);

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub to: BrokerId,
    from: BrokerId,
    process: u64,
    broker_epoch: BrokerEpoch,
    fetch: FollowerFetch,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub to: BrokerId,
    process: u64,
    leader_epoch: LeaderEpoch,
    fetch_offset: Offset,
    last_fetched_epoch: LeaderEpoch,
    served: Served,
    records: Vec<Record>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ModelLog {
    pub start: Offset,
    pub durable: Offset,
    pub epochs: EpochCache,
    records: Vec<Record>,
}

impl ModelLog {
    pub fn end(&self) -> Offset {
        Offset(self.start.0 + i64::try_from(self.records.len()).expect("few records"))
    }

    pub fn at(&self, offset: Offset) -> Option<Record> {
        let at = usize::try_from(offset.0 - self.start.0).ok()?;
        self.records.get(at).copied()
    }

    pub fn at_durable(&self, offset: Offset) -> Option<Record> {
        self.at(offset).filter(|_| offset < self.durable)
    }

    fn push(&mut self, record: Record) {
        if self
            .epochs
            .latest()
            .is_none_or(|latest| record.0 > latest.epoch)
        {
            self.epochs.assign(record.0, self.end());
        }
        self.records.push(record);
    }

    fn cut(&mut self, end: Offset) {
        let keep = usize::try_from(end.0 - self.start.0).unwrap_or(0);
        let empty = keep >= self.records.len();
        self.records.truncate(keep);
        if !empty || !crate::mutant!("empty-epoch-not-truncated") {
            self.epochs.truncate_from_end(end);
        }
        self.durable = self.durable.min(end);
    }

    fn latest(&self) -> Option<LeaderEpoch> {
        self.epochs.latest().map(|latest| latest.epoch)
    }
}

pub(super) struct Node {
    id: BrokerId,
    pub log: ModelLog,
    checkpointed: Option<Offset>,
    /// How much of the controller's history it has seen.
    pub applied: usize,
    pub process: u64,
    pub machine: Option<Partition<u32>>,
    /// Of this process, once it has registered.
    pub broker_epoch: Option<BrokerEpoch>,
    pub waiters: Vec<u32>,
    eligible: EligibleBrokers,
    /// The high watermark seen last in this process and epoch.
    seen: (LeaderEpoch, Offset),
    /// The log is damaged where it would have to be read to be cut.
    is_damaged: bool,
}

impl Node {
    pub fn new(id: BrokerId) -> Self {
        Self {
            id,
            log: ModelLog::default(),
            checkpointed: None,
            applied: 0,
            process: 0,
            machine: None,
            broker_epoch: None,
            waiters: Vec::new(),
            eligible: EligibleBrokers::default(),
            seen: (LeaderEpoch(-1), Offset(0)),
            is_damaged: false,
        }
    }

    fn mine(&self, assignment: &Assignment) -> Arc<Assignment> {
        let mut assignment = assignment.clone();
        assignment.me = self.id;
        Arc::new(assignment)
    }

    pub fn start(
        &mut self,
        process: u64,
        applied: usize,
        (eligible, assignment): &State,
        now: Instant,
        effects: &mut Vec<Effect<u32>>,
    ) {
        self.applied = applied;
        self.eligible = eligible.clone();
        let opened = Opened {
            log_start_offset: self.log.start,
            log_end_offset: self.log.end(),
            past: Past {
                high_watermark: self.checkpointed,
                is_new: self.process == 0,
            },
        };
        self.machine = Some(Partition::new(&self.mine(assignment), opened, now, effects));
        self.process = process;
        self.seen = (LeaderEpoch(-1), Offset(0));
    }

    pub fn crash(&mut self, survives: usize) {
        let Some(machine) = self.machine.take() else {
            return;
        };
        drop(machine);
        let unsynced = self.log.end().0 - self.log.durable.0;
        let kept = i64::try_from(survives).expect("small") % (unsynced + 1);
        self.log.cut(Offset(self.log.durable.0 + kept));
        self.log.epochs.truncate_from_end(self.log.end());
        self.log.durable = self.log.end();
        self.broker_epoch = None;
        self.waiters.clear();
    }

    pub fn checkpoint(&mut self) {
        self.checkpointed = self.high_watermark().or(self.checkpointed);
    }

    pub fn high_watermark(&self) -> Option<Offset> {
        self.machine.as_ref().map(Partition::high_watermark)
    }

    pub fn may_append(&self, acks: WantedAcks) -> Option<Offset> {
        let machine = self.machine.as_ref()?;
        machine.may_append(acks).ok().map(|()| self.log.end())
    }

    pub fn append(&mut self, value: u32, acks: WantedAcks, effects: &mut Vec<Effect<u32>>) {
        let Some(machine) = &mut self.machine else {
            return;
        };
        self.log.push((machine.assignment().leader_epoch, value));
        self.waiters.push(value);
        let end = self.log.end();
        let waiter = Some((value, acks));
        machine.step(Event::Appended { end, waiter }, effects);
    }

    pub fn sync(&mut self, effects: &mut Vec<Effect<u32>>) {
        let Some(machine) = &mut self.machine else {
            return;
        };
        self.log.durable = self.log.end();
        let end = self.log.durable;
        machine.step(Event::Durable { end }, effects);
    }

    pub fn fail_sync(&mut self, now: Instant, effects: &mut Vec<Effect<u32>>) {
        let Some(machine) = &mut self.machine else {
            return;
        };
        machine.step(Event::StorageFailed, effects);
        if self.is_damaged {
            machine.damage_is_in_the_way();
            return;
        }
        self.log.cut(self.log.durable);
        self.log.epochs.truncate_from_end(self.log.end());
        let end = self.log.durable;
        machine.step(Event::StorageRecovered { end, now }, effects);
    }

    /// A reader meets damage.
    pub fn find_damage(&mut self, now: Instant, effects: &mut Vec<Effect<u32>>) {
        if let Some(machine) = &mut self.machine {
            let epoch = machine.assignment().leader_epoch;
            let around = Self::around(&self.eligible, now);
            machine.damaged(epoch, around, effects);
        }
    }

    /// Damage comes to where the log would have to be read to be cut.
    pub fn rot(&mut self) {
        self.is_damaged = true;
    }

    /// The log cannot be cut.
    fn is_stuck(&mut self, effects: &mut Vec<Effect<u32>>) -> bool {
        if let Some(machine) = self.machine.as_mut().filter(|_| self.is_damaged) {
            machine.step(Event::StorageFailed, effects);
            machine.damage_is_in_the_way();
        }
        self.is_damaged
    }

    /// A log that cannot be used is taken away, by the metadata that this node knows, and another
    /// one begun.
    pub fn begin_another_log(
        &mut self,
        (_, assignment): &State,
        now: Instant,
        effects: &mut Vec<Effect<u32>>,
    ) {
        let wanted = self.machine.as_ref().and_then(Partition::wants_another_log);
        let counted = [&assignment.isr, &assignment.elr];
        let is_enough = assignment.isr.len() >= assignment.wanted_in_sync();
        let is_safe = |why| why == Useless::Foreign || is_enough;
        let may = wanted
            .is_some_and(|(epoch, why)| epoch == assignment.leader_epoch && is_safe(why))
            && counted.iter().all(|ids| !ids.contains(&self.id))
            && assignment.leader.is_some_and(|leader| leader != self.id);
        if !may {
            return;
        }
        self.is_damaged = false;
        self.log = ModelLog::default();
        let opened = Opened {
            log_start_offset: Offset::ZERO,
            log_end_offset: Offset::ZERO,
            past: Past {
                high_watermark: None,
                is_new: false,
            },
        };
        self.machine = Some(Partition::new(&self.mine(assignment), opened, now, effects));
        self.seen = (LeaderEpoch(-1), Offset(0));
    }

    /// Somebody puts right what is damaged.
    pub fn mend(&mut self, now: Instant, effects: &mut Vec<Effect<u32>>) {
        self.is_damaged = false;
        let failed = self
            .machine
            .as_ref()
            .is_some_and(Partition::is_storage_failed);
        if failed {
            self.fail_sync(now, effects);
        }
    }

    /// Asks for a few records to go; up to where, if it leads.
    pub fn want_deleted(&mut self, amount: u8) -> Option<Offset> {
        let machine = self.machine.as_mut()?;
        let to = Offset(self.log.start.0 + i64::from(amount % 8));
        let to = to.min(machine.high_watermark());
        machine.want_start(to).ok().map(|()| to)
    }

    /// Makes the log begin where it is to, durably.
    pub fn move_start(&mut self) {
        let start = self.log.start;
        let due = self
            .machine
            .as_ref()
            .and_then(|machine| machine.start_due(start));
        if let Some(due) = due {
            self.delete_before(due);
        }
    }

    /// Of its process.
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        let machine = self.machine.as_ref()?;
        Some(machine.assignment().leader_epoch)
    }

    /// Up to where records are gone from every replica in sync, as this leader knows.
    pub fn replicated_start(&self) -> Option<Offset> {
        self.machine.as_ref()?.replicated_start(self.log.start)
    }

    /// Of a log that has no record.
    pub fn begin_at(&mut self, first: Offset, effects: &mut Vec<Effect<u32>>) {
        let (Some(machine), log) = (&mut self.machine, &mut self.log) else {
            return;
        };
        if log.records.is_empty() && log.end() < first {
            *log = ModelLog {
                start: first,
                durable: first,
                ..ModelLog::default()
            };
            machine.step(Event::Restarted { start: first }, effects);
        }
    }

    fn delete_before(&mut self, start: Offset) {
        let gone = usize::try_from(start.0 - self.log.start.0).unwrap_or(0);
        self.log.records.drain(..gone);
        self.log.start = self.log.start.max(start);
        self.log.epochs.truncate_from_start(start);
    }

    fn around(eligible: &EligibleBrokers, now: Instant) -> Surroundings<'_> {
        Surroundings {
            now,
            eligible,
            lag_time_max: LAG,
        }
    }

    pub fn tick(&mut self, now: Instant, effects: &mut Vec<Effect<u32>>) {
        if let Some(machine) = &mut self.machine
            && machine.next_check(LAG).is_some_and(|at| at <= now)
        {
            machine.check_isr(Self::around(&self.eligible, now), effects);
        }
    }

    pub fn learn(
        &mut self,
        applied: usize,
        (eligible, assignment): &State,
        now: Instant,
        effects: &mut Vec<Effect<u32>>,
    ) {
        self.applied = applied;
        self.eligible = eligible.clone();
        let assignment = self.mine(assignment);
        if let Some(machine) = &mut self.machine {
            machine.assign(&assignment, Self::around(&self.eligible, now), effects);
        }
    }

    pub fn answered(
        &mut self,
        of: (LeaderEpoch, i32),
        outcome: &IsrOutcome,
        now: Instant,
        effects: &mut Vec<Effect<u32>>,
    ) {
        if let Some(machine) = &mut self.machine {
            let around = Self::around(&self.eligible, now);
            machine.answered(of, outcome, around, effects);
        }
    }

    /// A fetch to the leader, where this one follows and has synced everything.
    pub fn request(&mut self) -> Option<Request> {
        let (machine, broker_epoch) = (self.machine.as_mut()?, self.broker_epoch?);
        machine.prepare_anew(self.log.start);
        let leader_epoch = machine.assignment().leader_epoch;
        if machine.start_due(self.log.start).is_some() {
            return None;
        }
        let position = machine.position(leader_epoch, self.log.start, self.log.latest());
        let position = position.ok().flatten()?;
        Some(Request {
            to: machine.assignment().leader?,
            from: self.id,
            process: self.process,
            broker_epoch,
            fetch: FollowerFetch {
                slot: 0,
                leader_epoch,
                fetch_offset: position.fetch_offset,
                last_fetched_epoch: position.last_fetched_epoch,
                log_start_offset: position.log_start_offset,
            },
        })
    }

    pub fn serve(
        &mut self,
        request: &Request,
        now: Instant,
        effects: &mut Vec<Effect<u32>>,
    ) -> Option<Answer> {
        let log = &self.log;
        let machine = self.machine.as_mut()?;
        let fetcher = Fetcher {
            id: request.from,
            broker_epoch: request.broker_epoch,
        };
        let fetch = request.fetch;
        let epochs = |asked| log.epochs.end_of_epoch(asked, log.end());
        let around = Self::around(&self.eligible, now);
        let oldest = Oldest {
            log_start_offset: log.start,
            epoch: log.epochs.entries().first().map(|oldest| oldest.epoch),
        };
        let served = machine.fetched(fetcher, &fetch, oldest, epochs, around, effects);
        let from = fetch.fetch_offset;
        let served = match served {
            Ok(served) => served,
            // It learns where the log begins.
            Err(ErrorCode::OffsetOutOfRange) if from < log.start => Served {
                diverging: None,
                log_end_offset: log.start,
                high_watermark: match log.start < log.end() {
                    true => Offset(-1),
                    false => machine.high_watermark(),
                },
                log_start_offset: log.start,
            },
            Err(_) => return None,
        };
        let mut records = Vec::new();
        if served.diverging.is_none() && from >= log.start {
            let shown = (from.0..served.log_end_offset.0).take(3);
            records.extend(shown.filter_map(|offset| log.at(Offset(offset))));
        }
        Some(Answer {
            to: request.from,
            process: request.process,
            leader_epoch: fetch.leader_epoch,
            fetch_offset: from,
            last_fetched_epoch: fetch.last_fetched_epoch,
            served,
            records,
        })
    }

    /// The leader said where the logs part.
    fn cut(
        &mut self,
        answer: &Answer,
        diverging: (LeaderEpoch, Offset),
        needed: impl Fn(Offset) -> Option<Record>,
        effects: &mut Vec<Effect<u32>>,
    ) {
        let (Some(machine), log) = (&mut self.machine, &mut self.log) else {
            return;
        };
        let said = FollowerTruncate {
            slot: 0,
            leader_epoch: answer.leader_epoch,
            fetch_offset: answer.fetch_offset,
            last_fetched_epoch: answer.last_fetched_epoch,
            diverging,
            leader_log_start_offset: answer.served.log_start_offset,
        };
        let mine = |asked| log.epochs.end_of_epoch(asked, log.end());
        let Ok(end) = machine.cut(&said, log.latest(), mine) else {
            return;
        };
        if machine.begins_anew_for(&said, end, log.start) {
            return;
        }
        let end = end.max(log.start);
        if self.is_stuck(effects) {
            return;
        }
        let (Some(machine), log) = (&mut self.machine, &mut self.log) else {
            return;
        };
        for offset in end.0..log.end().0 {
            let doomed = log.at(Offset(offset));
            let needed = needed(Offset(offset));
            assert!(
                doomed != needed,
                "R9: {} cuts off {offset}, which is committed",
                self.id
            );
        }
        log.durable = log.end();
        log.cut(end);
        machine.step(Event::Truncated { end }, effects);
    }

    pub fn take(
        &mut self,
        answer: Answer,
        needed: impl Fn(Offset) -> Option<Record>,
        effects: &mut Vec<Effect<u32>>,
    ) {
        let Some(machine) = &mut self.machine else {
            return;
        };
        if answer.process != self.process {
            return;
        }
        if let Some(diverging) = answer.served.diverging {
            return self.cut(&answer, diverging, needed, effects);
        }
        let (epoch, log) = (answer.leader_epoch, &mut self.log);
        machine.prepare_anew(log.start);
        if machine.may_copy(epoch, answer.fetch_offset).is_err() {
            return;
        }
        let start = answer.served.log_start_offset;
        let high_watermark = answer.served.high_watermark;
        let first = (!answer.records.is_empty()).then_some(answer.fetch_offset);
        let leader = (start, high_watermark);
        let Ok(restart) = machine.restart_for(leader, first, log.start) else {
            return;
        };
        if restart.is_some() && self.is_stuck(effects) {
            return;
        }
        let (Some(machine), log) = (&mut self.machine, &mut self.log) else {
            return;
        };
        if let Some(start) = restart {
            *log = ModelLog {
                start,
                durable: start,
                ..ModelLog::default()
            };
            machine.step(Event::Restarted { start }, effects);
            // One that was damaged and counts for nothing begins again from the start.
            self.seen = (epoch, start);
        }
        for record in answer.records {
            log.push(record);
            machine.step(Event::Copied { end: log.end() }, effects);
        }
        let told = Event::Told {
            high_watermark,
            log_start_offset: start,
        };
        machine.step(told, effects);
    }

    /// What holds at any time.
    pub fn check(&mut self) {
        let Some(machine) = &self.machine else {
            return;
        };
        let high = machine.high_watermark();
        assert_eq!(machine.log_end_offset(), self.log.end());
        assert!(
            self.log.start <= high,
            "R10: {} starts past {high}",
            self.id
        );
        assert!(
            high <= self.log.durable,
            "R10: {} exposes what may go",
            self.id
        );
        let epoch = machine.assignment().leader_epoch;
        let (before, seen) = self.seen;
        assert!(
            before != epoch || seen <= high,
            "R5: {} goes back from {seen} to {high}",
            self.id
        );
        self.seen = (epoch, high);
    }

    pub fn describe(&self) -> String {
        let machine = self.machine.as_ref();
        format!(
            "{} log [{}, {}) epochs {:?} high {:?} leads {:?} applied {}",
            self.id,
            self.log.start,
            self.log.end(),
            self.log.epochs.entries(),
            self.high_watermark(),
            machine.map(Partition::is_leader),
            self.applied,
        )
    }
}
