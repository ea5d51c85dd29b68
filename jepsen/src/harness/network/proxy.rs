//! All nodes on the loopback, each behind two proxies of this process, whose addresses are the only
//! ones that the others are told.
//!
//! Who dialled is asked of the kernel: the other end of an accepted connection is a socket that one
//! of the nodes' processes has open, or else a client's. What one place sends another goes through
//! here in pieces; a link that is cut holds them back until it is healed, and takes connections
//! without an answer.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::{Addresses, CLIENTS};

const PIECE_BYTES: usize = 16 << 10;
/// What a piece waits on a slow link.
const DELAY: Duration = Duration::from_millis(80);
/// How often a cut link looks whether it is healed.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<Addresses>,
    state: Arc<Mutex<State>>,
    // Ends the proxies when it is dropped.
    _runtime: Runtime,
}

#[derive(Debug, Default)]
struct State {
    /// By node.
    processes: BTreeMap<usize, u32>,
    cut: Vec<(usize, usize)>,
    slow: Vec<usize>,
    last_connection: u64,
    /// Its two places, and what ends it.
    connections: BTreeMap<u64, (usize, usize, Arc<Notify>)>,
}

impl Proxy {
    pub fn new(nodes: usize) -> Result<Self, String> {
        let made = || -> io::Result<Self> {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("proxy")
                .enable_all()
                .build()?;
            let state = Arc::new(Mutex::default());
            let mut addresses = Vec::new();
            for node in 1..=nodes {
                let both = [(); 2].map(|()| runtime.block_on(listen(node, &state)));
                let [client, controller] = both;
                let ((one, one_told), (two, two_told)) = (client?, controller?);
                addresses.push(Addresses {
                    bound: [one, two],
                    told: [one_told, two_told],
                    admin: runtime.block_on(free())?.to_string(),
                });
            }
            Ok(Self {
                addresses,
                state,
                _runtime: runtime,
            })
        };
        made().map_err(|error| format!("proxies: {error}"))
    }

    #[must_use]
    pub fn addresses(&self, node: usize) -> Addresses {
        self.addresses[node - 1].clone()
    }

    pub fn runs_as(&self, node: usize, process: u32) {
        lock(&self.state).processes.insert(node, process);
    }

    pub fn cut(&self, from: usize, to: usize) {
        lock(&self.state).cut.push((from, to));
    }

    pub fn slow(&self, node: usize) -> String {
        lock(&self.state).slow.push(node);
        format!("delay {DELAY:?} a piece")
    }

    pub fn reset(&self, one: usize, other: usize) -> usize {
        let state = lock(&self.state);
        let between = state
            .connections
            .values()
            .filter(|(a, b, _)| (*a, *b) == (one, other) || (*b, *a) == (one, other));
        between.map(|(_, _, end)| end.notify_waiters()).count()
    }

    pub fn heal(&self) {
        let mut state = lock(&self.state);
        state.cut.clear();
        state.slow.clear();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An address that nobody listens on now.
async fn free() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").await?.local_addr()
}

/// An address for a node to listen on, and that of the proxy before it.
async fn listen(node: usize, state: &Arc<Mutex<State>>) -> io::Result<(String, String)> {
    let free = free().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let told = listener.local_addr()?;
    let state = Arc::clone(state);
    tokio::spawn(async move {
        while let Ok((near, from)) = listener.accept().await {
            tokio::spawn(carry(node, near, from, told, free, Arc::clone(&state)));
        }
    });
    Ok((free.to_string(), told.to_string()))
}

async fn carry(
    node: usize,
    near: TcpStream,
    from: SocketAddr,
    proxy: SocketAddr,
    to: SocketAddr,
    state: Arc<Mutex<State>>,
) {
    let processes = lock(&state).processes.clone();
    let asked = move || dialer(from.port(), proxy.port(), &processes);
    let dialer = tokio::task::spawn_blocking(asked).await.unwrap_or(CLIENTS);
    let Ok(far) = TcpStream::connect(to).await else {
        // The node is down: who dialled is told at once, as a kernel would.
        let _ = near.set_zero_linger();
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let end = Arc::new(Notify::new());
    let number = {
        let mut state = lock(&state);
        state.last_connection += 1;
        let number = state.last_connection;
        let entry = (dialer, node, Arc::clone(&end));
        state.connections.insert(number, entry);
        number
    };
    let ended = {
        let (mut near_read, mut near_write) = near.into_split();
        let (mut far_read, mut far_write) = far.into_split();
        let there = pump(&mut near_read, &mut far_write, (dialer, node), &state);
        let back = pump(&mut far_read, &mut near_write, (node, dialer), &state);
        let reset = tokio::select! {
            biased;
            () = end.notified() => true,
            () = there => false,
            () = back => false,
        };
        (
            reset,
            near_read.reunite(near_write),
            far_read.reunite(far_write),
        )
    };
    lock(&state).connections.remove(&number);
    if let (true, Ok(near), Ok(far)) = ended {
        let _ = (near.set_zero_linger(), far.set_zero_linger());
    }
}

/// Hands on what comes, as the link allows, until an end of it is closed.
async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    link: (usize, usize),
    state: &Mutex<State>,
) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let Ok(len) = from.read(&mut piece).await else {
            return;
        };
        while lock(state).cut.contains(&link) {
            tokio::time::sleep(LOOK).await;
        }
        let is_slow = lock(state).slow.contains(&link.0);
        if is_slow {
            tokio::time::sleep(DELAY).await;
        }
        if len == 0 || to.write_all(&piece[..len]).await.is_err() {
            return;
        }
    }
}

/// Which node has the socket that is bound to `local` and connected to `remote`.
fn dialer(local: u16, remote: u16, processes: &BTreeMap<usize, u32>) -> usize {
    let Some(socket) = socket(local, remote) else {
        return CLIENTS;
    };
    let link = format!("socket:[{socket}]");
    let has_it = |process: u32| {
        let Ok(open) = std::fs::read_dir(format!("/proc/{process}/fd")) else {
            return false;
        };
        open.flatten().any(|file| {
            std::fs::read_link(file.path()).is_ok_and(|path| path.to_string_lossy() == link)
        })
    };
    let found = processes.iter().find(|(_, process)| has_it(**process));
    found.map_or(CLIENTS, |(node, _)| *node)
}

/// The inode of a connected IPv4 socket of the loopback (proc(5), net/tcp).
fn socket(local: u16, remote: u16) -> Option<String> {
    let all = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let ends = format!(" 0100007F:{local:04X} 0100007F:{remote:04X} ");
    let line = &all[all.find(&ends)?..];
    line.split_whitespace().nth(8).map(str::to_owned)
}
