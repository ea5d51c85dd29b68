//! How a line of a history is read.
//!
//! By hand and in one go: what serde derives for a flattened enumeration keeps a copy of all there
//! is of it first, and most of reading a long history would be that.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Answer, Attempt, Call, Event, Note, What};

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Time,
    Process,
    Cluster,
    Type,
    Op,
    Call,
    Answer,
    Attempts,
    Note,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    Invoke,
    Ok,
    Fail,
    Info,
    Note,
}

/// The fields of a line, in whatever order they come.
#[derive(Default)]
struct Line {
    time: Option<u64>,
    process: Option<String>,
    cluster: Option<String>,
    kind: Option<Type>,
    op: Option<u64>,
    call: Option<Call>,
    answer: Option<Answer>,
    attempts: Option<Vec<Attempt>>,
    note: Option<Note>,
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Lines)
    }
}

struct Lines;

impl<'de> Visitor<'de> for Lines {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event of a history")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        let mut line = Line::default();
        while let Some(field) = map.next_key()? {
            match field {
                Field::Time => line.time = Some(map.next_value()?),
                Field::Process => line.process = Some(map.next_value()?),
                Field::Cluster => line.cluster = Some(map.next_value()?),
                Field::Type => line.kind = Some(map.next_value()?),
                Field::Op => line.op = Some(map.next_value()?),
                Field::Call => line.call = Some(map.next_value()?),
                Field::Answer => line.answer = Some(map.next_value()?),
                Field::Attempts => line.attempts = Some(map.next_value()?),
                Field::Note => line.note = Some(map.next_value()?),
                Field::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        line.event()
    }
}

impl Line {
    fn event<E: Error>(self) -> Result<Event, E> {
        let time = needed(self.time, "time")?;
        let process = needed(self.process, "process")?;
        let cluster = self.cluster;
        let kind = needed(self.kind, "type")?;
        let op = self.op;
        let op = || needed(op, "op");
        let what = match kind {
            Type::Invoke => What::Invoke {
                op: op()?,
                call: needed(self.call, "call")?,
            },
            Type::Ok => What::Ok {
                op: op()?,
                answer: needed(self.answer, "answer")?,
            },
            Type::Fail => What::Fail {
                op: op()?,
                attempts: self.attempts.unwrap_or_default(),
            },
            Type::Info => What::Info {
                op: op()?,
                attempts: self.attempts.unwrap_or_default(),
            },
            Type::Note => What::Note {
                note: needed(self.note, "note")?,
            },
        };
        Ok(Event {
            time,
            process,
            cluster,
            what,
        })
    }
}

fn needed<T, E: Error>(field: Option<T>, name: &'static str) -> Result<T, E> {
    field.ok_or_else(|| E::missing_field(name))
}
