//! Controllers of a cluster around a quorum that agrees at once: who handles requests, how others
//! reach it, and that nothing holds up the replay.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::{at_home, defaults};
use crate::config::BrokerConfig;
use crate::controller::*;
use crate::env::{BoxFuture, Env, Task};
use crate::types::{BrokerId, ErrorCode, Offset, Uuid};

/// What all nodes agree on.
#[derive(Default)]
struct Agreed {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    batches: Vec<(Offset, Vec<MetadataRecord>)>,
    leader: Option<BrokerId>,
    term: u64,
}

impl Agreed {
    fn elect(&self, leader: Option<i32>) {
        let mut state = self.state.lock().unwrap();
        state.leader = leader.map(BrokerId);
        state.term += 1;
        drop(state);
        self.changed.notify_waiters();
    }
}

struct FakeQuorum {
    node: BrokerId,
    agreed: Arc<Agreed>,
    handed_back: usize,
    term: u64,
}

impl Quorum for FakeQuorum {
    fn propose(
        &self,
        records: Vec<MetadataRecord>,
    ) -> BoxFuture<'static, Result<Offset, ProposeError>> {
        let (agreed, node) = (self.agreed.clone(), self.node);
        Box::pin(async move {
            let mut state = agreed.state.lock().unwrap();
            if state.leader != Some(node) {
                let leader = state.leader;
                return Err(ProposeError::NotController { leader });
            }
            let before = state.batches.last().map_or(Offset::ZERO, |(end, _)| *end);
            let end = before.plus(records.len() as i64);
            state.batches.push((end, records));
            drop(state);
            agreed.changed.notify_waiters();
            Ok(end)
        })
    }

    fn next_committed(&mut self) -> BoxFuture<'_, Result<Committed, String>> {
        Box::pin(async move {
            loop {
                let mut changed = std::pin::pin!(self.agreed.changed.notified());
                changed.as_mut().enable();
                {
                    let state = self.agreed.state.lock().unwrap();
                    if let Some((end, records)) = state.batches.get(self.handed_back) {
                        self.handed_back += 1;
                        let (end, records) = (*end, records.clone());
                        return Ok(Committed::Batch { end, records });
                    }
                    if state.term > self.term {
                        self.term = state.term;
                        let (leader, term) = (state.leader, state.term);
                        return Ok(Committed::Leader { leader, term });
                    }
                }
                changed.await;
            }
        })
    }

    fn applied<'a>(&'a mut self, _: &'a ClusterImage) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

/// The way to the other nodes; those not in it are not running.
#[derive(Default)]
struct Way {
    controllers: Mutex<BTreeMap<BrokerId, Controller>>,
    /// How many of the next answers are lost.
    losing: AtomicU32,
}

impl Forward for Way {
    fn forward(
        &self,
        leader: BrokerId,
        request: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let controller = self.controllers.lock().unwrap().get(&leader).cloned();
        let is_losing = |left: u32| left.checked_sub(1);
        let losing = self
            .losing
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, is_losing);
        Box::pin(async move {
            match controller {
                Some(controller) => {
                    let answer = controller.answer_forwarded(request).await;
                    match losing {
                        Ok(_) => Err(PeerError::Lost("the connection broke".to_owned())),
                        Err(_) => Ok(answer),
                    }
                }
                None => Err(PeerError::NobodyListens(format!("node {leader}"))),
            }
        })
    }
}

struct Nodes {
    agreed: Arc<Agreed>,
    way: Arc<Way>,
    controllers: Vec<Controller>,
    updates: Vec<mpsc::Receiver<ImageUpdate>>,
    tasks: Vec<Task>,
    env: Env,
}

fn nodes(env: &Env, count: i32) -> Nodes {
    let file = "broker.session.timeout.ms=300\nbroker.heartbeat.interval.ms=100\n\
                auto.leader.rebalance.enable=false";
    let config = BrokerConfig::load(Some(file), Vec::new(), Vec::new()).unwrap();
    let replication = config.config.replication.clone();
    let (agreed, way) = (Arc::new(Agreed::default()), Arc::new(Way::default()));
    let mut nodes = Nodes {
        agreed: agreed.clone(),
        way: way.clone(),
        controllers: Vec::new(),
        updates: Vec::new(),
        tasks: Vec::new(),
        env: env.clone(),
    };
    for id in 1..=count {
        let quorum = FakeQuorum {
            node: BrokerId(id),
            agreed: agreed.clone(),
            handed_back: 0,
            term: 0,
        };
        let (sender, updates) = mpsc::channel(1);
        let (controller, task) = Controller::open_in_cluster(
            env,
            Box::new(quorum),
            BrokerId(id),
            defaults(""),
            &replication,
            way.clone(),
            sender,
        );
        way.controllers
            .lock()
            .unwrap()
            .insert(BrokerId(id), controller.clone());
        nodes.controllers.push(controller);
        nodes.updates.push(updates);
        nodes.tasks.push(env.spawn("controller", async move {
            task.run().await.unwrap();
        }));
    }
    nodes
}

