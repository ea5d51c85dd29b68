//! Which offsets that groups committed at the source are to be committed here.
//!
//! **Invariant.** What is committed here is never beyond what is committed of the log here, so a
//! consumer that goes on here leaves nothing out. It goes back only where it went back at the
//! source.

use std::collections::BTreeMap;

use crate::types::{Offset, TopicPartition};

/// Committed offsets, by group and partition.
pub type GroupOffsets = BTreeMap<String, BTreeMap<TopicPartition, Offset>>;

/// What was seen and done so far.
#[derive(Clone, Debug, Default)]
pub struct GroupPlan {
    /// The source's, when they were last carried over.
    seen: GroupOffsets,
}

impl GroupPlan {
    /// What to commit, given what is committed at the source and here, and the high watermarks
    /// here of the partitions that are mirrors. Other partitions are left alone.
    #[must_use]
    pub fn wanted(
        &self,
        source: &GroupOffsets,
        here: &GroupOffsets,
        high_watermarks: &BTreeMap<TopicPartition, Offset>,
    ) -> GroupOffsets {
        let mut wanted = GroupOffsets::new();
        for (group, offsets) in source {
            for (partition, offset) in offsets {
                let Some(high_watermark) = high_watermarks.get(partition) else {
                    continue;
                };
                let target = match crate::mutant!("mirror-group-beyond-copied") {
                    true => *offset,
                    false => (*offset).min(*high_watermark),
                };
                let known = here.get(group).and_then(|known| known.get(partition));
                let seen = self.seen.get(group).and_then(|seen| seen.get(partition));
                let went_back = seen.is_some_and(|seen| offset < seen);
                let is_due = match known {
                    None => true,
                    Some(known) => target > *known || (target < *known && went_back),
                };
                if is_due {
                    let group = wanted.entry(group.clone()).or_default();
                    group.insert(partition.clone(), target);
                }
            }
        }
        wanted
    }

    /// Of `group` all was committed that was wanted.
    pub fn carried_over(&mut self, group: &str, source: &BTreeMap<TopicPartition, Offset>) {
        self.seen.insert(group.to_owned(), source.clone());
    }

    /// Forgets groups that are not at the source any more.
    pub fn keep(&mut self, source: &GroupOffsets) {
        self.seen.retain(|group, _| source.contains_key(group));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> GroupOffsets {
        let partition = TopicPartition::new("orders", 0);
        BTreeMap::from([(
            "billing".to_owned(),
            BTreeMap::from([(partition, Offset(offset))]),
        )])
    }

    fn ends(offset: i64) -> BTreeMap<TopicPartition, Offset> {
        BTreeMap::from([(TopicPartition::new("orders", 0), Offset(offset))])
    }

    #[test]
    fn an_offset_is_never_beyond_what_was_copied() {
        let plan = GroupPlan::default();
        let none = GroupOffsets::new();
        assert_eq!(plan.wanted(&at(9), &none, &ends(5)), at(5));
        assert_eq!(plan.wanted(&at(9), &at(5), &ends(7)), at(7));
        assert_eq!(plan.wanted(&at(9), &none, &BTreeMap::new()), none);
    }

    #[test]
    fn an_offset_goes_back_only_with_the_source() {
        let mut plan = GroupPlan::default();
        let none = GroupOffsets::new();
        assert_eq!(plan.wanted(&at(3), &at(7), &ends(9)), none);
        plan.carried_over("billing", &at(7)["billing"]);
        assert_eq!(plan.wanted(&at(7), &at(7), &ends(9)), none);
        assert_eq!(plan.wanted(&at(3), &at(7), &ends(9)), at(3));
    }
}
