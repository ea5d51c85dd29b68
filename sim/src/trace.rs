//! What happened, event by event: the witness that a seed means one run.
//!
//! Every event is folded at once into a hash of all events so far, so that two runs can be compared
//! by one number. Of the lines themselves only the last few are kept, for reports of panics and
//! hangs, unless the whole trace is asked for.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use madsim::time::TimeHandle;

/// Lines kept when the whole trace is not asked for.
const LAST_LINES: usize = 200;

/// Bytes kept of such a line: one event may carry a whole fetch.
const LAST_LINE_BYTES: usize = 2000;

/// The trace that began last in this process, for [`Trace::latest`].
static LATEST: Mutex<Weak<Mutex<State>>> = Mutex::new(Weak::new());

/// Events of one run in their order, shared by all of its parts.
///
/// A line may hold only what the seed decides: no address in memory, no thread, no task id.
///
/// A line reads: number of the event, simulated time in nanoseconds, node, what it did.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether every line is kept.
    whole: bool,
    events: u64,
    hash: Hash,
    /// Where the present line is written, before anybody knows whether it is kept.
    line: String,
    lines: VecDeque<String>,
}

impl Trace {
    /// A trace that keeps every line.
    #[must_use]
    pub fn whole() -> Self {
        let state = State {
            whole: true,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Adds what `node` did, at the present simulated time.
    pub fn event(&self, node: &str, what: fmt::Arguments<'_>) {
        let now = TimeHandle::try_current().map_or(0, |time| time.elapsed().as_nanos());
        let mut state = self.state();
        if state.events == 0 {
            *LATEST.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&self.state);
        }
        state.add(now, node, what);
    }

    /// A number that stands for all events so far, to compare runs of different processes.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.state().hash.finish()
    }

    /// Number of events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.state().events
    }

    /// All lines so far of a [`Trace::whole`] one, else the last.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.state().lines.iter().cloned().collect()
    }

    /// The trace that began last in this process, if its run is not over: for a report on a run
    /// that panicked or hangs, in a process that does one run at a time.
    pub(crate) fn latest() -> Option<Self> {
        let latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
        latest.upgrade().map(|state| Self { state })
    }

    /// Hash, number of events and lines, if no event is being written: that may be what panicked.
    pub(crate) fn glance(&self) -> Option<(u64, u64, Vec<String>)> {
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let skipped = state.lines.len().saturating_sub(LAST_LINES);
        let last = state.lines.iter().skip(skipped).cloned().collect();
        Some((state.hash.finish(), state.events, last))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, now: u128, node: &str, what: fmt::Arguments<'_>) {
        self.events += 1;
        self.line.clear();
        // Writing to a string cannot fail, unless a `Debug` of what is written does.
        let written = write!(self.line, "{} {now} {node} {what}", self.events);
        if written.is_err() {
            self.line.push_str(" (cannot be shown)");
        }
        self.hash.fold(self.line.as_bytes());
        if self.whole {
            self.lines.push_back(self.line.clone());
            return;
        }
        let mut kept = if self.lines.len() < LAST_LINES {
            String::new()
        } else {
            self.lines.pop_front().unwrap_or_default()
        };
        kept.clear();
        kept.push_str(&self.line[..self.line.floor_char_boundary(LAST_LINE_BYTES)]);
        self.lines.push_back(kept);
    }
}

/// A hash of a sequence of lines: words are multiplied to twice their width and folded. It is for
/// telling runs apart, not for facing an enemy, and is the same on every machine.
#[derive(Debug)]
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0x243f_6a88_85a3_08d3)
    }
}

impl Hash {
    fn word(&mut self, word: u64) {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0 ^ word) * u128::from(FACTOR);
        let low = u64::try_from(product & u128::from(u64::MAX)).unwrap_or(0);
        let high = u64::try_from(product >> 64).unwrap_or(0);
        self.0 = (low ^ high).rotate_left(23).wrapping_add(FACTOR);
    }

    /// Adds a line: its length too, so that two lines are not one.
    fn fold(&mut self, line: &[u8]) {
        self.word(line.len() as u64);
        let (words, rest) = line.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
    }

    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::{LAST_LINES, Trace};

    fn filled(trace: Trace, texts: &[&str]) -> Trace {
        for text in texts {
            trace.event("node", format_args!("{text}"));
        }
        trace
    }

    #[test]
    fn the_hash_is_of_every_event_whether_lines_are_kept_or_not() {
        let texts: Vec<String> = (0..3000).map(|count| format!("event {count}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (short, whole) = (
            filled(Trace::default(), &texts),
            filled(Trace::whole(), &texts),
        );
        assert_eq!(short.hash(), whole.hash());
        assert_eq!((short.events(), whole.events()), (3000, 3000));
        assert_eq!(
            (short.lines().len(), whole.lines().len()),
            (LAST_LINES, 3000)
        );
        assert_eq!(short.lines(), whole.lines()[3000 - LAST_LINES..]);
        assert_eq!(whole.lines()[7], "8 0 node event 7");
    }

    #[test]
    fn any_difference_shows_in_the_hash() {
        let hash = |texts: &[&str]| filled(Trace::default(), texts).hash();
        let first = hash(&["one", "two"]);
        let others: [&[&str]; 6] = [
            &["one"],
            &["two", "one"],
            &["one", "two", ""],
            &["onetwo"],
            &["one", "twp"],
            &["one", "two\0"],
        ];
        for other in others {
            assert_ne!(hash(other), first, "{other:?}");
        }
        assert_eq!(hash(&["one", "two"]), first);
    }

    #[test]
    fn a_long_line_is_kept_in_part_and_hashed_whole() {
        let long = "é".repeat(5000);
        let longer = format!("{long}x");
        let (one, other) = (
            filled(Trace::default(), &[&long]),
            filled(Trace::default(), &[&longer]),
        );
        assert!(one.lines()[0].len() <= 2000);
        assert_eq!(one.lines(), other.lines());
        assert_ne!(one.hash(), other.hash());
    }
}
