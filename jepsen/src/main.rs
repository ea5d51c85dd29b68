//! The `klamm-jepsen` binary: see [`klamm_jepsen::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    klamm_jepsen::cli::main()
}
