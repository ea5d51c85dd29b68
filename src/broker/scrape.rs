//! Gathers what `/metrics` shows, at the moment it is asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Broker;
use super::metrics::{self, Samples, TopicCounters, as_f64};
use super::partitions::{HostedTopic, Table};
use crate::controller::MirrorState;

/// The text of `/metrics`.
pub async fn metrics_text(broker: &Arc<Broker>) -> Result<String, fmt::Error> {
    let table = broker.partitions.table();
    let mut samples = topic_counters(&table);
    samples.extend(partition_gauges(broker, &table));
    samples.extend(broker_gauges(broker, &table));
    samples.extend(group_gauges(broker, &table).await);
    samples.extend(mirror_gauges(broker, &table));
    samples.extend(disk_counters(broker));
    metrics::render(&broker.metrics, samples)
}

fn count(number: usize) -> f64 {
    as_f64(u64::try_from(number).unwrap_or(u64::MAX))
}

fn offset(number: i64) -> f64 {
    as_f64(u64::try_from(number).unwrap_or(0))
}

type Read = fn(&TopicCounters) -> &AtomicU64;

fn topic_counters(table: &Table) -> Vec<Samples> {
    let wanted: [(&'static str, &'static str, Read); 7] = [
        (
            "kafka_server_brokertopicmetrics_messagesin",
            "Records produced",
            |c| &c.messages_in,
        ),
        (
            "kafka_server_brokertopicmetrics_bytesin",
            "Bytes produced",
            |c| &c.bytes_in,
        ),
        (
            "kafka_server_brokertopicmetrics_bytesout",
            "Bytes fetched",
            |c| &c.bytes_out,
        ),
        (
            "kafka_server_brokertopicmetrics_totalproducerequests",
            "Batches produced",
            |c| &c.produce_requests,
        ),
        (
            "kafka_server_brokertopicmetrics_totalfetchrequests",
            "Reads of a partition",
            |c| &c.fetch_requests,
        ),
        (
            "kafka_server_brokertopicmetrics_failedproducerequests",
            "Batches refused",
            |c| &c.failed_produce_requests,
        ),
        (
            "kafka_server_brokertopicmetrics_failedfetchrequests",
            "Reads that failed",
            |c| &c.failed_fetch_requests,
        ),
    ];
    let topics = table.topics();
    let of_all = |(name, doc, read): (&'static str, &'static str, Read)| {
        let mut samples = Samples::counter(name, doc);
        for topic in &topics {
            let value = read(&topic.counters).load(Ordering::Relaxed);
            samples.push(vec![("topic", topic.name.to_string())], as_f64(value));
        }
        samples
    };
    wanted.into_iter().map(of_all).collect()
}

fn partition_gauges(broker: &Broker, table: &Table) -> Vec<Samples> {
    let mut size = Samples::gauge("kafka_log_log_size", "Bytes of the partition's log");
    let mut end = Samples::gauge(
        "kafka_topic_partition_current_offset",
        "The partition's high watermark",
    );
    let mut start = Samples::gauge(
        "kafka_topic_partition_oldest_offset",
        "The partition's log start offset",
    );
    let mut replicas = Samples::gauge(
        "kafka_topic_partition_replicas",
        "Replicas of the partition",
    );
    let mut in_sync = Samples::gauge(
        "kafka_topic_partition_in_sync_replica",
        "Replicas that are in sync",
    );
    let mut under_min = Samples::gauge(
        "kafka_cluster_partition_underminisr",
        "1 where fewer replicas are in sync than min.insync.replicas",
    );
    let image = broker.controller.image();
    for topic in table.topics() {
        for (partition, hosted) in &topic.partitions {
            let labels = vec![
                ("topic", topic.name.to_string()),
                ("partition", partition.to_string()),
            ];
            let reader = hosted.view.reader();
            size.push(labels.clone(), as_f64(reader.size_bytes()));
            end.push(labels.clone(), offset(hosted.view.high_watermark().0));
            start.push(labels.clone(), offset(reader.log_start_offset().0));
            let Some(state) = image.partition(&topic.name, *partition) else {
                continue;
            };
            replicas.push(labels.clone(), count(state.replicas.len()));
            in_sync.push(labels.clone(), count(state.isr.len()));
            let short = state.isr.len() < topic.config.min_insync_replicas;
            under_min.push(labels, f64::from(u8::from(short)));
        }
    }
    vec![size, end, start, replicas, in_sync, under_min]
}

