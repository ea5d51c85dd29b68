//! Records, their bytes, their replay, and the map images are made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use crate::controller::sorted::SortedMap;
use crate::controller::*;
use crate::types::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, ProducerId, Timestamp, Uuid};

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_map(Uuid)
}

fn ids() -> impl Strategy<Value = Vec<BrokerId>> {
    prop::collection::vec(any::<i32>().prop_map(BrokerId), 0..5)
}

fn state() -> impl Strategy<Value = PartitionState> {
    let lists = (ids(), ids(), ids(), ids(), ids(), ids());
    let rest = (
        prop::option::of(0..i32::MAX),
        any::<i32>(),
        any::<i32>(),
        any::<bool>(),
        0..10_u8,
    );
    (lists, rest).prop_map(
        |(lists, (leader, leader_epoch, partition_epoch, recovering, cause))| PartitionState {
            replicas: lists.0,
            isr: lists.1,
            elr: lists.2,
            last_known_elr: lists.3,
            removing: lists.4,
            adding: lists.5,
            leader: leader.map(BrokerId),
            leader_epoch: LeaderEpoch(leader_epoch),
            partition_epoch,
            recovering,
            cause: match cause % 3 {
                0 => Cause::TopicCreated,
                1 => Cause::LeaderRestarted,
                _ => Cause::Reassignment,
            },
        },
    )
}

fn endpoint() -> impl Strategy<Value = BrokerEndpoint> {
    (".{0,9}", ".{0,9}", any::<u16>(), any::<i16>()).prop_map(|(listener, host, port, protocol)| {
        BrokerEndpoint {
            listener,
            host,
            port,
            protocol,
        }
    })
}

fn broker() -> impl Strategy<Value = BrokerRecord> {
    let identity = (any::<i32>(), any::<i64>(), uuid());
    let endpoints = prop::collection::vec(endpoint(), 0..3);
    let directories = prop::collection::vec(uuid(), 0..3);
    let rest = (
        prop::option::of(".{0,9}"),
        any::<bool>(),
        any::<bool>(),
        directories,
    );
    (identity, endpoints, rest).prop_map(|((id, epoch, incarnation), endpoints, rest)| {
        BrokerRecord {
            id: BrokerId(id),
            epoch: BrokerEpoch(epoch),
            incarnation,
            endpoints,
            rack: rest.0,
            fenced: rest.1,
            shutting_down: rest.2,
            directories: rest.3,
        }
    })
}

fn moment() -> impl Strategy<Value = (Timestamp, Option<BrokerId>)> {
    let by = prop::option::of((0..i32::MAX).prop_map(BrokerId));
    (any::<i64>().prop_map(Timestamp), by)
}

fn event() -> impl Strategy<Value = PartitionEvent> {
    (any::<i64>(), moment(), state()).prop_map(|(end, (at, by), state)| PartitionEvent {
        end: Offset(end),
        at,
        by,
        state: Arc::new(state),
    })
}

fn partition() -> impl Strategy<Value = PartitionRecord> {
    let history = prop::collection::vec(event(), 0..3);
    (uuid(), any::<i32>(), state(), moment(), history).prop_map(
        |(topic_id, partition, state, (at, by), history)| PartitionRecord {
            topic_id,
            partition,
            state,
            at,
            by,
            history,
        },
    )
}

fn link() -> impl Strategy<Value = LinkRecord> {
    let texts = || prop::collection::vec(".{0,9}", 0..3);
    let limit = prop::option::of(0..=i64::MAX.unsigned_abs());
    let names = (uuid(), ".{0,9}", texts(), prop::option::of(".{0,9}"));
    let rest = (texts(), texts(), any::<bool>(), limit, any::<i16>());
    (names, link_mode(), rest).prop_map(
        |(
            (id, name, bootstrap, source_cluster),
            mode,
            (topics, groups, paused, bytes_per_second, replication_factor),
        )| LinkRecord {
            id,
            name,
            bootstrap,
            source_cluster,
            mode,
            topics,
            groups,
            paused,
            bytes_per_second,
            replication_factor,
        },
    )
}

fn link_mode() -> impl Strategy<Value = LinkMode> {
    let policy = prop_oneof![
        Just(ReplicationPolicy::Default),
        Just(ReplicationPolicy::Identity),
    ];
    let of = (policy, ".{0,3}", ".{0,9}", any::<bool>());
    let of = of.prop_map(|(policy, separator, alias, source_heartbeats)| {
        LinkMode::MirrorMaker(MirrorMaker {
            policy,
            separator,
            alias,
            source_heartbeats,
        })
    });
    prop_oneof![Just(LinkMode::Exact), of]
}

