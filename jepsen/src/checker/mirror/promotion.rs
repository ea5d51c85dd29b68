//! X11: what a promotion told is true.
//!
//! A promotion tells for each partition up to where it was copied. Then all that the mirror holds
//! of the source is below that, all that clients of the target wrote to it is not, and the source
//! had its end nowhere before what was told of it. That nothing below is missing is X1, and that
//! nothing that the target acknowledged since is lost or taken for another's are P2 to P4 of the
//! target by itself.
//!
//! Of several answers for a partition the first counts, and none that came after another promotion
//! of the topic was asked for and not answered. Silent about records whose offset is not told, and
//! about the end of a source that lost records, as it may.

use std::collections::BTreeMap;

use super::facts::Link;
use super::violation;
use crate::checker::Violations;
use crate::history::{Answer, Call, Mirrored, Operation, Partition};

pub(super) fn check(link: &Link<'_>, found: &mut Violations) {
    let points = recovery_points(link);
    for mirror in link.mirrors() {
        let Some((operation, told)) = points.get(mirror.of) else {
            continue;
        };
        let end = told.log_end_offset;
        for fact in mirror
            .facts
            .iter()
            .filter(|fact| fact.is_told() && end >= 0)
        {
            let (is_own, is_theirs) = (link.target.sent(fact.id), link.source.sent(fact.id));
            let what = match fact.offset < end {
                true if is_own => "was written here below that",
                false if is_theirs => "is of the source, and not below that",
                _ => continue,
            };
            let detail = format!(
                "the promotion told that the mirror ended at {end}; record {} at offset {} {what}",
                fact.id, fact.offset
            );
            let operations = vec![operation.op, fact.told_by];
            found.add(violation(
                "X11",
                fact.known(),
                Some(mirror.of),
                operations,
                detail,
            ));
        }
        let has_lost = link.source.lost.contains(mirror.of);
        if told.source_end_offset >= 0 && told.source_end_offset < end && !has_lost {
            let detail = format!(
                "the promotion told that {end} of {} offsets were copied",
                told.source_end_offset
            );
            let time = operation.returned;
            found.add(violation(
                "X11",
                time,
                Some(mirror.of),
                vec![operation.op],
                detail,
            ));
        }
    }
}

fn recovery_points<'a>(link: &Link<'a>) -> BTreeMap<&'a Partition, (&'a Operation, &'a Mirrored)> {
    let mut points = BTreeMap::new();
    let operations = link.target.index.history.operations.iter();
    let promotions = operations.filter(|operation| {
        let asked =
            matches!(&operation.call, Call::Promote { link: name, .. } if name == link.name);
        asked && !operation.failed()
    });
    for operation in promotions {
        let Some(Answer::Promote { mirrors }) = operation.answer() else {
            // It may have come true at any time since.
            break;
        };
        for mirror in mirrors {
            points.entry(&mirror.of).or_insert((operation, mirror));
        }
    }
    points
}
