//! Offsets that a link to another cluster commits, and whom they give way to.
//!
//! A link commits as anybody may for a group without members, with metadata that say so: a mark,
//! which is greater for what was decided later. Requests of a link may arrive late: after another
//! broker looks after it, after its mirrors were promoted and consumers went on here.
//!
//! **Invariant.** What clients of this cluster committed is never replaced by a link, whatever
//! either knew; and what a link committed never by what it decided before.

use std::fmt;

use super::ledger::GroupLedger;
use crate::types::{ErrorCode, Offset};
use crate::wire::Str;

/// What metadata of a link begin with.
const NAME: &str = "klamm.link";

/// When a link decided on an offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Carried {
    /// The end of the metadata that it was decided by, which names who looks after the link.
    pub image: Offset,
    /// Counts the decisions of one who looks after the link.
    pub round: u64,
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME} {} {}", self.image.0, self.round)
    }
}

impl Carried {
    /// The mark in these metadata; `None` where somebody else committed. Only what a link writes is
    /// one, to the letter: the limit of metadata does not hold for it, so its length is bounded.
    #[must_use]
    pub fn of(metadata: &str) -> Option<Self> {
        let mut words = metadata.split(' ').skip(1);
        let (image, round) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let image = Offset(image);
        let mark = Self { image, round };
        (mark.to_string() == metadata).then_some(mark)
    }
}

impl GroupLedger {
    /// Why a link may not commit this, if it is one that asks.
    pub(super) fn check_carried(
        &self,
        (group, topic, partition): (&Str, &Str, i32),
        metadata: Option<&Str>,
    ) -> Option<ErrorCode> {
        let carried = Carried::of(metadata?)?;
        let offsets = self.groups.get(group)?.offsets.get(topic)?;
        let known = Carried::of(&offsets.get(&partition)?.metadata);
        let may = known.is_some_and(|known| known <= carried);
        if !may {
            tracing::trace!(target: "klamm::probe", name = "carried-offset-refused");
        }
        (!may).then_some(ErrorCode::PolicyViolation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::GroupConfig;
    use crate::group::test_group::{Bench, nobody};

    fn mark(image: i64, round: u64) -> Carried {
        let image = Offset(image);
        Carried { image, round }
    }

    fn carry(bench: &mut Bench, offset: i64, mark: Carried) -> ErrorCode {
        let mut request = Bench::commit_request(-1, &nobody(), offset);
        let metadata = Some(mark.to_string().into());
        request.topics[0].partitions[0].committed_metadata = metadata;
        bench.commit_with(request)
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_nothing_else_is_one() {
        assert_eq!(Carried::of(&mark(57, 12).to_string()), Some(mark(57, 12)));
        for other in [
            "",
            "klamm.link",
            "klamm.link 1",
            "klamm.link 1 2 3",
            "klamm.link 01 2",
            "klamm.link 1 +2",
            "x 1 2",
        ] {
            assert_eq!(Carried::of(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_client_committed_is_not_replaced_by_a_link_that_decided_before_or_after() {
        let mut bench = Bench::new();
        assert_eq!(carry(&mut bench, 40, mark(7, 1)), ErrorCode::None);
        assert_eq!(bench.commit(-1, &nobody(), 50), ErrorCode::None);
        for late in [mark(7, 1), mark(7, 2), mark(9, 1)] {
            assert_eq!(carry(&mut bench, 45, late), ErrorCode::PolicyViolation);
        }
        assert_eq!(bench.committed(), 50);
        bench.fail_over(bench.log.len());
        assert_eq!(
            carry(&mut bench, 60, mark(9, 2)),
            ErrorCode::PolicyViolation
        );
        assert_eq!(bench.committed(), 50);
    }

    #[test]
    fn what_a_link_committed_is_replaced_by_what_it_decided_later_back_or_forth() {
        let mut bench = Bench::new();
        assert_eq!(carry(&mut bench, 40, mark(7, 9)), ErrorCode::None);
        assert_eq!(carry(&mut bench, 30, mark(8, 1)), ErrorCode::None);
        let late = carry(&mut bench, 40, mark(7, 10));
        assert_eq!(late, ErrorCode::PolicyViolation, "another looks after it");
        assert_eq!(bench.committed(), 30);
        let again = carry(&mut bench, 30, mark(8, 1));
        assert_eq!(again, ErrorCode::None, "its answer was lost");
    }

    #[test]
    fn a_limit_of_metadata_is_not_one_of_links() {
        let mut bench = Bench::with(GroupConfig {
            offset_metadata_bytes_max: 0,
            ..GroupConfig::default()
        });
        assert_eq!(carry(&mut bench, 40, mark(7, 1)), ErrorCode::None);
        let mut long = Bench::commit_request(-1, &nobody(), 41);
        let zeros = "0".repeat(100_000);
        let metadata = Some(format!("klamm.link {zeros}8 1").into());
        long.topics[0].partitions[0].committed_metadata = metadata;
        assert_eq!(bench.commit_with(long), ErrorCode::OffsetMetadataTooLarge);
    }
}
