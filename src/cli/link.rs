//! `klamm link`: create, list, describe, wait, alter, pause, resume, delete, promote, compare.

mod compare;
mod describe;
mod promote;
mod wait;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::failure::Failure;
use super::report::{Table, counted, listed, or_dash, size};
use super::session::Session;
use crate::client::Admin;
use crate::client::admin::{LinkChange, LinkDescription, LinkSpec, Links, MirrorMakerSpec};

/// Mirrors of another cluster's topics: make links to it, watch them, make mirrors writable
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  klamm link create west --from west-1:9092,west-2:9092 --topics 'orders.*,clicks'
  klamm link describe west               how far each partition is, and what stands in the way
  klamm link wait west                   until it has all that the source has
  klamm link pause west                  copy nothing until `klamm link resume west`
  klamm link promote --all --dry-run     what would be missing if mirrors became writable now
  klamm link promote orders.eu           make one mirror a topic like any other
  klamm link compare west orders.eu      where the records here and there part
  klamm link delete west

A link copies topics of another cluster (Klamm, Apache Kafka, or any that speaks its protocol) to
topics of the same name here: the same batches at the same offsets. Until they are promoted, clients
only read them. A pattern is a name in which * stands for any characters; everything else, the dot
too, stands for itself.")]
pub struct LinkCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Make a link: what its patterns name is copied from now on
    Create(CreateOptions),
    /// List links
    List,
    /// Links with all their mirrors: how far each partition is, and what stands in the way
    Describe {
        /// All links unless given
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Wait until all that the source has is copied
    Wait(wait::WaitOptions),
    /// Change what a link copies, from where, and how fast
    Alter(AlterOptions),
    /// Copy nothing more until the link is resumed; what is being fetched may still arrive
    Pause {
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Copy on from where a paused link stopped
    Resume {
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Delete a link; topics stay. Its mirrors must have been promoted or deleted
    Delete {
        #[arg(value_name = "NAME")]
        name: String,
        /// Promote the mirrors that it still fills
        #[arg(long)]
        force: bool,
        /// Only check whether it could be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Make mirrors writable, for good, and say what of each was and was not copied
    Promote(promote::PromoteOptions),
    /// Find where the records of topics here and at the source part
    Compare(compare::CompareOptions),
}

#[derive(Args, Debug)]
struct CreateOptions {
    /// Of the link here: letters, digits, '_' and '-'
    #[arg(value_name = "NAME")]
    name: String,
    /// Brokers of the cluster to copy from, separated by commas; one that answers is enough
    #[arg(long, value_name = "HOST:PORT", required = true, value_delimiter = ',')]
    from: Vec<String>,
    /// Names or patterns of topics, separated by commas; ones that appear later are copied too
    #[arg(long, value_name = "PATTERN", required = true, value_delimiter = ',')]
    topics: Vec<String>,
    /// Names or patterns of groups whose committed offsets are copied, separated by commas
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    groups: Vec<String>,
    /// Most that each broker here fetches for the link
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    bytes_per_second: Option<u64>,
    /// Of the topics that the link makes; default.replication.factor unless given
    #[arg(long, short = 'r', value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    #[command(flatten)]
    naming: NamingOptions,
    /// Only check whether it could be done; the other cluster is not asked
    #[arg(long)]
    dry_run: bool,
}

/// How mirrors are named.
#[derive(Args, Debug)]
#[command(next_help_heading = "Like MirrorMaker 2")]
struct NamingOptions {
    /// Name mirrors as MirrorMaker 2 does, NAME being the alias of the source, and keep its
    /// heartbeats, NAME.checkpoints.internal and mm2-offset-syncs.NAME.internal here
    #[arg(long, value_name = "POLICY", requires = "alias")]
    replication_policy: Option<Policy>,
    /// Between the alias and a topic's name
    #[arg(
        long,
        value_name = "TEXT",
        requires = "replication_policy",
        default_value = "."
    )]
    separator: String,
    /// What this cluster is called: its topics do not come back under other names
    #[arg(long, requires = "replication_policy")]
    alias: Option<String>,
    /// Write heartbeats to the source too; nothing else is ever written there
    #[arg(long, requires = "replication_policy")]
    source_heartbeats: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Policy {
    /// west.orders, for the topic orders of the link west
    Default,
    /// The name that the topic has at the source
    Identity,
}

impl NamingOptions {
    fn spec(self) -> Option<MirrorMakerSpec> {
        Some(MirrorMakerSpec {
            identity: self.replication_policy? == Policy::Identity,
            separator: self.separator,
            alias: self.alias?,
            source_heartbeats: self.source_heartbeats,
        })
    }
}

#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
struct Changes {
    /// Other brokers of the same cluster, separated by commas
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    from: Option<Vec<String>>,
    /// Instead of the patterns there are. Mirrors stay what they are
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    topics: Option<Vec<String>>,
    /// Instead of the patterns there are; none: ''
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    groups: Option<Vec<String>>,
    /// Most that each broker here fetches for the link; 0: as much as it can
    #[arg(long, value_name = "BYTES")]
    bytes_per_second: Option<u64>,
}

#[derive(Args, Debug)]
struct AlterOptions {
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    changes: Changes,
    /// Only check whether it could be done
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(session: &mut Session, command: LinkCommand) -> Result<(), Failure> {
    let admin = session.admin().await?;
    match command.action {
        Action::Create(options) => create(session, &admin, options).await,
        Action::List => list(session, &admin).await,
        Action::Describe { names } => describe::run(session, &admin, &names).await,
        Action::Alter(options) => alter(session, &admin, options).await,
        Action::Pause { name } => pause(session, &admin, &name, true).await,
        Action::Resume { name } => pause(session, &admin, &name, false).await,
        Action::Delete {
            name,
            force,
            dry_run,
        } => delete(session, &admin, &name, (force, dry_run)).await,
        Action::Promote(options) => promote::run(session, &admin, options).await,
        Action::Wait(options) => wait::run(session, &admin, options).await,
        Action::Compare(options) => compare::run(session, &admin, options).await,
    }
}

async fn create(
    session: &mut Session,
    admin: &Admin,
    options: CreateOptions,
) -> Result<(), Failure> {
    let spec = LinkSpec {
        name: options.name,
        bootstrap: options.from,
        mirror_maker: options.naming.spec(),
        topics: options.topics,
        groups: options.groups,
        bytes_per_second: options.bytes_per_second,
        replication_factor: options.replication_factor,
    };
    let id = session
        .call(admin.create_link(&spec, options.dry_run))
        .await?;
    let name = &spec.name;
    let text = match options.dry_run {
        true => format!("{name} could be created"),
        false => format!(
            "{name} created. `klamm link describe {name}` shows what it finds and how far it is"
        ),
    };
    let id = (!options.dry_run).then(|| id.to_string());
    session.answer(
        &json!({ "link": name, "id": id, "created": !options.dry_run }),
        &text,
    )
}

async fn list(session: &mut Session, admin: &Admin) -> Result<(), Failure> {
    let all = session.call(admin.describe_links(None)).await?;
    let mut table = Table::new(&[
        "name", "state", "from", "topics", ">mirrors", ">lag", ">faults",
    ]);
    let mut list = Vec::new();
    for link in all.links.values() {
        let sum = Sum::of(&all, link);
        table.row(vec![
            link.name.clone(),
            state(link).to_owned(),
            listed(&link.bootstrap),
            listed(&link.topics),
            sum.mirrors.to_string(),
            or_dash(sum.lag),
            sum.faults.to_string(),
        ]);
        let mut json = link_json(link);
        json["mirrors"] = json!(sum.mirrors);
        json["lag"] = json!(sum.lag);
        json["faults"] = json!(sum.faults);
        list.push(json);
    }
    let text = match table.is_empty() {
        true => String::new(),
        false => table.text(),
    };
    session.answer(&json!({ "links": list }), &text)?;
    warn_of_silence(session, &all);
    Ok(())
}

async fn alter(session: &mut Session, admin: &Admin, options: AlterOptions) -> Result<(), Failure> {
    let AlterOptions {
        name,
        changes,
        dry_run,
    } = options;
    let groups = changes.groups.map(|groups| {
        let given = groups.into_iter().filter(|group| !group.is_empty());
        given.collect()
    });
    let change = LinkChange {
        paused: None,
        bootstrap: changes.from,
        topics: changes.topics,
        groups,
        bytes_per_second: changes.bytes_per_second,
    };
    session
        .call(admin.alter_link(&name, &change, dry_run))
        .await?;
    let done = if dry_run {
        "could be altered"
    } else {
        "altered"
    };
    let json = json!({ "link": name, "altered": !dry_run });
    session.answer(&json, &format!("{name} {done}"))
}

async fn pause(
    session: &mut Session,
    admin: &Admin,
    name: &str,
    paused: bool,
) -> Result<(), Failure> {
    let change = LinkChange {
        paused: Some(paused),
        ..LinkChange::default()
    };
    session.call(admin.alter_link(name, &change, false)).await?;
    let done = if paused { "paused" } else { "resumed" };
    let json = json!({ "link": name, "paused": paused });
    session.answer(&json, &format!("{name} {done}"))
}

async fn delete(
    session: &mut Session,
    admin: &Admin,
    name: &str,
    (force, dry_run): (bool, bool),
) -> Result<(), Failure> {
    let promoted = session
        .call(admin.delete_link(name, force, dry_run))
        .await?;
    let count = u64::try_from(promoted.len()).unwrap_or(u64::MAX);
    let mirrors = match promoted.is_empty() {
        true => String::new(),
        false => format!(", with {} promoted", counted(count, "mirror")),
    };
    let done = if dry_run {
        "could be deleted"
    } else {
        "deleted"
    };
    let json = json!({ "link": name, "deleted": !dry_run, "promoted": promoted });
    session.answer(&json, &format!("{name} {done}{mirrors}"))
}

/// What the mirrors of a link come to.
struct Sum {
    mirrors: usize,
    /// `None` where it is not known of any partition.
    lag: Option<i64>,
    faults: usize,
}

impl Sum {
    fn of(all: &Links, link: &LinkDescription) -> Self {
        let mirrors = all.mirrors.values();
        let mirrors: Vec<_> = mirrors
            .filter(|mirror| mirror.link == link.id && mirror.state != "PROMOTED")
            .collect();
        let partitions = || mirrors.iter().flat_map(|mirror| mirror.partitions.values());
        let failed = mirrors.iter().filter(|mirror| mirror.reason.is_some());
        Self {
            mirrors: mirrors.len(),
            lag: partitions()
                .filter_map(|partition| partition.lag())
                .reduce(i64::saturating_add),
            faults: failed.count() + partitions().filter(|one| one.fault.is_some()).count(),
        }
    }
}

fn state(link: &LinkDescription) -> &'static str {
    match (link.paused, &link.error) {
        (true, _) => "PAUSED",
        (false, Some(_)) => "ERROR",
        (false, None) => "ACTIVE",
    }
}

/// How its mirrors are named, for people.
fn naming(of: &MirrorMakerSpec, link: &str) -> String {
    let MirrorMakerSpec {
        separator, alias, ..
    } = of;
    let policy = match of.identity {
        true => "as at the source".to_owned(),
        false => format!("'{link}{separator}' before the name at the source"),
    };
    let beats = match of.source_heartbeats {
        true => ", and heartbeats at the source",
        false => "",
    };
    format!("{policy}; this cluster is '{alias}'{beats}")
}

/// The limit on its speed, for people.
fn limit(link: &LinkDescription) -> String {
    let limit = link.bytes_per_second;
    limit.map_or_else(|| "none".to_owned(), |limit| format!("{}/s", size(limit)))
}

fn link_json(link: &LinkDescription) -> Value {
    json!({
        "name": link.name, "id": link.id.to_string(), "mode": link.mode,
        "mirrormaker": link.mirror_maker.as_ref().map(|of| json!({
            "replication_policy": if of.identity { "identity" } else { "default" },
            "separator": of.separator, "alias": of.alias,
            "source_heartbeats": of.source_heartbeats,
        })),
        "state": state(link), "paused": link.paused, "from": link.bootstrap,
        "source_cluster": link.source_cluster, "topics": link.topics, "groups": link.groups,
        "bytes_per_second": link.bytes_per_second,
        "replication_factor": link.replication_factor,
        "broker": link.broker.map(|id| id.0), "seen_at": link.seen_at.map(|at| at.0),
        "error": link.error, "skipped": link.skipped,
    })
}

/// Says which brokers did not tell how far their partitions are.
fn warn_of_silence(session: &mut Session, all: &Links) {
    for (broker, error) in &all.unreachable {
        session.terminal.note(&format!(
            "klamm: broker {broker} does not tell how far its partitions are: {error}"
        ));
    }
}
