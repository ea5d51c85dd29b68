//! Bytes made to do harm. Each must give the error written beside it, at once.

use bytes::Bytes;
use klamm::wire::batch::RecordBatch;
use klamm::wire::frame::decode_request;

use super::{corpus, unhex};

fn error_of(kind: &str, mut bytes: Bytes) -> Option<String> {
    match kind {
        "request" => decode_request(bytes).err().map(|error| error.to_string()),
        "batch" => {
            let batch = match RecordBatch::split_first(&mut bytes) {
                Ok(batch) => batch,
                Err(error) => return Some(error.to_string()),
            };
            let checked = batch.check_records(false).map(|_| ());
            let read = batch
                .records()
                .and_then(|mut records| records.try_for_each(|record| record.map(|_| ())));
            assert_eq!(checked, read, "both ways of reading agree");
            read.err().map(|error| error.to_string())
        }
        other => panic!("no such kind: {other}"),
    }
}

#[test]
fn every_hostile_frame_gives_its_error() {
    let mut wrong = Vec::new();
    for line in corpus("hostile.txt") {
        let fields: Vec<&str> = line.split(" | ").collect();
        let &[name, kind, expected, hex] = fields.as_slice() else {
            panic!("four fields: {line}");
        };
        let bytes = match hex {
            "-" => Bytes::new(),
            hex => unhex(hex),
        };
        let error = error_of(kind, bytes);
        if !error
            .as_ref()
            .is_some_and(|error| error.starts_with(expected))
        {
            wrong.push(format!(
                "{name} | {kind} | {} | {hex}",
                error.unwrap_or_default()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "not the errors expected:\n{}",
        wrong.join("\n")
    );
}
