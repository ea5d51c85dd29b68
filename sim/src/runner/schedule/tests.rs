//! Plans as text: what is read back, and what is refused.

use super::{Entry, Schedule};
use crate::plan::{ClientPlan, Plan, TimedFault};
use crate::runner::job::Origin;
use crate::runner::ledger;

/// One of each kind that the drawn plan lacks.
const FAULTS: &str = r#"[
    {"fault": "power-loss-at", "node": "server", "operation": 7, "down_ms": 5, "at_ms": 1},
    {"fault": "stop", "node": "server", "down_ms": 5, "at_ms": 2},
    {"fault": "cut", "from": "*", "to": "server", "for_ms": 9, "at_ms": 3},
    {"fault": "stall", "from": "*", "to": "server", "for_ms": 9, "at_ms": 4},
    {"fault": "reset", "from": "*", "to": "server", "at_ms": 5},
    {"fault": "slow", "from": "server", "to": "*", "for_ms": 9, "at_ms": 6, "options":
        {"latency_min_ms": 1, "latency_mean_ms": 9, "bandwidth": 9, "window": 9, "split_percent": 1}},
    {"fault": "refuse", "node": "server", "for_ms": 1, "at_ms": 7},
    {"fault": "swizzle", "node": "server", "for_ms": 1, "at_ms": 8},
    {"fault": "fail-sync", "node": "server", "kind": "segment", "count": 2, "how": "revert",
        "at_ms": 9},
    {"fault": "fail-write", "node": "server", "kind": "index", "count": 2, "at_ms": 10},
    {"fault": "fail-read", "node": "server", "kind": "any", "count": 2, "at_ms": 11},
    {"fault": "slow-disk", "node": "server", "latency_max_ms": 8, "for_ms": 3, "at_ms": 12},
    {"fault": "stall-disk", "node": "server", "for_ms": 3, "at_ms": 13},
    {"fault": "rot", "node": "server", "kind": "snapshot", "bits": 1, "at_ms": 14},
    {"fault": "misdirect", "node": "server", "kind": "metadata", "at_ms": 15},
    {"fault": "lose-write", "node": "server", "kind": "checkpoint", "at_ms": 16},
    {"fault": "lose-disk", "node": "server", "at_ms": 17},
    {"fault": "step-clock", "node": "server", "by_ms": -60000, "at_ms": 18},
    {"fault": "drift-clock", "node": "server", "ppm": -3, "at_ms": 19}
]"#;

const CLIENTS: &str = r#"[
    {"name": "a", "role": "reader", "topic": "t", "max_bytes": 1, "partition_max_bytes": 2,
        "max_wait_ms": 3, "session": true, "committed": false, "pause_ms": 4,
        "restart_percent": 5, "library": true},
    {"name": "b", "role": "member", "group": "g", "topics": ["t"], "instance": null,
        "session_timeout_ms": 1, "rebalance_timeout_ms": 2, "commit_ms": 3, "leave_percent": 4,
        "vanish_percent": 5, "freeze_percent": 6, "library": false, "versions": "oldest"},
    {"name": "c", "role": "committer", "group": "g", "topic": "t", "pause_ms": 1},
    {"name": "d", "role": "admin", "pause_ms": 1, "start_ms": 3},
    {"name": "e", "role": "deleter", "topic": "t", "pause_ms": 1}
]"#;

/// A plan with one of everything.
fn rich() -> Plan {
    let mut plan = ledger::plan("ledger", 5);
    plan.disk.crash.in_order = true;
    let faults: Vec<TimedFault> = serde_json::from_str(FAULTS).expect("faults");
    let clients: Vec<ClientPlan> = serde_json::from_str(CLIENTS).expect("clients");
    plan.faults.extend(faults);
    plan.clients.extend(clients);
    plan
}

fn schedule() -> Schedule {
    Schedule {
        about: "all \"kinds\"\nof things".to_owned(),
        found: Some("P2".to_owned()),
        commit: None,
        expect: None,
        plan: rich(),
    }
}

#[test]
fn every_plan_is_read_from_a_file_as_it_was_written() {
    let text = schedule().to_text().expect("it can be written");
    assert_eq!(
        Schedule::parse(&text).expect("it is one"),
        schedule(),
        "{text}"
    );
}

#[test]
fn a_word_that_nobody_knows_is_refused() {
    let text = schedule().to_text().expect("it can be written");
    for line in ["colour = \"red\"\n", "expects = \"P2\"\n"] {
        assert!(Schedule::parse(&format!("{line}{text}")).is_err(), "{line}");
    }
    assert!(Schedule::parse(&text.replace("length_ms", "lenght_ms")).is_err());
    let wrong = text.replace("fault = \"lose-disk\"", "fault = \"eat-disk\"");
    assert!(Schedule::parse(&wrong).is_err());
}

#[test]
fn a_line_of_the_corpus_names_scenario_seed_hash_and_what() {
    let entry = Entry::of_line("ledger 7 00ff lost a tail").expect("a line");
    let origin = Origin::Seed {
        scenario: "ledger".to_owned(),
        seed: 7,
    };
    assert_eq!(entry.origin, origin);
    assert_eq!(
        (entry.hash, entry.about.as_str()),
        (Some(255), "lost a tail")
    );
    let short = Entry::of_line("ledger 7").expect("a line");
    assert_eq!((short.hash, short.about.as_str()), (None, ""));
    for bad in ["ledger", "ledger x", "ledger 7 hash what"] {
        assert!(Entry::of_line(bad).is_err(), "{bad}");
    }
}
