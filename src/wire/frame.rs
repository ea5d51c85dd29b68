//! Frames: a 4-byte length, a header, a body.
//!
//! Request headers have version 1 (not flexible) or 2 (flexible); the client id keeps its 2-byte
//! length in both. Response headers have version 0 or, when flexible, 1 with tagged fields; the
//! answer to ApiVersions always has version 0, because the client does not know yet what the
//! broker speaks (KIP-511).

use bytes::Bytes;

use super::api::{ApiKey, Request, Response};
use super::later::Part;
use super::primitive::{Str, Version, Wire, read_tagged, write_tagged};
use super::reader::{DecodeError, Reader};
use super::writer::{EncodeError, Writer};

pub use super::writer::LENGTH_BYTES;

/// What precedes the body of every request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestHeader {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<Str>,
}

/// Why a request frame cannot be served.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestError {
    #[error("request header: {0}")]
    Header(DecodeError),
    #[error("API key {0} is not served")]
    UnknownApi(i16),
    /// The header is kept: an unknown version of ApiVersions is still answered.
    #[error("version {} of {} is not served", .header.api_version, .key.name())]
    UnsupportedVersion { key: ApiKey, header: RequestHeader },
    #[error("{} version {}: {error}", .key.name(), .header.api_version)]
    Body {
        key: ApiKey,
        header: RequestHeader,
        error: DecodeError,
    },
}

const RIGID: Version = Version {
    number: 0,
    flexible: false,
};

/// Decodes a request frame without its length prefix. Bytes after the last field are ignored, as
/// Kafka does: some clients pad, and the frame's length alone says where the next one begins.
pub fn decode_request(frame: Bytes) -> Result<(RequestHeader, Request), RequestError> {
    let mut from = Reader::new(frame);
    let mut header = read_fixed_header(&mut from).map_err(RequestError::Header)?;
    let key = ApiKey::from_wire(header.api_key).ok_or(RequestError::UnknownApi(header.api_key))?;
    if !key.versions().contains(&header.api_version) {
        return Err(RequestError::UnsupportedVersion { key, header });
    }
    let version = key.version(header.api_version);
    let body = read_rest(&mut header, key, &mut from, version);
    match body {
        Ok(request) => Ok((header, request)),
        Err(error) => Err(RequestError::Body { key, header, error }),
    }
}

fn read_fixed_header(from: &mut Reader) -> Result<RequestHeader, DecodeError> {
    Ok(RequestHeader {
        api_key: from.i16()?,
        api_version: from.i16()?,
        correlation_id: from.i32()?,
        client_id: None,
    })
}

fn read_rest(
    header: &mut RequestHeader,
    key: ApiKey,
    from: &mut Reader,
    version: Version,
) -> Result<Request, DecodeError> {
    header.client_id = Wire::read(from, RIGID)?;
    if version.flexible {
        read_tagged(from, |_, _| Ok(false))?;
    }
    Request::read(key, from, version)
}

/// Encodes a request with its length prefix.
pub fn request_frame(request: &Request, header: &RequestHeader) -> Result<Vec<Bytes>, EncodeError> {
    let version = request.api_key().version(header.api_version);
    let mut to = Writer::framed();
    to.i16(header.api_key);
    to.i16(header.api_version);
    to.i32(header.correlation_id);
    header.client_id.write(&mut to, RIGID);
    if version.flexible {
        write_tagged(&mut to, Vec::new(), &[]);
    }
    request.write(&mut to, version);
    to.finish()
}

/// Encodes a response with its length prefix: all of it must be there.
pub fn response_frame(
    response: &Response,
    correlation_id: i32,
    version: i16,
) -> Result<Vec<Bytes>, EncodeError> {
    written(response, correlation_id, version).finish()
}

/// Encodes a response with its length prefix, as parts some of which may be yet to come.
pub fn response_parts(
    response: &Response,
    correlation_id: i32,
    version: i16,
) -> Result<Vec<Part>, EncodeError> {
    written(response, correlation_id, version).finish_parts()
}

fn written(response: &Response, correlation_id: i32, version: i16) -> Writer {
    let key = response.api_key();
    let version = key.version(version);
    let mut to = Writer::framed();
    to.i32(correlation_id);
    if version.flexible && key != ApiKey::ApiVersions {
        write_tagged(&mut to, Vec::new(), &[]);
    }
    response.write(&mut to, version);
    to
}

/// Reads the header of a response to a request of `key` and `version`: its correlation id.
pub fn read_response_header(
    from: &mut Reader,
    key: ApiKey,
    version: i16,
) -> Result<i32, DecodeError> {
    let correlation_id = from.i32()?;
    if key.version(version).flexible && key != ApiKey::ApiVersions {
        read_tagged(from, |_, _| Ok(false))?;
    }
    Ok(correlation_id)
}
