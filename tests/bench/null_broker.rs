//! A broker without a broker: the least that a server must do that speaks Kafka's protocol to real
//! clients. What Klamm costs beyond it is Klamm's.
//!
//! `null-broker --port 9092 --storage memory|file|sync [--directory DIR]`: batches are kept in
//! memory, in a file of the page cache, or in a file that is synced (`fdatasync`) before the
//! answer, once for all requests that a connection had sent by then. One thread a connection; no
//! checks of any kind, no replication, no groups, no recovery. It is measured by
//! `tests/bench/compare.py`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "not Klamm: what is measured against it"
)]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use klamm::types::{ErrorCode, LeaderEpoch, Offset, Uuid};
use klamm::wire::Str;
use klamm::wire::api::{ApiKey, Request, Response};
use klamm::wire::batch::RecordBatch;
use klamm::wire::frame::{RequestError, decode_request};
use klamm::wire::message::api_versions::{ApiVersion, ApiVersionsResponse};
use klamm::wire::message::create_topics::{CreatableTopicResult, CreateTopicsResponse};
use klamm::wire::message::delete_topics::{DeletableTopicResult, DeleteTopicsResponse};
use klamm::wire::message::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use klamm::wire::message::init_producer_id::InitProducerIdResponse;
use klamm::wire::message::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use klamm::wire::message::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use klamm::wire::message::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};

/// What is served, with the highest version of each: topics go by name.
const SERVED: &[(ApiKey, i16)] = &[
    (ApiKey::Produce, 9),
    (ApiKey::Fetch, 12),
    (ApiKey::ListOffsets, 7),
    (ApiKey::Metadata, 9),
    (ApiKey::ApiVersions, 3),
    (ApiKey::CreateTopics, 6),
    (ApiKey::DeleteTopics, 5),
    (ApiKey::InitProducerId, 4),
];
/// What a connection reads at once.
const READ_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Storage {
    Memory,
    File,
    Sync,
}

/// Where a batch is.
struct Place {
    end_offset: i64,
    position: u64,
    bytes: u32,
    /// `None` in a file.
    kept: Option<Bytes>,
}

#[derive(Default)]
struct Log {
    batches: Vec<Place>,
    end_offset: i64,
    position: u64,
    file: Option<Arc<File>>,
}

struct Broker {
    port: i32,
    storage: Storage,
    directory: PathBuf,
    topics: Mutex<BTreeMap<String, Vec<Arc<Mutex<Log>>>>>,
    /// Counts appends, so that fetches can wait for one.
    appended: (Mutex<u64>, Condvar),
    producers: Mutex<i64>,
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn main() -> io::Result<()> {
    let mut options = BTreeMap::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        // What `cargo bench` adds.
        if name != "--bench" {
            options.insert(name, arguments.next().unwrap_or_default());
        }
    }
    let Some(port) = options.get("--port").and_then(|port| port.parse().ok()) else {
        eprintln!("null-broker --port PORT --storage memory|file|sync [--directory DIR]");
        return Ok(());
    };
    let storage = match options.get("--storage").map(String::as_str) {
        Some("file") => Storage::File,
        Some("sync") => Storage::Sync,
        _ => Storage::Memory,
    };
    let directory = options.get("--directory").map_or("null-broker", |it| it);
    let broker = Arc::new(Broker {
        port: i32::from(port),
        storage,
        directory: PathBuf::from(directory),
        topics: Mutex::default(),
        appended: Default::default(),
        producers: Mutex::default(),
    });
    if storage != Storage::Memory {
        std::fs::create_dir_all(&broker.directory)?;
    }
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("serving on 127.0.0.1:{port}");
    for stream in listener.incoming() {
        let (stream, broker) = (stream?, Arc::clone(&broker));
        thread::spawn(move || broker.serve(stream));
    }
    Ok(())
}

