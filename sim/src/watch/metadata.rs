//! What is known of the metadata log: M1, M4, M11 to M13.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::{Broken, Fields};

#[derive(Debug, Default)]
pub(super) struct Metadata {
    /// What was replayed where: by offset, kind and whom it is about, all that was told.
    replayed: BTreeMap<(i64, String, String), (String, String)>,
    /// The hash of the image at an offset, and who told it first.
    images: BTreeMap<i64, (String, String)>,
    terms: BTreeMap<i64, String>,
    active: Option<(i64, String)>,
    /// Partition epoch and leader epoch, by topic id and partition.
    epochs: BTreeMap<(String, i32), (i64, i64)>,
    /// Broker epoch and incarnation.
    brokers: BTreeMap<i32, (i64, String)>,
    fenced: BTreeSet<i32>,
    topics: BTreeMap<String, String>,
    producer_ids: i64,
}

impl Metadata {
    pub fn active(&self) -> Option<String> {
        self.active.as_ref().map(|(_, node)| node.clone())
    }

    pub fn fenced(&self) -> &BTreeSet<i32> {
        &self.fenced
    }

    /// The broker's epoch; -1 if it never registered.
    pub fn broker_epoch(&self, id: i32) -> i64 {
        self.brokers.get(&id).map_or(-1, |(epoch, _)| *epoch)
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
    }

    /// Whether nobody had replayed that before, and what is wrong with it.
    pub fn on_event(&mut self, node: &str, fields: &Fields) -> (bool, Vec<Broken>) {
        match fields.name() {
            "active" => return (true, self.on_active(node, fields)),
            "inactive" => {
                self.forget(node);
                return (true, Vec::new());
            }
            "image" => return (true, self.on_image(node, fields)),
            _ => {}
        }
        let Some(offset) = fields.number("offset") else {
            return (false, Vec::new());
        };
        let whom = ["topic_id", "topic", "partition", "id", "first"];
        let whom = whom.map(|name| {
            let number = fields.number(name).map(|number| number.to_string());
            fields
                .text(name)
                .map(str::to_owned)
                .or(number)
                .unwrap_or_default()
        });
        let key = (offset, fields.name().to_owned(), whom.join(" "));
        let told = fields.without(&[]);
        match self.replayed.entry(key) {
            Entry::Occupied(known) => {
                let (first, text) = known.get();
                if *text == told {
                    return (false, Vec::new());
                }
                let detail = format!("at {offset} {first} replays{text}, {node} replays{told}");
                (false, vec![("M13", detail)])
            }
            Entry::Vacant(entry) => {
                entry.insert((node.to_owned(), told));
                (true, self.on_first(fields))
            }
        }
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
        let (Some(offset), Some(hash)) = (fields.number("offset"), hash) else {
            return Vec::new();
        };
        let first = self.images.entry(offset);
        let (first, known) = first.or_insert_with(|| (node.to_owned(), hash.clone()));
        if *known == hash {
            return Vec::new();
        }
        let detail = format!("the images of {first} and {node} differ at {offset}");
        vec![("M4", detail)]
    }

    fn on_first(&mut self, fields: &Fields) -> Vec<Broken> {
        match fields.name() {
            "partition" => self.on_partition(fields),
            "broker" => self.on_broker(fields),
            "topic" => {
                let (Some(id), Some(topic)) = (fields.text("topic_id"), fields.text("topic"))
                else {
                    return Vec::new();
                };
                let before = self.topics.insert(id.to_owned(), topic.to_owned());
                let again = before.map(|before| {
                    (
                        "M12",
                        format!("topic id {id} of {before} is given to {topic}"),
                    )
                });
                again.into_iter().collect()
            }
            "producer-ids" => {
                let first = fields.number("first").unwrap_or(i64::MAX);
                let next = fields.number("next").unwrap_or(self.producer_ids);
                let before = std::mem::replace(&mut self.producer_ids, next);
                if first < before {
                    let detail =
                        format!("producer ids from {first} on, after those up to {before}");
                    return vec![("M12", detail)];
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn on_partition(&mut self, fields: &Fields) -> Vec<Broken> {
        let (Some(id), Some(number)) = (fields.text("topic_id"), fields.small("partition")) else {
            return Vec::new();
        };
        let epoch = fields.number("partition_epoch").unwrap_or(-1);
        let leader_epoch = fields.number("epoch").unwrap_or(-1);
        let key = (id.to_owned(), number);
        let Some((was, led)) = self.epochs.insert(key, (epoch, leader_epoch)) else {
            return Vec::new();
        };
        let mut broken = Vec::new();
        let place = format!("{}-{number}", fields.text("topic").unwrap_or(id));
        if epoch >= 0 && epoch <= was {
            broken.push((
                "M11",
                format!("{place}: partition epoch {epoch} follows {was}"),
            ));
        }
        if leader_epoch < led {
            let detail = format!("{place}: leader epoch {leader_epoch} follows {led}");
            broken.push(("M11", detail));
        }
        broken
    }

    fn on_broker(&mut self, fields: &Fields) -> Vec<Broken> {
        let (Some(id), Some(epoch)) = (fields.small("id"), fields.number("epoch")) else {
            return Vec::new();
        };
        match fields.number("fenced") {
            Some(0) => self.fenced.remove(&id),
            Some(_) => self.fenced.insert(id),
            None => false,
        };
        let incarnation = fields.text("incarnation").unwrap_or_default().to_owned();
        let before = self.brokers.insert(id, (epoch, incarnation.clone()));
        let Some((was, of)) = before else {
            return Vec::new();
        };
        let is_same = of == incarnation || incarnation.is_empty();
        if epoch < was || (epoch == was && !is_same) {
            let detail = format!("broker {id}: epoch {epoch} follows {was}");
            return vec![("M11", detail)];
        }
        Vec::new()
    }
}