impl Nodes {
    /// Subscribers that carry everything out at once.
    fn carry_out(&mut self) {
        for mut updates in self.updates.drain(..) {
            self.tasks.push(self.env.spawn("subscriber", async move {
                while let Some(update) = updates.recv().await {
                    update.done.send(()).ok();
                }
            }));
        }
    }

    async fn register(&self, node: usize) -> Result<(), Refusal> {
        let controller = &self.controllers[node];
        let id = i32::try_from(node + 1).unwrap();
        let epoch = controller.register_broker(at_home(id, 1)).await?;
        let heartbeat = BrokerHeartbeat {
            id: BrokerId(id),
            epoch,
            metadata_end: controller.image().end(),
            wants_fence: false,
            wants_shut_down: false,
        };
        controller.heartbeat(heartbeat).await.map(|_| ())
    }
}

fn run<T>(body: impl AsyncFnOnce(Env) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let env = crate::env::tokio::env(Default::default()).unwrap();
        body(env).await
    })
}

async fn soon<T>(env: &Env, work: impl Future<Output = T>) -> T {
    let span = Duration::from_secs(20);
    env.timeout(span, work).await.expect("it takes for ever")
}

fn one_topic(name: &str) -> CreateTopics {
    CreateTopics {
        topics: vec![NewTopic::named(name)],
        validate_only: false,
    }
}

const CLUSTER: Uuid = Uuid([5; 16]);

#[test]
fn any_node_takes_requests_and_has_what_it_changed_when_they_are_answered() {
    run(async |env| {
        let mut nodes = nodes(&env, 3);
        nodes.carry_out();
        let early = nodes.controllers[2].clone();
        let founding = async { early.found(CLUSTER).await.unwrap() };
        let election = async {
            env.sleep(Duration::from_millis(50)).await;
            nodes.agreed.elect(Some(1));
        };
        soon(&env, async { tokio::join!(founding, election) }).await;
        soon(&env, nodes.register(1)).await.unwrap();
        for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
            let controller = &nodes.controllers[index];
            let results = soon(&env, controller.create_topics(one_topic(name))).await;
            results.unwrap()[0].1.as_ref().unwrap();
            assert!(controller.image().topic(name).is_some());
            assert_eq!(controller.is_active(), index == 0);
            assert_eq!(controller.leader(), Some(BrokerId(1)));
        }
        let mut ids = Vec::new();
        for controller in &nodes.controllers {
            ids.push(soon(&env, controller.next_producer_id()).await.unwrap().0);
        }
        assert_eq!(ids, [0, 1000, 2000], "a block for each");
    });
}

#[test]
fn a_request_finds_the_next_leader_and_gives_up_in_time() {
    run(async |env| {
        let mut nodes = nodes(&env, 3);
        nodes.carry_out();
        nodes.agreed.elect(Some(1));
        soon(&env, nodes.controllers[1].found(CLUSTER))
            .await
            .unwrap();
        nodes.agreed.elect(None);
        let asking = nodes.controllers[2].clone();
        let asked = async { asking.found(CLUSTER).await };
        let election = async {
            env.sleep(Duration::from_millis(50)).await;
            nodes.agreed.elect(Some(2));
        };
        let (answer, ()) = soon(&env, async { tokio::join!(asked, election) }).await;
        assert_eq!(answer, Ok(CLUSTER));
        nodes.agreed.elect(Some(9));
        let impatient = nodes.controllers[0].within(Duration::from_millis(100));
        let refusal = soon(&env, impatient.found(CLUSTER)).await.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::NotController);
    });
}

