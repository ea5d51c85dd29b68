//! Mirrors as users run them: two brokers in processes of their own, the built command line between
//! them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::broker_process::BrokerProcess;
use crate::cli::{Done, run, run_with};

/// Longest time for something that goes on by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node that looks at its sources often.
fn mirroring() -> BrokerProcess {
    BrokerProcess::start_with(&[("klamm.mirror.discovery.interval.ms", "200")])
}

fn link<'a>(name: &'a str, from: &'a str, topics: &'a str) -> [&'a str; 7] {
    ["link", "create", name, "--from", from, "--topics", topics]
}

fn produce(broker: &BrokerProcess, topic: &str, span: std::ops::Range<u32>) -> Done {
    let lines: String = span.map(|n| format!("k{n}:v{n}\n")).collect();
    let arguments = ["produce", topic, "-K", ":"];
    run_with(&broker.bootstrap(), &arguments, &lines)
}

fn describe(broker: &BrokerProcess) -> Value {
    run(broker, &["link", "describe", "--format", "json"]).json()
}

/// The partitions of a mirror; none where it is not there.
fn partitions(described: &Value, topic: &str) -> Vec<Value> {
    let links = described["links"].as_array().expect("a list");
    let mirrors = links
        .iter()
        .flat_map(|link| link["mirrors"].as_array().expect("a list"));
    let mut meant = mirrors.filter(|mirror| mirror["topic"] == topic);
    meant.next().map_or_else(Vec::new, |mirror| {
        mirror["partitions"].as_array().expect("a list").clone()
    })
}

