//! Where the replicas of a broker go when it is drained: pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{BrokerId, TopicPartition};

/// The brokers and partitions to plan with.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Brokers alive and their racks.
    pub brokers: BTreeMap<BrokerId, Option<String>>,
    /// Replicas of every partition once the moves under way are done.
    pub partitions: BTreeMap<TopicPartition, Vec<BrokerId>>,
}

/// What to do to drain a broker.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DrainPlan {
    /// The new replicas of each partition to move.
    pub moves: BTreeMap<TopicPartition, Vec<BrokerId>>,
    /// Partitions that every other broker alive holds already.
    pub stuck: BTreeSet<TopicPartition>,
}

/// Replaces `drained` in every partition by another broker at the same place in the list, so that
/// the preferred leaders of all else stay. Takes a rack that no other replica of the partition is
/// in where there is one, and of those brokers the one that holds (for a preferred leader: leads)
/// the fewest partitions.
#[must_use]
pub fn plan(layout: &Layout, drained: BrokerId) -> DrainPlan {
    let mut plan = DrainPlan::default();
    let mut held: BTreeMap<BrokerId, usize> = BTreeMap::new();
    let mut led: BTreeMap<BrokerId, usize> = BTreeMap::new();
    for replicas in layout.partitions.values() {
        for (place, id) in replicas.iter().enumerate() {
            *held.entry(*id).or_default() += 1;
            *led.entry(*id).or_default() += usize::from(place == 0);
        }
    }
    for (partition, replicas) in &layout.partitions {
        let Some(place) = replicas.iter().position(|id| *id == drained) else {
            continue;
        };
        let racks: BTreeSet<&str> = replicas
            .iter()
            .filter(|id| **id != drained)
            .filter_map(|id| layout.brokers.get(id)?.as_deref())
            .collect();
        let count = |counts: &BTreeMap<_, _>, id| counts.get(id).copied().unwrap_or(0);
        let choice = layout
            .brokers
            .iter()
            .filter(|(id, _)| **id != drained && !replicas.contains(id))
            .min_by_key(|(id, rack)| {
                let is_shared = rack.as_deref().is_some_and(|rack| racks.contains(rack));
                let leads = if place == 0 { count(&led, id) } else { 0 };
                (is_shared, leads, count(&held, id), **id)
            })
            .map(|(id, _)| *id);
        let Some(choice) = choice else {
            plan.stuck.insert(partition.clone());
            continue;
        };
        *held.entry(choice).or_default() += 1;
        *led.entry(choice).or_default() += usize::from(place == 0);
        let mut moved = replicas.clone();
        moved[place] = choice;
        plan.moves.insert(partition.clone(), moved);
    }
    plan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(ids: &[i32]) -> Vec<BrokerId> {
        ids.iter().copied().map(BrokerId).collect()
    }

    fn layout(brokers: &[(i32, Option<&str>)], partitions: &[&[i32]]) -> Layout {
        let brokers = brokers
            .iter()
            .map(|(id, rack)| (BrokerId(*id), rack.map(str::to_owned)));
        let partitions = (0..).zip(partitions);
        Layout {
            brokers: brokers.collect(),
            partitions: partitions
                .map(|(p, replicas)| (TopicPartition::new("t", p), ids(replicas)))
                .collect(),
        }
    }

    #[test]
    fn a_replica_is_replaced_in_its_place_and_others_stay() {
        let layout = layout(
            &[(1, None), (2, None), (3, None), (4, None)],
            &[&[3, 1, 2], &[1, 3, 2], &[1, 2, 4]],
        );
        let plan = plan(&layout, BrokerId(3));
        let moves: Vec<_> = plan.moves.values().cloned().collect();
        assert_eq!(moves, [ids(&[4, 1, 2]), ids(&[1, 4, 2])]);
        assert!(plan.stuck.is_empty());
    }

    #[test]
    fn a_rack_without_a_replica_comes_before_a_broker_with_little() {
        let brokers = [
            (1, Some("a")),
            (2, Some("b")),
            (3, Some("c")),
            (4, Some("a")),
            (5, Some("c")),
        ];
        let layout = layout(&brokers, &[&[1, 2, 3], &[5], &[5]]);
        let plan = plan(&layout, BrokerId(3));
        let moved: Vec<_> = plan.moves.values().cloned().collect();
        assert_eq!(moved, [ids(&[1, 2, 5])]);
    }

    #[test]
    fn a_partition_on_every_broker_is_stuck() {
        let layout = layout(&[(1, None), (2, None)], &[&[1, 2], &[2]]);
        let plan = plan(&layout, BrokerId(2));
        assert_eq!(plan.moves.len(), 1);
        assert!(plan.stuck.contains(&TopicPartition::new("t", 0)));
    }

    proptest! {
        #[test]
        fn a_plan_keeps_factors_has_no_double_and_leaves_nothing_on_the_broker(
            partitions in prop::collection::vec(
                prop::sample::subsequence(vec![1, 2, 3, 4, 5, 6], 1..4).prop_shuffle(),
                0..40,
            ),
            racks in prop::collection::vec(prop::option::of("[ab]"), 6),
            drained in 1..7_i32,
        ) {
            let slices: Vec<&[i32]> = partitions.iter().map(Vec::as_slice).collect();
            let brokers: Vec<(i32, Option<&str>)> =
                (1..).zip(racks.iter().map(Option::as_deref)).collect();
            let layout = layout(&brokers, &slices);
            let drained = BrokerId(drained);
            let plan = plan(&layout, drained);
            prop_assert!(plan.stuck.is_empty());
            for (partition, before) in &layout.partitions {
                let after = plan.moves.get(partition).unwrap_or(before);
                prop_assert_eq!(after.len(), before.len());
                prop_assert!(!after.contains(&drained));
                let distinct: BTreeSet<_> = after.iter().collect();
                prop_assert_eq!(distinct.len(), after.len());
                let changed = before.iter().zip(after).filter(|(old, new)| old != new);
                prop_assert_eq!(changed.count(), usize::from(before.contains(&drained)));
            }
        }

        #[test]
        fn replicas_are_spread_evenly(count in 1..60_usize) {
            let partitions = vec![&[9][..]; count];
            let ids = (1..5).chain([9]);
            let brokers: Vec<(i32, Option<&str>)> = ids.map(|id| (id, None)).collect();
            let plan = plan(&layout(&brokers, &partitions), BrokerId(9));
            let mut held = BTreeMap::new();
            for replicas in plan.moves.values() {
                *held.entry(replicas[0]).or_insert(0_usize) += 1;
            }
            let most = held.values().max().copied().unwrap_or(0);
            prop_assert!(most <= count.div_ceil(4), "{:?}", held);
        }
    }
}
