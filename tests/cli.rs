//! The command line as users run it: the built binary against a broker in a process of its own.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::broker_process::{BrokerProcess, free_port, wait_for_exit};

/// What a command left behind.
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(
            self.code, 0,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self.stdout
    }

    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Fails unless the command ended with `code` and said each of `words` on stderr.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        for word in words {
            assert!(
                self.stderr.contains(word),
                "no '{word}' in: {}",
                self.stderr
            );
        }
    }
}

fn command(server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_klamm"));
    command
        .env("KLAMM_BOOTSTRAP_SERVERS", server)
        .args(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn run_with(server: &str, arguments: &[&str], input: &str) -> Done {
    let mut child = command(server, arguments).spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("piped");
    // A command that fails may not read it all.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub fn run(broker: &BrokerProcess, arguments: &[&str]) -> Done {
    run_with(&broker.bootstrap(), arguments, "")
}

fn produce(broker: &BrokerProcess, topic: &str, lines: u32) {
    let input: String = (0..lines).map(|n| format!("k{n}:v{n}\n")).collect();
    let arguments = ["produce", topic, "-K", ":", "-p", "0"];
    run_with(&broker.bootstrap(), &arguments, &input).ok();
}

#[test]
fn a_topic_is_created_listed_described_grown_and_deleted() {
    let broker = BrokerProcess::start();
    let create = [
        "topic",
        "create",
        "orders",
        "-p",
        "2",
        "-c",
        "retention.ms=3600000",
    ];
    assert_eq!(
        run(&broker, &create).ok(),
        "orders created: 2 partitions with 1 replica\n"
    );
    run(&broker, &create).fails(1, &["TOPIC_ALREADY_EXISTS", "--if-not-exists"]);
    run(&broker, &["topic", "create", "orders", "--if-not-exists"]).ok();
    run(&broker, &["topic", "create", "dry", "--dry-run"]).ok();
    let list = run(&broker, &["topic", "list", "--format", "json"]).json();
    assert_eq!(list["topics"].as_array().map(Vec::len), Some(1));
    assert_eq!(list["topics"][0]["name"], "orders");
    run(&broker, &["topic", "alter", "orders", "--partitions", "3"]).ok();
    run(&broker, &["topic", "alter", "orders", "--partitions", "1"]).fails(1, &["orders"]);
    let described = run(
        &broker,
        &["topic", "describe", "orders", "--format", "json"],
    )
    .json();
    let topic = &described["topics"][0];
    assert_eq!(topic["partitions"].as_array().map(Vec::len), Some(3));
    assert_eq!(topic["configs"]["retention.ms"], "3600000");
    assert_eq!(
        topic["partitions"][2]["leader"],
        topic["partitions"][2]["isr"][0]
    );
    let text = run(&broker, &["topic", "describe", "orders"]).ok();
    assert!(text.contains("retention.ms=3600000"), "{text}");
    assert_eq!(
        run(&broker, &["topic", "delete", "orders"]).ok(),
        "orders deleted\n"
    );
    run(&broker, &["topic", "delete", "orders"]).fails(1, &["UNKNOWN_TOPIC_OR_PARTITION"]);
    run(&broker, &["topic", "delete", "orders", "--if-exists"]).ok();
}

#[test]
fn some_of_several_topics_failing_is_told_for_each() {
    let broker = BrokerProcess::start();
    let done = run(
        &broker,
        &["topic", "create", "good", "bad name", "--format", "json"],
    );
    let json: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!(
        json["topics"][0]["error"]["code"],
        "INVALID_TOPIC_EXCEPTION"
    );
    assert_eq!(
        json!([json["topics"][1]["error"], json["topics"][1]["created"]]),
        json!([null, true])
    );
    done.fails(1, &["bad name", "1 of 2"]);
}

#[test]
fn records_come_back_as_they_were_written() {
    let broker = BrokerProcess::start();
    run(&broker, &["topic", "create", "t", "-p", "3"]).ok();
    let server = broker.bootstrap();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let arguments = [
            "produce", "t", "-K", ":", "-H", "h=1", "-z", codec, "-p", "1", "-v",
        ];
        let placed = run_with(&server, &arguments, &format!("key:{codec}\nNULL:\n")).ok();
        assert_eq!(placed.lines().count(), 2, "{placed}");
    }
    let format = "%t/%p@%o %k=%v %h %H %S\\n";
    let text = run(&broker, &["consume", "t", "-e", "-f", format]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 10, "{text}");
    assert_eq!(lines[0], "t/1@0 key=none h=1 1 4");
    assert_eq!(lines[8], "t/1@8 key=zstd h=1 1 4");
    // JSON out of one topic goes into another as it is.
    let json = run(&broker, &["consume", "t", "-e", "--format", "json"]).ok();
    run_with(&server, &["produce", "copy", "--input", "json"], &json).ok();
    let copy = run(
        &broker,
        &["consume", "copy", "-n", "10", "-f", "%k=%v %h\\n"],
    )
    .ok();
    let mut copied: Vec<&str> = copy.lines().collect();
    copied.sort_unstable();
    let mut written: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split_once(' '))
        .map(|p| p.1)
        .map(|rest| rest.rsplitn(3, ' ').last().unwrap_or_default())
        .collect();
    written.sort_unstable();
    assert_eq!(copied, written);
}