/// Waits until `topic` has been copied up to `offsets` records in all.
fn await_copied(broker: &BrokerProcess, topic: &str, offsets: i64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let described = describe(broker);
        let ends = partitions(&described, topic);
        let copied: i64 = ends
            .iter()
            .filter_map(|one| one["copied_end"].as_i64())
            .sum();
        if copied == offsets && ends.iter().all(|one| one["lag"] == 0) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{described:#}\n{}",
            broker.output()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Every record with its partition and offset, in an order of its own.
fn records(broker: &BrokerProcess, topic: &str) -> Vec<String> {
    let arguments = ["consume", topic, "-e", "-f", "%p %o %T %k %v\\n"];
    let text = run(broker, &arguments).ok();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_link_that_cannot_be_is_refused_with_what_to_do() {
    let broker = mirroring();
    let create = |name, from, topics, code, words: &[&str]| {
        run(&broker, &link(name, from, topics)).fails(code, words);
    };
    create(
        "a.b",
        "west:9092",
        "t",
        1,
        &["'a.b' cannot name a link", "letters, digits"],
    );
    create(
        "west",
        "nowhere",
        "t",
        1,
        &["'nowhere' is no address", "host:port"],
    );
    create("west", "west:0", "t", 1, &["'west:0' is no address"]);
    create(
        "west",
        "west:9092",
        "a[bc]",
        1,
        &["'a[bc]' is no pattern", "* stands for any"],
    );
    create("west", "west:9092", "", 1, &["has 0 characters"]);
    for (arguments, word) in [
        (&["link", "create", "west"][..], "--from"),
        (&["link", "promote"], "TOPIC"),
        (&["link", "promote", "t", "--all"], "--all"),
        (&["link", "alter", "west"], "--topics"),
    ] {
        run(&broker, arguments).fails(2, &[word]);
    }
    for arguments in [
        &["link", "describe", "west"][..],
        &["link", "pause", "west"],
        &["link", "delete", "west"],
        &["link", "promote", "--all", "--link", "west"],
    ] {
        run(&broker, arguments).fails(1, &["there is no link 'west'", "klamm link list"]);
    }
    run(&broker, &["link", "promote", "t"]).fails(1, &["there is no topic 't'"]);
    run(&broker, &["topic", "create", "t"]).ok();
    run(&broker, &["link", "promote", "t"]).fails(1, &["is no mirror"]);
    assert_eq!(run(&broker, &["link", "list"]).ok(), "");
    let help = run(&broker, &["link", "--help"]).ok();
    assert!(help.contains("Examples:"), "{help}");
}

#[test]
fn a_link_is_made_changed_paused_and_deleted() {
    let broker = mirroring();
    // Nobody listens there.
    let from = "127.0.0.1:1,127.0.0.1:2";
    let dry = run(
        &broker,
        &[&link("west", from, "orders.*,clicks")[..], &["--dry-run"]].concat(),
    );
    assert!(dry.ok().contains("could be created"));
    assert_eq!(run(&broker, &["link", "list"]).ok(), "");
    run(&broker, &link("west", from, "orders.*,clicks")).ok();
    run(&broker, &link("west", from, "t")).fails(1, &["there is a link 'west' already"]);

    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        let described = describe(&broker);
        let link = &described["links"][0];
        assert_eq!(link["topics"], json!(["orders.*", "clicks"]));
        if let Some(error) = link["error"].as_str() {
            break error.to_owned();
        }
        assert!(Instant::now() < deadline, "{described:#}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let text = run(&broker, &["link", "describe", "west"]).ok();
    assert!(text.contains("ERROR") && text.contains(&error), "{text}");

    run(&broker, &["link", "pause", "west"]).ok();
    let alter = [
        "link",
        "alter",
        "west",
        "--groups",
        "g*",
        "--bytes-per-second",
        "1000",
    ];
    run(&broker, &alter).ok();
    let listed = run(&broker, &["link", "list", "--format", "json"]).json();
    let link = &listed["links"][0];
    assert_eq!(
        (&link["paused"], &link["state"]),
        (&json!(true), &json!("PAUSED"))
    );
    assert_eq!(link["groups"], json!(["g*"]));
    assert_eq!(
        (&link["bytes_per_second"], &link["mirrors"]),
        (&json!(1000), &json!(0))
    );
    let alter = [
        "link",
        "alter",
        "west",
        "--groups",
        "",
        "--bytes-per-second",
        "0",
    ];
    run(&broker, &alter).ok();
    run(&broker, &["link", "resume", "west"]).ok();
    let described = describe(&broker);
    let link = &described["links"][0];
    assert_eq!(
        (&link["paused"], &link["bytes_per_second"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(link["groups"], json!([]));

    run(&broker, &["link", "delete", "west", "--dry-run"]).ok();
    run(&broker, &["link", "delete", "west"]).ok();
    assert_eq!(describe(&broker)["links"], json!([]));
}

#[test]
fn a_mirror_is_a_copy_that_clients_only_read_until_it_is_promoted() {
    let (west, east) = (BrokerProcess::start(), mirroring());
    let create = [
        "topic",
        "create",
        "orders",
        "-p",
        "3",
        "-c",
        "retention.ms=7200000",
    ];
    run(&west, &create).ok();
    produce(&west, "orders", 0..1000).ok();
    run(&east, &link("west", &west.bootstrap(), "orders")).ok();
    await_copied(&east, "orders", 1000);
    produce(&west, "orders", 1000..1200).ok();
    await_copied(&east, "orders", 1200);
    assert_eq!(records(&east, "orders"), records(&west, "orders"));

    let refused = &["POLICY_VIOLATION"];
    let words = [
        "is a mirror that link 'west' fills",
        "klamm link promote orders",
    ];
    produce(&east, "orders", 0..1).fails(1, &words);
    run(&east, &["topic", "alter", "orders", "-p", "6"]).fails(1, &words);
    run(&east, &["topic", "trim", "orders", "--to", "5"]).fails(1, refused);
    let alter = ["config", "alter", "--topic", "orders", "--add"];
    let changed = |setting| run(&east, &[&alter[..], &[setting]].concat());
    changed("retention.ms=1").fails(1, &["retention.ms is as at the source"]);
    changed("klamm.mirror.provenance=x").fails(1, &["only links set it"]);
    changed("min.insync.replicas=1").ok();
    run(&east, &["link", "delete", "west"]).fails(1, &["link 'west' fills 1 topic"]);

    let promote = ["link", "promote", "orders", "--format", "json"];
    let dry = run(&east, &[&promote[..], &["--dry-run"]].concat()).json();
    assert_eq!(dry["topics"][0]["promoted"], false);
    produce(&east, "orders", 0..1).fails(1, &words);
    let told = run(&east, &promote).json();
    let partitions = told["topics"][0]["partitions"].as_array().expect("a list");
    let sum = |name: &str| {
        partitions
            .iter()
            .filter_map(|one| one[name].as_i64())
            .sum::<i64>()
    };
    assert_eq!(
        (sum("copied_end"), sum("missing"), partitions.len()),
        (1200, 0, 3),
        "{told:#}"
    );
    produce(&east, "orders", 1200..1300).ok();
    run(&east, &["topic", "alter", "orders", "-p", "4"]).ok();
    changed("retention.ms=3600000").ok();
    assert_eq!(records(&east, "orders").len(), 1300);
    // What the source goes on to take is its own.
    produce(&west, "orders", 5000..5100).ok();
    let why = run(&east, &["why", "partition", "orders", "0"]).ok();
    assert!(why.contains("the mirror was promoted"), "{why}");
    run(&east, &["link", "delete", "west"]).ok();
    let described = describe(&east);
    assert_eq!(
        described["without_link"][0]["state"], "PROMOTED",
        "{described:#}"
    );
    assert_eq!(records(&east, "orders").len(), 1300);
}
