//! Stories told to the watch, right and wrong.

mod beginning;
mod standing;

use super::partitions::View;
use super::*;

const NONE: [&str; 0] = [];

fn watch() -> Watch {
    let names = [(1, "n1"), (2, "n2"), (3, "n3")];
    let names: BTreeMap<i32, String> = names.map(|(id, name)| (id, name.to_owned())).into();
    let state = State {
        names,
        min_in_sync: BTreeMap::from([("t".to_owned(), 2)]),
        min_in_sync_default: 1,
        ..State::default()
    };
    Watch {
        state: Arc::new(Mutex::new(state)),
        recorder: Recorder::default(),
    }
}

/// What a node tells, of partition `t-0`.
#[derive(Clone, Copy)]
enum Told {
    Replica(&'static str),
    Metadata(&'static str),
    /// Epoch, high watermark, end.
    Log(i32, i64, i64),
    /// Epoch, start.
    Begins(i32, i64),
}

use Told::{Begins, Log, Metadata as Meta, Replica};

fn of() -> Partition {
    Partition {
        topic: "t".to_owned(),
        partition: 0,
    }
}

fn log(leader_epoch: i32, start: i64, high_watermark: i64, end: i64) -> LogState {
    LogState {
        start,
        high_watermark,
        end,
        recovery_point: end,
        leader_epoch,
    }
}

/// The properties that these events break.
fn broken(watch: &Watch, events: &[(&str, Told)]) -> Vec<&'static str> {
    let mut found = Vec::new();
    for (node, told) in events {
        let mut state = watch.state();
        let broken = match told {
            Replica(text) => state.on_replica(node, &Fields::parse(text)),
            Meta(text) => state.on_metadata(node, &Fields::parse(text)),
            Log(leader_epoch, high_watermark, end) => {
                state.on_log(node, &of(), log(*leader_epoch, 0, *high_watermark, *end))
            }
            Begins(leader_epoch, start) => {
                state.on_log(node, &of(), log(*leader_epoch, *start, 10, 10))
            }
        };
        found.extend(broken.into_iter().map(|(property, _)| property));
    }
    found
}

const LEADS_1: Told = Replica("event=leading topic=t partition=0 leader_epoch=1 start=0");
const EPOCHS: Told = Replica("event=epochs topic=t partition=0 epochs=1@0");
const COUNTS_10: Told =
    Replica("event=counted topic=t partition=0 leader_epoch=1 follower=2 broker_epoch=4 offset=10");
/// In sync are 1 and 2.
const STATE: Told = Meta(
    "end=5 topic=t topic_id=T partition=0 leader=1 leader_epoch=1 partition_epoch=1 isr=1,2 \
     replicas=1,2,3",
);
/// And 3.
const JOINED: Told = Meta(
    "end=9 topic=t topic_id=T partition=0 leader=1 leader_epoch=1 partition_epoch=2 isr=1,2,3 \
     replicas=1,2,3",
);
const RISES: Told = Log(1, 10, 10);

#[test]
fn two_leaders_in_one_epoch_break_r1_and_one_that_leads_again_does_not() {
    assert_eq!(broken(&watch(), &[("n1", LEADS_1), ("n1", LEADS_1)]), NONE);
    assert_eq!(
        broken(&watch(), &[("n1", LEADS_1), ("n2", LEADS_1)]),
        ["R1"]
    );
}

#[test]
fn two_elected_for_one_epoch_break_r1() {
    let elected = |leader_epoch| match leader_epoch {
        1 => Meta(
            "end=9 topic=t topic_id=T partition=0 leader=2 leader_epoch=1 partition_epoch=2 \
             isr=2 replicas=1,2,3",
        ),
        _ => Meta(
            "end=9 topic=t topic_id=T partition=0 leader=2 leader_epoch=2 partition_epoch=2 \
             isr=2 replicas=1,2,3",
        ),
    };
    assert_eq!(broken(&watch(), &[("n1", STATE), ("n1", elected(2))]), NONE);
    assert_eq!(
        broken(&watch(), &[("n1", STATE), ("n1", elected(1))]),
        ["R1"]
    );
}

#[test]
fn a_leader_that_begins_below_the_high_watermark_breaks_r3() {
    let whole = Replica("event=leading topic=t partition=0 leader_epoch=2 start=10");
    let short = Replica("event=leading topic=t partition=0 leader_epoch=2 start=9");
    let before = [("n1", LEADS_1), ("n1", RISES)];
    assert_eq!(
        broken(&watch(), &[before[0], before[1], ("n2", whole)]),
        NONE
    );
    assert_eq!(
        broken(&watch(), &[before[0], before[1], ("n2", short)]),
        ["R3"]
    );
}

#[test]
fn a_high_watermark_beyond_an_in_sync_replica_breaks_r6() {
    let with = |end| {
        [
            ("n1", STATE),
            ("n1", LEADS_1),
            ("n2", Log(1, 0, end)),
            ("n1", RISES),
        ]
    };
    assert_eq!(broken(&watch(), &with(10)), NONE);
    assert_eq!(broken(&watch(), &with(9)), ["R6"]);
}

#[test]
fn a_follower_whose_high_watermark_no_leader_told_breaks_r17() {
    let with = |offset| [("n1", LEADS_1), ("n1", RISES), ("n2", Log(1, offset, 12))];
    assert_eq!(broken(&watch(), &with(10)), NONE);
    assert_eq!(broken(&watch(), &with(11)), ["R17"]);
}

#[test]
fn the_only_replica_finds_its_high_watermark_in_its_log_and_one_of_two_does_not() {
    let fenced = |replicas| match replicas {
        1 => Meta(
            "end=6 topic=t topic_id=T partition=0 leader=-1 leader_epoch=2 partition_epoch=2 isr= \
             replicas=1",
        ),
        _ => Meta(
            "end=6 topic=t topic_id=T partition=0 leader=-1 leader_epoch=2 partition_epoch=2 isr= \
             replicas=1,2",
        ),
    };
    let starts_with = |replicas| {
        let watched = watch();
        let before = [("n1", LEADS_1), ("n1", RISES)];
        let mut found = broken(&watched, &before);
        watched.node("n1", &NodeEvent::Kill);
        watched.node("n1", &NodeEvent::Start);
        let after = [("n1", fenced(replicas)), ("n1", Log(2, 12, 12))];
        found.extend(broken(&watched, &after));
        let of = Partition {
            topic: "t".to_owned(),
            partition: 0,
        };
        (found, watched.high_watermark(&of))
    };
    assert_eq!(starts_with(1), (vec![], Some(12)));
    assert_eq!(starts_with(2), (vec!["R17"], Some(10)));
}

/// Its image is read ahead of what its replicas are told: until then it is alone.
#[test]
fn a_replica_is_alone_by_what_it_was_told() {
    let with = |replicas| {
        let fenced = "end=6 topic=t topic_id=T partition=0 leader=-1 leader_epoch=2 \
                      partition_epoch=2 isr= replicas=1,2";
        let events = [
            ("n1", LEADS_1),
            ("n1", RISES),
            ("n2", Meta(fenced)),
            ("n2", Replica(replicas)),
            ("n2", Log(2, 12, 12)),
        ];
        broken(&watch(), &events)
    };
    let alone = "event=assigned topic=t partition=0 leader_epoch=2 isr= replicas=2";
    assert_eq!(with(alone), NONE);
    let not_alone = "event=assigned topic=t partition=0 leader_epoch=2 isr= replicas=1,2";
    assert_eq!(with(not_alone), ["R17"]);
}

#[test]
fn a_high_watermark_that_moves_with_too_few_in_sync_breaks_r7_once_the_leader_goes_by_that() {
    let goes_by = |assigned| {
        let events = [
            ("n1", STATE),
            ("n1", Replica(assigned)),
            ("n1", LEADS_1),
            ("n2", Log(1, 0, 10)),
            ("n1", RISES),
        ];
        broken(&watch(), &events)
    };
    let assigned = "event=assigned topic=t partition=0 isr=1 replicas=1,2,3";
    assert_eq!(goes_by(assigned), ["R7"]);
    let assigned = "event=assigned topic=t partition=0 isr=1,2 replicas=1,2,3";
    assert_eq!(goes_by(assigned), NONE);
}

#[test]
fn too_few_are_in_sync_below_the_least_unless_there_are_no_more_replicas() {
    let view = |isr: &[i32], replicas: &[i32]| View {
        isr: isr.iter().copied().collect(),
        replicas: replicas.iter().copied().collect(),
        ..View::default()
    };
    assert!(view(&[1], &[1, 2, 3]).is_short(2));
    assert!(!view(&[1, 2], &[1, 2, 3]).is_short(2));
    assert!(!view(&[1], &[1]).is_short(2));
}

#[test]
fn an_in_sync_replica_that_truncates_below_the_high_watermark_breaks_r9() {
    let cuts = Replica("event=truncated topic=t partition=0 leader_epoch=2 from=12 to=8");
    let whole = ("n2", Log(1, 0, 12));
    let with = |node| {
        [
            ("n1", STATE),
            ("n1", LEADS_1),
            whole,
            ("n1", RISES),
            (node, cuts),
        ]
    };
    assert_eq!(broken(&watch(), &with("n3")), NONE);
    assert_eq!(broken(&watch(), &with("n2")), ["R9"]);
}

#[test]
fn an_in_sync_replica_that_empties_its_log_breaks_r9_and_one_that_goes_on_further_does_not() {
    let back = "event=emptied topic=t partition=0 leader_epoch=1 from=12 to=0";
    let on = "event=emptied topic=t partition=0 leader_epoch=1 from=4 to=8";
    let with = |node, empties| {
        let before = [
            ("n1", STATE),
            ("n1", LEADS_1),
            ("n2", Log(1, 0, 12)),
            ("n1", RISES),
        ];
        let watched = watch();
        let mut found = broken(&watched, &before);
        found.extend(broken(&watched, &[(node, Replica(empties))]));
        found
    };
    assert_eq!(with("n2", back), ["R9"]);
    assert_eq!(with("n3", back), NONE);
    assert_eq!(with("n2", on), NONE);
}

#[test]
fn who_comes_in_sync_has_everything_and_is_not_fenced() {
    let with = |end| {
        [
            ("n1", STATE),
            ("n1", LEADS_1),
            ("n3", Log(1, 0, end)),
            ("n1", RISES),
            ("n1", JOINED),
        ]
    };
    assert_eq!(broken(&watch(), &with(10)), NONE);
    assert_eq!(broken(&watch(), &with(9)), ["R4"]);
    let fenced = Meta("end=7 broker=3 epoch=6 is_alive=0");
    assert_eq!(
        broken(&watch(), &[("n1", STATE), ("n1", fenced), ("n1", JOINED)]),
        ["R7"]
    );
}

#[test]
fn who_leads_without_having_registered_since_its_start_breaks_r15() {
    let watched = watch();
    let leads = Replica("event=leading topic=t partition=0 leader_epoch=3 start=0");
    let first = Meta("end=4 broker=2 epoch=4 is_alive=0");
    let second = Meta("end=8 broker=2 epoch=8 is_alive=0");
    watched.node("n2", &NodeEvent::Start);
    assert_eq!(broken(&watched, &[("n1", first), ("n2", leads)]), NONE);
    watched.node("n2", &NodeEvent::Kill);
    watched.node("n2", &NodeEvent::Start);
    assert_eq!(broken(&watched, &[("n2", first), ("n2", leads)]), ["R15"]);
    assert_eq!(broken(&watched, &[("n1", second), ("n2", leads)]), NONE);
}

#[test]
fn nodes_that_replay_different_states_break_m13_and_different_images_m4() {
    let other = Meta(
        "end=7 topic=t topic_id=T partition=0 leader=2 leader_epoch=1 partition_epoch=1 isr=1,2 \
         replicas=1,2,3",
    );
    assert_eq!(broken(&watch(), &[("n1", STATE), ("n2", STATE)]), NONE);
    assert_eq!(broken(&watch(), &[("n1", STATE), ("n2", other)]), ["M13"]);
    let image = |text| [("n3", Meta("event=image end=6 hash=1")), ("n1", Meta(text))];
    assert_eq!(broken(&watch(), &image("event=image end=6 hash=1")), NONE);
    assert_eq!(broken(&watch(), &image("event=image end=6 hash=2")), ["M4"]);
}

#[test]
fn epochs_that_go_back_break_m11_and_two_active_controllers_m1() {
    let back = Meta(
        "end=10 topic=t topic_id=T partition=0 leader=1 leader_epoch=0 partition_epoch=3 isr=1,2 \
         replicas=1,2,3",
    );
    assert_eq!(
        broken(&watch(), &[("n1", STATE), ("n1", JOINED), ("n2", STATE)]),
        NONE
    );
    assert_eq!(broken(&watch(), &[("n1", JOINED), ("n1", STATE)]), ["M11"]);
    assert_eq!(broken(&watch(), &[("n1", STATE), ("n1", back)]), ["M11"]);
    let active = Meta("event=active term=4");
    assert_eq!(broken(&watch(), &[("n1", active), ("n1", active)]), NONE);
    assert_eq!(broken(&watch(), &[("n1", active), ("n2", active)]), ["M1"]);
}

#[test]
fn producer_ids_that_are_given_out_again_and_a_topic_id_of_two_topics_break_m12() {
    let ids = |first, second| [("n1", Meta(first)), ("n2", Meta(second))];
    let first = "event=producer-ids end=3 next=1000";
    let watched = watch();
    assert_eq!(
        broken(&watched, &ids(first, "event=producer-ids end=9 next=2000")),
        NONE
    );
    assert_eq!(
        broken(&watched, &ids(first, "event=producer-ids end=12 next=1500")),
        ["M12"]
    );
    let other = Meta(
        "end=7 topic=u topic_id=T partition=1 leader=2 leader_epoch=1 partition_epoch=1 isr=1,2 \
         replicas=1,2,3",
    );
    assert_eq!(broken(&watch(), &[("n1", STATE), ("n1", other)]), ["M12"]);
}

#[test]
fn a_leader_that_begins_before_what_an_earlier_one_was_moved_to_breaks_k6() {
    let told = |first: &'static str, start: i64| {
        let watch = watch();
        let events = [
            ("n1", LEADS_1),
            ("n1", RISES),
            ("n2", Begins(1, 5)),
            (first, Begins(1, 5)),
            ("n3", Begins(2, start)),
            (
                "n3",
                Replica("event=leading topic=t partition=0 leader_epoch=2 start=10"),
            ),
        ];
        broken(&watch, &events)
    };
    assert_eq!(told("n1", 5), NONE);
    assert_eq!(told("n1", 4), ["K6"]);
    assert_eq!(told("n2", 4), NONE, "only a follower had let go of it");
}

