//! Consumer groups, their offsets, and transactions.

use super::{BOOLEAN, Kind, Setting, int, int_to, long, settings, short};

const PROTOCOLS: Kind = Kind::List(&["classic", "consumer", "share", "streams"]);
const MIGRATION: Kind = Kind::Text(&["disabled", "upgrade", "downgrade", "bidirectional"]);

pub(super) const SETTINGS: &[Setting] = settings! {
    "group.initial.rebalance.delay.ms" int(0), Some("3000"), ReadOnly Works,
        "How long a new group waits for more members before its first rebalance.";
    "group.min.session.timeout.ms" int(1), Some("6000"), ReadOnly Works,
        "Shortest session a member may ask for.";
    "group.max.session.timeout.ms" int(1), Some("1800000"), ReadOnly Works,
        "Longest session a member may ask for.";
    "group.max.size" int(1), Some("2147483647"), ReadOnly Works,
        "Most members a group may have.";
    "group.coordinator.rebalance.protocols" PROTOCOLS,
        Some("classic"), ReadOnly NotYet,
        "Group protocols served. Only classic in this version.";
    "group.coordinator.threads" int(1), Some("4"), ReadOnly Silent,
        "Kafka's coordinator threads.";
    "group.coordinator.append.linger.ms" int(-1), Some("-1"), ReadOnly NotYet,
        "Time coordinator records are collected before they are written; -1 adapts.";
    "group.consumer.session.timeout.ms" int(1), Some("45000"), ReadOnly NotYet,
        "Session of a member of the consumer protocol.";
    "group.consumer.min.session.timeout.ms" int(1), Some("45000"), ReadOnly NotYet,
        "Shortest session of a member of the consumer protocol.";
    "group.consumer.max.session.timeout.ms" int(1), Some("60000"), ReadOnly NotYet,
        "Longest session of a member of the consumer protocol.";
    "group.consumer.heartbeat.interval.ms" int(1), Some("5000"), ReadOnly NotYet,
        "Heartbeat interval of the consumer protocol.";
    "group.consumer.min.heartbeat.interval.ms" int(1), Some("5000"), ReadOnly NotYet,
        "Shortest heartbeat interval of the consumer protocol.";
    "group.consumer.max.heartbeat.interval.ms" int(1), Some("15000"), ReadOnly NotYet,
        "Longest heartbeat interval of the consumer protocol.";
    "group.consumer.max.size" int(1), Some("2147483647"), ReadOnly NotYet,
        "Most members of a group of the consumer protocol.";
    "group.consumer.assignors" Kind::List(&[]), Some("uniform,range"), ReadOnly NotYet,
        "Assignors of the consumer protocol, the default first.";
    "group.consumer.migration.policy" MIGRATION,
        Some("bidirectional"), ReadOnly NotYet,
        "Which way groups may change between protocols.";
    "group.consumer.assignment.interval.ms" int(0), Some("1000"), ReadOnly NotYet,
        "Least time between two assignments of a group.";
    "offsets.topic.num.partitions" int(1), Some("50"), ReadOnly Works,
        "Partitions of the topic that holds committed offsets; never changed after it exists.";
    "offsets.topic.replication.factor" short(1), Some("3"), ReadOnly Works,
        "Replicas of the topic that holds committed offsets; fewer while fewer brokers are alive.";
    "offsets.topic.segment.bytes" int(4096), Some("104857600"), ReadOnly Works,
        "Segment size of the topic that holds committed offsets.";
    "offsets.topic.compression.codec" int_to(0, 4), Some("0"), ReadOnly NotYet,
        "Codec of the topic that holds committed offsets.";
    "offsets.load.buffer.size" int(1), Some("5242880"), ReadOnly Silent,
        "Kafka's buffer for loading offsets.";
    "offsets.commit.timeout.ms" int(1), Some("5000"), ReadOnly Silent,
        "Longest an offset commit waits for its replicas.";
    "offsets.retention.minutes" int(1), Some("10080"), ReadOnly Works,
        "Time an empty group's offsets are kept.";
    "offsets.retention.check.interval.ms" long(1), Some("600000"), ReadOnly Works,
        "Time between two looks for offsets that are too old.";
    "offset.metadata.max.bytes" int(0), Some("4096"), ReadOnly Works,
        "Longest text that may go with a committed offset.";
    "transaction.state.log.num.partitions" int(1), Some("50"), ReadOnly NotYet,
        "Partitions of the topic that holds the state of transactions.";
    "transaction.state.log.replication.factor" short(1), Some("3"), ReadOnly NotYet,
        "Replicas of the topic that holds the state of transactions.";
    "transaction.state.log.min.isr" int(1), Some("2"), ReadOnly NotYet,
        "In-sync replicas the transaction topic needs.";
    "transaction.state.log.segment.bytes" int(4096), Some("104857600"), ReadOnly NotYet,
        "Segment size of the transaction topic.";
    "transaction.state.log.load.buffer.size" int(1), Some("5242880"), ReadOnly Silent,
        "Kafka's buffer for loading transactions.";
    "transaction.max.timeout.ms" int(1), Some("900000"), ReadOnly NotYet,
        "Longest time-out a transaction may ask for.";
    "transactional.id.expiration.ms" int(1), Some("604800000"), ReadOnly NotYet,
        "Time after which an unused transactional id is forgotten.";
    "transaction.abort.timed.out.transaction.cleanup.interval.ms" int(1), Some("10000"),
        ReadOnly NotYet, "Time between two looks for transactions past their time-out.";
    "transaction.remove.expired.transaction.cleanup.interval.ms" int(1), Some("3600000"),
        ReadOnly NotYet, "Time between two looks for forgotten transactional ids.";
    "transaction.partition.verification.enable" BOOLEAN, Some("true"), ClusterWide NotYet,
        "Whether a partition is checked to be in the transaction before it is written.";
    "add.partitions.to.txn.retry.backoff.ms" int(0), Some("20"), ReadOnly NotYet,
        "Pause before a partition is added to a transaction again.";
};
