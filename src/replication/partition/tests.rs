//! Claims about one partition, leading and following.

mod foreign;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::replication::follower::{FollowerFetch, FollowerTruncate, Served};

const ME: BrokerId = BrokerId(1);

fn opened(end: i64) -> Opened {
    Opened {
        log_start_offset: Offset(0),
        log_end_offset: Offset(end),
        past: Past {
            high_watermark: None,
            is_new: true,
        },
    }
}

fn alone(end: i64) -> Partition<u32> {
    let assignment = Arc::new(Assignment::alone(ME, LeaderEpoch(0)));
    Partition::new(&assignment, opened(end), Instant(0), &mut Vec::new())
}

fn assignment(leader: i32, epoch: i32, partition_epoch: i32, isr: &[i32]) -> Arc<Assignment> {
    Arc::new(Assignment {
        replicas: vec![BrokerId(1), BrokerId(2), BrokerId(3)],
        isr: isr.iter().map(|id| BrokerId(*id)).collect(),
        leader: Some(BrokerId(leader)),
        partition_epoch,
        min_insync_replicas: 2,
        ..Assignment::alone(ME, LeaderEpoch(epoch))
    })
}

fn eligible() -> EligibleBrokers {
    let epochs = [(1, 11), (2, 12), (3, 13)];
    Arc::new(
        epochs
            .map(|(id, epoch)| (BrokerId(id), BrokerEpoch(epoch)))
            .into(),
    )
}

fn around(eligible: &EligibleBrokers, millis: u64) -> Surroundings<'_> {
    Surroundings {
        now: Instant(millis * 1_000_000),
        eligible,
        lag_time_max: Duration::from_secs(30),
    }
}

fn step(partition: &mut Partition<u32>, event: Event<u32>) -> Vec<Effect<u32>> {
    let mut effects = Vec::new();
    partition.step(event, &mut effects);
    effects
}

fn appended(end: i64, waiter: u32) -> Event<u32> {
    Event::Appended {
        end: Offset(end),
        waiter: Some((waiter, WantedAcks::InSync)),
    }
}

fn durable(end: i64) -> Event<u32> {
    Event::Durable { end: Offset(end) }
}

/// A log that begins at 0 with epoch 1.
const OLDEST: Oldest = Oldest {
    log_start_offset: Offset(0),
    epoch: Some(LeaderEpoch(1)),
};

/// A fetch of broker `id` from `offset`, in epoch 1 unless it is to be another, of a log that
/// agrees.
fn fetch(
    partition: &mut Partition<u32>,
    (id, offset, epoch): (i32, i64, i32),
    millis: u64,
) -> (Result<Served, ErrorCode>, Vec<Effect<u32>>) {
    let eligible = eligible();
    let fetcher = Fetcher {
        id: BrokerId(id),
        broker_epoch: BrokerEpoch(i64::from(id) + 10),
    };
    let fetch = FollowerFetch {
        slot: 0,
        leader_epoch: LeaderEpoch(epoch),
        fetch_offset: Offset(offset),
        last_fetched_epoch: LeaderEpoch(1),
        log_start_offset: Offset(0),
    };
    let end = partition.log_end_offset();
    let mut effects = Vec::new();
    let around = around(&eligible, millis);
    let epochs = |asked| (asked, end);
    let served = partition.fetched(fetcher, &fetch, OLDEST, epochs, around, &mut effects);
    (served, effects)
}

/// A fetch of broker `id` from the end of a log that begins at `start`, as that of a leader does
/// that begins at 0; where it is told that the log begins.
fn fetch_with_start(partition: &mut Partition<u32>, id: i32, start: i64) -> Offset {
    let eligible = eligible();
    let fetcher = Fetcher {
        id: BrokerId(id),
        broker_epoch: BrokerEpoch(i64::from(id) + 10),
    };
    let end = partition.log_end_offset();
    let fetch = FollowerFetch {
        slot: 0,
        leader_epoch: LeaderEpoch(1),
        fetch_offset: end,
        last_fetched_epoch: LeaderEpoch(1),
        log_start_offset: Offset(start),
    };
    let around = around(&eligible, 1);
    let epochs = |asked| (asked, end);
    let served = partition.fetched(fetcher, &fetch, OLDEST, epochs, around, &mut Vec::new());
    served.expect("it is served").log_start_offset
}

