//! Promises of `Tasks`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::soon;
use crate::env::Env;

const SHORT: Duration = Duration::from_millis(20);

/// Set when dropped.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(super) async fn tasks_run_side_by_side(env: &Env, _dir: &Path) {
    let (to_other, mut from_one) = mpsc::channel(1);
    let (to_one, mut from_other) = mpsc::channel(1);
    let one = env.spawn("one", async move {
        for count in 0..100_u32 {
            to_other.send(count).await.expect("the other task is alive");
            assert_eq!(from_other.recv().await, Some(count));
        }
    });
    let other = env.spawn("other", async move {
        while let Some(count) = from_one.recv().await {
            to_one.send(count).await.expect("the first task is alive");
        }
    });
    soon(env, "two tasks that answer each other", async {
        one.join().await;
        other.join().await;
    })
    .await;
}

pub(super) async fn join_waits_for_the_end(env: &Env, _dir: &Path) {
    let ended = Arc::new(AtomicBool::new(false));
    let (inner, guard) = (env.clone(), SetOnDrop(Arc::clone(&ended)));
    let task = env.spawn("sleeper", async move {
        inner.sleep(SHORT).await;
        drop(guard);
    });
    assert!(!ended.load(Ordering::SeqCst), "ended before it could");
    soon(env, "a join", task.join()).await;
    assert!(ended.load(Ordering::SeqCst), "joined before the end");
}

pub(super) async fn a_dropped_task_is_aborted(env: &Env, _dir: &Path) {
    let dropped = Arc::new(AtomicBool::new(false));
    let steps = Arc::new(AtomicU64::new(0));
    let (inner, guard) = (env.clone(), SetOnDrop(Arc::clone(&dropped)));
    let counter = Arc::clone(&steps);
    let task = env.spawn("endless", async move {
        let _guard = guard;
        loop {
            counter.fetch_add(1, Ordering::SeqCst);
            inner.sleep(Duration::from_millis(2)).await;
        }
    });
    env.sleep(SHORT).await;
    assert!(!task.is_finished(), "an endless task ended");
    drop(task);
    soon(env, "the end of a dropped task", async {
        while !dropped.load(Ordering::SeqCst) {
            env.sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let steps_then = steps.load(Ordering::SeqCst);
    assert!(steps_then > 0, "the task never ran");
    env.sleep(SHORT).await;
    assert_eq!(steps.load(Ordering::SeqCst), steps_then, "it went on");
}

pub(super) async fn a_detached_task_goes_on(env: &Env, _dir: &Path) {
    let (done, result) = oneshot::channel();
    let inner = env.clone();
    env.spawn("detached", async move {
        inner.sleep(SHORT).await;
        let _ = done.send(5);
    })
    .detach();
    assert_eq!(soon(env, "a detached task", result).await, Ok(5));
}

pub(super) async fn a_task_knows_when_it_has_finished(env: &Env, _dir: &Path) {
    let (go, gone) = oneshot::channel::<()>();
    let task = env.spawn("waiting", async move {
        let _ = gone.await;
    });
    env.sleep(SHORT).await;
    assert!(!task.is_finished(), "finished while it waits");
    drop(go);
    soon(env, "the end of a task", async {
        while !task.is_finished() {
            env.sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
