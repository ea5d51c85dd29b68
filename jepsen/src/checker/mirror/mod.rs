//! Links that copy topics from one cluster to another: what the copy is held to.
//!
//! The histories of all clusters are judged together here. Ids of records are unique over all of
//! them, so it is known of each record in a mirror whose clients sent it. Links copy *exactly*: a
//! batch is at the same offset as at its source. Each file defines its properties, and says when it
//! is silent.
//!
//! What comes at second hand, over two links, is held to where it comes from: X1, X2, X8 and the
//! causes of X10 are asked of it. Not asked is what depends on how far the first link is.
//!
//! By itself each cluster is judged as if it had no links, after [`context::of_target`] has said
//! what may come over them: until its promotion a mirror is a log that other clusters' clients
//! write to, with ends that nobody learns, and from then on one of its own.

mod content;
pub mod context;
mod facts;
mod follows;
mod groups;
mod promotion;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::{Index, Options, Violation, Violations};
use crate::history::{History, Partition};
use facts::links;

/// One of several clusters.
#[derive(Debug)]
pub struct Clustered<'a> {
    /// As events name it.
    pub name: Option<String>,
    /// What was asked of it and seen of it, and nothing of others.
    pub history: &'a History,
    pub options: Options,
    /// Partitions that lost records that were committed, as they may: what anybody saw or was told
    /// of them counts only where the final reads found it, as others may be in its place.
    pub lost: BTreeSet<Partition>,
}

/// X1 to X8, X10 and X11 of all links.
#[must_use]
pub fn found(clusters: &[Clustered<'_>]) -> Violations {
    let sides: Vec<Side<'_>> = clusters.iter().map(Side::of).collect();
    let mut found = Violations::default();
    let links = links(&sides);
    for link in &links {
        content::check(link, &mut found);
        follows::check(link, &mut found);
        follows::has_cause(link, &links, &mut found);
        groups::check(link, &mut found);
        promotion::check(link, &mut found);
    }
    for link in &facts::onward(&links) {
        content::check(link, &mut found);
        follows::has_cause(link, &links, &mut found);
    }
    found
}

/// A cluster and its history, arranged.
#[derive(Debug)]
struct Side<'a> {
    name: Option<&'a str>,
    index: Index<'a>,
    lost: &'a BTreeSet<Partition>,
}

impl<'a> Side<'a> {
    fn of(cluster: &'a Clustered<'a>) -> Self {
        Self {
            name: cluster.name.as_deref(),
            index: Index::new(cluster.history, cluster.options),
            lost: &cluster.lost,
        }
    }
}

fn violation(
    property: &'static str,
    time: u64,
    partition: Option<&Partition>,
    operations: Vec<u64>,
    detail: String,
) -> Violation {
    Violation {
        property,
        time,
        partition: partition.cloned(),
        operations,
        detail,
    }
}
