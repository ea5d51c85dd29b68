//! Histories as files: one JSON object a line.

use std::io::{self, BufRead, Write};

use super::{Event, History, Joining};

/// Writes `events`, one a line.
pub fn write<'a>(
    to: &mut impl Write,
    events: impl IntoIterator<Item = &'a Event>,
) -> io::Result<()> {
    for event in events {
        serde_json::to_writer(&mut *to, event)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

/// Reads what [`write`] wrote. An error names the line.
pub fn read(from: impl BufRead) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    each(from, |_, event| {
        events.push(event);
        Ok(())
    })?;
    Ok(events)
}

/// A stored history.
#[derive(Debug)]
pub enum Stored {
    /// Of one cluster.
    One(History),
    /// Of several, in one: a history by itself each.
    Several(Vec<Event>),
}

/// Reads what [`write`] wrote, of however many clusters. An error names the line.
pub fn read_stored(from: impl BufRead) -> io::Result<Stored> {
    let mut events = Vec::new();
    let mut is_several = false;
    each(from, |line, event| {
        let first = events
            .first()
            .map(|(_, first): &(usize, Event)| &first.cluster);
        is_several |= first.is_some_and(|first| *first != event.cluster);
        events.push((line, event));
        Ok(())
    })?;
    if is_several {
        let events = events.into_iter().map(|(_, event)| event);
        return Ok(Stored::Several(events.collect()));
    }
    let mut joining = Joining::default();
    for (line, event) in events {
        joining
            .push(event)
            .map_err(|error| malformed(format!("line {line}: {error}")))?;
    }
    Ok(Stored::One(joining.finish()))
}

/// As [`read`], joined to operations while it is read. An error names the line.
pub fn read_history(from: impl BufRead) -> io::Result<History> {
    let mut joining = Joining::default();
    each(from, |line, event| {
        joining
            .push(event)
            .map_err(|error| malformed(format!("line {line}: {error}")))
    })?;
    Ok(joining.finish())
}

/// Hands each event to `take`, with the number of its line.
fn each(
    mut from: impl BufRead,
    mut take: impl FnMut(usize, Event) -> io::Result<()>,
) -> io::Result<()> {
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        number += 1;
        if from.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let event = serde_json::from_slice(&line).map_err(|error| {
            // Its line is always 1: that of the text it was given.
            let why = error.to_string().replace(" at line 1 column", " at column");
            malformed(format!("line {number} is no event of a history: {why}"))
        })?;
        take(number, event)?;
    }
}

fn malformed(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::{read, write};
    use crate::history::{Answer, Call, Event, Partition, What, Written};

    #[test]
    fn a_history_is_read_as_it_was_written() {
        let to = Partition {
            topic: "t".to_owned(),
            partition: 1,
        };
        let record = Written {
            id: 7,
            key: None,
            tombstone: false,
            digest: 99,
            timestamp: 5,
        };
        let call = Call::Send {
            to,
            acks: -1,
            records: vec![record],
            stamp: None,
            library: None,
        };
        let answer = Answer::Send {
            base_offset: 3,
            log_append_time: -1,
            log_start_offset: 0,
            attempts: Vec::new(),
        };
        let event = |time, what| Event {
            time,
            process: "producer-1".to_owned(),
            cluster: (time == 2).then(|| "b".to_owned()),
            what,
        };
        let events = vec![
            event(1, What::Invoke { op: 1, call }),
            event(2, What::Ok { op: 1, answer }),
        ];
        let mut bytes = Vec::new();
        write(&mut bytes, &events).expect("memory takes all");
        assert_eq!(read(bytes.as_slice()).expect("well formed"), events);
    }

    #[test]
    fn a_line_that_is_no_event_is_named() {
        let error = read("\n{\"time\":1}\n".as_bytes()).expect_err("no event");
        assert!(error.to_string().starts_with("line 2 "), "{error}");
    }
}