/// Leads, with a log of ten records.
fn led() -> Watch {
    let watch = watch();
    let before = [("n1", STATE), ("n1", EPOCHS), ("n1", Log(1, 0, 10))];
    assert_eq!(broken(&watch, &before), NONE);
    assert_eq!(broken(&watch, &[("n1", LEADS_1)]), NONE);
    watch
}

#[test]
fn a_leader_that_counts_on_more_than_a_follower_has_breaks_r6() {
    let with = |end| {
        let watch = led();
        let mut found = broken(&watch, &[("n2", EPOCHS), ("n2", Log(1, 0, end))]);
        found.extend(broken(&watch, &[("n1", COUNTS_10)]));
        found
    };
    assert_eq!(with(10), NONE);
    assert_eq!(with(9), ["R6"]);
}

#[test]
fn a_leader_that_counts_on_records_of_another_leader_breaks_r6() {
    let of_others = Replica("event=epochs topic=t partition=0 epochs=0@0");
    let told = [("n2", Log(0, 0, 10)), ("n2", of_others), ("n1", COUNTS_10)];
    assert_eq!(broken(&led(), &told), ["R6"]);
}

#[test]
fn who_was_replaced_and_does_not_know_it_may_count_what_was_told_before() {
    let watch = led();
    let elected = Meta(
        "end=9 topic=t topic_id=T partition=0 leader=2 leader_epoch=2 partition_epoch=2 isr=1,2 \
         replicas=1,2,3",
    );
    let told = [("n2", Log(2, 0, 4)), ("n2", elected), ("n1", COUNTS_10)];
    assert_eq!(broken(&watch, &told), NONE);
}

