//! Bugs that a single node can have.

use super::Described;

/// By what they spoil.
pub(super) const MUTANTS: &[Described] = &[
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
        &["P3", "V4", "P13", "V2", "V3"],
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
        "long-answers-not-checked",
        "Batches that are read as they are sent are not checked. Rot.",
        &["P8", "P15", "P1"],
    ),
    (
        "recovery-point-before-sync",
        "A recovery point is saved before its batches are durable. Power loss.",
        &["R12", "R11", "P3", "V2"],
    ),
    (
        "recovery-point-outlives-cut",
        "A recovery point stays when the log is cut before it. Failed sync, or a follower that is cut, and a crash once the log has grown again.",
        &["R12", "R11", "V2", "P3"],
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
    // Liveness.
    (
        "maintenance-without-pause",
        "V8: rounds of maintenance follow each other without end.",
        &["V8"],
    ),
];
