//! Identity, listeners, threads, sockets, and what only Klamm has.

use super::{BOOLEAN, LIST, Setting, TEXT, int, int_to, long, settings};
use crate::config::kind::Kind;

const PROTOCOLS: Kind = Kind::Text(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]);

pub(super) const SETTINGS: &[Setting] = settings! {
    "process.roles" Kind::List(&["broker", "controller"]),
        Some("broker,controller"), ReadOnly Works,
        "Parts this node plays: broker holds partitions and serves clients, controller runs the \
         cluster's metadata.";
    "node.id" int(0), Some("1"), ReadOnly Works,
        "Number of this node in its cluster; kept in the data directory and never changed.";
    "broker.id" int(-1), None, ReadOnly Works,
        "Older name of node.id, used when that is not given.";
    "cluster.id" TEXT, None, ReadOnly Works,
        "Id for a cluster that is being made new (22 characters of URL-safe base64); random if \
         unset.";
    "broker.rack" TEXT, None, ReadOnly Works,
        "Rack or zone of this node; clients with the same rack may read from it.";
    "listeners" LIST, Some("PLAINTEXT://:9092"), ReadOnly Works,
        "Addresses to accept clients on, as NAME://host:port; an empty host means every interface.";
    "advertised.listeners" LIST, None, ReadOnly Works,
        "Addresses clients are told to connect to. Unset: the address each client dialled, or in a \
         cluster the host by which controller.quorum.voters knows this node.";
    "listener.security.protocol.map" LIST,
        Some("PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL"),
        ReadOnly Works, "Security protocol of each listener name, as NAME:PROTOCOL.";
    "inter.broker.listener.name" TEXT, None, ReadOnly Works,
        "Listener that other brokers use; the first one if unset.";
    "security.inter.broker.protocol" PROTOCOLS,
        Some("PLAINTEXT"), ReadOnly NotYet,
        "Protocol between brokers when no listener name is given.";
    "controller.listener.names" LIST, None, ReadOnly Works,
        "Names of the listeners for the other nodes; not opened while this node is its whole \
         cluster.";
    "log.dirs" LIST, None, ReadOnly Works,
        "Data directories; log.dir if unset.";
    "log.dir" TEXT, Some("klamm-data"), ReadOnly Works,
        "Data directory, used when log.dirs is not given. Relative to the working directory.";
    "cordoned.log.dirs" LIST, Some(""), ClusterWide NotYet,
        "Data directories that get no new partitions.";

    "num.network.threads" int(1), Some("3"), ClusterWide Silent,
        "Kafka's network threads; Klamm sizes its own pool (klamm.worker.threads).";
    "num.io.threads" int(1), Some("8"), ClusterWide Silent,
        "Kafka's request threads; Klamm sizes its own pool (klamm.worker.threads).";
    "background.threads" int(1), Some("10"), ClusterWide Silent,
        "Kafka's threads for background work; background work is tasks here.";
    "num.recovery.threads.per.data.dir" int(1), Some("2"), ClusterWide Silent,
        "Partitions of one data directory recovered at once on start.";
    "socket.send.buffer.bytes" int(-1), Some("102400"), ReadOnly Silent,
        "Send buffer of a client's socket; -1 leaves it to the operating system.";
    "socket.receive.buffer.bytes" int(-1), Some("102400"), ReadOnly Silent,
        "Receive buffer of a client's socket; -1 leaves it to the operating system.";
    "socket.request.max.bytes" int(1), Some("104857600"), ReadOnly Works,
        "Largest request accepted; a larger one closes its connection.";
    "socket.listen.backlog.size" int(1), Some("50"), ReadOnly Silent,
        "Connections waiting to be accepted.";
    "queued.max.requests" int(1), Some("500"), ReadOnly Silent,
        "Requests waiting or running before the node stops reading from sockets.";
    "queued.max.request.bytes" long(-1), Some("-1"), ReadOnly Works,
        "Memory of batches received and not written yet; connections that bring more wait. -1 \
         means 32 MiB.";
    "max.connections" int(0), Some("2147483647"), ClusterWide Works,
        "Client connections open at once.";
    "max.connections.per.ip" int(0), Some("2147483647"), ClusterWide Works,
        "Client connections open at once from one address.";
    "max.connections.per.ip.overrides" TEXT, Some(""), ClusterWide NotYet,
        "Connection limits of single addresses, as host:limit.";
    "max.connection.creation.rate" int(0), Some("2147483647"), ClusterWide NotYet,
        "New connections a second.";
    "connections.max.idle.ms" long(-1), Some("600000"), ReadOnly Works,
        "A connection without a request for this long is closed; -1 never.";
    "connection.failed.authentication.delay.ms" int(0), Some("100"), ReadOnly NotYet,
        "Delay before a connection that failed to authenticate is closed.";
    "request.timeout.ms" int(0), Some("30000"), ReadOnly Silent,
        "Longest wait for another node's answer.";
    "max.incremental.fetch.session.cache.slots" int(0), Some("1000"), ReadOnly Works,
        "Incremental fetch sessions remembered; 0 turns them off.";
    "fetch.max.bytes" int(1024), Some("57671680"), ReadOnly Works,
        "Most bytes one fetch is answered with, unless a single batch is larger.";
    "max.request.partition.size.limit" int(1), Some("2000"), ReadOnly Works,
        "Most partitions one page of DescribeTopicPartitions holds.";
    "controlled.shutdown.enable" BOOLEAN, Some("true"), ReadOnly Works,
        "Whether a stopping node hands over its partitions first.";

    "klamm.durability" Kind::Text(&["fsync", "replicated"]), Some("fsync"), ClusterWide Works,
        "When an acks=all write is acknowledged: fsync = in-sync replicas have it on disk; \
         replicated = they have it in memory. Topics may differ.";
    "klamm.admin.listener" TEXT, Some(":9644"), ReadOnly Works,
        "Address of health checks and metrics, as host:port; empty turns it off.";
    "klamm.tail.cache.bytes" long(0), Some("16777216"), ReadOnly Works,
        "Memory for recently written batches, so that live readers do not touch the disk.";
    "klamm.fetch.piece.bytes" int(1), Some("524288"), ReadOnly Works,
        "Bytes of stored batches that are read at once for a consumer or follower: an answer that \
         holds more is sent piece by piece as it is read.";
    "klamm.log.recovery.point.interval.bytes" long(1), Some("33554432"), ReadOnly Works,
        "Bytes of log after which a place is saved from which on a start after a crash reads it.";
    "klamm.worker.threads" int_to(0, 1024), Some("0"), ReadOnly Works,
        "Worker threads; 0 means one per core.";
    "klamm.disk.threads" int_to(0, 1024), Some("0"), ReadOnly Works,
        "Threads that write and sync logs, each one log at a time; 0 means 16.";
    "klamm.log.format" Kind::Text(&["pretty", "json"]), Some("pretty"), ReadOnly Works,
        "Form of the node's own log lines.";
    "klamm.log.level" TEXT, Some("info"), ReadOnly Works,
        "Least severe log line shown: error, warn, info, debug or trace; also per module, as \
         module=level, comma-separated.";
};