#[test]
fn what_a_follower_told_in_an_earlier_life_breaks_r15_once_the_leader_heard_of_a_later_one() {
    let counts = |life| match life {
        3 => Replica(
            "event=counted topic=t partition=0 leader_epoch=1 follower=2 broker_epoch=3 offset=8",
        ),
        _ => COUNTS_10,
    };
    assert_eq!(
        broken(&led(), &[("n1", counts(3)), ("n1", counts(4))]),
        NONE
    );
    assert_eq!(
        broken(&led(), &[("n1", counts(4)), ("n1", counts(3))]),
        ["R15"]
    );
    let proposes = |told| [("n1", counts(4)), ("n1", Replica(told))];
    let as_heard = "event=isr-proposed topic=t partition=0 leader_epoch=1 partition_epoch=1 \
                    members=1@2,2@4";
    let as_registered = "event=isr-proposed topic=t partition=0 leader_epoch=1 partition_epoch=1 \
                         members=1@2,2@7";
    assert_eq!(broken(&led(), &proposes(as_heard)), NONE);
    assert_eq!(broken(&led(), &proposes(as_registered)), ["R15"]);
    let as_it_was = "event=isr-proposed topic=t partition=0 leader_epoch=1 partition_epoch=1 \
                     members=1@2,2@3";
    let sent_again = [
        ("n1", counts(3)),
        ("n1", Replica(as_it_was)),
        ("n1", counts(4)),
        ("n1", Replica(as_it_was)),
    ];
    assert_eq!(broken(&led(), &sent_again), NONE);
}

