//! The self-test of each policy's fence, on this host and now, in a throw-away instance.

use std::sync::Arc;

use super::host::{Check, State};
use crate::{
    cli::runtime,
    config::{Config, Dns, Instance, KernelLog},
    daemon::{Ending, Engine, LaunchError, PolicySource, Setup, told},
    policy::{self, store},
};

/// The narrowest policy there is, for a host without any.
const NARROWEST: (&str, &str) = ("doctor", "version = 1\ntool = \"doctor\"\n");

/// A row for each policy of the folder; for the narrowest one where the folder has none in order.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let (name, text) = NARROWEST;
    let read = store::read_trusted(&config.policies).map(|sources| sources.set);
    let (source, tools) = match read {
        Ok(set) if !set.is_empty() => {
            let tools = set.iter().map(|policy| policy.tool.to_string()).collect();
            (PolicySource::Folder(config.policies.clone()), tools)
        }
        Ok(_) | Err(_) => match policy::compile("doctor.toml", text) {
            Ok(policy) => (PolicySource::One(Arc::new(policy)), vec![name.to_owned()]),
            Err(error) => return vec![not_made(name, &error)],
        },
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return vec![not_made(name, &error)],
    };
    runtime.block_on(in_own_engine(source, tools))
}

async fn in_own_engine(source: PolicySource, tools: Vec<String>) -> Vec<Check> {
    let instance = Instance::stand_alone(std::process::id());
    let setup = Setup {
        journal: instance.run_folder().join("journal.jsonl"),
        instance,
        policies: source,
        keeping: None,
        sessions_max: 1,
        sessions_ahead: 0,
        dns: Dns::default(),
        broker: None,
        kernel_log: KernelLog::Off,
        metrics_tools: 1,
        ending: Ending::Remove,
        prepared: None,
        resolver: Vec::new(),
    };
    let engine = match Engine::start(setup) {
        Ok(engine) => engine,
        Err(error) => return vec![not_made("all", &error)],
    };
    let mut checks = Vec::new();
    for tool in tools {
        let name = format!("self-test {tool}");
        checks.push(match engine.self_test_of(&tool).await {
            Ok(()) => Check::ok(
                name,
                "connect, read, write, socket family and system call are refused",
            ),
            Err(error @ (LaunchError::Slipped { .. } | LaunchError::NoReport { .. })) => {
                let fix = "nothing of it is launched here; the rows above tell what is missing";
                Check::gap(name, State::Missing, told(&error), fix)
            }
            Err(error) => {
                let fix = "nothing of it is launched here until this is put right";
                Check::gap(name, State::Weaker, told(&error), fix)
            }
        });
    }
    engine.close().await;
    checks
}

fn not_made(tool: &str, error: &dyn std::error::Error) -> Check {
    let fix = "the rows above tell what is missing";
    Check::gap(
        format!("self-test {tool}"),
        State::Missing,
        told(error),
        fix,
    )
}
