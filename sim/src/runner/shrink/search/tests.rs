//! Searches over runs that are made up.

use super::{Search, Tried};
use crate::plan::{Fault, Plan, Role, TimedFault};
use crate::runner::ledger;

fn big() -> Plan {
    let mut plan = ledger::plan("ledger", 3);
    plan.faults = (0..40)
        .map(|at| {
            let node = "server".to_owned();
            let fault = match at {
                7 | 29 => Fault::PowerLoss { node, down_ms: 100 },
                _ => Fault::Pause { node, for_ms: 100 },
            };
            TimedFault {
                at_ms: at * 50,
                fault,
            }
        })
        .collect();
    plan
}

fn power_losses(plan: &Plan) -> usize {
    let is = |fault: &&TimedFault| matches!(fault.fault, Fault::PowerLoss { .. });
    plan.faults.iter().filter(is).count()
}

fn has_producer(plan: &Plan) -> bool {
    let is_producer = |role: &Role| matches!(role, Role::Producer { .. });
    plan.clients.iter().any(|client| is_producer(&client.role))
}

/// Searches with a rule for what fails, and how many plans it may try.
fn search(fails: impl Fn(&Plan) -> bool, mut tries: u64) -> (Plan, u64) {
    let all = tries;
    let plan = Search::new(big(), |candidate: &Plan, _: &Plan| {
        if tries == 0 {
            return Tried::Over;
        }
        tries -= 1;
        if fails(candidate) {
            Tried::Fails(Box::new(candidate.clone()))
        } else {
            Tried::Passes
        }
    })
    .run();
    (plan, all - tries)
}

#[test]
fn what_the_failure_does_not_need_goes() {
    let needs = |plan: &Plan| {
        power_losses(plan) == 2
            && has_producer(plan)
            && plan.broker.contains_key("log.segment.bytes")
            && plan.length_ms >= 100
    };
    let (plan, tried) = search(needs, 10_000);
    assert_eq!((plan.faults.len(), plan.clients.len()), (2, 1));
    assert_eq!((plan.broker.len(), plan.topics.len()), (1, 0));
    assert!(plan.length_ms < 200, "{} ms", plan.length_ms);
    assert_eq!(plan.clock, crate::plan::ClockOptions::default());
    assert_eq!(plan.disk, crate::plan::DiskOptions::default());
    let Role::Producer {
        in_flight,
        compression,
        ..
    } = &plan.clients[0].role
    else {
        panic!("the producer was needed");
    };
    assert_eq!((*in_flight, compression.as_str()), (1, "none"));
    let Fault::PowerLoss { down_ms, .. } = plan.faults[0].fault else {
        panic!("the loss of power was needed");
    };
    assert_eq!(down_ms, 1);
    assert!(tried < 300, "{tried} plans were tried");
}

#[test]
fn a_field_that_is_needed_stays_as_it_was() {
    let needs = |plan: &Plan| {
        let lz4 = |role: &Role| {
            let Role::Producer { compression, .. } = role else {
                return false;
            };
            compression == "lz4"
        };
        let topic = plan.topics.first();
        plan.disk.sync_max_ms == 9
            && topic.is_some_and(|topic| topic.partitions >= 2)
            && plan.clients.iter().any(|client| lz4(&client.role))
    };
    let (plan, _) = search(needs, 10_000);
    assert!(needs(&plan));
    assert_eq!((plan.topics.len(), plan.topics[0].partitions), (1, 2));
    assert!(plan.topics[0].config.is_empty() && plan.faults.is_empty());
    let Role::Producer { in_flight, .. } = plan.clients[0].role else {
        panic!("the producer was needed");
    };
    assert_eq!(in_flight, 1);
}

#[test]
fn a_search_without_time_gives_the_best_so_far() {
    let needs = |plan: &Plan| power_losses(plan) == 2;
    let (plan, tried) = search(needs, 12);
    assert_eq!(tried, 12);
    assert_eq!(power_losses(&plan), 2);
    assert!(plan.faults.len() < 40);
}

#[test]
fn what_needs_everything_stays_whole() {
    let (plan, tried) = search(|_| false, 10_000);
    assert_eq!(plan, big());
    assert!(tried > 40);
}
