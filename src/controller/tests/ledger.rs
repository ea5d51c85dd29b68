//! Decisions one by one: what is made, and what is refused with which code.

use std::collections::BTreeMap;

use super::{Cluster, registration};
use crate::config::ConfigSource;
use crate::controller::election::{Kind, elect};
use crate::controller::*;
use crate::types::{BrokerId, ErrorCode, LeaderEpoch, ProducerId, Uuid};

fn topic(name: &str, partitions: i32, replication_factor: i16) -> NewTopic {
    NewTopic {
        partitions,
        replication_factor,
        ..NewTopic::named(name)
    }
}

fn with_configs(name: &str, configs: &[(&str, Option<&str>)]) -> NewTopic {
    let owned = |(name, value): &(&str, Option<&str>)| (name.to_string(), value.map(str::to_owned));
    NewTopic {
        configs: configs.iter().map(owned).collect(),
        ..NewTopic::named(name)
    }
}

fn assigned(name: &str, replicas: &[(i32, &[i32])]) -> NewTopic {
    let ids = |(partition, ids): &(i32, &[i32])| {
        (*partition, ids.iter().copied().map(BrokerId).collect())
    };
    NewTopic {
        assignments: replicas.iter().map(ids).collect(),
        ..NewTopic::named(name)
    }
}

fn delete(cluster: &mut Cluster, topics: Vec<TopicSelector>) -> Vec<Result<DeletedTopic, Refusal>> {
    match cluster
        .ask(Request::DeleteTopics(DeleteTopics { topics }))
        .unwrap()
    {
        Reply::DeleteTopics(results) => results.into_iter().map(|(_, result)| result).collect(),
        other => panic!("{other:?}"),
    }
}

fn named(name: &str) -> TopicSelector {
    TopicSelector::Name(name.to_owned())
}

fn grow(
    cluster: &mut Cluster,
    name: &str,
    count: i32,
    assignments: Option<Vec<Vec<BrokerId>>>,
) -> Result<(), Refusal> {
    let topics = vec![MorePartitions {
        name: name.to_owned(),
        count,
        assignments,
    }];
    let request = CreatePartitions {
        topics,
        validate_only: false,
    };
    match cluster.ask(Request::CreatePartitions(request)).unwrap() {
        Reply::CreatePartitions(mut results) => results.remove(0).1,
        other => panic!("{other:?}"),
    }
}

