//! Links and mirrors: what is made, refused, fenced and promoted.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::Cluster;
use crate::controller::*;
use crate::types::{BrokerId, ErrorCode, LeaderEpoch, Offset, TopicId, Uuid};

fn new_link(name: &str, id: u8) -> NewLink {
    NewLink {
        id: Uuid([id; 16]),
        name: name.to_owned(),
        bootstrap: vec!["west:9092".to_owned()],
        mode: LinkMode::Exact,
        topics: vec!["*".to_owned()],
        groups: Vec::new(),
        bytes_per_second: 0,
        replication_factor: -1,
    }
}

fn create_link(cluster: &mut Cluster, link: NewLink) -> Result<LinkId, Refusal> {
    let validate_only = false;
    let request = CreateLink {
        link,
        validate_only,
    };
    match cluster.ask(Request::CreateLink(request))? {
        Reply::CreateLink(id) => Ok(id),
        other => panic!("{other:?}"),
    }
}

fn alter_link(cluster: &mut Cluster, name: &str, change: LinkChange) -> Result<(), Refusal> {
    let request = AlterLink {
        name: name.to_owned(),
        change,
        validate_only: false,
    };
    cluster.ask(Request::AlterLink(request)).map(|_| ())
}

fn delete_link(cluster: &mut Cluster, name: &str, force: bool) -> Result<Vec<String>, Refusal> {
    let request = DeleteLink {
        name: name.to_owned(),
        force,
        validate_only: false,
    };
    match cluster.ask(Request::DeleteLink(request))? {
        Reply::DeleteLink(names) => Ok(names),
        other => panic!("{other:?}"),
    }
}

fn learn(cluster: &mut Cluster, id: u8, source: &str) -> Result<(), Refusal> {
    let request = LearnSource {
        link: Uuid([id; 16]),
        cluster_id: source.to_owned(),
    };
    cluster.ask(Request::LearnSource(request)).map(|_| ())
}

/// A mirror with three partitions.
fn create_mirror(cluster: &mut Cluster, name: &str, link: u8) -> Result<TopicId, Refusal> {
    let topic = NewTopic {
        partitions: 3,
        mirror: Some(NewMirror {
            link: Uuid([link; 16]),
            source_name: name.to_owned(),
            source_id: Uuid([99; 16]),
        }),
        ..NewTopic::named(name)
    };
    cluster.create(topic).map(|created| created.topic_id)
}

fn enter(cluster: &mut Cluster, asked: EnterEpoch) -> Result<MirrorPartition, Refusal> {
    match cluster.ask(Request::EnterEpochs(vec![asked]))? {
        Reply::EnterEpochs(mut results) => results.remove(0),
        other => panic!("{other:?}"),
    }
}

fn entering(topic_id: TopicId, local: i32, source: i32, start: i64) -> EnterEpoch {
    EnterEpoch {
        topic_id,
        partition: 0,
        leader_epoch: LeaderEpoch(local),
        source_epoch: LeaderEpoch(source),
        start: Offset(start),
    }
}

fn fail(
    cluster: &mut Cluster,
    topic_id: TopicId,
    partition: Option<(i32, LeaderEpoch)>,
) -> Result<(), Refusal> {
    let request = FailMirror {
        topic_id,
        partition,
        fault: MirrorFault::Deleted,
    };
    cluster.ask(Request::FailMirror(request)).map(|_| ())
}

