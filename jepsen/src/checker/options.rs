//! What a history is judged by.

/// What the broker under test promises, where brokers differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Records of sends with `acks=1` may be lost after they were acknowledged: their offsets are
    /// no claims. Otherwise they are as safe as those of `acks=-1`.
    pub weak_acks_one: bool,
    /// Whether partitions have copies on several nodes: a node may then lose what others have, and
    /// cut off what they never had.
    pub replicated: bool,
    /// Whether the broker deletes old records by age or size on topics that do not say so.
    pub retention: bool,
    /// Whether a cluster may lose committed records, so that who copied them holds what it has not.
    pub sources_may_lose: bool,
}