fn alter(
    cluster: &mut Cluster,
    resource: ConfigResource,
    changes: &[(&str, AlterOperation, Option<&str>)],
) -> Result<(), Refusal> {
    let change = |(name, operation, value): &(&str, AlterOperation, Option<&str>)| ConfigChange {
        name: name.to_string(),
        operation: *operation,
        value: value.map(str::to_owned),
    };
    let resources = vec![(resource, changes.iter().map(change).collect())];
    let request = IncrementalAlterConfigs {
        resources,
        validate_only: false,
    };
    match cluster
        .ask(Request::IncrementalAlterConfigs(request))
        .unwrap()
    {
        Reply::AlterConfigs(mut results) => results.remove(0).1,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_topic_gets_what_was_asked_and_the_defaults_for_the_rest() {
    let mut cluster = Cluster::with(1, "num.partitions=3\nlog.retention.hours=1");
    let created = cluster
        .create(with_configs("a", &[("segment.ms", Some("7"))]))
        .unwrap();
    assert_eq!((created.partitions, created.replication_factor), (3, 1));
    let config = |name: &str| {
        let entry = created
            .configs
            .iter()
            .find(|entry| entry.name == name)
            .unwrap();
        (entry.value.clone().unwrap(), entry.source)
    };
    assert_eq!(config("segment.ms"), ("7".to_owned(), ConfigSource::Topic));
    assert_eq!(
        config("retention.ms"),
        ("3600000".to_owned(), ConfigSource::StaticBroker)
    );
    let image = cluster.ledger.image();
    let topic = image.topic("a").unwrap();
    assert_eq!((topic.id, topic.partitions.len()), (created.topic_id, 3));
    assert_eq!(image.topic_by_id(topic.id), Some(topic));
    assert_eq!(topic.partitions[2].leader, Some(BrokerId(1)));
    assert_eq!(image.topic_overrides("a").len(), 1);
    assert_eq!(image.partition_count(), 3);
}

#[test]
fn a_topic_that_cannot_be_made_is_refused_with_kafkas_code() {
    let mut cluster = Cluster::with(2, "");
    cluster.create(NewTopic::named("taken")).unwrap();
    cluster.create(NewTopic::named("dot.ted")).unwrap();
    let mut both = assigned("x", &[(0, &[1])]);
    both.partitions = 1;
    let cases = [
        (
            NewTopic::named("taken"),
            ErrorCode::TopicAlreadyExists,
            "already exists",
        ),
        (
            NewTopic::named("dot_ted"),
            ErrorCode::InvalidTopicException,
            "'dot.ted'",
        ),
        (
            NewTopic::named("a b"),
            ErrorCode::InvalidTopicException,
            "not allowed",
        ),
        (
            NewTopic::named(""),
            ErrorCode::InvalidTopicException,
            "empty",
        ),
        (
            topic("x", 0, 1),
            ErrorCode::InvalidPartitions,
            "cannot have 0",
        ),
        (
            topic("x", -2, 1),
            ErrorCode::InvalidPartitions,
            "cannot have -2",
        ),
        (topic("x", 10_001, 1), ErrorCode::PolicyViolation, "10000"),
        (
            topic("x", i32::MAX, 1),
            ErrorCode::PolicyViolation,
            "several requests",
        ),
        (
            topic("x", 1, 0),
            ErrorCode::InvalidReplicationFactor,
            "at least 1",
        ),
        (
            topic("x", 1, 3),
            ErrorCode::InvalidReplicationFactor,
            "replication factor 3 of topic 'x' is larger than the 2 brokers of the cluster (2 alive)",
        ),
        (
            with_configs("x", &[("no.such", Some("1"))]),
            ErrorCode::InvalidConfig,
            "no.such",
        ),
        (
            with_configs("x", &[("segment.ms", None)]),
            ErrorCode::InvalidConfig,
            "Null value",
        ),
        (
            with_configs("x", &[("flush.ms", Some("1")), ("flush.ms", Some("1"))]),
            ErrorCode::InvalidConfig,
            "more than once",
        ),
        (both, ErrorCode::InvalidRequest, "give -1"),
        (
            assigned("x", &[(1, &[1])]),
            ErrorCode::InvalidReplicaAssignment,
            "from 0",
        ),
        (
            assigned("x", &[(0, &[])]),
            ErrorCode::InvalidReplicaAssignment,
            "no replica",
        ),
        (
            assigned("x", &[(0, &[1, 1])]),
            ErrorCode::InvalidReplicaAssignment,
            "broker 1 twice",
        ),
        (
            assigned("x", &[(0, &[9])]),
            ErrorCode::InvalidReplicaAssignment,
            "broker 9",
        ),
        (
            assigned("x", &[(0, &[1]), (1, &[1, 2])]),
            ErrorCode::InvalidReplicaAssignment,
            "same number",
        ),
    ];
    for (new, code, text) in cases {
        let refusal = cluster.create(new.clone()).unwrap_err();
        assert_eq!(refusal.code, code, "{new:?}: {refusal}");
        assert!(refusal.text.contains(text), "{new:?}: {refusal}");
    }
    assert_eq!(cluster.ledger.image().topic_count(), 2);
}

#[test]
fn one_refused_topic_does_not_stop_the_others_and_doubles_are_all_refused() {
    let mut cluster = Cluster::with(1, "");
    let topics = ["a", "b", "b", "a.c", "a_c", ".."]
        .map(NewTopic::named)
        .to_vec();
    let request = CreateTopics {
        topics,
        validate_only: false,
    };
    let Reply::CreateTopics(results) = cluster.ask(Request::CreateTopics(request)).unwrap() else {
        panic!()
    };
    let codes: Vec<_> = results
        .iter()
        .map(|(_, one)| one.as_ref().err().map(|refusal| refusal.code))
        .collect();
    let invalid = Some(ErrorCode::InvalidTopicException);
    let doubled = Some(ErrorCode::InvalidRequest);
    assert_eq!(codes, [None, doubled, doubled, None, invalid, invalid]);
    let names: Vec<_> = cluster
        .ledger
        .image()
        .topics()
        .map(|topic| topic.name.to_string())
        .collect();
    assert_eq!(names, ["a", "a.c"]);
}

#[test]
fn validating_changes_nothing() {
    let mut cluster = Cluster::with(1, "");
    let before = cluster.ledger.image().clone();
    let request = CreateTopics {
        topics: vec![topic("a", 4, -1)],
        validate_only: true,
    };
    let Reply::CreateTopics(results) = cluster.ask(Request::CreateTopics(request)).unwrap() else {
        panic!()
    };
    let created = results[0].1.as_ref().unwrap();
    assert_eq!((created.partitions, created.topic_id), (4, Uuid::ZERO));
    assert_eq!(*cluster.ledger.image(), before);
}

#[test]
fn an_internal_topic_gets_no_more_replicas_than_brokers_are_alive() {
    let mut cluster = Cluster::with(2, "");
    let created = cluster.create(topic("__consumer_offsets", 50, 3)).unwrap();
    assert_eq!((created.partitions, created.replication_factor), (50, 2));
}

#[test]
fn assigned_replicas_are_kept_and_the_first_leads() {
    let mut cluster = Cluster::with(3, "");
    cluster
        .create(assigned("a", &[(0, &[3, 1]), (1, &[2, 3])]))
        .unwrap();
    let image = cluster.ledger.image();
    let state = image.partition("a", 0).unwrap();
    assert_eq!(state.replicas, [BrokerId(3), BrokerId(1)]);
    assert_eq!(state.isr, state.replicas);
    assert_eq!(state.leader, Some(BrokerId(3)));
    assert_eq!(image.partition("a", 1).unwrap().leader, Some(BrokerId(2)));
}

#[test]
fn placed_replicas_are_distinct_and_spread_evenly() {
    let mut cluster = Cluster::with(4, "");
    cluster.create(topic("a", 12, 3)).unwrap();
    let mut leaders: BTreeMap<BrokerId, usize> = BTreeMap::new();
    let mut replicas: BTreeMap<BrokerId, usize> = BTreeMap::new();
    for state in &cluster.ledger.image().topic("a").unwrap().partitions {
        let mut distinct = state.replicas.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 3);
        *leaders.entry(state.leader.unwrap()).or_default() += 1;
        for id in &state.replicas {
            *replicas.entry(*id).or_default() += 1;
        }
    }
    assert!(leaders.values().all(|count| *count == 3), "{leaders:?}");
    assert!(replicas.values().all(|count| *count == 9), "{replicas:?}");
}

#[test]
fn a_recreated_topic_has_another_id_and_none_of_the_old_settings() {
    let mut cluster = Cluster::with(1, "");
    let first = cluster
        .create(with_configs("a.b", &[("flush.ms", Some("1"))]))
        .unwrap();
    let deleted = delete(&mut cluster, vec![named("a.b")]);
    assert_eq!(deleted[0].as_ref().unwrap().topic_id, first.topic_id);
    let image = cluster.ledger.image();
    assert_eq!((image.topic_count(), image.partition_count()), (0, 0));
    assert!(image.configured().next().is_none());
    let second = cluster.create(NewTopic::named("a_b")).unwrap();
    assert_ne!(first.topic_id, second.topic_id);
    assert!(cluster.ledger.image().topic_overrides("a_b").is_empty());
}

#[test]
fn deleting_is_by_name_or_id_and_refuses_with_kafkas_code() {
    let mut cluster = Cluster::with(1, "");
    let a = cluster.create(NewTopic::named("a")).unwrap();
    cluster.create(NewTopic::named("b")).unwrap();
    let selectors = vec![
        TopicSelector::Id(a.topic_id),
        named("a"),
        named("c"),
        TopicSelector::Id(Uuid([8; 16])),
    ];
    let codes: Vec<_> = delete(&mut cluster, selectors)
        .into_iter()
        .map(|result| result.err().map(|refusal| refusal.code))
        .collect();
    let wanted = [
        None,
        Some(ErrorCode::InvalidRequest),
        Some(ErrorCode::UnknownTopicOrPartition),
        Some(ErrorCode::UnknownTopicId),
    ];
    assert_eq!(codes, wanted);
    let mut cluster = Cluster::with(1, "delete.topic.enable=false");
    cluster.create(NewTopic::named("a")).unwrap();
    let refused = delete(&mut cluster, vec![named("a")])
        .remove(0)
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::TopicDeletionDisabled);
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    let mut cluster = Cluster::with(2, "");
    cluster.create(topic("a", 2, 2)).unwrap();
    grow(&mut cluster, "a", 5, None).unwrap();
    let states = cluster
        .ledger
        .image()
        .topic("a")
        .unwrap()
        .partitions
        .clone();
    assert_eq!(states.len(), 5);
    assert!(
        states
            .iter()
            .all(|state| state.replicas.len() == 2 && state.leader.is_some())
    );
    assert_eq!(states[4].cause, Cause::PartitionsAdded);
    let ids = |ids: &[i32]| Some(vec![ids.iter().copied().map(BrokerId).collect::<Vec<_>>()]);
    let cases = [
        ("a", 5, None, ErrorCode::InvalidPartitions, "already has 5"),
        (
            "a",
            1,
            None,
            ErrorCode::InvalidPartitions,
            "would not be an increase",
        ),
        (
            "a",
            -1,
            None,
            ErrorCode::InvalidPartitions,
            "-1 would not be",
        ),
        ("b", 5, None, ErrorCode::UnknownTopicOrPartition, "'b'"),
        ("a", 10_006, None, ErrorCode::PolicyViolation, "10000"),
        (
            "a",
            7,
            ids(&[1, 2]),
            ErrorCode::InvalidReplicaAssignment,
            "assign each",
        ),
        (
            "a",
            6,
            ids(&[1]),
            ErrorCode::InvalidReplicaAssignment,
            "1 replicas",
        ),
        (
            "a",
            6,
            ids(&[1, 3]),
            ErrorCode::InvalidReplicaAssignment,
            "broker 3",
        ),
    ];
    for (name, count, assignments, code, text) in cases {
        let refusal = grow(&mut cluster, name, count, assignments).unwrap_err();
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.text.contains(text), "{refusal}");
    }
    grow(&mut cluster, "a", 6, ids(&[2, 1])).unwrap();
    let state = cluster.ledger.image().partition("a", 5).unwrap();
    assert_eq!(state.leader, Some(BrokerId(2)));
}

