//! A line as a record.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

use crate::client::ProducerRecord;
use crate::types::Timestamp;
use crate::wire::Str;

/// How lines are read.
pub struct LineFormat {
    pub topic: Arc<str>,
    /// Lines are JSON objects as `consume --format json` prints them.
    pub json: bool,
    pub key: Option<Bytes>,
    pub key_separator: Option<String>,
    pub headers: Vec<(String, String)>,
    /// A key or value of this text is null.
    pub null: Option<String>,
    pub partition: Option<i32>,
}

impl LineFormat {
    /// The record a line stands for, or why it is none.
    pub fn record(&self, line: Bytes) -> Result<ProducerRecord, String> {
        let mut record = match self.json {
            true => self.json_record(&line)?,
            false => self.text_record(line)?,
        };
        let fixed = self.headers.iter().map(|(name, value)| {
            (
                Str::from(name.as_str()),
                Some(Bytes::copy_from_slice(value.as_bytes())),
            )
        });
        record.headers.extend(fixed);
        record.partition = self.partition.or(record.partition);
        Ok(record)
    }

    fn text_record(&self, line: Bytes) -> Result<ProducerRecord, String> {
        let (key, value) = match &self.key_separator {
            None => (self.key.clone(), line),
            Some(separator) => {
                let at = find(&line, separator.as_bytes()).ok_or_else(|| {
                    format!("it has no key separator '{separator}' (-K says which it is)")
                })?;
                let value = line.slice(at + separator.len()..);
                (self.or_null(line.slice(..at)), value)
            }
        };
        let mut record = ProducerRecord::new(Arc::clone(&self.topic), Bytes::new());
        record.key = key;
        record.value = self.or_null(value);
        Ok(record)
    }

    fn or_null(&self, text: Bytes) -> Option<Bytes> {
        let is_null = self
            .null
            .as_ref()
            .is_some_and(|null| null.as_bytes() == text);
        (!is_null).then_some(text)
    }

    fn json_record(&self, line: &[u8]) -> Result<ProducerRecord, String> {
        let value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let Value::Object(fields) = value else {
            return Err("it is no JSON object".to_owned());
        };
        let mut record = ProducerRecord::new(Arc::clone(&self.topic), Bytes::new());
        record.key = self.key.clone().or(bytes_field(&fields, "key")?);
        record.value = bytes_field(&fields, "value")?;
        if let Some(time) = fields.get("timestamp").and_then(Value::as_i64) {
            record.timestamp = Some(Timestamp(time)).filter(|time| time.0 >= 0);
        }
        let headers = match fields.get("headers") {
            None | Some(Value::Null) => &Vec::new(),
            Some(Value::Array(headers)) => headers,
            Some(_) => return Err("'headers' is no list".to_owned()),
        };
        for header in headers {
            let Value::Object(header) = header else {
                return Err("a header is no JSON object".to_owned());
            };
            let name = header.get("key").and_then(Value::as_str);
            let name = name.ok_or_else(|| "a header has no 'key'".to_owned())?;
            record
                .headers
                .push((Str::from(name), bytes_field(header, "value")?));
        }
        Ok(record)
    }
}

/// A text field, or bytes where `NAME_encoding` says base64.
fn bytes_field(
    fields: &serde_json::Map<String, Value>,
    name: &str,
) -> Result<Option<Bytes>, String> {
    let encoding = fields
        .get(&format!("{name}_encoding"))
        .and_then(Value::as_str);
    match (fields.get(name), encoding) {
        (None | Some(Value::Null), _) => Ok(None),
        (Some(Value::String(text)), None | Some("utf-8")) => Ok(Some(Bytes::from(text.clone()))),
        (Some(Value::String(text)), Some("base64")) => {
            let bytes = STANDARD
                .decode(text)
                .map_err(|error| format!("'{name}': {error}"))?;
            Ok(Some(Bytes::from(bytes)))
        }
        (Some(Value::String(_)), Some(other)) => Err(format!("'{name}' has encoding '{other}'")),
        (Some(other), _) => Ok(Some(Bytes::from(other.to_string()))),
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return None;
    }
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format() -> LineFormat {
        LineFormat {
            topic: Arc::from("t"),
            json: false,
            key: None,
            key_separator: Some("::".to_owned()),
            headers: vec![("h".to_owned(), "v".to_owned())],
            null: Some("NULL".to_owned()),
            partition: None,
        }
    }

    #[test]
    fn a_line_splits_at_the_first_separator_and_null_is_null() {
        let record = format().record(Bytes::from("k::a::b")).expect("a record");
        assert_eq!(record.key.as_deref(), Some(b"k".as_slice()));
        assert_eq!(record.value.as_deref(), Some(b"a::b".as_slice()));
        assert_eq!(record.headers.len(), 1);
        let tombstone = format().record(Bytes::from("k::NULL")).expect("a record");
        assert_eq!(tombstone.value, None);
        assert!(format().record(Bytes::from("no separator")).is_err());
    }

    #[test]
    fn json_gives_every_field_of_a_record() {
        let format = LineFormat {
            json: true,
            key_separator: None,
            ..format()
        };
        let line = r#"{"key":"a2V5","key_encoding":"base64","value":null,"timestamp":7,
            "headers":[{"key":"n","value":"x"}],"offset":12}"#;
        let record = format.record(Bytes::from(line)).expect("a record");
        assert_eq!(record.key.as_deref(), Some(b"key".as_slice()));
        assert_eq!((record.value, record.timestamp), (None, Some(Timestamp(7))));
        assert_eq!(record.headers.len(), 2);
        for bad in [
            "",
            "[]",
            "{\"headers\":1}",
            "{\"value\":\"!\",\"value_encoding\":\"base64\"}",
        ] {
            assert!(format.record(Bytes::from(bad)).is_err(), "{bad}");
        }
    }
}
