//! Klamm's own client against any cluster that speaks the Kafka protocol, named by `BOOTSTRAP`
//! (`host:port`). Without it these tests say so and pass.
#![allow(
    clippy::disallowed_methods,
    reason = "the environment says which cluster to test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use klamm::client::admin::{CommittedOffset, ConfigChange, ConfigResource, OffsetSpec, TopicSpec};
use klamm::client::{
    Admin, ClientConfig, ClientError, Consumer, ConsumerRecord, Isolation, Producer,
    ProducerRecord, RebalanceEvent,
};
use klamm::env::Env;
use klamm::types::{ErrorCode, Offset, Timestamp, TopicPartition};

/// Runs `body` with a cluster to test, or says that there is none.
fn with_cluster<F: Future<Output = ()>>(body: impl FnOnce(Fixture) -> F) {
    let Ok(servers) = std::env::var("BOOTSTRAP") else {
        eprintln!("skipped: BOOTSTRAP names no cluster");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let env = klamm::env::tokio::env(Default::default()).expect("an env");
        let clock = env.clone();
        let run = env.entropy.stream("test").u64();
        let fixture = Fixture { env, servers, run };
        let limit = Duration::from_secs(90);
        let done = clock.timeout(limit, body(fixture)).await;
        done.expect("the test ends in time");
    });
}

struct Fixture {
    env: Env,
    servers: String,
    run: u64,
}

impl Fixture {
    fn config(&self, pairs: &[(&str, &str)]) -> ClientConfig {
        let servers = [("bootstrap.servers", self.servers.as_str())];
        ClientConfig::from_pairs(servers.into_iter().chain(pairs.iter().copied()))
            .expect("valid settings")
    }

    fn admin(&self) -> Admin {
        Admin::new(&self.env, self.config(&[])).expect("settings")
    }

    fn producer(&self, pairs: &[(&str, &str)]) -> Producer {
        Producer::new(&self.env, self.config(pairs)).expect("settings")
    }

    fn consumer(&self, pairs: &[(&str, &str)]) -> Consumer {
        Consumer::new(&self.env, self.config(pairs)).expect("settings")
    }

    /// A topic of its own for this run.
    async fn topic(&self, name: &str, partitions: i32) -> String {
        let name = format!("klamm-client-{name}-{:x}", self.run);
        let mut spec = TopicSpec::new(&name);
        spec.partitions = Some(partitions);
        let created = self.admin().create_topics(&[spec], false).await;
        created.expect("an answer")[&name].clone().expect("created");
        name
    }
}

async fn read(consumer: &mut Consumer, count: usize) -> Vec<ConsumerRecord> {
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(
            consumer
                .poll(Duration::from_millis(500))
                .await
                .expect("records"),
        );
    }
    records
}

#[test]
fn records_of_every_codec_come_back_as_they_were_sent() {
    with_cluster(|at| async move {
        let topic = at.topic("codecs", 1).await;
        let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
        for (codec, acks) in codecs.iter().zip(["all", "1", "all", "0", "all"]) {
            let settings = [("compression.type", *codec), ("acks", acks)];
            let producer = at.producer(&settings);
            for n in 0..100 {
                let mut record = ProducerRecord::new(topic.as_str(), format!("{codec} {n}"));
                record.timestamp = Some(Timestamp(1_700_000_000_000 + n));
                record.headers = vec![("codec".into(), Some(Bytes::from(*codec)))];
                record.headers.push(("codec".into(), None));
                if n % 2 == 0 {
                    record = record.with_key(n.to_string());
                }
                let delivery = producer.send(record).await.expect("taken in");
                if n == 99 && acks != "0" {
                    let metadata = delivery.await.expect("acknowledged");
                    assert!(metadata.offset >= Some(Offset(99)), "{metadata:?}");
                }
            }
            producer.close(Duration::from_secs(30)).await;
        }
        let mut consumer = at.consumer(&[("isolation.level", "read_committed")]);
        let partition = TopicPartition::new(topic.as_str(), 0);
        consumer
            .assign(std::slice::from_ref(&partition))
            .expect("assigned");
        consumer
            .seek_to(&partition, OffsetSpec::Earliest)
            .expect("tracked");
        let records = read(&mut consumer, 500).await;
        for (at, record) in records.iter().enumerate() {
            let (codec, n) = (codecs[at / 100], at % 100);
            assert_eq!(record.offset, Offset(at as i64));
            assert_eq!(record.value, Some(Bytes::from(format!("{codec} {n}"))));
            assert_eq!(record.key, (n % 2 == 0).then(|| Bytes::from(n.to_string())));
            assert_eq!(record.timestamp, Timestamp(1_700_000_000_000 + n as i64));
            assert_eq!(record.headers.len(), 2);
            assert_eq!(record.headers[1], ("codec".into(), None));
        }
        assert_eq!(consumer.position(&partition), Some(Offset(500)));
        assert_eq!(consumer.high_watermark(&partition), Some(Offset(500)));
    });
}

