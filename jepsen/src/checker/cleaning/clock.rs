//! What the history lets one say of the broker's wall clock.
//!
//! Records carry their clients' wall clocks, and LogAppendTime the broker's. The largest distance
//! between such a time and the time of its send bounds the wall clock at any time, as long as
//! clocks only drift: by at most a twentieth. A fault that steps or drifts a clock takes all
//! certainty away.

use crate::history::{Answer, Call, History, Note};

const MILLI: i64 = 1_000_000;

/// Bounds of the wall clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// Wall-clock milliseconds at time 0, at most. Absent if that is unknown.
    base: Option<i64>,
    is_stepped: bool,
}

impl Clock {
    pub fn of(history: &History) -> Self {
        let is_stepped = history.notes.iter().any(|(_, _, note)| match note {
            Note::Fault { kind, .. } => kind.to_lowercase().contains("clock"),
            _ => false,
        });
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
        Self { base, is_stepped }
    }

    /// The latest that the broker's wall clock may show at `time`, in milliseconds.
    pub fn latest(&self, time: u64) -> Option<i64> {
        let at = millis(time);
        let base = self.base.filter(|_| !self.is_stepped)?;
        Some(base + at + Self::slack(at))
    }

    /// The most milliseconds by which the broker's wall clock may have moved on between two times.
    pub fn most_between(&self, from: u64, until: u64) -> Option<i64> {
        let span = millis(until.saturating_sub(from));
        (!self.is_stepped).then(|| span + Self::slack(span))
    }

    fn slack(span: i64) -> i64 {
        span / 16 + 500
    }
}

fn millis(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX) / MILLI
}
