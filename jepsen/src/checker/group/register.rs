//! Whether a register whose writes have values of their own was read as one that exists once.
//!
//! A history of a register is linearizable if its operations can be put in one order that agrees
//! with time (what returned before another was invoked is before it) and in which every read gives
//! the value of the last write before it. That is hard in general, and easy when each value was
//! written once: a write and its reads, a **cluster**, must then be neighbours in any such order.
//! So one cluster must be wholly before another as soon as one of its operations returned before
//! one of the other's was invoked. With `first_return` and `last_invocation` over a cluster, `a` is
//! before `b` if `a.first_return < b.last_invocation`, and there is no order exactly if two
//! clusters are before each other, or a read returned before its write was invoked (Gibbons and
//! Korach, "Testing shared memories", 1997: longer circles always hold a short one).
//!
//! Of two clusters that are before each other one is *forward*: `first_return < last_invocation`,
//! its value certainly stood from the one to the other. Sorted by the beginning of that span with
//! running maxima of its end, each cluster finds such a partner by one binary search: O(n log n).
//!
//! Left out without harm: writes of unknown outcome that nobody read (they may never happen), and
//! reads whose write is not certain. To leave something out never makes a good history bad.

/// One operation of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub op: u64,
    pub invoked: u64,
    /// `u64::MAX` for a write of which nobody knows when it ended.
    pub returned: u64,
}

/// A write and the reads of its value; at least one of them ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cluster {
    pub write: Span,
    pub reads: Vec<Span>,
}

/// Why there is no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conflict {
    /// The cluster's value was read before it was written.
    Foreseen { cluster: usize, read: Span },
    /// Two clusters are before each other: the value of `kept` was there at `shown` and at `again`,
    /// and that of `other` came between.
    Between {
        kept: usize,
        other: usize,
        shown: Span,
        again: Span,
    },
}

impl Cluster {
    fn operations(&self) -> impl Iterator<Item = Span> {
        std::iter::once(self.write).chain(self.reads.iter().copied())
    }

    fn first_return(&self) -> Span {
        let all = self.operations();
        all.min_by_key(|span| span.returned).unwrap_or(self.write)
    }

    fn last_invocation(&self) -> Span {
        let all = self.operations();
        all.max_by_key(|span| span.invoked).unwrap_or(self.write)
    }
}

/// A cluster's forward span.
struct Forward {
    from: Span,
    until: Span,
    cluster: usize,
}

/// At least one conflict for each cluster that has one; empty exactly if there is an order.
pub(super) fn conflicts(clusters: &[Cluster]) -> Vec<Conflict> {
    let mut found = Vec::new();
    let mut forward = Vec::new();
    for (cluster, members) in clusters.iter().enumerate() {
        let early = |read: &&Span| read.returned < members.write.invoked;
        if let Some(read) = members.reads.iter().find(early) {
            found.push(Conflict::Foreseen {
                cluster,
                read: *read,
            });
        }
        let (from, until) = (members.first_return(), members.last_invocation());
        if from.returned < until.invoked {
            forward.push(Forward {
                from,
                until,
                cluster,
            });
        }
    }
    forward.sort_by_key(|span| (span.from.returned, span.cluster));
    let longest = longest(&forward);
    for (other, members) in clusters.iter().enumerate() {
        let (first, last) = (members.first_return(), members.last_invocation());
        let before = forward.partition_point(|span| span.from.returned < last.invoked);
        let Some(candidates) = before.checked_sub(1).map(|at| longest[at]) else {
            continue;
        };
        let kept = candidates
            .into_iter()
            .flatten()
            .map(|at| &forward[at])
            .find(|span| span.cluster != other && first.returned < span.until.invoked);
        if let Some(kept) = kept {
            found.push(Conflict::Between {
                kept: kept.cluster,
                other,
                shown: kept.from,
                again: kept.until,
            });
        }
    }
    found
}

/// Of each prefix the spans that end last and second to last: one of them may be the asker's own.
fn longest(forward: &[Forward]) -> Vec<[Option<usize>; 2]> {
    let mut best: [Option<usize>; 2] = [None, None];
    let end = |at: Option<usize>| at.map(|at: usize| forward[at].until.invoked);
    let mut all = Vec::with_capacity(forward.len());
    for at in 0..forward.len() {
        let this = end(Some(at));
        if this > end(best[0]) {
            best = [Some(at), best[0]];
        } else if this > end(best[1]) {
            best[1] = Some(at);
        }
        all.push(best);
    }
    all
}