#[test]
fn a_null_is_not_an_empty_value() {
    let broker = BrokerProcess::start();
    let arguments = ["produce", "t", "-K", ":", "--null", "NULL", "-p", "0"];
    run_with(&broker.bootstrap(), &arguments, "a:NULL\nb:\nNULL:c\n").ok();
    let text = run(&broker, &["consume", "t", "-n", "3", "--format", "json"]).ok();
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(records[0]["value"], Value::Null);
    assert_eq!(records[1]["value"], "");
    assert_eq!(records[2]["key"], Value::Null);
}

#[test]
fn a_file_is_read_to_its_end_and_acks_and_idempotence_are_kept_to() {
    let broker = BrokerProcess::start();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("lines.txt");
    let text: String = (0..20_000).map(|n| format!("{n}\n")).collect();
    std::fs::write(&path, text).expect("written");
    let path = path.display().to_string();
    for more in [
        ["--acks", "all"],
        ["--acks", "1"],
        ["--acks", "0"],
        ["--idempotence", "false"],
    ] {
        let mut arguments = vec![
            "produce", "t", "--file", &path, "-p", "0", "--format", "json",
        ];
        arguments.extend(more);
        let json = run(&broker, &arguments).json();
        assert_eq!(json!([json["records"], json["failed"]]), json!([20_000, 0]));
    }
    let offsets = run(&broker, &["topic", "offsets", "t", "--format", "json"]).json();
    assert_eq!(offsets["partitions"][0]["log_end_offset"], 80_000);
    run(
        &broker,
        &["produce", "t", "--acks", "1", "--idempotence", "true"],
    )
    .fails(2, &["acks=all"]);
    run(&broker, &["produce", "t", "--file", "/no/such/file"]).fails(2, &["/no/such/file"]);
    run(&broker, &["produce", "t", "--codec", "rar"]).fails(2, &["gzip, snappy"]);
    run_with(
        &broker.bootstrap(),
        &["produce", "t", "-K", ":"],
        "no separator\n",
    )
    .fails(1, &["line 1", "separator"]);
}

#[test]
fn reading_begins_where_it_is_told() {
    let broker = BrokerProcess::start();
    produce(&broker, "t", 100);
    let offsets = |from: &str| {
        let arguments = ["consume", "t", "-e", "-p", "0", "--from", from, "-f", "%o "];
        let text = run(&broker, &arguments).ok();
        let numbers: Vec<i64> = text
            .split_whitespace()
            .map(|n| n.parse().expect("a number"))
            .collect();
        (numbers.first().copied(), numbers.len())
    };
    assert_eq!(offsets("earliest"), (Some(0), 100));
    assert_eq!(offsets("40"), (Some(40), 60));
    assert_eq!(offsets("-7"), (Some(93), 7));
    assert_eq!(offsets("+98"), (Some(98), 2));
    assert_eq!(offsets("latest"), (None, 0));
    assert_eq!(offsets("@-1h"), (Some(0), 100));
    assert_eq!(offsets("@2999-01-01"), (None, 0));
    run(&broker, &["consume", "t", "--from", "soon"]).fails(2, &["earliest, latest"]);
    run(&broker, &["consume", "t", "-p", "7"]).fails(1, &["no partition 7"]);
    run(&broker, &["consume", "absent"]).fails(1, &["absent", "klamm topic create"]);
    run(&broker, &["consume", "t", "-f", "%q"]).fails(2, &["%q"]);
}

