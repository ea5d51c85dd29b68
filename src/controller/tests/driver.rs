//! The controller's task: order of carrying out and answering, restarts, failure.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{defaults, registration};
use crate::controller::local::memory_disk::MemoryDisk;
use crate::controller::*;
use crate::env::{Clock, Rng, Timer};
use crate::types::{BrokerId, ErrorCode, Instant, ProducerId, Timestamp, Uuid};

const NODE: BrokerId = BrokerId(1);

/// It is always the same moment.
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Instant {
        Instant(0)
    }

    fn wall(&self) -> Timestamp {
        Timestamp(7)
    }

    fn timer(&self) -> Box<dyn Timer> {
        panic!("a node by itself has no duties")
    }
}

async fn open(
    disk: &MemoryDisk,
    seed: u8,
) -> (Controller, ControllerTask, mpsc::Receiver<ImageUpdate>) {
    let dirs = [PathBuf::from("/data")];
    let quorum = LocalQuorum::open(Arc::new(disk.clone()), &dirs, NODE, 1000)
        .await
        .unwrap();
    let (updates, received) = mpsc::channel(1);
    let entropy = Rng::from_seed([seed; 32]);
    let ledger = ControllerLedger::new(NODE, defaults(""));
    let clock = Arc::new(StoppedClock);
    let (controller, task) =
        Controller::open_with(Box::new(quorum), ledger, entropy, clock, updates)
            .await
            .unwrap();
    (controller, task, received)
}

/// Runs `body` beside the controller's task on one thread until `body` is done.
fn run<T>(
    disk: &MemoryDisk,
    seed: u8,
    body: impl AsyncFnOnce(Controller, mpsc::Receiver<ImageUpdate>) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (controller, task, updates) = open(disk, seed).await;
        let mut task = std::pin::pin!(task.run());
        let mut body = std::pin::pin!(body(controller, updates));
        let mut has_ended = false;
        std::future::poll_fn(|context| {
            if !has_ended {
                has_ended = task.as_mut().poll(context).is_ready();
            }
            body.as_mut().poll(context)
        })
        .await
    })
}

async fn start(controller: &Controller) {
    controller.found(Uuid([5; 16])).await.unwrap();
    controller
        .register_broker(registration(1, 1))
        .await
        .unwrap();
}

fn one_topic(name: &str) -> CreateTopics {
    CreateTopics {
        topics: vec![NewTopic::named(name)],
        validate_only: false,
    }
}

#[test]
fn a_topic_is_carried_out_before_its_creation_is_answered() {
    run(
        &MemoryDisk::default(),
        1,
        async |controller, mut updates| {
            let asked = async {
                start(&controller).await;
                controller.create_topics(one_topic("a")).await.unwrap()
            };
            let mut asked = std::pin::pin!(asked);
            let mut carried_out = Vec::new();
            let results = loop {
                tokio::select! {
                    biased;
                    results = &mut asked => break results,
                    update = updates.recv() => {
                        let update = update.unwrap();
                        if update.image.topic("a").is_some() {
                            let is_answered = std::future::poll_fn(|context| {
                                std::task::Poll::Ready(asked.as_mut().poll(context).is_ready())
                            });
                            assert!(!is_answered.await, "answered before it was carried out");
                        }
                        carried_out.push(update.delta);
                        update.done.send(()).unwrap();
                    }
                }
            };
            let id = results[0].1.as_ref().unwrap().topic_id;
            assert_eq!(
                carried_out.last().unwrap().topics.get(&id),
                Some(&TopicDelta::Created)
            );
            assert_eq!(controller.image().topic("a").unwrap().id, id);
        },
    );
}

#[test]
fn a_restarted_controller_begins_by_announcing_everything() {
    let disk = MemoryDisk::default();
    let before = run(&disk, 1, async |controller, updates| {
        drop(updates);
        start(&controller).await;
        for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"] {
            controller.create_topics(one_topic(name)).await.unwrap();
        }
        controller.image()
    });
    assert!(
        disk.names().iter().any(|name| name.ends_with(".snapshot")),
        "{:?}",
        disk.names()
    );
    run(&disk, 2, async |controller, mut updates| {
        assert_eq!(controller.image(), before);
        let update = updates.recv().await.unwrap();
        assert_eq!(update.image, before);
        assert_eq!(update.delta.topics.len(), 12);
        assert!(
            update
                .delta
                .topics
                .values()
                .all(|delta| *delta == TopicDelta::Created)
        );
    });
}

#[test]
fn a_producer_id_is_never_given_twice_even_after_a_crash() {
    let disk = MemoryDisk::default();
    let mut given = BTreeSet::new();
    for restart in 0..5 {
        run(&disk, restart, async |controller, updates| {
            drop(updates);
            if restart == 0 {
                start(&controller).await;
            }
            for _ in 0..1200 {
                let id = controller.next_producer_id().await.unwrap();
                assert!(given.insert(id), "{id:?} twice");
            }
        });
    }
    assert_eq!(given.first(), Some(&ProducerId(0)));
    assert_eq!(given.len(), 6000);
}

#[test]
fn a_failed_metadata_log_stops_the_controller_and_says_the_outcome_is_unknown() {
    let disk = MemoryDisk::default();
    run(&disk, 1, async |controller, updates| {
        drop(updates);
        start(&controller).await;
        disk.stop_after(Some(0));
        let refusal = controller.create_topics(one_topic("a")).await.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::RequestTimedOut);
        let refusal = controller.next_producer_id().await.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::RequestTimedOut);
    });
}
