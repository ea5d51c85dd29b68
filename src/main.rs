//! The `klamm` binary: parse arguments, start tracing, build the environment, run, exit.
#![allow(
    clippy::disallowed_methods,
    reason = "the process's own arguments, environment, files and signals are read here only"
)]

use std::io::Read as _;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use klamm::broker::Broker;
use klamm::cli::{self, Cli, ClusterOptions, Command, DevOptions, NodeOptions, Surroundings};
use klamm::config::{BrokerConfig, Loaded, LogFormat};
use klamm::env;
use tokio::signal::unix::{SignalKind, signal};

/// The node could not start, or stopped on an error.
const FAILED: u8 = 1;

/// The settings or arguments cannot be used.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    if let Err(error) = klamm::mutant::choose_asked(|| std::env::var("MUTANT").ok()) {
        return fail(USAGE, &error.to_string());
    }
    let cli = Cli::from_arguments();
    match cli.command {
        None => run_node(&cli.node),
        Some(Command::Start(node)) => run_node(&node),
        Some(Command::Dev(options)) => run_dev(&options),
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
    match load(options) {
        Ok(loaded) => run_nodes(vec![loaded]),
        Err(text) => fail(USAGE, &text),
    }
}

/// Runs a cluster for development. Its data goes with it, unless a place was given.
fn run_dev(options: &DevOptions) -> ExitCode {
    let temporary = std::env::temp_dir().join(format!("klamm-dev-{}", std::process::id()));
    let dir = options.dir.as_ref().unwrap_or(&temporary);
    let loaded = match options.configs(dir) {
        Ok(loaded) => loaded,
        Err(errors) => return fail(USAGE, &errors.to_string()),
    };
    let end = run_nodes(loaded);
    if options.dir.is_none()
        && let Err(error) = std::fs::remove_dir_all(&temporary)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("klamm: {} was not removed: {error}", temporary.display());
    }
    end
}

/// Runs one node, or several that have the form of the first one's log.
fn run_nodes(loaded: Vec<Loaded>) -> ExitCode {
    let first = &loaded[0].config;
    if let Err(text) = tracing_to_stderr(first.log_format, &first.log_level) {
        return fail(USAGE, &text);
    }
    if let Err(error) = env::tokio::raise_file_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let mut configs = Vec::with_capacity(loaded.len());
    for Loaded {
        mut config,
        warnings,
    } in loaded
    {
        for warning in warnings {
            tracing::warn!("{}", warning.0);
        }
        if config.worker_threads == 0 {
            config.worker_threads = cores;
        }
        configs.push(config);
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(configs[0].worker_threads);
    match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(serve(configs)),
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

/// Starts all nodes at once, and stops them one after another.
async fn serve(configs: Vec<BrokerConfig>) -> ExitCode {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return fail(FAILED, "signals cannot be heard");
    };
    let starting = futures_util::future::try_join_all(configs.into_iter().map(start));
    let started = tokio::select! {
        biased;
        started = starting => started,
        _ = terminate.recv() => return ExitCode::SUCCESS,
        _ = interrupt.recv() => return ExitCode::SUCCESS,
    };
    let brokers = match started {
        Ok(brokers) => brokers,
        Err(text) => return fail(FAILED, &text),
    };
    if brokers.len() > 1 {
        let addresses: Vec<String> = brokers.iter().flat_map(|one| one.addresses()).collect();
        tracing::info!(bootstrap_servers = %addresses.join(","), "the cluster is ready");
    }
    let ended = brokers.iter().map(|broker| Box::pin(broker.draining()));
    let mut end = ExitCode::SUCCESS;
    tokio::select! {
        biased;
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("interrupted: draining"),
        _ = futures_util::future::select_all(ended) => {
            end = fail(FAILED, "the broker cannot go on: see its log");
        }
    }
    let stopping = async {
        for broker in brokers.iter().rev() {
            broker.stop().await;
        }
    };
    tokio::select! {
        biased;
        () = stopping => end,
        _ = terminate.recv() => fail(FAILED, "told to stop again: not waiting for the drain"),
        _ = interrupt.recv() => fail(FAILED, "told to stop again: not waiting for the drain"),
    }
}

async fn start(config: BrokerConfig) -> Result<Arc<Broker>, String> {
    let options = env::tokio::Options {
        disk_writers: NonZeroUsize::new(config.disk_threads),
        ..Default::default()
    };
    let disk_stats = options.disk_stats.clone();
    let env = env::tokio::env(options).map_err(|error| error.to_string())?;
    let started = Broker::start(env, config, Some(disk_stats)).await;
    started.map_err(|error| error.to_string())
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
    // What a library tells of itself is for those who ask for it.
    let wanted = match level.contains("openraft") {
        true => wanted,
        false => wanted.with_target("openraft", tracing::level_filters::LevelFilter::ERROR),
    };
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