/// Every broker may join, and is proposed if it has caught up.
fn eligible_again(partition: &mut Partition<u32>) {
    let (eligible, mut effects) = (eligible(), Vec::new());
    partition.check_isr(around(&eligible, 1), &mut effects);
    assert!(matches!(effects[..], [Effect::Propose(_)]), "{effects:?}");
}

/// A leader of `isr` with ten committed records.
fn leader_of_ten(isr: &[i32]) -> Partition<u32> {
    let mut partition = leader(isr);
    step(&mut partition, appended(10, 1));
    step(&mut partition, durable(10));
    for id in isr.iter().filter(|id| **id != ME.0) {
        fetch_with_start(&mut partition, *id, 0);
    }
    assert_eq!(partition.high_watermark(), Offset(10));
    partition
}

fn leader(isr: &[i32]) -> Partition<u32> {
    let assignment = assignment(1, 1, 5, isr);
    Partition::new(&assignment, opened(0), Instant(0), &mut Vec::new())
}

#[test]
fn an_append_is_acknowledged_only_once_it_is_durable() {
    let mut partition = alone(10);
    assert_eq!(step(&mut partition, appended(12, 1)), vec![]);
    assert_eq!(partition.high_watermark(), Offset(10));
    assert_eq!(
        step(&mut partition, durable(12)),
        vec![Effect::Expose(Offset(12)), Effect::Acknowledge(1)]
    );
}

#[test]
fn a_repeated_batch_waits_until_the_first_copy_is_durable() {
    let mut partition = alone(0);
    let first = Event::Appended {
        end: Offset(2),
        waiter: None,
    };
    step(&mut partition, first);
    let repeated = Event::Repeated {
        end: Offset(2),
        waiter: Some((7, WantedAcks::Leader)),
    };
    assert_eq!(step(&mut partition, repeated), vec![]);
    assert_eq!(
        step(&mut partition, durable(2)),
        vec![Effect::Expose(Offset(2)), Effect::Acknowledge(7)]
    );
    assert_eq!(step(&mut partition, repeated), vec![Effect::Acknowledge(7)]);
}

#[test]
fn a_failed_sync_refuses_everyone_who_waits() {
    let mut partition = alone(0);
    step(&mut partition, appended(1, 1));
    step(&mut partition, appended(2, 2));
    let refused = step(&mut partition, Event::StorageFailed);
    let storage = |waiter| Effect::Refuse(waiter, Doubt::Storage);
    assert_eq!(refused, vec![storage(1), storage(2)]);
    assert!(partition.is_storage_failed());
    assert_eq!(step(&mut partition, durable(2)), vec![]);
    let recovered = Event::StorageRecovered {
        end: Offset(0),
        now: Instant(0),
    };
    step(&mut partition, recovered);
    assert!(!partition.is_storage_failed());
    assert!(partition.is_leader());
}

#[test]
fn what_a_recovery_kept_is_seen_without_another_append() {
    let mut partition = alone(0);
    step(&mut partition, appended(2, 1));
    step(&mut partition, Event::StorageFailed);
    let recovered = Event::StorageRecovered {
        end: Offset(2),
        now: Instant(0),
    };
    assert!(step(&mut partition, recovered).contains(&Effect::Expose(Offset(2))));
}

#[test]
fn acks_all_waits_for_every_replica_in_sync_and_acks_1_for_the_leader() {
    let mut partition = leader(&[1, 2, 3]);
    step(&mut partition, appended(1, 1));
    let local = Event::Appended {
        end: Offset(2),
        waiter: Some((2, WantedAcks::Leader)),
    };
    step(&mut partition, local);
    assert_eq!(
        step(&mut partition, durable(2)),
        vec![Effect::Acknowledge(2)]
    );
    assert_eq!(fetch(&mut partition, (2, 2, 1), 1).1, vec![]);
    assert_eq!(
        fetch(&mut partition, (3, 1, 1), 1).1,
        vec![Effect::Expose(Offset(1)), Effect::Acknowledge(1)]
    );
}

