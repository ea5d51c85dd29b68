//! Planted bugs, which show that the tests would see a bug of their kind.
//!
//! Each is a bug that some broker, log or consensus library really had (the B numbers are those of
//! the list in `docs/simulation.md`), put where it would live here by a switch in the code:
//! `crate::mutant!("name")`. A process has at most one, chosen before anything else runs.
//!
//! Only builds with the feature `mutants` can have one. In all others a switch is the constant
//! `false`, and nothing is left of it; that it names a mutant of [`NAMES`] is checked as it is
//! compiled, in every build.

/// A mutant: its name, what is wrong with it, and the properties of which it breaks at least one
/// when the faults that it needs befall it.
pub type Described = (&'static str, &'static str, &'static [&'static str]);

/// Every mutant.
pub const NAMES: &[Described] = &[
    // What was acknowledged.
    (
        "ack-before-sync",
        "B71: a batch is acknowledged once it was given to the disk, before its sync ended. Power loss.",
        &["P2", "P3"],
    ),
    (
        "duplicate-acked-before-durable",
        "B75: a batch sent again is acknowledged although the first copy is not durable yet. Resend, power loss.",
        &["P2", "P3"],
    ),
    (
        "duplicate-answered-with-offset-zero",
        "B95: the answer to a batch sent again says offset 0. Resend.",
        &["P16", "P1"],
    ),
    (
        "serve-beyond-durable-end",
        "B40: a fetch gives batches that are not durable yet. Power loss for all but P17.",
        &["P17", "P1", "P2", "P5"],
    ),
    (
        "latest-is-the-log-end",
        "ListOffsets answers the log's end for the latest offset, not the high watermark. Power loss.",
        &["P14"],
    ),
    (
        "responses-out-of-order",
        "A pipelined request is answered before those ahead of it.",
        &["P18"],
    ),
    (
        "session-leaves-out-records",
        "A fetch session leaves a partition out whose high watermark has not moved, although it has records to give.",
        &["P3", "V4", "P13"],
    ),
    // What a disk may do.
    (
        "no-dir-sync-after-roll",
        "B30: the directory is not synced after a segment was made. Power loss.",
        &["P2", "P3", "R12"],
    ),
    (
        "cut-at-first-bad-crc",
        "B70: recovery cuts the log at a bad CRC although a sync had covered it. Bit rot, restart.",
        &["P1", "P2", "P3"],
    ),
    (
        "torn-tail-kept",
        "Recovery believes the lengths of batches and does not compute their CRCs. Power loss.",
        &["R12", "P3", "P15", "V4"],
    ),
    (
        "failed-sync-retried",
        "As PostgreSQL did until 2018: after a failed sync the file is synced once more, and what that one says is believed. Failed sync that keeps the pages in the cache, power loss.",
        &["P2", "P3", "V2"],
    ),
    (
        "append-after-io-error",
        "B29: after a failed write the log goes on behind it instead of cutting it off. EIO or ENOSPC.",
        &["R12", "P2", "P3", "V2"],
    ),
    (
        "tail-rewritten-bare",
        "Recovery writes the unproven end of a log anew without having it safe elsewhere. Power loss that leaves garbage, while a log recovers.",
        &["P2", "P3", "R5"],
    ),
    (
        "slot-before-sync",
        "B33: a durable slot speaks of a batch that its own sync is yet to cover. Power loss.",
        &["P3", "V2", "R10"],
    ),
    (
        "checkpoint-not-synced",
        "B16, B31: a checkpoint takes its place by a rename before its bytes are synced. Power loss.",
        &["V2", "R8", "R11", "K6"],
    ),
    (
        "clean-marker-kept",
        "B32: the marker of an orderly stop stays when the broker starts, and the next start believes it. Stop, then power loss or kill.",
        &["P2", "P3", "V2", "R12"],
    ),
    (
        "index-not-truncated",
        "When the end of the log is cut off, the entries of its (time) index stay. Failed write or sync.",
        &["R12", "P14", "P3", "V4"],
    ),
    (
        "tail-cache-not-truncated",
        "When the end of the log is cut off, the batches cached from it stay. Failed write or sync.",
        &["P1", "P5", "P7"],
    ),
    (
        "time-index-not-monotone",
        "An entry of the time index holds its own batch's timestamp, not the largest so far. Timestamps out of order.",
        &["P14", "R12"],
    ),
    // Idempotence.
    (
        "forget-producer-state",
        "A restart forgets the producers. Resend across a restart.",
        &["P4", "R11", "R16"],
    ),
    (
        "remember-only-last-batch",
        "B73: of a producer's last five batches only the newest is known again. Lost answers with several batches in flight.",
        &["P4", "V2", "R11", "R16"],
    ),
    (
        "producer-state-before-append",
        "B39: a producer's batch counts as appended before it was. EIO or ENOSPC at a roll.",
        &["P2", "P3", "R11", "P16"],
    ),
    (
        "sequence-gap-accepted",
        "B80: a batch is appended although those before it are missing. One of several batches in flight refused.",
        &["P10", "P4", "V2", "R11", "R16"],
    ),
    (
        "producer-ids-given-again",
        "M12: a block of producer ids is given out again after a restart.",
        &["P2", "P3", "P4", "P16", "M12"],
    ),
    // Metadata.
    (
        "metadata-not-synced",
        "B71: the metadata log is written and not synced before a change is answered. Power loss.",
        &["M14", "P3", "V2"],
    ),
    (
        "topic-id-outlives-its-topic",
        "B34: the id of a deleted topic leads to the new topic of the same name. Delete, create again, late requests by id.",
        &["P1", "P5", "P3"],
    ),
    // Replication.
    (
        "high-watermark-below-min-isr",
        "B22: the high watermark moves, and acks=all is answered, while fewer replicas are in sync than min.insync.replicas asks. Shrunk ISR, loss of the last.",
        &["R7", "R18", "P2"],
    ),
    (
        "acks-all-as-acks-one",
        "acks=all is answered once the leader alone has the batch. Kill of the leader.",
        &["P2", "P3", "R18"],
    ),
    (
        "leader-counts-unsynced",
        "B46: the leader counts what it has not synced yet towards the high watermark. Power loss.",
        &["P2", "P3", "R10"],
    ),
    (
        "follower-counts-unsynced",
        "A follower fetches from beyond what it has synced, which counts as having it. Power loss.",
        &["P2", "P3", "R4"],
    ),
    (
        "proposed-isr-not-waited-for",
        "R6: a replica that was proposed to be in sync, and perhaps is, is not waited for. Slow answer, kill of the leader.",
        &["R6", "R4", "R3", "P2"],
    ),
    (
        "proposed-shrink-believed",
        "A replica that was proposed to leave the ISR is not waited for any more. Slow answer, kill of the leader.",
        &["R6", "R4", "R3", "P2"],
    ),
    (
        "high-watermark-forgotten-on-isr-change",
        "B21: the high watermark is not looked at when the ISR changes. Shrunk ISR while acks=all waits.",
        &["V2", "V3"],
    ),
    (
        "high-watermark-assigned-back",
        "B43: the high watermark is set to what was computed last, even if that is less. New leader, slow follower.",
        &["R5", "P14"],
    ),
    (
        "fetch-epoch-not-checked",
        "B03: the leader takes fetches of any leader epoch. Delayed fetch across an election.",
        &["R6", "R2", "P2"],
    ),
    (
        "fetch-epoch-checked-late",
        "B04: the leader refuses a fetch of another epoch after it has taken note of its offset. Delayed fetch across an election.",
        &["R6", "R2", "P2"],
    ),
    (
        "diverging-fetch-counts",
        "B08: the offset of a follower counts although its log differs. Election with a diverged follower.",
        &["R4", "R6", "P2"],
    ),
    (
        "epoch-end-of-whatever-was-asked",
        "B02: the leader never tells a follower that their logs differ. Several elections.",
        &["R2", "P1"],
    ),
    (
        "joins-before-epoch-start",
        "B06: a follower joins the ISR at the high watermark, though that lies before the epoch's start. Two elections.",
        &["R3", "P2"],
    ),
    (
        "broker-epoch-ignored",
        "B23: an offset of an earlier life of a follower counts, and an ISR is proposed with whatever epochs are registered. Delayed fetch, power loss.",
        &["R15", "R4", "P2"],
    ),
    (
        "ineligible-joins",
        "B24: a replica is proposed for the ISR though it is fenced or shutting down.",
        &["R7", "V1", "V3"],
    ),
    (
        "stale-isr-answer-believed",
        "B26: an answer to an older ISR proposal is taken for one to the present. Delayed answer.",
        &["R6", "R7", "V3"],
    ),
    (
        "epoch-start-at-first-append",
        "B12: a leader enters its epoch into the log with the first append. Two elections without writes.",
        &["R8", "R2"],
    ),
    (
        "epoch-led-again-after-restart",
        "A leader that restarts before the controller knows leads on in the same epoch, without what it lost. Power loss, slow metadata.",
        &["R2", "P1", "P2"],
    ),
    (
        "leads-on-after-storage-failure",
        "A leader cuts off what followers have copied, and leads on in the same epoch. Failed sync.",
        &["R2", "R13", "P1"],
    ),
    (
        "leads-on-with-a-damaged-log",
        "A leader whose log is damaged goes on leading though others are in sync, and readers are stuck. Bit rot.",
        &["V4"],
    ),
    (
        "repaired-while-counted-on",
        "A damaged replica empties its log while it is in sync or eligible. Bit rot, power loss.",
        &["R4", "R5", "R6", "R9", "P1"],
    ),
    (
        "older-leader-believed",
        "B13: a follower acts on what a leader of an older epoch said. Delayed answer across an election.",
        &["R9", "R2", "P2"],
    ),
    (
        "truncates-to-high-watermark",
        "B01: a follower cuts its log to its own high watermark when it begins to follow. Kill of a follower, then of the leader.",
        &["P2", "R2", "R9"],
    ),
    (
        "truncates-what-it-leads",
        "B09: an answer that comes after the follower has become the leader truncates its log. Delayed answer across an election.",
        &["R9", "P2"],
    ),
    (
        "old-answer-truncates",
        "A follower truncates by an answer to a position that it has left since. Repeated answer.",
        &["R9", "P2"],
    ),
    (
        "fetch-forgets-last-epoch",
        "B10: a follower does not say of which epoch its last batch is. Election with a diverged follower.",
        &["R2", "P1"],
    ),
    (
        "restart-leaves-high-watermark",
        "B17: a follower that begins anew at the leader's log start keeps its high watermark. DeleteRecords while a follower is away.",
        &["R10", "V3"],
    ),
    (
        "empty-epoch-not-truncated",
        "B14: a truncation that takes no records leaves the epochs of the log alone. Two elections without writes.",
        &["V3", "R8"],
    ),
    (
        "epoch-zero-not-rebuilt",
        "B15: recovery leaves epoch 0 out as it rebuilds the epochs of a log. Lost checkpoint.",
        &["R8"],
    ),
    (
        "deleted-beyond-high-watermark",
        "B27: retention and DeleteRecords on a leader reach beyond the high watermark. Slow follower.",
        &["K5", "R10", "P2"],
    ),
    (
        "restart-within-a-batch-refused",
        "B28: a follower whose log starts within a batch refuses that batch. DeleteRecords within a batch, new follower.",
        &["V3", "R12"],
    ),
    (
        "leader-epoch-reused",
        "R1: another replica is elected leader in the same leader epoch. Leader killed.",
        &["R1", "R2", "P1", "P2", "M11"],
    ),
    (
        "reassignment-ends-early",
        "B35: a reassignment is complete when one of its targets is in sync. Reassignment, then the loss of what was dropped.",
        &["R3", "R7", "P2", "P3"],
    ),
    (
        "eligible-for-ever",
        "B22: with enough in-sync replicas again, those that left stay eligible, though the high watermark moves on without them. Followers cut off, then the leader killed.",
        &["R3", "R4", "R7", "P2", "P3"],
    ),
    (
        "isr-of-an-earlier-run",
        "B23: an in-sync proposal that names an earlier run of a follower is taken for the present one. Power loss of a follower while its proposal is under way.",
        &["R4", "R15", "P2", "P3"],
    ),
    (
        "fenced-into-isr",
        "B24: a broker that is fenced or stopping is taken into an ISR.",
        &["R7", "V1", "V2"],
    ),
    (
        "last-replica-trusted",
        "B25: a replica that came back without its data, or without what a `replicated` topic held in memory, stays eligible. Lost disk, power loss.",
        &["R3", "R4", "R15", "P2", "P3"],
    ),
    (
        "isr-without-compare",
        "B26: an in-sync proposal takes effect on another state than it was made for. Proposals that cross a fencing.",
        &["R4", "R7", "P2", "P3"],
    ),
    (
        "same-run-new-epoch",
        "B36: a registration sent again gets another broker epoch. Lost answers.",
        &["M11", "V1", "V2"],
    ),
    // Retention and deletion.
    (
        "log-start-not-persisted",
        "DeleteRecords moves the log's start in memory only. Restart.",
        &["K6", "P14", "R10"],
    ),
    (
        "log-start-after-delete",
        "B110: retention removes segments before it moves the log's start. Fetch or power loss meanwhile.",
        &["K7", "K8", "V2"],
    ),
    (
        "retention-by-first-timestamp",
        "Retention counts a segment's age from its oldest record. Short retention.",
        &["K5", "K10", "P2"],
    ),
    // Compaction.
    (
        "compaction-drops-latest",
        "B106: compaction leaves out the newest record of a key.",
        &["K1", "CG5"],
    ),
    (
        "tombstones-dropped-too-early",
        "B107: a tombstone may go with the next round, whatever delete.retention.ms says.",
        &["K3"],
    ),
    (
        "swap-deletes-first",
        "B108: compaction removes its sources before its output has the name that recovery finishes. Power loss or kill meanwhile.",
        &["K8", "K1", "P2", "V2"],
    ),
    // Groups.
    (
        "commit-acked-before-durable",
        "B71: a group coordinator answers before its records are durable. Power loss.",
        &["CG4", "CG5", "CG2"],
    ),
    (
        "commits-replayed-in-wrong-order",
        "B102: of several commits for a partition, loading keeps the oldest. Restart.",
        &["CG4", "CG7"],
    ),
    (
        "fenced-commit-accepted",
        "CG3: offsets are committed for whoever asks, member of the present generation or not. Frozen member.",
        &["CG3", "CG4"],
    ),
    (
        "stale-heartbeat-accepted",
        "A heartbeat of another generation, or of somebody who is no member any more, is answered well. Frozen member.",
        &["CG3", "CG1", "V4"],
    ),
    (
        "generation-restarts",
        "CG2: a coordinator that loads a group counts its generations from 1 again. Restart.",
        &["CG2", "CG7"],
    ),
    (
        "double-assignment",
        "B100: a member that asks for its assignment late gets the leader's.",
        &["CG1", "CG6"],
    ),
    (
        "session-expiry-ignored",
        "B99: a member that vanished stays in its group for ever. Vanished member.",
        &["CG6", "CG8", "V4"],
    ),
    (
        "static-id-not-recorded",
        "B96: the new id of a static member that came back is not recorded. Static member, restart.",
        &["CG9", "CG7"],
    ),
    (
        "static-restart-rebalances",
        "A static member that comes back within its session ends the generation. Static member.",
        &["CG9"],
    ),
    (
        "offsets-expire-while-subscribed",
        "B97: offsets of a group with members expire. Commits with a retention time of their own.",
        &["CG5"],
    ),
    // The quorum.
    (
        "higher-vote-is-granted",
        "B50: the answer to a vote that names a higher one counts as a vote gained. Partitions, elections.",
        &["M1", "M3", "P2"],
    ),
    (
        "leads-before-own-entry",
        "B60: a node elected acts as the controller before an entry of its own term, and with it all before, is applied. Elections.",
        &["M6", "M3", "P2"],
    ),
    (
        "vote-not-synced",
        "B61: a vote is given before it is durable. Power loss between answer and sync.",
        &["M1", "M9"],
    ),
    (
        "raft-log-not-synced",
        "B46, B71: an entry of the metadata log is confirmed before it is durable. Power loss of a majority.",
        &["M5", "P2", "V2"],
    ),
    (
        "damaged-snapshot-is-none",
        "B69: a snapshot of the metadata that is damaged is taken for missing, and the node starts without it. Bit rot, restart.",
        &["M7", "M10", "P2", "V2"],
    ),
    // Copying between brokers, and who serves.
    (
        "session-keeps-first-epoch",
        "B05: a fetch session keeps the leader epoch it began with. Elections under a session.",
        &["R6", "V3"],
    ),
    (
        "late-fetch-answer-taken",
        "B13: a follower takes an answer of a leader it does not follow any more. Elections.",
        &["R9", "P2", "R2"],
    ),
    (
        "list-offsets-before-epoch-start",
        "B18: a new leader tells its high watermark before it has reached its epoch. Elections.",
        &["P14"],
    ),
    (
        "removal-by-topic-name",
        "B34: the log of a topic goes with an older topic of its name. Deletion, creation.",
        &["V3", "P2"],
    ),
    (
        "follower-serves-its-log-end",
        "R17: a follower gives consumers what may not be committed. Reads by rack, elections.",
        &["R17", "P1"],
    ),
    (
        "groups-stay-with-a-deposed-leader",
        "B98: a coordinator goes on after its broker stopped leading. Elections, commits.",
        &["CG7", "CG3"],
    ),
    (
        "deposed-leader-serves-consumers",
        "A broker that does not lead serves consumers as if it did. Elections.",
        &["R6", "P14"],
    ),
    // Liveness.
    (
        "maintenance-without-pause",
        "V8: rounds of maintenance follow each other without end.",
        &["V8"],
    ),
];