fn mirror_topic() -> impl Strategy<Value = MirrorTopic> {
    let state = prop_oneof![
        Just(MirrorState::Active),
        ".{0,9}".prop_map(|reason| MirrorState::Failed { reason }),
        Just(MirrorState::Promoted),
    ];
    let since = prop::collection::vec(any::<i32>().prop_map(LeaderEpoch), 0..4);
    (uuid(), ".{0,9}", uuid(), state, since).prop_map(
        |(link, source_name, source_id, state, since)| MirrorTopic {
            link,
            source_name,
            source_id,
            state,
            since,
        },
    )
}

fn fault() -> impl Strategy<Value = MirrorFault> {
    let offset = || any::<i64>().prop_map(Offset);
    prop_oneof![
        (offset(), offset()).prop_map(|(at, source_end)| MirrorFault::Truncated { at, source_end }),
        (offset(), offset())
            .prop_map(|(at, source_start)| MirrorFault::Expired { at, source_start }),
        uuid().prop_map(|source_id| MirrorFault::Recreated { source_id }),
        Just(MirrorFault::Deleted),
        offset().prop_map(|at| MirrorFault::Transactional { at }),
        (offset(), ".{0,9}").prop_map(|(at, reason)| MirrorFault::Damaged { at, reason }),
        offset().prop_map(|at| MirrorFault::Unverified { at }),
    ]
}

fn mirror_partition() -> impl Strategy<Value = MirrorPartition> {
    let entry = (any::<i32>(), any::<i64>());
    let entry = entry.prop_map(|(epoch, start)| (LeaderEpoch(epoch), Offset(start)));
    let lineage = prop::collection::vec(entry, 0..4);
    (lineage, prop::option::of(fault()))
        .prop_map(|(lineage, fault)| MirrorPartition { lineage, fault })
}

fn link_record() -> impl Strategy<Value = MetadataRecord> {
    prop_oneof![
        link().prop_map(MetadataRecord::Link),
        uuid().prop_map(|id| MetadataRecord::LinkRemoved { id }),
        (uuid(), mirror_topic())
            .prop_map(|(topic_id, mirror)| MetadataRecord::MirrorTopic { topic_id, mirror }),
        (uuid(), any::<i32>(), mirror_partition()).prop_map(|(topic_id, partition, state)| {
            MetadataRecord::MirrorPartition {
                topic_id,
                partition,
                state,
            }
        }),
    ]
}

fn record() -> impl Strategy<Value = MetadataRecord> {
    let config = (
        prop::sample::select(vec![2_i8, 4, 8, 16, 32]),
        ".{0,9}",
        ".{0,9}",
    );
    prop_oneof![
        uuid().prop_map(|cluster_id| MetadataRecord::Cluster { cluster_id }),
        (".{0,9}", any::<i16>()).prop_map(|(name, level)| MetadataRecord::Feature { name, level }),
        broker().prop_map(MetadataRecord::Broker),
        (any::<i32>(), any::<i64>()).prop_map(|(id, epoch)| MetadataRecord::BrokerRemoved {
            id: BrokerId(id),
            epoch: BrokerEpoch(epoch),
        }),
        any::<i64>().prop_map(|last| MetadataRecord::BrokerEpochs {
            last: BrokerEpoch(last)
        }),
        (uuid(), ".{0,9}").prop_map(|(id, name)| MetadataRecord::Topic { id, name }),
        partition().prop_map(MetadataRecord::Partition),
        partition().prop_map(MetadataRecord::PartitionChange),
        uuid().prop_map(|id| MetadataRecord::TopicRemoved { id }),
        (config, prop::option::of(".{0,9}")).prop_map(|((kind, name, key), value)| {
            let resource_type = ResourceType::from_wire(kind).unwrap();
            MetadataRecord::Config {
                resource: ConfigResource {
                    resource_type,
                    name,
                },
                name: key,
                value,
            }
        }),
        (any::<i64>(), any::<i32>()).prop_map(|(next, broker)| MetadataRecord::ProducerIds {
            next: ProducerId(next),
            broker: BrokerId(broker),
        }),
        link_record(),
    ]
}

