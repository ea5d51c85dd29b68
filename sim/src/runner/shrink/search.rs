//! The search itself: which plan to try next. It knows nothing of processes.

use std::collections::BTreeSet;
use std::ops::Range;

use super::simpler;
use crate::plan::{Plan, Versions};

/// What came of trying a plan.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tried {
    /// It fails in the same way, as this plan: the one tried, with the seed that made it fail.
    Fails(Box<Plan>),
    Passes,
    /// There is no time for more.
    Over,
}

/// Delta debugging (Zeller and Hildebrandt, 2002) of one plan. Its result fails in the same way,
/// and if the search was not ended early, none of the steps below makes it smaller.
pub(crate) struct Search<T> {
    best: Plan,
    /// Given a plan to try and the best so far.
    attempt: T,
    /// Plans that passed, as JSON and without their seeds.
    passed: BTreeSet<String>,
    over: bool,
}

/// Size of a plan for people.
pub(crate) fn size(plan: &Plan) -> String {
    format!(
        "{} faults, {} clients, {} topics, {} settings, {} ms",
        plan.faults.len(),
        plan.clients.len(),
        plan.topics.len(),
        plan.broker.len(),
        plan.length_ms,
    )
}

impl<T: FnMut(&Plan, &Plan) -> Tried> Search<T> {
    pub(crate) fn new(failing: Plan, attempt: T) -> Self {
        Self {
            best: failing,
            attempt,
            passed: BTreeSet::new(),
            over: false,
        }
    }

    /// Goes on until nothing makes the plan smaller, or there is no more time.
    pub(crate) fn run(mut self) -> Plan {
        loop {
            let before = self.best.clone();
            self.drop_faults();
            self.drop_clients();
            self.drop_topics();
            self.forget_settings();
            self.simplify_surroundings();
            self.shorten();
            self.simplify_clients();
            // Another seed alone is no progress.
            let seed = before.seed;
            if self.over
                || (Plan {
                    seed,
                    ..self.best.clone()
                }) == before
            {
                return self.best;
            }
        }
    }

    /// Tries a plan, and goes on from it if it fails.
    fn accepts(&mut self, candidate: Plan) -> bool {
        if self.over || candidate == self.best {
            return false;
        }
        let mut key = candidate.clone();
        key.seed = 0;
        // What has no JSON is tried each time.
        let key = serde_json::to_string(&key).unwrap_or_default();
        if self.passed.contains(&key) {
            return false;
        }
        match (self.attempt)(&candidate, &self.best) {
            Tried::Fails(plan) => {
                self.best = *plan;
                true
            }
            Tried::Passes => {
                self.passed.insert(key);
                false
            }
            Tried::Over => {
                self.over = true;
                false
            }
        }
    }

    /// Drops parts of a list: all, then halves, then smaller pieces, then one by one, again and
    /// again, until none can be spared.
    fn drop_parts(
        &mut self,
        len: impl Fn(&Plan) -> usize,
        without: impl Fn(&Plan, Range<usize>) -> Plan,
    ) {
        let mut piece = len(&self.best);
        while piece > 0 && !self.over {
            let (mut at, mut dropped) = (0, false);
            while at < len(&self.best) && !self.over {
                let end = (at + piece).min(len(&self.best));
                let candidate = without(&self.best, at..end);
                if self.accepts(candidate) {
                    dropped = true;
                } else {
                    at = end;
                }
            }
            if piece > 1 || !dropped {
                piece /= 2;
            }
        }
    }

    /// Makes a number smaller: to `least`, or else by halves of what is above that.
    fn lower(&mut self, least: u64, get: impl Fn(&Plan) -> u64, set: impl Fn(&mut Plan, u64)) {
        let with = |plan: &Plan, number| {
            let mut plan = plan.clone();
            set(&mut plan, number);
            plan
        };
        if get(&self.best) <= least || self.accepts(with(&self.best, least)) {
            return;
        }
        loop {
            let number = get(&self.best);
            let half = least + number.saturating_sub(least) / 2;
            if half >= number || !self.accepts(with(&self.best, half)) {
                return;
            }
        }
    }

    fn drop_faults(&mut self) {
        self.drop_parts(
            |plan| plan.faults.len(),
            |plan, range| {
                let mut plan = plan.clone();
                plan.faults.drain(range);
                plan
            },
        );
    }

    fn drop_clients(&mut self) {
        self.drop_parts(
            |plan| plan.clients.len(),
            |plan, range| {
                let mut plan = plan.clone();
                plan.clients.drain(range);
                plan
            },
        );
    }

    fn drop_topics(&mut self) {
        self.drop_parts(
            |plan| plan.topics.len(),
            |plan, range| {
                let mut plan = plan.clone();
                plan.topics.drain(range);
                plan
            },
        );
        for at in 0..self.best.topics.len() {
            self.lower(
                1,
                |plan| u64::try_from(plan.topics[at].partitions).unwrap_or(0),
                |plan, number| plan.topics[at].partitions = i32::try_from(number).unwrap_or(1),
            );
            self.drop_parts(
                |plan| plan.topics[at].config.len(),
                |plan, range| {
                    let mut plan = plan.clone();
                    drop_keys(&mut plan.topics[at].config, range);
                    plan
                },
            );
        }
    }

    fn forget_settings(&mut self) {
        self.drop_parts(
            |plan| plan.broker.len(),
            |plan, range| {
                let mut plan = plan.clone();
                drop_keys(&mut plan.broker, range);
                plan
            },
        );
    }

    /// Network, disk and clocks as they are by default.
    fn simplify_surroundings(&mut self) {
        for disk in simpler::toward_default(&self.best.disk) {
            self.accepts(Plan {
                disk,
                ..self.best.clone()
            });
        }
        for link in simpler::toward_default(&self.best.link) {
            self.accepts(Plan {
                link,
                ..self.best.clone()
            });
        }
        for clock in simpler::toward_default(&self.best.clock) {
            self.accepts(Plan {
                clock,
                ..self.best.clone()
            });
        }
    }

    fn shorten(&mut self) {
        while self.accepts(simpler::sooner(&self.best)) {}
        self.lower(1, |plan| plan.length_ms, |plan, ms| plan.length_ms = ms);
        for at in 0..self.best.faults.len() {
            for number in 0..simpler::durations(&mut self.best.faults[at].fault).len() {
                self.lower(
                    1,
                    |plan| {
                        let mut fault = plan.faults[at].fault.clone();
                        *simpler::durations(&mut fault)[number]
                    },
                    |plan, ms| *simpler::durations(&mut plan.faults[at].fault)[number] = ms,
                );
            }
        }
    }

    fn simplify_clients(&mut self) {
        for at in 0..self.best.clients.len() {
            let mut plain = self.best.clone();
            plain.clients[at].start_ms = 0;
            plain.clients[at].versions = Versions::Newest;
            self.accepts(plain);
            for role in simpler::roles(&self.best.clients[at].role) {
                let mut candidate = self.best.clone();
                candidate.clients[at].role = simpler::joined(&candidate.clients[at].role, &role);
                self.accepts(candidate);
            }
        }
    }
}

fn drop_keys(from: &mut std::collections::BTreeMap<String, String>, range: Range<usize>) {
    let keys: Vec<String> = from.keys().cloned().collect();
    for key in &keys[range] {
        from.remove(key);
    }
}

#[cfg(test)]
mod tests;
