//! The whole producer over real sockets against a broker in this process that breaks connections
//! and refuses.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::model_broker::Broker;
use super::*;
use crate::env::{Listener, Rng, Stream};
use crate::types::Offset;
use crate::wire::api::{ApiKey, Response};
use crate::wire::batch::RecordBatch;
use crate::wire::frame::{RequestError, decode_request};
use crate::wire::message::api_versions::{ApiVersion, ApiVersionsResponse};
use crate::wire::message::init_producer_id::InitProducerIdResponse;
use crate::wire::message::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::wire::message::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use crate::wire::{Request, Str};

/// Out of a hundred produce requests, how many meet what.
#[derive(Clone, Copy, Default)]
struct Faults {
    broken_before: u64,
    broken_after: u64,
    refused: u64,
    silent: u64,
}

struct Fake {
    env: Env,
    address: String,
    faults: Faults,
    log: Mutex<Broker>,
    random: Mutex<Rng>,
    /// Highest version of ApiVersions it knows.
    api_versions_max: i16,
    versions_seen: Mutex<Vec<i16>>,
}

impl Fake {
    async fn start(env: &Env, faults: Faults, seed: u8, api_versions_max: i16) -> Arc<Self> {
        let listener = env.net.listen("127.0.0.1:0").await.expect("a free port");
        let fake = Arc::new(Self {
            env: env.clone(),
            address: listener.local_address(),
            faults,
            log: Mutex::default(),
            random: Mutex::new(Rng::from_seed([seed; 32])),
            api_versions_max,
            versions_seen: Mutex::default(),
        });
        env.spawn("fake-broker", Arc::clone(&fake).accept(listener))
            .detach();
        fake
    }

    async fn accept(self: Arc<Self>, mut listener: Box<dyn Listener>) {
        while let Ok(stream) = listener.accept().await {
            let body = Arc::clone(&self).serve(stream);
            self.env.spawn("fake-connection", body).detach();
        }
    }

    async fn serve(self: Arc<Self>, mut stream: Box<dyn Stream>) {
        while let Ok(length) = stream.read_i32().await {
            let mut frame = BytesMut::zeroed(length.unsigned_abs() as usize);
            if stream.read_exact(&mut frame).await.is_err() {
                return;
            }
            let Some(slices) = self.answer(frame.freeze()) else {
                return;
            };
            for slice in slices {
                if stream.write_all(&slice).await.is_err() {
                    return;
                }
            }
        }
    }

    /// `None` ends the connection; no slices are no answer.
    fn answer(&self, frame: Bytes) -> Option<Vec<Bytes>> {
        let (header, request) = match decode_request(frame) {
            Ok(decoded) => decoded,
            Err(RequestError::UnsupportedVersion { header, .. }) => {
                return self.unsupported(header.correlation_id);
            }
            Err(_) => return None,
        };
        let version = header.api_version;
        let response: Response = match request {
            Request::ApiVersions(_) => {
                self.versions_seen.lock().expect("no panics").push(version);
                if version > self.api_versions_max {
                    return self.unsupported(header.correlation_id);
                }
                self.versions(0).into()
            }
            Request::Metadata(request) => {
                let topics = request.topics.unwrap_or_default().into_iter();
                self.metadata(topics.filter_map(|topic| topic.name)).into()
            }
            Request::InitProducerId(_) => InitProducerIdResponse {
                producer_id: 7,
                ..Default::default()
            }
            .into(),
            Request::Produce(request) => match self.produce(&request)? {
                Some(response) => response.into(),
                None => return Some(Vec::new()),
            },
            _ => return None,
        };
        response.frame(header.correlation_id, version).ok()
    }

    fn versions(&self, error_code: i16) -> ApiVersionsResponse {
        let keys = ApiKey::ALL.iter().map(|key| ApiVersion {
            api_key: *key as i16,
            min_version: *key.versions().start(),
            max_version: match key {
                ApiKey::ApiVersions => self.api_versions_max,
                _ => *key.versions().end(),
            },
            ..Default::default()
        });
        ApiVersionsResponse {
            error_code,
            api_keys: keys.collect(),
            ..Default::default()
        }
    }

    fn unsupported(&self, correlation_id: i32) -> Option<Vec<Bytes>> {
        Response::from(self.versions(35))
            .frame(correlation_id, 0)
            .ok()
    }

