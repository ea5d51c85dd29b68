//! Everything that once failed, fresh seeds of every scenario, and what the runner promises.
#![allow(
    clippy::disallowed_methods,
    reason = "the program under test is a process with arguments, variables and files"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Seconds of a run, in a debug build on a machine that does other things, too.
const PATIENCE: &str = "600";
/// Seeds that every test run tries, of each scenario of one node, and of several;
/// `KLAMM_SIM_SEEDS=A..B` asks for others.
const FRESH_SEEDS: &str = "4000..4002";
const FRESH_SEEDS_OF_CLUSTERS: &str = "4000..4001";

/// The program under test: that of this build, or the one that `KLAMM_SIM` names, from the top of
/// the repository. A release build runs the corpus some twenty times as fast.
fn program() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match std::env::var_os("KLAMM_SIM") {
        Some(other) => top.join(other),
        None => PathBuf::from(env!("CARGO_BIN_EXE_klamm-sim")),
    }
}

/// Runs the program; its exit code and what it printed.
fn klamm_sim(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(program())
        .args(arguments)
        .output()
        .expect("the program can be started");
    let code = output.status.code().expect("no signal ended it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("klamm-sim {}: {code}\n{text}{errors}", arguments.join(" "));
    (code, text)
}

/// A directory of this test.
fn dir(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).expect("a directory");
    dir
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

/// The words of the first command that the program says shows a failure again.
fn again(printed: &str) -> Vec<&str> {
    let line = printed.lines().find(|line| line.contains("again: "));
    let (_, command) = line
        .and_then(|line| line.split_once("klamm-sim "))
        .expect("a failure is printed with the command that shows it again");
    command.split(' ').collect()
}

/// A sweep that shows a planted fault, and the command that shows it again.
fn planted_loss() -> (String, Vec<String>) {
    let sweep = ["seeds", "0..40", "--scenario", "planted-loss"];
    let (code, printed) = klamm_sim(&sweep);
    assert_eq!(code, 1, "a violation");
    let command = again(&printed).into_iter().map(str::to_owned).collect();
    (printed, command)
}

#[test]
fn nothing_of_the_corpus_fails_again() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus");
    let (code, _) = klamm_sim(&["corpus", corpus, "--timeout", PATIENCE]);
    assert_eq!(code, 0, "see above for what failed and how to see it again");
}

/// Runs `usual` seeds, or those asked for, of every scenario of a kind.
fn fresh(kind: &str, usual: &str) {
    let seeds = std::env::var("KLAMM_SIM_SEEDS").unwrap_or_else(|_| usual.to_owned());
    let sweep = ["--scenario", kind, "--keep-going", "--twice", "25"];
    let patience = ["--timeout", PATIENCE];
    let arguments = ["seeds", &seeds].into_iter().chain(sweep).chain(patience);
    let (code, _) = klamm_sim(&arguments.collect::<Vec<&str>>());
    assert_eq!(code, 0, "see above for what failed and how to see it again");
}

#[test]
fn fresh_seeds_of_every_scenario_of_one_node_break_nothing_and_mean_one_run() {
    fresh("node-only", FRESH_SEEDS);
}

#[test]
fn fresh_seeds_of_every_scenario_of_clusters_break_nothing_and_mean_one_run() {
    fresh("clusters", FRESH_SEEDS_OF_CLUSTERS);
}

#[test]
fn planted_nondeterminism_is_reported_with_the_first_event_that_differs() {
    for plant in ["planted-clock", "planted-hash-map", "planted-select"] {
        let (code, printed) = klamm_sim(&["run", "--scenario", plant, "--seed", "7", "--twice"]);
        assert_eq!(code, 5, "{plant}");
        let lines: Vec<&str> = printed.lines().map(str::trim).collect();
        let named = "the first event that differs is number ";
        let at = lines.iter().position(|line| line.starts_with(named));
        let at = at.unwrap_or_else(|| panic!("{plant}: no event is named"));
        let number: u64 = lines[at][named.len()..]
            .trim_end_matches(':')
            .parse()
            .expect("a number");
        // Ten events with the numbers 0 to 9 come before the noise.
        assert!(number > 10, "{plant}: {number}");
        let differs = |sign: &str| {
            let begin = format!("{sign} {number} ");
            lines[at..].iter().any(|line| line.starts_with(&begin))
        };
        assert!(differs("-") && differs("+"), "{plant}: not both are shown");
        let sweep = ["seeds", "3..6", "--scenario", plant, "--twice", "100"];
        let (code, printed) = klamm_sim(&sweep);
        assert_eq!(code, 5, "{plant} in a sweep");
        assert!(again(&printed).contains(&"--twice"), "{plant}");
    }
}

#[test]
fn a_run_that_is_sound_is_the_same_twice() {
    let file = dir("sweep").join("summary.json");
    let sweep = [
        "seeds",
        "0..4",
        "--scenario",
        "planted-nothing",
        "--twice",
        "100",
        "--json",
    ];
    let sweep: Vec<&str> = sweep.into_iter().chain([text_of(&file)]).collect();
    let (code, printed) = klamm_sim(&sweep);
    assert_eq!(code, 0);
    assert!(printed.contains("4 runs, 4 of them twice: "), "the count");
    let summary = std::fs::read_to_string(&file).expect("it was written");
    assert!(summary.contains("\"runs\": 4"), "{summary}");
}