#[test]
fn settings_are_set_deleted_appended_and_subtracted() {
    use AlterOperation::{Append, Delete, Set, Subtract};
    let mut cluster = Cluster::with(1, "");
    cluster.create(NewTopic::named("a")).unwrap();
    let a = || ConfigResource::topic("a");
    let get = |cluster: &Cluster, name: &str| {
        cluster
            .ledger
            .image()
            .topic_overrides("a")
            .get(name)
            .cloned()
    };
    alter(
        &mut cluster,
        a(),
        &[("cleanup.policy", Append, Some("compact"))],
    )
    .unwrap();
    assert_eq!(
        get(&cluster, "cleanup.policy").as_deref(),
        Some("delete,compact")
    );
    alter(
        &mut cluster,
        a(),
        &[("cleanup.policy", Subtract, Some("delete"))],
    )
    .unwrap();
    assert_eq!(get(&cluster, "cleanup.policy").as_deref(), Some("compact"));
    let changes = [
        ("cleanup.policy", Delete, None),
        ("flush.ms", Set, Some("9")),
    ];
    alter(&mut cluster, a(), &changes).unwrap();
    assert_eq!(get(&cluster, "cleanup.policy"), None);
    assert_eq!(get(&cluster, "flush.ms").as_deref(), Some("9"));

    let end = cluster.end;
    alter(&mut cluster, a(), &[("flush.ms", Set, Some("9"))]).unwrap();
    assert_eq!(cluster.end, end, "nothing changed, nothing written");
}