#[test]
fn too_few_in_sync_refuse_before_the_append_and_leave_it_open_after() {
    let mut partition = leader(&[1, 2]);
    step(&mut partition, appended(1, 1));
    let (eligible, mut effects) = (eligible(), Vec::new());
    let shrunk = assignment(1, 1, 6, &[1]);
    partition.assign(&shrunk, around(&eligible, 1), &mut effects);
    assert_eq!(effects, vec![Effect::Refuse(1, Doubt::TooFewInSync)]);
    assert_eq!(
        partition.may_append(WantedAcks::InSync),
        Err(ErrorCode::NotEnoughReplicas)
    );
    assert_eq!(partition.may_append(WantedAcks::Leader), Ok(()));
    assert_eq!(step(&mut partition, durable(1)), vec![]);
    assert_eq!(partition.high_watermark(), Offset(0));
}

#[test]
fn a_shrunk_isr_lets_the_high_watermark_go_on() {
    let mut partition = leader(&[1, 2, 3]);
    step(&mut partition, appended(1, 1));
    step(&mut partition, durable(1));
    fetch(&mut partition, (2, 1, 1), 1).0.expect("it is served");
    let (eligible, mut effects) = (eligible(), Vec::new());
    let shrunk = assignment(1, 1, 6, &[1, 2]);
    partition.assign(&shrunk, around(&eligible, 1), &mut effects);
    assert_eq!(
        effects,
        vec![Effect::Expose(Offset(1)), Effect::Acknowledge(1)]
    );
}

#[test]
fn a_follower_that_lags_for_too_long_is_proposed_out() {
    let mut partition = leader(&[1, 2, 3]);
    step(&mut partition, appended(1, 1));
    step(&mut partition, durable(1));
    fetch(&mut partition, (2, 1, 1), 1000)
        .0
        .expect("it is served");
    let lag = Duration::from_secs(30);
    assert_eq!(partition.next_check(lag), Some(Instant(30_000_000_000)));
    let (eligible, mut effects) = (eligible(), Vec::new());
    partition.check_isr(around(&eligible, 29_999), &mut effects);
    assert_eq!(effects, vec![]);
    partition.check_isr(around(&eligible, 30_000), &mut effects);
    let isr = vec![(ME, BrokerEpoch(11)), (BrokerId(2), BrokerEpoch(12))];
    let proposal = Proposal {
        leader_epoch: LeaderEpoch(1),
        partition_epoch: 5,
        isr,
        recovering: false,
    };
    assert_eq!(effects, vec![Effect::Propose(proposal)]);
    assert_eq!(partition.high_watermark(), Offset(0), "not committed yet");
}

#[test]
fn a_replica_with_an_idle_log_or_alone_needs_no_alarm() {
    let lag = Duration::from_secs(30);
    assert_eq!(alone(4).next_check(lag), None);
    let mut partition = leader(&[1, 2]);
    fetch(&mut partition, (2, 0, 1), 1).0.expect("it is served");
    assert_eq!(partition.next_check(lag), None);
}

#[test]
fn a_fetch_of_another_epoch_or_of_a_diverged_log_moves_nothing() {
    let mut partition = leader(&[1, 2]);
    step(&mut partition, appended(2, 1));
    step(&mut partition, durable(2));
    let (refused, effects) = fetch(&mut partition, (2, 2, 0), 1);
    assert_eq!(
        (refused, effects),
        (Err(ErrorCode::FencedLeaderEpoch), vec![])
    );
    let (refused, effects) = fetch(&mut partition, (2, 2, 2), 1);
    assert_eq!(
        (refused, effects),
        (Err(ErrorCode::UnknownLeaderEpoch), vec![])
    );
    let (served, effects) = fetch(&mut partition, (2, 3, 1), 1);
    assert_eq!(
        served.map(|served| served.diverging),
        Ok(Some((LeaderEpoch(1), Offset(2))))
    );
    assert_eq!((effects, partition.high_watermark()), (vec![], Offset(0)));
}