#[test]
fn in_sync_replicas_that_nobody_proposed_to_the_state_before_break_r7() {
    let taken = Meta(
        "end=9 topic=t topic_id=T partition=0 leader=1 leader_epoch=1 partition_epoch=2 \
         isr=1,2,3 replicas=1,2,3 cause=ISR_CHANGED",
    );
    let registered = Meta("end=8 broker=3 epoch=6 is_alive=1");
    let after = |proposed| {
        let told = [("n1", Replica(proposed)), ("n1", registered), ("n1", taken)];
        broken(&led(), &told)
    };
    let proposed = "event=isr-proposed topic=t partition=0 leader_epoch=1 partition_epoch=1 \
                    members=1@2,2@4,3@6";
    assert_eq!(after(proposed), NONE);
    let to_an_older = "event=isr-proposed topic=t partition=0 leader_epoch=1 partition_epoch=0 \
                       members=1@2,2@4,3@6";
    assert_eq!(after(to_an_older), ["R7"]);
    let of_an_earlier_run = "event=isr-proposed topic=t partition=0 leader_epoch=1 \
                             partition_epoch=1 members=1@2,2@4,3@5";
    assert_eq!(after(of_an_earlier_run), ["R15"]);
    // Refused, and then proposed as of the life that is registered.
    let both = [of_an_earlier_run, proposed].map(|proposed| ("n1", Replica(proposed)));
    let told = [both[0], both[1], ("n1", registered), ("n1", taken)];
    assert_eq!(broken(&led(), &told), NONE);
}

