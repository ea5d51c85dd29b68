//! A controller whose last change is neither committed nor gone: nothing is decided meanwhile.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};

use super::defaults;
use crate::config::BrokerConfig;
use crate::controller::*;
use crate::env::{BoxFuture, Env, Task};
use crate::types::{BrokerId, ErrorCode, Offset, ProducerId, Uuid};

const ME: BrokerId = BrokerId(1);

type Answer = oneshot::Sender<Result<Offset, ProposeError>>;

/// What was proposed and what is handed back, both by the test's will.
#[derive(Default)]
struct Script {
    proposed: Mutex<VecDeque<(Vec<MetadataRecord>, Answer)>>,
    handed_back: Mutex<VecDeque<Committed>>,
    changed: Notify,
}

impl Script {
    fn hand_back(&self, committed: Committed) {
        self.handed_back.lock().unwrap().push_back(committed);
        self.changed.notify_one();
    }

    fn lead(&self, leader: Option<BrokerId>, term: u64) {
        self.hand_back(Committed::Leader { leader, term });
    }

    fn count(&self) -> usize {
        self.proposed.lock().unwrap().len()
    }

    /// What is proposed next, once something is.
    async fn next(&self, env: &Env) -> (Vec<MetadataRecord>, Answer) {
        for _ in 0..2000 {
            if let Some(next) = self.proposed.lock().unwrap().pop_front() {
                return next;
            }
            env.sleep(Duration::from_millis(5)).await;
        }
        panic!("nothing is proposed");
    }

    fn commit(&self, end: i64, records: Vec<MetadataRecord>) {
        let end = Offset(end);
        self.hand_back(Committed::Batch { end, records });
    }
}

struct Scripted(Arc<Script>);

impl Quorum for Scripted {
    fn propose(
        &self,
        records: Vec<MetadataRecord>,
    ) -> BoxFuture<'static, Result<Offset, ProposeError>> {
        let (answer, answered) = oneshot::channel();
        self.0.proposed.lock().unwrap().push_back((records, answer));
        Box::pin(async { answered.await.expect("the test answers or waits") })
    }

    fn next_committed(&mut self) -> BoxFuture<'_, Result<Committed, String>> {
        Box::pin(async {
            loop {
                if let Some(next) = self.0.handed_back.lock().unwrap().pop_front() {
                    return Ok(next);
                }
                self.0.changed.notified().await;
            }
        })
    }

    fn applied<'a>(&'a mut self, _: &'a ClusterImage) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

struct Nowhere;

impl Forward for Nowhere {
    fn forward(
        &self,
        _: BrokerId,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        Box::pin(async { Err(PeerError::NobodyListens("nobody".to_owned())) })
    }
}

/// A controller that leads in term 1 of a founded cluster.
async fn leading(env: &Env) -> (Arc<Script>, Controller, Task) {
    let file = "auto.leader.rebalance.enable=false";
    let config = BrokerConfig::load(Some(file), Vec::new(), Vec::new()).unwrap();
    let script = Arc::new(Script::default());
    let (updates, mut incoming) = mpsc::channel::<ImageUpdate>(1);
    let (controller, task) = Controller::open_in_cluster(
        env,
        Box::new(Scripted(script.clone())),
        ME,
        defaults(""),
        &config.config.replication,
        Arc::new(Nowhere),
        updates,
    );
    let task = env.spawn("controller", async move {
        let carrying_out = async {
            while let Some(update) = incoming.recv().await {
                update.done.send(()).ok();
            }
        };
        let (outcome, ()) = tokio::join!(task.run(), carrying_out);
        outcome.unwrap();
    });
    let cluster_id = Uuid([5; 16]);
    script.commit(1, vec![MetadataRecord::Cluster { cluster_id }]);
    script.lead(Some(ME), 1);
    controller.until_led().await;
    (script, controller, task)
}

fn run(body: impl AsyncFnOnce(Env)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let env = crate::env::tokio::env(Default::default()).unwrap();
        let limit = Duration::from_secs(30);
        env.clone().timeout(limit, body(env)).await.unwrap();
    });
}

/// Asks for a block of producer ids; each block begins where the one before ended.
fn ask(env: &Env, controller: &Controller) -> oneshot::Receiver<Result<Reply, Refusal>> {
    let (told, answer) = oneshot::channel();
    let controller = controller.within(Duration::from_secs(10));
    let asking = async move {
        let request = Request::AllocateProducerIds { broker: ME };
        told.send(controller.ask(request).await).ok();
    };
    env.spawn("ask", asking).detach();
    answer
}

fn next_id(records: &[MetadataRecord]) -> ProducerId {
    match records {
        [MetadataRecord::ProducerIds { next, .. }] => *next,
        other => panic!("{other:?}"),
    }
}

/// The majority is away for a while and comes back in the same term: what was proposed before is
/// committed after all.
#[test]
fn nothing_is_decided_before_it_is_known_what_became_of_the_change_before() {
    run(async |env| {
        let (script, controller, _task) = leading(&env).await;
        let first = ask(&env, &controller);
        let (records, answer) = script.next(&env).await;
        assert_eq!(next_id(&records), ProducerId(1000));
        script.lead(None, 1);
        script.lead(Some(ME), 1);
        let second = ask(&env, &controller);
        env.sleep(Duration::from_millis(200)).await;
        assert_eq!(
            script.count(),
            0,
            "it was decided without the change before"
        );
        answer.send(Ok(Offset(2))).unwrap();
        script.commit(2, records);
        assert!(first.await.unwrap().is_ok());
        let (records, answer) = script.next(&env).await;
        assert_eq!(next_id(&records), ProducerId(2000));
        answer.send(Ok(Offset(3))).unwrap();
        script.commit(3, records);
        assert!(second.await.unwrap().is_ok());
    });
}

#[test]
fn while_a_majority_is_away_requests_are_refused_at_once() {
    run(async |env| {
        let (script, controller, _task) = leading(&env).await;
        let _first = ask(&env, &controller);
        let (_records, _answer) = script.next(&env).await;
        script.lead(None, 1);
        let refused = controller
            .within(Duration::from_millis(100))
            .found(Uuid([5; 16]))
            .await;
        assert_eq!(refused.unwrap_err().code, ErrorCode::NotController);
    });
}

#[test]
fn a_change_that_did_not_survive_its_term_holds_nothing_up_in_a_later_one() {
    run(async |env| {
        let (script, controller, _task) = leading(&env).await;
        let first = ask(&env, &controller);
        let (_lost, answer) = script.next(&env).await;
        let discarded = ProposeError::Unavailable("discarded".to_owned());
        answer.send(Err(discarded)).unwrap();
        let refused = first.await.unwrap();
        assert_eq!(refused.unwrap_err().code, ErrorCode::RequestTimedOut);
        let second = ask(&env, &controller);
        env.sleep(Duration::from_millis(200)).await;
        assert_eq!(script.count(), 0, "nobody knows yet that it is gone");
        script.lead(Some(BrokerId(2)), 2);
        script.lead(Some(ME), 3);
        let (records, answer) = script.next(&env).await;
        assert_eq!(next_id(&records), ProducerId(1000));
        answer.send(Ok(Offset(2))).unwrap();
        script.commit(2, records);
        assert!(second.await.unwrap().is_ok());
    });
}
