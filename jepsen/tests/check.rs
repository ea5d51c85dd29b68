//! `klamm-jepsen check` by its exit codes, its words and its files.
#![allow(
    clippy::disallowed_methods,
    reason = "it runs the command and looks at its files"
)]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

const HISTORY: &str = include_str!("history.jsonl");

fn check(history: &str, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_klamm-jepsen"))
        .args(["check", "-"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was built");
    let mut stdin = command.stdin.take().expect("piped");
    // One that gives up early does not read all.
    let _ = stdin.write_all(history.as_bytes());
    drop(stdin);
    command.wait_with_output().expect("it ends")
}

/// The history, and after it reads that show the same once more: enough to prove something.
fn long() -> String {
    let mut lines: Vec<String> = HISTORY.lines().map(str::to_owned).collect();
    let at = |number: usize| lines[number].clone();
    let (asked, answered) = (at(12), at(13));
    for number in 7..17 {
        lines.push(asked.replace("\"op\":6", &format!("\"op\":{number}")));
        lines.push(answered.replace("\"op\":6", &format!("\"op\":{number}")));
    }
    // The times of what was put at the end.
    for (line, time) in lines[15..].iter_mut().zip(20_000..) {
        let rest = line.split_once(',').expect("fields").1.to_owned();
        *line = format!("{{\"time\":{time},{rest}");
        *line = line.replace("\"reader\"", "\"again\"");
    }
    // Each of them is a consumer of its own.
    for (place, line) in lines[15..].iter_mut().enumerate() {
        *line = line.replace("\"again\"", &format!("\"again-{}\"", place / 2));
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_exit_code_says_the_verdict() {
    let good = check(&long(), &[]);
    let told = String::from_utf8_lossy(&good.stdout);
    assert_eq!(good.status.code(), Some(0), "{told}");
    assert!(told.starts_with("-: good\n"), "{told}");

    let vacuous = check(HISTORY, &[]);
    assert_eq!(vacuous.status.code(), Some(6));

    let lost = long().replace(
        "{\"offset\":0,\"id\":1,\"digest\":71,\"timestamp\":1700000000000},",
        "",
    );
    let violated = check(&lost, &[]);
    let told = String::from_utf8_lossy(&violated.stdout);
    assert_eq!(violated.status.code(), Some(1), "{told}");
    assert!(told.contains("violated P2 1 times: lost write"), "{told}");
}

/// The lines of a history, and the same of another cluster beside them.
fn twice(history: &str) -> (String, String) {
    let line = |line: &str, cluster: Option<&str>| {
        let mut event: serde_json::Value = serde_json::from_str(line).expect("an event");
        if let Some(op) = event.get("op").and_then(serde_json::Value::as_u64) {
            event["op"] = (op * 2 + u64::from(cluster.is_some())).into();
        }
        if let Some(cluster) = cluster {
            event["cluster"] = cluster.into();
        }
        event.to_string() + "\n"
    };
    let first = history.lines().map(|text| line(text, None));
    let second = history.lines().map(|text| line(text, Some("b")));
    let lines = first.zip(second);
    lines.map(|(one, other)| (one + &other, other)).unzip()
}

#[test]
fn each_of_several_clusters_is_a_history_by_itself() {
    let (both, second) = twice(&long());
    let good = check(&both, &[]);
    let told = String::from_utf8_lossy(&good.stdout);
    assert_eq!(good.status.code(), Some(0), "{told}");

    let lost = "{\"digest\":71,\"id\":1,\"offset\":0,\"timestamp\":1700000000000},";
    let mut broken = both.clone();
    for line in second.lines().filter(|line| line.contains(lost)) {
        broken = broken.replace(line, &line.replace(lost, ""));
    }
    assert_ne!(broken, both);
    let violated = check(&broken, &[]);
    let told = String::from_utf8_lossy(&violated.stdout);
    assert_eq!(violated.status.code(), Some(1), "{told}");
    assert!(told.contains("violated P2 1 times: lost write"), "{told}");
    assert!(told.contains("cluster b: "), "{told}");
}

#[test]
fn a_file_that_is_no_history_is_told_with_its_line() {
    for (broken, why) in [
        (
            HISTORY.replace("\"op\":4", "\"op\":2"),
            "line 9: operation 2 begins twice",
        ),
        (
            HISTORY.replace("\"time\":9000,", ""),
            "line 9 is no event of a history: missing field `time`",
        ),
        (
            HISTORY.replace("\"type\":\"info\"", "\"type\":\"oh\""),
            "line 8 is no event",
        ),
        ("no JSON".to_owned(), "line 1 is no event"),
    ] {
        let output = check(&broken, &[]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(why), "{why}: {told}");
    }
}

#[test]
fn a_report_is_written_where_it_is_asked_for() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    let output = check(HISTORY, &["--report", &dir.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(6));
    for name in ["report.txt", "report.html"] {
        let content = std::fs::read_to_string(dir.join(name)).expect("it was written");
        assert!(content.contains("it proves nothing"), "{content}");
    }
}