#[test]
fn a_log_that_ends_where_the_leaders_begins_in_an_epoch_that_nobody_knows_is_not_taken_for_equal() {
    let mut partition = leader(&[1, 2]);
    step(&mut partition, appended(6, 1));
    step(&mut partition, durable(6));
    let oldest = Oldest {
        log_start_offset: Offset(6),
        epoch: Some(LeaderEpoch(1)),
    };
    // As a log answers that begins at 6 with epoch 1.
    let epochs = |asked: LeaderEpoch| (asked, Offset(6));
    let mut diverging = |last: i32, starts_at: i64| {
        let fetch = FollowerFetch {
            slot: 0,
            leader_epoch: LeaderEpoch(1),
            fetch_offset: Offset(6),
            last_fetched_epoch: LeaderEpoch(last),
            log_start_offset: Offset(starts_at),
        };
        let fetcher = Fetcher {
            id: BrokerId(2),
            broker_epoch: BrokerEpoch(12),
        };
        let (eligible, mut effects) = (eligible(), Vec::new());
        let around = around(&eligible, 1);
        let served = partition.fetched(fetcher, &fetch, oldest, epochs, around, &mut effects);
        served.expect("it is served").diverging
    };
    assert_eq!(diverging(0, 0), Some((LeaderEpoch(0), Offset(6))));
    assert_eq!(diverging(1, 0), None, "the same epoch at the same offset");
    assert_eq!(diverging(0, 6), None, "it has nothing from before");
}

#[test]
fn where_logs_part_a_leader_tells_where_its_log_begins_and_not_where_it_is_to_begin() {
    let mut partition = leader(&[1, 2]);
    step(&mut partition, appended(6, 1));
    step(&mut partition, durable(6));
    fetch(&mut partition, (2, 6, 1), 1).0.expect("it is served");
    partition.want_start(Offset(5)).expect("it is below");
    let (served, _) = fetch(&mut partition, (2, 6, 1), 1);
    let served = served.expect("it is served");
    assert_eq!(
        (served.diverging, served.log_start_offset),
        (None, Offset(5))
    );
    let (served, _) = fetch(&mut partition, (2, 7, 1), 1);
    let served = served.expect("it is served");
    let parted = Some((LeaderEpoch(1), Offset(6)));
    assert_eq!(
        (served.diverging, served.log_start_offset),
        (parted, Offset(0))
    );
}

#[test]
fn what_cannot_be_compared_with_the_leaders_log_is_replaced_and_not_kept_below_its_start() {
    let mut effects = Vec::new();
    let assigned = assignment(3, 2, 5, &[1, 2]);
    let mut partition = Partition::<u32>::new(&assigned, opened(13), Instant(0), &mut effects);
    let said = FollowerTruncate {
        slot: 0,
        leader_epoch: LeaderEpoch(2),
        fetch_offset: Offset(13),
        last_fetched_epoch: LeaderEpoch(1),
        diverging: (LeaderEpoch(1), Offset(6)),
        leader_log_start_offset: Offset(6),
    };
    let mine = |_| (LeaderEpoch(1), Offset(13));
    let cut = partition.cut(&said, Some(LeaderEpoch(1)), mine);
    assert_eq!(cut, Ok(Offset(6)));
    assert!(
        !partition.begins_anew_for(&said, Offset(7), Offset(0)),
        "7 is common to both"
    );
    assert!(
        !partition.begins_anew_for(&said, Offset(6), Offset(6)),
        "nothing is below"
    );
    assert!(partition.begins_anew_for(&said, Offset(6), Offset(0)));
    let position = partition.position(LeaderEpoch(2), Offset(0), Some(LeaderEpoch(1)));
    let position = position.expect("it follows").expect("all is safe");
    assert_eq!(
        (position.fetch_offset, position.last_fetched_epoch),
        (Offset(6), LeaderEpoch::NONE)
    );
    // The leader's first batch holds its start.
    let told = (Offset(6), Offset(20));
    assert_eq!(
        partition.restart_for(told, Some(Offset(4)), Offset(0)),
        Ok(Some(Offset(4)))
    );
    step(&mut partition, Event::Restarted { start: Offset(4) });
    let position = partition.position(LeaderEpoch(2), Offset(4), None);
    let position = position.expect("it follows").expect("all is safe");
    assert_eq!(position.fetch_offset, Offset(4));
}

#[test]
fn a_leader_that_was_here_before_waits_for_a_newer_epoch() {
    let restarted = Opened {
        past: Past {
            high_watermark: None,
            is_new: false,
        },
        ..opened(4)
    };
    let mut effects = Vec::new();
    let assigned = assignment(1, 1, 5, &[1, 2]);
    let mut partition = Partition::<u32>::new(&assigned, restarted, Instant(0), &mut effects);
    assert_eq!(effects, vec![Effect::GiveUp(LeaderEpoch(1))]);
    assert!(!partition.is_leader());
    let (eligible, mut effects) = (eligible(), Vec::new());
    let again = assignment(1, 2, 6, &[1, 2]);
    partition.assign(&again, around(&eligible, 1), &mut effects);
    assert!(partition.is_leader());
}

