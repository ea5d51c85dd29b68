//! What is known of the metadata log: M1, M4, M11 to M13.

use std::collections::{BTreeMap, BTreeSet};

use super::{Broken, Fields, now};

/// A partition by topic id and number.
type Place = (String, i32);

#[derive(Debug, Default)]
pub(super) struct Metadata {
    /// The states that each partition had, by its epoch, and who told of it first.
    states: BTreeMap<Place, BTreeMap<i64, (String, String)>>,
    /// Partition epoch and leader epoch that each running node replayed last.
    replayed: BTreeMap<(String, Place), (i64, i64)>,
    /// The hash of the image at an end, and who told it first.
    images: BTreeMap<i64, (String, String)>,
    terms: BTreeMap<i64, String>,
    active: Option<(i64, String)>,
    /// The end of the image that told it, and the broker's epoch.
    brokers: BTreeMap<i32, (i64, i64)>,
    /// When the latest registration of each broker was told, in nanoseconds.
    registered: BTreeMap<i32, u64>,
    /// The epoch with which each run of a broker was registered.
    runs: BTreeMap<String, i64>,
    /// Fenced or shutting down.
    dead: BTreeSet<i32>,
    topics: BTreeMap<String, String>,
    /// The vote's term and the log's end that each node was answered to be durable.
    confirmed: BTreeMap<String, (i64, i64)>,
    producer_ids: (i64, i64),
}

impl Metadata {
    pub fn active(&self) -> Option<String> {
        self.active.as_ref().map(|(_, node)| node.clone())
    }

    pub fn dead(&self) -> &BTreeSet<i32> {
        &self.dead
    }

    /// The broker's epoch; -1 if it never registered.
    pub fn broker_epoch(&self, id: i32) -> i64 {
        self.brokers.get(&id).map_or(-1, |(_, epoch)| *epoch)
    }

    /// When the broker registered last, in nanoseconds; 0 if it never did.
    pub fn registered_at(&self, id: i32) -> u64 {
        self.registered.get(&id).copied().unwrap_or(0)
    }

    /// Whether registrations are told at all.
    pub fn tells_registrations(&self) -> bool {
        !self.brokers.is_empty()
    }

    /// The node's process ended.
    pub fn forget(&mut self, node: &str) {
        if self
            .active
            .as_ref()
            .is_some_and(|(_, active)| active == node)
        {
            self.active = None;
        }
        self.replayed.retain(|(known, _), _| known != node);
    }

    /// Whether it is news, and what is wrong with it.
    pub fn on_event(&mut self, node: &str, fields: &Fields) -> (bool, Vec<Broken>) {
        match fields.name() {
            "active" => (true, self.on_active(node, fields)),
            "image" => (true, self.on_image(node, fields)),
            "broker" => (true, self.on_broker(fields)),
            "producer-ids" => (true, self.on_producer_ids(fields)),
            "partition" => self.on_partition(node, fields),
            "confirmed" => {
                let standing = standing(fields);
                self.confirmed.insert(node.to_owned(), standing);
                (false, Vec::new())
            }
            // From here on a crash may leave it so, before it is confirmed.
            "cutting" => {
                let (_, end) = standing(fields);
                if let Some((_, confirmed)) = self.confirmed.get_mut(node) {
                    *confirmed = end.min(*confirmed);
                }
                (false, Vec::new())
            }
            "opened" => (false, self.on_opened(node, fields)),
            _ => (false, Vec::new()),
        }
    }

    /// The node's disk is lost.
    pub fn wiped(&mut self, node: &str) {
        self.confirmed.remove(node);
    }

    /// A node says what it remembers: all that was confirmed.
    fn on_opened(&self, node: &str, fields: &Fields) -> Vec<Broken> {
        let mut broken = Vec::new();
        let (term, end) = standing(fields);
        if let Some((voted, confirmed)) = self.confirmed.get(node) {
            if term < *voted {
                let detail = format!("{node} remembers term {term}; it had voted in {voted}");
                broken.push(("M9", detail));
            }
            if end < *confirmed {
                let detail = format!(
                    "the metadata log of {node} ends at {end}; up to {confirmed} it was durable"
                );
                broken.push(("M5", detail));
            }
        }
        let first = fields.number("log_first").unwrap_or(0);
        let snapshot = fields.number("snapshot_end").unwrap_or(first);
        if snapshot < first {
            let detail = format!(
                "{node} begins without what precedes {first} of the metadata; its snapshot ends \
                 at {snapshot}"
            );
            broken.push(("M7", detail));
        }
        broken
    }

