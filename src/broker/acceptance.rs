//! What a batch must be to be taken into a topic: pure checks, before any log is touched.

use bytes::Bytes;

use crate::config::{self, TopicConfig};
use crate::replication::AppendRefused;
use crate::types::{ErrorCode, Timestamp};
use crate::wire::batch::{BatchBuilder, BatchError, Compression, RecordBatch, TimestampType};

/// First version of Produce whose clients know zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;

fn refused(code: ErrorCode, reason: impl Into<String>) -> AppendRefused {
    AppendRefused {
        code,
        reason: reason.into(),
    }
}

/// Checks that `acks` means something. Whether enough replicas are in sync for `acks=-1` is for the
/// owner of the partition to say.
pub fn check_acks(acks: i16) -> Result<(), AppendRefused> {
    match acks {
        -1..=1 => Ok(()),
        other => Err(refused(
            ErrorCode::InvalidRequiredAcks,
            format!("acks={other}: only 0, 1 and -1 (all) have a meaning"),
        )),
    }
}

/// Takes the one batch of a produce request for a partition, and makes it fit the topic.
pub fn check_batch(
    mut records: Bytes,
    config: &TopicConfig,
    produce_version: i16,
    now: Timestamp,
) -> Result<RecordBatch, AppendRefused> {
    let size = records.len();
    if size == 0 {
        return Err(refused(
            ErrorCode::InvalidRecord,
            "no record batch for the partition",
        ));
    }
    let mut batch = RecordBatch::split_first(&mut records)
        .map_err(|error| refused(error.error_code(), error.to_string()))?;
    if !records.is_empty() {
        return Err(refused(
            ErrorCode::InvalidRecord,
            "more than one batch for the partition",
        ));
    }
    if size > config.max_message_bytes {
        return Err(refused(
            ErrorCode::MessageTooLarge,
            format!(
                "a batch of {size} bytes, max.message.bytes is {}",
                config.max_message_bytes
            ),
        ));
    }
    check_header(&batch, produce_version)?;
    check_timestamps(&batch, config, now)?;
    let need_keys = config.cleanup.compact;
    let codec = batch.header.attributes.compression().map_err(malformed)?;
    let found = batch.check_records(need_keys).map_err(malformed)?;
    if found.max_timestamp != batch.header.max_timestamp {
        // Lookups by time trust the header.
        batch = batch.with_max_timestamp(found.max_timestamp);
    }
    recompress(batch, config, codec, now)
}

fn malformed(error: BatchError) -> AppendRefused {
    refused(error.error_code(), error.to_string())
}

fn check_header(batch: &RecordBatch, produce_version: i16) -> Result<(), AppendRefused> {
    let header = &batch.header;
    let invalid = |reason: &str| Err(refused(ErrorCode::InvalidRecord, reason));
    if header.record_count < 1 || header.last_offset_delta != header.record_count - 1 {
        return invalid("the batch's record count and offsets disagree");
    }
    if header.attributes.is_control() {
        return invalid("control batches are written by brokers only");
    }
    if header.attributes.is_transactional() {
        return Err(refused(
            ErrorCode::InvalidTxnState,
            "transactions are not supported yet",
        ));
    }
    if header.attributes.has_delete_horizon() {
        return invalid("the delete horizon is set by brokers only");
    }
    if header.has_producer() && (header.producer_epoch.0 < 0 || header.base_sequence.0 < 0) {
        return invalid("a producer id without a producer epoch or sequence");
    }
    let zstd = matches!(header.attributes.compression(), Ok(Compression::Zstd));
    if zstd && produce_version < ZSTD_SINCE {
        return Err(refused(
            ErrorCode::UnsupportedCompressionType,
            "zstd needs Produce version 7 or later",
        ));
    }
    Ok(())
}

fn check_timestamps(
    batch: &RecordBatch,
    config: &TopicConfig,
    now: Timestamp,
) -> Result<(), AppendRefused> {
    if config.message_timestamp_type == config::TimestampType::LogAppendTime {
        return Ok(());
    }
    let ahead = batch.header.max_timestamp.millis_since(now);
    if ahead > config.message_timestamp_after_max_ms {
        return Err(refused(
            ErrorCode::InvalidTimestamp,
            format!(
                "a timestamp {ahead} ms ahead of the broker, message.timestamp.after.max.ms is {}",
                config.message_timestamp_after_max_ms
            ),
        ));
    }
    let behind = now.millis_since(batch.header.base_timestamp);
    if behind > config.message_timestamp_before_max_ms {
        return Err(refused(
            ErrorCode::InvalidTimestamp,
            format!(
                "a timestamp {behind} ms behind the broker, message.timestamp.before.max.ms is {}",
                config.message_timestamp_before_max_ms
            ),
        ));
    }
    Ok(())
}

/// Gives the batch the topic's codec and timestamp type, where these differ from the producer's.
fn recompress(
    batch: RecordBatch,
    config: &TopicConfig,
    codec: Compression,
    now: Timestamp,
) -> Result<RecordBatch, AppendRefused> {
    let batch = match wanted_codec(config.compression) {
        Some(wanted) if wanted != codec => rebuild(&batch, wanted)?,
        _ => batch,
    };
    if config.message_timestamp_type == config::TimestampType::LogAppendTime {
        return Ok(batch.with_log_append_time(now));
    }
    if batch.header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Err(refused(
            ErrorCode::InvalidTimestamp,
            "the batch claims log append time, the topic uses create time",
        ));
    }
    Ok(batch)
}

/// The codec batches must have; `None` leaves the choice to the producer.
fn wanted_codec(wanted: config::Compression) -> Option<Compression> {
    match wanted {
        config::Compression::Producer => None,
        config::Compression::Uncompressed => Some(Compression::None),
        config::Compression::Gzip => Some(Compression::Gzip),
        config::Compression::Snappy => Some(Compression::Snappy),
        config::Compression::Lz4 => Some(Compression::Lz4),
        config::Compression::Zstd => Some(Compression::Zstd),
    }
}

fn rebuild(batch: &RecordBatch, codec: Compression) -> Result<RecordBatch, AppendRefused> {
    let header = &batch.header;
    let mut builder = BatchBuilder::new(header.base_offset, codec, None)
        .leader_epoch(header.leader_epoch)
        .timestamp_type(header.attributes.timestamp_type());
    if header.has_producer() {
        builder = builder.producer(
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
        );
    }
    for record in batch.records().map_err(malformed)? {
        let record = record.map_err(malformed)?;
        builder.push(
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            &record.headers,
        );
    }
    Ok(builder.build())
}
