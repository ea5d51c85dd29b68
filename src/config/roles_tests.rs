//! Roles, voters, listeners between nodes.

use super::super::{Advertised, BrokerConfig, Loaded, Voter};
use crate::types::BrokerId;

const THREE: &str = "process.roles=broker,controller\nnode.id=2\n\
                     controller.quorum.voters=1@a:9093,2@b:9093,3@c:9093\n\
                     listeners=PLAINTEXT://:9092,CONTROLLER://:9093\n\
                     controller.listener.names=CONTROLLER\n";

fn load(text: &str) -> Result<BrokerConfig, String> {
    let loaded = BrokerConfig::load(Some(text), Vec::new(), Vec::new());
    loaded
        .map(|Loaded { config, .. }| config)
        .map_err(|errors| errors.to_string())
}

#[test]
fn a_node_among_three_voters_is_not_alone_and_knows_where_it_is_reached() {
    let config = load(THREE).unwrap();
    assert!(!config.quorum.is_alone());
    let own = Voter {
        id: BrokerId(2),
        host: "b".to_owned(),
        port: 9093,
    };
    assert_eq!(config.quorum.voters[1], own);
    assert_eq!(config.quorum.listeners.len(), 1);
    assert_eq!(config.listeners.len(), 1);
    // Clients of the other nodes are told this name.
    let told = Advertised::Fixed {
        host: "b".to_owned(),
        port: 9092,
    };
    assert_eq!(config.listeners[0].advertised, told);
    assert_eq!(config.quorum.inter_broker_listener, "PLAINTEXT");
}

#[test]
fn a_node_that_names_no_other_is_alone() {
    for text in [
        "",
        "node.id=4\ncontroller.quorum.voters=4@host:9093",
        "controller.quorum.bootstrap.servers=localhost:9093",
        "controller.quorum.bootstrap.servers=me:9093\nlisteners=PLAINTEXT://:9092,C://me:9093\n\
         controller.listener.names=C",
    ] {
        let config = load(text).unwrap();
        assert!(config.quorum.is_alone(), "{text}");
        assert!(config.quorum.listeners.is_empty(), "{text}");
    }
}

#[test]
fn roles_may_be_apart() {
    let controller = "process.roles=controller\nnode.id=1\n\
                      controller.quorum.voters=1@a:9093\nlisteners=CONTROLLER://:9093\n\
                      controller.listener.names=CONTROLLER\n";
    let config = load(controller).unwrap();
    assert!(!config.quorum.is_alone() && !config.quorum.is_broker);
    assert!(config.listeners.is_empty());
    let broker = "process.roles=broker\nnode.id=7\n\
                  controller.quorum.bootstrap.servers=a:9093\n\
                  controller.listener.names=CONTROLLER\nlisteners=PLAINTEXT://host:9092\n";
    let config = load(broker).unwrap();
    assert!(!config.quorum.is_alone() && !config.quorum.is_controller);
    assert_eq!(config.quorum.bootstrap_servers, ["a:9093"]);
}

#[test]
fn a_cluster_that_cannot_be_is_refused_with_setting_and_fix() {
    let cases = [
        (
            "controller.quorum.voters=1@a:9093,2@b:9093,3@c:9093",
            "controller.quorum.voters=1@a:9093,1@b:9093,2@c:9093",
            "controller.quorum.voters=1@a:9093,1@b:9093,2@c:9093 (line 3 of the file): \
             voter 1 is given twice; give each node an id of its own",
        ),
        ("2@b:9093", "2@a:9093", "a:9093 is given to two voters"),
        ("2@b:9093", "2@b", "'b' has no port"),
        ("2@b:9093", "x@b:9093", "'x' is not a node id"),
        ("2@b:9093", "2@0.0.0.0:9093", "names no host"),
        ("2@b:9093", "2@b:0", "port 0"),
        (
            "2@b:9093",
            "4@b:9093",
            "this node (2) is a controller and not among the voters",
        ),
        ("2@b:9093", "2@b:9999", "CONTROLLER on port 9093"),
        (
            "controller.listener.names=CONTROLLER",
            "",
            "needs a listener for the other nodes",
        ),
        (
            "broker,controller",
            "broker",
            "this node (2) is among the voters and not a controller",
        ),
        (
            "broker,controller",
            "controller",
            "listener PLAINTEXT is for clients",
        ),
        (
            "controller.quorum.voters=1@a:9093,2@b:9093,3@c:9093",
            "controller.quorum.bootstrap.servers=a:9093,c:9093",
            "set advertised.listeners=PLAINTEXT://name-of-this-host:9092",
        ),
        (
            "node.id=2",
            "node.id=2\ninter.broker.listener.name=INSIDE",
            "no listener named INSIDE",
        ),
    ];
    for (part, other, wanted) in cases {
        let text = THREE.replace(part, other);
        let error = load(&text).unwrap_err();
        assert!(error.contains(wanted), "{wanted}\nis not in:\n{error}");
    }
    for role in ["broker", "controller"] {
        let error = load(&format!("process.roles={role}")).unwrap_err();
        assert!(error.contains("needs others"), "{error}");
    }
    let error = load("broker.heartbeat.interval.ms=3000").unwrap_err();
    assert!(error.contains("broker.session.timeout.ms"), "{error}");
}

#[test]
fn the_example_of_three_nodes_is_one_cluster() {
    let files = [
        include_str!("../../docs/examples/three-nodes/node-1.properties"),
        include_str!("../../docs/examples/three-nodes/node-2.properties"),
        include_str!("../../docs/examples/three-nodes/node-3.properties"),
    ];
    let configs = files.map(|file| load(file).unwrap());
    for (number, config) in (1..).zip(&configs) {
        assert_eq!(config.node_id, BrokerId(number));
        assert_eq!(config.quorum.voters, configs[0].quorum.voters);
        assert!(!config.quorum.is_alone());
    }
    assert_eq!(configs[0].quorum.voters.len(), 3);
}