#[test]
fn trimming_deletes_the_oldest_records() {
    let broker = BrokerProcess::start();
    produce(&broker, "t", 50);
    let trimmed = run(
        &broker,
        &["topic", "trim", "t:0", "--to", "20", "--format", "json"],
    )
    .json();
    assert_eq!(trimmed["partitions"][0]["log_start_offset"], 20);
    assert_eq!(trimmed["partitions"][0]["trimmed"], 20);
    let first = run(&broker, &["consume", "t", "-n", "1", "-f", "%o"]).ok();
    assert_eq!(first, "20");
    run(&broker, &["topic", "trim", "t:0", "--to", "51"]).fails(1, &["ends at 50"]);
    run(&broker, &["topic", "trim", "t:9", "--to", "1"]).fails(1, &["no partition 9"]);
}

#[test]
fn a_group_goes_on_where_it_stopped_and_can_be_moved() {
    let broker = BrokerProcess::start();
    produce(&broker, "t", 100);
    let read = |count: &str| {
        let arguments = ["consume", "t", "-g", "g", "-n", count, "-f", "%o "];
        run(&broker, &arguments).ok()
    };
    assert_eq!(read("3"), "0 1 2 ");
    assert_eq!(read("2"), "3 4 ");
    let lag = || {
        let json = run(&broker, &["group", "describe", "g", "--format", "json"]).json();
        json["groups"][0]["total_lag"].as_i64()
    };
    assert_eq!(lag(), Some(95));
    // Shown, not done.
    let shown = run(
        &broker,
        &["group", "seek", "g", "--to", "-2", "--format", "json"],
    )
    .json();
    assert_eq!(
        json!([shown["executed"], shown["partitions"][0]["after"]]),
        json!([false, 3])
    );
    assert_eq!(lag(), Some(95));
    for (to, left) in [
        ("-2", 97),
        ("+10", 87),
        ("latest", 0),
        ("earliest", 100),
        ("60", 40),
    ] {
        run(&broker, &["group", "seek", "g", "--to", to, "--execute"]).ok();
        assert_eq!(lag(), Some(left), "{to}");
    }
    run(
        &broker,
        &[
            "group",
            "seek",
            "g",
            "--topic",
            "t:0",
            "--to",
            "@-1h",
            "--execute",
        ],
    )
    .ok();
    assert_eq!(lag(), Some(100));
    let list = run(&broker, &["group", "list", "--format", "json"]).json();
    assert_eq!(
        json!([list["groups"][0]["group"], list["groups"][0]["state"]]),
        json!(["g", "Empty"])
    );
    run(&broker, &["group", "delete-offsets", "g", "--topic", "t"]).ok();
    run(&broker, &["group", "seek", "g", "--to", "1"]).fails(1, &["--topic"]);
    run(
        &broker,
        &[
            "group",
            "seek",
            "g",
            "--topic",
            "t",
            "--to",
            "1",
            "--execute",
        ],
    )
    .ok();
    run(&broker, &["group", "delete", "g"]).ok();
    run(&broker, &["group", "describe", "g"]).fails(1, &["GROUP_ID_NOT_FOUND"]);
    run(&broker, &["group", "delete", "g"]).fails(1, &["GROUP_ID_NOT_FOUND"]);
}

