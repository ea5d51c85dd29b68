//! Who this node is, for those who ask it and those it asks.

use std::sync::{Mutex, PoisonError};

use crate::types::{BrokerId, Uuid};

/// This node as others know it.
#[derive(Debug)]
pub(super) struct Identity {
    pub node: BrokerId,
    /// Of its metadata directory.
    pub directory_id: Uuid,
    /// Of this run of the process.
    pub incarnation: Uuid,
    cluster_id: Mutex<Option<Uuid>>,
}

impl Identity {
    pub(super) fn new(
        node: BrokerId,
        directory_id: Uuid,
        incarnation: Uuid,
        cluster_id: Option<Uuid>,
    ) -> Self {
        Self {
            node,
            directory_id,
            incarnation,
            cluster_id: Mutex::new(cluster_id),
        }
    }

    /// `None` until this node was told its cluster.
    pub(super) fn cluster_id(&self) -> Option<Uuid> {
        *self
            .cluster_id
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn joined(&self, cluster_id: Uuid) {
        *self
            .cluster_id
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(cluster_id);
    }
}
