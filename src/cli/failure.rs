//! Why a command did not do what it was asked, and the exit code for it.

use crate::client::{ApiError, ClientError};
use crate::types::ErrorCode;

/// Why a command ends without having done all it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The cluster, or a client of it, said no, or could not be asked.
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("{0}")]
    Failed(String),
    /// Some of several things failed; each has been reported.
    #[error("{failed} of {all} failed")]
    Partly { failed: usize, all: usize },
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    OutOfTime(String),
    #[error("interrupted")]
    Interrupted,
    /// Whoever reads stdout has had enough.
    #[error("nobody reads the output any more")]
    PipeClosed,
}

impl Failure {
    /// An answer of the cluster about one thing.
    pub fn refused(what: impl Into<String>, error: ApiError) -> Self {
        Self::Client(ClientError::Refused {
            what: what.into(),
            error,
        })
    }

    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::PipeClosed => 0,
            Self::Failed(_) | Self::Partly { .. } => 1,
            Self::Usage(_) => 2,
            Self::OutOfTime(_) => 3,
            Self::Interrupted => 130,
            Self::Client(error) => match error {
                ClientError::Config(_) | ClientError::Misuse(_) => 2,
                ClientError::Connect { .. }
                | ClientError::Disconnected { .. }
                | ClientError::TimedOut { .. }
                | ClientError::GaveUp { .. }
                | ClientError::NoBroker { .. } => 3,
                _ => 1,
            },
        }
    }

    /// Says on stderr what went wrong and what to do about it, and answers the exit code.
    pub fn tell(&self) -> u8 {
        if !matches!(self, Self::PipeClosed | Self::Interrupted) {
            super::terminal::complain(&format!("klamm: {self}"));
            if let Some(fix) = self.fix() {
                super::terminal::complain(&format!("  {fix}"));
            }
        }
        self.exit_code()
    }

    fn fix(&self) -> Option<&'static str> {
        let Self::Client(error) = self else {
            return None;
        };
        if matches!(
            error,
            ClientError::NoBroker { .. } | ClientError::Connect { .. }
        ) {
            return Some(
                "Is a node running there? `klamm` starts one; --bootstrap-server HOST:PORT or \
                 KLAMM_BOOTSTRAP_SERVERS names another.",
            );
        }
        error.code().and_then(fix_of)
    }
}

/// What a user can do about an error of the cluster.
pub fn fix_of(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::UnknownTopicOrPartition => {
            "`klamm topic list` shows the topics there are; `klamm topic create NAME` makes one."
        }
        ErrorCode::TopicAlreadyExists => {
            "Choose another name, or say --if-not-exists to be content with the one there is."
        }
        ErrorCode::InvalidTopicException => {
            "Names have 1 to 249 letters, digits, '.', '_' and '-', and are not '.' or '..'."
        }
        ErrorCode::InvalidReplicationFactor => {
            "There must be as many brokers as replicas: `klamm cluster info` counts them."
        }
        ErrorCode::NonEmptyGroup => {
            "Stop the group's consumers first; `klamm group describe` shows who they are."
        }
        ErrorCode::UnknownMemberId | ErrorCode::RebalanceInProgress => {
            "The group has members: offsets can be set once its consumers have stopped."
        }
        ErrorCode::GroupSubscribedToTopic => {
            "Members of the group still read this topic: stop them first."
        }
        ErrorCode::GroupIdNotFound => "`klamm group list` shows the groups there are.",
        ErrorCode::MessageTooLarge => {
            "Raise the topic's max.message.bytes (`klamm config alter`) and -X max.request.size."
        }
        ErrorCode::NotEnoughReplicas | ErrorCode::NotEnoughReplicasAfterAppend => {
            "Fewer replicas are in sync than min.insync.replicas: see `klamm cluster health`."
        }
        ErrorCode::PreferredLeaderNotAvailable => {
            "The preferred replica is not in sync: `klamm topic describe` shows who is."
        }
        ErrorCode::EligibleLeadersNotAvailable => {
            "No replica of the partition is alive: `klamm why partition` says whom it waits for."
        }
        ErrorCode::NoReassignmentInProgress => {
            "`klamm cluster reassign` shows what is on the move."
        }
        ErrorCode::BrokerIdNotRegistered => "`klamm cluster info` shows the brokers there are.",
        ErrorCode::VoterNotFound | ErrorCode::DuplicateVoter => {
            "`klamm quorum describe` shows who has a vote, and with which directory."
        }
        ErrorCode::ResourceNotFound => "`klamm link list` shows the links there are.",
        ErrorCode::OffsetOutOfRange => {
            "`klamm topic offsets` shows where each partition begins and ends."
        }
        _ => return None,
    })
}