#[test]
fn a_reassignment_that_ends_before_all_are_in_sync_breaks_r7() {
    let ends = |told| broken(&led(), &[("n1", Meta(told))]);
    let with_one = "end=9 topic=t topic_id=T partition=0 leader=1 leader_epoch=1 \
                    partition_epoch=2 isr=1 replicas=1,2 cause=REASSIGNMENT_COMPLETED";
    let with_all = "end=9 topic=t topic_id=T partition=0 leader=1 leader_epoch=1 \
                    partition_epoch=2 isr=1,2 replicas=1,2 cause=REASSIGNMENT_COMPLETED";
    assert_eq!(ends(with_one), ["R7"]);
    assert_eq!(ends(with_all), NONE);
}

#[test]
fn a_follower_that_copies_what_its_leader_does_not_have_breaks_r2() {
    let copies = |epochs, end| {
        let told = [
            ("n2", Log(1, 0, 4)),
            ("n2", Replica(epochs)),
            ("n2", Log(1, 0, end)),
        ];
        broken(&led(), &told)
    };
    let same = "event=epochs topic=t partition=0 epochs=1@0";
    let other = "event=epochs topic=t partition=0 epochs=0@0";
    assert_eq!(copies(same, 10), NONE);
    assert_eq!(copies(same, 11), ["R2"]);
    assert_eq!(copies(other, 8), ["R2"]);
}

