//! `test`: torments a cluster of real processes, and judges what its clients saw.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};

use super::{Failed, print};
use crate::harness::clients::Language;
use crate::harness::nemesis::Kind;
use crate::harness::{self, Outcome, Workload, binary};
use crate::judge::Verdict;
use crate::report;

#[derive(Debug, Clone, Args)]
pub(super) struct TestOptions {
    /// Nodes, each broker and controller
    #[arg(long, value_name = "COUNT", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(3..=9))]
    pub(super) nodes: u8,
    /// Seconds of torment; healing and the last reads come on top
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(super) time: u64,
    /// What clients do, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "log")]
    pub(super) workload: Vec<WorkloadName>,
    /// Faults, separated by commas: kill, pause, isolate, one-way, ring, slow, reset, clock,
    /// disk-full, power, kill-all, power-all, last-stand, stop; partition, network, all or none for
    /// several
    #[arg(long, value_name = "LIST", default_value = "kill,pause,partition",
          value_parser = parse_kinds)]
    pub(super) nemesis: Kinds,
    /// Clients beside our own, separated by commas
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) client: Vec<ClientName>,
    /// Draws the plan and the clients' choices; drawn itself if absent
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// The broker; built from the sources if absent
    #[arg(long, value_name = "FILE")]
    pub(super) binary: Option<PathBuf>,
    /// A planted bug that every node has (src/mutant/)
    #[arg(long, value_name = "NAME")]
    pub(super) mutant: Option<String>,
    /// How nodes are joined; namespaces where the kernel allows them if absent
    #[arg(long, value_enum)]
    pub(super) network: Option<NetworkName>,
    /// Where the results go; a new folder below target/jepsen if absent
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// One more setting of every node
    #[arg(long = "override", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub(super) overrides: Vec<(String, String)>,
    /// Keep the nodes' data also of a good run
    #[arg(long)]
    pub(super) keep: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Kinds(pub(super) Vec<Kind>);

fn parse_kinds(text: &str) -> Result<Kinds, String> {
    Kind::parse(text).map(Kinds)
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it is not KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum WorkloadName {
    Log,
    Groups,
    Registers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ClientName {
    Confluent,
    Java,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum NetworkName {
    Namespaces,
    Proxy,
}

pub(super) fn run(options: &TestOptions) -> Result<Verdict, Failed> {
    let outcome = run_one(options)?;
    print(&outcome.told);
    print(&report::text(&outcome.judgement));
    Ok(outcome.verdict)
}

/// One run, whose reports are in its folder.
pub(super) fn run_one(options: &TestOptions) -> Result<Outcome, Failed> {
    let wanted = options.wanted()?;
    harness::run(&wanted).map_err(Failed)
}

impl TestOptions {
    fn wanted(&self) -> Result<harness::Options, Failed> {
        let seed = self.seed.unwrap_or_else(drawn_seed);
        let mut features = vec!["faults"];
        features.extend(self.mutant.is_some().then_some("mutants"));
        let binary = binary::find(self.binary.as_deref(), &features).map_err(Failed)?;
        let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = sources.join("..");
        let folder = match &self.out {
            Some(folder) => folder.clone(),
            None => root.join("target/jepsen").join(format!("seed-{seed}")),
        };
        let folder = std::path::absolute(&folder)
            .map_err(|error| Failed(format!("{}: {error}", folder.display())))?;
        if folder.join("history.jsonl").exists() {
            let text = format!("{} has the results of another run", folder.display());
            return Err(Failed(text));
        }
        let workloads = self.workload.iter().map(|name| match name {
            WorkloadName::Log => Workload::Log,
            WorkloadName::Groups => Workload::Groups,
            WorkloadName::Registers => Workload::Registers,
        });
        let languages = self.client.iter().map(|name| match name {
            ClientName::Confluent => Language::Confluent,
            ClientName::Java => Language::Java,
        });
        let network = self.network.map(|name| match name {
            NetworkName::Namespaces => "namespaces",
            NetworkName::Proxy => "proxy",
        });
        Ok(harness::Options {
            nodes: usize::from(self.nodes),
            time: Duration::from_secs(self.time),
            seed,
            workloads: workloads.collect::<BTreeSet<_>>(),
            kinds: self.nemesis.0.clone(),
            languages: languages.collect(),
            clients: (clients_folder(&root), sources.join("workers")),
            binary,
            mutant: self.mutant.clone(),
            network: network.map(str::to_owned),
            folder,
            overrides: self.overrides.clone(),
            keep: self.keep,
        })
    }
}

/// Where `tests/clients/setup.sh` puts what it fetches.
#[allow(
    clippy::disallowed_methods,
    reason = "the variable that the script reads"
)]
fn clients_folder(root: &Path) -> PathBuf {
    match std::env::var("KLAMM_CLIENTS_DIR") {
        Ok(folder) => PathBuf::from(folder),
        Err(_) => root.join("target/clients"),
    }
}

#[allow(clippy::disallowed_methods, reason = "a seed that nobody chose")]
fn drawn_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64 % 1_000_000_007)
}
