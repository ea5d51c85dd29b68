//! Options of every command that speaks to a cluster.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::failure::Failure;
use super::node::Override;
use crate::client::{ClientConfig, ConfigError};

/// Where the cluster is and how to speak with it and about it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Cluster options (of every command)")]
pub struct ClusterOptions {
    /// Brokers to learn the cluster from, separated by commas
    #[arg(
        long,
        global = true,
        alias = "bootstrap-servers",
        short = 'b',
        value_name = "HOST:PORT",
        env = "KLAMM_BOOTSTRAP_SERVERS",
        hide_env_values = true
    )]
    pub bootstrap_server: Option<String>,
    /// One setting of the client by Kafka's name, for instance client.id=me
    #[arg(short = 'X', global = true, value_name = "KEY=VALUE")]
    pub client_settings: Vec<Override>,
    /// Text for people, or JSON for scripts
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub format: Format,
    /// Longest time for one operation with its retries
    #[arg(long, global = true, value_name = "SECONDS", default_value = "30")]
    pub timeout: Seconds,
}

/// The form of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// A span in seconds, perhaps with a fraction, above zero and at most a day.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Seconds(pub Duration);

impl std::str::FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('s').unwrap_or(text).parse::<f64>();
        match number {
            Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => {
                Ok(Self(Duration::from_secs_f64(seconds)))
            }
            _ => Err("expected seconds from 0 to 86400, for instance 10 or 0.5".to_owned()),
        }
    }
}

impl ClusterOptions {
    /// The client's settings: defaults, then what the command needs, then the user's. Settings of
    /// a command that its user did give as options come in `fixed`, and win.
    pub fn client_config(
        &self,
        needed: &[(&str, &str)],
        fixed: &[(&str, &str)],
    ) -> Result<ClientConfig, Failure> {
        let timeout = self.timeout.0.as_millis().max(1).to_string();
        let request_timeout = self.timeout.0.as_millis().clamp(1, 30_000).to_string();
        let mut pairs = vec![
            ("default.api.timeout.ms", timeout.as_str()),
            ("request.timeout.ms", request_timeout.as_str()),
            ("max.block.ms", timeout.as_str()),
        ];
        if let Some(servers) = &self.bootstrap_server {
            pairs.push(("bootstrap.servers", servers));
        }
        pairs.extend_from_slice(needed);
        pairs.extend(
            self.client_settings
                .iter()
                .map(|o| (o.key.as_str(), o.value.as_str())),
        );
        pairs.extend_from_slice(fixed);
        ClientConfig::from_pairs(pairs).map_err(|error| self.explained(&error))
    }

    fn explained(&self, error: &ConfigError) -> Failure {
        let fix = match error {
            ConfigError::BadValue { name, .. } if name == "bootstrap.servers" => {
                "; name a broker, for instance --bootstrap-server localhost:9092"
            }
            _ => "",
        };
        Failure::Usage(format!("{error}{fix}"))
    }
}