impl Broker {
    /// Answers the requests of one connection until it ends.
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut received = BytesMut::with_capacity(READ_BYTES);
        let mut block = vec![0; READ_BYTES];
        loop {
            let read = stream.read(&mut block)?;
            if read == 0 {
                return Ok(());
            }
            received.extend_from_slice(&block[..read]);
            let (mut answers, mut unsynced) = (Vec::new(), Vec::new());
            while let Some(frame) = take_frame(&mut received) {
                answers.extend(self.answer(frame, &mut unsynced)?);
            }
            for file in unsynced {
                file.sync_data()?;
            }
            write_all(&mut stream, &answers)?;
        }
    }

    fn answer(&self, frame: Bytes, unsynced: &mut Vec<Arc<File>>) -> io::Result<Vec<Bytes>> {
        let (header, request) = match decode_request(frame) {
            Ok(decoded) => decoded,
            Err(RequestError::UnsupportedVersion { header, .. }) => {
                let mut versions = versions();
                versions.error_code = ErrorCode::UnsupportedVersion.code();
                let answer = Response::from(versions).frame(header.correlation_id, 0);
                return answer.map_err(io::Error::other);
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        let response: Response = match request {
            Request::ApiVersions(_) => versions().into(),
            Request::Metadata(request) => {
                let names = request.topics.map(|topics| {
                    let names = topics.into_iter().filter_map(|topic| topic.name);
                    names.map(|name| name.to_string()).collect::<Vec<_>>()
                });
                self.metadata(names, request.allow_auto_topic_creation)
                    .into()
            }
            Request::CreateTopics(request) => {
                let made = request.topics.into_iter().map(|topic| {
                    self.create(&topic.name, topic.num_partitions);
                    CreatableTopicResult {
                        name: topic.name,
                        ..Default::default()
                    }
                });
                CreateTopicsResponse {
                    topics: made.collect(),
                    ..Default::default()
                }
                .into()
            }
            Request::DeleteTopics(request) => self.delete(request.topic_names).into(),
            Request::InitProducerId(_) => {
                let mut producers = locked(&self.producers);
                *producers += 1;
                InitProducerIdResponse {
                    producer_id: *producers,
                    ..Default::default()
                }
                .into()
            }
            Request::ListOffsets(request) => {
                let topics = request.topics.into_iter().map(|topic| {
                    let each = topic.partitions.iter().map(|wanted| {
                        let log = self.log(&topic.name, wanted.partition_index);
                        let end = log.map_or(0, |log| locked(&log).end_offset);
                        ListOffsetsPartitionResponse {
                            partition_index: wanted.partition_index,
                            offset: if wanted.timestamp == -2 { 0 } else { end },
                            ..Default::default()
                        }
                    });
                    ListOffsetsTopicResponse {
                        partitions: each.collect(),
                        name: topic.name,
                        ..Default::default()
                    }
                });
                ListOffsetsResponse {
                    topics: topics.collect(),
                    ..Default::default()
                }
                .into()
            }
            Request::Produce(request) if request.acks == 0 => {
                self.produce(request, unsynced)?;
                return Ok(Vec::new());
            }
            Request::Produce(request) => self.produce(request, unsynced)?.into(),
            Request::Fetch(request) => self.fetch(&request)?.into(),
            other => {
                let name = other.api_key().name();
                return Err(io::Error::other(format!("{name} is not served")));
            }
        };
        let answer = response.frame(header.correlation_id, header.api_version);
        answer.map_err(io::Error::other)
    }

    fn log(&self, topic: &str, partition: i32) -> Option<Arc<Mutex<Log>>> {
        let topics = locked(&self.topics);
        let at = usize::try_from(partition).ok()?;
        topics.get(topic)?.get(at).cloned()
    }

    fn create(&self, name: &str, partitions: i32) {
        let logs = (0..partitions.max(1)).map(|number| {
            let file = (self.storage != Storage::Memory).then(|| {
                let path = self.directory.join(format!("{name}-{number}"));
                let mut options = OpenOptions::new();
                let options = options.create(true).truncate(true).read(true).write(true);
                Arc::new(options.open(path).expect("a file can be made"))
            });
            Arc::new(Mutex::new(Log {
                file,
                ..Log::default()
            }))
        });
        let logs = logs.collect();
        locked(&self.topics).entry(name.to_owned()).or_insert(logs);
    }

    fn delete(&self, names: Vec<Str>) -> DeleteTopicsResponse {
        let responses = names.into_iter().map(|name| {
            let gone = locked(&self.topics).remove(&*name);
            for number in 0..gone.map_or(0, |logs| logs.len()) {
                let _ = std::fs::remove_file(self.directory.join(format!("{name}-{number}")));
            }
            DeletableTopicResult {
                name: Some(name),
                ..Default::default()
            }
        });
        DeleteTopicsResponse {
            responses: responses.collect(),
            ..Default::default()
        }
    }

    fn metadata(&self, wanted: Option<Vec<String>>, create: bool) -> MetadataResponse {
        if create {
            for name in wanted.iter().flatten() {
                self.create(name, 1);
            }
        }
        let topics = locked(&self.topics);
        let names = wanted.unwrap_or_else(|| topics.keys().cloned().collect());
        let told = names.into_iter().map(|name| {
            let count = topics.get(&name).map_or(0, Vec::len);
            let partitions = (0..count).map(|number| MetadataResponsePartition {
                partition_index: i32::try_from(number).unwrap_or(0),
                leader_id: 1,
                leader_epoch: 0,
                replica_nodes: vec![1],
                isr_nodes: vec![1],
                ..Default::default()
            });
            let error = match count {
                0 => ErrorCode::UnknownTopicOrPartition,
                _ => ErrorCode::None,
            };
            MetadataResponseTopic {
                error_code: error.code(),
                partitions: partitions.collect(),
                name: Some(Str::from(name.as_str())),
                topic_id: Uuid([0; 16]),
                ..Default::default()
            }
        });
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: 1,
                host: Str::from("127.0.0.1"),
                port: self.port,
                ..Default::default()
            }],
            cluster_id: Some(Str::from("null-broker")),
            controller_id: 1,
            topics: told.collect(),
            ..Default::default()
        }
    }

    fn produce(
        &self,
        request: ProduceRequest,
        unsynced: &mut Vec<Arc<File>>,
    ) -> io::Result<ProduceResponse> {
        let mut responses = Vec::with_capacity(request.topic_data.len());
        for topic in request.topic_data {
            let mut each = Vec::with_capacity(topic.partition_data.len());
            for data in topic.partition_data {
                let mut answer = PartitionProduceResponse {
                    index: data.index,
                    log_start_offset: 0,
                    ..Default::default()
                };
                match self.log(&topic.name, data.index) {
                    None => answer.error_code = ErrorCode::UnknownTopicOrPartition.code(),
                    Some(log) => {
                        let records = data.records.unwrap_or_default().contiguous();
                        let mut log = locked(&log);
                        answer.base_offset = log.append(records)?;
                        if self.storage == Storage::Sync {
                            unsynced.extend(log.file.clone());
                        }
                    }
                }
                each.push(answer);
            }
            responses.push(TopicProduceResponse {
                name: topic.name,
                partition_responses: each,
                ..Default::default()
            });
        }
        *locked(&self.appended.0) += 1;
        self.appended.1.notify_all();
        Ok(ProduceResponse {
            responses,
            ..Default::default()
        })
    }

    /// Waits for records as long as the request says, and no longer than until there is one.
    fn fetch(&self, request: &FetchRequest) -> io::Result<FetchResponse> {
        let wait = u64::try_from(request.max_wait_ms).unwrap_or(0);
        let until = Instant::now() + Duration::from_millis(wait);
        loop {
            let seen = *locked(&self.appended.0);
            let answer = self.read(request)?;
            let found = answer.responses.iter().flat_map(|topic| &topic.partitions);
            let is_empty = |data: &PartitionData| data.records.iter().all(|it| it.is_empty());
            let left = until.saturating_duration_since(Instant::now());
            if found.into_iter().any(|data| !is_empty(data)) || left.is_zero() {
                return Ok(answer);
            }
            let nothing_new = |count: &mut u64| *count == seen;
            let (count, changed) = &self.appended;
            drop(changed.wait_timeout_while(locked(count), left, nothing_new));
        }
    }

    fn read(&self, request: &FetchRequest) -> io::Result<FetchResponse> {
        let mut left = usize::try_from(request.max_bytes).unwrap_or(0);
        let mut responses = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let mut each = Vec::with_capacity(topic.partitions.len());
            for wanted in &topic.partitions {
                let limit = usize::try_from(wanted.partition_max_bytes).unwrap_or(0);
                let mut data = PartitionData {
                    partition_index: wanted.partition,
                    log_start_offset: 0,
                    ..Default::default()
                };
                if let Some(log) = self.log(&topic.topic, wanted.partition) {
                    let found = locked(&log).find(wanted.fetch_offset, limit.min(left));
                    data.high_watermark = found.end_offset;
                    data.last_stable_offset = found.end_offset;
                    let records = found.read()?;
                    left = left.saturating_sub(records.iter().map(Bytes::len).sum());
                    data.records = Some(records.into());
                }
                each.push(data);
            }
            responses.push(FetchableTopicResponse {
                topic: topic.topic.clone(),
                partitions: each,
                ..Default::default()
            });
        }
        Ok(FetchResponse {
            responses,
            ..Default::default()
        })
    }
}

