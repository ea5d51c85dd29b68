//! A client of a few lines that says exactly what goes over the wire: requests of any API and
//! version, in order, on one blocking connection. It retries nothing and hides nothing.

#![allow(
    dead_code,
    reason = "each test uses only the part of the client that it needs"
)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real sockets"
)]

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use klamm::types::{ErrorCode, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, Uuid};
use klamm::wire::api::{ApiRequest, Request};
use klamm::wire::batch::{BatchBuilder, Compression, RecordBatch};
use klamm::wire::frame::{RequestHeader, read_response_header};
use klamm::wire::message::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use klamm::wire::message::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use klamm::wire::message::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use klamm::wire::message::init_producer_id::InitProducerIdRequest;
use klamm::wire::message::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponseTopic,
};
use klamm::wire::message::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use klamm::wire::{Reader, Str, Wire};

/// How long an answer may take before it counts as lost.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Version of Produce that names topics and tells log start offsets.
pub const PRODUCE_VERSION: i16 = 9;

/// One connection. After any error it is of no more use.
pub struct WireClient {
    stream: TcpStream,
    next_correlation_id: i32,
    next_answer: i32,
}

/// What was read from one partition.
pub struct Fetched {
    pub data: PartitionData,
    pub batches: Vec<RecordBatch>,
}

impl WireClient {
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        Ok(Self {
            stream,
            next_correlation_id: 0,
            next_answer: 0,
        })
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a request; its answer is taken later, in order.
    pub fn send<R: ApiRequest + Into<Request>>(
        &mut self,
        version: i16,
        request: R,
    ) -> io::Result<()> {
        let header = RequestHeader {
            api_key: R::KEY as i16,
            api_version: version,
            correlation_id: self.next_correlation_id,
            client_id: Some(Str::from("wire-client")),
        };
        self.next_correlation_id += 1;
        let request: Request = request.into();
        let slices = request.frame(&header).map_err(io::Error::other)?;
        self.stream.write_all(&slices.concat())
    }

    /// The bytes of the next answer, without their length.
    pub fn receive_frame(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).map_err(io::Error::other)?;
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    /// The answer to the oldest request that was not answered.
    pub fn receive<R: ApiRequest>(&mut self, version: i16) -> io::Result<R::Response> {
        let mut from = Reader::new(self.receive_frame()?);
        let correlation_id =
            read_response_header(&mut from, R::KEY, version).map_err(io::Error::other)?;
        assert_eq!(correlation_id, self.next_answer, "answers come in order");
        self.next_answer += 1;
        R::Response::read(&mut from, R::KEY.version(version)).map_err(io::Error::other)
    }

    pub fn call<R: ApiRequest + Into<Request>>(
        &mut self,
        version: i16,
        request: R,
    ) -> io::Result<R::Response> {
        self.send(version, request)?;
        self.receive::<R>(version)
    }

