//! What the history lets one say of the broker's wall clock.
//!
//! Where a run noted what the clock showed ([`Note::Clock`]), it is known at every time since,
//! steps and changes of its rate included: between two notes it runs at its own rate, which differs
//! from true time by a twentieth at most.
//!
//! Without such notes, records carry their clients' wall clocks, and LogAppendTime the broker's.
//! The largest distance between such a time and the time of its send bounds the wall clock at any
//! time, as long as some records carry the time at which they were sent, the broker's clock is less
//! than half a second ahead of all of them, and clocks only drift. A fault that steps or drifts a
//! clock then takes all certainty away.

use std::collections::BTreeMap;

use crate::history::{Answer, Call, History, Note};

const MILLI: i64 = 1_000_000;

/// Bounds of the wall clock.
#[derive(Debug, Clone)]
pub(super) enum Clock {
    /// Of each node, times and what its clock showed then and from then on, by time.
    Noted(Vec<Vec<Mark>>),
    /// Wall-clock milliseconds at time 0, at most.
    Bounded(i64),
    Unknown,
}

/// All in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    time: i64,
    wall: i64,
}

impl Clock {
    pub fn of(history: &History) -> Self {
        let mut marks: BTreeMap<&str, Vec<Mark>> = BTreeMap::new();
        let mut is_stepped = false;
        for (time, process, note) in &history.notes {
            match note {
                Note::Clock { wall_ms } => marks.entry(process).or_default().push(Mark {
                    time: millis(*time),
                    wall: *wall_ms,
                }),
                Note::Fault { kind, .. } => is_stepped |= kind.to_lowercase().contains("clock"),
                _ => {}
            }
        }
        if !marks.is_empty() {
            return Self::Noted(marks.into_values().collect());
        }
        match base_of(history).filter(|_| !is_stepped) {
            Some(base) => Self::Bounded(base),
            None => Self::Unknown,
        }
    }

    /// The latest that the broker's wall clock may have shown until `time`, in milliseconds.
    pub fn latest(&self, time: u64) -> Option<i64> {
        let until = millis(time);
        match self {
            Self::Noted(nodes) => {
                let runs = nodes.iter().flat_map(|marks| runs(marks, 0, until));
                runs.map(|(_, high)| high).max()
            }
            Self::Bounded(base) => Some(base + until + drift(until) + 500),
            Self::Unknown => None,
        }
    }

    /// The most milliseconds by which the broker's wall clock may have risen between any two times
    /// in this span.
    pub fn most_between(&self, from: u64, until: u64) -> Option<i64> {
        let (from, until) = (millis(from), millis(until));
        match self {
            Self::Noted(nodes) => {
                let rises = nodes.iter().filter_map(|marks| {
                    let mut lowest = i64::MAX;
                    let rises = runs(marks, from, until).map(|(low, high)| {
                        lowest = lowest.min(low);
                        high - lowest
                    });
                    rises.max()
                });
                rises.max()
            }
            Self::Bounded(_) => Some(until - from + drift(until - from) + 500),
            Self::Unknown => None,
        }
    }
}

/// What the clock showed at the beginning, at least, and at the end, at most, of each part of
/// [from, until] in which it ran evenly.
fn runs(marks: &[Mark], from: i64, until: i64) -> impl Iterator<Item = (i64, i64)> {
    marks.iter().enumerate().filter_map(move |(at, mark)| {
        let next = marks.get(at + 1).map_or(i64::MAX, |next| next.time);
        let (begin, end) = (mark.time.max(from), next.min(until));
        let shown = |time: i64| (mark.wall + time - mark.time, drift(time - mark.time));
        (begin <= end).then(|| {
            let ((low, early), (high, late)) = (shown(begin), shown(end));
            (low - early, high + late)
        })
    })
}

/// How far a clock may get off in so many milliseconds, and what rounding adds.
fn drift(span: i64) -> i64 {
    span / 16 + 2
}

fn base_of(history: &History) -> Option<i64> {
    let mut base = None;
    for op in &history.operations {
        let Call::Send { records, .. } = &op.call else {
            continue;
        };
        let appended = match op.answer() {
            Some(Answer::Send {
                log_append_time, ..
            }) => *log_append_time,
            _ => -1,
        };
        let times = records.iter().map(|record| record.timestamp);
        let latest = times.chain([appended]).max().unwrap_or(-1);
        base = base.max(Some(latest - millis(op.invoked)));
    }
    base
}

fn millis(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX) / MILLI
}