#[test]
fn a_group_with_members_shows_them_and_is_not_moved() {
    let broker = BrokerProcess::start();
    produce(&broker, "t", 5);
    let arguments = ["consume", "t", "-g", "g", "-X", "client.id=reader"];
    let mut reader = command(&broker.bootstrap(), &arguments)
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(reader.stdout.take().expect("piped"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("a record");
    assert_eq!(line, "v0\n");
    let json = run(&broker, &["group", "describe", "g", "--format", "json"]).json();
    let group = &json["groups"][0];
    assert_eq!(
        json!([group["state"], group["members"][0]["client_id"]]),
        json!(["Stable", "reader"])
    );
    run(
        &broker,
        &[
            "group",
            "seek",
            "g",
            "--topic",
            "t",
            "--to",
            "0",
            "--execute",
        ],
    )
    .fails(1, &["t-0", "consumers have stopped"]);
    run(&broker, &["group", "delete", "g"]).fails(1, &["NON_EMPTY_GROUP"]);
    // An interrupt commits what was printed and leaves.
    kill_process(Pid::from_child(&reader), Signal::INT).expect("signalled");
    let status = wait_for_exit(&mut reader, Duration::from_secs(10)).expect("it ends");
    assert_eq!(status.code(), Some(130));
    let json = run(&broker, &["group", "describe", "g", "--format", "json"]).json();
    assert_eq!(json["groups"][0]["state"], "Empty");
    assert_eq!(json["groups"][0]["total_lag"], 0);
}

#[test]
fn configs_of_a_cluster_are_described_and_altered() {
    let broker = BrokerProcess::start();
    run(&broker, &["topic", "create", "t"]).ok();
    let alter = ["config", "alter", "--topic", "t"];
    let with = |more: &[&str]| run(&broker, &[&alter[..], more].concat());
    with(&["--add", "retention.ms=1000", "--dry-run"]).ok();
    let value = || {
        let arguments = ["config", "describe", "--topic", "t", "--format", "json"];
        let json = run(
            &broker,
            &[&arguments[..], &["--key", "retention.ms"]].concat(),
        )
        .json();
        json["configs"][0]["value"].as_str().map(str::to_owned)
    };
    assert_ne!(value().as_deref(), Some("1000"));
    with(&["--add", "retention.ms=1000"]).ok();
    assert_eq!(value().as_deref(), Some("1000"));
    with(&["--delete", "retention.ms"]).ok();
    assert_ne!(value().as_deref(), Some("1000"));
    with(&["--add", "retention.ms=soon"]).fails(1, &["retention.ms"]);
    with(&["--add", "no.such.key=1"]).fails(1, &["no.such.key"]);
    with(&[]).fails(2, &["--add"]);
    with(&["--add", "nonsense"]).fails(2, &["KEY=VALUE"]);
    let text = run(&broker, &["config", "describe", "--broker", "1"]).ok();
    assert!(text.contains("log.dirs"), "{text}");
    run(&broker, &["config", "describe"]).fails(2, &["--topic"]);
    run(&broker, &["config", "describe", "--broker", "x"]).fails(2, &["--broker 1"]);
    run(&broker, &["config", "describe", "--topic", "absent"]).fails(1, &["absent"]);
}

#[test]
fn settings_of_a_node_are_explained_without_a_cluster() {
    let nowhere = "127.0.0.1:1";
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("server.properties");
    std::fs::write(&path, "log.retention.hours=5\n").expect("written");
    let path = path.display().to_string();
    let explain = ["config", "explain", "log.retention.hours"];
    let plain = run_with(nowhere, &explain, "").ok();
    assert!(
        plain.starts_with("log.retention.hours = 168\n  from     default"),
        "{plain}"
    );
    let explained = |more: &[&str]| {
        run_with(
            nowhere,
            &[&explain[..], &["--format", "json"], more].concat(),
            "",
        )
        .json()
    };
    let found = explained(&[&path]);
    assert_eq!(
        json!([found["value"], found["source"]]),
        json!(["5", "line 1 of the file"])
    );
    let found = explained(&[&path, "--override", "log.retention.hours=7"]);
    assert_eq!(
        json!([found["value"], found["hidden"][0]["value"]]),
        json!(["7", "5"])
    );
    let topic = run_with(nowhere, &["config", "explain", "retention.ms"], "").ok();
    assert!(topic.contains("log.retention"), "{topic}");
    run_with(nowhere, &["config", "explain", "log.retention.hour"], "")
        .fails(1, &["did you mean 'log.retention.hours'"]);
    let list = run_with(nowhere, &["config", "list", "--format", "json"], "").json();
    assert!(
        list["settings"]
            .as_array()
            .is_some_and(|all| all.len() > 50)
    );
    run_with(nowhere, &["config", "list", "/no/such/file"], "").fails(2, &["/no/such/file"]);
}

#[test]
fn a_cluster_tells_of_itself() {
    let broker = BrokerProcess::start();
    run(&broker, &["topic", "create", "t", "-p", "2"]).ok();
    let info = run(&broker, &["cluster", "info", "--format", "json"]).json();
    assert_eq!(info["brokers"][0]["port"], broker.port());
    assert!(info["cluster_id"].is_string());
    let health = run(&broker, &["cluster", "health", "--format", "json"]).json();
    assert_eq!(
        json!([health["healthy"], health["partitions"]]),
        json!([true, 2])
    );
    let metadata = run(&broker, &["cluster", "metadata", "--format", "json"]).json();
    assert_eq!(
        metadata["topics"][0]["partitions"].as_array().map(Vec::len),
        Some(2)
    );
    let versions = run(&broker, &["cluster", "api-versions", "--format", "json"]).json();
    assert_eq!(versions["brokers"][0]["apis"][0]["name"], "Produce");
    let dirs = run(&broker, &["cluster", "log-dirs", "--format", "json"]).json();
    assert_eq!(
        dirs["log_dirs"][0]["partitions"].as_array().map(Vec::len),
        Some(2)
    );
    for what in ["info", "health", "metadata", "api-versions", "log-dirs"] {
        assert!(!run(&broker, &["cluster", what]).ok().is_empty(), "{what}");
    }
}

#[test]
fn an_unreachable_cluster_is_3_and_says_what_to_do() {
    let nowhere = format!("127.0.0.1:{}", free_port());
    let started = Instant::now();
    for arguments in [
        ["topic", "list"].as_slice(),
        &["consume", "t"],
        &["produce", "t"],
        &["group", "list"],
        &["cluster", "health"],
        &["perf", "produce", "t"],
    ] {
        run_with(&nowhere, arguments, "").fails(3, &[&nowhere, "--bootstrap-server"]);
    }
    run_with(&nowhere, &["cluster", "health", "--wait", "1"], "").fails(3, &[&nowhere]);
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "refused connections fail at once"
    );
}

#[test]
fn health_waits_for_a_cluster_that_starts() {
    let mut broker = BrokerProcess::start();
    broker.kill9();
    let arguments = ["cluster", "health", "--wait", "30", "--format", "json"];
    let waiting = command(&broker.bootstrap(), &arguments)
        .spawn()
        .expect("it runs");
    std::thread::sleep(Duration::from_millis(300));
    broker.restart();
    let output = waiting.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["healthy"], true);
}