#[test]
fn a_leader_begins_later_once_every_replica_in_sync_does() {
    let (mut partition, own) = (leader_of_ten(&[1, 2, 3]), Offset(0));
    partition.want_start(Offset(6)).expect("it leads");
    assert_eq!(partition.start_due(own), None);
    assert_eq!(fetch_with_start(&mut partition, 2, 0), Offset(6));
    assert_eq!(fetch_with_start(&mut partition, 2, 6), Offset(6));
    assert_eq!(partition.start_due(own), None, "broker 3 has them all");
    fetch_with_start(&mut partition, 3, 4);
    assert_eq!(partition.start_due(own), Some(Offset(4)));
    assert_eq!(partition.replicated_start(own), Some(own), "not here yet");
    fetch_with_start(&mut partition, 3, 6);
    assert_eq!(partition.start_due(own), Some(Offset(6)));
    assert_eq!(partition.replicated_start(Offset(6)), Some(Offset(6)));
    assert_eq!(partition.start_due(Offset(6)), None);
}

#[test]
fn a_follower_that_has_not_reached_what_is_to_go_is_not_told_yet() {
    let mut partition = leader_of_ten(&[1, 2]);
    partition.want_start(Offset(6)).expect("it leads");
    let mut told = |at| {
        let (served, _) = fetch(&mut partition, (3, at, 1), 1);
        served.expect("it is served").log_start_offset
    };
    assert_eq!(told(5), Offset(0), "it would begin anew at 6");
    assert_eq!(told(6), Offset(6));
}

#[test]
fn who_is_told_where_logs_part_is_not_told_what_is_yet_to_go() {
    let mut partition = leader_of_ten(&[1, 2]);
    partition.want_start(Offset(6)).expect("it leads");
    let fetch = FollowerFetch {
        slot: 0,
        leader_epoch: LeaderEpoch(1),
        fetch_offset: Offset(8),
        last_fetched_epoch: LeaderEpoch(0),
        log_start_offset: Offset(0),
    };
    let fetcher = Fetcher {
        id: BrokerId(3),
        broker_epoch: BrokerEpoch(13),
    };
    let (eligible, mut effects) = (eligible(), Vec::new());
    let around = around(&eligible, 1);
    // Epoch 0 ended at 4 here.
    let epochs = |asked: LeaderEpoch| (asked, Offset(4));
    let served = partition.fetched(fetcher, &fetch, OLDEST, epochs, around, &mut effects);
    let served = served.expect("it is served");
    assert_eq!(served.diverging, Some((LeaderEpoch(0), Offset(4))));
    let told = served.log_start_offset;
    assert_eq!(
        told,
        Offset(0),
        "from 6 on it would count as having what is before"
    );
}

#[test]
fn a_replica_that_left_the_in_sync_ones_holds_up_no_deletion() {
    let mut partition = leader_of_ten(&[1, 2, 3]);
    partition.want_start(Offset(6)).expect("it leads");
    fetch_with_start(&mut partition, 2, 6);
    let mut eligible = BTreeMap::clone(&eligible());
    eligible.remove(&BrokerId(3));
    let (eligible, mut effects) = (Arc::new(eligible), Vec::new());
    let shrunk = assignment(1, 1, 6, &[1, 2]);
    partition.assign(&shrunk, around(&eligible, 1), &mut effects);
    assert_eq!(partition.start_due(Offset(0)), Some(Offset(6)));
    eligible_again(&mut partition);
    assert_eq!(
        partition.start_due(Offset(0)),
        None,
        "it may be back in sync"
    );
    let shrunk = assignment(1, 1, 7, &[1, 2]);
    partition.assign(&shrunk, around(&eligible, 1), &mut effects);
    let alone = assignment(1, 1, 8, &[1]);
    partition.assign(&alone, around(&eligible, 1), &mut effects);
    assert_eq!(
        partition.start_due(Offset(0)),
        None,
        "too few: one of those that left may lead next"
    );
}

