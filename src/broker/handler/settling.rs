//! Waits until this broker is what the metadata makes it to a partition.
//!
//! A topic's creation is answered once the node that was asked has carried it out. The leader of a
//! partition, another node, may learn of it or open the log a moment later. A client that comes
//! in between is let wait, within bounds, and not refused: not every client asks again, and what
//! one sends again may come behind what it sent later.

use std::sync::Arc;
use std::time::Duration;

use super::leadership::Named;
use crate::broker::Broker;
use crate::broker::partitions::Table;

/// Longest wait for metadata that names the topic.
const UNKNOWN_MAX: Duration = Duration::from_millis(500);
/// Longest wait, in all, for this broker to lead what the metadata lets it lead.
const COMING_MAX: Duration = Duration::from_secs(1);

/// Waits as long as one of `partitions` may be about to be led here.
pub async fn settle(broker: &Arc<Broker>, partitions: &[(Named<'_>, i32)]) {
    // A node by itself answers a creation once the partitions are there.
    if broker.cluster.is_none() || partitions.is_empty() {
        return;
    }
    let table = broker.partitions.table();
    let unsettled = |(named, partition): &&(Named<'_>, i32)| !is_led(&table, *named, *partition);
    let unsettled: Vec<(Named<'_>, i32)> = partitions.iter().filter(unsettled).copied().collect();
    if unsettled.is_empty() || broker.drain.is_on() {
        return;
    }
    let deadline = broker.env.now().plus(COMING_MAX);
    let known = broker.controller.until_image(|image| {
        let mut all = unsettled.iter();
        all.all(|(named, partition)| named.state(image, *partition).is_some())
    });
    let _ = broker.env.timeout(UNKNOWN_MAX, known).await;
    let image = broker.controller.image();
    let me = Some(broker.config.node_id);
    let table = broker.partitions.table();
    let is_coming = |(named, partition): &(Named<'_>, i32)| {
        let state = named.state(&image, *partition);
        state.is_some_and(|state| state.leader == me) && !is_led(&table, *named, *partition)
    };
    if unsettled.iter().any(is_coming) {
        tracing::trace!(target: "klamm::probe", name = "leader-to-be-waited-for");
        let left = deadline.since(broker.env.now());
        let carried_out = broker.controller.until_carried_out(image.end());
        let _ = broker.env.timeout(left, carried_out).await;
    }
}

fn is_led(table: &Table, named: Named<'_>, partition: i32) -> bool {
    let topic = match named {
        Named::Name(name) => table.topic(name),
        Named::Id(id) => table.topic_by_id(id),
    };
    let hosted = topic.and_then(|topic| topic.partitions.get(&partition));
    hosted.is_some_and(|hosted| hosted.view.is_leader())
}
