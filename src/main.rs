//! The `klamm` binary: parse arguments, start tracing, build the environment, run, exit.
#![allow(
    clippy::disallowed_methods,
    reason = "the process's own arguments, environment, files and signals are read here only"
)]

use std::io::Read as _;
use std::process::ExitCode;

use bytes::Bytes;
use klamm::broker::Broker;
use klamm::cli::{self, Cli, ClusterOptions, Command, NodeOptions, Surroundings};
use klamm::config::{BrokerConfig, Loaded, LogFormat};
use klamm::env;
use tokio::signal::unix::{SignalKind, signal};

/// The node could not start, or stopped on an error.
const FAILED: u8 = 1;

/// The settings or arguments cannot be used.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::from_arguments();
    match cli.command {
        None => run_node(&cli.node),
        Some(Command::Start(node)) => run_node(&node),
        Some(command) => run_command(cli.cluster, command),
    }
}

fn run_command(options: ClusterOptions, command: Command) -> ExitCode {
    if let Err(text) = tracing_to_stderr(LogFormat::Pretty, "warn") {
        return fail(FAILED, &text);
    }
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
        let interrupted = Box::pin(async move {
            interrupt.recv().await;
        });
        let surroundings = Surroundings {
            env,
            environment: std::env::vars().collect(),
            input: Box::new(read_stdin),
            interrupted,
        };
        ExitCode::from(cli::run(surroundings, options, command).await)
    })
}

/// Reads stdin on a thread of its own: a read of a terminal or pipe may wait for ever, and nothing
/// can end it but the process.
fn read_stdin() -> cli::Input {
    const CHUNK_BYTES: usize = 64 << 10;
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = match stdin.read(&mut chunk) {
                Ok(0) => return,
                Ok(len) => Ok(Bytes::copy_from_slice(&chunk[..len])),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = read.is_err();
            if sender.blocking_send(read).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

fn run_node(options: &NodeOptions) -> ExitCode {
    let Loaded { config, warnings } = match load(options) {
        Ok(loaded) => loaded,
        Err(text) => return fail(USAGE, &text),
    };
    if let Err(text) = tracing_to_stderr(config.log_format, &config.log_level) {
        return fail(USAGE, &text);
    }
    for warning in warnings {
        tracing::warn!("{}", warning.0);
    }
    if let Err(error) = env::tokio::raise_file_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let mut config = config;
    if config.worker_threads == 0 {
        config.worker_threads = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(config.worker_threads);
    match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(serve(config)),
        Err(error) => fail(FAILED, &format!("no threads to run on: {error}")),
    }
}

fn load(options: &NodeOptions) -> Result<Loaded, String> {
    let file = match &options.properties {
        None => None,
        Some(path) => {
            Some(std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?)
        }
    };
    let overrides = options
        .overrides
        .iter()
        .map(|o| (o.key.clone(), o.value.clone()));
    BrokerConfig::load(file.as_deref(), std::env::vars(), overrides)
        .map_err(|errors| errors.to_string())
}

/// A word that is no file may be a command that was misspelt.
fn unreadable(path: &std::path::Path, error: &std::io::Error) -> String {
    let path = path.display();
    match error.kind() {
        std::io::ErrorKind::NotFound => format!(
            "there is no settings file '{path}', and no command of that name (see klamm --help)"
        ),
        _ => format!("{path} cannot be read: {error}"),
    }
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
    let mut end = ExitCode::SUCCESS;
    tokio::select! {
        biased;
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("interrupted: draining"),
        () = broker.draining() => end = fail(FAILED, "the broker cannot go on: see its log"),
    }
    tokio::select! {
        biased;
        () = broker.stop() => end,
        _ = terminate.recv() => fail(FAILED, "told to stop again: not waiting for the drain"),
        _ = interrupt.recv() => fail(FAILED, "told to stop again: not waiting for the drain"),
    }
}

/// Shows lines at or above `level`: one level for all, or `module=level`, comma-separated.
fn tracing_to_stderr(format: LogFormat, level: &str) -> Result<(), String> {
    use std::io::IsTerminal as _;
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    use tracing_subscriber::{fmt, registry};
    let wanted: Targets = level.parse().map_err(|error| {
        format!(
            "klamm.log.level={level}: {error}; write error, warn, info, debug or trace, or \
             module=level, comma-separated"
        )
    })?;
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            registry().with(wanted).with(lines).init();
        }
        LogFormat::Pretty => {
            let lines = lines.with_ansi(std::io::stderr().is_terminal());
            registry().with(wanted).with(lines).init();
        }
    }
    Ok(())
}

fn fail(code: u8, text: &str) -> ExitCode {
    eprintln!("klamm: {text}");
    ExitCode::from(code)
}