#[test]
fn a_new_leader_answers_no_deletion_before_it_has_heard_of_its_followers() {
    let restarted = assignment(1, 1, 5, &[1, 2]);
    let partition = Partition::<u32>::new(&restarted, opened(10), Instant(0), &mut Vec::new());
    assert!(partition.is_leader());
    assert_eq!(partition.replicated_start(Offset(4)), None);
    assert_eq!(alone(10).replicated_start(Offset(4)), Some(Offset(4)));
}

#[test]
fn a_follower_lets_go_of_no_more_than_is_committed() {
    let follows = assignment(2, 1, 5, &[1, 2]);
    let mut partition = Partition::new(&follows, opened(10), Instant(0), &mut Vec::new());
    assert_eq!(
        partition.want_start(Offset(1)),
        Err(ErrorCode::NotLeaderOrFollower)
    );
    let told = |high_watermark| Event::Told {
        high_watermark: Offset(high_watermark),
        log_start_offset: Offset(6),
    };
    step(&mut partition, told(5));
    assert_eq!(partition.start_due(Offset(0)), Some(Offset(5)));
    step(&mut partition, told(8));
    assert_eq!(partition.start_due(Offset(5)), Some(Offset(6)));
    assert_eq!(partition.start_due(Offset(6)), None);
}

/// Leads in epoch 1 with a log up to 10; then a read finds damage.
fn damaged(isr: &[i32]) -> (Partition<u32>, Vec<Effect<u32>>) {
    damaged_with(isr, &[], &eligible())
}

/// The same, where these are eligible and `alive`.
fn damaged_with(
    isr: &[i32],
    elr: &[i32],
    alive: &EligibleBrokers,
) -> (Partition<u32>, Vec<Effect<u32>>) {
    let assigned = Arc::new(Assignment {
        elr: elr.iter().map(|id| BrokerId(*id)).collect(),
        ..(*assignment(1, 1, 5, isr)).clone()
    });
    let mut partition = Partition::new(&assigned, opened(10), Instant(0), &mut Vec::new());
    let mut effects = Vec::new();
    partition.damaged(LeaderEpoch(1), around(alive, 0), &mut effects);
    (partition, effects)
}

fn assigned(partition: &mut Partition<u32>, next: &Arc<Assignment>) {
    let eligible = eligible();
    partition.assign(next, around(&eligible, 1), &mut Vec::new());
    partition.prepare_anew(Offset(3));
}

/// Where it fetches in epoch 2.
fn fetches_from(partition: &mut Partition<u32>) -> i64 {
    let position = partition.position(LeaderEpoch(2), Offset(3), Some(LeaderEpoch(1)));
    let position = position.expect("it follows").expect("all is durable");
    position.fetch_offset.0
}

#[test]
fn a_damaged_leader_leaves_the_lead_to_another_in_sync_and_keeps_it_alone() {
    let (partition, effects) = damaged(&[1, 2]);
    assert_eq!(effects, vec![Effect::GiveUp(LeaderEpoch(1))]);
    assert!(!partition.is_leader());
    let (partition, effects) = damaged(&[1]);
    assert_eq!(effects, vec![]);
    assert!(partition.is_leader());
}

#[test]
fn a_damaged_leader_leaves_the_lead_to_an_eligible_one_that_lives() {
    let (partition, effects) = damaged_with(&[1], &[2], &eligible());
    assert_eq!(effects, vec![Effect::GiveUp(LeaderEpoch(1))]);
    assert!(!partition.is_leader());
    let without_2 = [
        (BrokerId(1), BrokerEpoch(11)),
        (BrokerId(3), BrokerEpoch(13)),
    ];
    let (partition, effects) = damaged_with(&[1], &[2], &Arc::new(without_2.into()));
    assert_eq!(effects, vec![]);
    assert!(partition.is_leader());
}

#[test]
fn damage_found_in_another_epoch_or_again_at_once_changes_nothing() {
    let (mut partition, _) = damaged(&[1, 2]);
    assigned(&mut partition, &assignment(1, 2, 6, &[1, 2]));
    assert!(partition.is_leader());
    let mut effects = Vec::new();
    let eligible = eligible();
    partition.damaged(LeaderEpoch(1), around(&eligible, 20_000), &mut effects);
    partition.damaged(LeaderEpoch(2), around(&eligible, 1000), &mut effects);
    assert_eq!(effects, vec![]);
    partition.damaged(LeaderEpoch(2), around(&eligible, 20_000), &mut effects);
    assert_eq!(effects, vec![Effect::GiveUp(LeaderEpoch(2))]);
}

