//! What an error says about whether the operation happened.
//!
//! A broker may report an error after it appended: a leader that lost its place while the batch
//! was on its way to the others answers NOT_LEADER_OR_FOLLOWER, and the batch may stay. A
//! coordinator makes NOT_COORDINATOR of such an error of its own log, also of one of the disk. Only
//! an error that is found before anything changes proves that nothing changed.

/// How sure an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It did not happen.
    Fail,
    /// It may have happened, or may still.
    Unknown,
}

/// Errors that a client makes itself, beside those of the protocol.
pub const LOCAL: &[&str] = &["TIMEOUT", "DISCONNECTED", "NOT_SENT"];

/// Errors of a produce request that are found before the append.
const REFUSED_SENDS: &[&str] = &[
    "NOT_SENT",
    "NOT_ENOUGH_REPLICAS",
    "MESSAGE_TOO_LARGE",
    "RECORD_LIST_TOO_LARGE",
    "INVALID_RECORD",
    "INVALID_TIMESTAMP",
    "CORRUPT_MESSAGE",
    "UNKNOWN_TOPIC_OR_PARTITION",
    "UNKNOWN_TOPIC_ID",
    "INVALID_TOPIC_EXCEPTION",
    "INVALID_REQUIRED_ACKS",
    "UNSUPPORTED_VERSION",
    "UNSUPPORTED_FOR_MESSAGE_FORMAT",
    "UNSUPPORTED_COMPRESSION_TYPE",
    "TOPIC_AUTHORIZATION_FAILED",
    "CLUSTER_AUTHORIZATION_FAILED",
    "INVALID_PRODUCER_EPOCH",
    "PRODUCER_FENCED",
    "OUT_OF_ORDER_SEQUENCE_NUMBER",
    "UNKNOWN_PRODUCER_ID",
    "POLICY_VIOLATION",
];

/// Errors of other requests that are found before anything changes.
const REFUSED: &[&str] = &[
    "NOT_SENT",
    "UNKNOWN_MEMBER_ID",
    "ILLEGAL_GENERATION",
    "FENCED_INSTANCE_ID",
    "REBALANCE_IN_PROGRESS",
    "INVALID_GROUP_ID",
    "COORDINATOR_LOAD_IN_PROGRESS",
    "GROUP_AUTHORIZATION_FAILED",
    "GROUP_ID_NOT_FOUND",
    "NON_EMPTY_GROUP",
    "GROUP_SUBSCRIBED_TO_TOPIC",
    "INCONSISTENT_GROUP_PROTOCOL",
    "INVALID_SESSION_TIMEOUT",
    "OFFSET_METADATA_TOO_LARGE",
    "INVALID_COMMIT_OFFSET_SIZE",
    "UNKNOWN_TOPIC_OR_PARTITION",
    "UNKNOWN_TOPIC_ID",
    "TOPIC_ALREADY_EXISTS",
    "INVALID_TOPIC_EXCEPTION",
    "INVALID_PARTITIONS",
    "INVALID_REPLICATION_FACTOR",
    "INVALID_CONFIG",
    "INVALID_REQUEST",
    "OFFSET_OUT_OF_RANGE",
    "POLICY_VIOLATION",
    "UNSUPPORTED_VERSION",
];

/// What `error` says of a send.
#[must_use]
pub fn of_send(error: &str) -> Class {
    class(REFUSED_SENDS, error)
}

/// What `error` says of any other operation.
#[must_use]
pub fn of_other(error: &str) -> Class {
    class(REFUSED, error)
}

fn class(refused: &[&str], error: &str) -> Class {
    if refused.contains(&error) {
        Class::Fail
    } else {
        Class::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, of_other, of_send};

    #[test]
    fn an_error_that_can_come_after_the_append_proves_nothing() {
        for error in [
            "TIMEOUT",
            "DISCONNECTED",
            "NOT_LEADER_OR_FOLLOWER",
            "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
            "KAFKA_STORAGE_ERROR",
            "REQUEST_TIMED_OUT",
            "UNKNOWN_SERVER_ERROR",
            "an error nobody has heard of",
        ] {
            assert_eq!(of_send(error), Class::Unknown, "{error}");
        }
        assert_eq!(of_send("OUT_OF_ORDER_SEQUENCE_NUMBER"), Class::Fail);
        assert_eq!(of_other("ILLEGAL_GENERATION"), Class::Fail);
        assert_eq!(of_other("REQUEST_TIMED_OUT"), Class::Unknown);
        assert_eq!(of_other("NOT_COORDINATOR"), Class::Unknown);
        assert_eq!(of_other("COORDINATOR_NOT_AVAILABLE"), Class::Unknown);
    }
}