    /// Creates a topic; the error code of the answer.
    pub fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> io::Result<ErrorCode> {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: Str::from(*name),
            value: Some(Str::from(*value)),
            ..Default::default()
        });
        let topic = CreatableTopic {
            name: Str::from(name),
            num_partitions: partitions,
            replication_factor: -1,
            configs: configs.collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 10_000,
            ..Default::default()
        };
        let response = self.call(7, request)?;
        Ok(code(response.topics[0].error_code))
    }

    pub fn delete_topic(&mut self, name: &str) -> io::Result<ErrorCode> {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some(Str::from(name)),
                ..Default::default()
            }],
            timeout_ms: 10_000,
            ..Default::default()
        };
        let response = self.call(6, request)?;
        Ok(code(response.responses[0].error_code))
    }

    /// What the broker knows of a topic, without making it.
    pub fn describe_topic(&mut self, name: &str) -> io::Result<MetadataResponseTopic> {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                topic_id: Uuid::default(),
                name: Some(Str::from(name)),
                ..Default::default()
            }]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let mut response = self.call(12, request)?;
        Ok(response.topics.remove(0))
    }

    /// A new producer id with its epoch.
    pub fn init_producer_id(&mut self) -> io::Result<(ProducerId, ProducerEpoch)> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let response = self.call(4, request)?;
        match code(response.error_code) {
            ErrorCode::None => Ok((
                ProducerId(response.producer_id),
                ProducerEpoch(response.producer_epoch),
            )),
            refused => Err(io::Error::other(refused.name())),
        }
    }

    /// Sends one batch for one partition, with `acks=all`.
    pub fn send_batch(&mut self, topic: &str, partition: i32, records: Bytes) -> io::Result<()> {
        self.send(
            PRODUCE_VERSION,
            produce_request(topic, partition, records, -1),
        )
    }

    pub fn receive_produced(&mut self) -> io::Result<PartitionProduceResponse> {
        let mut response = self.receive::<ProduceRequest>(PRODUCE_VERSION)?;
        Ok(response.responses.remove(0).partition_responses.remove(0))
    }

    pub fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        records: Bytes,
    ) -> io::Result<PartitionProduceResponse> {
        self.send_batch(topic, partition, records)?;
        self.receive_produced()
    }

    /// Reads a partition from `offset`, waiting a little for something to be there.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> io::Result<Fetched> {
        let request = FetchRequest {
            max_wait_ms: 20,
            min_bytes: 1,
            topics: vec![FetchTopic {
                topic: Str::from(topic),
                partitions: vec![FetchPartition {
                    partition,
                    fetch_offset: offset,
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut response = self.call(11, request)?;
        let mut data = response.responses.remove(0).partitions.remove(0);
        let records = data.records.take().unwrap_or_default();
        let mut records = records.contiguous();
        let mut batches = Vec::new();
        while !records.is_empty() {
            batches.push(RecordBatch::split_first(&mut records).map_err(io::Error::other)?);
        }
        Ok(Fetched { data, batches })
    }

    /// All values of a partition from `start` to its high watermark, each with its offset.
    pub fn read_all(
        &mut self,
        topic: &str,
        partition: i32,
        start: i64,
    ) -> io::Result<Vec<(i64, Bytes)>> {
        let mut values = Vec::new();
        let mut next = start;
        loop {
            let fetched = self.fetch(topic, partition, next)?;
            let refused = code(fetched.data.error_code);
            if refused != ErrorCode::None {
                return Err(io::Error::other(format!(
                    "{topic}-{partition} at {next}: {}",
                    refused.name()
                )));
            }
            for batch in &fetched.batches {
                for (offset, value) in values_of(batch) {
                    if offset >= next {
                        values.push((offset, value));
                    }
                }
                next = next.max(batch.header.end_offset().0);
            }
            if next >= fetched.data.high_watermark {
                return Ok(values);
            }
        }
    }
}

/// Connects as soon as a broker listens, within [`ANSWER_LIMIT`].
pub fn connect_patiently(port: u16) -> WireClient {
    let started = Instant::now();
    loop {
        match WireClient::connect(port) {
            Ok(client) => return client,
            Err(error) if started.elapsed() > ANSWER_LIMIT => {
                panic!("nobody listens on port {port}: {error}")
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

pub fn code(number: i16) -> ErrorCode {
    ErrorCode::from_wire(number).expect("brokers answer codes of the protocol")
}

pub fn produce_request(topic: &str, partition: i32, records: Bytes, acks: i16) -> ProduceRequest {
    ProduceRequest {
        transactional_id: None,
        acks,
        timeout_ms: 15_000,
        topic_data: vec![TopicProduceData {
            name: Str::from(topic),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(records.into()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// A batch of these values, without keys and without a producer.
pub fn plain_batch(values: &[&[u8]]) -> Bytes {
    keyed_batch(values, None, Compression::None)
}

pub fn keyed_batch(values: &[&[u8]], key: Option<&[u8]>, codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(Offset(0), codec, None);
    for value in values {
        builder.push(wall(), key, Some(value), &[]);
    }
    builder.build().bytes().clone()
}

/// A batch of an idempotent producer.
pub fn idempotent_batch<V: AsRef<[u8]>>(
    (id, epoch): (ProducerId, ProducerEpoch),
    base_sequence: i32,
    values: &[V],
) -> Bytes {
    let mut builder = BatchBuilder::new(Offset(0), Compression::None, None).producer(
        id,
        epoch,
        Sequence(base_sequence),
    );
    for value in values {
        builder.push(wall(), None, Some(value.as_ref()), &[]);
    }
    builder.build().bytes().clone()
}

pub fn values_of(batch: &RecordBatch) -> Vec<(i64, Bytes)> {
    let records = batch.records().expect("a served batch can be read");
    records
        .map(|record| {
            let record = record.expect("a served record can be read");
            (record.offset.0, record.value.unwrap_or_default())
        })
        .collect()
}

fn wall() -> Timestamp {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    let millis = since.expect("the clock is past 1970").as_millis();
    Timestamp(i64::try_from(millis).expect("the clock is not far past 1970"))
}