#[test]
fn idempotent_records_of_many_partitions_arrive_once_and_in_order() {
    with_cluster(|at| async move {
        let topic = at.topic("order", 6).await;
        let producer = at.producer(&[("linger.ms", "0"), ("batch.size", "2000")]);
        let mut deliveries = Vec::new();
        for n in 0..20_000_u32 {
            let partition = (n % 6).cast_signed();
            let record = ProducerRecord::new(topic.as_str(), n.to_be_bytes().to_vec())
                .with_partition(partition);
            deliveries.push(producer.send(record).await.expect("taken in"));
        }
        producer.drain().await;
        for (n, delivery) in deliveries.into_iter().enumerate() {
            let metadata = delivery.await.expect("acknowledged");
            assert_eq!(metadata.offset, Some(Offset(n as i64 / 6)));
        }
        let mut consumer = at.consumer(&[("auto.offset.reset", "earliest")]);
        let all: Vec<_> = (0..6)
            .map(|p| TopicPartition::new(topic.as_str(), p))
            .collect();
        consumer.assign(&all).expect("assigned");
        let mut next = [0_u32, 1, 2, 3, 4, 5];
        for record in read(&mut consumer, 20_000).await {
            let place = record.partition.partition as usize;
            let value = record.value.expect("a value");
            assert_eq!(&value[..], next[place].to_be_bytes());
            next[place] += 6;
        }
    });
}

#[test]
fn members_share_a_group_and_the_rest_take_over_where_one_left() {
    for strategy in ["range", "roundrobin", "cooperative-sticky"] {
        with_cluster(|at| async move {
            let topic = at.topic(&format!("group-{strategy}"), 4).await;
            let group = format!("group-of-{topic}");
            let producer = at.producer(&[]);
            let settings = [
                ("group.id", group.as_str()),
                ("auto.offset.reset", "earliest"),
                ("partition.assignment.strategy", strategy),
                ("heartbeat.interval.ms", "200"),
            ];
            let mut first = at.consumer(&settings);
            let mut second = at.consumer(&settings);
            first.subscribe(&[topic.as_str()]).expect("a group");
            second.subscribe(&[topic.as_str()]).expect("a group");
            while first.assignment().len() != 2 || second.assignment().len() != 2 {
                first.poll(Duration::from_millis(100)).await.expect("poll");
                second.poll(Duration::from_millis(100)).await.expect("poll");
            }
            assert_eq!(first.generation(), second.generation());
            let shared: BTreeSet<_> = first.assignment().into_iter().collect();
            assert!(second.assignment().iter().all(|p| !shared.contains(p)));
            let mut seen: BTreeMap<Bytes, u32> = BTreeMap::new();
            for round in 0..2 {
                for n in 0..200 {
                    let value = format!("{round} {n}");
                    let record = ProducerRecord::new(topic.as_str(), value).with_key(n.to_string());
                    producer.send(record).await.expect("taken in");
                }
                producer.drain().await;
                let wanted = (round + 1) * 200;
                while seen.len() < wanted {
                    let mut records = first.poll(Duration::from_millis(50)).await.expect("poll");
                    if round == 0 {
                        let more = second.poll(Duration::from_millis(50)).await;
                        records.extend(more.expect("poll"));
                    }
                    for record in records {
                        *seen.entry(record.value.expect("a value")).or_default() += 1;
                    }
                }
                if round == 0 {
                    let leaving = at.consumer(&settings);
                    std::mem::replace(&mut second, leaving)
                        .close()
                        .await
                        .expect("left");
                }
            }
            assert!(seen.values().all(|count| *count == 1), "each record once");
            let events = first.take_rebalance_events();
            let lost = events
                .iter()
                .any(|event| matches!(event, RebalanceEvent::Lost(_)));
            assert!(!lost, "{events:?}");
            first.close().await.expect("left");
            let offsets = at
                .admin()
                .group_offsets(&group, None)
                .await
                .expect("an answer");
            let sum: i64 = offsets
                .values()
                .map(|o| o.as_ref().expect("an offset").offset.0)
                .sum();
            assert_eq!(sum, 400);
        });
    }
}

