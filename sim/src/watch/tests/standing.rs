//! What replicas make of what they know.

use super::*;

const ASSIGNED: Told = Replica(
    "event=assigned topic=t partition=0 leader_epoch=1 partition_epoch=1 isr=1,2 replicas=1,2,3",
);

#[test]
fn a_high_watermark_goes_back_with_its_log_alone() {
    let events = [("n2", Log(1, 0, 10)), ("n1", LEADS_1), ("n1", RISES)];
    let cut = watch();
    broken(&cut, &events);
    let with_the_log = Log(1, 4, 4);
    let found = broken(&cut, &[("n1", with_the_log)]);
    assert!(!found.contains(&"R5"), "{found:?}");
    let whole = watch();
    broken(&whole, &events);
    assert!(broken(&whole, &[("n1", Log(1, 4, 10))]).contains(&"R5"));
}

#[test]
fn a_copy_that_was_let_go_of_begins_anew() {
    let watch = watch();
    broken(&watch, &[("n1", LEADS_1), ("n1", RISES)]);
    let closed = Replica("event=closed topic=t partition=0");
    assert_eq!(
        broken(&watch, &[("n1", closed), ("n1", Log(1, 4, 10))]),
        NONE
    );
}

#[test]
fn an_epoch_is_led_by_one_process() {
    let watch = watch();
    assert_eq!(broken(&watch, &[("n1", STATE), ("n1", LEADS_1)]), NONE);
    watch.state().end("n1");
    let found = broken(&watch, &[("n1", STATE), ("n1", LEADS_1)]);
    assert_eq!(found, ["R2"]);
}

#[test]
fn nobody_is_proposed_who_is_known_to_be_fenced() {
    let watch = watch();
    broken(&watch, &[("n1", STATE), ("n1", ASSIGNED), ("n1", LEADS_1)]);
    let sound = Replica(
        "event=isr-proposed topic=t partition=0 leader_epoch=1 partition_epoch=1 \
         members=1@1,2@2,3@3 eligible=1@1,3@3",
    );
    assert_eq!(broken(&watch, &[("n1", sound)]), NONE, "2 is a member");
    let fenced = Replica(
        "event=isr-proposed topic=t partition=0 leader_epoch=1 partition_epoch=1 \
         members=1@1,2@2,3@3 eligible=1@1,2@2",
    );
    assert_eq!(broken(&watch, &[("n1", fenced)]), ["R7"]);
}

#[test]
fn nothing_is_compacted_that_is_not_committed() {
    let watch = watch();
    broken(
        &watch,
        &[("n2", Log(1, 0, 20)), ("n1", LEADS_1), ("n1", RISES)],
    );
    let committed = Replica("event=compacting topic=t partition=0 end=10");
    assert_eq!(broken(&watch, &[("n2", committed)]), NONE);
    let beyond = Replica("event=compacting topic=t partition=0 end=11");
    assert_eq!(broken(&watch, &[("n2", beyond)]), ["K1"]);
}
