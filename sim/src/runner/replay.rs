//! What once failed, again.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use super::options::{CorpusOptions, ReplayOptions};
use super::process::Processes;
use super::progress::Progress;
use super::report::{Report, Verdict};
use super::schedule::{Entry, corpus as entries};
use super::{Failed, pool, print, show};

pub(crate) fn replay(options: &ReplayOptions) -> Result<ExitCode, Failed> {
    let entry = match options.what.as_slice() {
        [file] if !file.contains(' ') => Entry::of_file(Path::new(file))?,
        words => Entry::of_line(&words.join(" "))?,
    };
    let job = entry.job(options.show.timeout);
    let Some(report) = show::show(job, &entry.about, &options.show)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let verdict = entry.verdict(&report);
    print(&remark(&entry, &report, verdict));
    Ok(ExitCode::from(verdict.code()))
}

/// What a replay shows beside its report.
fn remark(entry: &Entry, report: &Report, verdict: Verdict) -> String {
    let mut text = String::new();
    if let Some(expected) = &entry.expect {
        let seen = if verdict == Verdict::Good { "" } else { "not " };
        text.push_str(&format!("  {expected} was expected and was {seen}seen\n"));
    }
    if entry.hash.is_some_and(|hash| hash != report.hash) {
        text.push_str("  the trace is not the one of old: the code has changed since\n");
    }
    text
}

/// Replays the whole corpus.
pub(crate) fn corpus(options: &CorpusOptions) -> Result<ExitCode, Failed> {
    let entries = entries(&options.dir)?;
    let processes = Processes::new(options.bounds.memory)?;
    let mut progress = Progress::new(entries.len() as u64);
    let (mut worst, mut changed, mut failed) = (Verdict::Good, 0, 0);
    let mut error = None;
    let work = |entry: &Entry| {
        let report = processes.run(&entry.job(options.bounds.timeout));
        (entry.clone(), report)
    };
    pool::run(
        entries.iter(),
        options.bounds.jobs,
        work,
        |(entry, report)| {
            let report = match report {
                Ok(report) => report,
                Err(failed) => {
                    error = Some(failed);
                    return ControlFlow::Break(());
                }
            };
            let verdict = entry.verdict(&report);
            changed += u64::from(entry.hash.is_some_and(|hash| hash != report.hash));
            worst = worst.max(verdict);
            if verdict != Verdict::Good {
                failed += 1;
                let remark = remark(&entry, &report, verdict);
                let (name, about, again) = (entry.name(), &entry.about, entry.replay());
                let text =
                    format!("{name} ({about}):\n{report}{remark}  again: klamm-sim {again}\n");
                progress.say(&text);
            }
            progress.step(&format!("{failed} failed"));
            ControlFlow::Continue(())
        },
    );
    drop(progress);
    if let Some(error) = error {
        return Err(error);
    }
    print(&format!(
        "corpus: {} entries, {failed} failed, {changed} with another trace than of old\n",
        entries.len()
    ));
    Ok(ExitCode::from(worst.code()))
}
