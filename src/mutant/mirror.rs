//! Bugs of what copies from another cluster.

use super::Described;

/// By what they spoil.
pub(super) const MUTANTS: &[Described] = &[
    (
        "mirror-lineage-not-kept",
        "Which leader epoch of the source the records are of is noted for the first alone. Elections at the source.",
        &["X10", "V11"],
    ),
    (
        "mirror-diverging-ignored",
        "An answer that says that the source lost what was copied is taken for none. Loss of what the source had in memory.",
        &["X1", "V11"],
    ),
    (
        "mirror-recreated-unnoticed",
        "Topics are known by their names alone. Topic deleted and made again at the source.",
        &["X8", "X10", "X1"],
    ),
    (
        "mirror-comes-home",
        "B115: a topic is copied whatever clusters its records have come through. Links both ways, topic deleted.",
        &["X5"],
    ),
    (
        "mirror-with-default-settings",
        "B115: a mirror is made with default settings, which stay. No fault.",
        &["X6"],
    ),
    (
        "mirror-group-beyond-copied",
        "B111: a group's offset is carried over as it is, also where the records below it were not copied yet. Slow link.",
        &["X7"],
    ),
    (
        "mirror-appends-in-any-epoch",
        "What was copied for a leader epoch that is over, or before a promotion, is appended all the same. Promotion or election while an answer is under way.",
        &["X1", "X11", "R1", "R2", "P1", "P2"],
    ),
    (
        "mirror-appends-from-anywhere",
        "Records are appended to a mirror wherever they were fetched from. Failover of the target while an answer is under way.",
        &["X1", "X2", "P1"],
    ),
    (
        "mirror-begins-beyond-copied",
        "A mirror's log begins where its source's does, also beyond what all of its own copies have. DeleteRecords at the source while a follower is late.",
        &["X1", "R10", "K6", "R9", "P2"],
    ),
    (
        "mirror-promoted-in-the-same-epoch",
        "A promotion leaves leaders in the epoch in which they copied. Promotion while the source is in reach.",
        &["X1", "X2", "X11", "P1", "P4"],
    ),
    (
        "mirror-producers-kept",
        "A promoted mirror knows the source's producers, whose ids the target gives out as well. Promotion, then new producers.",
        &["P2", "P3", "P16", "R11", "V2", "P1"],
    ),
    (
        "mirror-written-by-clients",
        "Clients write to mirrors that nobody promoted. No fault.",
        &["X1", "X11", "P1"],
    ),
];
