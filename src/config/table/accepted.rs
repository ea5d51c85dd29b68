//! Settings known by name so that an existing file is accepted: what they govern is not here yet,
//! or has no counterpart.

use super::{BOOLEAN, Kind, LIST, Setting, TEXT, int, long, settings, short};

pub(super) const SETTINGS: &[Setting] = settings! {
    "group.share.delivery.count.limit" int(1), Some("5"), ReadOnly NotYet,
        "Deliveries of a record to a share group before it is given up.";
    "group.share.record.lock.duration.ms" int(1), Some("30000"), ReadOnly NotYet,
        "Time a member of a share group holds a record.";
    "group.share.partition.max.record.locks" int(1), Some("2000"), ReadOnly NotYet,
        "Records of a partition held at once by a share group.";
    "group.share.max.size" int(1), Some("200"), ReadOnly NotYet,
        "Most members of a share group.";
    "group.share.max.share.sessions" int(1), Some("2000"), ReadOnly NotYet,
        "Most share sessions of a broker.";
    "share.coordinator.state.topic.num.partitions" int(1), Some("50"), ReadOnly NotYet,
        "Partitions of the topic that holds the state of share groups.";
    "share.coordinator.state.topic.replication.factor" short(1), Some("3"), ReadOnly NotYet,
        "Replicas of the topic that holds the state of share groups.";
    "share.coordinator.state.topic.min.isr" short(1), Some("2"), ReadOnly NotYet,
        "In-sync replicas the share group topic needs.";

    "authorizer.class.name" TEXT, Some(""), ReadOnly NotYet,
        "What decides who may do what.";
    "super.users" TEXT, None, ReadOnly NotYet,
        "Users that may do everything.";
    "allow.everyone.if.no.acl.found" BOOLEAN, Some("false"), ReadOnly NotYet,
        "Whether a resource without rules is open to all.";
    "sasl.enabled.mechanisms" LIST, Some("GSSAPI"), PerBroker NotYet,
        "Ways to authenticate that clients may use.";
    "sasl.mechanism.inter.broker.protocol" TEXT, Some("GSSAPI"), PerBroker NotYet,
        "Way brokers authenticate to each other.";
    "sasl.jaas.config" Kind::Password, None, PerBroker NotYet,
        "Credentials in Java's form.";
    "ssl.client.auth" Kind::Text(&["required", "requested", "none"]),
        Some("none"), PerBroker NotYet,
        "Whether clients must show a certificate.";
    "ssl.enabled.protocols" LIST, Some("TLSv1.2,TLSv1.3"), PerBroker NotYet,
        "Versions of TLS allowed.";
    "ssl.endpoint.identification.algorithm" TEXT, Some("https"), PerBroker NotYet,
        "How a server's name is checked.";
    "ssl.keystore.location" TEXT, None, PerBroker NotYet,
        "File with the node's key and certificate.";
    "ssl.keystore.password" Kind::Password, None, PerBroker NotYet,
        "Secret of that file.";
    "ssl.keystore.type" TEXT, Some("JKS"), PerBroker NotYet,
        "Format of that file.";
    "ssl.key.password" Kind::Password, None, PerBroker NotYet,
        "Secret of the key.";
    "ssl.truststore.location" TEXT, None, PerBroker NotYet,
        "File with trusted certificates.";
    "ssl.truststore.password" Kind::Password, None, PerBroker NotYet,
        "Secret of that file.";
    "ssl.truststore.type" TEXT, Some("JKS"), PerBroker NotYet,
        "Format of that file.";
    "connections.max.reauth.ms" long(0), Some("0"), ReadOnly NotYet,
        "Time after which a client must authenticate again.";
    "delegation.token.max.lifetime.ms" long(1), Some("604800000"), ReadOnly NotYet,
        "Longest life of a delegation token.";
    "delegation.token.expiry.time.ms" long(1), Some("86400000"), ReadOnly NotYet,
        "Life of a delegation token between renewals.";
    "delegation.token.secret.key" Kind::Password, None, ReadOnly NotYet,
        "Secret delegation tokens are made with.";
    "quota.window.num" int(1), Some("11"), ReadOnly NotYet,
        "Samples kept to measure a client's rate.";
    "quota.window.size.seconds" int(1), Some("1"), ReadOnly NotYet,
        "Length of one sample.";

    "remote.log.storage.system.enable" BOOLEAN, Some("false"), ReadOnly NotYet,
        "Whether topics may keep old segments in remote storage.";
    "log.local.retention.ms" long(-2), Some("-2"), ClusterWide NotYet,
        "local.retention.ms of topics that do not say.";
    "log.local.retention.bytes" long(-2), Some("-2"), ClusterWide NotYet,
        "local.retention.bytes of topics that do not say.";
    "remote.log.manager.copier.thread.pool.size" int(1), Some("10"), ClusterWide NotYet,
        "Copies to remote storage at once.";
    "remote.log.manager.expiration.thread.pool.size" int(1), Some("10"), ClusterWide NotYet,
        "Removals from remote storage at once.";
    "remote.log.manager.follower.thread.pool.size" int(1), Some("2"), ClusterWide NotYet,
        "Looks of followers at remote storage at once.";
    "remote.log.manager.task.interval.ms" long(1), Some("30000"), ReadOnly NotYet,
        "Time between two looks for segments to copy.";
    "remote.log.reader.threads" int(1), Some("10"), ClusterWide NotYet,
        "Reads from remote storage at once.";
    "follower.fetch.last.tiered.offset.enable" BOOLEAN, Some("false"), ReadOnly NotYet,
        "Whether a new follower starts at the last offset in remote storage.";

    "metric.reporters" LIST, Some(""), ClusterWide Silent, "Java classes that report metrics.";
    "metrics.num.samples" int(1), Some("2"), ReadOnly Silent, "Samples of Kafka's metrics.";
    "metrics.sample.window.ms" long(1), Some("30000"), ReadOnly Silent,
        "Length of a sample of Kafka's metrics.";
    "metrics.recording.level" TEXT, Some("INFO"), ReadOnly Silent, "Detail of Kafka's metrics.";
    "auto.include.jmx.reporter" BOOLEAN, Some("true"), ReadOnly Silent, "Metrics over JMX.";
    "config.providers" LIST, Some(""), ReadOnly Silent, "Java classes that supply settings.";
    "client.quota.callback.class" Kind::Class, None, ReadOnly NotYet, "Java class for quotas.";
    "create.topic.policy.class.name" Kind::Class, None, ReadOnly NotYet,
        "Java class that judges new topics.";
    "alter.config.policy.class.name" Kind::Class, None, ReadOnly NotYet,
        "Java class that judges changed settings.";
    "principal.builder.class" Kind::Class, None, ReadOnly NotYet, "Java class that names clients.";
    "security.providers" TEXT, None, ReadOnly Silent, "Java security providers.";
    "fetch.purgatory.purge.interval.requests" int(1), Some("1000"), ReadOnly Silent,
        "Bookkeeping of Kafka's waiting fetches.";
    "producer.purgatory.purge.interval.requests" int(1), Some("1000"), ReadOnly Silent,
        "Bookkeeping of Kafka's waiting writes.";
    "delete.records.purgatory.purge.interval.requests" int(1), Some("1"), ReadOnly Silent,
        "Bookkeeping of Kafka's waiting deletions.";
    "num.replica.alter.log.dirs.threads" int(1), None, ReadOnly NotYet,
        "Replicas moved between data directories at once.";
    "unstable.api.versions.enable" BOOLEAN, Some("false"), ReadOnly Silent,
        "Kafka's switch for unfinished APIs.";
    "unstable.feature.versions.enable" BOOLEAN, Some("false"), ReadOnly Silent,
        "Kafka's switch for unfinished features.";
    "telemetry.max.bytes" int(1), Some("1048576"), ReadOnly Silent,
        "Size of a client's telemetry.";
};
