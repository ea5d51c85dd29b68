//! Whose disk was full: such a node may end by itself.
//!
//! A node that cannot write its metadata ends, and to end takes time: it may be gone only after its
//! disk has room again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Longer than a node takes to end.
const TO_END: Duration = Duration::from_secs(30);

/// Until when each may end by itself; without an end where the disk still is full.
#[derive(Debug, Default)]
pub(super) struct Filled(BTreeMap<usize, Option<Instant>>);

impl Filled {
    pub(super) fn fill(&mut self, nodes: &[usize]) {
        self.0.extend(nodes.iter().map(|id| (*id, None)));
    }

    /// All disks have room again.
    pub(super) fn heal(&mut self, now: Instant) {
        for until in self.0.values_mut() {
            until.get_or_insert(now + TO_END);
        }
    }

    pub(super) fn may_end(&self, id: usize, now: Instant) -> bool {
        self.0
            .get(&id)
            .is_some_and(|until| until.is_none_or(|until| now < until))
    }
}

#[cfg(test)]
mod tests {
    use super::{Filled, TO_END};
    use std::time::{Duration, Instant};

    #[test]
    fn a_node_may_end_some_time_after_its_disk_was_full_and_others_may_not() {
        let begun = Instant::now();
        let mut filled = Filled::default();
        filled.fill(&[1]);
        assert!(filled.may_end(1, begun + TO_END * 9) && !filled.may_end(2, begun));
        filled.heal(begun);
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert!(filled.may_end(1, at(5)));
        filled.heal(at(20));
        assert!(!filled.may_end(1, at(31)), "what healed once is not full");
        filled.fill(&[1, 2]);
        assert!(filled.may_end(1, at(40)) && filled.may_end(2, at(40)));
    }
}
