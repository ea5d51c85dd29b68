//! Places in a partition as users write them: `earliest`, `42`, `+10`, `-10`, `@2026-11-21T08:00Z`.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::failure::Failure;
use super::session::Session;
use super::time_text;
use crate::client::admin::OffsetSpec;
use crate::client::{Admin, Isolation};
use crate::types::{Offset, Timestamp, TopicPartition};

/// Where in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The first record.
    Earliest,
    /// Behind the last record.
    Latest,
    At(Offset),
    /// So many records on (negative: back) from where the command says.
    Shift(i64),
    /// The first record of this time or later.
    Time(Timestamp),
    /// The first record this many milliseconds old or younger.
    Ago(i64),
}

/// The forms of a [`Place`], for help texts.
pub const FORMS: &str = "earliest, latest, OFFSET, +N, -N, @TIME or @-AGE";

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "'{text}' is no place: expected {FORMS}, for instance 42, -10, \
                 @2026-11-21T08:00:00Z, @1795248000000 or @-1h"
            )
        };
        match text {
            "earliest" | "beginning" | "start" => return Ok(Self::Earliest),
            "latest" | "end" => return Ok(Self::Latest),
            _ => {}
        }
        if let Some(age) = text.strip_prefix("@-") {
            return time_text::parse_span(age)
                .map(Self::Ago)
                .ok_or_else(refused);
        }
        if let Some(time) = text.strip_prefix('@') {
            return time_text::parse(time).map(Self::Time).ok_or_else(refused);
        }
        let number: i64 = text.parse().map_err(|_| refused())?;
        match text.starts_with(['+', '-']) {
            true => Ok(Self::Shift(number)),
            false => Ok(Self::At(Offset(number))),
        }
    }
}

/// First and end offset of a partition: `[start, end)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub start: Offset,
    pub end: Offset,
}

/// The spans of these partitions, or the first error.
pub async fn spans(
    session: &mut Session,
    admin: &Admin,
    partitions: &[TopicPartition],
    isolation: Isolation,
) -> Result<BTreeMap<TopicPartition, Span>, Failure> {
    let starts = found(session, admin, partitions, OffsetSpec::Earliest, isolation).await?;
    let ends = found(session, admin, partitions, OffsetSpec::Latest, isolation).await?;
    let spans = starts.into_iter().map(|(partition, start)| {
        let start = start.unwrap_or(Offset::ZERO);
        let end = ends.get(&partition).copied().flatten().unwrap_or(start);
        (
            partition,
            Span {
                start,
                end: end.max(start),
            },
        )
    });
    Ok(spans.collect())
}

/// The offset of `spec` in each of these partitions; `None` where no record is there.
pub async fn found(
    session: &mut Session,
    admin: &Admin,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
    isolation: Isolation,
) -> Result<BTreeMap<TopicPartition, Option<Offset>>, Failure> {
    let wanted = partitions
        .iter()
        .map(|partition| (partition.clone(), spec))
        .collect();
    let results = session.call(admin.list_offsets(&wanted, isolation)).await?;
    let mut offsets = BTreeMap::new();
    for (partition, result) in results {
        let what = format!("finding offsets of {partition}");
        let offset = result.map_err(|error| Failure::refused(what, error))?;
        offsets.insert(partition, offset.offset);
    }
    Ok(offsets)
}

