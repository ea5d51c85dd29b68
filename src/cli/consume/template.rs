//! How a record is printed: a format with `%` fields, or JSON.

use std::fmt::Write as _;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::super::time_text::rfc3339;
use crate::client::ConsumerRecord;
use crate::wire::batch::TimestampType;

/// A format that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template(Vec<Piece>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(Vec<u8>),
    Value(Encoding),
    Key(Encoding),
    Headers,
    Topic,
    Partition,
    Offset,
    Timestamp,
    TimestampUtc,
    ValueSize,
    KeySize,
    HeaderCount,
    LeaderEpoch,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Encoding {
    Raw,
    Hex,
    Base64,
    Json,
}

impl FromStr for Template {
    type Err = String;

    fn from_str(format: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut text = Vec::new();
        let mut rest = format;
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            match letter {
                '\\' => {
                    let (byte, left) = escaped(rest)?;
                    text.push(byte);
                    rest = left;
                }
                '%' if rest.starts_with('%') => {
                    text.push(b'%');
                    rest = &rest[1..];
                }
                '%' => {
                    if !text.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut text)));
                    }
                    let (piece, left) = field(rest)?;
                    pieces.push(piece);
                    rest = left;
                }
                letter => text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Self(pieces))
    }
}

fn escaped(rest: &str) -> Result<(u8, &str), String> {
    let byte = match rest.chars().next() {
        Some('n') => b'\n',
        Some('t') => b'\t',
        Some('r') => b'\r',
        Some('0') => 0,
        Some('\\') => b'\\',
        Some('x') => {
            let digits = rest
                .get(1..3)
                .and_then(|digits| u8::from_str_radix(digits, 16).ok());
            let byte = digits.ok_or("\\x needs two hexadecimal digits")?;
            return Ok((byte, &rest[3..]));
        }
        Some(other) => {
            return Err(format!(
                "'\\{other}' is not known: use \\n \\t \\r \\0 \\xHH"
            ));
        }
        None => return Err("a format ends in '\\'; a backslash is '\\\\'".to_owned()),
    };
    Ok((byte, &rest[1..]))
}

fn field(rest: &str) -> Result<(Piece, &str), String> {
    let letter = rest.chars().next();
    let letter = letter.ok_or("a format ends in '%'; a percent sign is '%%'")?;
    let rest = &rest[letter.len_utf8()..];
    let (option, left) = match rest
        .strip_prefix('{')
        .and_then(|inner| inner.split_once('}'))
    {
        Some((option, left)) => (Some(option), left),
        None => (None, rest),
    };
    let encoding = match option {
        None => Some(Encoding::Raw),
        Some("hex") => Some(Encoding::Hex),
        Some("base64") => Some(Encoding::Base64),
        Some("json") => Some(Encoding::Json),
        Some(_) => None,
    };
    let bad_option = || format!("'%{letter}' knows no '{{{}}}'", option.unwrap_or_default());
    let piece = match letter {
        'v' | 's' => return Ok((Piece::Value(encoding.ok_or_else(bad_option)?), left)),
        'k' => return Ok((Piece::Key(encoding.ok_or_else(bad_option)?), left)),
        'T' if option == Some("utc") => return Ok((Piece::TimestampUtc, left)),
        'T' => Piece::Timestamp,
        'h' => Piece::Headers,
        't' => Piece::Topic,
        'p' => Piece::Partition,
        'o' => Piece::Offset,
        'S' | 'V' => Piece::ValueSize,
        'K' => Piece::KeySize,
        'H' => Piece::HeaderCount,
        'e' => Piece::LeaderEpoch,
        other => {
            return Err(format!(
                "'%{other}' is not known: use %v %k %h %t %p %o %T %S %K %H %e %%"
            ));
        }
    };
    Ok((piece, rest))
}

impl Template {
    /// The record's bytes to print.
    #[must_use]
    pub fn render(&self, record: &ConsumerRecord) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in &self.0 {
            piece.render(record, &mut out);
        }
        out
    }
}

