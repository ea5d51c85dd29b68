//! The directories of logs that are gone are removed beside everything else, as it may take long:
//! the deletion of a topic waits for new names only, and a start for nothing.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future;

use crate::env::Env;

/// Directories that are removed at once: few, as what others want of the disk goes before.
const SIDE_BY_SIDE: usize = 2;

/// What is to be removed, of all topics.
#[derive(Default)]
pub(super) struct Removing {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    dirs: VecDeque<PathBuf>,
    /// Whether a task is at it.
    is_under_way: bool,
}

impl Removing {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes `dirs` soon. Their names must be such that a start removes what is left of them, and
    /// be durable.
    pub fn begin(self: &Arc<Self>, env: &Env, dirs: Vec<PathBuf>) {
        let mut waiting = self.lock();
        waiting.dirs.extend(dirs);
        if waiting.is_under_way || waiting.dirs.is_empty() {
            return;
        }
        waiting.is_under_way = true;
        drop(waiting);
        let (this, of) = (self.clone(), env.clone());
        let body = async move { this.run(&of).await };
        env.spawn("remove-logs", body).detach();
    }

    async fn run(&self, env: &Env) {
        loop {
            let next: Vec<PathBuf> = {
                let mut waiting = self.lock();
                let count = waiting.dirs.len().min(SIDE_BY_SIDE);
                waiting.is_under_way = count > 0;
                waiting.dirs.drain(..count).collect()
            };
            if next.is_empty() {
                return;
            }
            future::join_all(next.iter().map(async |dir| {
                if let Err(error) = env.disk.remove_dir(dir).await {
                    let dir = dir.display();
                    tracing::error!(%dir, %error, "not removed: the next start tries again");
                }
            }))
            .await;
        }
    }
}
