//! The codec seen from outside: golden and hostile frames, fuzzing, the hot path, Kafka's traps.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod batches;
mod fuzz;
mod golden;
mod hostile;
mod hot_path;
mod protocol_document;
mod traps;

use bytes::Bytes;
use klamm::wire::ApiKey;

/// A file of `corpus/wire/`: its lines without remarks.
#[allow(clippy::disallowed_methods)] // a test reads its corpus
fn corpus(name: &str) -> Vec<String> {
    let path = format!("{}/corpus/wire/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn unhex(text: &str) -> Bytes {
    assert!(text.len().is_multiple_of(2), "an odd number of digits");
    let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(digit).collect()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Request,
    Response,
}

/// A frame without its length prefix.
struct Golden {
    key: ApiKey,
    version: i16,
    direction: Direction,
    frame: Bytes,
}

fn golden_frames() -> Vec<Golden> {
    let mut frames = Vec::new();
    for &key in ApiKey::ALL {
        for line in corpus(&format!("golden/{}.txt", key.name())) {
            let mut fields = line.split(' ');
            let direction = match fields.next() {
                Some("request") => Direction::Request,
                Some("response") => Direction::Response,
                other => panic!("direction {other:?} in golden frames of {key:?}"),
            };
            let version = fields.next().and_then(|number| number.parse().ok());
            frames.push(Golden {
                key,
                version: version.expect("a version"),
                direction,
                frame: unhex(fields.next().expect("a frame")),
            });
        }
    }
    frames
}

/// Batches made by other implementations, by name.
fn foreign_batches() -> Vec<(String, Bytes)> {
    corpus("batches.txt")
        .iter()
        .map(|line| {
            let (name, hex) = line.split_once(' ').expect("a name and a batch");
            (name.to_owned(), unhex(hex))
        })
        .collect()
}
