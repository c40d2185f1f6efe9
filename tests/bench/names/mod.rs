//! Names: the resolver beside others, what the programs take for its packets, handshakes bare and
//! fenced, grants that are there before the answer, and what many names cost in memory. Each part makes
//! a lab of its own.

pub(crate) mod handshakes;
pub(crate) mod held;
pub(crate) mod packets;
mod peers;
mod reflector;
pub(crate) mod resolver;
pub(crate) mod rounds;

use std::{net::Ipv4Addr, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use lab::{
    Lab,
    agent::{self, Agent},
    binary::Scratch,
    dns::NameServer,
    prober::{Answer, Prober},
    server::Listener,
};

const LISTENERS: &[Listener] = &[Listener::Discard(8443)];
/// No limit of the agent is what is measured.
const CONFIGURATION: &str = "[dns]\nupstreams = [\"9.9.9.9:53\"]\nqueries_per_second = 100000\n\
                             burst = 100000\nwildcard_names_per_minute = 1000000\n\
                             wildcard_bytes_per_minute = 1000000\n";
/// Whatever server a worker asks, the agent answers.
const ANY_SERVER: &str = "8.8.8.8:53";
/// Where other resolvers listen: an address of the host's own loopback device to which a policy can
/// open UDP, as it can not to 127.0.0.1.
const PEERS: Ipv4Addr = Ipv4Addr::new(10, 53, 0, 1);
/// How often each subject has its turn; the first turn fills caches and is not counted.
const ROUNDS: u64 = 9;

/// Reaches names of the bench, without a limit of its own.
const POLICY: &str = r#"
version = 1
tool = "names"
description = "What is measured"
[worker]
command = ["{scratch}/prober"]
protocol = "exec"
wall_timeout = "1h"
[[egress.allow]]
domain = "*.bench.example"
ports = [443]
[[egress.allow]]
domain = "*.bench.example"
ports = [8443]
tls = "off"
[[egress.allow]]
domain = "site.example"
ports = [443]
# Where the bench has other resolvers listen.
[[egress.allow_private]]
cidr = "10.53.0.1/32"
protocol = "udp"
ports = ["5301-5303"]
reason = "to be asked from inside a fence"
[filesystem]
read = ["/usr", "{scratch}"]
execute = ["{scratch}"]
"#;

/// A host with an agent, a world with a name server.
struct Scene {
    /// First, so that it ends before the lab does.
    agent: Agent,
    program: PathBuf,
    _names: NameServer,
    lab: Lab,
}

impl Scene {
    fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        let program = scratch.install("prober")?;
        scratch.write(agent::CONFIGURATION, CONFIGURATION)?;
        let lab = Lab::unrecorded(LISTENERS)?;
        let mut command = Command::new("ip");
        command.args(["address", "add", &format!("{PEERS}/32"), "dev", "lo"]);
        let status = lab.host().enter(|| command.status())??;
        ensure!(status.success(), "{PEERS} on loopback: {status}");
        let names = NameServer::start(lab.world())?;
        names.forget();
        let agent = Agent::start_in(lab.host(), scratch, &[("names", POLICY)])?;
        Ok(Self {
            agent,
            program,
            _names: names,
            lab,
        })
    }

    /// A prober inside a fence.
    fn worker(&self) -> Result<Prober> {
        Prober::start(self.lab.host(), &mut self.agent.tool("names", &[])?)
    }

    /// A prober that nothing holds.
    fn bare(&self) -> Result<Prober> {
        Prober::bare(self.lab.host(), &self.program)
    }
}

/// What a script measured.
fn numbers(answer: &Answer) -> Result<Vec<f64>> {
    ensure!(answer.ok, "{answer:?}");
    answer
        .values
        .iter()
        .map(|value| value.parse().with_context(|| value.clone()))
        .collect()
}

/// Who of so many has this turn of a round: who goes first changes from round to round.
fn whose(turn: usize, round: u64, subjects: usize) -> usize {
    let round = usize::try_from(round).unwrap_or_default();
    (turn + round) % subjects.max(1)
}
