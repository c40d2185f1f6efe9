//! `run --policy FILE -- command`: an engine for one session, gone with it.

use std::{
    env, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use nix::unistd::{Gid, Uid};
use tokio::sync::mpsc;

use crate::{
    audit::Caller,
    cli::{
        Failure,
        report::{Explain, report},
        runtime, signals,
    },
    config::{Dns, Instance, LogFormat},
    daemon::{
        CommandLine, Ending, Engine, Finished, Order, PolicySource, Setup, control::server::ended,
        sweep_abandoned,
    },
    exit::Code,
    observe::log,
    policy::{self, compiled::CompiledPolicy},
};

/// Where a program without a path is looked for when the policy sets no `PATH`.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// What the engine says on stderr beside the worker: only what went wrong.
const LOG_DEFAULT: &str = "error";
/// Filter of the engine's log lines, for those who look for a mistake.
const LOG_VARIABLE: &str = "STOCKADE_LOG";

pub(super) fn run(
    policy: &Path,
    journal: Option<PathBuf>,
    command: Vec<String>,
    explain: Explain,
) -> Result<ExitCode, Failure> {
    let policy = Arc::new(policy::store::read_file(policy)?);
    let command = resolved(&policy, command)?;
    let filter = env::var(LOG_VARIABLE).unwrap_or_else(|_unset| LOG_DEFAULT.to_owned());
    log::start(&filter, LogFormat::Text)?;
    let order = Order {
        tool: policy.tool.to_string(),
        command,
        stdio: [
            io::stdin().as_fd().try_clone_to_owned()?,
            io::stdout().as_fd().try_clone_to_owned()?,
            io::stderr().as_fd().try_clone_to_owned()?,
        ],
        caller: this_process(),
    };
    let ended = ended(run_alone(policy, journal, order)?);
    report(&ended, explain)?;
    Ok(ended.code.into())
}

/// Runs one session in an engine of its own, and leaves nothing behind.
pub(in crate::cli) fn run_alone(
    policy: Arc<CompiledPolicy>,
    journal: Option<PathBuf>,
    order: Order,
) -> Result<Finished, Failure> {
    runtime()?.block_on(async {
        let signals = signals::forwarded().map_err(|error| Failure::runtime(&error))?;
        sweep_abandoned();
        let instance = Instance::stand_alone(std::process::id());
        let engine = Engine::start(Setup {
            // Gone with the run folder unless it is asked for.
            journal: journal.unwrap_or_else(|| instance.run_folder().join("journal.jsonl")),
            instance,
            policies: PolicySource::One(policy),
            sessions_max: 1,
            dns: Dns::default(),
            ending: Ending::Remove,
        })?;
        let finished = in_engine(&engine, order, signals).await;
        engine.close().await;
        finished
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
) -> Result<Finished, Failure> {
    let mut session = engine.launch(order).await?;
    loop {
        tokio::select! {
            Some(signal) = signals.recv() => session.signal(signal).await,
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
            Failure::said(Code::NotStarted, message)
        })?
    };
    Ok(CommandLine::Given(
        std::iter::once(program).chain(command).collect(),
    ))
}