#[test]
fn wrong_usage_is_2() {
    let nowhere = "127.0.0.1:1";
    let wrong: &[(&[&str], &str)] = &[
        (&["topic"], "Usage"),
        (&["topic", "create"], "<TOPIC>"),
        (&["topic", "create", "t", "-p", "0"], "0"),
        (&["topic", "list", "-X", "nonsense"], "KEY=VALUE"),
        (&["topic", "list", "-X", "linger=1"], "linger.ms"),
        (&["topic", "list", "--timeout", "soon"], "seconds"),
        (&["topic", "list", "-b", "nowhere"], "host:port"),
        (&["topic", "list", "--format", "xml"], "xml"),
        (&["perf", "produce", "t", "--rate", "0"], "above 0"),
        (&["--format", "json"], "command"),
        (
            &["--override", "a=b", "topic", "list"],
            "settings of a node",
        ),
        (&["topcs"], "no command of that name"),
    ];
    for (arguments, word) in wrong {
        run_with(nowhere, arguments, "").fails(2, &[word]);
    }
    let help = run_with(nowhere, &["topic", "--help"], "").ok();
    assert!(help.contains("Examples:"), "{help}");
}

#[test]
fn a_reader_that_has_enough_ends_the_command_quietly() {
    let broker = BrokerProcess::start();
    let path = tempfile::NamedTempFile::new().expect("a file");
    let text: String = (0..200_000)
        .map(|n| format!("record number {n}\n"))
        .collect();
    std::fs::write(path.path(), text).expect("written");
    run(
        &broker,
        &["produce", "t", "--file", &path.path().display().to_string()],
    )
    .ok();
    let mut child = command(&broker.bootstrap(), &["consume", "t"])
        .spawn()
        .expect("it runs");
    let mut stdout = child.stdout.take().expect("piped");
    let mut some = [0; 64];
    stdout.read_exact(&mut some).expect("records");
    drop(stdout);
    let status = wait_for_exit(&mut child, Duration::from_secs(10)).expect("it ends");
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut stderr)
        .expect("text");
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn an_interrupt_is_130_and_keeps_what_was_sent() {
    let broker = BrokerProcess::start();
    let mut child = command(&broker.bootstrap(), &["produce", "t"])
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"one\ntwo\n").expect("written");
    let mut read = String::new();
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(50));
        let done = run(&broker, &["consume", "t", "-e"]);
        read = done.stdout;
        if read.lines().count() == 2 {
            break;
        }
    }
    assert_eq!(read, "one\ntwo\n", "records go out while stdin stays open");
    kill_process(Pid::from_child(&child), Signal::INT).expect("signalled");
    let status = wait_for_exit(&mut child, Duration::from_secs(10)).expect("it ends");
    assert_eq!(status.code(), Some(130));
}

