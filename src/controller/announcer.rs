//! Tells the subscriber of a node what changed, without holding up the one who replays.
//!
//! One update is under way at a time. What is replayed meanwhile becomes one further update, from
//! the image last told to the newest: so what waits is bounded, however long carrying out takes.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::delta::ImageDelta;
use super::driver::ImageUpdate;
use super::image::ClusterImage;
use crate::types::Offset;

/// What has been told and what has not.
pub(super) struct Announcer {
    updates: mpsc::Sender<ImageUpdate>,
    told: Arc<ClusterImage>,
    under_way: Option<oneshot::Receiver<()>>,
    waiting: Option<Waiting>,
}

struct Waiting {
    image: Arc<ClusterImage>,
    /// From the image told last; `None`: several changes, to be found out when it is told.
    delta: Option<ImageDelta>,
}

impl Announcer {
    pub(super) fn new(updates: mpsc::Sender<ImageUpdate>) -> Self {
        Self {
            updates,
            told: Arc::default(),
            under_way: None,
            waiting: None,
        }
    }

    /// Takes over the next image, which differs from the one before by `delta`.
    pub(super) fn offer(&mut self, image: Arc<ClusterImage>, delta: ImageDelta) {
        let delta = match self.waiting {
            None => Some(delta),
            Some(_) => None,
        };
        self.waiting = Some(Waiting { image, delta });
    }

    /// Goes on until something more is carried out, and says up to which offset all is. Never
    /// completes while there is nothing to tell. May be dropped and called again.
    pub(super) async fn progress(&mut self) -> Offset {
        if self.under_way.is_none() {
            self.tell().await;
        }
        if let Some(carried_out) = &mut self.under_way {
            // Dropped without an answer: there is nobody to wait for.
            carried_out.await.ok();
            self.under_way = None;
        }
        self.told.end()
    }

    /// Goes on until nothing is left to tell.
    pub(super) async fn finish(&mut self) {
        while self.under_way.is_some() || self.waiting.is_some() {
            self.progress().await;
        }
    }

    /// Gives the next update to the subscriber.
    async fn tell(&mut self) {
        if self.waiting.is_none() {
            return std::future::pending().await;
        }
        // Without a subscriber (it has stopped, or the node is stopping) nobody is told.
        let permit = self.updates.reserve().await.ok();
        let Some(Waiting { image, delta }) = self.waiting.take() else {
            return;
        };
        let delta = delta.unwrap_or_else(|| ImageDelta::between(&self.told, &image));
        self.told = image.clone();
        if delta.is_empty() {
            return;
        }
        if let Some(permit) = permit {
            let (done, carried_out) = oneshot::channel();
            permit.send(ImageUpdate { image, delta, done });
            self.under_way = Some(carried_out);
        }
    }
}
