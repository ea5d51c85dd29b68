//! AskPeer (key 20001): what the nodes of a cluster ask each other, on controller listeners.
//! Private
//! to Klamm: both ends are of the same software, and nothing is promised to others. Version 0,
//! flexible.

use bytes::Bytes;

use crate::types::Uuid;

message! {
    /// A question and whom it is meant for. A node refuses what is meant for another.
    pub struct AskPeerRequest {
        /// Zero where the asker does not know it yet.
        cluster_id: Uuid [0..],
        from_node: i32 [0..],
        /// -1: whoever is there.
        to_node: i32 [0..] = -1,
        /// Of the metadata directory; zero: whichever it is.
        to_directory: Uuid [0..],
        /// Its first byte says who answers.
        question: Bytes [0..],
    }

    /// The answer, or a text that says what to fix.
    pub struct AskPeerResponse {
        error_code: i16 [0..],
        error_message: Option<crate::wire::Str> [0..; null 0..],
        answer: Bytes [0..],
    }
}
