//! Calls to a warm worker through each door, to the worker itself, and through other proxies, by turns.

use std::time::Duration;

use agent::broker::jose::Algorithm;
use anyhow::{Context as _, Result};

use super::{
    CONNECTIONS, Scene, block_on,
    callers::Door,
    control,
    load::{Connection, Pace, Turn, turn},
    peers::{self, Direct, Proxy},
    stages::{self, Stages},
};
use crate::{
    memory,
    row::{Row, summary},
};

/// How often each subject has its turn; the first is not counted.
const ROUNDS: usize = 6;
const TIME: Duration = Duration::from_secs(2);
/// Calls a second, over all connections, at which the time that a call takes is that of the call and
/// not of the calls before it.
const PACE: u32 = 1_000;
/// Questions of a connection for a turn at full speed: nobody asks all of them.
const QUESTIONS_OURS: usize = 900;
const QUESTIONS: usize = 8_000;
/// Connections that have a process started for each call.
const ONCE_CONNECTIONS: usize = 4;
const ONCE_QUESTIONS: usize = 2_000;

/// Who is asked.
enum Subject {
    Ours(Door, Algorithm),
    Direct,
    Proxy(Box<Proxy>),
    Missing(String),
}

/// What was seen of a subject.
struct Seen {
    name: &'static str,
    subject: Subject,
    rates: Vec<f64>,
    full: Vec<f64>,
    paced: Vec<f64>,
    /// At the even pace; of ours alone.
    stages: Stages,
}

/// The rows of this bench.
pub(crate) fn run() -> Result<Vec<Row>> {
    let mut scene = Scene::new()?;
    let folder = scene.agent.scratch().path().to_owned();
    let proxies = peers::start(scene.lab.host(), &folder, &scene.worker)?;
    let ours = [
        ("stockade", Door::Http, Algorithm::Es256),
        ("stockade-v1", Door::Plain, Algorithm::Es256),
        ("stockade-v1-eddsa", Door::Plain, Algorithm::EdDsa),
        ("stockade-lines", Door::Lines, Algorithm::Es256),
    ];
    let ours = ours.map(|(name, door, proofs)| (name, Subject::Ours(door, proofs)));
    let others = proxies.into_iter().map(|(name, proxy)| match proxy {
        Ok(proxy) => (name, Subject::Proxy(Box::new(proxy))),
        Err(why) => (name, Subject::Missing(why)),
    });
    let all = ours.into_iter().chain([("bare", Subject::Direct)]);
    let mut all: Vec<_> = all.chain(others).map(Seen::new).collect();
    for round in 0..ROUNDS {
        let subjects = all.len();
        for place in 0..subjects {
            // Whoever is first in one round is second in the next one.
            let who = (place + round) % subjects;
            if let Some(seen) = all.get_mut(who) {
                let outcome = seen.turns(&mut scene, round > 0);
                scene.told(outcome.with_context(|| seen.name))?;
            }
        }
    }
    let agent = scene.agent.id().context("a running agent")?;
    let mut peak = [memory::peak(agent)? / 1024.0];
    let mut rows: Vec<_> = all.iter_mut().flat_map(Seen::rows).collect();
    rows.extend(added(&mut all));
    rows.push(Row::new(
        "broker",
        "stockade",
        "agent_memory",
        "MiB",
        &mut peak,
    ));
    rows.extend(control::rows()?);
    let once = once(&mut scene);
    rows.extend(scene.told(once)?);
    Ok(rows)
}