proptest! {
    #[test]
    fn a_record_survives_its_bytes(record in record()) {
        let bytes = record.encode().unwrap();
        prop_assert_eq!(MetadataRecord::decode(bytes), Ok(record));
    }

    #[test]
    fn a_cut_or_longer_record_is_refused(record in record(), cut in any::<prop::sample::Index>()) {
        let bytes = record.encode().unwrap();
        let kept = bytes.slice(..cut.index(bytes.len()));
        prop_assert!(MetadataRecord::decode(kept).is_err());
        let longer = [&bytes[..], &[0]].concat();
        prop_assert!(MetadataRecord::decode(Bytes::from(longer)).is_err());
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = MetadataRecord::decode(Bytes::from(bytes.clone()));
        let mut known = vec![bytes.first().map_or(0, |byte| byte % 15), 0];
        known.extend(&bytes);
        let _ = MetadataRecord::decode(Bytes::from(known));
    }

    #[test]
    fn a_sorted_map_is_a_map(
        steps in prop::collection::vec((0..400_u16, prop::option::of(any::<u8>())), 0..900),
    ) {
        let (mut map, mut model) = (SortedMap::default(), BTreeMap::new());
        let mut clones = Vec::new();
        for (at, (key, value)) in steps.into_iter().enumerate() {
            match value {
                Some(value) => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                None => prop_assert_eq!(map.remove(&key), model.remove(&key)),
            }
            prop_assert_eq!(map.get(&key), model.get(&key));
            if at % 100 == 0 {
                clones.push((map.clone(), model.clone()));
            }
        }
        clones.push((map, model));
        for (map, model) in clones {
            prop_assert_eq!(map.count(), model.len());
            prop_assert!(map.iter().eq(model.iter()));
        }
    }
}

#[test]
fn an_unknown_type_or_version_is_refused_by_number() {
    let decode = |bytes: &'static [u8]| MetadataRecord::decode(Bytes::from_static(bytes));
    assert_eq!(decode(&[15, 0]), Err(RecordError::UnknownType(15)));
    let unknown = RecordError::UnknownVersion {
        record_type: 5,
        version: 1,
    };
    assert_eq!(decode(&[5, 1]), Err(unknown));
    assert!(matches!(decode(&[]), Err(RecordError::Truncated(_))));
}

/// The published form: these bytes are on disks.
#[test]
fn the_bytes_of_a_record_stay_what_they_are() {
    let record = MetadataRecord::Config {
        resource: ConfigResource::topic("ab"),
        name: "c".to_owned(),
        value: Some(String::new()),
    };
    assert_eq!(
        &record.encode().unwrap()[..],
        [9, 0, 2, 3, b'a', b'b', 2, b'c', 1]
    );
    let record = MetadataRecord::ProducerIds {
        next: ProducerId(1000),
        broker: BrokerId(-1),
    };
    let wanted = [10, 0, 0, 0, 0, 0, 0, 0, 3, 232, 255, 255, 255, 255];
    assert_eq!(&record.encode().unwrap()[..], wanted);
}

#[test]
fn the_bytes_of_links_and_mirrors_stay_what_they_are() {
    let id = Uuid([7; 16]);
    let link = MetadataRecord::Link(LinkRecord {
        id,
        name: "w".to_owned(),
        bootstrap: vec!["h:1".to_owned()],
        source_cluster: Some("c".to_owned()),
        mode: LinkMode::Exact,
        topics: vec!["*".to_owned()],
        groups: Vec::new(),
        paused: true,
        bytes_per_second: None,
        replication_factor: 3,
    });
    let mirror = MetadataRecord::MirrorTopic {
        topic_id: id,
        mirror: MirrorTopic {
            link: id,
            source_name: "t".to_owned(),
            source_id: id,
            state: MirrorState::Promoted,
            since: vec![LeaderEpoch(9)],
        },
    };
    let partition = MetadataRecord::MirrorPartition {
        topic_id: id,
        partition: 2,
        state: MirrorPartition {
            lineage: vec![(LeaderEpoch(4), Offset(5))],
            fault: Some(MirrorFault::Expired {
                at: Offset(6),
                source_start: Offset(8),
            }),
        },
    };
    let seven = &[7; 16][..];
    let none = &[255; 8][..];
    let wanted = [
        &[11, 0][..],
        seven,
        &[
            2, b'w', 1, 4, b'h', b':', b'1', 2, b'c', 0, 1, 2, b'*', 0, 1,
        ],
        none,
        &[0, 3],
    ];
    assert_eq!(&link.encode().unwrap()[..], wanted.concat());
    let MetadataRecord::Link(mut named) = link else {
        panic!("a link");
    };
    named.mode = LinkMode::MirrorMaker(MirrorMaker {
        policy: ReplicationPolicy::Identity,
        separator: ".".to_owned(),
        alias: "e".to_owned(),
        source_heartbeats: true,
    });
    let mode = &[1, 1, 2, b'.', 2, b'e', 1][..];
    let exact = wanted.concat();
    let at = 2 + 16 + 9;
    assert_eq!(exact[at], 0, "the mode");
    let wanted = [&exact[..at], mode, &exact[at + 1..]].concat();
    let named = MetadataRecord::Link(named);
    assert_eq!(&named.encode().unwrap()[..], wanted);
    let removed = MetadataRecord::LinkRemoved { id };
    assert_eq!(&removed.encode().unwrap()[..], [&[12, 0], seven].concat());
    let epoch = &[0, 0, 0, 9][..];
    let wanted = [
        &[13, 0][..],
        seven,
        seven,
        &[2, b't'],
        seven,
        &[2, 1],
        epoch,
    ];
    assert_eq!(&mirror.encode().unwrap()[..], wanted.concat());
    let zeroes = &[0; 7][..];
    let wanted = [
        &[14, 0][..],
        seven,
        &[0, 0, 0, 2, 1, 0, 0, 0, 4],
        zeroes,
        &[5, 2],
        zeroes,
        &[6],
        zeroes,
        &[8],
    ];
    assert_eq!(&partition.encode().unwrap()[..], wanted.concat());
}