#[test]
fn a_damaged_log_begins_anew_only_where_enough_others_are_in_sync_and_none_counts_on_it() {
    let cases: [(&[i32], &[i32], i64); 4] = [
        (&[2, 3], &[], 3),
        (&[1, 2, 3], &[], 10),
        (&[2], &[1, 3], 10),
        (&[2], &[], 10),
    ];
    for (isr, elr, from) in cases {
        let (mut partition, _) = damaged(&[1, 2, 3]);
        let mut next = Assignment::clone(&assignment(2, 2, 6, isr));
        next.elr = elr.iter().map(|id| BrokerId(*id)).collect();
        assigned(&mut partition, &Arc::new(next));
        assert_eq!(fetches_from(&mut partition), from, "{isr:?} {elr:?}");
    }
}

#[test]
fn a_damaged_log_goes_only_once_the_leader_answered_with_records() {
    let (mut partition, _) = damaged(&[1, 2, 3]);
    assigned(&mut partition, &assignment(2, 2, 6, &[2, 3]));
    let leader = (Offset(0), Offset(10));
    assert_eq!(partition.restart_for(leader, None, Offset(0)), Ok(None));
    assert_eq!(
        partition.restart_for(leader, Some(Offset(2)), Offset(0)),
        Ok(Some(Offset(2)))
    );
    step(&mut partition, Event::Restarted { start: Offset(2) });
    assert_eq!(partition.log_end_offset(), Offset(2));
    assert_eq!(fetches_from(&mut partition), 2);
}

#[test]
fn a_log_that_is_to_begin_anew_shows_no_more_than_before() {
    let (mut partition, _) = damaged(&[1, 2, 3]);
    assigned(&mut partition, &assignment(2, 2, 6, &[2, 3]));
    assert_eq!(fetches_from(&mut partition), 3);
    let before = partition.high_watermark();
    // An answer in which there was no room for its records.
    let leader = (Offset(0), Offset(10));
    assert_eq!(partition.restart_for(leader, None, Offset(0)), Ok(None));
    let told = Event::Told {
        high_watermark: Offset(10),
        log_start_offset: Offset(0),
    };
    assert_eq!(step(&mut partition, told), vec![]);
    assigned(&mut partition, &assignment(2, 2, 7, &[1, 2, 3]));
    assert_eq!(partition.high_watermark(), before, "nor when it stays");
    step(&mut partition, told);
    assert_eq!(partition.high_watermark(), Offset(10), "the logs agree");
}

#[test]
fn one_that_comes_to_be_counted_on_keeps_its_damaged_log() {
    let (mut partition, _) = damaged(&[1, 2, 3]);
    assigned(&mut partition, &assignment(2, 2, 6, &[2, 3]));
    assert_eq!(fetches_from(&mut partition), 3);
    assigned(&mut partition, &assignment(2, 2, 7, &[1, 2, 3]));
    assert_eq!(fetches_from(&mut partition), 10);
    let stale = partition.may_copy(LeaderEpoch(2), Offset(3));
    assert_eq!(stale, Err(ErrorCode::OffsetOutOfRange));
}

/// Follows in epoch 2, with a log up to 10 that cannot be cut, after `before`.
fn useless(isr: &[i32], before: impl FnOnce(&mut Partition<u32>)) -> Partition<u32> {
    let assigned = assignment(2, 2, 6, isr);
    let mut partition = Partition::new(&assigned, opened(10), Instant(0), &mut Vec::new());
    before(&mut partition);
    step(&mut partition, Event::StorageFailed);
    partition.damage_is_in_the_way();
    partition
}

/// The leader says where the logs part.
fn part(partition: &mut Partition<u32>, end: i64) {
    let said = FollowerTruncate {
        slot: 0,
        leader_epoch: LeaderEpoch(2),
        fetch_offset: Offset(10),
        last_fetched_epoch: LeaderEpoch(1),
        diverging: (LeaderEpoch(1), Offset(end)),
        leader_log_start_offset: Offset(0),
    };
    assert!(!partition.begins_anew_for(&said, Offset(end), Offset(0)));
}

