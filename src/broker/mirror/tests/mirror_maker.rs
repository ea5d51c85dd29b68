//! Links that name their mirrors as MirrorMaker 2 does: who copies what from whom, and what is
//! told beside.

use std::collections::BTreeSet;

use super::*;
use crate::client::{Consumer, ConsumerRecord};
use crate::controller::{MirrorMaker, ReplicationPolicy};
use crate::mirror::{Note, Translated, checkpoint, offset_sync};

fn named(policy: ReplicationPolicy, alias: &str) -> LinkMode {
    LinkMode::MirrorMaker(MirrorMaker {
        policy,
        separator: ".".to_owned(),
        alias: alias.to_owned(),
        source_heartbeats: false,
    })
}

async fn linked(target: &One, source: (&str, &One), mode: LinkMode, topics: &str, groups: &str) {
    let (name, source) = source;
    let mut id = [0; 16];
    id[..name.len()].copy_from_slice(name.as_bytes());
    let link = NewLink {
        id: Uuid(id),
        name: name.to_owned(),
        bootstrap: vec![source.address()],
        mode,
        topics: vec![topics.to_owned()],
        groups: groups.split_whitespace().map(str::to_owned).collect(),
        bytes_per_second: 0,
        replication_factor: -1,
    };
    let request = CreateLink {
        link,
        validate_only: false,
    };
    let made = target.broker.controller.create_link(request).await;
    made.expect("a link");
}

/// Names of topics that are not internal to brokers.
fn topics(of: &One) -> BTreeSet<String> {
    let image = of.broker.controller.image();
    let names = image.topics().map(|topic| topic.name.to_string());
    names.filter(|name| !name.starts_with("__")).collect()
}

