//! Random histories with crashes in the middle of anything, against a model.

use proptest::collection::vec;
use proptest::prelude::*;

use super::disk::Survive;
use super::*;
use crate::env::Rng;

#[derive(Clone, Debug)]
enum Step {
    /// Batches submitted one after another; then the first `done` of all outstanding complete.
    Append {
        batches: usize,
        records: usize,
        done: usize,
    },
    Unsynced,
    /// The next point is begun to be saved, and goes on only when somebody waits for it.
    PointUnderWay,
    Flush,
    Stamp,
    Roll,
    Truncate(u8),
    DeleteRecords(u8),
    Retention(u16),
    FailSync,
    Reopen,
    Kill,
    PowerLoss(u64),
    /// Power fails after so many more disk calls, wherever that is.
    Doom(u8, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1..4usize, 1..4usize, 0..6usize)
            .prop_map(|(batches, records, done)| Step::Append { batches, records, done }),
        1 => Just(Step::Unsynced),
        1 => Just(Step::PointUnderWay),
        1 => Just(Step::Flush),
        1 => Just(Step::Stamp),
        1 => Just(Step::Roll),
        1 => any::<u8>().prop_map(Step::Truncate),
        1 => any::<u8>().prop_map(Step::DeleteRecords),
        1 => any::<u16>().prop_map(Step::Retention),
        1 => Just(Step::FailSync),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(Step::PowerLoss),
        3 => (any::<u8>(), any::<u64>()).prop_map(|(calls, seed)| Step::Doom(calls % 40, seed)),
    ];
    vec(step, 1..40)
}

/// What the log must hold.
struct Model {
    /// Every record submitted, by offset.
    records: Vec<(i64, String)>,
    /// Records below are durable for sure.
    durable: i64,
    /// Where the log may begin.
    start: (i64, i64),
    written: u64,
}

struct History {
    bench: Bench,
    log: Option<Log>,
    outstanding: Vec<Appended>,
    model: Model,
    doom: Option<u64>,
    truncating: bool,
    leaves_point: bool,
}

