//! Random administration, with the invariants checked after every step.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{defaults, registration};
use crate::controller::*;
use crate::env::Rng;
use crate::types::{BrokerId, Offset, ProducerId, TopicId, Uuid};

const NAMES: &[&str] = &["a", "b.c", "b_c", "d", "__consumer_offsets", "bad name"];

#[derive(Clone, Debug)]
enum Step {
    Request(Request),
    /// The controller starts again, from a snapshot and the records after it.
    Restart {
        snapshot_before: prop::sample::Index,
    },
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(NAMES).prop_map(str::to_owned)
}

fn step() -> impl Strategy<Value = Step> {
    let setting = prop::sample::select(vec![
        ("flush.ms", "1"),
        ("flush.ms", "x"),
        ("cleanup.policy", "compact"),
        ("log.cleaner.threads", "2"),
        ("log.retention.ms", "7"),
    ]);
    let resource = prop_oneof![
        name().prop_map(ConfigResource::topic),
        Just(ConfigResource::all_brokers()),
        (0..4).prop_map(|id| ConfigResource::broker(BrokerId(id))),
    ];
    let operation = (0..4_i8).prop_map(|code| AlterOperation::from_wire(code).unwrap());
    let create = (
        prop::collection::vec((name(), -1..4, -1..4_i16), 1..4),
        any::<bool>(),
    );
    let request = prop_oneof![
        4 => create.prop_map(|(topics, validate_only)| {
            let topic = |(name, partitions, replication_factor): (String, i32, i16)| NewTopic {
                partitions,
                replication_factor,
                ..NewTopic::named(name)
            };
            let topics = topics.into_iter().map(topic).collect();
            Request::CreateTopics(CreateTopics { topics, validate_only })
        }),
        3 => prop::collection::vec(name(), 1..3).prop_map(|names| {
            let topics = names.into_iter().map(TopicSelector::Name).collect();
            Request::DeleteTopics(DeleteTopics { topics })
        }),
        2 => (name(), 0..8).prop_map(|(name, count)| {
            let topics = vec![MorePartitions { name, count, assignments: None }];
            Request::CreatePartitions(CreatePartitions { topics, validate_only: false })
        }),
        3 => (resource, setting, operation).prop_map(|(resource, (name, value), operation)| {
            let (name, value) = (name.to_owned(), Some(value.to_owned()));
            let resources = vec![(resource, vec![ConfigChange { name, operation, value }])];
            let request = IncrementalAlterConfigs { resources, validate_only: false };
            Request::IncrementalAlterConfigs(request)
        }),
        2 => (1..4, any::<u8>(), any::<bool>()).prop_map(|(id, run, after_clean_shutdown)| {
            let request = RegisterBroker { after_clean_shutdown, ..registration(id, run) };
            Request::RegisterBroker(request)
        }),
        1 => Just(Request::AllocateProducerIds { broker: BrokerId(1) }),
    ];
    prop_oneof![
        9 => request.prop_map(Step::Request),
        1 => any::<prop::sample::Index>()
            .prop_map(|snapshot_before| Step::Restart { snapshot_before }),
    ]
}

/// What was ever true, to hold later states against.
#[derive(Default)]
struct Witness {
    topic_ids: BTreeMap<TopicId, String>,
    alive_ids: BTreeSet<TopicId>,
    epochs: BTreeMap<(TopicId, usize), (i32, i32)>,
    broker_epoch: i64,
    next_producer_id: i64,
}

impl Witness {
    fn check(&mut self, image: &ClusterImage) {
        let mut alive = BTreeSet::new();
        for topic in image.topics() {
            alive.insert(topic.id);
            let is_new = self
                .topic_ids
                .insert(topic.id, topic.name.to_string())
                .is_none();
            assert!(
                is_new || self.alive_ids.contains(&topic.id),
                "topic id {} reused",
                topic.id
            );
            assert!(!topic.partitions.is_empty());
            for (index, state) in topic.partitions.iter().enumerate() {
                let epochs = (state.leader_epoch.0, state.partition_epoch);
                let before = self.epochs.insert((topic.id, index), epochs);
                let before = before.unwrap_or((0, 0));
                assert!(
                    before.0 <= epochs.0 && before.1 <= epochs.1,
                    "epochs go back"
                );
                let leader = state.leader.expect("every broker stays alive");
                assert!(state.isr.contains(&leader) && state.replicas.contains(&leader));
                let distinct: BTreeSet<_> = state.replicas.iter().collect();
                assert_eq!(distinct.len(), state.replicas.len());
            }
        }
        self.alive_ids = alive;
        assert!(image.last_broker_epoch().0 >= self.broker_epoch);
        assert!(image.next_producer_id().0 >= self.next_producer_id);
        self.broker_epoch = image.last_broker_epoch().0;
        self.next_producer_id = image.next_producer_id().0;
        for resource in image.configured() {
            let is_topic = resource.resource_type == ResourceType::Topic;
            assert!(
                !is_topic || image.topic(&resource.name).is_some(),
                "{resource} is gone"
            );
        }
    }
}

/// Both ways to the same state.
pub(super) fn rebuilt(
    batches: &[(Offset, Vec<MetadataRecord>)],
    snapshot_at: usize,
) -> ClusterImage {
    let replay = |mut image: ClusterImage, batches: &[(Offset, Vec<MetadataRecord>)]| {
        for (end, records) in batches {
            image = image.replay(*end, records).unwrap().0;
        }
        image
    };
    let before = replay(ClusterImage::default(), &batches[..snapshot_at]);
    let snapshot = ClusterImage::from_snapshot(before.end(), &before.to_records()).unwrap();
    assert_eq!(snapshot, before);
    replay(snapshot, &batches[snapshot_at..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_administered_the_invariants_hold(
        steps in prop::collection::vec(step(), 1..60),
        seed in any::<[u8; 32]>(),
    ) {
        let mut entropy = Rng::from_seed(seed);
        let mut ledger = ControllerLedger::new(BrokerId(1), defaults(""));
        let mut witness = Witness::default();
        let mut batches: Vec<(Offset, Vec<MetadataRecord>)> = Vec::new();
        let mut producer_ids = BTreeSet::new();
        let found = Step::Request(Request::Found { cluster_id: Uuid([5; 16]) });
        let first = Step::Request(Request::RegisterBroker(registration(1, 0)));
        for step in [found, first].into_iter().chain(steps) {
            let request = match step {
                Step::Request(request) => request,
                Step::Restart { snapshot_before } => {
                    let image = rebuilt(&batches, snapshot_before.index(batches.len() + 1));
                    prop_assert_eq!(&image, ledger.image());
                    let mut restarted = ControllerLedger::new(BrokerId(1), defaults(""));
                    let records = image.to_records();
                    restarted.replay(&Committed::Snapshot { end: image.end(), records }).unwrap();
                    ledger = restarted;
                    continue;
                }
            };
            let handled = ledger.handle(&mut entropy, Situation::default(), &request);
            let Ok((records, reply)) = handled else { continue };
            if let Reply::AllocateProducerIds(block) = reply {
                prop_assert!(producer_ids.insert(block.start));
                prop_assert_eq!(block.start, ProducerId(1000 * (producer_ids.len() as i64 - 1)));
            }
            if records.is_empty() {
                continue;
            }
            let before = ledger.image().clone();
            let end = before.end().plus(records.len() as i64);
            let delta = ledger.replay(&Committed::Batch { end, records: records.clone() }).unwrap();
            prop_assert_eq!(delta, ImageDelta::between(&before, ledger.image()));
            batches.push((end, records));
            witness.check(ledger.image());
        }
    }
}
