//! Who counts as the leader.

use std::time::Duration;

use super::harness::run;
use crate::controller::quorum::Committed;
use crate::controller::raft::codec::log_id;
use crate::controller::raft::leadership::{Leadership, View};
use crate::controller::raft::outbox::Outbox;
use crate::types::BrokerId;

const ME: BrokerId = BrokerId(1);
const OTHER: BrokerId = BrokerId(2);
const LEASE: Duration = Duration::from_secs(1);

fn elected() -> View {
    View {
        leader: Some(ME),
        term: 3,
        applied: Some(log_id(3, 9)),
        committed: Some(log_id(3, 9)),
        majority_heard: Some(Duration::ZERO),
        is_only_voter: false,
    }
}

#[test]
fn a_node_leads_once_an_entry_of_its_own_term_is_applied() {
    let mut leadership = Leadership::new(ME, LEASE, None);
    let early = View {
        applied: Some(log_id(2, 8)),
        ..elected()
    };
    assert_eq!(leadership.leader(&early), None);
    assert_eq!(leadership.leader(&elected()), Some(ME));
}

#[test]
fn a_leader_without_a_majority_leads_nobody_and_keeps_still_by_turns() {
    let mut leadership = Leadership::new(ME, LEASE, None);
    let after = |millis| View {
        majority_heard: Some(Duration::from_millis(millis)),
        ..elected()
    };
    assert_eq!(leadership.leader(&after(999)), Some(ME));
    assert!(!leadership.is_mute(&after(1000)));
    assert_eq!(leadership.leader(&after(1000)), None);
    assert!(leadership.is_mute(&after(1001)));
    assert!(leadership.is_mute(&after(2999)));
    assert!(!leadership.is_mute(&after(3001)));
    assert!(leadership.is_mute(&after(5001)));
    let never = View {
        majority_heard: None,
        ..elected()
    };
    assert_eq!(leadership.leader(&never), None);
    let alone = View {
        is_only_voter: true,
        ..never
    };
    assert_eq!(leadership.leader(&alone), Some(ME));
}

#[test]
fn a_follower_says_who_leads_once_it_has_what_it_had_before_and_what_is_committed() {
    let mut leadership = Leadership::new(ME, LEASE, Some(log_id(2, 7)));
    let followed = |applied, committed| View {
        leader: Some(OTHER),
        applied: Some(applied),
        committed: Some(committed),
        majority_heard: None,
        ..elected()
    };
    let unknown = View {
        committed: None,
        ..followed(log_id(2, 7), log_id(2, 7))
    };
    assert_eq!(leadership.leader(&unknown), None);
    assert_eq!(
        leadership.leader(&followed(log_id(2, 5), log_id(2, 5))),
        None
    );
    assert_eq!(
        leadership.leader(&followed(log_id(2, 7), log_id(3, 9))),
        None
    );
    assert_eq!(
        leadership.leader(&followed(log_id(3, 9), log_id(3, 9))),
        Some(OTHER)
    );
    // From then on it says so at once.
    assert_eq!(
        leadership.leader(&followed(log_id(3, 9), log_id(4, 12))),
        Some(OTHER)
    );
}

#[test]
fn a_batch_of_a_later_leader_comes_after_word_that_the_one_before_leads_no_longer() {
    run(async {
        let outbox = Outbox::default();
        outbox.lead(Some(ME), 3);
        outbox.apply_batch(log_id(3, 4), Vec::new(), 0);
        outbox.apply_batch(log_id(4, 5), Vec::new(), 0);
        // What was known before comes too late.
        outbox.lead(Some(ME), 3);
        outbox.lead(Some(OTHER), 4);
        let leads = |leader, term| Committed::Leader { leader, term };
        let batch = |end| Committed::Batch {
            end: crate::types::Offset(end),
            records: Vec::new(),
        };
        for expected in [
            leads(Some(ME), 3),
            batch(5),
            leads(None, 4),
            batch(6),
            leads(Some(OTHER), 4),
        ] {
            assert_eq!(outbox.next().await, Ok(expected));
        }
        outbox.fail("over".to_owned());
        assert_eq!(outbox.next().await, Err("over".to_owned()));
    });
}
