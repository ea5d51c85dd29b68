//! What can go wrong between a client and a cluster, and what each error says about the outcome.

use std::fmt;

use super::config::ConfigError;
use crate::types::ErrorCode;
use crate::wire::EncodeError;

/// An error a broker answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// `UnknownServerError` for numbers this version does not know; the text then says which.
    pub code: ErrorCode,
    /// What the broker said beside the code.
    pub text: Option<String>,
}

impl ApiError {
    /// The error for a number from the wire; `None` when it stands for success.
    #[must_use]
    pub fn from_wire(code: i16, text: Option<&str>) -> Option<Self> {
        let text = text.filter(|text| !text.is_empty()).map(str::to_owned);
        match ErrorCode::from_wire(code) {
            Some(ErrorCode::None) => None,
            Some(code) => Some(Self { code, text }),
            None => Some(Self {
                code: ErrorCode::UnknownServerError,
                text: Some(text.unwrap_or_else(|| format!("error number {code}"))),
            }),
        }
    }

    /// `Ok` when `code` stands for success.
    pub fn check(code: i16, text: Option<&str>) -> Result<(), Self> {
        Self::from_wire(code, text).map_or(Ok(()), Err)
    }
}

impl From<ErrorCode> for ApiError {
    fn from(code: ErrorCode) -> Self {
        Self { code, text: None }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{}: {text}", self.code),
            None => write!(f, "{}", self.code),
        }
    }
}

impl std::error::Error for ApiError {}

/// Why a client could not do what it was asked.
///
/// After [`ClientError::Disconnected`] and [`ClientError::TimedOut`] the request may or may not
/// have had its effect: see [`ClientError::outcome_unknown`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    #[error("cannot connect to {address}: {reason}")]
    Connect { address: String, reason: String },
    #[error("the connection to {address} ended: {reason}")]
    Disconnected { address: String, reason: String },
    #[error("no answer to {api} from {address} within {millis} ms")]
    TimedOut {
        api: &'static str,
        address: String,
        millis: u64,
    },
    #[error(
        "{address} and this client share no version of {api} \
         (client: {ours}, broker: {theirs})"
    )]
    UnsupportedVersion {
        api: &'static str,
        address: String,
        ours: String,
        theirs: String,
    },
    #[error("{address} broke the protocol: {reason}")]
    Protocol { address: String, reason: String },
    #[error("the request cannot be written: {0}")]
    Encode(#[from] EncodeError),
    #[error("{what}: {error}")]
    Refused { what: String, error: ApiError },
    /// Nothing was sent, or every attempt was answered with `last`.
    #[error("{what} was not possible within {millis} ms; last: {last}")]
    GaveUp {
        what: String,
        millis: u64,
        last: Box<Self>,
    },
    #[error("none of the brokers can be reached ({tried}); last: {last}")]
    NoBroker { tried: String, last: Box<Self> },
    #[error("{what} is not known to the cluster")]
    Missing { what: String },
    #[error("partition {partition} received data that cannot be read: {reason}")]
    Corrupt { partition: String, reason: String },
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Misuse(&'static str),
    #[error("closed")]
    Closed,
}

impl ClientError {
    pub(crate) fn refused(what: impl Into<String>, error: ApiError) -> Self {
        Self::Refused {
            what: what.into(),
            error,
        }
    }

    /// The code a broker answered with, if one did.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { error, .. } => Some(error.code),
            Self::GaveUp { last, .. } | Self::NoBroker { last, .. } => last.code(),
            _ => None,
        }
    }

    /// Whether the same request may succeed later, perhaps at another broker.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Disconnected { .. }
            | Self::TimedOut { .. }
            | Self::NoBroker { .. } => true,
            Self::Refused { error, .. } => error.code.is_retriable(),
            _ => false,
        }
    }

    /// Whether the request may have taken effect although it failed.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Disconnected { .. } | Self::TimedOut { .. } | Self::Protocol { .. } => true,
            Self::Refused { error, .. } => matches!(
                error.code,
                ErrorCode::RequestTimedOut
                    | ErrorCode::NetworkException
                    | ErrorCode::UnknownServerError
                    | ErrorCode::NotEnoughReplicasAfterAppend
            ),
            Self::GaveUp { last, .. } => last.outcome_unknown(),
            _ => false,
        }
    }
}
