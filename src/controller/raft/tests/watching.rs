//! Watched values, and the environment that code runs in.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use openraft::async_runtime::{Watch as _, WatchReceiver as _, WatchSender as _};

use super::harness::{memory_env, run};
use crate::controller::local::memory_disk::MemoryDisk;
use crate::controller::raft::ambient::{call, current, within};
use crate::controller::raft::watch::FifoWatch;

struct Noted {
    name: usize,
    woken: Arc<Mutex<Vec<usize>>>,
}

impl Wake for Noted {
    fn wake(self: Arc<Self>) {
        self.woken.lock().unwrap().push(self.name);
    }
}

#[test]
fn those_who_wait_are_woken_in_the_order_they_began_to() {
    let woken = Arc::new(Mutex::new(Vec::new()));
    let waker = |name| {
        let woken = woken.clone();
        Waker::from(Arc::new(Noted { name, woken }))
    };
    let (sender, receiver) = FifoWatch::channel(0);
    let mut receivers: Vec<_> = (0..9).map(|_| receiver.clone()).collect();
    let mut waiting: Vec<_> = receivers
        .iter_mut()
        .map(|receiver| Box::pin(receiver.changed()))
        .collect();
    let order = [4, 0, 8, 1, 7, 2, 6, 3, 5];
    for at in order {
        let waker = waker(at);
        let polled = waiting[at].as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    sender.send(1).unwrap();
    assert_eq!(*woken.lock().unwrap(), order);
    for wait in &mut waiting {
        let polled = wait.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Ok(()))));
    }
    assert_eq!(*receiver.borrow_watched(), 1);
}

#[test]
fn the_end_of_all_senders_is_seen_after_the_last_change() {
    let (sender, mut receiver) = FifoWatch::channel(0);
    sender.send(1).unwrap();
    let second = sender.clone();
    drop(sender);
    let mut poll = || {
        let mut changed = pin!(receiver.changed());
        changed
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    };
    assert!(matches!(poll(), Poll::Ready(Ok(()))));
    assert!(poll().is_pending());
    drop(second);
    assert!(matches!(poll(), Poll::Ready(Err(_))));
    let (sender, receiver) = FifoWatch::channel(0);
    drop(receiver);
    assert!(sender.send(1).is_err());
}

#[test]
fn every_future_runs_in_its_own_nodes_environment() {
    run(async {
        let envs: Vec<_> = (0..2)
            .map(|_| Arc::new(memory_env(&MemoryDisk::default())))
            .collect();
        let is = |at: usize| Arc::ptr_eq(&current(), &envs[at]);
        within(&envs[0], async {
            assert!(is(0));
            within(&envs[1], async {
                assert!(is(1));
                tokio::task::yield_now().await;
                assert!(is(1));
                assert!(call(&envs[0], || is(0)));
            })
            .await;
            assert!(is(0));
        })
        .await;
    });
}
