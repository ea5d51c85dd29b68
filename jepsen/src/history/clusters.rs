//! Histories of several clusters in one.

use std::collections::BTreeSet;

use super::Event;

/// The clusters that `events` are of, the first, which has no name, before the others.
#[must_use]
pub fn clusters(events: &[Event]) -> Vec<Option<String>> {
    let named: BTreeSet<&Option<String>> = events.iter().map(|event| &event.cluster).collect();
    named.into_iter().cloned().collect()
}

/// What was asked of a cluster and seen of it: a history by itself.
pub fn of_cluster<'a>(
    events: &'a [Event],
    cluster: Option<&str>,
) -> impl Iterator<Item = &'a Event> {
    let cluster = cluster.map(str::to_owned);
    events.iter().filter(move |event| event.cluster == cluster)
}
