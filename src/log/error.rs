//! What can go wrong with a log, and what a client is told of it.

use std::io;
use std::path::{Path, PathBuf};

use super::checkpoint::CheckpointError;
use super::producer_state::ProducerError;
use crate::types::{ErrorCode, Offset, TopicId};

/// Bytes that were once durable and are no longer what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is damaged at byte {position}, where offset {offset} was expected: found {found}, \
     expected {expected}. Nothing was removed. Restore the file from a copy, or delete the \
     topic to accept the loss of what it holds",
    path.display()
)]
pub struct Corruption {
    pub path: PathBuf,
    pub position: u64,
    pub offset: Offset,
    pub found: String,
    pub expected: String,
}

/// Why a log could not be created, opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The directory or a file in it belongs to something else.
    #[error(
        "{}: {reason}. Point log.dirs at the right directory, or move this one away", path.display()
    )]
    Foreign { path: PathBuf, reason: String },
    /// The directory names another topic by its id: one of an earlier topic of this name, usually.
    #[error("{}: it belongs to topic id {found}, not to {expected}", path.display())]
    AnotherTopic {
        path: PathBuf,
        found: TopicId,
        expected: TopicId,
    },
    /// The log already exists, with data.
    #[error("{} already holds a log", path.display())]
    Exists { path: PathBuf },
    /// An earlier failure left the log unusable until it falls back or is opened again.
    #[error("the log in {} stopped after an earlier failure: {reason}", path.display())]
    Stopped { path: PathBuf, reason: String },
    #[error("offset {offset} is outside the log, which holds [{start}, {end})")]
    OutOfRange {
        offset: Offset,
        start: Offset,
        end: Offset,
    },
}

impl LogError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Whether a file was not there.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether what is stored is not what was written there, rather than out of reach.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt(_)
            | Self::Checkpoint(CheckpointError::Damaged { .. })
            | Self::Foreign { .. }
            | Self::AnotherTopic { .. } => true,
            Self::Checkpoint(_)
            | Self::Io { .. }
            | Self::Exists { .. }
            | Self::Stopped { .. }
            | Self::OutOfRange { .. } => false,
        }
    }

    /// What a client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Corrupt(_) => ErrorCode::CorruptMessage,
            Self::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            _ => ErrorCode::KafkaStorageError,
        }
    }
}

impl From<ReadError> for LogError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::OutOfRange { offset, start, end } => Self::OutOfRange { offset, start, end },
            ReadError::Corrupt(corruption) => Self::Corrupt(corruption),
            ReadError::Io { path, source } => Self::Io { path, source },
        }
    }
}

/// Why a batch was not appended. Nothing of it is in the log.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error(transparent)]
    Producer(#[from] ProducerError),
    #[error("a batch of {bytes} bytes is over the limit of {limit} (max.message.bytes)")]
    TooLarge { bytes: usize, limit: usize },
    /// The offsets of the batch do not fit what a log can number.
    #[error("no offsets are left after {log_end_offset}")]
    OffsetOverflow { log_end_offset: Offset },
    /// A copied batch begins below the log's end, or is of an older epoch than the log's newest.
    #[error("a batch at offset {offset} cannot follow the log, which ends at {log_end_offset}")]
    OutOfOrder {
        offset: Offset,
        log_end_offset: Offset,
    },
    #[error(transparent)]
    Storage(#[from] LogError),
}

impl AppendError {
    /// What a client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Producer(error) => error.code(),
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::OffsetOverflow { .. } => ErrorCode::KafkaStorageError,
            Self::OutOfOrder { .. } => ErrorCode::InvalidRecord,
            Self::Storage(_) => ErrorCode::KafkaStorageError,
        }
    }
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("offset {offset} is outside the log, which holds [{start}, {end})")]
    OutOfRange {
        offset: Offset,
        start: Offset,
        end: Offset,
    },
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl ReadError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// What a client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Corrupt(_) => ErrorCode::CorruptMessage,
            Self::Io { .. } => ErrorCode::KafkaStorageError,
        }
    }
}
