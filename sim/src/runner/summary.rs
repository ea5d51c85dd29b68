//! What many runs amount to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Failed;
use super::report::{Report, Verdict, counts};
use super::show::speed;

/// Seeds named of each kind of failure, and slowest runs.
const NAMED: usize = 5;

/// Figures of many runs. The last of its fields are known when the runs are over.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    runs: u64,
    by_verdict: BTreeMap<&'static str, u64>,
    /// Seeds by scenario and what was found.
    failures: BTreeMap<String, BTreeSet<u64>>,
    /// Seeds by scenario.
    vacuous: BTreeMap<String, BTreeSet<u64>>,
    /// How often each reason was given.
    vacuous_because: BTreeMap<String, u64>,
    twice: u64,
    events: u64,
    simulated: u64,
    wall: u64,
    operations: BTreeMap<String, u64>,
    faults: BTreeMap<String, u64>,
    probes: BTreeMap<String, u64>,
    /// Nanoseconds, scenario and seed.
    slowest: Vec<(u64, String, u64)>,
    elapsed: u64,
    jobs: usize,
    vacuous_most: u64,
}

fn add(to: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (name, count) in from {
        *to.entry(name.clone()).or_default() += count;
    }
}

impl Summary {
    pub(crate) fn add(&mut self, report: &Report, twice: bool) {
        self.runs += 1;
        self.twice += u64::from(twice);
        *self.by_verdict.entry(report.verdict.name()).or_default() += 1;
        let Report { scenario, seed, .. } = report;
        if report.verdict.is_failure() {
            for signature in report.signatures() {
                let seeds = self.failures.entry(format!("{scenario}: {signature}"));
                seeds.or_default().insert(*seed);
            }
        }
        if let (Verdict::Vacuous, Some(why)) = (report.verdict, &report.vacuous) {
            self.vacuous
                .entry(scenario.clone())
                .or_default()
                .insert(*seed);
            *self.vacuous_because.entry(why.clone()).or_default() += 1;
        }
        self.events += report.events;
        self.simulated += report.simulated;
        self.wall += report.wall;
        add(&mut self.operations, &report.operations);
        add(&mut self.faults, &report.faults);
        add(&mut self.probes, &report.probes);
        self.slowest.push((report.wall, scenario.clone(), *seed));
        self.slowest.sort_by(|one, other| other.cmp(one));
        self.slowest.truncate(NAMED);
    }

    /// In a few words, while it goes on.
    pub(crate) fn state(&self) -> String {
        let count = |verdict: Verdict| self.by_verdict.get(verdict.name()).copied().unwrap_or(0);
        let vacuous = count(Verdict::Vacuous);
        let failed = self.runs - count(Verdict::Good) - vacuous;
        format!("{failed} failed, {vacuous} vacuous")
    }

    /// The runs are over, after `elapsed` on `jobs` processes at once; more than `vacuous_most`
    /// percent of vacuous ones are a failure.
    pub(crate) fn finish(&mut self, elapsed: Duration, jobs: usize, vacuous_most: u64) {
        self.elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.jobs = jobs.max(1);
        self.vacuous_most = vacuous_most;
    }

    /// The gravest of all.
    pub(crate) fn verdict(&self) -> Verdict {
        let all = [
            Verdict::Nondeterminism,
            Verdict::Panic,
            Verdict::Died,
            Verdict::Timeout,
            Verdict::Violation,
        ];
        let found = |verdict: &Verdict| self.by_verdict.contains_key(verdict.name());
        if let Some(worst) = all.into_iter().find(found) {
            return worst;
        }
        let vacuous = self.by_verdict.get(Verdict::Vacuous.name()).copied();
        if vacuous.unwrap_or(0) * 100 > self.runs * self.vacuous_most {
            Verdict::Vacuous
        } else {
            Verdict::Good
        }
    }

    pub(crate) fn to_json(&self) -> Result<String, Failed> {
        serde_json::to_string_pretty(self)
            .map(|text| text + "\n")
            .map_err(|error| Failed(format!("a summary cannot be written: {error}")))
    }