#[test]
fn settings_that_cannot_be_changed_are_refused_with_kafkas_code() {
    use AlterOperation::{Append, Set};
    let mut cluster = Cluster::with(1, "");
    cluster.create(NewTopic::named("a")).unwrap();
    let group = ConfigResource {
        resource_type: ResourceType::Group,
        name: "g".to_owned(),
    };
    let unknown_broker = ConfigResource::broker(BrokerId(9));
    let (a, all) = (ConfigResource::topic("a"), ConfigResource::all_brokers());
    let node = ConfigResource::broker(BrokerId(1));
    let cases = [
        (
            a.clone(),
            "nope",
            Set,
            Some("1"),
            ErrorCode::InvalidConfig,
            "nope",
        ),
        (
            a.clone(),
            "flush.ms",
            Set,
            Some("soon"),
            ErrorCode::InvalidConfig,
            "whole number",
        ),
        (
            a.clone(),
            "flush.ms",
            Set,
            None,
            ErrorCode::InvalidRequest,
            "Null value",
        ),
        (
            a.clone(),
            "flush.ms",
            Append,
            Some("1"),
            ErrorCode::InvalidConfig,
            "not LIST",
        ),
        (
            a,
            "cleanup.policy",
            Append,
            Some("burn"),
            ErrorCode::InvalidConfig,
            "burn",
        ),
        (
            ConfigResource::topic("b"),
            "flush.ms",
            Set,
            Some("1"),
            ErrorCode::UnknownTopicOrPartition,
            "'b'",
        ),
        (
            group,
            "x",
            Set,
            Some("1"),
            ErrorCode::InvalidRequest,
            "group",
        ),
        (
            unknown_broker,
            "log.cleaner.threads",
            Set,
            Some("1"),
            ErrorCode::InvalidRequest,
            "'9'",
        ),
        (
            node,
            "node.id",
            Set,
            Some("2"),
            ErrorCode::InvalidRequest,
            "dynamically: node.id",
        ),
        (
            all.clone(),
            "leader.replication.throttled.rate",
            Set,
            Some("1"),
            ErrorCode::InvalidRequest,
            "each broker",
        ),
        (
            ConfigResource::broker(BrokerId(1)),
            "listeners",
            Set,
            Some("x"),
            ErrorCode::InvalidRequest,
            "restart",
        ),
        (
            all,
            "log.cleaner.threads",
            Set,
            Some("-1"),
            ErrorCode::InvalidConfig,
            "too small",
        ),
    ];
    for (resource, name, operation, value, code, text) in cases {
        let refusal =
            alter(&mut cluster, resource.clone(), &[(name, operation, value)]).unwrap_err();
        assert_eq!(refusal.code, code, "{resource} {name}: {refusal}");
        assert!(refusal.text.contains(text), "{resource} {name}: {refusal}");
    }
    let twice = [("flush.ms", Set, Some("1")), ("flush.ms", Set, Some("2"))];
    let refusal = alter(&mut cluster, ConfigResource::topic("a"), &twice).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::InvalidRequest);
}

