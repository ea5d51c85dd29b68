//! An event's fields by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use klamm_jepsen::history::Partition;
use tracing::field::{Field, Visit};

/// Numbers and texts. Absent ones only make rules silent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    numbers: BTreeMap<String, i64>,
    texts: BTreeMap<String, String>,
}

impl Fields {
    /// Fields as tests write them: `event=leading leader_epoch=3 isr=1,2`.
    #[cfg(test)]
    pub(super) fn parse(text: &str) -> Self {
        let mut fields = Self::default();
        for word in text.split(' ') {
            let (key, value) = word.split_once('=').expect("key=value");
            fields.texts.insert(key.to_owned(), value.to_owned());
            if let Ok(number) = value.parse() {
                fields.numbers.insert(key.to_owned(), number);
            }
        }
        fields
    }

    /// What happened. What the metadata tells has no name of its own.
    #[must_use]
    pub fn name(&self) -> &str {
        if let Some(name) = self.text("event") {
            return name;
        }
        let has = |field: &str| self.texts.contains_key(field) || self.numbers.contains_key(field);
        match () {
            () if has("broker") => "broker",
            () if has("deleted") => "topic-removed",
            () if has("partition") => "partition",
            () => "",
        }
    }

    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        self.numbers.get(name).copied()
    }

    #[must_use]
    pub fn small(&self, name: &str) -> Option<i32> {
        i32::try_from(self.number(name)?).ok()
    }

    #[must_use]
    pub fn partition(&self) -> Option<Partition> {
        Some(Partition {
            topic: self.text("topic")?.to_owned(),
            partition: self.small("partition")?,
        })
    }

    /// Ids with anything but digits between them.
    #[must_use]
    pub fn ids(&self, name: &str) -> Option<BTreeSet<i32>> {
        let ids = self.text(name)?.split(|c: char| !c.is_ascii_digit());
        Some(ids.filter_map(|id| id.parse().ok()).collect())
    }

    /// Pairs of numbers: `3@57,4@60`.
    #[must_use]
    pub fn pairs(&self, name: &str) -> Option<Vec<(i64, i64)>> {
        let pairs = self.text(name)?.split(',');
        let pair = |text: &str| {
            let (one, other) = text.split_once('@')?;
            Some((one.parse().ok()?, other.parse().ok()?))
        };
        Some(pairs.filter_map(pair).collect())
    }

    /// Everything but `left_out`, in the order of names.
    #[must_use]
    pub fn without(&self, left_out: &[&str]) -> String {
        let mut line = String::new();
        let numbers = self
            .numbers
            .iter()
            .filter(|(name, _)| !self.texts.contains_key(*name));
        let numbers = numbers.map(|(name, number)| (name, number.to_string()));
        let texts = self.texts.iter().map(|(name, text)| (name, text.clone()));
        for (name, value) in texts.chain(numbers) {
            if !left_out.contains(&name.as_str()) {
                // Writing to a string cannot fail.
                let _ = write!(line, " {name}={value}");
            }
        }
        line
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.texts.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.numbers.insert(field.name().to_owned(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record_i64(field, i64::try_from(value).unwrap_or(i64::MAX));
        self.texts
            .insert(field.name().to_owned(), value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.record_i64(field, i64::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.texts.insert(field.name().to_owned(), text);
    }
}