fn promote(
    cluster: &mut Cluster,
    link: Option<&str>,
    topics: Option<&[&str]>,
) -> Result<Vec<PromotedMirror>, Refusal> {
    let request = PromoteMirrors {
        link: link.map(str::to_owned),
        topics: topics.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        validate_only: false,
    };
    match cluster.ask(Request::PromoteMirrors(request))? {
        Reply::PromoteMirrors(results) => Ok(results),
        other => panic!("{other:?}"),
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> ErrorCode {
    result.unwrap_err().code
}

fn lineage(entries: &[(i32, i64)]) -> Vec<(LeaderEpoch, Offset)> {
    let entry = |(epoch, start): &(i32, i64)| (LeaderEpoch(*epoch), Offset(*start));
    entries.iter().map(entry).collect()
}

#[test]
fn a_link_is_made_once_and_asking_again_changes_nothing() {
    let mut cluster = Cluster::of(3, "");
    let id = create_link(&mut cluster, new_link("west", 1)).unwrap();
    let end = cluster.end;
    assert_eq!(create_link(&mut cluster, new_link("west", 1)), Ok(id));
    assert_eq!(cluster.end, end);
    let twice = create_link(&mut cluster, new_link("west", 2));
    assert_eq!(code(twice), ErrorCode::DuplicateResource);
    let same_id = create_link(&mut cluster, new_link("east", 1));
    assert_eq!(code(same_id), ErrorCode::InvalidRequest);
    let link = cluster.ledger.image().link_by_name("west").unwrap();
    assert_eq!((link.id, link.bytes_per_second), (id, None));
}

#[test]
fn a_link_that_makes_no_sense_is_refused_with_what_to_do() {
    type Spoil = fn(&mut NewLink);
    let spoilt: [(Spoil, &str); 11] = [
        (|link| link.name = "a.b".to_owned(), "'a.b' cannot name"),
        (|link| link.bootstrap.clear(), "has 0 addresses"),
        (
            |link| link.bootstrap = vec!["west".to_owned()],
            "give host:port",
        ),
        (
            |link| link.bootstrap = vec!["west:0".to_owned()],
            "give host:port",
        ),
        (
            |link| link.bootstrap = vec![":9092".to_owned()],
            "give host:port",
        ),
        (|link| link.topics.clear(), "would copy nothing"),
        (|link| link.topics = vec![String::new()], "has 0 characters"),
        (
            |link| link.topics = vec!["a[bc]".to_owned()],
            "no name has '['",
        ),
        (
            |link| link.groups = vec!["a\nb".to_owned()],
            "no name has '\\n'",
        ),
        (|link| link.bytes_per_second = u64::MAX, "bytes per second"),
        (|link| link.replication_factor = 0, "0 replicas"),
    ];
    let mut cluster = Cluster::of(3, "");
    for (spoil, text) in spoilt {
        let mut link = new_link("west", 1);
        spoil(&mut link);
        let refusal = create_link(&mut cluster, link).unwrap_err();
        assert!(refusal.text.contains(text), "{refusal}");
    }
    assert_eq!(cluster.ledger.image().links().count(), 0);
}

#[test]
fn only_what_is_named_changes_about_a_link() {
    let mut cluster = Cluster::of(3, "");
    let limited = NewLink {
        bytes_per_second: 7,
        ..new_link("west", 1)
    };
    create_link(&mut cluster, limited).unwrap();
    let change = LinkChange {
        paused: Some(true),
        groups: Some(vec!["g*".to_owned()]),
        ..LinkChange::default()
    };
    alter_link(&mut cluster, "west", change).unwrap();
    let link = cluster.ledger.image().link_by_name("west").unwrap().clone();
    assert!(link.paused && link.wants_group("g1") && link.wants_topic("t"));
    assert_eq!(link.bytes_per_second, Some(7));
    let change = LinkChange {
        bytes_per_second: Some(0),
        ..LinkChange::default()
    };
    alter_link(&mut cluster, "west", change).unwrap();
    let link = cluster.ledger.image().link_by_name("west").unwrap();
    assert_eq!((link.bytes_per_second, link.paused), (None, true));
    let unknown = alter_link(&mut cluster, "east", LinkChange::default()).unwrap_err();
    assert_eq!(unknown.code, ErrorCode::ResourceNotFound);
    assert!(unknown.text.ends_with("there are: west"), "{unknown}");
    let nothing = LinkChange {
        topics: Some(Vec::new()),
        ..LinkChange::default()
    };
    assert!(alter_link(&mut cluster, "west", nothing).is_err());
}

#[test]
fn a_source_stays_the_cluster_it_was_and_is_never_this_one() {
    let mut cluster = Cluster::of(3, "");
    create_link(&mut cluster, new_link("west", 1)).unwrap();
    let own = cluster.ledger.image().cluster_id().unwrap().to_string();
    let itself = learn(&mut cluster, 1, &own);
    assert_eq!(code(itself), ErrorCode::InconsistentClusterId);
    learn(&mut cluster, 1, "west-cluster").unwrap();
    let end = cluster.end;
    learn(&mut cluster, 1, "west-cluster").unwrap();
    assert_eq!(cluster.end, end);
    let other = learn(&mut cluster, 1, "another");
    assert_eq!(code(other), ErrorCode::InconsistentClusterId);
    assert_eq!(
        code(learn(&mut cluster, 2, "x")),
        ErrorCode::ResourceNotFound
    );
    let link = cluster.ledger.image().link_by_name("west").unwrap();
    assert_eq!(link.source_cluster.as_deref(), Some("west-cluster"));
}

#[test]
fn a_mirror_is_made_with_its_topic_and_goes_with_it() {
    let mut cluster = Cluster::of(3, "");
    let refused = create_mirror(&mut cluster, "a", 1);
    assert_eq!(code(refused), ErrorCode::ResourceNotFound);
    create_link(&mut cluster, new_link("west", 1)).unwrap();
    let id = create_mirror(&mut cluster, "a", 1).unwrap();
    let mirror = cluster.ledger.image().mirror(id).unwrap();
    assert!(mirror.topic.is_read_only() && mirror.partitions.is_empty());
    let topics = vec![TopicSelector::Id(id)];
    cluster
        .ask(Request::DeleteTopics(DeleteTopics { topics }))
        .unwrap();
    assert!(cluster.ledger.image().mirror(id).is_none());
    assert_eq!(delete_link(&mut cluster, "west", false), Ok(Vec::new()));
}

#[test]
fn where_records_come_from_is_for_links_alone_to_say_and_is_never_lost() {
    let mut cluster = Cluster::of(3, "");
    create_link(&mut cluster, new_link("west", 1)).unwrap();
    let setting = (PROVENANCE.to_owned(), Some("x,y".to_owned()));
    let topic = NewTopic {
        configs: vec![setting],
        ..NewTopic::named("a")
    };
    assert_eq!(
        code(cluster.create(topic.clone())),
        ErrorCode::InvalidConfig
    );
    let mirror = NewMirror {
        link: Uuid([1; 16]),
        source_name: "a".to_owned(),
        source_id: Uuid::ZERO,
    };
    let mirror = Some(mirror);
    cluster.create(NewTopic { mirror, ..topic }).unwrap();
    let resources = vec![(ConfigResource::topic("a"), Vec::new())];
    let request = AlterConfigs {
        resources,
        validate_only: false,
    };
    cluster.ask(Request::AlterConfigs(request)).unwrap();
    let settings = cluster.ledger.image().topic_overrides("a");
    assert_eq!(settings.get(PROVENANCE).map(String::as_str), Some("x,y"));
}

#[test]
fn a_lineage_grows_by_who_leads_and_asking_again_changes_nothing() {
    let mut cluster = Cluster::of(3, "");
    create_link(&mut cluster, new_link("west", 1)).unwrap();
    let id = create_mirror(&mut cluster, "a", 1).unwrap();
    enter(&mut cluster, entering(id, 0, 4, 100)).unwrap();
    let end = cluster.end;
    let known = enter(&mut cluster, entering(id, 0, 4, 100)).unwrap();
    assert_eq!((known.lineage, cluster.end), (lineage(&[(4, 100)]), end));
    enter(&mut cluster, entering(id, 0, 6, 150)).unwrap();
    let back = enter(&mut cluster, entering(id, 0, 5, 170));
    assert_eq!(code(back), ErrorCode::InvalidRequest);
    // What was copied from 150 on was lost here, and is copied again.
    let known = enter(&mut cluster, entering(id, 0, 7, 150)).unwrap();
    assert_eq!(known.lineage, lineage(&[(4, 100), (7, 150)]));

    for wrong in [
        entering(id, 1, 8, 200),
        entering(Uuid([8; 16]), 0, 8, 200),
        entering(id, 0, 8, -1),
        EnterEpoch {
            partition: 3,
            ..entering(id, 0, 8, 200)
        },
    ] {
        assert!(enter(&mut cluster, wrong).is_err(), "{wrong:?}");
    }
    let led_by = cluster.state().leader.unwrap();
    cluster.fence(led_by.0);
    let deposed = enter(&mut cluster, entering(id, 0, 8, 200));
    assert_eq!(code(deposed), ErrorCode::FencedLeaderEpoch);
    enter(&mut cluster, entering(id, 1, 8, 200)).unwrap();
}

#[test]
fn the_first_fault_of_a_partition_stays_and_ends_its_copying() {
    let mut cluster = Cluster::of(3, "");
    create_link(&mut cluster, new_link("west", 1)).unwrap();
    let id = create_mirror(&mut cluster, "a", 1).unwrap();
    let deposed = fail(&mut cluster, id, Some((0, LeaderEpoch(3))));
    assert_eq!(code(deposed), ErrorCode::FencedLeaderEpoch);
    fail(&mut cluster, id, Some((0, LeaderEpoch(0)))).unwrap();
    let end = cluster.end;
    fail(&mut cluster, id, Some((0, LeaderEpoch(0)))).unwrap();
    assert_eq!(cluster.end, end);
    let refused = enter(&mut cluster, entering(id, 0, 4, 0));
    assert_eq!(code(refused), ErrorCode::InvalidRequest);
    let other = EnterEpoch {
        partition: 1,
        ..entering(id, 0, 4, 0)
    };
    enter(&mut cluster, other).unwrap();
    fail(&mut cluster, id, None).unwrap();
    fail(&mut cluster, id, None).unwrap();
    let other = EnterEpoch {
        start: Offset(9),
        source_epoch: LeaderEpoch(5),
        ..other
    };
    assert_eq!(code(enter(&mut cluster, other)), ErrorCode::InvalidRequest);
    let mirror = cluster.ledger.image().mirror(id).unwrap();
    let reason = MirrorFault::Deleted.to_string();
    assert_eq!(mirror.topic.state, MirrorState::Failed { reason });
}

#[test]
fn a_promotion_gives_every_partition_a_new_epoch_and_the_same_leader() {
    let mut cluster = Cluster::of(3, "default.replication.factor=2");
    create_link(&mut cluster, new_link("west", 1)).unwrap();
    let id = create_mirror(&mut cluster, "a", 1).unwrap();
    cluster.fence(1);
    cluster.fence(2);
    let before = cluster.ledger.image().topic_by_id(id).unwrap().clone();
    let leads = |state: &&std::sync::Arc<PartitionState>| {
        state.leader.is_some() && state.leader != state.replicas.first().copied()
    };
    assert_eq!(before.partitions.iter().filter(leads).count(), 1);
    assert!(before.partitions.iter().any(|state| state.leader.is_none()));

    let results = promote(&mut cluster, None, Some(&["a", "b", "a"])).unwrap();
    let since = results[0].1.clone().unwrap();
    assert_eq!(
        results[1].1.as_ref().unwrap_err().code,
        ErrorCode::UnknownTopicOrPartition
    );
    assert_eq!(
        results[2].1.as_ref().unwrap_err().code,
        ErrorCode::InvalidRequest
    );
    let (_, batch) = cluster.batches.last().unwrap();
    assert_eq!(batch.len(), 4);
    let after = cluster.ledger.image().topic_by_id(id).unwrap();
    for ((old, new), since) in before.partitions.iter().zip(&after.partitions).zip(&since) {
        let next = LeaderEpoch(old.leader_epoch.0 + 1);
        assert_eq!((new.leader, new.leader_epoch), (old.leader, next));
        assert_eq!((new.cause, *since), (Cause::MirrorPromoted, next));
        assert_eq!((&new.isr, &new.replicas), (&old.isr, &old.replicas));
    }
    let mirror = &cluster.ledger.image().mirror(id).unwrap().topic;
    assert!(!mirror.is_read_only());
    assert_eq!(mirror.promoted_since(2), Some(since[2]));
    assert_eq!(
        (mirror.promoted_since(3), mirror.promoted_since(-1)),
        (None, None)
    );

    let end = cluster.end;
    let again = promote(&mut cluster, Some("west"), Some(&["a"])).unwrap();
    assert_eq!(again, [("a".to_owned(), Ok(since.clone()))]);
    assert_eq!(cluster.end, end);
    let late = enter(&mut cluster, entering(id, since[0].0, 9, 0));
    assert_eq!(code(late), ErrorCode::InvalidRequest);
}

#[test]
fn a_promoted_mirror_may_be_copied_back_to_where_its_records_came_from() {
    let mut cluster = Cluster::of(1, "");
    create_link(&mut cluster, new_link("west", 1)).unwrap();
    let mut topic = NewTopic {
        partitions: 1,
        mirror: Some(NewMirror {
            link: Uuid([1; 16]),
            source_name: "a".to_owned(),
            source_id: Uuid([99; 16]),
        }),
        ..NewTopic::named("a")
    };
    topic.configs = vec![(PROVENANCE.to_owned(), Some("north".to_owned()))];
    cluster.create(topic).unwrap();
    let came_from = |cluster: &Cluster| {
        let settings = cluster.ledger.image().topic_overrides("a");
        settings.get(PROVENANCE).cloned()
    };
    assert_eq!(came_from(&cluster).as_deref(), Some("north"));
    promote(&mut cluster, None, Some(&["a"])).unwrap();
    assert_eq!(came_from(&cluster), None);
}

#[test]
fn all_mirrors_of_one_link_are_promoted_and_no_others() {
    let mut cluster = Cluster::of(3, "");
    create_link(&mut cluster, new_link("west", 1)).unwrap();
    create_link(&mut cluster, new_link("east", 2)).unwrap();
    create_mirror(&mut cluster, "a", 1).unwrap();
    create_mirror(&mut cluster, "b", 2).unwrap();
    let failed = create_mirror(&mut cluster, "c", 1).unwrap();
    fail(&mut cluster, failed, None).unwrap();
    cluster.create(NewTopic::named("d")).unwrap();
    let refused = promote(&mut cluster, Some("west"), Some(&["b", "d"])).unwrap();
    assert!(refused.iter().all(|(_, result)| result.is_err()));
    let mut names: Vec<_> = promote(&mut cluster, Some("west"), None)
        .unwrap()
        .into_iter()
        .map(|(name, result)| result.map(|_| name).unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["a", "c"]);
    let unknown = promote(&mut cluster, Some("north"), None);
    assert_eq!(code(unknown), ErrorCode::ResourceNotFound);
    let kept = delete_link(&mut cluster, "east", false).unwrap_err();
    assert_eq!(kept.code, ErrorCode::PolicyViolation);
    assert_eq!(
        delete_link(&mut cluster, "east", true),
        Ok(vec!["b".to_owned()])
    );
    let image = cluster.ledger.image();
    assert!(image.link_by_name("east").is_none());
    let left = image
        .mirrors()
        .filter(|(_, mirror)| mirror.topic.is_read_only());
    assert_eq!(left.count(), 0);
}

#[test]
fn what_is_only_checked_changes_nothing() {
    let mut cluster = Cluster::of(3, "");
    create_link(&mut cluster, new_link("west", 1)).unwrap();
    create_mirror(&mut cluster, "a", 1).unwrap();
    let end = cluster.end;
    let validate_only = true;
    let name = || "west".to_owned();
    let change = LinkChange {
        paused: Some(true),
        ..LinkChange::default()
    };
    for request in [
        Request::CreateLink(CreateLink {
            link: new_link("east", 2),
            validate_only,
        }),
        Request::AlterLink(AlterLink {
            name: name(),
            change,
            validate_only,
        }),
        Request::DeleteLink(DeleteLink {
            name: name(),
            force: true,
            validate_only,
        }),
        Request::PromoteMirrors(PromoteMirrors {
            validate_only,
            ..PromoteMirrors::default()
        }),
    ] {
        cluster.ask(request).unwrap();
        assert_eq!(cluster.end, end);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Link(u8),
    Pause(u8, bool),
    Delete(u8, bool),
    Learn(u8, u8),
    Mirror(u8, u8),
    Plain(u8),
    Remove(u8),
    Enter(u8, i32, i32, i64),
    Fail(u8, Option<i32>),
    Promote(u8),
    Fence(i32),
    Start(i32),
}

fn step() -> impl Strategy<Value = Step> {
    let partition = 0..3_i32;
    prop_oneof![
        (0..3_u8).prop_map(Step::Link),
        (0..3_u8, any::<bool>()).prop_map(|(link, paused)| Step::Pause(link, paused)),
        (0..3_u8, any::<bool>()).prop_map(|(link, force)| Step::Delete(link, force)),
        (0..3_u8, 0..2_u8).prop_map(|(link, source)| Step::Learn(link, source)),
        (0..4_u8, 0..3_u8).prop_map(|(topic, link)| Step::Mirror(topic, link)),
        (0..4_u8).prop_map(Step::Plain),
        (0..4_u8).prop_map(Step::Remove),
        (0..4_u8, partition.clone(), 0..6_i32, 0..9_i64)
            .prop_map(|(topic, at, epoch, start)| Step::Enter(topic, at, epoch, start)),
        (0..4_u8, prop::option::of(partition)).prop_map(|(topic, at)| Step::Fail(topic, at)),
        (0..4_u8).prop_map(Step::Promote),
        (1..4_i32).prop_map(Step::Fence),
        (1..4_i32).prop_map(Step::Start),
    ]
}

fn names_of(index: u8) -> (String, String) {
    (format!("link-{index}"), format!("topic-{index}"))
}

fn take(cluster: &mut Cluster, at: usize, step: &Step) {
    let topic_id = |cluster: &Cluster, index: u8| {
        let topic = cluster.ledger.image().topic(&names_of(index).1);
        topic.map_or(Uuid::ZERO, |topic| topic.id)
    };
    let epoch = |cluster: &Cluster, index: u8, partition: i32| {
        let image = cluster.ledger.image();
        let state = image.partition(&names_of(index).1, partition);
        state.map_or(LeaderEpoch(0), |state| state.leader_epoch)
    };
    let link_id = |cluster: &Cluster, index: u8| {
        let link = cluster.ledger.image().link_by_name(&names_of(index).0);
        link.map_or(Uuid::ZERO, |link| link.id)
    };
    let link = |index: u8| names_of(index).0;
    let run = u8::try_from(at % 200).unwrap() + 10;
    let done = match step {
        Step::Link(index) => create_link(cluster, new_link(&link(*index), run)).map(|_| ()),
        Step::Pause(index, paused) => {
            let change = LinkChange {
                paused: Some(*paused),
                ..LinkChange::default()
            };
            alter_link(cluster, &link(*index), change)
        }
        Step::Delete(index, force) => delete_link(cluster, &link(*index), *force).map(|_| ()),
        Step::Learn(index, source) => {
            let request = LearnSource {
                link: link_id(cluster, *index),
                cluster_id: source.to_string(),
            };
            cluster.ask(Request::LearnSource(request)).map(|_| ())
        }
        Step::Mirror(index, of) => {
            let topic = NewTopic {
                partitions: 3,
                mirror: Some(NewMirror {
                    link: link_id(cluster, *of),
                    source_name: names_of(*index).1,
                    source_id: Uuid::ZERO,
                }),
                ..NewTopic::named(names_of(*index).1)
            };
            cluster.create(topic).map(|_| ())
        }
        Step::Plain(index) => cluster
            .create(NewTopic::named(names_of(*index).1))
            .map(|_| ()),
        Step::Remove(index) => {
            let topics = vec![TopicSelector::Name(names_of(*index).1)];
            let request = Request::DeleteTopics(DeleteTopics { topics });
            cluster.ask(request).map(|_| ())
        }
        Step::Enter(index, partition, source, start) => {
            let asked = EnterEpoch {
                partition: *partition,
                leader_epoch: epoch(cluster, *index, *partition),
                ..entering(topic_id(cluster, *index), 0, *source, *start)
            };
            enter(cluster, asked).map(|_| ())
        }
        Step::Fail(index, partition) => {
            let at = partition.map(|at| (at, epoch(cluster, *index, at)));
            let id = topic_id(cluster, *index);
            fail(cluster, id, at)
        }
        Step::Promote(index) => promote(cluster, None, Some(&[&names_of(*index).1])).map(|_| ()),
        Step::Fence(id) => {
            cluster.fence(*id);
            Ok(())
        }
        Step::Start(id) => {
            if !cluster
                .ledger
                .image()
                .broker(BrokerId(*id))
                .unwrap()
                .is_alive()
            {
                cluster.start(*id, run);
            }
            Ok(())
        }
    };
    // A refusal is an answer too; that it changed nothing is seen by the replay.
    let _ = done;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is asked: what is decided can be replayed, a snapshot holds it, and the difference
    /// of two images is what was told step by step.
    #[test]
    fn links_and_mirrors_replay_and_survive_snapshots(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut cluster = Cluster::of(3, "");
        for index in 0..3 {
            create_link(&mut cluster, new_link(&names_of(index).0, index + 1)).unwrap();
            create_mirror(&mut cluster, &names_of(index).1, index + 1).unwrap();
        }
        for (at, step) in steps.iter().enumerate() {
            let before = cluster.ledger.image().clone();
            let known = cluster.batches.len();
            take(&mut cluster, at, step);
            let after = cluster.ledger.image();
            let snapshot = ClusterImage::from_snapshot(after.end(), &after.to_records()).unwrap();
            prop_assert_eq!(&snapshot, after);
            let told = cluster.batches[known..].iter().fold(
                (BTreeSet::new(), BTreeSet::new(), before.clone()),
                |(mut links, mut mirrors, image), (end, records)| {
                    let (image, delta) = image.replay(*end, records).unwrap();
                    links.extend(delta.links);
                    mirrors.extend(delta.mirrors);
                    (links, mirrors, image)
                },
            );
            let between = ImageDelta::between(&before, after);
            prop_assert_eq!((between.links, between.mirrors), (told.0, told.1));
            for (id, mirror) in after.mirrors() {
                let topic = after.topic_by_id(id).unwrap();
                let is_linked = after.link(mirror.topic.link).is_some();
                prop_assert!(is_linked || !mirror.topic.is_read_only());
                for (since, state) in mirror.topic.since.iter().zip(&topic.partitions) {
                    prop_assert!(*since <= state.leader_epoch);
                    prop_assert!(*since > LeaderEpoch(0));
                }
            }
        }
        let brokers: Vec<BrokerId> = cluster.ledger.image().brokers().map(|one| one.id).collect();
        prop_assert_eq!(brokers.len(), 3);
    }
}