impl Seen {
    fn new((name, subject): (&'static str, Subject)) -> Self {
        Self {
            name,
            subject,
            rates: Vec::new(),
            full: Vec::new(),
            paced: Vec::new(),
            stages: Stages::new(),
        }
    }

    /// One turn at full speed and one at an even pace.
    fn turns(&mut self, scene: &mut Scene, counted: bool) -> Result<()> {
        if let Subject::Missing(_) = self.subject {
            return Ok(());
        }
        let full = self.turn(scene, Pace::Full)?;
        let before = stages::read(scene.lab.host())?;
        let paced = self.turn(scene, Pace::PerSecond(PACE))?;
        let after = stages::read(scene.lab.host())?;
        if counted {
            if matches!(self.subject, Subject::Ours(..)) {
                stages::add(&mut self.stages, &before, &after);
            }
            eprintln!("bench: {} {:.0} calls/s", self.name, full.rate());
            self.rates.push(full.rate());
            self.full.extend(full.latencies);
            self.paced.extend(paced.latencies);
        }
        Ok(())
    }

    fn turn(&self, scene: &mut Scene, pace: Pace) -> Result<Turn> {
        let ask = |connections: Vec<Connection>| turn(connections, pace, TIME);
        let most = match pace {
            Pace::Full => QUESTIONS,
            Pace::PerSecond(_) => 2 * PACE as usize * 2 / CONNECTIONS,
        };
        match &self.subject {
            Subject::Ours(door, proofs) => {
                let callers = match proofs {
                    Algorithm::EdDsa => &mut scene.callers_eddsa,
                    Algorithm::Es256 | Algorithm::Rs256 | Algorithm::Ps256 => &mut scene.callers,
                };
                callers.renew()?;
                let most = most.min(QUESTIONS_OURS);
                let callers = &*callers;
                block_on(async {
                    ask(callers.connections(*door, "echo", CONNECTIONS, most)?).await
                })
            }
            Subject::Direct => block_on(async {
                let (_workers, connections) =
                    Direct::connections(&scene.worker, CONNECTIONS, most)?;
                ask(connections).await
            }),
            Subject::Proxy(proxy) => block_on(async {
                let all = proxy.connections(scene.lab.host(), CONNECTIONS, most);
                ask(all.await?).await
            }),
            Subject::Missing(_) => Ok(Turn::default()),
        }
    }

    fn rows(&mut self) -> Vec<Row> {
        if let Subject::Missing(why) = &self.subject {
            return vec![Row::missing(
                "broker",
                self.name,
                "calls",
                "1/s",
                why.clone(),
            )];
        }
        let mut rows = vec![
            Row::new("broker", self.name, "calls", "1/s", &mut self.rates),
            Row::new("broker", self.name, "full_speed", "µs", &mut self.full),
            Row::new("broker", self.name, "even_pace", "µs", &mut self.paced),
        ];
        rows.extend(stages::rows(self.name, &self.stages));
        rows
    }
}

/// What each adds to the worker's own time, at an even pace: of medians and of 99th percentiles.
fn added(all: &mut [Seen]) -> Vec<Row> {
    let bare = all.iter_mut().find(|seen| seen.name == "bare");
    let (middle, most) = bare.map_or((0.0, 0.0), |bare| summary(&mut bare.paced));
    let others = all
        .iter_mut()
        .filter(|seen| seen.name != "bare" && !seen.paced.is_empty());
    others
        .map(|seen| {
            let (own_middle, own_most) = summary(&mut seen.paced);
            Row {
                median: own_middle - middle,
                p99: own_most - most,
                ..Row::new("broker", seen.name, "added", "µs", &mut seen.paced)
            }
        })
        .collect()
}

/// A fenced process for each call: as fast as it goes with a few callers, and one after the other.
fn once(scene: &mut Scene) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (count, metric) in [(ONCE_CONNECTIONS, "json_calls"), (1, "json_call")] {
        scene.callers.renew()?;
        let mut seen = block_on(async {
            let callers = &scene.callers;
            let all = callers.connections(Door::Plain, "echo-once", count, ONCE_QUESTIONS)?;
            turn(all, Pace::Full, TIME).await
        })?;
        let row = if count > 1 {
            Row {
                n: seen.latencies.len() as u64,
                ..Row::new("broker", "stockade", metric, "1/s", &mut [seen.rate()])
            }
        } else {
            Row::new("broker", "stockade", metric, "µs", &mut seen.latencies)
        };
        rows.push(row);
    }
    Ok(rows)
}
