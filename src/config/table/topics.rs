//! A topic's settings, and the broker's settings that stand for them when a topic does not say.

use super::{BOOLEAN, Effect, Kind, LIST, Setting, Synonym, Update};
use super::{double, int, int_to, long, settings, short};

const CLEANUP: Kind = Kind::List(&["compact", "delete"]);
const COMPRESSION: Kind =
    Kind::Text(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);
const TIMESTAMP: Kind = Kind::Text(&["CreateTime", "LogAppendTime"]);
const DURABILITY: Kind = Kind::Text(&["fsync", "replicated"]);
const RATIO: Kind = double(0.0, 1.0);
/// A segment begins with a header page of this size.
const SEGMENT_BYTES_MIN: i64 = 4096;
const FOREVER: Option<&str> = Some("9223372036854775807");

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

macro_rules! topic_settings {
    (@update) => {
        Update::ClusterWide
    };
    (@update $update:ident) => {
        Update::$update
    };
    ($($name:literal $(=> [$($synonym:literal $(* $factor:expr)?),*])? $kind:expr, $default:expr,
        $effect:ident $(@ $update:ident)?, $doc:literal;)*) => {
        &[$(Setting {
            name: $name,
            kind: $kind,
            default: $default,
            update: topic_settings!(@update $($update)?),
            effect: Effect::$effect,
            synonyms: &[$($(Synonym { name: $synonym, factor: 1 $(* $factor)? }),*)?],
            doc: $doc,
        }),*]
    };
}

pub(super) const TOPIC: &[Setting] = topic_settings! {
    "cleanup.policy" => ["log.cleanup.policy"] CLEANUP, Some("delete"), Works,
        "What happens to old records: delete them, compact to the last of each key, both, or \
         (empty) neither.";
    "compression.type" => ["compression.type"] COMPRESSION, Some("producer"), Works,
        "Codec batches are kept in; producer keeps what the producer chose.";
    "compression.gzip.level" => ["compression.gzip.level"] int_to(-1, 9), Some("-1"), NotYet,
        "Effort of gzip when this topic is kept in gzip.";
    "compression.lz4.level" => ["compression.lz4.level"] int_to(1, 17), Some("9"), NotYet,
        "Effort of lz4 when this topic is kept in lz4.";
    "compression.zstd.level" => ["compression.zstd.level"] int_to(-131_072, 22), Some("3"), NotYet,
        "Effort of zstd when this topic is kept in zstd.";
    "delete.retention.ms" => ["log.cleaner.delete.retention.ms"] long(0), Some("86400000"), Works,
        "How long a compacted topic keeps a deletion mark after it was compacted.";
    "file.delete.delay.ms" => ["log.segment.delete.delay.ms"] long(0), Some("60000"), Works,
        "How long a removed segment stays on disk under another name.";
    "flush.messages" => ["log.flush.interval.messages"] long(1), FOREVER, Works,
        "Records after which a sync to disk is forced.";
    "flush.ms" => ["log.flush.interval.ms", "log.flush.scheduler.interval.ms"]
        long(0), FOREVER, Works,
        "Time after which written records are synced to disk.";
    "follower.replication.throttled.replicas" LIST, Some(""), NotYet,
        "Replicas whose fetching is throttled, as partition:broker, or *.";
    "leader.replication.throttled.replicas" LIST, Some(""), NotYet,
        "Replicas whose serving to followers is throttled, as partition:broker, or *.";
    "index.interval.bytes" => ["log.index.interval.bytes"] int(0), Some("4096"), Works,
        "Bytes of log between two entries of its index.";
    "max.compaction.lag.ms" => ["log.cleaner.max.compaction.lag.ms"] long(1), FOREVER, Works,
        "Longest time a record stays out of compaction.";
    "max.message.bytes" => ["message.max.bytes"] int(0), Some("1048588"), Works,
        "Largest batch accepted, as it is on the wire.";
    "message.timestamp.after.max.ms" => ["log.message.timestamp.after.max.ms"] long(0),
        Some("3600000"), Works,
        "How far a record's timestamp may lie ahead of the broker's clock.";
    "message.timestamp.before.max.ms" => ["log.message.timestamp.before.max.ms"]
        long(0), FOREVER, Works,
        "How far a record's timestamp may lie behind the broker's clock.";
    "message.timestamp.type" => ["log.message.timestamp.type"] TIMESTAMP, Some("CreateTime"), Works,
        "Whose time a record carries: its producer's, or the broker's on arrival.";
    "min.cleanable.dirty.ratio" => ["log.cleaner.min.cleanable.ratio"] RATIO, Some("0.5"), Works,
        "Part of a log not yet compacted from which compaction is worth it.";
    "min.compaction.lag.ms" => ["log.cleaner.min.compaction.lag.ms"] long(0), Some("0"), Works,
        "Time a record stays out of compaction at least.";
    "min.insync.replicas" => ["min.insync.replicas"] int(1), Some("1"), Works,
        "In-sync replicas an acks=all write needs.";
    "preallocate" => ["log.preallocate"] BOOLEAN, Some("false"), NotYet,
        "Whether a new segment's space is reserved at once.";
    "retention.bytes" => ["log.retention.bytes"] long(-1), Some("-1"), Works,
        "Size of a partition from which its oldest segments go; -1 no limit.";
    "retention.ms" =>
        ["log.retention.ms", "log.retention.minutes" * MINUTE, "log.retention.hours" * HOUR]
        long(-1), Some("604800000"), Works,
        "Age from which records go; -1 no limit.";
    "segment.bytes" => ["log.segment.bytes"] int(SEGMENT_BYTES_MIN), Some("1073741824"), Works,
        "Size at which a new segment begins.";
    "segment.index.bytes" => ["log.index.size.max.bytes"] int(4), Some("10485760"), Silent,
        "Kafka's bound on an index file; indexes here need none.";
    "segment.jitter.ms" => ["log.roll.jitter.ms", "log.roll.jitter.hours" * HOUR] long(0),
        Some("0"), Works,
        "Random part of segment.ms, so that segments do not all end at once.";
    "segment.ms" => ["log.roll.ms", "log.roll.hours" * HOUR] long(1), Some("604800000"), Works,
        "Age at which a new segment begins.";
    "unclean.leader.election.enable" => ["unclean.leader.election.enable"] BOOLEAN,
        Some("false"), Works,
        "Whether a replica that was not in sync may lead when no other is left, losing records.";
    "klamm.durability" => ["klamm.durability"] DURABILITY, Some("fsync"), Works,
        "When an acks=all write is acknowledged: fsync = in-sync replicas have it on disk; \
         replicated = they have it in memory.";
    "klamm.mirror.provenance" LIST, Some(""), Works @ ReadOnly,
        "Ids of the clusters that the records of a mirror have come through; set by its link.";
    "remote.storage.enable" BOOLEAN, Some("false"), NotYet,
        "Whether old segments go to remote storage.";
    "remote.log.copy.disable" BOOLEAN, Some("false"), NotYet,
        "Whether copying to remote storage pauses.";
    "remote.log.delete.on.disable" BOOLEAN, Some("false"), NotYet,
        "Whether remote segments go when remote storage is turned off.";
    "local.retention.ms" => ["log.local.retention.ms"] long(-2), Some("-2"), NotYet,
        "Age from which a copied segment leaves the local disk; -2 follows retention.ms.";
    "local.retention.bytes" => ["log.local.retention.bytes"] long(-2), Some("-2"), NotYet,
        "Local size from which copied segments leave the disk; -2 follows retention.bytes.";
};