/// No mutant of this name, or not in this build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownMutant {
    #[error("there is no mutant '{0}'")]
    Name(String),
    #[error("this build has no mutants: build with --features mutants")]
    Build,
    #[error("this process has the mutant '{0}' already")]
    Chosen(&'static str),
}

/// Makes this process the mutant `name`. To be called once, before anything else runs.
pub fn choose(name: &str) -> Result<(), UnknownMutant> {
    match NAMES.iter().position(|mutant| mutant.0 == name) {
        None => Err(UnknownMutant::Name(name.to_owned())),
        Some(number) => plant(number),
    }
}

#[cfg(feature = "mutants")]
static CHOSEN: std::sync::OnceLock<usize> = std::sync::OnceLock::new();

#[cfg(feature = "mutants")]
fn plant(number: usize) -> Result<(), UnknownMutant> {
    match *CHOSEN.get_or_init(|| number) {
        chosen if chosen == number => Ok(()),
        other => Err(UnknownMutant::Chosen(NAMES[other].0)),
    }
}

#[cfg(not(feature = "mutants"))]
fn plant(_: usize) -> Result<(), UnknownMutant> {
    Err(UnknownMutant::Build)
}

/// Whether this process is the mutant of this number in [`NAMES`].
#[cfg(feature = "mutants")]
#[inline]
pub(crate) fn is_chosen(number: usize) -> bool {
    CHOSEN.get() == Some(&number)
}

