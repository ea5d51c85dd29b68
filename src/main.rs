//! The `klamm` binary: parse arguments, start tracing, build the environment, run, exit.
#![allow(
    clippy::disallowed_methods,
    reason = "the process's own arguments, environment, files and signals are read here only"
)]

use std::process::ExitCode;

use clap::Parser as _;
use klamm::broker::Broker;
use klamm::cli::{self, Cli, NodeOptions};
use klamm::config::{BrokerConfig, Loaded, LogFormat};
use klamm::env;
use tokio::signal::unix::{SignalKind, signal};

/// The node could not start, or stopped on an error.
const FAILED: u8 = 1;

/// The settings or arguments cannot be used.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        None => run_node(&cli.node),
        Some(command) => run_command(command),
    }
}

fn run_command(command: cli::Command) -> ExitCode {
    tracing_to_stderr(LogFormat::Pretty, "warn");
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &format!("no threads to run on: {error}")),
    };
    runtime.block_on(async {
        let env = match env::tokio::env(env::tokio::Options::default()) {
            Ok(env) => env,
            Err(error) => return fail(FAILED, &error.to_string()),
        };
        let mut interrupt = match signal(SignalKind::interrupt()) {
            Ok(interrupt) => interrupt,
            Err(error) => return fail(FAILED, &format!("signals cannot be heard: {error}")),
        };
        let interrupted = async move {
            interrupt.recv().await;
        };
        ExitCode::from(cli::run(env, command, interrupted).await)
    })
}

fn run_node(options: &NodeOptions) -> ExitCode {
    let Loaded { config, warnings } = match load(options) {
        Ok(loaded) => loaded,
        Err(text) => return fail(USAGE, &text),
    };
    tracing_to_stderr(config.log_format, &config.log_level);
    for warning in warnings {
        tracing::warn!("{}", warning.0);
    }
    if let Err(error) = env::tokio::raise_file_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if config.worker_threads > 0 {
        builder.worker_threads(config.worker_threads);
    }
    match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(serve(config)),
        Err(error) => fail(FAILED, &format!("no threads to run on: {error}")),
    }
}

fn load(options: &NodeOptions) -> Result<Loaded, String> {
    let file = match &options.properties {
        None => None,
        Some(path) => Some(
            std::fs::read_to_string(path)
                .map_err(|error| format!("{} cannot be read: {error}", path.display()))?,
        ),
    };
    let overrides = options
        .overrides
        .iter()
        .map(|o| (o.key.clone(), o.value.clone()));
    BrokerConfig::load(file.as_deref(), std::env::vars(), overrides)
        .map_err(|errors| errors.to_string())
}

async fn serve(config: BrokerConfig) -> ExitCode {
    let options = env::tokio::Options::default();
    let disk_stats = options.disk_stats.clone();
    let env = match env::tokio::env(options) {
        Ok(env) => env,
        Err(error) => return fail(FAILED, &error.to_string()),
    };
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return fail(FAILED, "signals cannot be heard");
    };
    let started = tokio::select! {
        biased;
        started = Broker::start(env, config, Some(disk_stats)) => started,
        _ = terminate.recv() => return ExitCode::SUCCESS,
        _ = interrupt.recv() => return ExitCode::SUCCESS,
    };
    let broker = match started {
        Ok(broker) => broker,
        Err(error) => return fail(FAILED, &error.to_string()),
    };
    tokio::select! {
        biased;
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("interrupted: draining"),
    }
    tokio::select! {
        biased;
        () = broker.stop() => ExitCode::SUCCESS,
        _ = terminate.recv() => fail(FAILED, "told to stop again: not waiting for the drain"),
        _ = interrupt.recv() => fail(FAILED, "told to stop again: not waiting for the drain"),
    }
}

fn tracing_to_stderr(format: LogFormat, level: &str) {
    use tracing_subscriber::fmt;
    let level = level.parse().unwrap_or(tracing::Level::INFO);
    let builder = fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Pretty => {
            use std::io::IsTerminal as _;
            builder.with_ansi(std::io::stderr().is_terminal()).init();
        }
    }
}

fn fail(code: u8, text: &str) -> ExitCode {
    eprintln!("klamm: {text}");
    ExitCode::from(code)
}