#[test]
fn a_leader_that_goes_on_in_the_epoch_in_which_its_log_was_cut_breaks_r2() {
    assert_eq!(broken(&led(), &[("n1", Log(1, 0, 8))]), NONE);
    let on = [("n1", Log(1, 0, 8)), ("n1", Log(1, 0, 9))];
    assert_eq!(broken(&led(), &on), ["R2"]);
}

#[test]
fn a_truncation_of_what_one_leads_or_of_what_the_leader_has_breaks_r9() {
    let assigned =
        Replica("event=assigned topic=t partition=0 leader_epoch=1 isr=1 replicas=1,2,3");
    let cuts = |epochs| {
        let told = [
            ("n3", assigned),
            ("n3", Replica(epochs)),
            ("n3", Log(1, 0, 9)),
            (
                "n3",
                Replica("event=truncated topic=t partition=0 leader_epoch=1 from=9 to=5"),
            ),
        ];
        broken(&led(), &told)
    };
    assert_eq!(cuts("event=epochs topic=t partition=0 epochs=0@5"), NONE);
    assert_eq!(cuts("event=epochs topic=t partition=0 epochs=1@0"), ["R9"]);
    let own = Replica("event=truncated topic=t partition=0 leader_epoch=1 from=10 to=10");
    assert_eq!(broken(&led(), &[("n1", own)]), ["R9"]);
}

#[test]
fn who_counts_as_having_everything_and_opens_a_shorter_log_breaks_r4() {
    let opens = |end| {
        let watch = led();
        let before = [("n2", Log(1, 0, 10)), ("n1", RISES)];
        assert_eq!(broken(&watch, &before), NONE);
        watch.node("n2", &NodeEvent::PowerLoss);
        watch.node("n2", &NodeEvent::Start);
        broken(&watch, &[("n2", Log(1, 0, end))])
    };
    assert_eq!(opens(10), NONE);
    assert_eq!(opens(9), ["R4"]);
}

