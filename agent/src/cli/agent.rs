//! `stockade agent`: the daemon.

use std::{
    net::SocketAddr, os::unix::net::UnixListener, path::PathBuf, process::ExitCode, sync::Arc,
};

use super::Failure;
use crate::{
    broker::door,
    config::{Config, Instance, Metrics},
    daemon::{Ending, Engine, Keeping, PolicySource, Setup, StartError, control::server::Server},
    exit::Code,
    observe::{http, log},
    shutdown::{Asked, Signals},
};

/// Threads that serve everybody. What takes long goes to threads of its own.
const WORKER_THREADS: usize = 2;

/// Runs the agent until SIGTERM. SIGHUP reads the policies again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  stockade agent --policies ./policies --metrics 127.0.0.1:9464")]
pub(super) struct Arguments {
    /// Configuration file instead of /etc/stockade/stockade.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Instance instead of the configured one.
    #[arg(long, value_name = "NAME", value_parser = Instance::new)]
    instance: Option<Instance>,
    /// Policy folder instead of the configured one.
    #[arg(long, value_name = "FOLDER")]
    policies: Option<PathBuf>,
    /// Address of /metrics and /healthz instead of the configured one, or `off`.
    #[arg(long, value_name = "ADDRESS", value_parser = metrics)]
    metrics: Option<Metrics>,
    /// Log filter instead of the configured one.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Remove hooks, pins, cgroup and run folder at the end instead of leaving the fence standing.
    #[arg(long)]
    remove_on_exit: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments {
        config,
        instance,
        policies,
        metrics,
        log,
        remove_on_exit,
    } = arguments;
    let mut config = Config::load_trusted(config.as_deref())?;
    config.instance = instance.unwrap_or(config.instance);
    config.metrics = metrics.unwrap_or(config.metrics);
    config.log_level = log.unwrap_or(config.log_level);
    if let Some(folder) = policies {
        config.policies = std::path::absolute(folder)?;
    }
    log::start(&config.log_level, config.log_format)?;
    let ending = if remove_on_exit {
        Ending::Remove
    } else {
        Ending::Keep
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(WORKER_THREADS).enable_all();
    let runtime = builder.build().map_err(|error| Failure::runtime(&error))?;
    runtime.block_on(serve(config, ending))?;
    Ok(Code::Ok.into())
}

async fn serve(config: Config, ending: Ending) -> Result<(), StartError> {
    let Config {
        instance,
        policies,
        policies_history,
        policies_watch,
        control_group,
        metrics,
        metrics_tools,
        log_level: _,
        kernel_log,
        log_format: _,
        sessions_max,
        dns,
        broker,
    } = config;
    let mut signals = Signals::listen().map_err(StartError::Signals)?;
    // Before any process is started: until it is taken, the descriptor would be inherited.
    let handed_over = door::inherited().map_err(StartError::Inherited)?;
    let callers = broker.calls.group.clone();
    let callers = callers.unwrap_or_else(|| control_group.clone());
    let engine = Engine::start(Setup {
        journal: instance.journal_file(),
        keeping: Some(Keeping {
            folder: instance.policies_folder(),
            sets: policies_history,
        }),
        instance,
        policies: PolicySource::Folder(policies),
        sessions_max,
        dns,
        broker: Some(broker),
        kernel_log,
        metrics_tools,
        ending,
    })?;
    let groups = [control_group.as_str(), callers.as_str()];
    let opened = open(&engine, metrics, groups, handed_over).await;
    if opened.is_ok() {
        if policies_watch {
            engine.watch_policies();
        }
        tracing::info!(instance = engine.instance().name(), "agent ready");
        attend(&engine, &mut signals).await;
    }
    engine.close().await;
    tracing::info!("agent ended");
    opened
}

/// Opens the doors: the pages first, the control socket last, because who waits for the agent waits
/// for that one.
///
/// `groups`: of the control socket, of the broker's.
async fn open(
    engine: &Arc<Engine>,
    metrics: Metrics,
    [control, callers]: [&str; 2],
    handed_over: Option<UnixListener>,
) -> Result<(), StartError> {
    match metrics {
        Metrics::Off => {}
        Metrics::Address(address) => {
            let server = http::Server::bind(address).await?;
            tracing::info!(%address, "metrics served");
            tokio::spawn(server.serve(Arc::new(engine.pages()), engine.stopping()));
        }
    }
    let server = Server::bind(engine, control)?;
    engine.open_broker(handed_over, callers)?;
    tokio::spawn(server.serve(Arc::clone(engine)));
    Ok(())
}

async fn attend(engine: &Arc<Engine>, signals: &mut Signals) {
    loop {
        match signals.next().await {
            Asked::Stop => return,
            // The outcome is logged, counted and shown by `status`.
            Asked::Reload => drop(engine.reload(None).await),
        }
    }
}

fn metrics(text: &str) -> Result<Metrics, String> {
    Metrics::parse(text).ok_or_else(|| {
        let example = SocketAddr::from(([127, 0, 0, 1], 9464));
        format!("neither `off` nor an address with a port such as {example}")
    })
}