/// Offsets of a place in each of these partitions, within what they hold. Shifts count from
/// `base`, which says for each partition where it stands.
pub async fn resolve(
    session: &mut Session,
    admin: &Admin,
    place: Place,
    spans: &BTreeMap<TopicPartition, Span>,
    base: impl Fn(&TopicPartition, Span) -> Offset,
) -> Result<BTreeMap<TopicPartition, Offset>, Failure> {
    let time = match place {
        Place::Time(time) => Some(time),
        Place::Ago(millis) => Some(Timestamp(session.env.wall().0.saturating_sub(millis))),
        _ => None,
    };
    let isolation = admin.cluster().config().isolation_level;
    let by_time = match time {
        Some(time) => {
            let partitions: Vec<TopicPartition> = spans.keys().cloned().collect();
            found(session, admin, &partitions, OffsetSpec::At(time), isolation).await?
        }
        None => BTreeMap::new(),
    };
    let offsets = spans.iter().map(|(partition, span)| {
        let offset = match place {
            Place::Earliest => span.start,
            Place::Latest => span.end,
            Place::At(offset) => offset,
            Place::Shift(count) => base(partition, *span).plus(count),
            Place::Time(_) | Place::Ago(_) => by_time
                .get(partition)
                .copied()
                .flatten()
                .unwrap_or(span.end),
        };
        (partition.clone(), offset.clamp(span.start, span.end))
    });
    Ok(offsets.collect())
}

/// `TOPIC` or `TOPIC:PARTITION[,PARTITION]...`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicChoice {
    pub topic: String,
    /// Empty: all.
    pub partitions: Vec<i32>,
}

impl FromStr for TopicChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (topic, numbers) = text.split_once(':').unwrap_or((text, ""));
        let numbers = numbers.split(',').filter(|number| !number.is_empty());
        let partitions: Result<Vec<i32>, _> = numbers.map(str::parse).collect();
        match partitions {
            Ok(partitions) if !topic.is_empty() && partitions.iter().all(|p| *p >= 0) => Ok(Self {
                topic: topic.to_owned(),
                partitions,
            }),
            _ => Err(format!(
                "'{text}' is not TOPIC or TOPIC:PARTITION,..., such as orders:0,2"
            )),
        }
    }
}

/// All partitions that `choices` name, of topics that exist.
pub async fn chosen(
    session: &mut Session,
    admin: &Admin,
    choices: &[TopicChoice],
) -> Result<Vec<TopicPartition>, Failure> {
    let names: Vec<String> = choices.iter().map(|choice| choice.topic.clone()).collect();
    let topics = session.call(admin.describe_topics(&names)).await?;
    let mut partitions = Vec::new();
    for choice in choices {
        let found = match topics.get(&choice.topic) {
            Some(Ok(topic)) => topic,
            Some(Err(error)) => {
                return Err(Failure::refused(
                    format!("topic '{}'", choice.topic),
                    error.clone(),
                ));
            }
            None => continue,
        };
        for wanted in &choice.partitions {
            if !found.partitions.contains_key(wanted) {
                return Err(Failure::Failed(format!(
                    "topic '{}' has no partition {wanted}: it has {}",
                    choice.topic,
                    found.partitions.len()
                )));
            }
        }
        let all = found.partitions.keys().copied();
        let numbers = all.filter(|p| choice.partitions.is_empty() || choice.partitions.contains(p));
        partitions.extend(numbers.map(|p| TopicPartition::new(choice.topic.as_str(), p)));
    }
    partitions.sort();
    partitions.dedup();
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_in_every_form() {
        assert_eq!("beginning".parse(), Ok(Place::Earliest));
        assert_eq!("latest".parse(), Ok(Place::Latest));
        assert_eq!("42".parse(), Ok(Place::At(Offset(42))));
        assert_eq!("-10".parse(), Ok(Place::Shift(-10)));
        assert_eq!("+3".parse(), Ok(Place::Shift(3)));
        assert_eq!("@-2h".parse(), Ok(Place::Ago(7_200_000)));
        assert_eq!("@1000".parse(), Ok(Place::Time(Timestamp(1000))));
        for bad in ["", "x", "@", "@-", "1.5", "--1"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_choice_names_a_topic_and_perhaps_partitions() {
        let all = TopicChoice {
            topic: "t".to_owned(),
            partitions: Vec::new(),
        };
        assert_eq!("t".parse(), Ok(all));
        let two = TopicChoice {
            topic: "t".to_owned(),
            partitions: vec![0, 2],
        };
        assert_eq!("t:0,2".parse(), Ok(two));
        for bad in ["", ":1", "t:x", "t:-1"] {
            assert!(bad.parse::<TopicChoice>().is_err(), "{bad}");
        }
    }
}