async fn until_topics(of: &One, wanted: &[&str]) {
    let wanted: BTreeSet<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    while !topics(of).is_superset(&wanted) {
        of.env.sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a topic of one partition holds that.
async fn until_told(of: &One, topic: &str, note: &Note) {
    let partition = TopicPartition::new(topic, 0);
    let mut consumer = Consumer::new(&of.env, of.client(&[])).expect("settings");
    let all = [partition.clone()];
    consumer.assign(&all).expect("assigned");
    consumer.seek(&partition, Offset::ZERO).expect("there");
    loop {
        let records = consumer.poll(Duration::from_millis(100)).await;
        let records = records.expect("polled");
        let is_it = |one: &ConsumerRecord| {
            one.key.as_ref() == Some(&note.key) && one.value.as_ref() == Some(&note.value)
        };
        if records.iter().any(is_it) {
            return;
        }
    }
}

/// Both write to topics of one name, and each has the other's beside its own.
#[test]
fn two_clusters_have_each_others_topics_and_none_of_their_own_comes_back() {
    run_test(|env, dir| async move {
        let west = One::start(&env, &dir.join("west")).await;
        let east = One::start(&env, &dir.join("east")).await;
        for one in [&west, &east] {
            one.create("orders", 1, &[]).await;
        }
        write(&producer(&west, &[]), "orders", 0, 0..20).await;
        write(&producer(&east, &[]), "orders", 0, 100..110).await;
        let of = |alias| named(ReplicationPolicy::Default, alias);
        linked(&east, ("west", &west), of("east"), "*", "*").await;
        linked(&west, ("east", &east), of("west"), "*", "*").await;
        until_copied((&west.broker, "orders"), (&east.broker, "west.orders"), 0).await;
        until_copied((&east.broker, "orders"), (&west.broker, "east.orders"), 0).await;
        // Each one's heartbeats go to the other, and no further.
        until_topics(&east, &["heartbeats", "west.heartbeats"]).await;
        until_topics(&west, &["heartbeats", "east.heartbeats"]).await;
        env.sleep(Duration::from_millis(500)).await;
        let wanted = |other: &str| -> BTreeSet<String> {
            let mut names: BTreeSet<String> = ["orders", "heartbeats"].map(str::to_owned).into();
            names.insert(format!("{other}.orders"));
            names.insert(format!("{other}.heartbeats"));
            names.insert(format!("{other}.checkpoints.internal"));
            names.insert(format!("mm2-offset-syncs.{other}.internal"));
            names
        };
        assert_eq!(topics(&east), wanted("west"));
        assert_eq!(topics(&west), wanted("east"));
        let status = east.broker.mirrors.link(Uuid({
            let mut id = [0; 16];
            id[..4].copy_from_slice(b"west");
            id
        }));
        let skipped = status.expect("looked after").skipped;
        assert!(skipped.contains_key("east.orders"), "{skipped:?}");
        checkpoints_are_told(&west, &east).await;
    });
}

/// What a group committed in the west is told in the east, where its records have another name.
async fn checkpoints_are_told(west: &One, east: &One) {
    let there = TopicPartition::new("orders", 0);
    let here = TopicPartition::new("west.orders", 0);
    let offsets = [(there.clone(), CommittedOffset::at(Offset(7)))].into();
    let admin = west.admin();
    let set = admin.set_group_offsets("billing", &offsets).await;
    assert_eq!(set.expect("answered")[&there], Ok(()));
    let told = Translated {
        upstream: Offset(7),
        downstream: Offset(7),
    };
    let note = checkpoint(&("billing".to_owned(), here.clone()), told);
    until_told(east, "west.checkpoints.internal", &note).await;
    let note = offset_sync(&there, Offset(20));
    until_told(east, "mm2-offset-syncs.west.internal", &note).await;
    loop {
        let known = east.admin().group_offsets("billing", None).await;
        let known = known.expect("answered");
        let found = known.get(&here).and_then(|one| one.as_ref().ok());
        if found.is_some_and(|found| found.offset == Offset(7)) {
            break;
        }
        east.env.sleep(Duration::from_millis(20)).await;
    }
}

/// Each of three copies all that both others have, what those copied included.
#[test]
fn among_three_clusters_every_record_goes_everywhere_and_never_home() {
    run_test(|env, dir| async move {
        let names = ["a", "b", "c"];
        let mut all = Vec::new();
        for name in names {
            let one = One::start(&env, &dir.join(name)).await;
            one.create("orders", 1, &[]).await;
            write(&producer(&one, &[]), "orders", 0, 0..5).await;
            all.push((name, one));
        }
        for (name, target) in &all {
            for (other, source) in all.iter().filter(|(other, _)| other != name) {
                let mode = named(ReplicationPolicy::Default, name);
                linked(target, (*other, source), mode, "*orders", "").await;
            }
        }
        for (name, one) in &all {
            let others = names.iter().filter(|other| *other != name);
            let [x, y] = others.collect::<Vec<_>>()[..] else {
                panic!("two others");
            };
            let wanted = [
                "orders".to_owned(),
                format!("{x}.orders"),
                format!("{y}.orders"),
                format!("{x}.{y}.orders"),
                format!("{y}.{x}.orders"),
            ];
            until_topics(one, &wanted.each_ref().map(String::as_str)).await;
            for topic in &wanted[1..] {
                while batches(&one.broker, topic, 0).await.1 < Offset(5) {
                    env.sleep(Duration::from_millis(20)).await;
                }
            }
        }
        env.sleep(Duration::from_millis(500)).await;
        for (name, one) in &all {
            for topic in topics(one).iter().filter(|topic| topic.ends_with("orders")) {
                let path: Vec<&str> = topic.split('.').collect();
                let distinct: BTreeSet<&str> = path.iter().copied().collect();
                assert!(
                    !path.contains(name) && distinct.len() == path.len(),
                    "{topic}"
                );
                assert_eq!(batches(&one.broker, topic, 0).await.1, Offset(5), "{topic}");
            }
        }
    });
}

/// Under one name the topic stays where it is written.
#[test]
fn under_one_name_a_mirror_is_not_copied_back() {
    run_test(|env, dir| async move {
        let west = One::start(&env, &dir.join("west")).await;
        let east = One::start(&env, &dir.join("east")).await;
        west.create("orders", 1, &[]).await;
        east.create("clicks", 1, &[]).await;
        write(&producer(&west, &[]), "orders", 0, 0..20).await;
        write(&producer(&east, &[]), "clicks", 0, 0..20).await;
        let of = |alias| named(ReplicationPolicy::Identity, alias);
        linked(&east, ("west", &west), of("east"), "*", "").await;
        linked(&west, ("east", &east), of("west"), "*", "").await;
        until_copied((&west.broker, "orders"), (&east.broker, "orders"), 0).await;
        until_copied((&east.broker, "clicks"), (&west.broker, "clicks"), 0).await;
        until_topics(&east, &["west.heartbeats"]).await;
        until_topics(&west, &["east.heartbeats"]).await;
        let image = west.broker.controller.image();
        let orders = image.topic("orders").expect("its own");
        assert!(image.mirror(orders.id).is_none());
    });
}
