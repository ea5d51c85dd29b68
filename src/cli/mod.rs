//! The command line: what a user can ask of a cluster, and how the answer is shown.
//!
//! ```text
//! options   where the cluster is, client settings, form of the answer
//! session   one command's run: environment, clients, terminal, interrupt
//! terminal  the only place that touches stdin, stdout and stderr
//! report    tables for people, one JSON object for scripts
//! failure   what went wrong, what to do about it, and the exit code
//! ```
//!
//! Exit codes: 0 done, 1 the operation failed, 2 usage, 3 unreachable or out of time, 130
//! interrupted. A reader that closes stdout ends a command quietly with 0.

mod cluster;
mod config;
mod consume;
mod dev;
mod failure;
mod group;
mod link;
mod node;
mod options;
mod perf;
mod place;
mod produce;
mod quorum;
mod report;
mod session;
mod terminal;
mod time_text;
mod topic;
mod why;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use self::dev::DevOptions;
pub use self::failure::Failure;
pub use self::node::{NodeOptions, Override};
pub use self::options::ClusterOptions;
pub use self::session::{Session, Surroundings};
pub use self::terminal::Input;

/// A Kafka-compatible event-streaming platform in one binary.
///
/// Without a command, starts a node: with no settings at all it serves the Kafka protocol on port
/// 9092 and keeps its data in ./klamm-data.
#[derive(Parser, Debug)]
#[command(name = "klamm", version, subcommand_negates_reqs = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub node: NodeOptions,
    #[command(flatten)]
    pub cluster: ClusterOptions,
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  klamm                                          start a node with defaults
  klamm server.properties                        start a node with Kafka's own settings file
  klamm --override log.dirs=/var/lib/klamm       start a node with one setting changed
  klamm dev --nodes 3                            start a cluster of three nodes to play with
  klamm config explain log.retention.hours       what a setting means, its value and its source

  klamm topic create orders --partitions 3       (in another terminal)
  echo 'alice:coffee' | klamm produce orders -K :
  klamm consume orders -e -f '%k -> %v\\n'
  klamm group describe billing                   members, offsets, lag
  klamm cluster health --wait 30                 for scripts and health checks
  klamm why partition orders 0                   who leads it, and what led there
  klamm link create west --from west:9092 --topics 'orders.*'    mirror another cluster
  klamm perf produce bench --duration 10         how fast is it?

Commands speak to any Kafka-compatible cluster: --bootstrap-server HOST:PORT or
KLAMM_BOOTSTRAP_SERVERS says which one, --format json answers for scripts.
Exit codes: 0 done, 1 failed, 2 usage, 3 unreachable or out of time, 130 interrupted.";

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Start a node (the same as no command at all)
    Start(NodeOptions),
    /// Start a cluster for development: several nodes in this process
    Dev(DevOptions),
    /// Create, list, describe, alter, delete and trim topics
    Topic(topic::TopicCommand),
    /// Write records: one per line of stdin or a file
    Produce(produce::ProduceOptions),
    /// Read records and print them
    Consume(consume::ConsumeOptions),
    /// List, describe, reset and delete consumer groups
    Group(group::GroupCommand),
    /// Mirrors of another cluster's topics: links to it, how far they are, failover
    Link(link::LinkCommand),
    /// Settings: explain a node's, describe and alter a cluster's
    Config(config::ConfigCommand),
    /// Brokers, health, metadata, versions, log directories, where partitions are
    Cluster(cluster::ClusterCommand),
    /// The controllers that keep the cluster's metadata, and their votes
    Quorum(quorum::QuorumCommand),
    /// Why something is as it is: the chain of causes
    Why(why::WhyCommand),
    /// Measure throughput and latency of any Kafka-compatible cluster
    Perf(perf::PerfCommand),
}

impl Cli {
    /// Reads the process's arguments. Ends the process with 2 and a message when they are wrong,
    /// with 0 after `--help` and `--version`.
    #[must_use]
    pub fn from_arguments() -> Self {
        let matches = Self::command().get_matches();
        let cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let given = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        let node = given("properties") || given("overrides");
        let cluster = ["bootstrap_server", "client_settings", "format", "timeout"];
        let conflict = match &cli.command {
            Some(Command::Start(_) | Command::Dev(_)) | None if cluster.into_iter().any(given) => {
                "starting a node takes no cluster options: a command such as `topic` is missing"
            }
            Some(_) if node => "settings of a node go with no command (or with `start`)",
            _ => return cli,
        };
        Self::command()
            .error(ErrorKind::ArgumentConflict, conflict)
            .exit()
    }
}

/// Carries out a command and answers the exit code; what went wrong has been said on stderr.
pub async fn run(surroundings: Surroundings, options: ClusterOptions, command: Command) -> u8 {
    let mut session = match Session::new(surroundings, options) {
        Ok(session) => session,
        Err(failure) => return failure.tell(),
    };
    let done = dispatch(&mut session, command).await;
    let done = session.terminal.finish().and(done);
    match done {
        Ok(()) => 0,
        Err(failure) => failure.tell(),
    }
}

async fn dispatch(session: &mut Session, command: Command) -> Result<(), Failure> {
    match command {
        Command::Start(_) | Command::Dev(_) => Err(Failure::Usage(
            "a node cannot be started from here".to_owned(),
        )),
        Command::Topic(command) => topic::run(session, command).await,
        Command::Produce(options) => produce::run(session, options).await,
        Command::Consume(options) => consume::run(session, options).await,
        Command::Group(command) => group::run(session, command).await,
        Command::Link(command) => link::run(session, command).await,
        Command::Config(command) => config::run(session, command).await,
        Command::Cluster(command) => cluster::run(session, command).await,
        Command::Quorum(command) => quorum::run(session, command).await,
        Command::Why(command) => why::run(session, command).await,
        Command::Perf(command) => perf::run(session, command).await,
    }
}