#[test]
fn perf_measures_and_answers_in_json() {
    let broker = BrokerProcess::start();
    let measured = |arguments: &[&str]| {
        run(
            &broker,
            &[&["perf"], arguments, &["--format", "json"]].concat(),
        )
        .json()
    };
    let pid = std::process::id().to_string();
    let written = measured(&[
        "produce",
        "b",
        "--records",
        "2000",
        "--warmup",
        "0",
        "--partitions",
        "2",
        "--producers",
        "2",
        "--size",
        "50",
        "--pid",
        &pid,
    ]);
    assert_eq!(
        json!([written["records"], written["bytes"]]),
        json!([2000, 100_000])
    );
    assert!(written["latency_ms"]["p99"].as_f64() >= written["latency_ms"]["p50"].as_f64());
    assert!(written["process"]["rss_bytes"].as_u64() > Some(0));
    let read = measured(&["consume", "b", "--consumers", "2"]);
    assert_eq!(
        json!([read["records"], read["bytes"]]),
        json!([2000, 100_000])
    );
    let steady = [
        "produce",
        "b",
        "--rate",
        "500",
        "--duration",
        "1",
        "--warmup",
        "0.2",
    ];
    let steady = measured(&steady);
    assert_eq!(steady["records"], 500);
    let latency = [
        "latency",
        "l",
        "--rate",
        "200",
        "--duration",
        "1",
        "--warmup",
        "0.2",
    ];
    let latency = measured(&[&latency[..], &["--delete-after"]].concat());
    assert_eq!(latency["records"], 200);
    assert!(latency["end_to_end_ms"]["max"].as_f64() > Some(0.0));
    run(&broker, &["perf", "produce", "b", "--pid", "0"]).fails(1, &["process 0"]);
    run(&broker, &["perf", "consume", "absent"]).fails(1, &["absent"]);
    let topics = run(&broker, &["topic", "list", "--format", "json"]).json();
    assert_eq!(
        topics["topics"].as_array().map(Vec::len),
        Some(1),
        "only b is left"
    );
}

#[test]
fn a_lone_node_explains_its_partitions_and_is_its_own_quorum() {
    let broker = BrokerProcess::start();
    run(&broker, &["topic", "create", "orders", "-p", "2"]).ok();
    let why = ["why", "partition", "orders", "1", "--format", "json"];
    let why = run(&broker, &why).json();
    assert_eq!(why["changes"][0]["cause"], "TOPIC_CREATED");
    let leader = why["changes"][0]["leader"].clone();
    run(&broker, &["why", "partition", "nowhere", "0"]).fails(1, &["no topic 'nowhere'"]);
    let quorum = run(&broker, &["quorum", "describe", "--format", "json"]).json();
    assert_eq!(quorum["leader"], leader);
    assert_eq!(quorum["members"].as_array().map(Vec::len), Some(1));
    run(&broker, &["quorum", "remove-voter", "77"]).fails(1, &["77 has no vote"]);
    let elected = run(&broker, &["cluster", "elect", "orders"]).ok();
    assert!(elected.contains("orders-0 is led by its preferred replica already"));
    let moving = run(&broker, &["cluster", "reassign", "--format", "json"]).json();
    assert_eq!(moving["moving"], json!([]));
    let refused = run(&broker, &["cluster", "reassign", "orders:0", "--to", "77"]);
    refused.fails(1, &["INVALID_REPLICA_ASSIGNMENT", "77"]);
    run(&broker, &["cluster", "reassign", "orders:0"]).fails(2, &["--to", "--cancel"]);
    let drain = ["cluster", "drain", &leader.to_string()];
    run(&broker, &drain).fails(1, &["2 partitions", "cannot leave"]);
    run(&broker, &["cluster", "unregister", "77"]).fails(1, &["BROKER_ID_NOT_REGISTERED"]);
    let described = [
        "topic",
        "describe",
        "--under-replicated",
        "--format",
        "json",
    ];
    assert_eq!(run(&broker, &described).json()["topics"], json!([]));
}