pub(super) const DEFAULTS: &[Setting] = settings! {
    "num.partitions" int(1), Some("1"), ReadOnly Works,
        "Partitions of a topic created without saying how many.";
    "default.replication.factor" short(1), Some("1"), ReadOnly Works,
        "Replicas of a topic created without saying how many.";
    "auto.create.topics.enable" BOOLEAN, Some("true"), ReadOnly Works,
        "Whether asking for an unknown topic creates it.";
    "delete.topic.enable" BOOLEAN, Some("true"), ReadOnly Works,
        "Whether topics can be deleted.";
    "log.cleanup.policy" CLEANUP, Some("delete"), ClusterWide Works,
        "cleanup.policy of topics that do not say.";
    "compression.type" COMPRESSION, Some("producer"), ClusterWide Works,
        "compression.type of topics that do not say.";
    "compression.gzip.level" int_to(-1, 9), Some("-1"), ClusterWide NotYet,
        "compression.gzip.level of topics that do not say.";
    "compression.lz4.level" int_to(1, 17), Some("9"), ClusterWide NotYet,
        "compression.lz4.level of topics that do not say.";
    "compression.zstd.level" int_to(-131_072, 22), Some("3"), ClusterWide NotYet,
        "compression.zstd.level of topics that do not say.";
    "log.segment.bytes" int(SEGMENT_BYTES_MIN), Some("1073741824"), ClusterWide Works,
        "segment.bytes of topics that do not say.";
    "log.roll.ms" long(1), None, ClusterWide Works,
        "segment.ms of topics that do not say; log.roll.hours if unset.";
    "log.roll.hours" int(1), Some("168"), ReadOnly Works,
        "Age in hours at which a new segment begins, unless log.roll.ms says.";
    "log.roll.jitter.ms" long(0), None, ClusterWide Works,
        "segment.jitter.ms of topics that do not say; log.roll.jitter.hours if unset.";
    "log.roll.jitter.hours" int(0), Some("0"), ReadOnly Works,
        "Random part of the roll time in hours, unless log.roll.jitter.ms says.";
    "log.retention.ms" long(-1), None, ClusterWide Works,
        "retention.ms of topics that do not say; log.retention.minutes if unset.";
    "log.retention.minutes" int(-1), None, ReadOnly Works,
        "Retention in minutes, unless log.retention.ms says; log.retention.hours if unset.";
    "log.retention.hours" int(-1), Some("168"), ReadOnly Works,
        "Retention in hours, unless log.retention.ms or log.retention.minutes says.";
    "log.retention.bytes" long(-1), Some("-1"), ClusterWide Works,
        "retention.bytes of topics that do not say.";
    "log.retention.check.interval.ms" long(1), Some("300000"), ReadOnly Works,
        "Time between two looks for segments that are too old or too many.";
    "log.index.interval.bytes" int(0), Some("4096"), ClusterWide Works,
        "index.interval.bytes of topics that do not say.";
    "log.index.size.max.bytes" int(4), Some("10485760"), ClusterWide Silent,
        "segment.index.bytes of topics that do not say.";
    "log.segment.delete.delay.ms" long(0), Some("60000"), ClusterWide Works,
        "file.delete.delay.ms of topics that do not say.";
    "log.flush.interval.messages" long(1), FOREVER, ClusterWide Works,
        "flush.messages of topics that do not say.";
    "log.flush.interval.ms" long(0), None, ClusterWide Works,
        "flush.ms of topics that do not say; log.flush.scheduler.interval.ms if unset.";
    "log.flush.scheduler.interval.ms" long(0), FOREVER, ReadOnly Works,
        "flush.ms of topics when neither they nor log.flush.interval.ms say.";
    "log.flush.offset.checkpoint.interval.ms" int(0), Some("60000"), ReadOnly Silent,
        "Kafka's interval for its recovery checkpoint; a segment knows its own here.";
    "log.flush.start.offset.checkpoint.interval.ms" int(0), Some("60000"), ReadOnly Silent,
        "Kafka's interval for its log start checkpoint; a new log start is durable at once here.";
    "message.max.bytes" int(0), Some("1048588"), ClusterWide Works,
        "max.message.bytes of topics that do not say.";
    "log.message.timestamp.type" TIMESTAMP, Some("CreateTime"), ClusterWide Works,
        "message.timestamp.type of topics that do not say.";
    "log.message.timestamp.before.max.ms" long(0), FOREVER, ClusterWide Works,
        "message.timestamp.before.max.ms of topics that do not say.";
    "log.message.timestamp.after.max.ms" long(0), Some("3600000"), ClusterWide Works,
        "message.timestamp.after.max.ms of topics that do not say.";
    "log.preallocate" BOOLEAN, Some("false"), ClusterWide NotYet,
        "preallocate of topics that do not say.";
    "min.insync.replicas" int(1), Some("1"), ClusterWide Works,
        "min.insync.replicas of topics that do not say.";
    "unclean.leader.election.enable" BOOLEAN, Some("false"), ClusterWide Works,
        "unclean.leader.election.enable of topics that do not say.";

    "log.cleaner.enable" BOOLEAN, Some("true"), ReadOnly Works,
        "Whether compacted topics are compacted.";
    "log.cleaner.threads" int(0), Some("1"), ClusterWide Silent,
        "Partitions compacted at once.";
    "log.cleaner.dedupe.buffer.size" long(1), Some("134217728"), ClusterWide Works,
        "Memory for the keys seen while compacting, in all.";
    "log.cleaner.io.buffer.size" int(0), Some("524288"), ClusterWide Silent,
        "Kafka's read buffer for compaction.";
    "log.cleaner.io.buffer.load.factor" double(0.0, f64::MAX), Some("0.9"), ClusterWide Silent,
        "How full Kafka's key map may get.";
    "log.cleaner.io.max.bytes.per.second" double(0.0, f64::MAX),
        Some("1.7976931348623157E308"), ClusterWide NotYet, "Speed limit of compaction.";
    "log.cleaner.backoff.ms" long(0), Some("15000"), ClusterWide Works,
        "Pause when nothing needs compaction.";
    "log.cleaner.min.cleanable.ratio" RATIO, Some("0.5"), ClusterWide Works,
        "min.cleanable.dirty.ratio of topics that do not say.";
    "log.cleaner.delete.retention.ms" long(0), Some("86400000"), ClusterWide Works,
        "delete.retention.ms of topics that do not say.";
    "log.cleaner.min.compaction.lag.ms" long(0), Some("0"), ClusterWide Works,
        "min.compaction.lag.ms of topics that do not say.";
    "log.cleaner.max.compaction.lag.ms" long(1), FOREVER, ClusterWide Works,
        "max.compaction.lag.ms of topics that do not say.";
    "producer.id.expiration.ms" int(1), Some("86400000"), ClusterWide Works,
        "Time after which a silent producer's sequence numbers are forgotten.";
    "producer.id.expiration.check.interval.ms" int(1), Some("600000"), ReadOnly Silent,
        "Time between two looks for silent producers.";
};
