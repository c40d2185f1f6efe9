//! The command line: one file a verb. What is read here is checked and handed down; no verb decides
//! anything of its own.

mod agent;
mod attach;
mod audit;
mod call;
mod caller;
mod doctor;
mod events;
mod failure;
mod hold;
mod mcp;
pub mod policy;
mod reload;
mod remove;
mod report;
mod run;
mod schema;
mod sessions;
mod signals;
mod status;
mod terminal;
mod token;
mod tool;

use std::{env, process::ExitCode};

use clap::{Args, CommandFactory as _, Parser, Subcommand};

pub use failure::Failure;

use crate::{
    config::{DEFAULT_INSTANCE, Instance},
    daemon::control::{
        channel::Channel,
        protocol::{Reply, Request},
    },
    exit::Code,
    launcher,
};

/// First argument that makes the process a launcher instead of a command line.
const LAUNCHER: &str = "launcher";

/// Runs tool workers inside a fence: what their policy does not name, they do not reach.
#[derive(Debug, Parser)]
#[command(name = "stockade", version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 the answer is no; 2 usage; 65 bad policy; 69 this host lacks something;
70 our bug; 73 can not be made or written; 75 in the way for now (no agent, a second agent);
77 not permitted; 78 bad configuration; `run`: the worker's own, 128 + signal;
125 not started, 126 its program can not be executed, 127 its program is not there.";

#[derive(Debug, Subcommand)]
enum Verb {
    Agent(agent::Arguments),
    Run(run::Arguments),
    Call(Box<call::Arguments>),
    Mcp(Box<mcp::Arguments>),
    /// Policies: check, show, explain, compare, push, roll back.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Looks at the JSON Schemas of verbs: check, tighten.
    #[command(subcommand)]
    Schema(schema::SchemaCommand),
    Status(status::Arguments),
    Sessions(sessions::Arguments),
    Events(events::Arguments),
    Reload(reload::Arguments),
    Attach(attach::Arguments),
    Detach(attach::DetachArguments),
    /// Access tokens: issue, rotate, revoke; proof keys.
    #[command(subcommand)]
    Token(token::TokenCommand),
    Tool(tool::Arguments),
    /// Looks at the journal: verify, query.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    Doctor(doctor::Arguments),
    Remove(remove::Arguments),
    #[command(hide = true)]
    Hold(hold::Arguments),
    /// The worker of `doctor --probe`.
    #[command(name = doctor::WORKER_VERB, hide = true)]
    ProbeWorker(doctor::worker::Arguments),
}

/// Which agent is meant.
#[derive(Debug, Args)]
struct Target {
    /// Instance of the agent.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_INSTANCE, value_parser = Instance::new)]
    instance: Instance,
}

/// The command line as it is defined, for its man pages and shell completions.
#[must_use]
pub fn command() -> clap::Command {
    CommandLine::command()
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    // Before anything else: a launcher has one thread and no parsed arguments.
    if env::args_os().nth(1).is_some_and(|verb| verb == LAUNCHER) {
        launcher::launcher_main();
    }
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            let code = if error.use_stderr() {
                Code::Usage
            } else {
                Code::Ok
            };
            // Where the terminal is gone there is nobody to tell.
            drop(error.print());
            return code.into();
        }
    };
    let done = match line.verb {
        Verb::Agent(arguments) => agent::run(arguments),
        Verb::Run(arguments) => run::run(arguments),
        Verb::Call(arguments) => call::run(*arguments),
        Verb::Mcp(arguments) => mcp::run(*arguments),
        Verb::Policy(command) => command.run().map(Into::into).map_err(Failure::from),
        Verb::Schema(command) => command.run().map(Into::into).map_err(Failure::from),
        Verb::Status(arguments) => status::run(&arguments),
        Verb::Sessions(arguments) => sessions::run(&arguments),
        Verb::Events(arguments) => events::run(&arguments),
        Verb::Reload(arguments) => reload::run(&arguments),
        Verb::Attach(arguments) => attach::run(&arguments),
        Verb::Detach(arguments) => attach::detach(&arguments),
        Verb::Token(command) => command.run(),
        Verb::Tool(arguments) => tool::run(&arguments),
        Verb::Audit(command) => command.run(),
        Verb::Doctor(arguments) => doctor::run(&arguments),
        Verb::Remove(arguments) => remove::run(&arguments),
        Verb::Hold(arguments) => hold::run(&arguments),
        Verb::ProbeWorker(arguments) => doctor::worker::run(&arguments),
    };
    done.unwrap_or_else(Failure::tell)
}

/// Asks an agent one thing.
fn ask(target: &Target, request: &Request) -> Result<Reply, Failure> {
    runtime()?.block_on(async {
        let mut channel = Channel::connect(&target.instance.control_socket()).await?;
        channel.send(request).await?;
        let reply = channel.receive().await?;
        match reply {
            Some(Reply::Refused(refused)) => Err(refused.into()),
            Some(reply) => Ok(reply),
            None => Err(Failure::silent_agent()),
        }
    })
}

/// A runtime for a command: one thread.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder
        .enable_all()
        .build()
        .map_err(|error| Failure::runtime(&error))
}
