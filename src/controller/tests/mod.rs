//! What the tests of the controller share.

mod balance;
mod brokers;
mod doubt;
mod driver;
mod forwarding;
mod history;
mod isr;
mod ledger;
mod links;
mod placing;
mod reassigning;
mod records;
mod survival;

use crate::config::{BrokerConfig, BrokerDefaults};
use crate::controller::{
    BrokerEndpoint, BrokerHeartbeat, Committed, ControllerLedger, CreateTopics, CreatedTopic,
    HeartbeatReply, MetadataRecord, NewTopic, PartitionState, Refusal, RegisterBroker, Reply,
    Request, Situation,
};
use crate::env::Rng;
use crate::types::{BrokerEpoch, BrokerId, Offset, Timestamp, Uuid};

/// When everything happens.
const AT: Situation = Situation {
    wall: Timestamp(77),
    others_know: true,
};

fn defaults(file: &str) -> BrokerDefaults {
    let loaded = BrokerConfig::load(Some(file), Vec::new(), Vec::new()).unwrap();
    loaded.config.defaults().clone()
}

fn registration(id: i32, run: u8) -> RegisterBroker {
    RegisterBroker {
        id: BrokerId(id),
        incarnation: Uuid([run; 16]),
        endpoints: vec![BrokerEndpoint {
            listener: "PLAINTEXT".to_owned(),
            host: String::new(),
            port: 9092,
            protocol: 0,
        }],
        rack: None,
        directories: Vec::new(),
        after_clean_shutdown: true,
    }
}

/// A registration after a clean stop, with the directory that broker has always had.
fn at_home(id: i32, run: u8) -> RegisterBroker {
    RegisterBroker {
        directories: vec![Uuid([u8::try_from(id).unwrap(); 16])],
        ..registration(id, run)
    }
}

fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

/// A ledger that commits whatever it decides at once.
struct Cluster {
    ledger: ControllerLedger,
    entropy: Rng,
    end: Offset,
    batches: Vec<(Offset, Vec<MetadataRecord>)>,
}

impl Cluster {
    /// A founded cluster of `brokers`, each started with `file`.
    fn with(brokers: i32, file: &str) -> Self {
        let mut cluster = Self {
            ledger: ControllerLedger::new(BrokerId(1), defaults(file)),
            entropy: Rng::from_seed([7; 32]),
            end: Offset::ZERO,
            batches: Vec::new(),
        };
        cluster
            .ask(Request::Found {
                cluster_id: Uuid([5; 16]),
            })
            .unwrap();
        for id in 1..=brokers {
            cluster
                .ask(Request::RegisterBroker(registration(id, 1)))
                .unwrap();
        }
        cluster
    }

    /// A founded cluster of several nodes, with brokers 1 to `brokers` alive on them.
    fn of(brokers: i32, file: &str) -> Self {
        let mut cluster = Self {
            ledger: ControllerLedger::in_cluster(BrokerId(1), defaults(file)),
            entropy: Rng::from_seed([7; 32]),
            end: Offset::ZERO,
            batches: Vec::new(),
        };
        let cluster_id = Uuid([5; 16]);
        cluster.ask(Request::Found { cluster_id }).unwrap();
        for id in 1..=brokers {
            cluster.start(id, 1);
        }
        cluster
    }

    /// Registers a run of broker `id` after a clean stop and brings it alive.
    fn start(&mut self, id: i32, run: u8) {
        self.register(at_home(id, run)).unwrap();
        self.beat(id).unwrap();
    }

    fn register(&mut self, registration: RegisterBroker) -> Result<BrokerEpoch, Refusal> {
        match self.ask(Request::RegisterBroker(registration))? {
            Reply::RegisterBroker(epoch) => Ok(epoch),
            other => panic!("{other:?}"),
        }
    }

    fn epoch(&self, id: i32) -> BrokerEpoch {
        self.ledger.image().broker(BrokerId(id)).unwrap().epoch
    }

    /// A heartbeat of broker `id` that has seen everything.
    fn heartbeat(&self, id: i32) -> BrokerHeartbeat {
        BrokerHeartbeat {
            id: BrokerId(id),
            epoch: self.epoch(id),
            metadata_end: self.end,
            wants_fence: false,
            wants_shut_down: false,
        }
    }

    fn beat(&mut self, id: i32) -> Result<HeartbeatReply, Refusal> {
        let heartbeat = self.heartbeat(id);
        self.tell(heartbeat)
    }

    fn tell(&mut self, heartbeat: BrokerHeartbeat) -> Result<HeartbeatReply, Refusal> {
        match self.ask(Request::Heartbeat(heartbeat))? {
            Reply::Heartbeat(reply) => Ok(reply),
            other => panic!("{other:?}"),
        }
    }

    fn fence(&mut self, id: i32) {
        let request = Request::FenceBroker {
            id: BrokerId(id),
            epoch: self.epoch(id),
        };
        self.ask(request).unwrap();
    }

    /// The state of partition 0 of topic `a`.
    fn state(&self) -> PartitionState {
        PartitionState::clone(self.ledger.image().partition("a", 0).unwrap())
    }

    /// Topic `a` with one partition on brokers `replicas`.
    fn create_on(&mut self, replicas: &[i32], configs: &[(&str, &str)]) {
        let setting = |(name, value): &(&str, &str)| (name.to_string(), Some(value.to_string()));
        let topic = NewTopic {
            assignments: [(0, ids(replicas))].into(),
            configs: configs.iter().map(setting).collect(),
            ..NewTopic::named("a")
        };
        self.create(topic).unwrap();
    }

    fn ask(&mut self, request: Request) -> Result<Reply, Refusal> {
        let (records, reply) = self.ledger.handle(&mut self.entropy, AT, &request)?;
        if !records.is_empty() {
            self.end = self.end.plus(i64::try_from(records.len()).unwrap());
            self.batches.push((self.end, records.clone()));
            let committed = Committed::Batch {
                end: self.end,
                records,
            };
            self.ledger.replay(&committed).unwrap();
        }
        Ok(reply)
    }

    fn create(&mut self, topic: NewTopic) -> Result<CreatedTopic, Refusal> {
        let topics = vec![topic];
        let request = CreateTopics {
            topics,
            validate_only: false,
        };
        match self.ask(Request::CreateTopics(request)).unwrap() {
            Reply::CreateTopics(mut results) => results.remove(0).1,
            other => panic!("{other:?}"),
        }
    }
}