#[test]
fn what_a_lost_answer_was_about_is_done_once_and_told_as_done() {
    run(async |env| {
        let mut nodes = nodes(&env, 2);
        nodes.carry_out();
        nodes.agreed.elect(Some(1));
        soon(&env, nodes.register_all()).await;
        let controller = nodes.controllers[1].clone();
        let lose = |answers| nodes.way.losing.store(answers, Ordering::Release);
        let ends = || nodes.agreed.state.lock().unwrap().batches.len();

        lose(2);
        let before = ends();
        let made = soon(&env, controller.create_topics(one_topic("a"))).await;
        let made = made.unwrap().remove(0).1.unwrap();
        assert_eq!(ends(), before + 1, "made once");
        let topic = controller.image().topic("a").unwrap().id;
        assert_eq!((made.topic_id, made.partitions), (topic, 1));
        let again = soon(&env, controller.create_topics(one_topic("a"))).await;
        let refusal = again.unwrap().remove(0).1.unwrap_err();
        assert_eq!(
            refusal.code,
            ErrorCode::TopicAlreadyExists,
            "another request"
        );

        lose(1);
        let topics = vec![MorePartitions {
            name: "a".to_owned(),
            count: 3,
            assignments: None,
        }];
        let more = CreatePartitions {
            topics,
            validate_only: false,
        };
        let grown = soon(&env, controller.create_partitions(more.clone())).await;
        assert_eq!(grown.unwrap().remove(0).1, Ok(()));
        for answers in [0, 1] {
            lose(answers);
            let again = soon(&env, controller.create_partitions(more.clone())).await;
            let refusal = again.unwrap().remove(0).1.unwrap_err();
            assert_eq!(refusal.code, ErrorCode::InvalidPartitions, "it had as many");
        }

        lose(1);
        let by_name = || TopicSelector::Name("a".to_owned());
        let doomed = || DeleteTopics {
            topics: vec![by_name()],
        };
        let deleted = soon(&env, controller.delete_topics(doomed())).await;
        let (selector, deleted) = deleted.unwrap().remove(0);
        assert_eq!(selector, by_name());
        assert_eq!(deleted.unwrap().topic_id, topic);
        let again = soon(&env, controller.delete_topics(doomed())).await;
        let refusal = again.unwrap().remove(0).1.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::UnknownTopicOrPartition);
    });
}

#[test]
fn an_answer_waits_for_this_nodes_subscriber_but_the_replay_does_not() {
    run(async |env| {
        let mut nodes = nodes(&env, 2);
        nodes.agreed.elect(Some(1));
        // The subscriber of node 2 carries nothing out for now.
        let mut slow = nodes.updates.remove(1);
        nodes.carry_out();
        soon(&env, nodes.register_all()).await;
        let controller = nodes.controllers[1].within(Duration::from_millis(200));
        let refusal = soon(&env, controller.create_topics(one_topic("a")))
            .await
            .unwrap_err();
        assert_eq!(refusal.code, ErrorCode::RequestTimedOut);
        assert!(
            controller.image().topic("a").is_some(),
            "replayed all the same"
        );
        let other = soon(&env, nodes.controllers[0].create_topics(one_topic("b")))
            .await
            .unwrap();
        other[0].1.as_ref().unwrap();
        // Of all that happened meanwhile it gets the first change and the rest in one.
        let first = soon(&env, slow.recv()).await.unwrap();
        first.done.send(()).unwrap();
        let rest = soon(&env, slow.recv()).await.unwrap();
        let names: Vec<_> = rest
            .image
            .topics()
            .map(|topic| topic.name.to_string())
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(rest.delta.topics.len(), 2);
        rest.done.send(()).unwrap();
        let again = soon(&env, nodes.controllers[1].create_topics(one_topic("b")));
        let carrying = async {
            while let Some(update) = slow.recv().await {
                update.done.send(()).ok();
            }
        };
        tokio::select! {
            biased;
            answer = again => assert!(answer.unwrap()[0].1.is_err()),
            () = carrying => {}
        }
    });
}

#[test]
fn a_broker_that_is_silent_is_fenced_and_a_new_controller_waits_anew() {
    run(async |env| {
        let mut nodes = nodes(&env, 2);
        nodes.carry_out();
        nodes.agreed.elect(Some(1));
        soon(&env, nodes.register_all()).await;
        let image = nodes.controllers[0].image();
        assert_eq!(image.alive().count(), 2);
        nodes.agreed.elect(Some(2));
        let began = env.now();
        let fenced = async {
            while nodes.controllers[0].image().alive().count() > 0 {
                env.sleep(Duration::from_millis(10)).await;
            }
        };
        soon(&env, fenced).await;
        assert!(env.now().since(began) >= Duration::from_millis(299));
    });
}

impl Nodes {
    async fn register_all(&self) {
        self.controllers[0].found(CLUSTER).await.unwrap();
        for node in 0..self.controllers.len() {
            self.register(node).await.unwrap();
        }
    }
}