#[test]
fn a_log_that_cannot_be_cut_goes_where_its_leader_was_told_nothing_that_it_may_count_on() {
    let wants = |before: &dyn Fn(&mut Partition<u32>)| {
        let partition = useless(&[2, 3], before);
        partition.wants_another_log() == Some((LeaderEpoch(2), Useless::Damaged))
    };
    let tell = |partition: &mut Partition<u32>| assert_eq!(fetches_from(partition), 10);
    assert!(wants(&|_| {}));
    assert!(!wants(&tell), "it may come in sync by that");
    assert!(wants(&|partition| {
        tell(partition);
        part(partition, 4);
    }));
    assert!(
        !wants(&|partition| {
            tell(partition);
            part(partition, 4);
            step(partition, Event::Truncated { end: Offset(4) });
            assert_eq!(fetches_from(partition), 4);
        }),
        "it told of what was left"
    );
    let leader = |high_watermark| (Offset(12), Offset(high_watermark));
    assert!(wants(&|partition| {
        tell(partition);
        let start = partition.restart_for(leader(11), None, Offset(0));
        assert_eq!(start, Ok(Some(Offset(12))));
    }));
    assert!(!wants(&|partition| {
        tell(partition);
        let start = partition.restart_for(leader(10), None, Offset(0));
        assert_eq!(start, Ok(Some(Offset(12))));
    }));
}

#[test]
fn a_log_that_cannot_be_cut_stays_while_somebody_counts_on_it() {
    let wants = |isr: &[i32]| useless(isr, |_| {}).wants_another_log();
    assert_eq!(wants(&[2, 3]), Some((LeaderEpoch(2), Useless::Damaged)));
    assert_eq!(wants(&[1, 2, 3]), None, "in sync");
    assert_eq!(wants(&[2]), None, "too few are");
    let mut partition = useless(&[2, 3], |_| {});
    let eligible_one = Assignment {
        elr: vec![ME],
        ..Assignment::clone(&assignment(2, 2, 7, &[2, 3]))
    };
    assigned(&mut partition, &Arc::new(eligible_one));
    assert_eq!(partition.wants_another_log(), None);
    assigned(&mut partition, &assignment(1, 3, 8, &[1, 2, 3]));
    assert_eq!(partition.wants_another_log(), None, "it is to lead");
    assigned(&mut partition, &assignment(2, 4, 9, &[2, 3]));
    let wanted = partition.wants_another_log();
    assert_eq!(wanted, Some((LeaderEpoch(4), Useless::Damaged)));
    let end = Event::StorageRecovered {
        end: Offset(10),
        now: Instant(0),
    };
    step(&mut partition, end);
    assert_eq!(partition.wants_another_log(), None, "it can be used");
}

proptest! {
    #[test]
    fn alone_acknowledged_means_below_the_high_watermark(
        moves in proptest::collection::vec((0_u8..4, 1_i64..5), 1..60)
    ) {
        let mut partition = alone(0);
        let mut ends = BTreeMap::new();
        let (mut end, mut durable, mut high) = (0, 0, 0);
        for (id, (kind, amount)) in moves.into_iter().enumerate() {
            let id = u32::try_from(id).expect("few moves");
            let event = match kind {
                0 | 1 => {
                    end += amount;
                    ends.insert(id, end);
                    appended(end, id)
                }
                2 => {
                    durable = (durable + amount).min(end);
                    Event::Durable { end: Offset(durable) }
                }
                _ if partition.is_storage_failed() => {
                    end = durable;
                    Event::StorageRecovered { end: Offset(end), now: Instant(0) }
                }
                _ => {
                    ends.insert(id, end);
                    Event::Repeated { end: Offset(end), waiter: Some((id, WantedAcks::InSync)) }
                }
            };
            for effect in step(&mut partition, event) {
                if let Effect::Acknowledge(id) = effect {
                    prop_assert!(ends[&id] <= partition.high_watermark().0);
                }
            }
            prop_assert!(partition.high_watermark().0 >= high);
            high = partition.high_watermark().0;
            prop_assert!(high <= end);
        }
    }
}
