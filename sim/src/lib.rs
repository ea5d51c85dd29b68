//! The simulator: the only package that names madsim.
//!
//! [`simulate`] runs a scenario in a [`SimWorld`] of nodes whose clocks, network, disks, tasks and
//! randomness are functions of one seed. madsim gives the executor and the virtual time; network
//! and disk are models of this package, because what they withhold is what is being tested.
#![cfg(feature = "sim")]

#[cfg(not(madsim))]
compile_error!(
    "the simulator needs `--cfg madsim`: a RUSTFLAGS variable replaces .cargo/config.toml, unset it"
);

mod alarm;
pub mod audit;
mod clock;
mod disk;
mod entropy;
mod net;
pub mod plan;
pub mod probe;
pub mod record;
pub mod run;
pub mod runner;
pub mod swarm;
mod task;
mod trace;
pub mod watch;
pub mod workload;
mod world;

pub use disk::{DiskControl, DiskImage};
pub use net::NetworkControl;
pub use trace::Trace;
pub use world::{Run, SimNode, SimWorld, simulate};