#[test]
fn topics_are_created_described_changed_grown_and_deleted() {
    with_cluster(|at| async move {
        let admin = at.admin();
        let topic = at.topic("admin", 2).await;
        let again = admin
            .create_topics(&[TopicSpec::new(&topic)], false)
            .await
            .expect("answer");
        let error = again[&topic].as_ref().expect_err("it exists");
        assert_eq!(error.code, ErrorCode::TopicAlreadyExists);
        let resource = ConfigResource::topic(&topic);
        let set = ConfigChange::Set("12345678".to_owned());
        let change = BTreeMap::from([("retention.ms".to_owned(), set)]);
        let changes = BTreeMap::from([(resource.clone(), change)]);
        let altered = admin.alter_configs(&changes, false).await.expect("answer");
        assert_eq!(altered[&resource], Ok(()));
        let totals = BTreeMap::from([(topic.clone(), 3)]);
        let grown = admin
            .create_partitions(&totals, false)
            .await
            .expect("answer");
        assert_eq!(grown[&topic], Ok(()));
        // Changes reach every broker a moment later.
        let described = loop {
            let names = [topic.clone(), "klamm-no-such-topic".to_owned()];
            let topics = admin.describe_topics(&names).await.expect("answer");
            let absent = topics["klamm-no-such-topic"].as_ref().expect_err("absent");
            assert_eq!(absent.code, ErrorCode::UnknownTopicOrPartition);
            let view = topics[&topic].clone().expect("present");
            if view.partitions.len() == 3 {
                break view;
            }
        };
        assert!(!described.id.is_zero());
        let configs = admin
            .describe_configs(std::slice::from_ref(&resource))
            .await;
        let entries = configs.expect("answer")[&resource]
            .clone()
            .expect("described");
        let retention = entries.iter().find(|entry| entry.name == "retention.ms");
        let retention = retention.expect("a known config");
        assert_eq!(retention.value.as_deref(), Some("12345678"));
        assert_eq!(retention.source, "DYNAMIC_TOPIC_CONFIG");
        assert!(
            admin
                .list_topics()
                .await
                .expect("answer")
                .contains_key(topic.as_str())
        );
        let cluster = admin.describe_cluster().await.expect("answer");
        assert!(cluster.cluster_id.is_some() && !cluster.brokers.is_empty());
        for ranges in admin.api_versions().await.expect("answer").into_values() {
            assert!(ranges.expect("reachable").contains_key(&18));
        }
        for dirs in admin
            .describe_log_dirs(&[])
            .await
            .expect("answer")
            .into_values()
        {
            assert!(dirs.values().all(Result::is_ok));
        }
        let deleted = admin
            .delete_topics(std::slice::from_ref(&topic))
            .await
            .expect("answer");
        assert_eq!(deleted[&topic], Ok(()));
    });
}

