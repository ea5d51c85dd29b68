//! Listeners: where clients are accepted and what address they are told.

use std::collections::{BTreeMap, BTreeSet};

use super::broker::Typed;
use super::defaults::Source;
use super::roles::Part;

/// One address to accept clients on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    pub name: String,
    /// Empty: every interface. IPv6 addresses without brackets.
    pub host: String,
    /// 0: any free port.
    pub port: u16,
    pub advertised: Advertised,
}

/// The address clients are told to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Advertised {
    /// The address the client itself dialled, with this port (0: the port that was bound).
    Echo {
        port: u16,
    },
    Fixed {
        host: String,
        port: u16,
    },
}

/// `NAME://host:port`, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Endpoint {
    name: String,
    host: String,
    port: u16,
}

const WANTED: &str = "write NAME://host:port, for instance PLAINTEXT://localhost:9092";

/// Host and port of `text`, which is `host:port` or `[ipv6]:port`.
pub(super) fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("'{text}' has no port"))?;
    let port = port
        .parse()
        .map_err(|_| format!("'{port}' is not a port (0 to 65535)"))?;
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .ok_or_else(|| format!("'{host}' has no closing bracket"))?,
        None if host.contains(':') => {
            return Err(format!("'{host}' needs brackets, as in [{host}]:{port}"));
        }
        None => host,
    };
    if bare.contains(|c: char| c.is_whitespace() || matches!(c, '/' | ',' | '@')) {
        return Err(format!("'{bare}' is not a host name"));
    }
    Ok((bare.to_owned(), port))
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    let (name, address) = text
        .split_once("://")
        .ok_or_else(|| format!("'{text}' is not of the form NAME://host:port"))?;
    if name.is_empty() {
        return Err(format!("'{text}' has no listener name before ://"));
    }
    let (host, port) = host_and_port(address)?;
    Ok(Endpoint {
        name: name.to_ascii_uppercase(),
        host,
        port,
    })
}

pub(super) fn is_wildcard(host: &str) -> bool {
    matches!(host, "" | "0.0.0.0" | "::" | "0:0:0:0:0:0:0:0")
}

/// The endpoints of setting `setting`; what cannot be read is noted in `typed`.
fn endpoints(typed: &mut Typed<'_>, setting: &'static str) -> Vec<Endpoint> {
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    for text in typed.list(setting) {
        match endpoint(&text) {
            Err(reason) => typed.refuse(setting, &reason, WANTED),
            Ok(one) if !names.insert(one.name.clone()) => {
                let reason = format!("listener {} is given twice", one.name);
                typed.refuse(setting, &reason, "give each listener a name of its own");
            }
            Ok(one) => found.push(one),
        }
    }
    found
}

/// The listeners a configuration asks for.
pub(super) struct Listeners {
    pub(super) clients: Vec<Listener>,
    pub(super) controllers: Vec<Listener>,
    /// Whether this node is a cluster by itself: then `controllers` are not opened.
    pub(super) is_alone: bool,
}

/// The listeners a configuration asks for. What cannot be done is noted in `typed`.
pub(super) fn listeners(typed: &mut Typed<'_>, part: &Part) -> Listeners {
    let controller_names: BTreeSet<String> = typed
        .list("controller.listener.names")
        .into_iter()
        .map(|name| name.to_ascii_uppercase())
        .collect();
    let protocols = protocol_map(typed, &controller_names);
    let advertised = advertised(typed);
    let mut bound = endpoints(typed, "listeners");
    let from_environment = matches!(
        typed.source("advertised.listeners"),
        Some(Source::Environment { .. })
    );
    if typed.source("listeners").is_none() && from_environment && !advertised.is_empty() {
        bound = advertised
            .values()
            .map(|one| Endpoint {
                host: String::new(),
                ..one.clone()
            })
            .collect();
    }
    let node = typed.node_id();
    let (controllers, clients): (Vec<_>, Vec<_>) = bound
        .into_iter()
        .partition(|one| controller_names.contains(&one.name));
    let told = |one| listener(one, &advertised);
    let mut found = Listeners {
        clients: clients.into_iter().map(told).collect(),
        controllers: controllers.into_iter().map(told).collect(),
        is_alone: false,
    };
    let hosts = hosts(found.clients.iter().chain(&found.controllers));
    found.is_alone = part.is_alone(node, &found.controllers, &hosts);
    for one in found.clients.iter().chain(&found.controllers) {
        check_protocol(typed, &one.name, &protocols);
    }
    match found.is_alone {
        true => {
            for one in &found.controllers {
                typed.note(format!(
                    "listener {} is not opened: this node is its whole controller quorum",
                    one.name
                ));
            }
        }
        false => tell_others(typed, part.own_host(node), &mut found),
    }
    check_whole(typed, part, &found, &advertised);
    found
}

/// Names of this node that its listeners give.
fn hosts<'a>(listeners: impl Iterator<Item = &'a Listener>) -> Vec<String> {
    let mut hosts = Vec::new();
    for one in listeners {
        hosts.push(one.host.clone());
        if let Advertised::Fixed { host, .. } = &one.advertised {
            hosts.push(host.clone());
        }
    }
    hosts
}