    fn metadata(&self, topics: impl Iterator<Item = Str>) -> MetadataResponse {
        let (host, port) = self.address.rsplit_once(':').expect("host:port");
        let topics = topics.map(|name| MetadataResponseTopic {
            name: Some(name),
            partitions: vec![MetadataResponsePartition::default()],
            ..Default::default()
        });
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                host: host.into(),
                port: port.parse().expect("a number"),
                ..Default::default()
            }],
            controller_id: 0,
            topics: topics.collect(),
            ..Default::default()
        }
    }

    fn produce(&self, request: &ProduceRequest) -> Option<Option<ProduceResponse>> {
        let draw = self.random.lock().expect("no panics").below(100);
        let faults = self.faults;
        if draw < faults.broken_before {
            return None;
        }
        let topic = &request.topic_data[0];
        let mut bytes = topic.partition_data[0]
            .records
            .clone()
            .expect("records")
            .contiguous();
        let batch = RecordBatch::split_first(&mut bytes).expect("a whole batch");
        let refused = draw >= 100 - faults.refused;
        let written = match refused {
            true => Err(ErrorCode::NotLeaderOrFollower),
            false => self.log.lock().expect("no panics").produce(&batch),
        };
        let draw = draw - faults.broken_before;
        if draw < faults.broken_after {
            return None;
        }
        if draw - faults.broken_after < faults.silent || request.acks == 0 {
            return Some(None);
        }
        let part = PartitionProduceResponse {
            error_code: written.err().map_or(0, ErrorCode::code),
            base_offset: written.unwrap_or(-1),
            ..Default::default()
        };
        Some(Some(ProduceResponse {
            responses: vec![TopicProduceResponse {
                name: topic.name.clone(),
                partition_responses: vec![part],
                ..Default::default()
            }],
            ..Default::default()
        }))
    }
}

fn run(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(body);
}

async fn produce(faults: Faults, seed: u8, settings: &[(&str, &str)], count: u32) -> Vec<u32> {
    let env = crate::env::tokio::env(Default::default()).expect("an env");
    let fake = Fake::start(&env, faults, seed, 4).await;
    let fixed = [
        ("bootstrap.servers", fake.address.as_str()),
        ("retry.backoff.ms", "5"),
        ("reconnect.backoff.ms", "5"),
        ("reconnect.backoff.max.ms", "20"),
        ("batch.size", "300"),
        ("linger.ms", "0"),
    ];
    let settings = fixed.into_iter().chain(settings.iter().copied());
    let config = ClientConfig::from_pairs(settings).expect("valid settings");
    let producer = Producer::new(&env, config).expect("valid settings");
    let mut deliveries = Vec::new();
    for n in 0..count {
        let record = ProducerRecord::new("t", n.to_be_bytes().to_vec());
        deliveries.push(producer.send(record).await.expect("taken in"));
    }
    producer.drain().await;
    let answered = producer.cluster().config().acks != Acks::None;
    for (n, delivery) in (0..).zip(deliveries) {
        let metadata = delivery.await.expect("acknowledged");
        assert_eq!(metadata.offset, answered.then_some(Offset(n)));
    }
    producer.close(Duration::from_secs(5)).await;
    fake.log.lock().expect("no panics").log.clone()
}

#[test]
fn records_are_written_once_and_in_order_over_connections_that_break() {
    run(async {
        for seed in 0..4 {
            let faults = Faults {
                broken_before: 8,
                broken_after: 8,
                refused: 8,
                silent: 0,
            };
            let log = produce(faults, seed, &[], 600).await;
            assert_eq!(log, (0..600).collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_broker_that_does_not_answer_is_given_up_and_asked_again() {
    run(async {
        let faults = Faults {
            silent: 3,
            ..Default::default()
        };
        let log = produce(faults, 1, &[("request.timeout.ms", "100")], 300).await;
        assert_eq!(log, (0..300).collect::<Vec<_>>());
    });
}

#[test]
fn little_memory_slows_sends_down_and_loses_nothing() {
    run(async {
        let settings = [("buffer.memory", "700"), ("max.request.size", "600")];
        let log = produce(Faults::default(), 1, &settings, 300).await;
        assert_eq!(log, (0..300).collect::<Vec<_>>());
    });
}

#[test]
fn a_broker_with_an_older_api_versions_is_asked_again_in_its_version() {
    run(async {
        let env = crate::env::tokio::env(Default::default()).expect("an env");
        let fake = Fake::start(&env, Faults::default(), 1, 2).await;
        let config = ClientConfig::for_servers(&fake.address).expect("an address");
        let cluster = Cluster::new(&env, config).expect("valid settings");
        let view = cluster.refresh(&Topics::None).await.expect("an answer");
        assert_eq!(view.brokers.len(), 1);
        assert_eq!(*fake.versions_seen.lock().expect("no panics"), [4, 2]);
    });
}

#[test]
fn a_broker_that_cannot_be_reached_is_an_error_that_names_it() {
    run(async {
        let env = crate::env::tokio::env(Default::default()).expect("an env");
        let listener = env.net.listen("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_address();
        drop(listener);
        let config = ClientConfig::for_servers(&address).expect("an address");
        let cluster = Cluster::new(&env, config).expect("valid settings");
        let error = cluster
            .refresh(&Topics::None)
            .await
            .expect_err("nobody listens");
        assert!(
            error.is_retriable() && error.to_string().contains(&address),
            "{error}"
        );
    });
}
