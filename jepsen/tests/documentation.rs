//! What `docs/history.md` shows works.
#![allow(
    clippy::disallowed_methods,
    reason = "it reads the documentation and runs what it shows"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};

use klamm_jepsen::history::file;
use klamm_jepsen::history::summary;

const HISTORY: &str = include_str!("history.jsonl");

/// The block of code of this language in the documentation.
fn shown(language: &str) -> &'static str {
    let text = include_str!("../../docs/history.md");
    let from = text.split(&format!("```{language}\n")).nth(1);
    let code = from.and_then(|rest| rest.split("```").next());
    code.expect("it is shown")
}

#[test]
fn the_history_beside_is_one() {
    let history = file::read_history(HISTORY.as_bytes()).expect("it is one");
    let counts = summary(&history).operations;
    assert_eq!(counts["send"].ok, 1);
    assert_eq!(counts["send"].info, 2);
}

#[test]
fn the_reader_in_python_reads_what_this_one_reads() {
    let mut python = match Command::new("python3")
        .args(["-c", shown("python")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    {
        Ok(python) => python,
        Err(error) => {
            println!("SKIPPED: no python3: {error}");
            return;
        }
    };
    let mut stdin = python.stdin.take().expect("piped");
    stdin.write_all(HISTORY.as_bytes()).expect("it reads all");
    drop(stdin);
    let output = python.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let history = file::read_history(HISTORY.as_bytes()).expect("it is one");
    let mut expected = Vec::new();
    for (kind, counts) in summary(&history).operations {
        for (end, count) in [
            ("fail", counts.fail),
            ("info", counts.info),
            ("ok", counts.ok),
        ] {
            if count > 0 {
                expected.push(format!("{kind} {end} {count}"));
            }
        }
    }
    let told = String::from_utf8(output.stdout).expect("text");
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}
