//! `meta.properties`: whose a data directory is.
//!
//! A directory is taken into use only when it is empty or its `meta.properties` carries Klamm's
//! marker; anything else was somebody else's and is refused, never overwritten.

use std::collections::BTreeMap;
use std::fmt;

use super::properties::parse_properties;
use crate::types::{BrokerId, Uuid};

/// Identity of a data directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetaProperties {
    pub cluster_id: Uuid,
    pub node_id: BrokerId,
    /// Of this directory alone: a directory that was wiped comes back with another.
    pub directory_id: Uuid,
    pub membership: Membership,
}

/// How far a node is on its way into a cluster of several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Membership {
    /// It is a cluster by itself.
    Alone,
    /// It was told its cluster and may have nothing of its metadata yet.
    Joining,
    /// It has had metadata of its cluster: should that be gone, it was lost.
    Joined,
}

/// Kafka's version of the file, since it has directory ids.
const VERSION: &str = "1";
/// The key that Kafka's own directories do not have.
const MARKER: &str = "klamm.format";
const FORMAT: &str = "1";
/// Absent where the node is a cluster by itself.
const MEMBERSHIP: &str = "klamm.cluster";
const JOINING: &str = "joining";
const JOINED: &str = "joined";

/// Entries a directory may hold and still count as empty: what a file system or a container
/// runtime puts there, and what Klamm leaves when it dies before `meta.properties` is in place.
const IGNORED: &[&str] = &[
    "lost+found",
    ".lock",
    ".gitkeep",
    ".DS_Store",
    "meta.properties.new",
];

/// What a data directory turned out to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DirState {
    /// Nothing in it: may be made ours.
    Empty,
    Ours(MetaProperties),
}

/// An entry of a data directory, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirEntryKind<'a> {
    pub name: &'a str,
    pub is_dir: bool,
}

/// Why a data directory cannot be used. Put the directory's path before it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LogDirError {
    #[error(
        "meta.properties was written by Apache Kafka, whose files Klamm does not take over; point \
         log.dirs at an empty directory and copy the data with a mirror"
    )]
    ApacheKafka,
    #[error(
        "it holds '{entry}' but no meta.properties, so it is not Klamm's; point log.dirs at an \
         empty directory, or restore meta.properties from a backup if it was lost"
    )]
    Foreign { entry: String },
    #[error(
        "meta.properties cannot be read ({reason}); restore it from a backup. Nothing was changed"
    )]
    Unreadable { reason: String },
    #[error("it was written in format {0}, which this version does not know; use a newer Klamm")]
    Newer(String),
    #[error(
        "it belongs to cluster {found}, not {expected}; correct cluster.id or point log.dirs at \
         this cluster's directory"
    )]
    OtherCluster { found: Uuid, expected: Uuid },
    #[error(
        "it belongs to node {found}, not {expected}; correct node.id or point log.dirs at this \
         node's directory"
    )]
    OtherNode { found: BrokerId, expected: BrokerId },
    #[error(
        "it belongs to a cluster of several nodes, and the settings name no other node; set \
         controller.quorum.voters or controller.quorum.bootstrap.servers, or point log.dirs at an \
         empty directory"
    )]
    OfCluster,
    #[error(
        "it belongs to a node that was a cluster by itself, which cannot become part of another; \
         point log.dirs at an empty directory and copy the data with a mirror, or leave out \
         controller.quorum.voters and controller.quorum.bootstrap.servers"
    )]
    OfSingleNode,
    #[error(
        "the metadata directory {directory_id} of node {node} is gone, though the node had joined \
         its cluster; restore {path} from a backup, or remove the voter, empty log.dirs and add \
         the voter again. Nothing was changed"
    )]
    MetadataGone {
        directory_id: Uuid,
        node: BrokerId,
        path: String,
    },
}

impl MetaProperties {
    /// The identity in the text of a `meta.properties`.
    pub fn parse(text: &str) -> Result<Self, LogDirError> {
        let unreadable = |reason: String| LogDirError::Unreadable { reason };
        let properties = parse_properties(text).map_err(|errors| {
            unreadable(errors.first().map(ToString::to_string).unwrap_or_default())
        })?;
        let values: BTreeMap<String, String> = properties
            .into_iter()
            .map(|one| (one.name, one.value))
            .collect();
        let get = |name: &str| {
            values
                .get(name)
                .map(|value| value.trim())
                .ok_or_else(|| unreadable(format!("{name} is missing")))
        };
        match values.get(MARKER).map(|format| format.trim()) {
            Some(FORMAT) => {}
            Some(other) => return Err(LogDirError::Newer(other.to_owned())),
            None if values.contains_key("cluster.id") || values.contains_key("broker.id") => {
                return Err(LogDirError::ApacheKafka);
            }
            None => return Err(unreadable(format!("{MARKER} is missing"))),
        }
        let id = |name: &str| {
            get(name)?
                .parse::<Uuid>()
                .map_err(|error| unreadable(format!("{name}: {error}")))
        };
        let node = get("node.id")?;
        Ok(Self {
            cluster_id: id("cluster.id")?,
            node_id: node
                .parse()
                .map(BrokerId)
                .map_err(|_| unreadable(format!("node.id: '{node}' is not a number")))?,
            directory_id: id("directory.id")?,
            membership: match values.get(MEMBERSHIP).map(|value| value.trim()) {
                None => Membership::Alone,
                Some(JOINING) => Membership::Joining,
                Some(JOINED) => Membership::Joined,
                Some(other) => return Err(unreadable(format!("{MEMBERSHIP} is '{other}'"))),
            },
        })
    }

    /// Refuses a directory of another cluster (when `cluster_id` says which) or node.
    pub fn validate(&self, cluster_id: Option<Uuid>, node_id: BrokerId) -> Result<(), LogDirError> {
        match cluster_id {
            Some(expected) if expected != self.cluster_id => Err(LogDirError::OtherCluster {
                found: self.cluster_id,
                expected,
            }),
            _ if node_id != self.node_id => Err(LogDirError::OtherNode {
                found: self.node_id,
                expected: node_id,
            }),
            _ => Ok(()),
        }
    }
}

/// The text of the file.
impl fmt::Display for MetaProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Identity of a Klamm data directory. Do not edit.")?;
        writeln!(f, "version={VERSION}")?;
        writeln!(f, "{MARKER}={FORMAT}")?;
        writeln!(f, "cluster.id={}", self.cluster_id)?;
        writeln!(f, "node.id={}", self.node_id)?;
        writeln!(f, "directory.id={}", self.directory_id)?;
        match self.membership {
            Membership::Alone => Ok(()),
            Membership::Joining => writeln!(f, "{MEMBERSHIP}={JOINING}"),
            Membership::Joined => writeln!(f, "{MEMBERSHIP}={JOINED}"),
        }
    }
}

/// What the directory with these `entries` and, if it has one, this text of `meta.properties` is.
pub fn check_log_dir(
    entries: &[DirEntryKind<'_>],
    meta: Option<&str>,
) -> Result<DirState, LogDirError> {
    if let Some(text) = meta {
        return MetaProperties::parse(text).map(DirState::Ours);
    }
    match entries.iter().find(|entry| !IGNORED.contains(&entry.name)) {
        None => Ok(DirState::Empty),
        Some(entry) => Err(LogDirError::Foreign {
            entry: entry.name.to_owned(),
        }),
    }
}