#[test]
fn each_way_to_fail_has_its_exit_code() {
    let ways: [(&[&str], i32); 7] = [
        (&["seeds", "0..30", "--scenario", "planted-loss"], 1),
        (&["seeds", "5..3"], 2),
        (&["seeds", "0..30", "--scenario", "planted-panic"], 3),
        (
            &[
                "seeds",
                "1..2",
                "--scenario",
                "planted-hang",
                "--timeout",
                "1",
            ],
            4,
        ),
        (&["seeds", "1..3", "--scenario", "planted-vacuous"], 6),
        (
            &[
                "seeds",
                "1..2",
                "--scenario",
                "planted-memory",
                "--memory",
                "300",
            ],
            7,
        ),
        (
            &["shrink", "--scenario", "planted-vacuous", "--seed", "1"],
            8,
        ),
    ];
    for (arguments, expected) in ways {
        assert_eq!(klamm_sim(arguments).0, expected, "{arguments:?}");
    }
    assert_eq!(
        klamm_sim(&["run", "--scenario", "no-such", "--seed", "1"]).0,
        2
    );
    assert_eq!(
        klamm_sim(&["run", "--scenario", "planted-vacuous", "--seed", "1"]).0,
        6
    );
    assert_eq!(klamm_sim(&["replay", "no-such-file.toml"]).0, 2);
}

#[test]
fn a_panic_and_a_hang_are_reported_with_the_end_of_the_trace() {
    let (_, printed) = klamm_sim(&["seeds", "0..30", "--scenario", "planted-panic"]);
    assert!(printed.contains("a planted panic"), "the message");
    assert!(printed.contains("ledger.rs:"), "the place");
    assert!(printed.contains(" server write "), "the trace");
    let hang = [
        "run",
        "--seed",
        "1",
        "--scenario",
        "planted-hang",
        "--timeout",
        "1",
    ];
    let (code, printed) = klamm_sim(&hang);
    assert_eq!(code, 4);
    assert!(printed.contains(" server start"), "the trace");
}

#[test]
fn a_failure_is_printed_with_the_command_that_shows_it_again() {
    let (printed, command) = planted_loss();
    assert!(printed.contains("P1 at "), "the property");
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let (code, shown) = klamm_sim(&command);
    assert_eq!(code, 1);
    assert!(shown.contains("P1 at "), "the same property");
}

#[test]
fn a_plan_that_was_shrunk_fails_in_the_same_way() {
    let (_, command) = planted_loss();
    let file = dir("shrink").join("small.toml");
    let shrink = ["shrink", "--scenario", "planted-loss", "--seed"];
    let mut arguments: Vec<&str> = shrink.to_vec();
    arguments.extend([command.last().expect("the seed"), "-o", text_of(&file)]);
    assert_eq!(klamm_sim(&arguments).0, 0);
    let text = std::fs::read_to_string(&file).expect("the file");
    assert_eq!(text.matches("[[plan.faults]]").count(), 1, "{text}");
    assert_eq!(text.matches("[[plan.clients]]").count(), 1, "{text}");
    assert!(!text.contains("[[plan.topics]]"), "{text}");
    assert!(text.contains("found = \"P1\""), "{text}");
    let (code, printed) = klamm_sim(&["replay", text_of(&file)]);
    assert_eq!(code, 1);
    assert!(printed.contains("P1 at "));
    let expecting = format!("expect = \"P1\"\n{text}");
    std::fs::write(&file, expecting).expect("it can be changed");
    assert_eq!(klamm_sim(&["replay", text_of(&file)]).0, 0);
}

#[test]
fn what_failed_leaves_its_plan_history_and_trace() {
    let kept = dir("artifacts");
    let sweep = [
        "seeds",
        "0..30",
        "--scenario",
        "planted-loss",
        "--artifacts",
    ];
    let arguments: Vec<&str> = sweep.into_iter().chain([text_of(&kept)]).collect();
    let (code, printed) = klamm_sim(&arguments);
    assert_eq!(code, 1);
    let command = again(&printed);
    let seed = command.last().expect("the seed");
    let read = |ending: &str| {
        let path = kept.join(format!("planted-loss-{seed}.{ending}"));
        std::fs::read_to_string(path).expect("it was kept")
    };
    assert!(read("txt").contains("P1 at "));
    assert!(read("jsonl").lines().count() > 10);
    let trace = read("trace");
    assert!(trace.lines().count() > 100);
    let plan = kept.join(format!("planted-loss-{seed}.toml"));
    let (code, printed) = klamm_sim(&["replay", text_of(&plan), "--trace"]);
    assert_eq!(code, 1);
    assert!(printed.starts_with(&trace), "the plan gives the same run");
}

#[test]
fn the_plan_that_is_printed_gives_the_same_run() {
    let file = dir("plan").join("plan.toml");
    let seed = ["run", "--scenario", "planted-loss", "--seed", "5"];
    let planned: Vec<&str> = seed.into_iter().chain(["--plan"]).collect();
    std::fs::write(&file, klamm_sim(&planned).1).expect("it can be written");
    let hash = |printed: &str| {
        let line = printed.lines().find(|line| line.contains("trace hash"));
        line.expect("the hash is printed").to_owned()
    };
    let (of_seed, of_plan) = (klamm_sim(&seed), klamm_sim(&["replay", text_of(&file)]));
    assert_eq!(hash(&of_seed.1), hash(&of_plan.1));
}

#[test]
fn a_build_without_mutants_refuses_them() {
    if cfg!(feature = "mutants") {
        return;
    }
    assert_eq!(klamm_sim(&["matrix"]).0, 2);
    assert_eq!(klamm_sim(&["run", "--seed", "1", "--mutant", "any"]).0, 2);
}