    fn on_active(&mut self, node: &str, fields: &Fields) -> Vec<Broken> {
        let Some(term) = fields.number("term") else {
            self.active = Some((-1, node.to_owned()));
            return Vec::new();
        };
        if self.active.as_ref().is_none_or(|(known, _)| *known <= term) {
            self.active = Some((term, node.to_owned()));
        }
        let first = self.terms.entry(term).or_insert_with(|| node.to_owned());
        if first == node {
            return Vec::new();
        }
        let detail = format!("{first} and {node} are both active in term {term}");
        vec![("M1", detail)]
    }

    fn on_image(&mut self, node: &str, fields: &Fields) -> Vec<Broken> {
        let number = fields.number("hash").map(|hash| hash.to_string());
        let hash = fields.text("hash").map(str::to_owned).or(number);
        let (Some(end), Some(hash)) = (fields.number("end"), hash) else {
            return Vec::new();
        };
        let first = self.images.entry(end);
        let (first, known) = first.or_insert_with(|| (node.to_owned(), hash.clone()));
        if *known == hash {
            return Vec::new();
        }
        let detail = format!("the images of {first} and {node} differ at {end}");
        vec![("M4", detail)]
    }

    /// Nodes replay the same states, but may pass over some in one step.
    fn on_partition(&mut self, node: &str, fields: &Fields) -> (bool, Vec<Broken>) {
        let (Some(id), Some(number)) = (fields.text("topic_id"), fields.small("partition")) else {
            return (false, Vec::new());
        };
        let mut broken = Vec::new();
        let topic = fields.text("topic").unwrap_or_default();
        let place = (id.to_owned(), number);
        let named = self.topics.entry(id.to_owned());
        let name = named.or_insert_with(|| topic.to_owned());
        if name != topic {
            broken.push((
                "M12",
                format!("topic id {id} of {name} is that of {topic} too"),
            ));
        }
        let epoch = fields.number("partition_epoch").unwrap_or(-1);
        let leader_epoch = fields.number("leader_epoch").unwrap_or(-1);
        let by_node = (node.to_owned(), place.clone());
        if let Some((was, led)) = self.replayed.insert(by_node, (epoch, leader_epoch)) {
            if epoch < was {
                let detail = format!("{topic}-{number}: partition epoch {epoch} follows {was}");
                broken.push(("M11", detail));
            }
            if leader_epoch < led {
                let detail = format!("{topic}-{number}: leader epoch {leader_epoch} follows {led}");
                broken.push(("M11", detail));
            }
        }
        let told = fields.without(&["end"]);
        let states = self.states.entry(place).or_default();
        let is_latest = states
            .keys()
            .next_back()
            .is_none_or(|latest| *latest < epoch);
        let first = states.entry(epoch);
        let (first, known) = first.or_insert_with(|| (node.to_owned(), told.clone()));
        if *known != told {
            let detail = format!("{first} replays{known}, {node} replays{told}");
            broken.push(("M13", detail));
        }
        (is_latest, broken)
    }

    fn on_broker(&mut self, fields: &Fields) -> Vec<Broken> {
        let (Some(id), Some(epoch)) = (fields.small("broker"), fields.number("epoch")) else {
            return Vec::new();
        };
        let end = fields.number("end").unwrap_or(-1);
        let (known, was) = self.brokers.get(&id).copied().unwrap_or((-1, -1));
        if end <= known {
            return Vec::new();
        }
        if epoch >= 0 {
            // One that was taken off the books keeps the epoch it had.
            self.brokers.insert(id, (end, epoch.max(was)));
            if epoch > was {
                self.registered.insert(id, now());
            }
        }
        match fields.number("is_alive") {
            Some(0) => self.dead.insert(id),
            Some(_) => self.dead.remove(&id),
            None => false,
        };
        let run = fields.text("run").filter(|_| epoch >= 0);
        let first = run.map(|run| *self.runs.entry(run.to_owned()).or_insert(epoch));
        if let Some(first) = first.filter(|first| *first != epoch) {
            let detail = format!("broker {id}: the run with epoch {first} has epoch {epoch} too");
            return vec![("M11", detail)];
        }
        if epoch >= 0 && epoch < was {
            let detail = format!("broker {id}: epoch {epoch} follows {was}");
            return vec![("M11", detail)];
        }
        Vec::new()
    }

    fn on_producer_ids(&mut self, fields: &Fields) -> Vec<Broken> {
        let (end, before) = self.producer_ids;
        let at = fields.number("end").unwrap_or(-1);
        let next = fields.number("next").unwrap_or(before);
        if at <= end {
            return Vec::new();
        }
        self.producer_ids = (at, next);
        if next < before {
            let detail = format!("producer ids from {next} on come next, after {before}");
            return vec![("M12", detail)];
        }
        Vec::new()
    }
}

fn standing(fields: &Fields) -> (i64, i64) {
    let number = |name| fields.number(name).unwrap_or(0);
    (number("vote_term"), number("log_end"))
}