#[test]
fn replacing_settings_drops_those_not_given() {
    let mut cluster = Cluster::with(1, "");
    cluster
        .create(with_configs("a", &[("flush.ms", Some("1"))]))
        .unwrap();
    let settings = vec![("segment.ms".to_owned(), Some("5".to_owned()))];
    let resources = vec![(ConfigResource::topic("a"), settings)];
    let request = AlterConfigs {
        resources,
        validate_only: false,
    };
    cluster.ask(Request::AlterConfigs(request)).unwrap();
    let overrides = cluster.ledger.image().topic_overrides("a");
    assert_eq!(
        overrides.iter().collect::<Vec<_>>(),
        [(&"segment.ms".to_owned(), &"5".to_owned())]
    );
}

#[test]
fn a_broker_setting_changes_what_topics_fall_back_to() {
    let mut cluster = Cluster::with(1, "");
    let set = |value| [("log.retention.ms", AlterOperation::Set, Some(value))];
    alter(&mut cluster, ConfigResource::all_brokers(), &set("5")).unwrap();
    let created = cluster.create(NewTopic::named("a")).unwrap();
    let entry = created
        .configs
        .iter()
        .find(|entry| entry.name == "retention.ms")
        .unwrap();
    assert_eq!(entry.value.as_deref(), Some("5"));
    assert_eq!(entry.source, ConfigSource::DynamicDefaultBroker);
}

#[test]
fn producer_ids_are_given_in_blocks_once() {
    let mut cluster = Cluster::with(1, "");
    for start in [0, 1000, 2000] {
        let reply = cluster
            .ask(Request::AllocateProducerIds {
                broker: BrokerId(1),
            })
            .unwrap();
        let block = ProducerIdBlock {
            start: ProducerId(start),
            count: 1000,
        };
        assert_eq!(reply, Reply::AllocateProducerIds(block));
    }
}

#[test]
fn nothing_happens_before_the_cluster_is_founded_and_it_is_founded_once() {
    let mut cluster = Cluster::with(0, "");
    let id = Uuid([5; 16]);
    assert_eq!(
        cluster.ask(Request::Found { cluster_id: id }),
        Ok(Reply::Found(id))
    );
    let other = cluster
        .ask(Request::Found {
            cluster_id: Uuid([6; 16]),
        })
        .unwrap_err();
    assert_eq!(other.code, ErrorCode::InconsistentClusterId);
    let ledger = ControllerLedger::new(BrokerId(1), super::defaults(""));
    let request = Request::CreateTopics(CreateTopics::default());
    let refusal = ledger
        .handle(&mut cluster.entropy, Situation::default(), &request)
        .unwrap_err();
    assert_eq!(refusal.code, ErrorCode::BrokerNotAvailable);
}

