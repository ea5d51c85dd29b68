//! Histories that a register which may be emptied really gave are accepted.

use proptest::prelude::*;

use super::check;
use crate::checker::Violations;
use crate::checker::story::{by, commit, fetch_committed, fetched_committed, partition};
use crate::history::{Answer, Call, Ending, Event, History, What};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Commit,
    Fetch,
    Delete,
}

/// What is drawn of an operation: what it is, how long before and after its effect its client sees
/// its beginning and end, and how it ends: 0 and 1 unknown, without and with its effect; 2 refused.
type Drawn = (Kind, u64, u64, u8);

fn any_story() -> impl Strategy<Value = Vec<Drawn>> {
    let kind = prop_oneof![
        4 => Just(Kind::Commit),
        5 => Just(Kind::Fetch),
        1 => Just(Kind::Delete),
    ];
    proptest::collection::vec((kind, 0_u64..12, 0_u64..12, 0_u8..10), 1..60)
}

/// The events of these operations against one register.
fn told(drawn: &[Drawn]) -> History {
    let mut value = -1;
    // Time, operation, whether it ends here, what.
    let mut all = Vec::new();
    for (op, (kind, before, after, ends)) in (1_u64..).zip(drawn) {
        let at = 20 + op * 3;
        let offset = i64::try_from(op).expect("small");
        let (call, answer, next) = match kind {
            Kind::Commit => {
                let answer = Answer::Commit {
                    refused: Vec::new(),
                };
                (commit(by("", -1), offset), answer, offset)
            }
            Kind::Fetch => (fetch_committed(), fetched_committed(value), value),
            Kind::Delete => {
                let call = Call::DeleteOffsets {
                    group: "g".to_owned(),
                    of: vec![partition(0)],
                };
                (call, Answer::DeleteOffsets, -1)
            }
        };
        let attempts = Vec::new();
        let (end, happens) = match ends {
            0 => (What::Info { op, attempts }, false),
            1 => (What::Info { op, attempts }, true),
            2 => (What::Fail { op, attempts }, false),
            _ => (What::Ok { op, answer }, true),
        };
        if happens {
            value = next;
        }
        // An operation of unknown end may have its effect after its client gave up.
        let gave_up = if *ends == 1 { at - before } else { at + after };
        all.push((at - before, op, false, What::Invoke { op, call }));
        all.push((gave_up, op, true, end));
    }
    all.sort_by_key(|(time, op, is_end, _)| (*time, *is_end, *op));
    // Numbers are in the order of invocation.
    let invoked = all.iter().filter(|(_, _, is_end, _)| !is_end);
    let order: Vec<u64> = invoked.map(|(_, op, ..)| *op).collect();
    let number = |old: u64| 1 + order.iter().position(|op| *op == old).expect("invoked") as u64;
    let events = all.into_iter().map(|(time, old, _, what)| Event {
        time,
        process: "client".to_owned(),
        cluster: None,
        what: match what {
            What::Invoke { call, .. } => What::Invoke {
                op: number(old),
                call,
            },
            What::Ok { answer, .. } => What::Ok {
                op: number(old),
                answer,
            },
            What::Fail { attempts, .. } => What::Fail {
                op: number(old),
                attempts,
            },
            _ => What::Info {
                op: number(old),
                attempts: Vec::new(),
            },
        },
    });
    History::from_events(events).expect("well formed")
}

fn found(history: &History) -> Vec<crate::checker::Violation> {
    let mut violations = Violations::default();
    check(history, &mut violations);
    violations.into_sorted()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_a_register_that_may_be_emptied_did_is_accepted(drawn in any_story()) {
        prop_assert_eq!(found(&told(&drawn)), Vec::new());
    }

    #[test]
    fn an_offset_forgotten_at_the_end_is_found(drawn in any_story()) {
        let mut drawn = drawn;
        drawn.retain(|one| one.0 != Kind::Delete);
        drawn.push((Kind::Commit, 1, 1, 9));
        // Far after everything, so that nothing is beside it.
        let mut history = told(&drawn);
        let mut forgotten = history.operations[0].clone();
        forgotten.op = 1000;
        forgotten.invoked = 1000;
        forgotten.returned = 1001;
        forgotten.call = fetch_committed();
        forgotten.ending = Ending::Ok(fetched_committed(-1));
        history.operations.push(forgotten);
        prop_assert!(found(&history).iter().any(|one| one.property == "CG5"));
    }
}
