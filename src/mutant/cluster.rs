//! Bugs that take several nodes to show.

use super::Described;

/// By what they spoil.
pub(super) const MUTANTS: &[Described] = &[
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
        &["P2", "P3", "R4", "R6"],
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
        &["R5", "V2", "V3"],
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
        &["R3", "R4", "P2"],
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
        &["R8", "R2", "V3"],
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
        "unusable-log-stays",
        "A log that has to be cut where it is damaged stays offline until the process starts again. Bit rot, failover.",
        &["V3"],
    ),
    (
        "unusable-log-goes-at-once",
        "A log that has to be cut where it is damaged is taken away though its leader was told of it and may count on it. Bit rot, failed sync, late proposal.",
        &["R4", "R6", "P1"],
    ),
    (
        "foreign-log-kept",
        "A follower whose log begins beyond the end of its leader's waits until that has grown so far, and lacks what came before. Later start, unclean election.",
        &["V3", "V1", "P1"],
    ),
    (
        "repaired-while-counted-on",
        "A damaged replica empties its log while it is in sync or eligible. Bit rot, power loss.",
        &["R4", "R5", "R6", "R9", "P1"],
    ),
    (
        "older-leader-believed",
        "B13: a follower acts on what a leader of an older epoch said, of whom it does not copy any more. Delayed answer across an election.",
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
        "unverified-kept-below-start",
        "A follower keeps records from before the leader's log start of which nothing says that they are the leader's. Two elections, DeleteRecords meanwhile.",
        &["R16", "P2", "P4"],
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
        "compacts-beyond-high-watermark",
        "B105: compaction reaches beyond the high watermark. Slow followers, failover.",
        &["K1", "CG4", "CG5", "R2", "R13", "P2"],
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
    (
        "deleted-before-followers-have",
        "KIP-107: DeleteRecords is answered, and the log begins later, before followers have let go. Failover.",
        &["K6", "K7"],
    ),
    // The quorum.
    (
        "higher-vote-is-granted",
        "B50: the answer to a vote that names a higher one counts as a vote gained. Partitions, elections.",
        &["M1", "M3", "P2"],
    ),
    (
        "append-cuts-what-follows",
        "B51: entries that come late take those after them out of the metadata log. Answers lost, requests late.",
        &["M3", "M5", "M6", "M7", "V1"],
    ),
    (
        "leads-before-own-entry",
        "B60: a node elected acts as the controller before an entry of its own term, and with it all before, is applied. Elections.",
        &["M6", "M3", "K8", "P2"],
    ),
    (
        "vote-not-synced",
        "B61: a vote is given before it is durable. Power loss between answer and sync.",
        &["M1", "M9", "K8"],
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
    (
        "snapshot-not-synced",
        "B65: the metadata log is cut off before the snapshot that takes its place is durable. Power loss.",
        &["M7", "M10", "P2", "V2"],
    ),
    (
        "change-answered-before-commit",
        "A change of topics or settings is answered once the controller has proposed it. Isolation of the controller.",
        &["M14"],
    ),
    (
        "decides-in-doubt",
        "The controller goes on to decide while nobody knows whether its last change was committed. Lost answers, then a majority again in the same term.",
        &["K8", "V1", "M3", "M6", "M12"],
    ),
    // Copying between brokers, and who serves.
    (
        "hosting-waits-for-copies",
        "A node that deletes a topic waits until the offsets committed for it are gone on all copies, which a leader that was replaced waits for in vain, and takes no other change meanwhile. Isolation, deletion.",
        &["V1", "V2", "V3", "V4"],
    ),
    (
        "session-keeps-first-epoch",
        "B05: a fetch session keeps the leader epoch it began with. Elections under a session.",
        &["R6", "V3"],
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
        &["R17", "P17", "P1"],
    ),
    (
        "copies-leave-a-gap-in-the-tail",
        "What was cached of a log stays when copies follow it that are not: a leader again, it gives what it appends now right behind. Leaders that change to and fro.",
        &["P2", "P3", "P14", "R12"],
    ),
    (
        "restart-not-noted",
        "A follower empties its log, to begin anew, without a note from which a start could go on. Kill amid it.",
        &["K6", "R12"],
    ),
    (
        "groups-stay-with-a-deposed-leader",
        "B98: a coordinator goes on after its broker stopped leading. Elections, commits.",
        &["CG4", "CG7", "CG3"],
    ),
    (
        "answers-out-of-touch",
        "A group coordinator that heard of no controller for a session, so that another may be in its place, tells committed offsets. Pause.",
        &["CG4"],
    ),
    (
        "deposed-leader-serves-consumers",
        "A broker that does not lead serves consumers as if it did. Elections.",
        &["R6", "P14"],
    ),
];