#[test]
fn what_is_in_memory_counts_where_the_topic_promises_no_more() {
    let rises = |in_memory| {
        let watch = watch();
        let told = BTreeMap::from([(Some("t".to_owned()), in_memory)]);
        watch.state().in_memory = told;
        let synced = LogState {
            recovery_point: 0,
            ..log(1, 0, 0, 10)
        };
        let mut found = broken(&watch, &[("n1", STATE), ("n1", LEADS_1)]);
        let broken_too = watch.state().on_log("n2", &of(), synced);
        found.extend(broken_too.into_iter().map(|(property, _)| property));
        found.extend(broken(&watch, &[("n1", RISES)]));
        found
    };
    assert_eq!(rises(true), NONE);
    assert_eq!(rises(false), ["R6"]);
}

#[test]
fn the_last_leader_is_elected_for_being_that_only_when_nobody_else_can_have_more() {
    let stood = Meta(
        "end=6 topic=t topic_id=T partition=0 leader=-1 leader_epoch=2 partition_epoch=2 isr= \
         elr= replicas=1,2,3",
    );
    let elected = Meta(
        "end=7 topic=t topic_id=T partition=0 leader=1 leader_epoch=3 partition_epoch=3 isr=1 \
         elr= replicas=1,2,3 recovering=1 cause=LAST_KNOWN_LEADER",
    );
    let after = |second: &NodeEvent| {
        let watch = led();
        watch.node("n1", &NodeEvent::PowerLoss);
        watch.node("n2", second);
        broken(&watch, &[("n3", stood), ("n3", elected)])
    };
    assert_eq!(after(&NodeEvent::Kill), NONE);
    assert_eq!(after(&NodeEvent::Stop), ["R3"]);
}

#[test]
fn a_run_with_two_epochs_breaks_m11() {
    let run = |epoch, run| match (epoch, run) {
        (6, _) => Meta("end=6 broker=3 epoch=6 is_alive=0 run=a"),
        (_, "a") => Meta("end=8 broker=3 epoch=8 is_alive=0 run=a"),
        _ => Meta("end=8 broker=3 epoch=8 is_alive=0 run=b"),
    };
    assert_eq!(
        broken(&watch(), &[("n1", run(6, "a")), ("n1", run(8, "b"))]),
        NONE
    );
    assert_eq!(
        broken(&watch(), &[("n1", run(6, "a")), ("n1", run(8, "a"))]),
        ["M11"]
    );
}

#[test]
fn a_node_that_forgets_a_vote_breaks_m9_an_entry_m5_and_what_precedes_its_log_m7() {
    let confirmed = Meta("event=confirmed vote_term=3 log_end=9 log_first=0");
    let opens = |told| {
        let watch = watch();
        let mut found = broken(&watch, &[("n1", confirmed)]);
        watch.node("n1", &NodeEvent::PowerLoss);
        watch.node("n1", &NodeEvent::Start);
        found.extend(broken(&watch, &[("n1", Meta(told))]));
        found
    };
    let sound = "event=opened vote_term=3 log_end=9 log_first=4 snapshot_end=4";
    assert_eq!(opens(sound), NONE);
    let voted = "event=opened vote_term=2 log_end=9 log_first=4 snapshot_end=4";
    assert_eq!(opens(voted), ["M9"]);
    let shorter = "event=opened vote_term=3 log_end=8 log_first=4 snapshot_end=4";
    assert_eq!(opens(shorter), ["M5"]);
    let bare = "event=opened vote_term=3 log_end=9 log_first=4 snapshot_end=0";
    assert_eq!(opens(bare), ["M7"]);
    let cut = watch();
    let cutting = Meta("event=cutting vote_term=4 log_end=7 log_first=0");
    let opened = Meta("event=opened vote_term=4 log_end=7 log_first=4 snapshot_end=4");
    let events = [("n1", confirmed), ("n1", cutting), ("n1", opened)];
    assert_eq!(broken(&cut, &events), NONE, "another leader took it back");
    let lost = watch();
    let mut found = broken(&lost, &[("n1", confirmed)]);
    lost.wiped("n1");
    found.extend(broken(
        &lost,
        &[("n1", Meta("event=opened vote_term=0 log_end=0"))],
    ));
    assert_eq!(found, NONE, "its disk is another");
}