#[test]
fn a_broker_that_stopped_out_of_order_leads_in_a_new_epoch() {
    let mut cluster = Cluster::with(1, "");
    cluster.create(topic("a", 2, 1)).unwrap();
    let epochs = |cluster: &Cluster| {
        let state = cluster.ledger.image().partition("a", 1).unwrap();
        (state.leader, state.leader_epoch, state.partition_epoch)
    };
    let register = |cluster: &mut Cluster, run, after_clean_shutdown| {
        let request = RegisterBroker {
            after_clean_shutdown,
            ..registration(1, run)
        };
        cluster.ask(Request::RegisterBroker(request)).unwrap()
    };
    let leader = Some(BrokerId(1));
    let epoch = |reply: Reply| match reply {
        Reply::RegisterBroker(epoch) => epoch,
        other => panic!("{other:?}"),
    };
    let first = epoch(register(&mut cluster, 1, false));
    let second = epoch(register(&mut cluster, 1, false));
    assert_eq!(first, second, "repeated");
    let third = epoch(register(&mut cluster, 2, true));
    assert!(third > second);
    assert_eq!(epochs(&cluster), (leader, LeaderEpoch(0), 0));
    let fourth = epoch(register(&mut cluster, 3, false));
    assert!(fourth > third);
    assert_eq!(epochs(&cluster), (leader, LeaderEpoch(1), 1));
    let state = cluster.ledger.image().partition("a", 0).unwrap();
    assert_eq!(state.cause, Cause::LeaderRestarted);
}

#[test]
fn elections_prefer_in_sync_then_eligible_and_lose_records_only_where_allowed() {
    let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
    let mut cluster = Cluster::with(3, "");
    cluster.create(assigned("a", &[(0, &[1, 2, 3])])).unwrap();
    let mut state = PartitionState::clone(cluster.ledger.image().partition("a", 0).unwrap());
    (state.isr, state.elr) = (ids(&[1, 3]), ids(&[2]));
    let alive = |alive: &'static [i32]| move |id: BrokerId| alive.contains(&id.0);
    let elected = |alive: &'static [i32], unclean| {
        let alive = |id: BrokerId| alive.contains(&id.0);
        let election = elect(&state, alive, unclean);
        (election.leader.map(|id| id.0), election.isr, election.kind)
    };
    let (clean, unclean) = (Kind::Clean, Kind::Unclean);
    assert_eq!(elected(&[1, 2, 3], false), (Some(1), ids(&[1, 3]), clean));
    assert_eq!(elected(&[2, 3], false), (Some(3), ids(&[1, 3]), clean));
    assert_eq!(elected(&[2], false), (Some(2), ids(&[2]), clean));
    assert_eq!(elected(&[], true), (None, ids(&[1, 3]), clean));
    state.elr = Vec::new();
    state.last_known_elr = ids(&[2]);
    let election = elect(&state, alive(&[2]), false);
    assert_eq!((election.leader, election.isr), (None, ids(&[1, 3])));
    let election = elect(&state, alive(&[2]), true);
    assert_eq!(
        (election.leader, election.isr, election.kind),
        (Some(BrokerId(2)), ids(&[2]), unclean)
    );
    state.isr = Vec::new();
    let election = elect(&state, alive(&[2, 3]), true);
    assert_eq!(
        (election.leader, election.kind),
        (Some(BrokerId(2)), Kind::LastKnown)
    );
}

#[test]
fn a_topic_that_an_earlier_attempt_made_is_told_again_and_one_deleted_since_gets_another_id() {
    let mut cluster = Cluster::of(3, "");
    let with_ids = |ids: &[u8]| NewTopic {
        ids: ids.iter().map(|id| Uuid([*id; 16])).collect(),
        ..with_configs("a", &[("retention.ms", Some("1000"))])
    };
    let made = cluster.create(with_ids(&[1])).unwrap();
    assert_eq!(made.topic_id, Uuid([1; 16]));
    let end = cluster.end;
    assert_eq!(cluster.create(with_ids(&[1, 2])).unwrap(), made);
    assert_eq!(cluster.end, end, "nothing is recorded");
    let other = cluster.create(with_ids(&[3])).unwrap_err();
    assert_eq!(other.code, ErrorCode::TopicAlreadyExists);
    assert!(delete(&mut cluster, vec![named("a")])[0].is_ok());
    let anew = cluster.create(with_ids(&[1, 2])).unwrap();
    assert_eq!(anew.topic_id, Uuid([2; 16]));
}
