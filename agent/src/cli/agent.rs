//! `stockade agent`: the daemon.

use std::{
    net::SocketAddr, os::unix::net::UnixListener, path::PathBuf, process::ExitCode, sync::Arc,
    time::Duration,
};

use super::Failure;
use crate::{
    broker::door,
    config::{Config, Instance, Metrics, log_level},
    daemon::{
        Ending, Engine, Holder, Keeping, PolicySource, Prepared, Setup, StartError, confine,
        control::server::Server,
        service::{self, Watchdog},
    },
    exit::Code,
    observe::{http, log},
    shutdown::{Asked, Signals},
    sys::{heap, inherited::HandedOver},
};

/// Name of the resolver's sockets in their unit (`FileDescriptorName=`).
const RESOLVER_SOCKETS: &str = "resolver";
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
    #[arg(long, value_name = "FILTER", value_parser = log_level)]
    log: Option<String>,
    /// Remove hooks, pins, cgroup and run folder at the end instead of leaving the fence standing.
    #[arg(long)]
    remove_on_exit: bool,
    /// Take the sessions' cgroup from the service manager (`stockade-workers.service`); make none.
    #[arg(long)]
    delegated: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments {
        config,
        instance,
        policies,
        metrics,
        log,
        remove_on_exit,
        delegated,
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
    let holder = if delegated {
        Holder::ServiceManager
    } else {
        Holder::Any
    };
    // In this order, in a process of one thread: the launcher inherits no descriptor, and keeps the
    // privileges that the agent gives up.
    let handed_over = HandedOver::take().map_err(StartError::from)?;
    let prepared = Prepared::new(&config.instance, holder)?;
    confine(
        &config.instance,
        &config.policies,
        &config.audit,
        &prepared,
        ending,
    )?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(WORKER_THREADS).enable_all();
    let runtime = builder.build().map_err(|error| Failure::runtime(&error))?;
    runtime.block_on(serve(config, ending, prepared, handed_over))?;
    Ok(Code::Ok.into())
}

async fn serve(
    config: Config,
    ending: Ending,
    prepared: Prepared,
    mut handed_over: HandedOver,
) -> Result<(), StartError> {
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
        sessions_ahead,
        drain,
        dns,
        broker,
        audit,
    } = config;
    let mut signals = Signals::listen().map_err(StartError::Signals)?;
    let callers = broker.calls.group.clone();
    let broker_socket = door::inherited(&mut handed_over)?;
    let resolver = handed_over.named(RESOLVER_SOCKETS);
    handed_over.nothing_left()?;
    let engine = Engine::start(Setup {
        journal: instance.journal_file(),
        keeping: Some(Keeping {
            folder: instance.policies_folder(),
            sets: policies_history,
        }),
        instance,
        policies: PolicySource::Folder(policies),
        sessions_max,
        sessions_ahead,
        dns,
        broker: Some(broker),
        kernel_log,
        metrics_tools,
        ending,
        prepared: Some(prepared),
        resolver,
    })?;
    engine.keep_checkpoints(&audit)?;
    // What stands from before has its names again when somebody waits for the agent.
    engine.take_up().await;
    let groups = [control_group.as_str(), callers.as_str()];
    let opened = open(&engine, metrics, groups, broker_socket).await;
    if opened.is_ok() {
        if policies_watch {
            engine.watch_policies();
        }
        heap::give_back();
        tracing::info!(instance = engine.instance().name(), "agent ready");
        service::ready(&engine);
        let mut watchdog = Watchdog::asked();
        attend(&engine, &mut signals, &mut watchdog).await;
        service::stopping();
        drain_within(&engine, drain, &mut watchdog).await;
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

async fn attend(engine: &Arc<Engine>, signals: &mut Signals, watchdog: &mut Watchdog) {
    loop {
        let asked = tokio::select! {
            asked = signals.next() => asked,
            () = watchdog.due() => {
                watchdog.look(engine).await;
                continue;
            }
        };
        match asked {
            Asked::Stop => return,
            Asked::Reload => {
                service::reloading();
                // The outcome is logged, counted and shown by `status`.
                drop(engine.reload(None).await);
                service::ready(engine);
            }
        }
    }
}

/// The service manager waits for signs of life until the agent has ended.
async fn drain_within(engine: &Engine, time: Duration, watchdog: &mut Watchdog) {
    if time.is_zero() {
        return;
    }
    let drained = engine.drain(time);
    tokio::pin!(drained);
    loop {
        tokio::select! {
            () = &mut drained => return,
            () = watchdog.due() => watchdog.look(engine).await,
        }
    }
}

fn metrics(text: &str) -> Result<Metrics, String> {
    Metrics::parse(text).ok_or_else(|| {
        let example = SocketAddr::from(([127, 0, 0, 1], 9464));
        format!("neither `off` nor an address with a port such as {example}")
    })
}
