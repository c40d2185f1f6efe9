//! The resolver beside dnsmasq and unbound: the same upstream, the same load, by turns.
//!
//! Two controls tell whether something else is measured: `reflector` sends each question back with an
//! address at once, which is all that the load and the loopback can do; `upstream` is the lab's name
//! server, asked without a resolver between.

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

/// What is measured of each.
struct Load {
    metric: &'static str,
    is_cached: bool,
    count: u64,
    window: u64,
    /// What bounds it from outside.
    control: &'static str,
}

const LOADS: &[Load] = &[
    Load {
        metric: "cached_answers",
        is_cached: true,
        count: CACHED,
        window: WINDOW,
        control: "reflector",
    },
    Load {
        metric: "cached_latency",
        is_cached: true,
        count: ALONE,
        window: 1,
        control: "reflector",
    },
    Load {
        metric: "uncached_answers",
        is_cached: false,
        count: UNCACHED,
        window: WINDOW,
        control: "upstream",
    },
    Load {
        metric: "uncached_latency",
        is_cached: false,
        count: ALONE / 4,
        window: 1,
        control: "upstream",
    },
];

/// Somebody who is asked.
struct Subject {
    name: &'static str,
    server: String,
    fenced: bool,
}

/// What the rounds of one subject gave.
#[derive(Default)]
struct Taken {
    rates: Vec<f64>,
    medians: Vec<f64>,
    p99s: Vec<f64>,
}

/// The rows of this part.
pub(crate) fn run() -> Result<Vec<Row>> {
    let scene = Scene::new()?;
    let (mut bare, mut fenced) = (scene.bare()?, scene.worker()?);
    let host = scene.lab.host();
    let folder = scene.agent.scratch().path();
    let peers = [Peer::dnsmasq(host, folder)?, Peer::unbound(host, folder)?];
    let reflector = Reflector::start(host)?;
    let of_peer = |peer: &Peer| Subject {
        name: peer.name,
        server: peer.address.to_string(),
        fenced: false,
    };
    let mut fresh = 0;
    let mut rows = Vec::new();
    for load in LOADS {
        eprintln!("bench: names resolver, {} …", load.metric);
        let server = match load.control {
            "reflector" => reflector.address().to_string(),
            _ => lab::dns::UPSTREAM.to_owned(),
        };
        let mut subjects = vec![Subject {
            name: "stockade",
            server: ANY_SERVER.to_owned(),
            fenced: true,
        }];
        subjects.extend(peers.iter().map(of_peer));
        subjects.push(Subject {
            name: load.control,
            server,
            fenced: false,
        });
        rows.extend(load.by_turns(&subjects, &mut bare, &mut fenced, &mut fresh)?);
    }
    Ok(rows)
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
                let [rate, median, p99] = self.once(subject, prober, fresh)?;
                if round > 0 {
                    taken.rates.push(rate);
                    taken.medians.push(median);
                    taken.p99s.push(p99);
                }
            }
        }
        let rows = subjects.iter().zip(all);
        Ok(rows
            .map(|(subject, taken)| self.row(subject.name, taken))
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
