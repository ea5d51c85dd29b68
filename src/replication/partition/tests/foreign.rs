//! Of logs that begin beyond what their leader has.

use super::*;

/// Follows broker 2 in epoch 2, with a log from 5 up to `end`.
fn begins_at_5(end: i64, isr: &[i32]) -> Partition<u32> {
    let log = Opened {
        log_start_offset: Offset(5),
        ..opened(end)
    };
    let assigned = assignment(2, 2, 6, isr);
    Partition::new(&assigned, log, Instant(0), &mut Vec::new())
}

fn position(partition: &mut Partition<u32>) -> Result<i64, ErrorCode> {
    partition.prepare_anew(Offset(5));
    let position = partition.position(LeaderEpoch(2), Offset(5), Some(LeaderEpoch(1)));
    position.map(|position| position.expect("all is durable").fetch_offset.0)
}

/// The leader, whose log begins at `start`, says that they part at `end`; whether that is not to be
/// cut off.
fn part(partition: &mut Partition<u32>, start: i64, end: i64) -> bool {
    let said = FollowerTruncate {
        slot: 0,
        leader_epoch: LeaderEpoch(2),
        fetch_offset: Offset(13),
        last_fetched_epoch: LeaderEpoch(1),
        diverging: (LeaderEpoch(0), Offset(end)),
        leader_log_start_offset: Offset(start),
    };
    let mine = |_| (LeaderEpoch::NONE, Offset(-1));
    let cut = partition.cut(&said, Some(LeaderEpoch(1)), mine);
    assert_eq!(cut, Ok(Offset(end)));
    partition.begins_anew_for(&said, Offset(end), Offset(5))
}

const FOREIGN: Option<(LeaderEpoch, Useless)> = Some((LeaderEpoch(2), Useless::Foreign));

#[test]
fn a_log_that_begins_where_it_parts_from_its_leaders_or_beyond_is_begun_anew() {
    for end in [3, 5] {
        let mut partition = begins_at_5(13, &[2]);
        assert_eq!(position(&mut partition), Ok(13));
        assert!(part(&mut partition, 0, end));
        assert_eq!(partition.wants_another_log(), FOREIGN, "parts at {end}");
        assert_eq!(
            position(&mut partition),
            Err(ErrorCode::OffsetOutOfRange),
            "it says nothing of itself that the leader could count on"
        );
    }
}

#[test]
fn a_log_is_cut_where_a_part_of_it_is_the_leaders_or_it_begins_no_later() {
    for (start, end) in [(0, 6), (5, 5)] {
        let mut partition = begins_at_5(13, &[2]);
        assert_eq!(position(&mut partition), Ok(13));
        assert!(!part(&mut partition, start, end), "{start} {end}");
        assert_eq!(partition.wants_another_log(), None);
    }
}

#[test]
fn a_log_that_is_counted_on_is_not_taken_away_for_where_it_begins() {
    let mut partition = begins_at_5(13, &[1, 2]);
    assert_eq!(position(&mut partition), Ok(13));
    assert!(!part(&mut partition, 0, 5));
    let mut partition = begins_at_5(13, &[2]);
    assert!(part(&mut partition, 0, 5));
    assigned(&mut partition, &assignment(2, 2, 7, &[1, 2]));
    assert_eq!(partition.wants_another_log(), None);
    assigned(&mut partition, &assignment(2, 2, 8, &[2]));
    assert_eq!(partition.wants_another_log(), FOREIGN, "counted on no more");
    assigned(&mut partition, &assignment(2, 3, 9, &[2]));
    assert_eq!(partition.wants_another_log(), None, "another epoch");
}