/// Whether this process is the mutant of this number in [`NAMES`]: never.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn is_chosen(_: usize) -> bool {
    false
}

/// The number of a mutant in [`NAMES`]. Evaluated as a switch is compiled.
pub(crate) const fn number(name: &str) -> usize {
    let mut at = 0;
    while at < NAMES.len() {
        if same(name.as_bytes(), NAMES[at].0.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("a switch names a mutant that is not in mutant::NAMES");
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Whether this process is the mutant named. A name that is not in the table does not compile.
macro_rules! mutant {
    ($name:literal) => {{
        const NUMBER: usize = $crate::mutant::number($name);
        $crate::mutant::is_chosen(NUMBER)
    }};
}
pub(crate) use mutant;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_mutant_breaks_something() {
        let mut names: Vec<&str> = NAMES.iter().map(|mutant| mutant.0).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
        assert!(
            NAMES
                .iter()
                .all(|mutant| !mutant.1.is_empty() && !mutant.2.is_empty())
        );
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let unknown = UnknownMutant::Name("none".to_owned());
        assert_eq!(choose("none"), Err(unknown));
    }

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn a_build_without_the_feature_has_no_mutant() {
        assert_eq!(choose(NAMES[0].0), Err(UnknownMutant::Build));
        assert!((0..NAMES.len()).all(|number| !is_chosen(number)));
    }
}
