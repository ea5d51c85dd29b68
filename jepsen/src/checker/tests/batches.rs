//! Batches are in a log whole: what the general search minds about them, the fast checkers do.

use super::tell::{Tell, appended, batch, retried};

/// Two records of unknown end at offset 1, and one that was acknowledged at `other`.
fn beside(other: i64) -> Tell {
    let mut tell = Tell::new();
    tell.send("a", &[1], 0);
    let op = tell.invoke("a", batch(&[2, 3]));
    tell.info(op, &["TIMEOUT"]);
    let op = tell.invoke("b", batch(&[4]));
    tell.ok(op, appended(other));
    tell
}

#[test]
fn a_record_in_the_midst_of_a_batch_breaks_p11() {
    let mut legal = beside(3);
    legal.read_all(&[(0, 1), (1, 2), (2, 3), (3, 4)]);
    legal.is_legal();
    let mut legal = beside(1);
    legal.read_all(&[(0, 1), (1, 4)]);
    legal.is_legal();
    // The second of the batch is at 2, so its first is at 1.
    let mut torn = beside(1);
    torn.read_all(&[(0, 1), (1, 4), (2, 3)]);
    torn.breaks(&["P11b"]);
}

/// Two records that may be in the log twice, once of it at 0.
fn twice() -> Tell {
    let mut tell = Tell::new();
    let op = tell.invoke("a", batch(&[1, 2]));
    tell.ok(op, retried(0, &["TIMEOUT"]));
    tell
}

#[test]
fn copies_of_a_batch_are_whole_or_break_p11() {
    let mut legal = twice();
    legal.read_all(&[(0, 1), (1, 2), (2, 1), (3, 2)]);
    legal.is_legal();
    let mut mixed = twice();
    mixed.read_all(&[(0, 1), (1, 2), (2, 2), (3, 1)]);
    // The copy that begins at 3 has another half, which is not there.
    mixed.breaks(&["P11b", "P3"]);
    let mut overlapping = twice();
    overlapping.read_all(&[(0, 1), (1, 2), (2, 2)]);
    overlapping.breaks(&["P11b"]);
}

#[test]
fn half_a_batch_below_the_end_breaks_p3() {
    let half = |end: i64| {
        let mut tell = Tell::new();
        let op = tell.invoke("a", batch(&[1, 2]));
        tell.info(op, &["TIMEOUT"]);
        tell.final_phase();
        tell.read("reader", 0, &[(0, 1)]);
        tell.ends(0, end);
        tell
    };
    half(2).breaks(&["P3"]);
    half(1).breaks(&["P3"]);
    // It came in after the end was looked up.
    half(0).is_legal();
}
