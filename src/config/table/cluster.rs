//! Replication and the controller quorum.

use super::{BOOLEAN, Kind, LIST, Setting, TEXT, int, long, settings};

pub(super) const SETTINGS: &[Setting] = settings! {
    "num.replica.fetchers" int(1), Some("1"), ClusterWide NotYet,
        "Connections used to copy from one leader.";
    "replica.lag.time.max.ms" long(0), Some("30000"), ReadOnly Works,
        "Time behind its leader after which a replica is out of sync.";
    "replica.fetch.max.bytes" int(0), Some("1048576"), ReadOnly Works,
        "Bytes a follower asks for, for one partition.";
    "replica.fetch.min.bytes" int(0), Some("1"), ReadOnly Works,
        "Bytes a leader waits for before it answers a follower.";
    "replica.fetch.response.max.bytes" int(0), Some("10485760"), ReadOnly Works,
        "Bytes a follower asks for, in all.";
    "replica.fetch.wait.max.ms" int(0), Some("500"), ReadOnly Works,
        "Longest a follower's fetch waits for data.";
    "replica.fetch.backoff.ms" int(0), Some("1000"), ReadOnly Works,
        "Pause after a failed fetch.";
    "replica.socket.timeout.ms" int(0), Some("30000"), ReadOnly Works,
        "Time allowed for a follower's request.";
    "replica.socket.receive.buffer.bytes" int(-1), Some("65536"), ReadOnly NotYet,
        "Receive buffer of a follower's socket.";
    "replica.high.watermark.checkpoint.interval.ms" long(0), Some("5000"), ReadOnly Silent,
        "Kafka's interval for its high watermark checkpoint.";
    "replica.selector.class" Kind::Class, None, ReadOnly NotYet,
        "How a replica for a reader is chosen.";
    "auto.leader.rebalance.enable" BOOLEAN, Some("true"), ReadOnly Works,
        "Whether leadership goes back to preferred replicas by itself.";
    "leader.imbalance.check.interval.seconds" long(1), Some("300"), ReadOnly Works,
        "Time between two looks at the balance of leaders.";
    "leader.imbalance.per.broker.percentage" int(0), Some("10"), ReadOnly Works,
        "Imbalance of leaders that is left alone.";
    "leader.replication.throttled.rate" long(0), Some("9223372036854775807"), PerBroker NotYet,
        "Bytes a second served to throttled followers.";
    "follower.replication.throttled.rate" long(0), Some("9223372036854775807"), PerBroker NotYet,
        "Bytes a second fetched by throttled followers.";
    "controller.quorum.voters" LIST, Some(""), ReadOnly Works,
        "The controllers that found the cluster, as id@host:port, the same on every node. A node \
         whose settings name no other keeps its metadata alone.";
    "controller.quorum.bootstrap.servers" LIST, Some(""), ReadOnly Works,
        "Controller listeners, as host:port, at which a node asks for the cluster it joins.";
    "controller.quorum.auto.join.enable" BOOLEAN, Some("false"), ReadOnly NotYet,
        "Whether a new controller becomes a voter by itself.";
    "controller.quorum.election.timeout.ms" int(50), Some("400"), ReadOnly Works,
        "Longest wait of a candidate for votes. Kafka's default is 1000.";
    "controller.quorum.fetch.timeout.ms" int(50), Some("600"), ReadOnly Works,
        "Time without word from the leader after which a voter stands for election: short enough \
         to elect in well under a second, and long enough not to do so because two busy cores \
         kept a leader waiting. A leader whose process ended is noticed at once, whatever this \
         says. Kafka's default is 2000.";
    "controller.quorum.election.backoff.max.ms" int(0), Some("1000"), ReadOnly Silent,
        "Longest pause after a tied election.";
    "controller.quorum.request.timeout.ms" int(0), Some("2000"), ReadOnly Works,
        "Time allowed for a request between voters.";
    "controller.quorum.append.linger.ms" int(0), Some("25"), ReadOnly Silent,
        "Time metadata records are collected before they are written.";
    "controller.quorum.retry.backoff.ms" int(0), Some("20"), ReadOnly Silent,
        "Pause before a request between voters is tried again.";
    "broker.heartbeat.interval.ms" int(1), Some("500"), ReadOnly Works,
        "Time between a broker's heartbeats. Kafka's default is 2000.";
    "broker.session.timeout.ms" int(1), Some("3000"), ReadOnly Works,
        "Time without heartbeat after which a broker is fenced. One whose process ended is fenced \
         at once, whatever this says. Kafka's default is 9000.";
    "initial.broker.registration.timeout.ms" int(1), Some("60000"), ReadOnly Works,
        "Time a starting broker tries to register before it gives up and stops.";
    "metadata.log.dir" TEXT, None, ReadOnly NotYet,
        "Directory of the metadata log; the first of log.dirs if unset.";
    "metadata.log.segment.bytes" int(1024), Some("1073741824"), ReadOnly Silent,
        "Segment size of Kafka's metadata log.";
    "metadata.log.segment.ms" long(1), Some("604800000"), ReadOnly Silent,
        "Segment age of Kafka's metadata log.";
    "metadata.log.max.record.bytes.between.snapshots" long(1), Some("20971520"), ReadOnly Works,
        "Bytes of metadata records after which a snapshot is written.";
    "klamm.mirror.discovery.interval.ms" int(10), Some("5000"), ReadOnly Works,
        "Time between two looks at which topics and settings the source of a link has, and at what \
         groups committed there.";
    "klamm.metadata.log.kept.entries" long(0), Some("500"), ReadOnly Works,
        "Entries of the metadata log kept besides a snapshot, for nodes that are a little behind; \
         those that lack older ones get the snapshot.";
    "metadata.log.max.snapshot.interval.ms" long(0), Some("3600000"), ReadOnly NotYet,
        "Time after which a snapshot of the metadata is written.";
    "metadata.max.retention.bytes" long(-1), Some("104857600"), ReadOnly NotYet,
        "Size of the metadata log and its snapshots.";
    "metadata.max.retention.ms" long(-1), Some("604800000"), ReadOnly NotYet,
        "Age of metadata segments and snapshots.";
    "metadata.max.idle.interval.ms" int(0), Some("500"), ReadOnly Silent,
        "Interval of Kafka's empty metadata records.";
};
