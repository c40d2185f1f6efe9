//! `doctor --probe`: a throw-away fence on this host, a worker in it that tries every way out, and a
//! tap outside that tells what came through. It dials nothing beyond its own namespaces.

use std::{
    collections::HashSet,
    env,
    io::{BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{fcntl::OFlag, unistd::pipe2};
use serde::Serialize;

use super::{
    worker::{ALLOWED, Attempt, BLOCK_V4, DIAL_TIME, PORT},
    world::World,
};
use crate::{
    audit::End,
    cli::{
        Failure,
        run::{run_alone, this_process},
        terminal::table,
    },
    daemon::{CommandLine, Counter, Order},
    exit::Code,
    policy,
};

/// Answers that say that the kernel let the attempt go on its way.
const LET_THROUGH: &[&str] = &["no error", "EINPROGRESS", "ECONNREFUSED"];

/// One row of the table.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    tried: String,
    came_back: String,
    arrived_outside: Option<bool>,
    verdict: Verdict,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// As it must be: refused.
    Refused,
    /// As it must be: the policy allows it, and it went out.
    Allowed,
    /// Not as it must be.
    Wrong,
}

/// Runs the probe. Must be called before the process has a second thread.
pub(super) fn probe() -> Result<Vec<Row>, Failure> {
    let world = World::enter().map_err(|error| Failure::new(Code::Unavailable, &error))?;
    let attempts = in_fence()?;
    let addresses: Vec<IpAddr> = attempts.iter().filter_map(|attempt| attempt.to).collect();
    let reached = world.reached(&addresses);
    Ok(attempts
        .into_iter()
        .map(|attempt| row(attempt, &reached))
        .collect())
}

/// The table for people, and the exit code.
pub(super) fn page(rows: &[Row]) -> String {
    let cells: Vec<_> = rows.iter().map(Row::cells).collect();
    table(
        &["tried", "what came back", "arrived outside", "verdict"],
        &cells,
    )
}

/// Whether every row is as it must be.
pub(super) fn is_tight(rows: &[Row]) -> bool {
    !rows.is_empty() && rows.iter().all(|row| row.verdict != Verdict::Wrong)
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let arrived = match self.arrived_outside {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        let verdict = match self.verdict {
            Verdict::Refused => "refused",
            Verdict::Allowed => "allowed, as the policy says",
            Verdict::Wrong => "WRONG",
        };
        vec![
            self.tried.clone(),
            self.came_back.clone(),
            arrived.to_owned(),
            verdict.to_owned(),
        ]
    }
}

fn row(attempt: Attempt, reached: &HashSet<IpAddr>) -> Row {
    let arrived = attempt.to.map(|address| reached.contains(&address));
    let passed = match arrived {
        Some(arrived) => arrived,
        None => LET_THROUGH.contains(&attempt.answer.as_str()),
    };
    let verdict = match (attempt.allowed, passed) {
        (true, true) => Verdict::Allowed,
        (false, false) => Verdict::Refused,
        (true, false) | (false, true) => Verdict::Wrong,
    };
    Row {
        tried: attempt.what,
        came_back: attempt.answer,
        arrived_outside: arrived,
        verdict,
    }
}

/// Runs the worker in a fence of its own and gives what it said.
fn in_fence() -> Result<Vec<Attempt>, Failure> {
    let program = env::current_exe()?;
    let text = policy_text(program.parent().unwrap_or(Path::new("/")));
    let policy = policy::compile("probe.toml", &text);
    let policy = policy.map_err(|error| Failure::said(Code::Software, error.to_string()))?;
    let (output, input) = pipe2(OFlag::O_CLOEXEC).map_err(std::io::Error::from)?;
    let (errors, errors_in) = pipe2(OFlag::O_CLOEXEC).map_err(std::io::Error::from)?;
    let reader = read_attempts(output);
    let complaints = thread::spawn(move || {
        let mut text = String::new();
        // What can not be read is not worth a failure: it only explains one.
        drop(
            std::fs::File::from(errors)
                .take(4_096)
                .read_to_string(&mut text),
        );
        text
    });
    let order = Order {
        tool: "probe".to_owned(),
        command: CommandLine::Given(vec![
            program.display().to_string(),
            super::WORKER_VERB.to_owned(),
        ]),
        stdio: [std::fs::File::open("/dev/null")?.into(), input, errors_in],
        caller: this_process(),
        under: None,
        counter: Counter::Nobody,
    };
    let finished = run_alone(Arc::new(policy), None, order)?;
    let attempts = reader.join().unwrap_or_default();
    let complaints = complaints.join().unwrap_or_default();
    if finished.end == End::Exit(0) {
        return Ok(attempts);
    }
    let message = format!(
        "probe: worker ended with {:?}: {}",
        finished.end,
        complaints.trim()
    );
    Err(Failure::said(Code::Software, message))
}

/// Reads what the worker says, and dials it when it listens.
fn read_attempts(output: OwnedFd) -> JoinHandle<Vec<Attempt>> {
    thread::spawn(move || {
        let mut attempts = Vec::new();
        for line in BufReader::new(std::fs::File::from(output)).lines() {
            let attempt = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            let Some(attempt): Option<Attempt> = attempt else {
                continue;
            };
            match attempt.listens {
                Some(port) => dial(port),
                None => attempts.push(attempt),
            }
        }
        attempts
    })
}

fn dial(port: u16) {
    let worker = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let time: Duration = DIAL_TIME / 2;
    // The worker tells whether somebody came.
    drop(TcpStream::connect_timeout(&worker, time));
}

/// A policy that allows one address of the block and nothing else.
fn policy_text(binaries: &Path) -> String {
    let [a, b, c] = BLOCK_V4;
    let binaries = toml::Value::from(binaries.to_string_lossy().into_owned());
    format!(
        "version = 1\n\
         tool = \"probe\"\n\
         description = \"A throw-away fence that tries every way out\"\n\
         [worker]\n\
         protocol = \"exec\"\n\
         wall_timeout = \"30s\"\n\
         [[egress.allow]]\n\
         cidr = \"{a}.{b}.{c}.{ALLOWED}/32\"\n\
         ports = [{PORT}]\n\
         [[egress.allow]]\n\
         cidr = \"{a}.{b}.{c}.{ALLOWED}/32\"\n\
         protocol = \"udp\"\n\
         ports = [{PORT}]\n\
         [filesystem]\n\
         read = [\"/usr\"]\n\
         execute = [\"/usr\", {binaries}]\n"
    )
}
