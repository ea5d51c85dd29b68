//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use crate::env::Env;

/// A Kafka-compatible event-streaming platform in one binary.
///
/// Without a command, starts a node: with no settings at all it serves the Kafka protocol on port
/// 9092 and keeps its data in ./klamm-data.
#[derive(Parser, Debug)]
#[command(name = "klamm", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    pub node: NodeOptions,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// How to start a node.
#[derive(Args, Debug)]
pub struct NodeOptions {
    /// Kafka's server.properties, unmodified
    #[arg(value_name = "server.properties")]
    pub properties: Option<PathBuf>,
    /// One setting; stronger than KAFKA_* variables, which are stronger than the file
    #[arg(long = "override", value_name = "KEY=VALUE")]
    pub overrides: Vec<Override>,
}

/// One `key=value`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Override {
    pub key: String,
    pub value: String,
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| format!("'{text}' is not KEY=VALUE, for instance node.id=1"))?;
        Ok(Self {
            key: key.trim().to_owned(),
            value: value.to_owned(),
        })
    }
}

/// What to do with a cluster.
#[derive(Subcommand, Debug)]
pub enum Command {}

/// Carries out a command and answers the exit code.
pub async fn run(_: Env, command: Command, _: impl Future<Output = ()>) -> u8 {
    match command {}
}