fn broker_gauges(broker: &Broker, table: &Table) -> Vec<Samples> {
    let one = |name, doc, value| Samples::gauge(name, doc).with(Vec::new(), value);
    let topics = table.topics();
    let offline: usize = topics.iter().map(|topic| topic.offline.len()).sum();
    let mut partitions = Samples::gauge("kafka_topic_partitions", "Partitions of the topic");
    for topic in &topics {
        let labels = vec![("topic", topic.name.to_string())];
        partitions.push(labels, count(topic.partitions.len() + topic.offline.len()));
    }
    let info = vec![
        ("id", broker.config.node_id.to_string()),
        ("cluster_id", broker.log_dirs[0].meta.cluster_id.to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let hosted = count(table.partition_count());
    vec![
        partitions,
        Samples::gauge("kafka_broker_info", "This broker").with(info, 1.0),
        one(
            "kafka_server_replicamanager_leadercount",
            "Partitions led here",
            hosted,
        ),
        one(
            "kafka_server_replicamanager_partitioncount",
            "Partitions hosted here",
            hosted,
        ),
        one(
            "kafka_server_replicamanager_underreplicatedpartitions",
            "Led, not in sync",
            0.0,
        ),
        one(
            "kafka_controller_kafkacontroller_activecontrollercount",
            "1 on the controller",
            1.0,
        ),
        one(
            "kafka_controller_kafkacontroller_offlinepartitionscount",
            "Partitions whose log cannot be used",
            count(offline),
        ),
        one(
            "klamm_fetch_sessions",
            "Incremental fetch sessions",
            count(
                broker
                    .fetch_sessions
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .len(),
            ),
        ),
        one(
            "klamm_tail_cache_bytes",
            "Bytes of the newest batches kept in memory",
            count(broker.tail_cache.used_bytes()),
        ),
    ]
}

async fn group_gauges(broker: &Broker, table: &Table) -> Vec<Samples> {
    let mut committed = Samples::gauge(
        "kafka_consumergroup_current_offset",
        "Offset the group committed",
    );
    let mut lag = Samples::gauge(
        "kafka_consumergroup_lag",
        "Records not consumed by the group",
    );
    let mut members = Samples::gauge("kafka_consumergroup_members", "Members of the group");
    let mut states: BTreeMap<String, usize> = BTreeMap::new();
    for group in broker.groups.snapshot().await {
        *states.entry(group.state.to_string()).or_default() += 1;
        let id = group.group_id.as_str().to_owned();
        members.push(vec![("consumergroup", id.clone())], count(group.members));
        for (topic, partition, at) in &group.offsets {
            let labels = vec![
                ("consumergroup", id.clone()),
                ("topic", topic.as_str().to_owned()),
                ("partition", partition.to_string()),
            ];
            if let Some(end) = high_watermark(table.topic(topic), *partition) {
                lag.push(labels.clone(), offset((end - at.0).max(0)));
            }
            committed.push(labels, offset(at.0));
        }
    }
    let mut groups = Samples::gauge("klamm_consumer_groups", "Groups by state");
    for (state, number) in states {
        groups.push(vec![("state", state)], count(number));
    }
    vec![committed, lag, members, groups]
}

/// Of the mirrors that are led here and not promoted.
fn mirror_gauges(broker: &Broker, table: &Table) -> Vec<Samples> {
    let mut records = Samples::gauge(
        "klamm_mirror_lag_records",
        "Offsets the source was last seen to have that are not copied",
    );
    let mut seconds = Samples::gauge(
        "klamm_mirror_lag_seconds",
        "Time since the copy last had all that the source had",
    );
    let mut stopped = Samples::gauge(
        "klamm_mirror_stopped",
        "1 where nothing is copied until somebody chooses",
    );
    let image = broker.controller.image();
    let now = broker.env.wall();
    for (id, mirror) in image.mirrors() {
        let (Some(topic), true) = (table.topic_by_id(id), mirror.topic.is_read_only()) else {
            continue;
        };
        let is_failed = matches!(mirror.topic.state, MirrorState::Failed { .. });
        let link = image.link(mirror.topic.link);
        for (partition, hosted) in &topic.partitions {
            if !hosted.view.is_leader() {
                continue;
            }
            let labels = vec![
                (
                    "link",
                    link.map_or_else(String::new, |link| link.name.clone()),
                ),
                ("topic", topic.name.to_string()),
                ("partition", partition.to_string()),
            ];
            let known = mirror.partition(*partition);
            let is_stopped = is_failed || known.is_some_and(|known| known.fault.is_some());
            stopped.push(labels.clone(), f64::from(u8::from(is_stopped)));
            let status = broker.mirrors.get(id, *partition);
            let Some(status) = status.filter(|status| status.seen_at.0 >= 0) else {
                continue;
            };
            records.push(labels.clone(), offset(status.lag()));
            if let Some(millis) = status.lag_ms(now) {
                seconds.push(labels, offset(millis) / 1e3);
            }
        }
    }
    vec![records, seconds, stopped]
}

fn high_watermark(topic: Option<&Arc<HostedTopic>>, partition: i32) -> Option<i64> {
    Some(topic?.partitions.get(&partition)?.view.high_watermark().0)
}

fn disk_counters(broker: &Broker) -> Vec<Samples> {
    let Some(stats) = &broker.disk_stats else {
        return Vec::new();
    };
    let read = |counter: &AtomicU64| as_f64(counter.load(Ordering::Relaxed));
    let one = |name, doc, value| Samples::counter(name, doc).with(Vec::new(), value);
    vec![
        one(
            "klamm_disk_writes",
            "Vectored writes to logs",
            read(&stats.writes),
        ),
        one(
            "klamm_disk_written_bytes",
            "Bytes written to logs",
            read(&stats.write_bytes),
        ),
        one(
            "klamm_disk_syncs",
            "fdatasync calls",
            read(&stats.sync_calls),
        ),
        one(
            "klamm_disk_sync_seconds",
            "Time spent in fdatasync",
            read(&stats.sync_nanos) / 1e9,
        ),
    ]
}
