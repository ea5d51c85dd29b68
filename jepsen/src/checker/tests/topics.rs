//! Topics that are deleted and made again.

use super::tell::{Tell, batch, fetched, retried};
use crate::history::{Answer, Call, Note};

fn remade(first: u64) -> Tell {
    let mut tell = Tell::new();
    tell.create(&[]);
    tell.send("a", &[first], 0);
    tell.read("c", 0, &[(0, first)]);
    tell.delete_topic();
    tell.create(&[]);
    tell
}

#[test]
fn each_era_has_its_own_offsets_and_promises() {
    let mut tell = remade(1);
    tell.send("a", &[2], 0);
    tell.read("c", 0, &[(0, 2)]);
    tell.read_all(&[(0, 2)]);
    tell.is_legal();
}

#[test]
fn a_value_of_an_ended_era_read_in_a_later_one_breaks_p5() {
    let mut tell = remade(1);
    tell.read("d", 0, &[(0, 1)]);
    tell.breaks(&["P5"]);
}

fn leads(tell: &mut Tell, node: &str) {
    let (of, leader_epoch, start) = (super::tell::t0(), 0, 0);
    let note = Note::Leading {
        of,
        leader_epoch,
        start,
    };
    tell.note_by(node, note);
}

#[test]
fn a_leader_who_was_not_told_of_a_deletion_may_show_what_was_before() {
    let mut tell = Tell::new();
    tell.create(&[]);
    leads(&mut tell, "n1");
    tell.send("a", &[1], 0);
    tell.read("c", 0, &[(0, 1)]);
    tell.delete_topic();
    tell.create(&[]);
    leads(&mut tell, "n2");
    tell.read("d", 0, &[(0, 1)]);
    tell.is_legal();
}

#[test]
fn so_it_may_when_nobody_leads_the_new_topic_yet() {
    let mut tell = Tell::new();
    tell.create(&[]);
    leads(&mut tell, "n1");
    tell.send("a", &[1], 0);
    tell.read("c", 0, &[(0, 1)]);
    tell.delete_topic();
    tell.create(&[]);
    tell.read("d", 0, &[(0, 1)]);
    tell.is_legal();
}

#[test]
fn but_not_once_it_has_let_go() {
    let mut tell = Tell::new();
    tell.create(&[]);
    leads(&mut tell, "n1");
    tell.send("a", &[1], 0);
    tell.read("c", 0, &[(0, 1)]);
    tell.delete_topic();
    tell.create(&[]);
    tell.note_by(
        "n1",
        Note::Closed {
            of: super::tell::t0(),
        },
    );
    tell.read("d", 0, &[(0, 1)]);
    tell.breaks(&["P5"]);
}

#[test]
fn but_not_once_it_leads_the_new_topic() {
    let mut tell = Tell::new();
    tell.create(&[]);
    leads(&mut tell, "n1");
    tell.send("a", &[1], 0);
    tell.read("c", 0, &[(0, 1)]);
    tell.delete_topic();
    tell.create(&[]);
    leads(&mut tell, "n1");
    tell.read("d", 0, &[(0, 1)]);
    tell.breaks(&["P5"]);
}

#[test]
fn an_attempt_without_an_end_may_land_in_a_later_era() {
    let mut tell = Tell::new();
    tell.call("a", batch(&[1]), retried(0, &["TIMEOUT"]));
    tell.delete_topic();
    tell.create(&[]);
    tell.read("c", 0, &[(0, 1)]);
    tell.is_legal();
}

#[test]
fn operations_that_overlap_a_deletion_claim_nothing() {
    let mut tell = Tell::new();
    tell.send("a", &[1], 0);
    let sent = tell.invoke("b", batch(&[2]));
    let read = tell.invoke("c", super::tell::reading());
    let topic = "t".to_owned();
    let deletion = tell.invoke("admin", Call::DeleteTopic { topic });
    // Of the old topic or of the new one, as it happens.
    let base = retried(0, &[]);
    tell.ok(sent, base);
    let partitions = vec![fetched(0, &[(0, 2)])];
    tell.ok(read, Answer::Read { partitions });
    tell.ok(deletion, Answer::DeleteTopic);
    tell.send("a", &[3], 0);
    tell.read_all(&[(0, 3)]);
    tell.is_legal();
}

#[test]
fn after_a_deletion_whose_end_nobody_knows_nothing_is_claimed() {
    let mut tell = Tell::new();
    tell.send("a", &[1], 0);
    tell.read("c", 0, &[(0, 1)]);
    let topic = "t".to_owned();
    let deletion = tell.invoke("admin", Call::DeleteTopic { topic });
    tell.info(deletion, &["TIMEOUT"]);
    tell.send("a", &[2], 0);
    tell.read_all(&[]);
    tell.is_legal();
    // Not even then may a value come from nowhere.
    tell.read("c", 0, &[(0, 9)]);
    tell.breaks(&["P5"]);
}

#[test]
fn a_deletion_that_failed_ends_no_era() {
    let mut tell = Tell::new();
    tell.send("a", &[1], 0);
    let topic = "t".to_owned();
    let deletion = tell.invoke("admin", Call::DeleteTopic { topic });
    tell.fail(deletion, &["UNKNOWN_TOPIC_OR_PARTITION"]);
    tell.read_all(&[]);
    tell.breaks(&["P13", "P3"]);
}