impl Piece {
    fn render(&self, record: &ConsumerRecord, out: &mut Vec<u8>) {
        let size = |bytes: &Option<Bytes>| bytes.as_ref().map_or(-1, |bytes| bytes.len() as i64);
        let text = match self {
            Self::Text(text) => return out.extend_from_slice(text),
            Self::Value(encoding) => return encoding.render(record.value.as_deref(), out),
            Self::Key(encoding) => return encoding.render(record.key.as_deref(), out),
            Self::Headers => return headers(record, out),
            Self::Topic => record.partition.topic.to_string(),
            Self::Partition => record.partition.partition.to_string(),
            Self::Offset => record.offset.to_string(),
            Self::Timestamp => record.timestamp.to_string(),
            Self::TimestampUtc => rfc3339(record.timestamp),
            Self::ValueSize => size(&record.value).to_string(),
            Self::KeySize => size(&record.key).to_string(),
            Self::HeaderCount => record.headers.len().to_string(),
            Self::LeaderEpoch => record.leader_epoch.0.to_string(),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

/// `name=value` pairs, separated by commas.
fn headers(record: &ConsumerRecord, out: &mut Vec<u8>) {
    for (index, (name, value)) in record.headers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.as_deref().unwrap_or_default());
    }
}

impl Encoding {
    fn render(self, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
        let text = match (self, bytes) {
            (Self::Json, None) => "null".to_owned(),
            (_, None) => return,
            (Self::Raw, Some(bytes)) => return out.extend_from_slice(bytes),
            (Self::Hex, Some(bytes)) => {
                let mut text = String::with_capacity(bytes.len() * 2);
                for byte in bytes {
                    let _ = write!(text, "{byte:02x}");
                }
                text
            }
            (Self::Base64, Some(bytes)) => STANDARD.encode(bytes),
            (Self::Json, Some(bytes)) => Value::from(String::from_utf8_lossy(bytes)).to_string(),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

/// A record as JSON. Bytes that are no UTF-8 are base64, and `..._encoding` says so.
#[must_use]
pub fn json(record: &ConsumerRecord) -> Value {
    let mut object = json!({
        "topic": &*record.partition.topic,
        "partition": record.partition.partition,
        "offset": record.offset.0,
        "timestamp": record.timestamp.0,
        "timestamp_type": match record.timestamp_type {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        },
        "leader_epoch": record.leader_epoch.0,
    });
    put(&mut object, "key", record.key.as_deref());
    put(&mut object, "value", record.value.as_deref());
    let headers = record.headers.iter().map(|(name, value)| {
        let mut header = json!({ "key": name.as_str() });
        put(&mut header, "value", value.as_deref());
        header
    });
    object["headers"] = headers.collect();
    object
}

fn put(object: &mut Value, name: &str, bytes: Option<&[u8]>) {
    object[name] = match bytes.map(std::str::from_utf8) {
        None => Value::Null,
        Some(Ok(text)) => Value::from(text),
        Some(Err(_)) => {
            object[format!("{name}_encoding")] = Value::from("base64");
            Value::from(STANDARD.encode(bytes.unwrap_or_default()))
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LeaderEpoch, Offset, Timestamp, TopicPartition};
    use crate::wire::Str;

    fn record() -> ConsumerRecord {
        ConsumerRecord {
            partition: TopicPartition::new("t", 3),
            offset: Offset(7),
            timestamp: Timestamp(1000),
            timestamp_type: TimestampType::CreateTime,
            leader_epoch: LeaderEpoch(1),
            key: None,
            value: Some(Bytes::from_static(b"\xffv")),
            headers: vec![
                (Str::from("a"), Some(Bytes::from_static(b"1"))),
                (Str::from("b"), None),
            ],
        }
    }

    fn rendered(format: &str) -> String {
        let template: Template = format.parse().expect("a good format");
        String::from_utf8_lossy(&template.render(&record())).into_owned()
    }

    #[test]
    fn a_format_prints_every_field() {
        assert_eq!(
            rendered("%t-%p@%o %h|%K %S %H%%\\n"),
            "t-3@7 a=1,b=|-1 2 2%\n"
        );
        assert_eq!(rendered("%v{hex} %v{base64} %k{json} %T{utc}"), {
            "ff76 /3Y= null 1970-01-01T00:00:01.000Z"
        });
        assert_eq!(rendered("%o{x}\\x41"), "7{x}A");
    }

    #[test]
    fn a_bad_format_is_refused_with_what_is_known() {
        for bad in ["%", "%z", "\\q", "\\", "%v{rot13}", "\\x4"] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
    }

    #[test]
    fn json_keeps_bytes_that_are_no_text() {
        let json = json(&record());
        assert_eq!(
            (&json["key"], &json["value"]),
            (&Value::Null, &Value::from("/3Y="))
        );
        assert_eq!(json["value_encoding"], "base64");
        assert_eq!(json["headers"][1]["value"], Value::Null);
    }
}
