//! Records that are read as the answer is sent.
//!
//! An answer that has begun cannot become an error any more. Where something is wrong with what is
//! left of it, the connection ends, and the client has nothing of that answer. Whoever asks next
//! gets an answer that was read before it is begun.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use super::source::Serving;
use crate::broker::Broker;
use crate::broker::metrics::TopicCounters;
use crate::log::{ReadError, Stretch};
use crate::wire::{Later, Source};

struct Rest {
    broker: Arc<Broker>,
    serving: Serving,
    counters: Option<Arc<TopicCounters>>,
    stretch: Mutex<Stretch>,
}

/// What `stretch` has, as long as this broker is what it was to the partition.
pub(super) fn later(
    broker: &Arc<Broker>,
    serving: &Serving,
    counters: Option<&Arc<TopicCounters>>,
    stretch: Stretch,
) -> Later {
    let len = stretch.len();
    let rest = Rest {
        broker: broker.clone(),
        serving: serving.clone(),
        counters: counters.cloned(),
        stretch: Mutex::new(stretch),
    };
    Later::new(len, Arc::new(rest))
}

impl Source for Rest {
    fn next(&self) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        Box::pin(async {
            let mut stretch = self.stretch.lock().await;
            let read = stretch.next().await;
            if !self.serving.is_current() {
                // The log may have been truncated and written anew under the read.
                tracing::trace!(target: "klamm::probe", name = "deposed-amid-an-answer");
                return Err(io::Error::other("the partition is led by another broker"));
            }
            read.map_err(|error| self.failed(&stretch, &error))
        })
    }
}

impl Rest {
    fn failed(&self, stretch: &Stretch, error: &ReadError) -> io::Error {
        let partition = &self.serving.hosted.topic_partition;
        tracing::trace!(target: "klamm::probe", name = "read-failed-amid-an-answer");
        if let Some(counters) = &self.counters {
            counters.fetch_failed();
        }
        if stretch.has_log_changed() {
            tracing::warn!(%partition, %error, "the log was changed under a read");
        } else {
            tracing::error!(%partition, %error, "read failed: the connection is closed");
            if let ReadError::Corrupt(_) = error {
                let (hosted, epoch) = (&self.serving.hosted, self.serving.leader_epoch);
                self.broker.partitions.damaged(hosted, epoch);
            }
        }
        io::Error::other(error.to_string())
    }
}