/// Version 0 of a broker and of a partition, as the first release wrote them.
#[test]
fn older_versions_of_records_can_still_be_read() {
    let mut broker = vec![2, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9];
    broker.extend([3; 16]);
    broker.extend([0, 0, 1, 0]);
    let Ok(MetadataRecord::Broker(broker)) = MetadataRecord::decode(broker.into()) else {
        panic!("a broker")
    };
    assert_eq!((broker.id, broker.epoch), (BrokerId(7), BrokerEpoch(9)));
    assert!(broker.fenced && !broker.shutting_down && broker.directories.is_empty());

    let mut bytes = vec![6, 0];
    bytes.extend([4; 16]);
    bytes.extend([0, 0, 0, 1]);
    bytes.extend([2, 0, 0, 0, 7, 2, 0, 0, 0, 7, 1, 1, 1, 1]);
    bytes.extend([0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 3, 0, 4]);
    let Ok(MetadataRecord::Partition(partition)) = MetadataRecord::decode(bytes.into()) else {
        panic!("a partition")
    };
    assert_eq!((partition.partition, partition.at), (1, Timestamp(-1)));
    let state = partition.state;
    assert_eq!(
        (state.leader, state.cause),
        (Some(BrokerId(7)), Cause::BrokerFenced)
    );
    assert!(partition.history.is_empty());
}

#[test]
fn topic_names_follow_kafkas_rules() {
    let longest = "x".repeat(249);
    for good in ["a", "A-b_c.9", "...", "-", "__consumer_offsets", &longest] {
        assert_eq!(validate_topic_name(good), Ok(()), "{good}");
    }
    let too_long = "x".repeat(250);
    for bad in [
        "",
        ".",
        "..",
        "a b",
        "a/b",
        "ä",
        "a\0",
        "__cluster_metadata",
        &too_long,
    ] {
        assert!(validate_topic_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn records_that_do_not_fit_the_state_are_refused() {
    let topic = |byte: u8, name: &str| MetadataRecord::Topic {
        id: Uuid([byte; 16]),
        name: name.to_owned(),
    };
    let partition = |index| PartitionRecord {
        topic_id: Uuid([1; 16]),
        partition: index,
        state: PartitionState {
            replicas: vec![BrokerId(1)],
            isr: vec![BrokerId(1)],
            elr: Vec::new(),
            last_known_elr: Vec::new(),
            removing: Vec::new(),
            adding: Vec::new(),
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(3),
            partition_epoch: 4,
            recovering: false,
            cause: Cause::TopicCreated,
        },
        at: Timestamp(-1),
        by: None,
        history: Vec::new(),
    };
    let (image, _) = ClusterImage::default()
        .replay(
            crate::types::Offset(2),
            &[topic(1, "a"), MetadataRecord::Partition(partition(0))],
        )
        .unwrap();
    let mut older = partition(0);
    older.state.partition_epoch = 5;
    older.state.leader_epoch = LeaderEpoch(2);
    let mut usurped = partition(0);
    usurped.state.partition_epoch = 5;
    usurped.state.leader = Some(BrokerId(2));
    for record in [
        topic(1, "b"),
        topic(2, "a"),
        topic(0, "c"),
        MetadataRecord::Partition(partition(0)),
        MetadataRecord::Partition(partition(2)),
        MetadataRecord::Partition(partition(-1)),
        MetadataRecord::PartitionChange(partition(0)),
        MetadataRecord::PartitionChange(partition(1)),
        MetadataRecord::PartitionChange(older),
        MetadataRecord::PartitionChange(usurped),
        MetadataRecord::TopicRemoved { id: Uuid([9; 16]) },
        MetadataRecord::BrokerRemoved {
            id: BrokerId(1),
            epoch: BrokerEpoch(1),
        },
    ] {
        let outcome = image.replay(crate::types::Offset(3), std::slice::from_ref(&record));
        assert!(outcome.is_err(), "{record:?}");
    }
}