/// In a cluster a node must say where it is reached, because others pass it on. Where nothing is
/// advertised it is `own_host`, the name that the voters give this node.
fn tell_others(typed: &mut Typed<'_>, own_host: Option<&str>, found: &mut Listeners) {
    for one in &mut found.clients {
        let Advertised::Echo { port } = one.advertised else {
            continue;
        };
        match own_host {
            Some(host) => {
                let host = host.to_owned();
                one.advertised = Advertised::Fixed { host, port };
            }
            None => {
                let reason = format!(
                    "listener {} is on every interface and nothing says by which name the other \
                     nodes reach this one",
                    one.name
                );
                let fix = format!(
                    "set advertised.listeners={}://name-of-this-host:{port}",
                    one.name
                );
                typed.refuse("advertised.listeners", &reason, &fix);
            }
        }
    }
}

fn listener(one: Endpoint, advertised: &BTreeMap<String, Endpoint>) -> Listener {
    let wildcard = is_wildcard(&one.host);
    let told = match advertised.get(&one.name) {
        Some(given) => Advertised::Fixed {
            host: given.host.clone(),
            port: given.port,
        },
        None if wildcard => Advertised::Echo { port: one.port },
        None => Advertised::Fixed {
            host: one.host.clone(),
            port: one.port,
        },
    };
    Listener {
        name: one.name,
        host: if wildcard && one.host.is_empty() {
            String::new()
        } else {
            one.host
        },
        port: one.port,
        advertised: told,
    }
}

fn advertised(typed: &mut Typed<'_>) -> BTreeMap<String, Endpoint> {
    let mut advertised = BTreeMap::new();
    for one in endpoints(typed, "advertised.listeners") {
        if is_wildcard(&one.host) {
            let reason = format!("no client can connect to the address '{}'", one.host);
            let fix = "advertise a host name or address that clients can reach, or leave \
                       advertised.listeners out to advertise whatever address a client dialled";
            typed.refuse("advertised.listeners", &reason, fix);
        } else if one.port == 0 {
            let fix = "advertise the port clients are to connect to";
            typed.refuse(
                "advertised.listeners",
                "no client can connect to port 0",
                fix,
            );
        } else {
            advertised.insert(one.name.clone(), one);
        }
    }
    advertised
}

/// Security protocols by listener name. Controllers' listeners are plain unless the map says
/// otherwise.
fn protocol_map(typed: &mut Typed<'_>, controllers: &BTreeSet<String>) -> BTreeMap<String, String> {
    const NAME: &str = "listener.security.protocol.map";
    let plain = |name: &String| (name.clone(), "PLAINTEXT".to_owned());
    let mut protocols: BTreeMap<_, _> = controllers.iter().map(plain).collect();
    for pair in typed.list(NAME) {
        match pair.split_once(':') {
            Some((name, protocol)) => {
                protocols.insert(name.trim().to_ascii_uppercase(), protocol.trim().to_owned());
            }
            None => typed.refuse(
                NAME,
                &format!("'{pair}' has no colon"),
                "write NAME:PROTOCOL, for instance INTERNAL:PLAINTEXT",
            ),
        }
    }
    protocols
}

fn check_protocol(typed: &mut Typed<'_>, name: &str, protocols: &BTreeMap<String, String>) {
    match protocols
        .get(name)
        .map(|protocol| protocol.to_ascii_uppercase())
    {
        Some(protocol) if protocol == "PLAINTEXT" => {}
        Some(protocol) => typed.refuse(
            "listeners",
            &format!("listener {name} asks for {protocol}, which this version does not speak"),
            "use a PLAINTEXT listener, on a network you trust or behind a TLS proxy",
        ),
        None => typed.refuse(
            "listeners",
            &format!("listener {name} has no security protocol"),
            &format!("add {name}:PLAINTEXT to listener.security.protocol.map"),
        ),
    }
}

fn check_whole(
    typed: &mut Typed<'_>,
    part: &Part,
    found: &Listeners,
    advertised: &BTreeMap<String, Endpoint>,
) {
    if found.clients.is_empty() && part.is_broker {
        typed.refuse(
            "listeners",
            "no listener for clients is left",
            "give at least one, for instance PLAINTEXT://:9092",
        );
    }
    if !part.is_broker && !found.clients.is_empty() {
        let reason = format!(
            "listener {} is for clients, and this node is only a controller",
            found.clients[0].name
        );
        let fix = "leave only listeners that controller.listener.names names, or add broker to \
                   process.roles";
        typed.refuse("listeners", &reason, fix);
    }
    let opened = match found.is_alone {
        true => &[][..],
        false => &found.controllers,
    };
    let mut ports = BTreeSet::new();
    for one in found
        .clients
        .iter()
        .chain(opened)
        .filter(|one| one.port != 0)
    {
        if !ports.insert((one.host.as_str(), one.port)) {
            let reason = format!("port {} is used by two listeners", one.port);
            typed.refuse("listeners", &reason, "give each listener a port of its own");
        }
    }
    for name in advertised.keys() {
        let mut bound = found.clients.iter().chain(&found.controllers);
        if !bound.any(|one| one.name == *name) {
            typed.refuse(
                "advertised.listeners",
                &format!("there is no listener named {name}"),
                &format!("add {name}://:port to listeners or advertise one of its names"),
            );
        }
    }
}
