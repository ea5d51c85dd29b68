//! The network between nodes: the `Net` seam over a model of TCP with faults.
//!
//! Bytes arrive in order and unchanged, split and delayed as drawn, or the connection ends in an
//! error; what each end may know at a time is what real kernels would have told it. All is state
//! that is looked at when somebody reads, writes or changes a link: no task and no event of its
//! own, and a timer only where somebody waits.

mod connection;
mod control;
mod flow;
mod link;
mod stream;
mod waiter;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use klamm::env::{BoxFuture, Listener, Net, Stream, split_address};
use madsim::time::TimeHandle;
use tokio::sync::Notify;

use crate::clock::elapsed;
use crate::trace::Trace;
use crate::world::Life;
use connection::{Connection, End, Scene};
pub use control::NetworkControl;
use link::{Gate, Host, Links};
use stream::{SimListener, SimStream};
use waiter::Wakes;

/// First port given where port 0 was asked for.
const FIRST_FREE_PORT: u16 = 32_768;
const LOOPBACK: &str = "127.0.0.1";
/// Connections that wait to be accepted; more are left without an answer.
const ACCEPT_QUEUE: usize = 128;
/// How long who connects waits for an answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// When an unanswered request to connect is first sent again; twice as long each time.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);
/// The time of arrival of what waits for a link.
const HELD: Duration = Duration::MAX;

/// How often things happened.
#[derive(Default)]
struct Counts {
    connections: u64,
    refusals: u64,
    connect_timeouts: u64,
    overflows: u64,
    timeouts: u64,
    resets: u64,
    cuts: u64,
    cut_bytes: u64,
    stalls: u64,
}

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The kernel lives on and resets its connections.
    Killed,
    /// The kernel goes too: nobody is told, and nothing answers until the next start.
    PowerLost,
}

/// Connections that nobody has accepted yet.
#[derive(Default)]
struct Listening {
    queue: VecDeque<u64>,
    waker: Option<Waker>,
}

/// All hosts of a world.
pub(crate) struct Network {
    state: Mutex<State>,
    /// Told when links change.
    changed: Notify,
}

struct State {
    links: Links,
    /// Who listens, by host and port.
    listeners: BTreeMap<(usize, u16), Listening>,
    /// Ports given out so far by a host.
    ports: BTreeMap<usize, u16>,
    connections: BTreeMap<u64, Connection>,
    counts: Counts,
    wakes: Wakes,
    trace: Trace,
}

