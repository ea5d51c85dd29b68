//! How long writes stopped: the time between acknowledgements, by partition and over all.

use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Acknowledgements of a number of partitions. Threads share it.
pub struct Pulse {
    beats: Mutex<Beats>,
}

struct Beats {
    partitions: Vec<Beat>,
    all: Beat,
}

#[derive(Clone)]
struct Beat {
    last: Instant,
    /// Between two acknowledgements since the round began, the one before it included.
    longest: Duration,
    count: u64,
}

/// What was seen since the latest [`Pulse::begin`].
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    /// The longest time without an acknowledgement of the partition for which it was longest.
    pub of_a_partition: Duration,
    /// The longest time without an acknowledgement at all.
    pub of_all: Duration,
}

impl Beat {
    fn beat(&mut self, now: Instant) {
        self.longest = self.silence(now);
        self.last = now;
        self.count += 1;
    }

    fn silence(&self, now: Instant) -> Duration {
        self.longest.max(now - self.last)
    }
}

impl Pulse {
    pub fn new(partitions: usize) -> Self {
        let beat = Beat {
            last: Instant::now(),
            longest: Duration::ZERO,
            count: 0,
        };
        let beats = Beats {
            partitions: vec![beat.clone(); partitions],
            all: beat,
        };
        Self {
            beats: Mutex::new(beats),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Beats> {
        self.beats.lock().expect("nobody panics here")
    }

    /// A record of partition `at` was acknowledged now.
    pub fn beat(&self, at: usize) {
        let mut beats = self.lock();
        let now = Instant::now();
        beats.partitions[at].beat(now);
        beats.all.beat(now);
    }

    /// Forgets the silences before now, but for those that are not over.
    pub fn begin(&self) {
        let mut beats = self.lock();
        let Beats { partitions, all } = &mut *beats;
        for beat in partitions.iter_mut().chain([all]) {
            beat.longest = Duration::ZERO;
        }
    }

    pub fn silence(&self) -> Silence {
        let beats = self.lock();
        let now = Instant::now();
        let partitions = beats.partitions.iter().map(|beat| beat.silence(now));
        Silence {
            of_a_partition: partitions.max().unwrap_or_default(),
            of_all: beats.all.silence(now),
        }
    }

    /// The partition with the most acknowledgements.
    pub fn busiest(&self) -> usize {
        let beats = self.lock();
        let counts = beats.partitions.iter().enumerate();
        let busiest = counts.max_by_key(|(_, beat)| beat.count);
        busiest.map_or(0, |(at, _)| at)
    }

    /// The first partition without an acknowledgement after `then`.
    pub fn silent_since(&self, then: Instant) -> Option<usize> {
        let beats = self.lock();
        beats.partitions.iter().position(|beat| beat.last <= then)
    }
}

/// Many spans, told by their order.
pub struct Distribution(Vec<Duration>);

impl Distribution {
    pub fn new(spans: impl IntoIterator<Item = Duration>) -> Self {
        let mut spans: Vec<Duration> = spans.into_iter().collect();
        spans.sort_unstable();
        Self(spans)
    }

    /// The least span that is not below `percent` of all (nearest rank).
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |percent| self.percentile(percent).as_millis();
        let (p50, p90, p99, max) = (millis(50), millis(90), millis(99), millis(100));
        let count = self.0.len();
        write!(
            f,
            "p50 {p50} ms, p90 {p90} ms, p99 {p99} ms, max {max} ms of {count}"
        )
    }
}

#[test]
fn percentiles_are_those_of_the_nearest_rank() {
    let spans = Distribution::new((1..=100).rev().map(Duration::from_millis));
    assert_eq!(
        spans.to_string(),
        "p50 50 ms, p90 90 ms, p99 99 ms, max 100 ms of 100"
    );
    let one = Distribution::new([Duration::from_millis(7)]);
    assert_eq!(one.percentile(50), Duration::from_millis(7));
}

#[test]
fn a_silence_is_that_of_the_worst_partition() {
    let pulse = Pulse::new(2);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(5));
        pulse.beat(0);
    }
    let silence = pulse.silence();
    assert!(
        silence.of_a_partition >= Duration::from_millis(20),
        "{silence:?}"
    );
    assert!(silence.of_all < silence.of_a_partition, "{silence:?}");
    assert_eq!(pulse.busiest(), 0);
    pulse.begin();
    pulse.beat(1);
    assert!(pulse.silence().of_a_partition >= Duration::from_millis(20));
}
