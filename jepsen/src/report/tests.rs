//! What reports say, and that they stay short.

use super::files;
use crate::checker::Options;
use crate::checker::story::{Story, fetched, read, seen, send, sent, written};
use crate::history::{History, NodeEvent, Phase};
use crate::judge::{Judgement, judge};

/// A record that was acknowledged and is gone, among `others` that are not.
fn lost(others: u64) -> (History, Judgement) {
    let mut story = Story::new();
    story.phase(Phase::Safety);
    story.node(NodeEvent::Ready);
    let records: Vec<_> = (0..=others)
        .map(|id| written(id + 1, "k<&>", false, 5))
        .collect();
    for (offset, record) in (0..).zip(&records) {
        story.done(send(record.clone()), sent(offset));
    }
    story.node(NodeEvent::Kill);
    story.node(NodeEvent::Ready);
    story.wait(100);
    story.phase(Phase::Final);
    let kept: Vec<_> = (0..)
        .zip(&records)
        .filter(|(offset, _)| *offset != 1)
        .collect();
    let kept = kept
        .into_iter()
        .map(|(offset, record)| seen(offset, record));
    story.done(read(0), fetched(0, -1, kept.collect()));
    let history = story.history();
    let judgement = judge(&history, Options::default());
    (history, judgement)
}

fn file<'a>(files: &'a [(String, String)], name: &str) -> &'a str {
    let found = files.iter().find(|(one, _)| one == name);
    &found.expect("it is there").1
}

#[test]
fn a_report_names_the_anomaly_the_record_and_the_operations() {
    let (history, judgement) = lost(30);
    let files = files(&history, &judgement);
    let text = file(&files, "report.txt");
    for wanted in [
        "violated P2 1 times: lost write",
        "record 2 at offset 1 is lost",
        "operation 2 of client, begun at 0.005000 s, told at 0.006000 s: send 2 to t-0 (acks -1) -> at 1",
        "operation 32 of client",
        "server: killed",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let drawn = file(&files, "1-P2.svg");
    assert_eq!(
        drawn.matches("offending' x=").count(),
        2 * 2,
        "two bars, two texts"
    );
    assert!(drawn.contains("class='away'"), "the server was away");
    let page = file(&files, "report.html");
    assert!(page.contains(drawn) && !page.contains("<script"));
}

#[test]
fn a_report_of_a_long_history_is_short() {
    let (history, judgement) = lost(5_000);
    for (name, content) in files(&history, &judgement) {
        assert!(content.len() < 60_000, "{name} has {} bytes", content.len());
    }
}

#[test]
fn a_good_history_has_a_report_without_time_lines() {
    let mut story = Story::new();
    for id in 1..12 {
        let record = written(id, "k", false, 5);
        story.done(send(record), sent(i64::try_from(id).expect("small") - 1));
    }
    let history = story.history();
    let files = files(&history, &judge(&history, Options::default()));
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["report.txt", "report.html"]);
    assert!(file(&files, "report.txt").starts_with("good\n"));
}