#[test]
fn offsets_are_found_deleted_committed_and_reset() {
    with_cluster(|at| async move {
        let admin = at.admin();
        let topic = at.topic("offsets", 1).await;
        let producer = at.producer(&[]);
        for n in 0..10 {
            let mut record = ProducerRecord::new(topic.as_str(), "x");
            record.timestamp = Some(Timestamp(1_700_000_000_000 + n * 1000));
            producer.send(record).await.expect("taken in");
        }
        producer.drain().await;
        let partition = TopicPartition::new(topic.as_str(), 0);
        for (spec, offset) in [
            (OffsetSpec::Earliest, Some(0)),
            (OffsetSpec::Latest, Some(10)),
            (OffsetSpec::At(Timestamp(1_700_000_003_500)), Some(4)),
            (OffsetSpec::At(Timestamp(1_700_000_999_999)), None),
            (OffsetSpec::MaxTimestamp, Some(9)),
        ] {
            let wanted = BTreeMap::from([(partition.clone(), spec)]);
            let found = admin
                .list_offsets(&wanted, Isolation::ReadUncommitted)
                .await;
            let found = found.expect("answer")[&partition].clone().expect("found");
            assert_eq!(found.offset, offset.map(Offset), "{spec:?}");
        }
        let below = BTreeMap::from([(partition.clone(), Offset(3))]);
        let deleted = admin.delete_records(&below).await.expect("answer");
        assert_eq!(deleted[&partition], Ok(Offset(3)));
        let group = format!("group-of-{topic}");
        let offsets = BTreeMap::from([(partition.clone(), CommittedOffset::at(Offset(1)))]);
        let set = admin
            .set_group_offsets(&group, &offsets)
            .await
            .expect("answer");
        assert_eq!(set[&partition], Ok(()));
        assert!(
            admin
                .list_groups(&[])
                .await
                .expect("answer")
                .contains_key(&group)
        );
        let settings = [
            ("group.id", group.as_str()),
            ("auto.offset.reset", "earliest"),
        ];
        let mut consumer = at.consumer(&settings);
        consumer
            .assign(std::slice::from_ref(&partition))
            .expect("assigned");
        let records = read(&mut consumer, 7).await;
        assert_eq!(
            records[0].offset,
            Offset(3),
            "1 is out of range: reset by policy"
        );
        consumer.commit().await.expect("committed");
        let committed = consumer.committed(std::slice::from_ref(&partition)).await;
        assert_eq!(committed.expect("answer")[&partition].offset, Offset(10));
        consumer.close().await.expect("closed");
        let partitions = [partition.clone()];
        let deleted = admin
            .delete_group_offsets(&group, &partitions)
            .await
            .expect("answer");
        assert_eq!(deleted[&partition], Ok(()));
        let described = admin.describe_groups(std::slice::from_ref(&group)).await;
        let described = described.expect("answer")[&group].clone();
        assert!(described.is_ok_and(|group| group.members.is_empty()));
        let deleted = admin
            .delete_groups(std::slice::from_ref(&group))
            .await
            .expect("answer");
        assert_eq!(deleted[&group], Ok(()));
    });
}

#[test]
fn what_cannot_be_sent_says_why() {
    with_cluster(|at| async move {
        let topic = at.topic("refused", 1).await;
        let producer = at.producer(&[("max.block.ms", "1500")]);
        let large = ProducerRecord::new(topic.as_str(), vec![0; 2 << 20]);
        let error = producer.send(large).await.expect_err("too large");
        assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge));
        let absent = ProducerRecord::new(topic.as_str(), "x").with_partition(7);
        let error = producer.send(absent).await.expect_err("no such partition");
        assert!(matches!(error, ClientError::Missing { .. }));
        let invalid = ProducerRecord::new("not a topic name", "x");
        let error = producer
            .send(invalid)
            .await
            .expect_err("no topic can have this name");
        assert_eq!(error.code(), Some(ErrorCode::InvalidTopicException));
    });
}
