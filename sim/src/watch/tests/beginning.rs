//! Replicas of a mirror whose source begins beyond offset 0, here at 10.

use super::*;

const BEGUN: Told = Replica("event=begun topic=t partition=0 from=0 to=10");
/// Empty, where the source begins.
const AT_FIRST: Told = Begins(1, 10);
const EMPTY: Told = Log(1, 0, 0);
const LEADS_2: Told = Replica("event=leading topic=t partition=0 leader_epoch=2 start=0");

#[test]
fn replicas_of_a_mirror_begin_where_its_source_does_in_any_order() {
    for [one, other] in [["n1", "n2"], ["n2", "n1"]] {
        let events = [
            ("n1", STATE),
            ("n1", EMPTY),
            ("n2", EMPTY),
            ("n1", LEADS_1),
            (one, BEGUN),
            (one, AT_FIRST),
            (other, BEGUN),
            (other, AT_FIRST),
        ];
        assert_eq!(broken(&watch(), &events), NONE, "{one} first");
    }
}

#[test]
fn who_has_not_begun_yet_may_lead_while_nothing_was_appended_and_no_longer() {
    let began = [
        ("n1", STATE),
        ("n2", EMPTY),
        ("n1", LEADS_1),
        ("n1", BEGUN),
        ("n1", AT_FIRST),
    ];
    let empty = watch();
    broken(&empty, &began);
    assert_eq!(broken(&empty, &[("n2", LEADS_2)]), NONE);
    let filled = watch();
    broken(&filled, &began);
    assert_eq!(broken(&filled, &[("n1", Log(1, 11, 12))]), ["R6"]);
    assert_eq!(broken(&filled, &[("n2", LEADS_2)]), ["R3"]);
}

#[test]
fn beginning_elsewhere_breaks_r2_and_with_records_r9() {
    let elsewhere = Replica("event=begun topic=t partition=0 from=0 to=9");
    let begun = [("n1", BEGUN), ("n2", elsewhere)];
    assert_eq!(broken(&watch(), &begun), ["R2"]);
    let filled = [("n1", Log(1, 0, 3)), ("n1", BEGUN)];
    assert_eq!(broken(&watch(), &filled), ["R9"]);
}
