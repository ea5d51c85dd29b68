//! A network namespace for each node, joined by a bridge.
//!
//! Every neighbour is entered by hand, so a link is cut where it begins: its sender is given a
//! hardware address that nobody has, and what it sends is dropped by all, without an error to
//! anyone. That needs no packet filter. All of it is removed when this is dropped.

use std::path::Path;
use std::process::Command;

use super::{ADMIN_PORT, Addresses, CLIENT_PORT, CLIENTS, CONTROLLER_PORT};

/// A hardware address that nobody has.
const NOBODY: &str = "02:4b:00:00:de:ad";
/// The last part of the bridge's address, where the clients are.
const CLIENTS_HOST: usize = 254;

#[derive(Debug)]
pub struct Namespaces {
    /// Begins the names of all that is made.
    name: String,
    /// The first three parts of the addresses.
    subnet: String,
    nodes: usize,
}

impl Namespaces {
    /// Makes them, or says what the kernel does not allow.
    pub fn new(nodes: usize) -> Result<Self, String> {
        let process = std::process::id();
        let made = Self {
            name: format!("kj{process}"),
            subnet: format!("10.{}.{}", 100 + process / 250 % 100, process % 250),
            nodes,
        };
        made.make()?;
        Ok(made)
    }

    #[must_use]
    pub fn bridge(&self) -> &str {
        &self.name
    }

    fn make(&self) -> Result<(), String> {
        let bridge = &self.name;
        ip(&format!("link add {bridge} type bridge"))?;
        let own = self.hardware(CLIENTS);
        ip(&format!("link set {bridge} address {own}"))?;
        ip(&format!("addr add {}/24 dev {bridge}", self.host(CLIENTS)))?;
        ip(&format!("link set {bridge} up"))?;
        for node in 1..=self.nodes {
            let (space, outer) = (self.space(node), format!("{bridge}n{node}"));
            ip(&format!("netns add {space}"))?;
            ip(&format!(
                "link add {outer} type veth peer name eth0 netns {space}"
            ))?;
            ip(&format!("link set {outer} master {bridge} up"))?;
            let own = self.hardware(node);
            ip(&format!("-n {space} link set lo up"))?;
            ip(&format!("-n {space} link set eth0 address {own} up"))?;
            let host = self.host(node);
            ip(&format!("-n {space} addr add {host}/24 dev eth0"))?;
        }
        self.heal()
    }

    fn space(&self, node: usize) -> String {
        format!("{}-{node}", self.name)
    }

    fn host(&self, place: usize) -> String {
        let last = if place == CLIENTS {
            CLIENTS_HOST
        } else {
            place
        };
        format!("{}.{last}", self.subnet)
    }

    fn hardware(&self, place: usize) -> String {
        let last = if place == CLIENTS {
            CLIENTS_HOST
        } else {
            place
        };
        format!("02:4b:00:00:00:{last:02x}")
    }

    #[must_use]
    pub fn addresses(&self, node: usize) -> Addresses {
        let host = self.host(node);
        let both = [CLIENT_PORT, CONTROLLER_PORT].map(|port| format!("{host}:{port}"));
        Addresses {
            bound: both.clone(),
            told: both,
            admin: format!("{host}:{ADMIN_PORT}"),
        }
    }

    #[must_use]
    pub fn command(&self, node: usize, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.space(node)])
            .arg(program);
        command
    }

    fn neighbour(&self, from: usize, to: usize, hardware: &str) -> Result<(), String> {
        let host = self.host(to);
        let (within, device) = match from {
            CLIENTS => (String::new(), self.name.clone()),
            node => (format!("-n {} ", self.space(node)), "eth0".to_owned()),
        };
        ip(&format!(
            "{within}neigh replace {host} lladdr {hardware} dev {device} nud permanent"
        ))
    }

    pub fn cut(&self, from: usize, to: usize) -> Result<(), String> {
        self.neighbour(from, to, NOBODY)
    }

    /// By netem where the kernel has it, else by little bandwidth, which makes a queue.
    pub fn slow(&self, node: usize) -> Result<String, String> {
        let space = self.space(node);
        let delayed = "delay 120ms 60ms";
        let set = |what: &str| {
            let command = format!("-n {space} qdisc replace dev eth0 root {what}");
            run("tc", &command)
        };
        if set(&format!("netem {delayed}")).is_ok() {
            return Ok(delayed.to_owned());
        }
        let narrow = "rate 400kbit burst 4kb latency 800ms";
        set(&format!("tbf {narrow}"))?;
        Ok(narrow.to_owned())
    }

    pub fn reset(&self, one: usize, other: usize) -> Result<usize, String> {
        let (space, other) = if one == CLIENTS {
            (other, one)
        } else {
            (one, other)
        };
        let command = format!(
            "netns exec {} ss -H -t -n -K dst {}",
            self.space(space),
            self.host(other)
        );
        let text = output("ip", &command)?;
        Ok(text.lines().count())
    }

    pub fn heal(&self) -> Result<(), String> {
        for from in 0..=self.nodes {
            for to in (0..=self.nodes).filter(|to| *to != from) {
                self.neighbour(from, to, &self.hardware(to))?;
            }
            if from != CLIENTS {
                // There is none to remove unless the node was slow.
                let space = self.space(from);
                let _ = run("tc", &format!("-n {space} qdisc del dev eth0 root"));
            }
        }
        Ok(())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for node in 1..=self.nodes {
            // Whatever of it was made.
            let _ = ip(&format!("netns del {}", self.space(node)));
            let _ = ip(&format!("link del {}n{node}", self.name));
        }
        let _ = ip(&format!("link del {}", self.name));
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &str) -> Result<(), String> {
    output(program, arguments).map(drop)
}

/// What a command with these arguments, split at blanks, wrote.
fn output(program: &str, arguments: &str) -> Result<String, String> {
    let done = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&done.stderr);
    Err(format!("{program} {arguments}: {}", text.trim()))
}
