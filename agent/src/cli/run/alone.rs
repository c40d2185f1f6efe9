//! `run --policy FILE -- command`: an engine for one session, gone with it.

use std::{
    env, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use nix::unistd::{Gid, Uid};

use crate::{
    audit::Caller,
    cli::{
        Failure,
        report::{Explain, report},
        runtime, signals,
    },
    config::{Instance, LogFormat},
    daemon::{
        CommandLine, Ending, Engine, Order, PolicySource, Setup,
        control::{protocol::Ended, server::ended},
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
    let ended = runtime()?.block_on(session(policy, journal, command))?;
    report(&ended, explain)?;
    Ok(ended.code.into())
}

async fn session(
    policy: Arc<CompiledPolicy>,
    journal: Option<PathBuf>,
    command: CommandLine,
) -> Result<Ended, Failure> {
    let signals = signals::forwarded().map_err(|error| Failure::runtime(&error))?;
    sweep_abandoned();
    let instance = Instance::stand_alone(std::process::id());
    let tool = policy.tool.to_string();
    let engine = Engine::start(Setup {
        // Gone with the run folder unless it is asked for.
        journal: journal.unwrap_or_else(|| instance.run_folder().join("journal.jsonl")),
        instance,
        policies: PolicySource::One(policy),
        sessions_max: 1,
        ending: Ending::Remove,
        kernel_log_level: 0,
    })?;
    let ended = in_engine(&engine, tool, command, signals).await;
    engine.close().await;
    ended
}

async fn in_engine(
    engine: &Arc<Engine>,
    tool: String,
    command: CommandLine,
    mut signals: tokio::sync::mpsc::Receiver<i32>,
) -> Result<Ended, Failure> {
    let order = Order {
        tool,
        command,
        stdio: [
            io::stdin().as_fd().try_clone_to_owned()?,
            io::stdout().as_fd().try_clone_to_owned()?,
            io::stderr().as_fd().try_clone_to_owned()?,
        ],
        caller: Caller {
            uid: Uid::current().as_raw(),
            gid: Gid::current().as_raw(),
            pid: nix::unistd::getpid().as_raw(),
        },
    };
    let mut session = engine.launch(order).await?;
    loop {
        tokio::select! {
            Some(signal) = signals.recv() => session.signal(signal).await,
            finished = session.finished() => return Ok(ended(finished)),
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
