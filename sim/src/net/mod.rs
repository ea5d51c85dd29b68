//! The network between nodes: the `Net` seam over pipes with delay.
//!
//! For now it is a network without faults, though not a kind one: bytes are split at drawn places
//! and take a drawn time, and the connections of a killed process are reset.

mod pipe;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use klamm::env::{BoxFuture, Listener, Net, Rng, Stream, split_address};
use tokio::sync::mpsc;

use crate::world::Life;
use pipe::{Pipe, SimStream};

/// First port given where port 0 was asked for.
const FIRST_FREE_PORT: u16 = 32_768;
const LOOPBACK: &str = "127.0.0.1";

/// All hosts of a world.
pub(crate) struct Network {
    state: Mutex<State>,
    rng: Arc<Mutex<Rng>>,
}

struct State {
    /// Address of each host by name.
    hosts: BTreeMap<String, String>,
    /// Who listens, by address and port of the host.
    listeners: BTreeMap<(String, u16), mpsc::UnboundedSender<SimStream>>,
    /// Ports given out so far by a host.
    ports: BTreeMap<String, u16>,
    /// Pipes and the hosts at their ends.
    pipes: Vec<(String, String, Weak<Mutex<Pipe>>)>,
}

impl Network {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            state: Mutex::new(State {
                hosts: BTreeMap::new(),
                listeners: BTreeMap::new(),
                ports: BTreeMap::new(),
                pipes: Vec::new(),
            }),
            rng: Arc::new(Mutex::new(rng)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, bound: u64) -> u64 {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        rng.below(bound)
    }

    /// Gives the host `name` an address.
    pub(crate) fn add_host(&self, name: &str) -> String {
        let mut state = self.state();
        let number = state.hosts.len() + 1;
        let address = format!("10.0.{}.{}", number / 256, number % 256);
        state.hosts.insert(name.to_owned(), address.clone());
        address
    }

    /// The process on the host at `address` has ended: nobody listens there, and the other ends
    /// see their connections reset.
    pub(crate) fn cut_off(&self, address: &str) {
        let mut state = self.state();
        state.listeners.retain(|(host, _), _| host != address);
        state.pipes.retain(|(one, other, pipe)| {
            let Some(pipe) = pipe.upgrade() else {
                return false;
            };
            let cut = one == address || other == address;
            if cut {
                pipe::lock(&pipe).reset();
            }
            !cut
        });
    }
}

impl State {
    fn free_port(&mut self, host: &str) -> u16 {
        let port = self.ports.entry(host.to_owned()).or_insert(FIRST_FREE_PORT);
        *port = port.checked_add(1).unwrap_or(FIRST_FREE_PORT);
        *port
    }

    /// A pipe from a process at `from` to one at `to`.
    fn pipe(&mut self, from: &str, to: &str, rng: &Arc<Mutex<Rng>>) -> Arc<Mutex<Pipe>> {
        let near = from == to;
        let pipe = Arc::new(Mutex::new(Pipe::new(near, Arc::clone(rng))));
        self.pipes.retain(|(_, _, pipe)| pipe.strong_count() > 0);
        self.pipes
            .push((from.to_owned(), to.to_owned(), Arc::downgrade(&pipe)));
        pipe
    }
}

/// One process's view of the network.
#[derive(Clone)]
pub(crate) struct SimNet {
    pub(crate) network: Arc<Network>,
    /// Address of this host.
    pub(crate) address: String,
    pub(crate) name: String,
    pub(crate) life: Arc<Life>,
}

impl SimNet {
    fn is_loopback(host: &str) -> bool {
        host == LOOPBACK || host == "localhost"
    }

    /// The host at `host`, a name or an address.
    fn find(&self, host: &str) -> io::Result<String> {
        if Self::is_loopback(host) {
            return Ok(self.address.clone());
        }
        let state = self.network.state();
        let found = state
            .hosts
            .iter()
            .find(|(name, address)| *name == host || *address == host);
        found
            .map(|(_, address)| address.clone())
            .ok_or_else(|| io::Error::other(format!("`{host}` is no host of this world")))
    }

    fn event(&self, what: fmt::Arguments<'_>) {
        self.life.event(what);
    }

    /// Joins this process to who listens on `port` of the host at `address`, if anybody does.
    fn join(&self, host: &str, address: &str, port: u16) -> io::Result<SimStream> {
        self.life.check()?;
        let mut state = self.network.state();
        let key = (address.to_owned(), port);
        let listener = state.listeners.get(&key).cloned();
        let listener = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
        let from_port = state.free_port(&self.address);
        let (near, far) = if Self::is_loopback(host) {
            (LOOPBACK, LOOPBACK)
        } else {
            (self.address.as_str(), address)
        };
        let (near, far) = (format!("{near}:{from_port}"), format!("{far}:{port}"));
        let rng = &self.network.rng;
        let there = state.pipe(&self.address, address, rng);
        let back = state.pipe(address, &self.address, rng);
        drop(state);
        let accepted = SimStream::new(
            far.clone(),
            near.clone(),
            Arc::clone(&there),
            Arc::clone(&back),
        );
        listener
            .send(accepted)
            .map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(SimStream::new(near, far, back, there))
    }
}

impl Net for SimNet {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            self.life.check()?;
            let (host, port) = split_address(address)?;
            let shown = match host {
                "" | "::" => "0.0.0.0",
                "localhost" => LOOPBACK,
                host if host == self.name => &self.address,
                host => host,
            };
            if ![LOOPBACK, "0.0.0.0", &self.address].contains(&shown) {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            let mut state = self.network.state();
            let port = match port {
                0 => state.free_port(&self.address),
                port => port,
            };
            let key = (self.address.clone(), port);
            if state.listeners.contains_key(&key) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let (sender, arrivals) = mpsc::unbounded_channel();
            state.listeners.insert(key, sender);
            self.event(format_args!("listen {shown}:{port}"));
            Ok(Box::new(SimListener {
                net: self.clone(),
                shown: format!("{shown}:{port}"),
                port,
                arrivals,
            }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let (host, port) = split_address(address)?;
            let found = self.find(host)?;
            let delay = Duration::from_millis(1 + self.network.draw(3));
            madsim::time::sleep(delay).await;
            let stream = self.join(host, &found, port);
            let how = if stream.is_ok() { "connect" } else { "refused" };
            self.event(format_args!("{how} {address}"));
            Ok(Box::new(stream?) as Box<dyn Stream>)
        })
    }

    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>> {
        let found = if Self::is_loopback(host) {
            vec![LOOPBACK.to_owned()]
        } else {
            self.find(host).into_iter().collect()
        };
        Box::pin(std::future::ready(Ok(found)))
    }
}

struct SimListener {
    net: SimNet,
    shown: String,
    port: u16,
    arrivals: mpsc::UnboundedReceiver<SimStream>,
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async {
            let stream = self.arrivals.recv().await;
            let stream = stream.ok_or_else(|| io::Error::other("the process has ended"))?;
            self.net
                .event(format_args!("accept {}", stream.peer_address()));
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn local_address(&self) -> String {
        self.shown.clone()
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        // After the end of the process the port may be another's.
        if self.net.life.is_alive() {
            let key = (self.net.address.clone(), self.port);
            self.net.network.state().listeners.remove(&key);
        }
    }
}