impl History {
    fn new() -> Self {
        let mut bench = Bench::new();
        bench.config.segment_bytes = 700;
        bench.config.recovery_point_interval_bytes = 150;
        bench.config.retention_ms = Some(1000);
        let log = bench.create();
        Self {
            bench,
            log: Some(log),
            outstanding: Vec::new(),
            model: Model {
                records: Vec::new(),
                durable: 0,
                start: (0, 0),
                written: 0,
            },
            doom: None,
            truncating: false,
            leaves_point: false,
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("open between steps")
    }

    fn save_point(&mut self) {
        let saving = self.log().save_recovery_point();
        if let Some(saving) = saving
            && !std::mem::take(&mut self.leaves_point)
        {
            // Whether it is saved makes no difference.
            run(saving);
        }
    }

    fn flush(&mut self) {
        let flushing = match run(self.log().flush()) {
            Ok(Some(flushing)) => flushing,
            Ok(None) => return,
            Err(error) => return self.failed(error),
        };
        let (flushed, done) = flushing.parts();
        match run(done) {
            Ok(()) => self.log().flushed(flushed),
            Err(error) => return self.failed(error),
        }
        self.note_durable();
    }

    fn note_durable(&mut self) {
        self.save_point();
        let durable = self.log().durable_end().0;
        assert!(durable >= self.model.durable, "durability does not go back");
        self.model.durable = durable;
    }

    /// A step failed: only the doom that was drawn can be the reason.
    fn failed(&mut self, what: impl std::fmt::Display) {
        match self.doom.take() {
            Some(seed) => self.crash(Survive::Some(random(seed))),
            None => panic!("{what}"),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append {
                batches,
                records,
                done,
            } => {
                for _ in 0..*batches {
                    if !self.append(*records, true) {
                        return;
                    }
                }
                self.settle(*done);
            }
            Step::Unsynced => {
                self.append(1, false);
            }
            Step::PointUnderWay => self.leaves_point = true,
            Step::Flush => self.flush(),
            Step::Stamp => {
                if let Err(error) = run(self.log().stamp()) {
                    self.failed(error);
                }
            }
            Step::Roll => {
                let rolled = run(self.log().roll_if_due(Timestamp(i64::MAX)));
                match rolled {
                    Ok(_) => self.note_durable(),
                    Err(error) => self.failed(error),
                }
            }
            Step::Truncate(share) => self.truncate(*share),
            Step::DeleteRecords(share) => self.delete_records(*share),
            Step::Retention(now) => self.retention(i64::from(*now) % 4000),
            Step::FailSync => self.fail_sync(),
            Step::Reopen => self.reopen(),
            Step::Kill => self.crash(Survive::All),
            Step::PowerLoss(seed) => self.crash(Survive::Some(random(*seed))),
            Step::Doom(calls, seed) => {
                if self.doom.is_none() {
                    self.doom = Some(*seed);
                    self.bench.disk.stop_after(u64::from(*calls));
                }
            }
        }
    }

    fn append(&mut self, records: usize, sync: bool) -> bool {
        match self.try_append(records, sync) {
            Ok(()) => true,
            Err(error) => {
                self.failed(error);
                false
            }
        }
    }

    fn try_append(&mut self, records: usize, sync: bool) -> Result<(), crate::log::AppendError> {
        self.model.written += 1;
        let value = format!("value {:0>30}", self.model.written);
        let values = vec![value.as_str(); records];
        let made = batch(&values, 1000 + self.model.written as i64);
        let appended = run(self
            .log()
            .append(&made, LeaderEpoch(1), Timestamp(2000), sync))?;
        let Append::New(appended) = appended else {
            panic!("no producer id was given");
        };
        let base = appended.base_offset.0;
        assert_eq!(base, self.model.records.len() as i64);
        let values = (0..records).map(|at| (base + at as i64, value.clone()));
        self.model.records.extend(values);
        self.outstanding.push(appended);
        Ok(())
    }

    fn settle(&mut self, count: usize) {
        let count = count.min(self.outstanding.len());
        let settled: Vec<Appended> = self.outstanding.drain(..count).collect();
        for appended in settled {
            match run(appended.done) {
                Ok(()) => self.log().completed(appended.ticket),
                Err(error) => return self.failed(error),
            }
        }
        self.note_durable();
    }

    fn point(&mut self, share: u8) -> i64 {
        let start = self.log().log_start_offset().0;
        let end = self.log().log_end_offset().0;
        start + (end - start) * i64::from(share) / 255
    }

    fn truncate(&mut self, share: u8) {
        let end = self.point(share);
        let result = run(self.log().truncate_to(Offset(end)));
        // Wherever it stopped, it took nothing below a batch that holds `end`.
        self.model.durable = self.model.durable.min(end - 3).max(0);
        self.model.start.0 = self.model.start.0.min(self.model.durable);
        match result {
            Ok(()) => {
                let cut = self.log().log_end_offset().0;
                if (cut as usize) < self.model.records.len() {
                    self.outstanding.clear();
                }
                self.model.records.truncate(cut as usize);
                self.model.durable = self.log().durable_end().0;
                let start = self.log().log_start_offset().0;
                assert!((self.model.start.0..=self.model.start.1).contains(&start));
                self.model.start = (start, start);
                self.check();
            }
            Err(error) => {
                // What the log says is durable may be what is being cut.
                self.truncating = true;
                self.failed(error);
            }
        }
    }

    fn delete_records(&mut self, share: u8) {
        let offset = self.point(share);
        self.model.start.1 = self.model.start.1.max(offset);
        match run(self.log().delete_records_before(Offset(offset))) {
            Ok(start) => {
                self.model.start = (start.0, start.0);
                self.check();
            }
            Err(error) => self.failed(error),
        }
    }

    fn retention(&mut self, now: i64) {
        let high_watermark = self.log().durable_end();
        self.model.start.1 = self.model.start.1.max(high_watermark.0);
        match run(self.log().apply_retention(Timestamp(now), high_watermark)) {
            Ok(retained) => {
                let start = retained.log_start_offset.0;
                assert!(start >= self.model.start.0 && start <= self.model.start.1);
                self.model.start = (start, start);
                self.note_durable();
                self.check();
            }
            Err(error) => self.failed(error),
        }
    }

    fn fail_sync(&mut self) {
        self.bench.disk.fail_next_sync();
        // The failure may also hit a roll.
        let _ = self.try_append(1, true);
        self.settle_until_failure();
        match run(self.log().fall_back()) {
            Ok(()) => {
                self.outstanding.clear();
                let end = self.log().log_end_offset().0;
                assert!(end >= self.model.durable);
                self.model.records.truncate(end as usize);
                self.note_durable();
                self.check();
            }
            Err(error) => self.failed(error),
        }
    }

    fn settle_until_failure(&mut self) {
        for appended in std::mem::take(&mut self.outstanding) {
            match run(appended.done) {
                Ok(()) => self.log().completed(appended.ticket),
                Err(_) => break,
            }
        }
        self.note_durable();
    }

    fn reopen(&mut self) {
        self.outstanding.clear();
        let log = self.log.take().expect("open between steps");
        match run(log.close()) {
            Ok(clean) => {
                self.model.durable = self.model.records.len() as i64;
                assert_eq!(clean.log_end_offset.0, self.model.durable);
                match self.bench.try_open(Some(clean)) {
                    Ok((log, recovery)) => {
                        assert!(recovery.clean && recovery.cut.is_none(), "{recovery:?}");
                        self.log = Some(log);
                        self.check();
                    }
                    Err(error) => self.failed(error),
                }
            }
            Err(error) => self.failed(error),
        }
    }

    fn crash(&mut self, survive: Survive) {
        self.doom = None;
        self.outstanding.clear();
        if let Some(log) = self.log.take()
            && !std::mem::take(&mut self.truncating)
        {
            self.model.durable = self.model.durable.max(log.durable_end().0);
        }
        self.bench.disk.lose_power(survive);
        let (log, _) = super::recovery_points::opened_both_ways(&self.bench);
        let end = log.log_end_offset().0;
        assert!(
            end >= self.model.durable,
            "lost [{end}, {})",
            self.model.durable
        );
        self.model.records.truncate(end as usize);
        assert_eq!(self.model.records.len() as i64, end, "nothing appears");
        self.model.durable = log.durable_end().0;
        assert_eq!(self.model.durable, end);
        let start = log.log_start_offset().0;
        let (least, most) = self.model.start;
        assert!(
            (least..=most).contains(&start),
            "{least} <= {start} <= {most}"
        );
        self.model.start = (start, start);
        self.log = Some(log);
        self.check();
    }

    fn check(&mut self) {
        if self.doom.is_some() {
            return;
        }
        let start = self.model.start.0;
        let found = contents(self.log());
        let expected = &self.model.records[start as usize..];
        let from = found.iter().position(|record| record.0 == start);
        let from = from.unwrap_or(found.len());
        assert!(
            from < 3,
            "at most the rest of the first batch is before the start"
        );
        let found = &found[from..];
        assert_eq!(found, &expected[..found.len()]);
        assert!(
            found.len() as i64 >= self.model.durable - start,
            "all that is durable is served"
        );
    }
}

fn random(seed: u64) -> Rng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    Rng::from_seed(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_was_durable_survives_any_crash(steps in steps()) {
        let mut history = History::new();
        for step in &steps {
            history.step(step);
        }
        history.crash(Survive::Some(random(1)));
    }
}

/// A history with everything in it, for crashes at each of its disk calls.
fn eventful() -> Vec<Step> {
    let append = |batches, done| Step::Append {
        batches,
        records: 2,
        done,
    };
    vec![
        append(3, 1),
        Step::Roll,
        append(3, 9),
        append(2, 0),
        Step::Roll,
        append(2, 9),
        Step::Stamp,
        Step::Unsynced,
        Step::Unsynced,
        append(2, 2),
        Step::Flush,
        append(2, 1),
        Step::Truncate(120),
        append(3, 2),
        Step::DeleteRecords(60),
        Step::Retention(2500),
        append(2, 9),
        Step::Reopen,
        append(2, 1),
        Step::Truncate(200),
        append(1, 1),
    ]
}

#[test]
fn a_crash_at_any_call_of_an_eventful_history_loses_nothing_durable() {
    let mut cut_short = 0;
    for calls in 0.. {
        let mut doomed = false;
        for seed in 0..8 {
            let mut history = History::new();
            history.doom = Some(seed);
            history.bench.disk.stop_after(calls);
            for step in &eventful() {
                history.step(step);
                if history.doom.is_none() {
                    doomed = true;
                    break;
                }
            }
            history.crash(Survive::Some(random(seed)));
        }
        if !doomed {
            break;
        }
        cut_short += 1;
    }
    assert!(cut_short > 100, "{cut_short} calls");
}

#[test]
fn a_crash_while_a_failed_sync_is_made_good_spoils_nothing() {
    let append = Step::Append {
        batches: 2,
        records: 1,
        done: 9,
    };
    let steps = [append, Step::Unsynced, Step::Unsynced, Step::FailSync];
    for calls in 0..60 {
        for seed in 0..16 {
            let mut history = History::new();
            history.doom = Some(seed);
            history.bench.disk.stop_after(calls);
            for step in &steps {
                history.step(step);
                if history.doom.is_none() {
                    break;
                }
            }
            history.crash(Survive::Some(random(seed)));
        }
    }
}
