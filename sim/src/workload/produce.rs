//! Produce requests of one batch to one partition, and their answers.

use bytes::Bytes;
use klamm::env::Rng;
use klamm::types::{ErrorCode, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use klamm::wire::ApiKey;
use klamm::wire::batch::{BatchBuilder, Compression};
use klamm::wire::message::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use klamm_jepsen::history::{Answer, Call, Partition, Stamp, Written};

use super::content::{Content, value_of};
use super::errors::{attempt, error_name};
use super::line::{DISCONNECTED, Line};

/// First version that names topics by id.
const TOPIC_ID_SINCE: i16 = 13;
/// First version that may carry zstd.
const ZSTD_SINCE: i16 = 7;

/// What records look like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) value_bytes: u32,
    /// 0 for records without keys.
    pub(super) keys: u32,
    pub(super) tombstone_percent: u8,
    pub(super) compression: Compression,
}

/// A batch as it is sent, as often as need be.
#[derive(Clone)]
pub(super) struct Parcel {
    pub(super) to: Partition,
    pub(super) acks: i16,
    pub(super) stamp: Option<Stamp>,
    pub(super) written: Vec<Written>,
    bytes: Bytes,
    compression: Compression,
}

pub(super) fn compression(name: &str) -> Compression {
    match name {
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => Compression::None,
    }
}

/// A record of this shape.
pub(super) fn content(shape: &Shape, rng: &mut Rng, id: u64, timestamp: Timestamp) -> Content {
    let key = match shape.keys {
        0 => None,
        keys => Some(format!("k{}", rng.below(u64::from(keys)))),
    };
    let tombstone = rng.below(100) < u64::from(shape.tombstone_percent);
    Content {
        id,
        key,
        value: (!tombstone).then(|| value_of(id, shape.value_bytes)),
        timestamp,
    }
}

/// Packs records into one batch.
pub(super) fn pack(
    to: Partition,
    acks: i16,
    compression: Compression,
    stamp: Option<Stamp>,
    contents: &[Content],
) -> Parcel {
    let mut builder = BatchBuilder::new(Offset(0), compression, None);
    if let Some(stamp) = stamp {
        builder = builder.producer(
            ProducerId(stamp.producer_id),
            ProducerEpoch(stamp.producer_epoch),
            Sequence(stamp.sequence),
        );
    }
    for content in contents {
        builder.push(
            content.timestamp,
            content.key.as_ref().map(String::as_bytes),
            content.value.as_deref(),
            &content.headers(),
        );
    }
    Parcel {
        to,
        acks,
        stamp,
        written: contents.iter().map(Content::written).collect(),
        bytes: builder.build().bytes().clone(),
        compression,
    }
}

impl Parcel {
    pub(super) fn call(&self) -> Call {
        Call::Send {
            to: self.to.clone(),
            acks: self.acks,
            records: self.written.clone(),
            stamp: self.stamp,
            library: None,
        }
    }

    /// The lowest version it can be sent in.
    pub(super) fn floor(&self) -> i16 {
        match self.compression {
            Compression::Zstd => ZSTD_SINCE,
            _ => 0,
        }
    }

    /// The request for the present connection, once that knows the topic's id if it must.
    pub(super) async fn request(&self, line: &mut Line) -> Result<ProduceRequest, String> {
        line.leader(&self.to).await?;
        line.open().await?;
        if line.version(ApiKey::Produce, self.floor()) >= TOPIC_ID_SINCE {
            line.learn_ids(&[&self.to.topic]).await?;
            line.open().await?;
        }
        Ok(self.known_request(line))
    }

    /// The request, with the topic's id if it is known.
    pub(super) fn known_request(&self, line: &Line) -> ProduceRequest {
        let data = PartitionProduceData {
            index: self.to.partition,
            records: Some(self.bytes.clone().into()),
            ..Default::default()
        };
        ProduceRequest {
            acks: self.acks,
            timeout_ms: 3000,
            topic_data: vec![TopicProduceData {
                name: self.to.topic.as_str().into(),
                topic_id: line.id(&self.to.topic),
                partition_data: vec![data],
                ..Default::default()
            }],
            ..Default::default()
        }
    }
}

/// How the broker answered a batch.
pub(super) struct Stored {
    /// `None` for no error.
    pub(super) error: Option<ErrorCode>,
    pub(super) base_offset: i64,
    log_append_time: i64,
    log_start_offset: i64,
}

impl Stored {
    /// `None` for an answer that is not about the batch.
    pub(super) fn read(line: &mut Line, answer: ProduceResponse) -> Option<Self> {
        let mut topics = answer.responses.into_iter();
        let found = topics.next().and_then(|mut t| t.partition_responses.pop());
        let Some(found) = found else {
            line.broken("P18", "Produce is answered without the partition");
            return None;
        };
        if found.error_code == ErrorCode::UnknownTopicId.code() {
            line.forget_ids();
        }
        let found = Self::of(&found);
        line.take_in(found.error.unwrap_or_default().name());
        Some(found)
    }

    fn of(found: &PartitionProduceResponse) -> Self {
        let code = ErrorCode::from_wire(found.error_code);
        let error = match code.unwrap_or(ErrorCode::UnknownServerError) {
            ErrorCode::None => None,
            code => Some(code),
        };
        Self {
            error,
            base_offset: found.base_offset,
            log_append_time: found.log_append_time_ms,
            log_start_offset: found.log_start_offset,
        }
    }

    /// Whether the batch is in the log.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self.error, None | Some(ErrorCode::DuplicateSequenceNumber))
    }

    pub(super) fn answer(&self, attempts: Vec<klamm_jepsen::history::Attempt>) -> Answer {
        let is_known = self.error.is_none();
        Answer::Send {
            base_offset: if is_known { self.base_offset } else { -1 },
            log_append_time: if is_known { self.log_append_time } else { -1 },
            log_start_offset: self.log_start_offset,
            attempts,
        }
    }
}

/// Sends a batch once. Recorded.
pub(super) async fn send_once(line: &mut Line, parcel: &Parcel) -> Result<(), String> {
    let request = parcel.request(line).await?;
    line.open().await?;
    let op = line.invoke(parcel.call());
    let error = match line.call(request, parcel.floor()).await {
        Err(error) => error,
        Ok(answer) => match Stored::read(line, answer) {
            None => DISCONNECTED.to_owned(),
            Some(stored) if stored.is_stored() => {
                line.ok(op, stored.answer(Vec::new()));
                return Ok(());
            }
            Some(stored) => {
                let code = stored.error.map_or(0, ErrorCode::code);
                error_name(code).unwrap_or_default()
            }
        },
    };
    let attempts = vec![attempt(error.clone())];
    line.recorder().not_ok(line.process(), op, true, attempts);
    Err(error)
}
