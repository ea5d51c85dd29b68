//! Producer ids, taken one by one from blocks that the controller gives out once.

use tokio::sync::Mutex;

use crate::controller::{Controller, ProducerIdBlock};
use crate::types::{BrokerId, ErrorCode, ProducerId};

/// The block this broker is using up. What is left of it at a stop is never given out.
pub struct ProducerIds {
    broker: BrokerId,
    block: Mutex<ProducerIdBlock>,
}

impl ProducerIds {
    #[must_use]
    pub fn new(broker: BrokerId) -> Self {
        let empty = ProducerIdBlock { start: ProducerId(0), count: 0 };
        Self { broker, block: Mutex::new(empty) }
    }

    /// An id that nobody else ever gets.
    pub async fn next(&self, controller: &Controller) -> Result<ProducerId, ErrorCode> {
        let mut block = self.block.lock().await;
        if block.count == 0 {
            *block = controller.allocate_producer_ids(self.broker).await.map_err(|error| {
                tracing::warn!(%error, "no producer ids");
                error.code()
            })?;
        }
        let id = block.start;
        block.start = ProducerId(id.0 + 1);
        block.count -= 1;
        Ok(id)
    }
}
