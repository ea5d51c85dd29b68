//! The world of one run: nodes, what connects them, and what can befall them.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use klamm::env::{Clock as _, Env, Rng};
use klamm::types::Timestamp;
use madsim::runtime::{Handle, NodeHandle, Runtime};

use crate::clock::SimClock;
use crate::disk::{Device, DiskControl, SimDisk};
use crate::entropy::SimEntropy;
use crate::net::{Ending, Network, NetworkControl, SimNet};
use crate::task::SimTasks;
use crate::trace::Trace;

/// What a run gave.
#[derive(Debug)]
pub struct Run<T> {
    pub value: T,
    /// Everything that happened: the same for the same seed and code.
    pub trace: Vec<String>,
    fingerprint: u64,
}

impl<T> Run<T> {
    /// A number that stands for the whole trace, to compare runs of different processes.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

/// Runs `scenario` in a new world made from `seed`, on a thread of its own (what the standard
/// library keeps per thread would otherwise carry over from an earlier run).
///
/// # Panics
/// When the scenario or a task in it panics, or when all of them wait for ever.
pub fn simulate<T, S>(seed: u64, scenario: impl FnOnce(SimWorld) -> S + Send + 'static) -> Run<T>
where
    T: Send + 'static,
    S: Future<Output = T>,
{
    simulate_into(seed, Trace::whole(), scenario)
}

/// As [`simulate`], with a trace that may keep less.
pub(crate) fn simulate_into<T, S>(
    seed: u64,
    trace: Trace,
    scenario: impl FnOnce(SimWorld) -> S + Send + 'static,
) -> Run<T>
where
    T: Send + 'static,
    S: Future<Output = T>,
{
    let run = std::thread::Builder::new()
        .name(format!("seed-{seed}"))
        .spawn(move || {
            let runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
            let value = runtime.block_on(async {
                let world = SimWorld::new(seed, trace.clone());
                scenario(world).await
            });
            Run {
                value,
                trace: trace.lines(),
                fingerprint: trace.hash(),
            }
        });
    match run.expect("the machine has a thread to spare").join() {
        Ok(run) => run,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Nodes that share a network.
#[derive(Clone)]
pub struct SimWorld {
    root: [u8; 32],
    network: Arc<Network>,
    /// Disks answer from here, so that an operation outlives the task that called it.
    devices: NodeHandle,
    trace: Trace,
}

impl SimWorld {
    fn new(seed: u64, trace: Trace) -> Self {
        let mut root = [0; 32];
        root[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            root,
            network: Arc::new(Network::new(root, trace.clone())),
            devices: Handle::current().create_node().name("devices").build(),
            trace,
        }
    }

    /// The faults of the network between the nodes.
    #[must_use]
    pub fn network(&self) -> NetworkControl {
        NetworkControl {
            network: Arc::clone(&self.network),
        }
    }

    /// Where what happens in this world is written.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.trace.clone()
    }

    /// Makes a node that is not running yet, with an empty disk. Other nodes reach it by `name`.
    #[must_use]
    pub fn node(&self, name: &str) -> SimNode {
        let mut rng = Rng::derived(self.root, name, 0);
        let node = Handle::current().create_node().name(name).build();
        crate::probe::name_node(node.id(), name);
        let monotonic = Duration::from_millis(rng.below(3_600_000));
        let wall = 1_767_225_600_000 + i64::try_from(rng.below(2000)).unwrap_or(0);
        SimNode {
            world: self.clone(),
            name: name.to_owned(),
            address: self.network.add_host(name),
            clock: SimClock::new(&self.devices, monotonic, wall),
            entropy: Arc::new(SimEntropy::new(rng.bytes())),
            disk: Device::new(rng.bytes(), name, &self.devices, self.trace.clone()),
            running: Mutex::new(Running {
                node,
                life: None,
                paused: false,
            }),
            polls: Arc::default(),
        }
    }
}

/// One machine. Its disk outlives the processes that run on it one after another.
pub struct SimNode {
    world: SimWorld,
    name: String,
    address: String,
    clock: SimClock,
    entropy: Arc<SimEntropy>,
    disk: Arc<Device>,
    running: Mutex<Running>,
    polls: Arc<AtomicU64>,
}

struct Running {
    node: NodeHandle,
    /// The process that runs now.
    life: Option<Arc<Life>>,
    paused: bool,
}

/// One process on a node, from its start to its kill.
pub(crate) struct Life {
    name: String,
    alive: AtomicBool,
    trace: Trace,
}

impl Life {
    /// Adds to the trace what this process did.
    pub(crate) fn event(&self, what: fmt::Arguments<'_>) {
        self.trace.event(&self.name, what);
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }

    /// An error for what a process does after its end: its futures are dropped only when madsim
    /// comes to them.
    pub(crate) fn check(&self) -> std::io::Result<()> {
        if self.is_alive() {
            Ok(())
        } else {
            Err(std::io::Error::other("the process has ended"))
        }
    }
}

impl SimNode {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often the tasks of all its processes were polled.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    /// The address other nodes see.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Starts a process and gives its `Env`; the one that ran is killed first.
    #[must_use]
    pub fn start(&self) -> Env {
        self.kill();
        self.disk.begin_process();
        let life = Arc::new(Life {
            name: self.name.clone(),
            alive: AtomicBool::new(true),
            trace: self.world.trace.clone(),
        });
        self.world.network.power_on(&self.address);
        let mut running = self.running();
        let handle = Handle::current();
        let id = running.node.id();
        handle.restart(id);
        running.node = handle
            .get_node(id)
            .expect("the node was made with this one");
        running.life = Some(Arc::clone(&life));
        life.event(format_args!("start"));
        Env {
            clock: Arc::new(self.clock.clone()),
            net: Arc::new(SimNet {
                network: Arc::clone(&self.world.network),
                address: self.address.clone(),
                name: self.name.clone(),
                life: Arc::clone(&life),
            }),
            disk: Arc::new(SimDisk {
                device: Arc::clone(&self.disk),
                life: Arc::clone(&life),
            }),
            tasks: Arc::new(SimTasks {
                node: running.node.clone(),
                life,
                polls: Arc::clone(&self.polls),
            }),
            entropy: Arc::clone(&self.entropy) as _,
        }
    }

    /// Ends the process at once, as `kill -9` does: connections are reset, locks are let go, what
    /// was written stays.
    pub fn kill(&self) {
        self.end(Ending::Killed);
    }

    fn end(&self, how: Ending) {
        let mut running = self.running();
        let Some(life) = running.life.take() else {
            // A kernel may still have data to send that lose their power.
            if how == Ending::PowerLost {
                self.world.network.cut_off(&self.address, how);
            }
            return;
        };
        life.event(format_args!("kill"));
        life.alive.store(false, Ordering::SeqCst);
        self.disk.end_process();
        self.world.network.cut_off(&self.address, how);
        let handle = Handle::current();
        if std::mem::take(&mut running.paused) {
            // So that its tasks are dropped where all others are.
            handle.resume(running.node.id());
        }
        handle.kill(running.node.id());
    }

    /// Ends the process and loses what the disk was not told to keep, by seeded choice. Its peers
    /// are told nothing; until the next start the host answers nobody.
    pub fn lose_power(&self) {
        self.end(Ending::PowerLost);
        self.world
            .trace
            .event(&self.name, format_args!("power loss"));
        self.disk.lose_power();
    }

    /// Stops the process as SIGSTOP does: nothing of it runs until [`SimNode::resume`], while time
    /// goes on, its disk completes what was called, and the network takes bytes for it. Timers
    /// that come due meanwhile fire then. Nothing happens when no process runs.
    pub fn pause(&self) {
        let mut running = self.running();
        if let Some(life) = &running.life
            && !running.paused
        {
            life.event(format_args!("pause"));
            running.paused = true;
            Handle::current().pause(running.node.id());
        }
    }

    /// Lets the paused process go on.
    pub fn resume(&self) {
        let mut running = self.running();
        if let Some(life) = running.life.clone()
            && std::mem::take(&mut running.paused)
        {
            life.event(format_args!("resume"));
            Handle::current().resume(running.node.id());
        }
    }

    /// What goes wrong with the node's disk, and what is really on it.
    #[must_use]
    pub fn disk(&self) -> DiskControl {
        DiskControl::new(Arc::clone(&self.disk))
    }

    /// What the node's wall clock shows now.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    /// Moves the node's wall clock by that many milliseconds at once.
    pub fn step_wall(&self, by_ms: i64) {
        let what = format_args!("wall clock steps by {by_ms} ms");
        self.world.trace.event(&self.name, what);
        self.clock.step_wall(by_ms);
    }

    /// Takes back every step of the node's wall clock.
    pub fn set_wall_right(&self) {
        let by_ms = self.clock.steps_ms();
        if by_ms != 0 {
            self.step_wall(-by_ms);
        }
    }

    /// Lets both clocks of the node run fast by `ppm` parts per million of the world's time from
    /// now on; slow when negative. At most by half.
    pub fn set_drift(&self, ppm: i32) {
        let what = format_args!("clocks drift by {ppm} ppm");
        self.world.trace.event(&self.name, what);
        self.clock.set_drift(ppm);
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
