//! A cluster for development: several nodes in one process, with settings that suit one machine.

use std::path::{Path, PathBuf};

use clap::Args;

use super::node::Override;
use crate::config::{BrokerConfig, ConfigErrors, Loaded};

/// How to start a cluster for development.
#[derive(Args, Clone, Debug)]
pub struct DevOptions {
    /// Nodes of the cluster
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// Where the nodes keep their data; a temporary directory, removed at the end, if not given
    #[arg(long, value_name = "DIRECTORY")]
    pub dir: Option<PathBuf>,
    /// Port of the first node for clients; every node takes the next two
    #[arg(long, default_value_t = 9092)]
    pub port: u16,
    /// One setting of every node
    #[arg(long = "override", value_name = "KEY=VALUE")]
    pub overrides: Vec<Override>,
}

impl DevOptions {
    /// The settings of every node, with their data under `dir`.
    pub fn configs(&self, dir: &Path) -> Result<Vec<Loaded>, ConfigErrors> {
        (1..=self.nodes)
            .map(|node| self.config(dir, node))
            .collect()
    }

    /// Ports of `node` for clients and for the other nodes.
    fn ports(&self, node: u16) -> (u16, u16) {
        let first = self.port.saturating_add(2 * (node - 1));
        (first, first.saturating_add(1))
    }

    fn config(&self, dir: &Path, node: u16) -> Result<Loaded, ConfigErrors> {
        let (clients, nodes) = self.ports(node);
        let log_dir = dir.join(format!("node-{node}"));
        // Only the first node has the usual port for health checks.
        let admin = match node {
            1 => "localhost:9644".to_owned(),
            _ => String::new(),
        };
        let mut settings = vec![
            ("node.id", node.to_string()),
            ("log.dirs", log_dir.display().to_string()),
            ("klamm.admin.listener", admin),
        ];
        if self.nodes == 1 {
            settings.push(("listeners", format!("PLAINTEXT://localhost:{clients}")));
        } else {
            let voter = |node| format!("{node}@localhost:{}", self.ports(node).1);
            let voters: Vec<String> = (1..=self.nodes).map(voter).collect();
            let listeners =
                format!("PLAINTEXT://localhost:{clients},CONTROLLER://localhost:{nodes}");
            let replicas = self.nodes.min(3).to_string();
            settings.extend([
                ("listeners", listeners),
                ("controller.listener.names", "CONTROLLER".to_owned()),
                ("controller.quorum.voters", voters.join(",")),
                ("default.replication.factor", replicas.clone()),
                ("offsets.topic.replication.factor", replicas),
            ]);
        }
        let own = settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        let given = self.overrides.iter();
        let given = given.map(|one| (one.key.clone(), one.value.clone()));
        BrokerConfig::load(None, Vec::new(), own.chain(given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(nodes: u16) -> DevOptions {
        DevOptions {
            nodes,
            dir: None,
            port: 9092,
            overrides: vec!["num.partitions=7".parse().unwrap()],
        }
    }

    #[test]
    fn three_nodes_are_one_cluster_on_ports_of_their_own() {
        let loaded = options(3).configs(Path::new("/d")).unwrap();
        let ports = |loaded: &Loaded| {
            let config = &loaded.config;
            (config.listeners[0].port, config.quorum.listeners[0].port)
        };
        let all: Vec<_> = loaded.iter().map(ports).collect();
        assert_eq!(all, [(9092, 9093), (9094, 9095), (9096, 9097)]);
        for one in &loaded {
            assert_eq!(one.config.quorum.voters.len(), 3);
            assert_eq!(one.config.topics.num_partitions, 7);
            assert_eq!(one.config.topics.replication_factor, 3);
            assert_eq!(one.warnings, []);
        }
        assert_ne!(loaded[0].config.log_dirs, loaded[1].config.log_dirs);
    }

    #[test]
    fn one_node_is_a_cluster_by_itself() {
        let loaded = options(1).configs(Path::new("/d")).unwrap();
        assert!(loaded[0].config.quorum.is_alone());
    }
}
