//! ApiVersions: what this broker speaks.

use crate::types::ErrorCode;
use crate::wire::api::{ApiKey, Response};
use crate::wire::message::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};

/// First version whose clients say what they are.
const CLIENT_SOFTWARE_SINCE: i16 = 3;

/// To clients.
pub fn handle(version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    answer(version, request, ApiKey::ALL)
}

/// To other nodes.
pub fn handle_node(version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    answer(version, request, ApiKey::TABLE)
}

fn answer(version: i16, request: &ApiVersionsRequest, keys: &[ApiKey]) -> ApiVersionsResponse {
    if version >= CLIENT_SOFTWARE_SINCE
        && !(is_software_text(&request.client_software_name)
            && is_software_text(&request.client_software_version))
    {
        let error_code = ErrorCode::InvalidRequest.code();
        return ApiVersionsResponse {
            error_code,
            ..Default::default()
        };
    }
    ApiVersionsResponse {
        api_keys: served(keys),
        ..Default::default()
    }
}

/// The answer to a version of ApiVersions that is not known: in version 0, with the error and
/// what is served, so that the client can ask again (KIP-511).
pub fn unsupported_version() -> Response {
    let error_code = ErrorCode::UnsupportedVersion.code();
    ApiVersionsResponse {
        error_code,
        api_keys: served(ApiKey::ALL),
        ..Default::default()
    }
    .into()
}

fn served(keys: &[ApiKey]) -> Vec<ApiVersion> {
    keys.iter()
        .map(|key| ApiVersion {
            api_key: *key as i16,
            min_version: key.announced_min(),
            max_version: *key.versions().end(),
            ..Default::default()
        })
        .collect()
}

/// Letters, digits, `-` and `.`, neither first nor last (KIP-511).
fn is_software_text(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric();
    let allowed = |c: char| plain(c) || c == '-' || c == '.';
    text.chars().all(allowed)
        && text.chars().next().is_some_and(plain)
        && text.chars().last().is_some_and(plain)
}
