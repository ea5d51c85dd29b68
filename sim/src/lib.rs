//! The simulator: the only package that names madsim.
#![cfg(feature = "sim")]

#[cfg(not(madsim))]
compile_error!(
    "the simulator needs `--cfg madsim`: a RUSTFLAGS variable replaces .cargo/config.toml, unset it"
);