impl Network {
    pub(crate) fn new(root: [u8; 32], trace: Trace) -> Self {
        Self {
            state: Mutex::new(State {
                links: Links::new(root),
                listeners: BTreeMap::new(),
                ports: BTreeMap::new(),
                connections: BTreeMap::new(),
                counts: Counts::default(),
                wakes: Vec::new(),
                trace,
            }),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acts on the state now, and then wakes whom that concerns.
    fn with<T>(&self, act: impl FnOnce(&mut State, Duration) -> T) -> T {
        let now = elapsed();
        let (value, wakes) = {
            let mut state = self.state();
            let value = act(&mut state, now);
            (value, std::mem::take(&mut state.wakes))
        };
        for waker in wakes {
            waker.wake();
        }
        value
    }

    /// Changes what holds for links.
    fn change(&self, change: impl FnOnce(&mut State)) {
        self.with(|state, _| {
            change(state);
            state.refresh();
        });
        self.changed.notify_waiters();
    }

    /// Gives the host `name` an address.
    pub(crate) fn add_host(&self, name: &str) -> String {
        let hosts = &mut self.state().links.hosts;
        let number = hosts.len() + 1;
        let address = format!("10.0.{}.{}", number / 256, number % 256);
        hosts.push(Host {
            name: name.to_owned(),
            address: address.clone(),
            down: false,
        });
        address
    }

    /// The host at `address` has power.
    pub(crate) fn power_on(&self, address: &str) {
        self.change(|state| state.host(address).down = false);
    }

    /// The process on the host at `address` has ended: nobody listens there, and its connections
    /// end as `how` says.
    pub(crate) fn cut_off(&self, address: &str, how: Ending) {
        self.change(|state| {
            let host = state.number(address);
            state.listeners.retain(|(at, _), _| *at != host);
            state.each(|connection, scene| {
                for side in 0..2 {
                    if connection.ends[side].host == host {
                        match how {
                            Ending::Killed => connection.kill(side, scene),
                            Ending::PowerLost => connection.vanish(side, scene),
                        }
                    }
                }
            });
            state.links.hosts[host].down |= how == Ending::PowerLost;
        });
    }

    /// A live process lets go of its end of a connection.
    fn close(&self, connection: u64, side: usize) {
        // Outside a run nobody is left to notice.
        if TimeHandle::try_current().is_none() {
            return;
        }
        self.with(|state, now| {
            if let Some((found, mut scene)) = state.connection(connection, now) {
                found.close(side, &mut scene);
                if found.is_over() {
                    state.connections.remove(&connection);
                }
            }
        });
    }

    /// The next connection for who listens at `place`, with the addresses of its ends.
    fn accept(&self, place: (usize, u16), waker: &Waker) -> Poll<(u64, [String; 2])> {
        self.with(|state, _| {
            let Some(listening) = state.listeners.get_mut(&place) else {
                return Poll::Pending;
            };
            let Some(number) = listening.queue.pop_front() else {
                state.wakes.extend(listening.waker.replace(waker.clone()));
                return Poll::Pending;
            };
            let ends = state.connections.get(&number).map(|found| &found.ends);
            let ends = ends.expect("a queue holds its connections");
            Poll::Ready((number, [0, 1].map(|side| ends[side].address.clone())))
        })
    }

    /// Nobody listens at `place` any more; who was not accepted is reset.
    fn stop_listening(&self, place: (usize, u16)) {
        let listening = self.state().listeners.remove(&place);
        if listening.is_none() || TimeHandle::try_current().is_none() {
            return;
        }
        let queue = listening.map(|listening| listening.queue);
        self.with(|state, now| {
            for number in queue.into_iter().flatten() {
                if let Some((found, mut scene)) = state.connection(number, now) {
                    found.kill(1, &mut scene);
                    if found.is_over() {
                        state.connections.remove(&number);
                    }
                }
            }
        });
    }
}

impl State {
    fn number(&self, address: &str) -> usize {
        let mut hosts = self.links.hosts.iter();
        let found = hosts.position(|host| host.address == address);
        found.expect("every node has its host")
    }

    fn host(&mut self, address: &str) -> &mut Host {
        let number = self.number(address);
        &mut self.links.hosts[number]
    }

    fn free_port(&mut self, host: usize) -> u16 {
        loop {
            let port = self.ports.entry(host).or_insert(FIRST_FREE_PORT);
            *port = port.checked_add(1).unwrap_or(FIRST_FREE_PORT);
            let port = *port;
            if !self.listeners.contains_key(&(host, port)) {
                return port;
            }
        }
    }

    fn connection(&mut self, number: u64, now: Duration) -> Option<(&mut Connection, Scene<'_>)> {
        let connection = self.connections.get_mut(&number)?;
        let scene = Scene {
            now,
            links: &mut self.links,
            counts: &mut self.counts,
            wakes: &mut self.wakes,
            trace: &self.trace,
        };
        Some((connection, scene))
    }

    /// Does something with every connection, from the oldest on.
    fn each(&mut self, mut act: impl FnMut(&mut Connection, &mut Scene<'_>)) {
        let mut scene = Scene {
            now: elapsed(),
            links: &mut self.links,
            counts: &mut self.counts,
            wakes: &mut self.wakes,
            trace: &self.trace,
        };
        self.connections.retain(|_, connection| {
            act(connection, &mut scene);
            !connection.is_over()
        });
    }

    fn refresh(&mut self) {
        let changes = self.links.refresh();
        if !changes.is_empty() {
            self.each(|connection, scene| connection.gates_changed(&changes, scene));
        }
    }

    /// Whether a request to connect and its answer get through.
    fn way(&mut self, from: usize, to: usize) -> Gate {
        let links = [self.links.between(from, to), self.links.between(to, from)];
        let gates = links.map(|link| self.links[link].gate);
        let stands = |gate| gates.contains(&gate);
        let worst = [Gate::Cut, Gate::Stalled]
            .into_iter()
            .find(|gate| stands(*gate));
        worst.unwrap_or(Gate::Open)
    }

    /// How long a request to connect and its answer take.
    fn round_trip(&mut self, from: usize, to: usize) -> Duration {
        let [there, back] = [self.links.between(from, to), self.links.between(to, from)];
        self.links[there].latency() + self.links[back].latency()
    }

    /// Joins `from` to who listens at `place`; nothing when that does not answer.
    fn join(
        &mut self,
        from: usize,
        place: (usize, u16),
        shown: [&str; 2],
    ) -> io::Result<Option<(u64, [String; 2])>> {
        let refuses = from != place.0 && self.links.rules.refuses(&self.links.hosts[place.0].name);
        let port = self.free_port(from);
        let Some(listening) = self.listeners.get_mut(&place).filter(|_| !refuses) else {
            self.counts.refusals += 1;
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        if listening.queue.len() >= ACCEPT_QUEUE {
            self.counts.overflows += 1;
            return Ok(None);
        }
        let addresses = [
            format!("{}:{port}", shown[0]),
            format!("{}:{}", shown[1], place.1),
        ];
        let ends = [
            End::new(from, addresses[0].clone()),
            End::new(place.0, addresses[1].clone()),
        ];
        self.counts.connections += 1;
        let number = self.counts.connections;
        listening.queue.push_back(number);
        self.wakes.extend(listening.waker.take());
        let connection = Connection::new(ends, &mut self.links);
        self.connections.insert(number, connection);
        Ok(Some((number, addresses)))
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

    /// The address of the host at `host`, a name or an address.
    fn find(&self, host: &str) -> io::Result<String> {
        if Self::is_loopback(host) {
            return Ok(self.address.clone());
        }
        let state = self.network.state();
        let mut hosts = state.links.hosts.iter();
        let found = hosts.find(|known| known.name == host || known.address == host);
        found
            .map(|known| known.address.clone())
            .ok_or_else(|| io::Error::other(format!("`{host}` is no host of this world")))
    }

    /// Asks for a connection again and again until there is an answer, or until it takes too long.
    /// Nothing is left of it when it is dropped.
    async fn dial(&self, host: &str, port: u16) -> io::Result<SimStream> {
        let address = self.find(host)?;
        let shown = if Self::is_loopback(host) {
            [LOOPBACK, LOOPBACK]
        } else {
            [self.address.as_str(), address.as_str()]
        };
        let (from, to) = {
            let state = self.network.state();
            (state.number(&self.address), state.number(&address))
        };
        let deadline = elapsed() + CONNECT_LIMIT;
        let mut again = CONNECT_AGAIN;
        loop {
            self.life.check()?;
            let way = self.network.with(|state, _| state.way(from, to));
            if way == Gate::Open {
                let span = self.network.with(|state, _| state.round_trip(from, to));
                wait(span.min(deadline.saturating_sub(elapsed()))).await;
                self.life.check()?;
                // What was cut or stalled meanwhile has not come through.
                let joined = self.network.with(|state, now| {
                    if state.way(from, to) == Gate::Open && now < deadline {
                        state.join(from, (to, port), shown)
                    } else {
                        Ok(None)
                    }
                })?;
                if let Some((connection, [local, peer])) = joined {
                    return Ok(SimStream {
                        network: Arc::clone(&self.network),
                        life: Arc::clone(&self.life),
                        connection,
                        side: 0,
                        local,
                        peer,
                    });
                }
            }
            let left = deadline.saturating_sub(elapsed());
            if left.is_zero() {
                self.network
                    .with(|state, _| state.counts.connect_timeouts += 1);
                return Err(io::ErrorKind::TimedOut.into());
            }
            if way == Gate::Stalled {
                self.pass(from, to, left).await;
            } else {
                wait(again.min(left)).await;
                again *= 2;
            }
        }
    }

    /// Waits until neither way between two hosts is stalled, for `limit` at most.
    async fn pass(&self, from: usize, to: usize, limit: Duration) {
        let mut over = std::pin::pin!(madsim::time::sleep(limit));
        loop {
            let changed = self.network.changed.notified();
            if self.network.with(|state, _| state.way(from, to)) != Gate::Stalled {
                return;
            }
            tokio::select! {
                biased;
                () = &mut over => return,
                () = changed => {}
            }
        }
    }
}

async fn wait(span: Duration) {
    if !span.is_zero() {
        madsim::time::sleep(span).await;
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
            let host = state.number(&self.address);
            let port = match port {
                0 => state.free_port(host),
                port => port,
            };
            if state.listeners.contains_key(&(host, port)) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            state.listeners.insert((host, port), Listening::default());
            self.life.event(format_args!("listen {shown}:{port}"));
            Ok(Box::new(SimListener {
                network: Arc::clone(&self.network),
                life: Arc::clone(&self.life),
                place: (host, port),
                shown: format!("{shown}:{port}"),
            }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let (host, port) = split_address(address)?;
            let stream = self.dial(host, port).await;
            let how = match &stream {
                Ok(_) => "connect",
                Err(error) if error.kind() == io::ErrorKind::TimedOut => "connect timed out",
                Err(_) => "refused",
            };
            self.life.event(format_args!("{how} {address}"));
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
