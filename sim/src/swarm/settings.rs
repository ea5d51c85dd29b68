//! Limits so small that what is rare becomes common.

use std::collections::BTreeMap;

use super::draw::Draw;
use crate::plan::{ClockOptions, CrashOptions, DiskOptions, LinkOptions, TopicPlan};

/// Which topics a scenario has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topics {
    Any,
    /// Nothing is ever removed.
    Kept,
    /// Everything is compacted, expires, or both.
    Cleaned,
    Compacted,
    /// Nothing goes by age or size.
    Mirrored,
}

/// What topics are for, by the first letter of their names.
const KINDS: &[&str] = &["kept", "compacted", "expiring", "bounded", "stamped"];

pub(super) fn broker(draw: &mut Draw) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut set = |key: &str, value: String| settings.insert(key.to_owned(), value);
    set("log.dirs", "/data".to_owned());
    set("listeners", "PLAINTEXT://server:9092".to_owned());
    set("klamm.admin.listener", String::new());
    set("klamm.worker.threads", draw.between(1, 3).to_string());
    let partitions = draw.between(1, 3).to_string();
    set("offsets.topic.num.partitions", partitions);
    let segment = draw.one_of(&[4096, 8192, 65_536]).to_string();
    set("offsets.topic.segment.bytes", segment);
    let delay = draw.one_of(&[0, 0, 200, 1000]).to_string();
    set("group.initial.rebalance.delay.ms", delay);
    set("group.min.session.timeout.ms", "100".to_owned());
    let interval = draw.between(300, 3000).to_string();
    set("log.retention.check.interval.ms", interval);
    let backoff = draw.between(100, 1500).to_string();
    set("log.cleaner.backoff.ms", backoff);
    if draw.chance(50) {
        let bytes = draw.one_of(&[2048, 1 << 20]).to_string();
        set("log.cleaner.dedupe.buffer.size", bytes);
    }
    if draw.chance(60) {
        let bytes = draw.one_of(&[512, 2048, 16_384]).to_string();
        set("metadata.log.max.record.bytes.between.snapshots", bytes);
    }
    if draw.chance(50) {
        let bytes = draw.one_of(&[0, 4096, 65_536]).to_string();
        set("klamm.tail.cache.bytes", bytes);
    }
    if draw.chance(50) {
        let slots = draw.between(0, 3).to_string();
        set("max.incremental.fetch.session.cache.slots", slots);
    }
    if draw.chance(20) {
        set("fetch.max.bytes", draw.one_of(&[1024, 8192]).to_string());
    }
    if draw.chance(20) {
        let bytes = draw.one_of(&[12_288_u64, 65_536]);
        set("socket.request.max.bytes", bytes.to_string());
    }
    if draw.chance(20) {
        let idle = draw.between(1500, 6000).to_string();
        set("connections.max.idle.ms", idle);
    }
    if draw.chance(80) {
        let bytes = draw.one_of(&[1, 500, 2000, 6000]).to_string();
        set("klamm.log.recovery.point.interval.bytes", bytes);
    }
    if draw.chance(60) {
        let bytes = draw.one_of(&[1, 400, 2000]).to_string();
        set("klamm.fetch.piece.bytes", bytes);
    }
    settings
}

pub(super) fn link(draw: &mut Draw) -> LinkOptions {
    let latency_min_ms = draw.one_of(&[1, 1, 1, 2, 10]);
    LinkOptions {
        latency_min_ms,
        latency_mean_ms: latency_min_ms + draw.one_of(&[0, 1, 3, 20]),
        bandwidth: draw.one_of(&[0, 0, 0, 64 << 10, 1 << 20]),
        window: draw.one_of(&[4 << 10, 64 << 10, 256 << 10]),
        split_percent: draw.one_of(&[0, 5, 25, 60]),
    }
}

pub(super) fn disk(draw: &mut Draw) -> DiskOptions {
    DiskOptions {
        latency_max_ms: draw.one_of(&[0, 1, 2, 10]),
        sync_max_ms: draw.one_of(&[1, 4, 10, 50]),
        capacity_bytes: 1 << 40,
        crash: CrashOptions {
            drop_percent: draw.one_of(&[0, 20, 50, 100]),
            tear_percent: draw.one_of(&[0, 30, 60]),
            garbage_percent: draw.one_of(&[0, 10, 50]),
            names_percent: draw.one_of(&[0, 50, 100]),
            in_order: draw.chance(25),
        },
    }
}

pub(super) fn clock(draw: &mut Draw) -> ClockOptions {
    ClockOptions {
        drift_ppm: draw.one_of(&[0, 0, 0, 200, -200, 20_000, -20_000]),
    }
}

pub(super) fn topics(draw: &mut Draw, which: Topics) -> Vec<TopicPlan> {
    let count = draw.between(1, 3);
    let kinds: &[&str] = match which {
        Topics::Any => KINDS,
        Topics::Kept => &["kept", "kept", "stamped"],
        Topics::Cleaned => &["compacted", "compacted", "expiring", "bounded"],
        Topics::Compacted => &["compacted"],
        Topics::Mirrored => &["kept", "kept", "compacted", "stamped"],
    };
    (0..count)
        .map(|number| {
            let mut draw = draw.numbered("topic", number);
            let kind = draw.one_of(kinds);
            TopicPlan {
                name: format!("{kind}-{number}"),
                partitions: draw.one_of(&[1, 1, 2, 4]),
                replicas: 1,
                config: topic(&mut draw, kind),
            }
        })
        .collect()
}

fn topic(draw: &mut Draw, kind: &str) -> BTreeMap<String, String> {
    let mut config = BTreeMap::new();
    let mut set = |key: &str, value: String| config.insert(key.to_owned(), value);
    let segment = draw.one_of(&[4096_u64, 4096, 8192, 16_384, 262_144]);
    set("segment.bytes", segment.to_string());
    if draw.chance(30) {
        set("segment.ms", draw.between(500, 8000).to_string());
    }
    let interval = draw.one_of(&[1, 64, 512, 4096]).to_string();
    set("index.interval.bytes", interval);
    set(
        "file.delete.delay.ms",
        draw.one_of(&[0, 200, 3000]).to_string(),
    );
    match kind {
        "compacted" => {
            let policy = if draw.chance(20) {
                "compact,delete"
            } else {
                "compact"
            };
            set("cleanup.policy", policy.to_owned());
            let ratio = draw.one_of(&["0.0", "0.1", "0.5"]).to_owned();
            set("min.cleanable.dirty.ratio", ratio);
            let horizon = draw.one_of(&[0, 500, 5000, 86_400_000]).to_string();
            set("delete.retention.ms", horizon);
            if draw.chance(30) {
                let lag = draw.between(0, 2000).to_string();
                set("min.compaction.lag.ms", lag);
            }
        }
        "expiring" => {
            set("retention.ms", draw.between(1000, 10_000).to_string());
        }
        "bounded" => {
            let bytes = segment * draw.between(1, 4);
            set("retention.bytes", bytes.to_string());
        }
        "stamped" => {
            set("message.timestamp.type", "LogAppendTime".to_owned());
        }
        _ => {}
    }
    if draw.chance(15) {
        let codec = draw.one_of(&["gzip", "lz4", "zstd", "snappy", "uncompressed"]);
        set("compression.type", codec.to_owned());
    }
    config
}
