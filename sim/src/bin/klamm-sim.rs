//! The `klamm-sim` binary: see [`klamm_sim::runner`].

use std::process::ExitCode;

fn main() -> ExitCode {
    klamm_sim::runner::main()
}