#[test]
fn an_empty_log_asks_what_its_leader_has_before_where_it_begins() {
    let empty = || {
        let mut partition = begins_at_5(5, &[2]);
        assert_eq!(position(&mut partition), Ok(0));
        partition
    };
    let here = Offset(5);
    // The leader has records from the very beginning.
    let mut partition = empty();
    let refused = Err(ErrorCode::OffsetOutOfRange);
    let leader = (Offset(0), Offset(40));
    let first = Some(Offset(0));
    assert_eq!(partition.restart_for(leader, first, here), refused);
    assert_eq!(partition.wants_another_log(), FOREIGN);
    // It has some, which begin between.
    let mut partition = empty();
    let leader = (Offset(3), Offset(40));
    assert_eq!(partition.restart_for(leader, None, here), Ok(None));
    assert_eq!(position(&mut partition), Ok(3));
    let first = Some(Offset(3));
    assert_eq!(partition.restart_for(leader, first, here), refused);
    assert_eq!(partition.wants_another_log(), FOREIGN);
    // Nothing of that is committed, and its log begins within a batch.
    let mut partition = empty();
    let leader = (Offset(3), Offset(-1));
    assert_eq!(partition.restart_for(leader, None, here), Ok(None));
    assert_eq!(position(&mut partition), Ok(3));
    let (leader, first) = ((Offset(3), Offset(3)), Some(Offset(2)));
    assert_eq!(partition.restart_for(leader, first, here), refused);
    assert_eq!(partition.wants_another_log(), FOREIGN);
    // Its log begins where this one does, and is empty.
    let mut partition = empty();
    let leader = (Offset(5), Offset(5));
    assert_eq!(partition.restart_for(leader, None, here), Ok(Some(here)));
    step(&mut partition, Event::Restarted { start: here });
    assert_eq!(position(&mut partition), Ok(5));
    // It begins there, and has records.
    let mut partition = empty();
    let leader = (Offset(5), Offset(9));
    assert_eq!(partition.restart_for(leader, None, here), Ok(None));
    assert_eq!(position(&mut partition), Ok(5));
    let first = Some(Offset(5));
    assert_eq!(partition.restart_for(leader, first, here), Ok(Some(here)));
    step(&mut partition, Event::Restarted { start: here });
    step(&mut partition, Event::Copied { end: Offset(9) });
    assert_eq!(partition.log_end_offset(), Offset(9));
    // It begins later.
    let mut partition = empty();
    let leader = (Offset(7), Offset(7));
    let start = partition.restart_for(leader, None, here);
    assert_eq!(start, Ok(Some(Offset(7))));
}

#[test]
fn an_empty_log_that_is_counted_on_goes_on_from_where_it_is() {
    let mut partition = begins_at_5(5, &[1, 2]);
    assert_eq!(position(&mut partition), Ok(5));
}

#[test]
fn a_log_does_not_begin_where_its_leaders_does_before_it_is_known_whether_a_batch_begins_there() {
    let mut partition = begins_at_5(5, &[2]);
    assert_eq!(position(&mut partition), Ok(0));
    let leader = (Offset(7), Offset(-1));
    assert_eq!(partition.restart_for(leader, None, Offset(5)), Ok(None));
    assert_eq!(position(&mut partition), Ok(7));
    let (leader, first) = ((Offset(7), Offset(40)), Some(Offset(6)));
    let start = partition.restart_for(leader, first, Offset(5));
    assert_eq!(start, Ok(Some(Offset(6))));
}

#[test]
fn an_empty_log_that_begins_within_a_batch_of_its_leader_is_begun_anew() {
    let mut partition = begins_at_5(5, &[2]);
    let leader = (Offset(5), Offset(5));
    position(&mut partition).expect("it follows");
    let here = partition.restart_for(leader, None, Offset(5));
    assert_eq!(here, Ok(Some(Offset(5))));
    step(&mut partition, Event::Restarted { start: Offset(5) });
    assert_eq!(position(&mut partition), Ok(5));
    let refused = Err(ErrorCode::OffsetOutOfRange);
    let first = Some(Offset(2));
    assert_eq!(partition.restart_for(leader, first, Offset(5)), refused);
    assert_eq!(partition.wants_another_log(), FOREIGN);
}
