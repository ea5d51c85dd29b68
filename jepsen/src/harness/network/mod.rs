//! The network between nodes, and between clients and nodes, with its faults.
//!
//! A *place* is a node, by its id from 1, or [`CLIENTS`]. A link is directed. Two ways to have it:
//! [`namespaces`], where each node has a network stack and an address of its own, and [`proxy`],
//! where all share the loopback and every connection goes through this process.

mod namespaces;
mod proxy;

use std::path::Path;
use std::process::Command;

pub use namespaces::Namespaces;
pub use proxy::Proxy;

/// Where the clients are.
pub const CLIENTS: usize = 0;

/// The port of a node for clients, in a namespace.
pub const CLIENT_PORT: u16 = 9092;
/// The port of a node for controllers, in a namespace.
pub const CONTROLLER_PORT: u16 = 9093;
/// The port of a node's health, in a namespace.
pub const ADMIN_PORT: u16 = 9644;

/// Addresses of a node, as it is told to use them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// What it listens on for clients and brokers, and for controllers.
    pub bound: [String; 2],
    /// What others are told, in the same order.
    pub told: [String; 2],
    /// Where it tells of its health.
    pub admin: String,
}

/// Which network it is.
#[derive(Debug)]
pub enum Network {
    Namespaces(Namespaces),
    Proxy(Proxy),
}

impl Network {
    /// Namespaces where the kernel allows, else proxies; the second value says why.
    pub fn new(nodes: usize, wish: Option<&str>) -> Result<(Self, String), String> {
        if wish != Some("proxy") {
            match Namespaces::new(nodes) {
                Ok(made) => {
                    let text = format!("network namespaces, bridge {}", made.bridge());
                    return Ok((Self::Namespaces(made), text));
                }
                Err(why) if wish == Some("namespaces") => return Err(why),
                Err(why) => {
                    let made = Proxy::new(nodes)?;
                    let text = format!("proxies on loopback (no namespaces: {why})");
                    return Ok((Self::Proxy(made), text));
                }
            }
        }
        let made = Proxy::new(nodes)?;
        Ok((Self::Proxy(made), "proxies on loopback".to_owned()))
    }

    #[must_use]
    pub fn addresses(&self, node: usize) -> Addresses {
        match self {
            Self::Namespaces(made) => made.addresses(node),
            Self::Proxy(made) => made.addresses(node),
        }
    }

    /// The command that runs `program` where `node` is.
    #[must_use]
    pub fn command(&self, node: usize, program: &Path) -> Command {
        match self {
            Self::Namespaces(made) => made.command(node, program),
            Self::Proxy(_) => Command::new(program),
        }
    }

    /// `node` is this process now: a proxy has to know who dials.
    pub fn runs_as(&self, node: usize, process: u32) {
        if let Self::Proxy(made) = self {
            made.runs_as(node, process);
        }
    }

    /// Nothing goes from one place to another any more, in silence.
    pub fn cut(&self, from: usize, to: usize) -> Result<(), String> {
        match self {
            Self::Namespaces(made) => made.cut(from, to),
            Self::Proxy(made) => {
                made.cut(from, to);
                Ok(())
            }
        }
    }

    /// What `node` sends is slow from now on. Says how.
    pub fn slow(&self, node: usize) -> Result<String, String> {
        match self {
            Self::Namespaces(made) => made.slow(node),
            Self::Proxy(made) => Ok(made.slow(node)),
        }
    }

    /// Ends the connections between two places with a reset, wherever in a frame they are. Says
    /// how many.
    pub fn reset(&self, one: usize, other: usize) -> Result<usize, String> {
        match self {
            Self::Namespaces(made) => made.reset(one, other),
            Self::Proxy(made) => Ok(made.reset(one, other)),
        }
    }

    /// All links are as they were.
    pub fn heal(&self) -> Result<(), String> {
        match self {
            Self::Namespaces(made) => made.heal(),
            Self::Proxy(made) => {
                made.heal();
                Ok(())
            }
        }
    }
}
