use super::{Entry, Schedule};
use crate::plan::{
    ClientPlan, CrashOptions, Fault, FileKind, LinkOptions, Plan, Role, SyncFailure, Target,
    TimedFault, Versions,
};
use crate::runner::job::Origin;
use crate::runner::ledger;

/// A plan with one of everything.
fn rich() -> Plan {
    let mut plan = ledger::plan("ledger", 5);
    plan.disk.crash = CrashOptions {
        in_order: true,
        ..CrashOptions::default()
    };
    let node = || "server".to_owned();
    let link = || Target {
        from: "*".to_owned(),
        to: node(),
    };
    let kind = FileKind::Segment;
    let faults = [
        Fault::PowerLossAt {
            node: node(),
            operation: 7,
            down_ms: 5,
        },
        Fault::Stop {
            node: node(),
            down_ms: 5,
        },
        Fault::Cut {
            link: link(),
            for_ms: 9,
        },
        Fault::Stall {
            link: link(),
            for_ms: 9,
        },
        Fault::Reset { link: link() },
        Fault::Slow {
            link: link(),
            options: LinkOptions::default(),
            for_ms: 9,
        },
        Fault::Refuse {
            node: node(),
            for_ms: 1,
        },
        Fault::Swizzle {
            node: node(),
            for_ms: 1,
        },
        Fault::FailSync {
            node: node(),
            kind,
            count: 2,
            how: SyncFailure::Revert,
        },
        Fault::FailWrite {
            node: node(),
            kind,
            count: 2,
        },
        Fault::FailRead {
            node: node(),
            kind,
            count: 2,
        },
        Fault::SlowDisk {
            node: node(),
            latency_max_ms: 8,
            for_ms: 3,
        },
        Fault::StallDisk {
            node: node(),
            for_ms: 3,
        },
        Fault::Rot {
            node: node(),
            kind,
            bits: 1,
        },
        Fault::Misdirect { node: node(), kind },
        Fault::LoseWrite { node: node(), kind },
        Fault::LoseDisk { node: node() },
        Fault::StepClock {
            node: node(),
            by_ms: -60_000,
        },
        Fault::DriftClock {
            node: node(),
            ppm: -3,
        },
    ];
    for (at, fault) in faults.into_iter().enumerate() {
        plan.faults.push(TimedFault {
            at_ms: at as u64,
            fault,
        });
    }
    let topic = || "t".to_owned();
    let roles = [
        Role::Reader {
            topic: topic(),
            max_bytes: 1,
            partition_max_bytes: 2,
            max_wait_ms: 3,
            session: true,
            committed: false,
            pause_ms: 4,
            restart_percent: 5,
            library: true,
        },
        Role::Member {
            group: "g".to_owned(),
            topics: vec![topic()],
            instance: None,
            session_timeout_ms: 1,
            rebalance_timeout_ms: 2,
            commit_ms: 3,
            leave_percent: 4,
            vanish_percent: 5,
            freeze_percent: 6,
            library: false,
        },
        Role::Committer {
            group: "g".to_owned(),
            topic: topic(),
            pause_ms: 1,
        },
        Role::Admin { pause_ms: 1 },
        Role::Deleter {
            topic: topic(),
            pause_ms: 1,
        },
    ];
    for (at, role) in roles.into_iter().enumerate() {
        plan.clients.push(ClientPlan {
            name: format!("more-{at}"),
            start_ms: 0,
            versions: Versions::Oldest,
            role,
        });
    }
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