/// Batches to be read once the log is free again.
struct Found {
    end_offset: i64,
    kept: Vec<Bytes>,
    file: Option<(Arc<File>, u64, usize)>,
}

impl Found {
    fn read(self) -> io::Result<Vec<Bytes>> {
        let Some((file, position, bytes)) = self.file else {
            return Ok(self.kept);
        };
        let mut records = vec![0; bytes];
        file.read_exact_at(&mut records, position)?;
        Ok(vec![records.into()])
    }
}

impl Log {
    /// Gives batches their offsets and stores them; the first offset.
    fn append(&mut self, mut records: Bytes) -> io::Result<i64> {
        let first = self.end_offset;
        while !records.is_empty() {
            let batch = RecordBatch::split_first(&mut records).map_err(io::Error::other)?;
            let count = i64::from(batch.header.last_offset_delta) + 1;
            let [header, rest] = batch.placed(Offset(self.end_offset), LeaderEpoch(0));
            let bytes = header.len() + rest.len();
            let kept = match &self.file {
                Some(file) => {
                    file.write_all_at(&header, self.position)?;
                    file.write_all_at(&rest, self.position + header.len() as u64)?;
                    None
                }
                None => Some(Bytes::from([header, rest].concat())),
            };
            self.end_offset += count;
            self.batches.push(Place {
                end_offset: self.end_offset,
                position: self.position,
                bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
                kept,
            });
            self.position += bytes as u64;
        }
        Ok(first)
    }

