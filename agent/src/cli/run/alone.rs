//! `run --policy FILE -- command`: an engine for one session, gone with it.

use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use common::decide::Mode;
use nix::unistd::{Gid, Uid};
use tokio::sync::mpsc;

use super::streams::{self, Flowing, Outlets, Told};
use crate::{
    audit::Caller,
    cli::{
        Failure,
        report::{Explain, report},
        runtime, signals,
    },
    config::{Config, Dns, Instance, KernelLog, LogFormat},
    daemon::{
        CommandLine, Ending, Engine, Finished, Order, PolicySource, Setup, SuggestError,
        control::server::ended, sweep_abandoned,
    },
    exit::Code,
    observe::log,
    ownership::{self, Distrust},
    policy::{self, compiled::CompiledPolicy},
};

/// Where a program without a path is looked for when the policy sets no `PATH`.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// What the engine says on stderr beside the worker: only what went wrong.
const LOG_DEFAULT: &str = "error";
/// Filter of the engine's log lines, for those who look for a mistake.
const LOG_VARIABLE: &str = "STOCKADE_LOG";

/// What the command line says beside policy and command.
pub(super) struct Wishes {
    pub(super) journal: Option<PathBuf>,
    pub(super) config: Option<PathBuf>,
    pub(super) suggest: bool,
    pub(super) explain: Explain,
    pub(super) raw: bool,
}

pub(super) fn run(
    policy: &Path,
    wishes: Wishes,
    command: Vec<String>,
) -> Result<ExitCode, Failure> {
    let Wishes {
        journal,
        config,
        suggest,
        explain,
        raw,
    } = wishes;
    for file in [policy, &policy::store::lock_path(policy)] {
        match ownership::named_file(file) {
            // Whoever writes it decides what is run here, as root.
            Err(error @ Distrust::Writable { .. }) => {
                return Err(Failure::said(Code::NoPermission, format!("policy {error}")));
            }
            // One that is not there is told as such, below.
            Ok(()) | Err(Distrust::Owner { .. } | Distrust::Unseen { .. }) => {}
        }
    }
    let policy = Arc::new(policy::store::read_file(policy)?);
    if suggest && policy.mode == Mode::Enforce {
        let tool = &policy.tool;
        let message = format!(
            "policy of `{tool}`: only what is observed can be learned from\nhint: `mode = \"observe\"`"
        );
        return Err(Failure::said(Code::Usage, message));
    }
    let dns = config.map_or_else(
        || Ok(Dns::default()),
        |file| Config::load(Some(&file)).map(|config| config.dns),
    )?;
    let command = resolved(&policy, command)?;
    let filter = env::var(LOG_VARIABLE).unwrap_or_else(|_unset| LOG_DEFAULT.to_owned());
    log::start(&filter, LogFormat::Text)?;
    let tool = policy.tool.to_string();
    let (stdio, outlets) = streams::open(raw)?;
    let order = Order {
        tool: tool.clone(),
        command,
        stdio,
        caller: this_process(),
        under: None,
        counter: outlets.counter(),
    };
    let learned = |engine: &Engine| suggest.then(|| engine.suggest(&tool, None, None));
    let (finished, proposal) = in_own_engine(policy, journal, dns, order, outlets, learned)?;
    let ended = ended(finished);
    report(&ended, explain)?;
    match proposal {
        None => {}
        Some(Ok(proposal)) => io::stderr().lock().write_all(proposal.toml.as_bytes())?,
        // It did nothing that its policy does not allow.
        Some(Err(SuggestError::NotObserved(_))) => {
            writeln!(
                io::stderr(),
                "# Nothing to propose: all that was seen is allowed."
            )?;
        }
        Some(Err(error)) => return Err(Failure::new(error.code(), &error)),
    }
    Ok(ended.code.into())
}

/// Runs one session in an engine of its own, and leaves nothing behind.
pub(in crate::cli) fn run_alone(
    policy: Arc<CompiledPolicy>,
    journal: Option<PathBuf>,
    order: Order,
) -> Result<Finished, Failure> {
    let (dns, outlets) = (Dns::default(), Outlets::default());
    in_own_engine(policy, journal, dns, order, outlets, |_| ()).map(|(finished, ())| finished)
}

/// The same, with a look at the engine after the session.
fn in_own_engine<T>(
    policy: Arc<CompiledPolicy>,
    journal: Option<PathBuf>,
    dns: Dns,
    order: Order,
    outlets: Outlets,
    look: impl FnOnce(&Engine) -> T,
) -> Result<(Finished, T), Failure> {
    runtime()?.block_on(async {
        let signals = signals::forwarded().map_err(|error| Failure::runtime(&error))?;
        sweep_abandoned();
        let instance = Instance::stand_alone(std::process::id());
        let output = policy.limits.output;
        let engine = Engine::start(Setup {
            // Gone with the run folder unless it is asked for.
            journal: journal.unwrap_or_else(|| instance.run_folder().join("journal.jsonl")),
            instance,
            policies: PolicySource::One(policy),
            keeping: None,
            sessions_max: 1,
            sessions_ahead: 0,
            dns,
            broker: None,
            kernel_log: KernelLog::Off,
            metrics_tools: 1,
            ending: Ending::Remove,
            prepared: None,
            resolver: Vec::new(),
        })?;
        let mut flowing = outlets.flow(output)?;
        let finished = in_engine(&engine, order, signals, &mut flowing).await;
        let seen = look(&engine);
        engine.close().await;
        let finished = finished?;
        flowing.end()?;
        Ok((finished, seen))
    })
}

/// The caller of a run without an agent: whoever started this process.
pub(in crate::cli) fn this_process() -> Caller {
    Caller {
        uid: Uid::current().as_raw(),
        gid: Gid::current().as_raw(),
        pid: nix::unistd::getpid().as_raw(),
    }
}

async fn in_engine(
    engine: &Arc<Engine>,
    order: Order,
    mut signals: mpsc::Receiver<i32>,
    flowing: &mut Flowing,
) -> Result<Finished, Failure> {
    let mut session = engine.launch(order).await?;
    loop {
        tokio::select! {
            Some(signal) = signals.recv() => session.signal(signal).await,
            told = flowing.told() => match told? {
                Told::Spent => session.output_spent().await,
                Told::Written(bytes) => session.written(bytes).await,
            },
            finished = session.finished() => return Ok(finished),
        }
    }
}

/// The command with an absolute program: as given, or found where the worker would look.
fn resolved(policy: &CompiledPolicy, command: Vec<String>) -> Result<CommandLine, Failure> {
    let mut command = command.into_iter();
    let Some(program) = command.next() else {
        return Ok(CommandLine::OfPolicy(Vec::new()));
    };
    let program = if program.starts_with('/') {
        program
    } else if program.contains('/') {
        let hint = "the worker's root is another\nhint: give the program's absolute path";
        return Err(Failure::said(
            Code::NotStarted,
            format!("program `{program}`: {hint}"),
        ));
    } else {
        let path = policy.worker.environment.get("PATH");
        let path = path.map_or(PATH_DEFAULT, String::as_str);
        let places = path
            .split(':')
            .map(|folder| Path::new(folder).join(&program));
        let found = places.into_iter().find(|place| place.is_file());
        let found = found.and_then(|place| place.to_str().map(str::to_owned));
        found.ok_or_else(|| {
            let message = format!("program `{program}`: not found in {path}");
            Failure::said(Code::NotFound, message)
        })?
    };
    Ok(CommandLine::Given(
        std::iter::once(program).chain(command).collect(),
    ))
}
