//! How to start a node.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

/// How to start a node.
#[derive(Args, Clone, Debug)]
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