    /// Whole batches from `offset` on, at most `limit` bytes unless the first is larger.
    fn find(&self, offset: i64, limit: usize) -> Found {
        let first = self.batches.partition_point(|it| it.end_offset <= offset);
        let mut found = Found {
            end_offset: self.end_offset,
            kept: Vec::new(),
            file: None,
        };
        let mut bytes = 0;
        for batch in &self.batches[first..] {
            let more = batch.bytes as usize;
            if bytes > 0 && bytes + more > limit {
                break;
            }
            bytes += more;
            found.kept.extend(batch.kept.clone());
        }
        if let (Some(file), Some(batch)) = (&self.file, self.batches.get(first)) {
            found.file = Some((Arc::clone(file), batch.position, bytes));
        }
        found
    }
}

fn versions() -> ApiVersionsResponse {
    let each = SERVED.iter().map(|(key, highest)| ApiVersion {
        api_key: *key as i16,
        min_version: key.announced_min(),
        max_version: *highest,
        ..Default::default()
    });
    ApiVersionsResponse {
        api_keys: each.collect(),
        ..Default::default()
    }
}

/// The next frame, without its length, if all of it has come.
fn take_frame(received: &mut BytesMut) -> Option<Bytes> {
    let length = received.first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    if received.len() < 4 + length {
        return None;
    }
    let frame = received.split_to(4 + length).freeze();
    Some(frame.slice(4..))
}

fn write_all(stream: &mut TcpStream, slices: &[Bytes]) -> io::Result<()> {
    let mut parts: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
    let mut rest = parts.as_mut_slice();
    while !rest.is_empty() {
        let most = rest.len().min(1024);
        let written = stream.write_vectored(&rest[..most])?;
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}