    fn show_seeds(
        f: &mut fmt::Formatter<'_>,
        what: &str,
        of: &BTreeMap<String, BTreeSet<u64>>,
    ) -> fmt::Result {
        for (name, seeds) in of {
            let named: Vec<String> = seeds.iter().take(NAMED).map(u64::to_string).collect();
            let more = if seeds.len() > NAMED { ", ..." } else { "" };
            let (count, named) = (seeds.len(), named.join(", "));
            writeln!(f, "  {what} {name}: {count} seeds: {named}{more}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdicts: Vec<String> = self
            .by_verdict
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        let Self { runs, twice, .. } = self;
        writeln!(
            f,
            "{runs} runs, {twice} of them twice: {}",
            verdicts.join(", ")
        )?;
        Self::show_seeds(f, "failure", &self.failures)?;
        Self::show_seeds(f, "vacuous", &self.vacuous)?;
        if !self.vacuous_because.is_empty() {
            writeln!(f, "  vacuous because: {}", counts(&self.vacuous_because))?;
        }
        writeln!(
            f,
            "  simulated {} s of {} events in {} s with {} processes at once: {:.0} simulated \
             seconds a second, {:.0} on each core while it ran one",
            self.simulated / 1_000_000_000,
            self.events,
            self.elapsed / 1_000_000_000,
            self.jobs,
            speed(self.simulated, self.elapsed),
            speed(self.simulated, self.wall),
        )?;
        writeln!(f, "  operations: {}", counts(&self.operations))?;
        writeln!(f, "  faults: {}", counts(&self.faults))?;
        let (hit, never): (BTreeMap<_, _>, BTreeMap<_, _>) = self
            .probes
            .clone()
            .into_iter()
            .partition(|(_, count)| *count > 0);
        writeln!(f, "  probes hit: {}", counts(&hit))?;
        let never: Vec<String> = never.into_keys().collect();
        if !never.is_empty() {
            writeln!(f, "  probes never hit: {}", never.join(", "))?;
        }
        let slowest: Vec<String> = self
            .slowest
            .iter()
            .map(|(wall, scenario, seed)| format!("{scenario} {seed} ({} ms)", wall / 1_000_000))
            .collect();
        writeln!(f, "  slowest: {}", slowest.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Summary;
    use crate::runner::report::{Report, Verdict};

    fn of(verdicts: &[(Verdict, u64)], vacuous_most: u64) -> Summary {
        let mut summary = Summary::default();
        for (verdict, count) in verdicts {
            for seed in 0..*count {
                let mut report = Report::new("s", seed, *verdict);
                if *verdict == Verdict::Vacuous {
                    report.vacuous = Some("too little".to_owned());
                }
                summary.add(&report, false);
            }
        }
        summary.finish(Duration::from_secs(1), 2, vacuous_most);
        summary
    }

    #[test]
    fn too_many_vacuous_runs_are_a_failure() {
        let runs = [(Verdict::Good, 95), (Verdict::Vacuous, 5)];
        assert_eq!(of(&runs, 5).verdict(), Verdict::Good);
        assert_eq!(of(&runs, 4).verdict(), Verdict::Vacuous);
    }

    #[test]
    fn the_gravest_run_is_the_verdict() {
        let runs = [
            (Verdict::Good, 9),
            (Verdict::Violation, 1),
            (Verdict::Panic, 1),
        ];
        assert_eq!(of(&runs, 5).verdict(), Verdict::Panic);
        assert_eq!(of(&runs[..2], 5).verdict(), Verdict::Violation);
    }

    #[test]
    fn failures_are_shown_with_their_lowest_seeds() {
        let text = of(&[(Verdict::Timeout, 7)], 5).to_string();
        let line = "failure s: timeout: 7 seeds: 0, 1, 2, 3, 4, ...";
        assert!(text.contains(line), "{text}");
    }
}
