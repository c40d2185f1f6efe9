//! Calls: what the broker adds to a worker that is warm, beside other proxies with the same worker
//! behind them; a fenced process for each call; and a flood of callers that nobody knows.
//!
//! Every proof is signed before a clock starts. The load, the broker and the workers share the
//! processors of the machine, and the load has one thread.

mod callers;
pub(crate) mod calls;
mod control;
pub(crate) mod flood;
mod frame;
mod load;
mod pace;
mod peers;
mod stages;

use std::{fs, future::Future, path::PathBuf};

use agent::broker::jose::Algorithm;
use anyhow::{Context as _, Result};
use lab::{
    Lab,
    agent::{Agent, CONFIGURATION},
    binary::Scratch,
};

use callers::Callers;

/// Connections at once.
const CONNECTIONS: usize = 32;

/// The worker as it is kept warm, and as a process for each call.
const POLICIES: [(&str, &str); 2] = [("echo", WARM), ("echo-once", ONCE)];

const WARM: &str = r#"
version = 1
tool = "echo"
description = "What is measured"
[worker]
command = ["{scratch}/echo-worker"]
protocol = "mcp"
reuse = "session"
wall_timeout = "1h"
[filesystem]
read = ["/usr", "/etc/ld.so.cache", "{scratch}"]
execute = ["{scratch}"]
[[verb]]
name = "say"
description = "Gives its argument back"
scope = "echo:say"
arguments = "{scratch}/say.json"
result = "{scratch}/say.json"
[verb.limits]
rate = "1000000/min per verb"
concurrency = 4096
"#;

const ONCE: &str = r#"
version = 1
tool = "echo-once"
description = "What is measured"
[worker]
command = ["{scratch}/echo-worker", "--json"]
protocol = "json"
[filesystem]
read = ["/usr", "/etc/ld.so.cache", "{scratch}"]
execute = ["{scratch}"]
[[verb]]
name = "say"
description = "Gives its argument back"
scope = "echo:say"
arguments = "{scratch}/say.json"
result = "{scratch}/say.json"
[verb.limits]
rate = "1000000/min per verb"
concurrency = 4096
"#;

/// A group that every Debian has, for the flood's user: without one the socket is root's alone.
const CALLERS_GROUP: &str = "[broker.calls]\ngroup = \"games\"\n";

const SCHEMA: &str = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema",
"type": "object", "properties": {"text": {"type": "string", "maxLength": 256}},
"required": ["text"], "additionalProperties": false}"#;

/// An agent with the worker, and callers with tokens.
struct Scene {
    callers: Callers,
    /// The same users, whose proofs are by `EdDSA`.
    callers_eddsa: Callers,
    /// Before the lab, which it lives in.
    agent: Agent,
    worker: PathBuf,
    lab: Lab,
}

impl Scene {
    fn new() -> Result<Self> {
        let lab = Lab::unrecorded(&[])?;
        let scratch = Scratch::new()?;
        let worker = scratch.install("echo-worker")?;
        scratch.write("say.json", SCHEMA)?;
        scratch.write(CONFIGURATION, CALLERS_GROUP)?;
        let agent = Agent::start_in(lab.host(), scratch, &POLICIES)?;
        let callers = |proofs| Callers::new(agent.instance(), CONNECTIONS, proofs);
        Ok(Self {
            callers: callers(Algorithm::Es256)?,
            callers_eddsa: callers(Algorithm::EdDsa)?,
            agent,
            worker,
            lab,
        })
    }

    /// With what the agent says, where something went wrong.
    fn told<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.with_context(|| {
            let log = self.agent.log();
            let last: Vec<_> = log.lines().rev().take(5).collect();
            format!("the agent's last words: {last:#?}")
        })
    }
}

/// Runs the load on this thread.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// Processor time of a process so far, seconds.
fn processor_seconds(process: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/schedstat"))?;
    let text = text.split_whitespace().next().context("schedstat")?;
    Ok(text.parse::<f64>()? / 1e9)
}
