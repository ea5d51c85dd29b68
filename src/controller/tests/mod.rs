//! What the tests of the controller share.

mod driver;
mod history;
mod ledger;
mod records;

use crate::config::{BrokerConfig, BrokerDefaults};
use crate::controller::{
    BrokerEndpoint, Committed, ControllerLedger, CreateTopics, CreatedTopic, NewTopic, Refusal,
    RegisterBroker, Reply, Request,
};
use crate::env::Rng;
use crate::types::{BrokerId, Offset, Uuid};

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

/// A ledger that commits whatever it decides at once.
struct Cluster {
    ledger: ControllerLedger,
    entropy: Rng,
    end: Offset,
}

impl Cluster {
    /// A founded cluster of `brokers`, each started with `file`.
    fn with(brokers: i32, file: &str) -> Self {
        let mut cluster = Self {
            ledger: ControllerLedger::new(BrokerId(1), defaults(file)),
            entropy: Rng::from_seed([7; 32]),
            end: Offset::ZERO,
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

    fn ask(&mut self, request: Request) -> Result<Reply, Refusal> {
        let (records, reply) = self.ledger.handle(&mut self.entropy, &request)?;
        if !records.is_empty() {
            self.end = self.end.plus(i64::try_from(records.len()).unwrap());
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
