//! The resolver beside dnsmasq and unbound: the same upstream, the same load, by turns.
//!
//! A worker pays for its fence with every packet. So the peers are asked twice: from inside a fence of
//! the same policy, on ports that it opens, which compares like with like (`dnsmasq`, `unbound`); and
//! by the same program without a fence (`dnsmasq-bare`, `unbound-bare`).
//!
//! Two controls tell whether something else is measured: `reflector` sends each question back with an
//! address at once, one a system call, so that who takes batches can be faster; `upstream` is the
//! lab's name server, asked without a resolver between, which a fenced program can not do.

use std::{fs, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use lab::prober::Prober;

use super::{ANY_SERVER, ROUNDS, Scene, numbers, peers::Peer, reflector::Reflector, whose};
use crate::row::{Row, summary};

/// Names that everybody has in its cache.
const CACHED_NAMES: u64 = 100;
const CACHED: u64 = 20_000;
const UNCACHED: u64 = 2_000;
const ALONE: u64 = 2_000;
/// Questions on the way at once where throughput is measured.
const WINDOW: u64 = 32;
/// Processor time is told in these (`USER_HZ`, proc(5)), microseconds.
const TICK_US: f64 = 10_000.0;

/// What is measured of each.
struct Load {
    metric: &'static str,
    is_cached: bool,
    count: u64,
    window: u64,
}

const LOADS: &[Load] = &[
    Load {
        metric: "cached_answers",
        is_cached: true,
        count: CACHED,
        window: WINDOW,
    },
    Load {
        metric: "cached_latency",
        is_cached: true,
        count: ALONE,
        window: 1,
    },
    Load {
        metric: "uncached_answers",
        is_cached: false,
        count: UNCACHED,
        window: WINDOW,
    },
    Load {
        metric: "uncached_latency",
        is_cached: false,
        count: ALONE / 4,
        window: 1,
    },
];

/// Somebody who is asked.
struct Subject {
    name: &'static str,
    server: String,
    fenced: bool,
    /// Whose processor time is measured.
    process: Option<u32>,
}

/// What the rounds of one subject gave.
#[derive(Default)]
struct Taken {
    rates: Vec<f64>,
    medians: Vec<f64>,
    p99s: Vec<f64>,
    /// Processor time of all rounds, microseconds.
    busy_us: f64,
}

/// The rows of this part.
pub(crate) fn run() -> Result<Vec<Row>> {
    let scene = Scene::new()?;
    let (mut bare, mut fenced) = (scene.bare()?, scene.worker()?);
    let host = scene.lab.host();
    let folder = scene.agent.scratch().path();
    let peers = [Peer::dnsmasq(host, folder)?, Peer::unbound(host, folder)?];
    let reflector = Reflector::start(host)?;
    let mut fresh = 0;
    let mut rows = Vec::new();
    for load in LOADS {
        eprintln!("bench: names resolver, {} …", load.metric);
        let mut subjects = vec![Subject {
            name: "stockade",
            server: ANY_SERVER.to_owned(),
            fenced: true,
            process: scene.agent.id(),
        }];
        for peer in &peers {
            subjects.extend(Subject::both(
                peer.names,
                &peer.address,
                Some(peer.process()),
            ));
        }
        if load.is_cached {
            let names = ["reflector", "reflector-bare"];
            subjects.extend(Subject::both(names, &reflector.address(), None));
        } else {
            subjects.push(Subject {
                name: "upstream",
                server: lab::dns::UPSTREAM.to_owned(),
                fenced: false,
                process: None,
            });
        }
        rows.extend(load.by_turns(&subjects, &mut bare, &mut fenced, &mut fresh)?);
    }
    Ok(rows)
}

impl Subject {
    /// The same server asked from inside a fence and without one.
    fn both(
        [fenced, bare]: [&'static str; 2],
        server: &SocketAddr,
        process: Option<u32>,
    ) -> [Self; 2] {
        [(fenced, true), (bare, false)].map(|(name, fenced)| Self {
            name,
            server: server.to_string(),
            fenced,
            process,
        })
    }

    /// Processor time of its process so far, microseconds.
    fn busy_us(&self) -> Result<f64> {
        let Some(process) = self.process else {
            return Ok(0.0);
        };
        let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name, in parentheses, may hold anything.
        let (_, fields) = text.rsplit_once(')').context("a line of proc(5)")?;
        let mut times = fields.split_whitespace().skip(11).take(2);
        times.try_fold(0.0, |sum, ticks| Ok(sum + ticks.parse::<f64>()? * TICK_US))
    }
}

impl Load {
    fn by_turns(
        &self,
        subjects: &[Subject],
        bare: &mut Prober,
        fenced: &mut Prober,
        fresh: &mut u64,
    ) -> Result<Vec<Row>> {
        let mut all: Vec<Taken> = subjects.iter().map(|_| Taken::default()).collect();
        for round in 0..=ROUNDS {
            for turn in 0..subjects.len() {
                let who = whose(turn, round, subjects.len());
                let (Some(subject), Some(taken)) = (subjects.get(who), all.get_mut(who)) else {
                    continue;
                };
                let prober = if subject.fenced {
                    &mut *fenced
                } else {
                    &mut *bare
                };
                let before = subject.busy_us()?;
                let [rate, median, p99] = self.once(subject, prober, fresh)?;
                if round > 0 {
                    taken.busy_us += subject.busy_us()? - before;
                    taken.rates.push(rate);
                    taken.medians.push(median);
                    taken.p99s.push(p99);
                }
            }
        }
        let rows = subjects.iter().zip(all);
        Ok(rows
            .flat_map(|(subject, taken)| {
                let busy = self.busy(subject, &taken);
                std::iter::once(self.row(subject.name, taken)).chain(busy)
            })
            .collect())
    }

    /// Answers a second, median and 99th percentile of the latency.
    fn once(&self, subject: &Subject, prober: &mut Prober, fresh: &mut u64) -> Result<[f64; 3]> {
        let Self { count, window, .. } = self;
        // Nobody is ever asked twice for a name that is not meant to be cached.
        let (first, names) = if self.is_cached {
            (0, CACHED_NAMES)
        } else {
            *fresh += count;
            (*fresh - count, *count)
        };
        let script = format!(
            "load {} s{{}}.bench.example {first} {names} {count} {window}",
            subject.server
        );
        let answer = prober.ask(&script)?;
        let values = numbers(&answer).with_context(|| subject.name)?;
        let [rate, median, p99, failed] = values.as_slice() else {
            anyhow::bail!("{}: {answer:?}", subject.name);
        };
        ensure!(*failed == 0.0, "{}: {failed} without address", subject.name);
        Ok([*rate, *median, *p99])
    }

    /// Processor time of an answer, over all rounds.
    fn busy(&self, subject: &Subject, taken: &Taken) -> Option<Row> {
        if self.window == 1 || !self.is_cached || subject.process.is_none() {
            return None;
        }
        let n = self.count * ROUNDS;
        #[expect(clippy::cast_precision_loss, reason = "a count of a bench")]
        let each = taken.busy_us / n as f64;
        let row = Row::new(
            "names",
            subject.name,
            "cached_processor_time",
            "µs",
            &mut [each],
        );
        Some(Row { n, ..row })
    }

    fn row(&self, subject: &'static str, mut taken: Taken) -> Row {
        let n = self.count * ROUNDS;
        if self.window > 1 {
            let row = Row::new("names", subject, self.metric, "1/s", &mut taken.rates);
            return Row { n, ..row };
        }
        let row = Row::new("names", subject, self.metric, "µs", &mut taken.medians);
        // The middle round's, not the worst round's: one disturbed turn says nothing of a subject.
        let (p99, _) = summary(&mut taken.p99s);
        Row { p99, n, ..row }
    }
}
