//! Names: the resolver beside dnsmasq and unbound with the same upstream and the same load, by turns
//! in one run; grants that are there before the answer; handshakes bare and fenced; memory.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lab::{
    Lab,
    agent::{self, Agent},
    binary::Scratch,
    dns::NameServer,
    prober::{Answer, Prober},
    server::Listener,
    tls::TlsServers,
};

use self::peers::Peer;
use crate::row::{Row, summary};

mod peers;

const LISTENERS: &[Listener] = &[Listener::Discard(8443)];
/// No limit of the agent is what is measured.
const CONFIGURATION: &str = "[dns]\nupstreams = [\"9.9.9.9:53\"]\nqueries_per_second = 100000\n\
                             burst = 100000\nwildcard_names_per_minute = 1000000\n\
                             wildcard_bytes_per_minute = 1000000\n";
const ROUNDS: u64 = 9;
/// Names that everybody has in its cache.
const CACHED_NAMES: u64 = 100;
const CACHED: u64 = 20_000;
const UNCACHED: u64 = 2_000;
const ALONE: u64 = 2_000;
/// Questions on the way at once where throughput is measured.
const WINDOW: u64 = 32;
const HANDSHAKES: u64 = 150;
const GRANT_ROUNDS: u64 = 100_000;
const GRANT_ROUNDS_EACH: u64 = 5_000;
/// Names and grants held at the end, and by how many sessions: no session may hold them all.
const HELD: u64 = 100_000;
const HOLDERS: u64 = 20;
const SETTLE: Duration = Duration::from_millis(500);

/// Reaches names of the bench, without a limit of its own.
pub(crate) const POLICY: &str = r#"
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
[filesystem]
read = ["/usr", "{scratch}"]
execute = ["{scratch}"]
"#;

/// Somebody who is asked.
struct Subject<'a> {
    name: &'static str,
    server: String,
    prober: &'a mut Prober,
}

/// What is measured of each: metric, unit, place of its value in the answer of `load`.
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

/// The rows of this bench.
pub(crate) fn run() -> Result<Vec<Row>> {
    let scratch = Scratch::new()?;
    let program = scratch.install("prober")?;
    scratch.write(agent::CONFIGURATION, CONFIGURATION)?;
    let lab = Lab::unrecorded(LISTENERS)?;
    let names = NameServer::start(lab.world())?;
    names.forget();
    let tls = TlsServers::start(lab.world(), scratch.path(), &[443], &["site.example"])?;
    let folder = scratch.path().to_owned();
    let agent = Agent::start_in(lab.host(), scratch, &[("names", POLICY)])?;
    let mut bare = Prober::bare(lab.host(), &program)?;
    let mut fenced = worker(&lab, &agent)?;
    let peers = [
        Peer::dnsmasq(lab.host(), &folder)?,
        Peer::unbound(lab.host(), &folder)?,
    ];
    let mut rows = resolvers(&peers, &mut bare, &mut fenced)?;
    eprintln!("bench: names, handshakes …");
    let authority = tls.authority().display().to_string();
    rows.extend(handshakes(&mut bare, &mut fenced, &authority)?);
    drop(fenced);
    eprintln!("bench: names, rounds …");
    rows.push(rounds(&lab, &agent)?);
    eprintln!("bench: names, memory …");
    rows.extend(memory(&lab, &agent)?);
    Ok(rows)
}

fn worker(lab: &Lab, agent: &Agent) -> Result<Prober> {
    Prober::start(lab.host(), &mut agent.tool("names", &[])?)
}

fn resolvers(peers: &[Peer; 2], bare: &mut Prober, fenced: &mut Prober) -> Result<Vec<Row>> {
    let mut fresh = 0;
    let mut rows = Vec::new();
    for load in LOADS {
        eprintln!("bench: names, {} …", load.metric);
        let mut taken: [(Vec<f64>, Vec<f64>); 3] = Default::default();
        for round in 0..=ROUNDS {
            for turn in 0..taken.len() {
                // Who goes first changes from round to round.
                let who = (turn + usize::try_from(round)?) % taken.len();
                let mut subject = subject(who, peers, bare, fenced);
                let first = if load.is_cached { 0 } else { fresh };
                let values = load.run(&mut subject, first)?;
                if !load.is_cached {
                    fresh += load.count;
                }
                // The first round fills the caches.
                if round > 0
                    && let Some((medians, p99s)) = taken.get_mut(who)
                {
                    medians.push(if load.window == 1 {
                        values[1]
                    } else {
                        values[0]
                    });
                    p99s.push(values[2]);
                }
            }
        }
        for (name, (mut medians, mut p99s)) in NAMES.into_iter().zip(taken) {
            let is_latency = load.window == 1;
            let unit = if is_latency { "µs" } else { "1/s" };
            let row = Row::new("names", name, load.metric, unit, &mut medians);
            let p99 = if is_latency {
                summary(&mut p99s).0
            } else {
                row.p99
            };
            rows.push(Row {
                p99,
                n: load.count * ROUNDS,
                ..row
            });
        }
    }
    Ok(rows)
}

const NAMES: [&str; 3] = ["stockade", "dnsmasq", "unbound"];

fn subject<'a>(
    who: usize,
    peers: &[Peer; 2],
    bare: &'a mut Prober,
    fenced: &'a mut Prober,
) -> Subject<'a> {
    let peer = who.checked_sub(1).and_then(|place| peers.get(place));
    match peer {
        Some(peer) => Subject {
            name: peer.name,
            server: peer.address.to_string(),
            prober: bare,
        },
        None => Subject {
            name: "stockade",
            // Whatever server a worker asks, the agent answers.
            server: "8.8.8.8:53".to_owned(),
            prober: fenced,
        },
    }
}

impl Load {
    /// Answers a second, median and 99th percentile of the latency.
    fn run(&self, subject: &mut Subject<'_>, first: u64) -> Result<[f64; 3]> {
        let Self { count, window, .. } = self;
        let names = if self.is_cached { CACHED_NAMES } else { *count };
        let script = format!(
            "load {} s{{}}.bench.example {first} {names} {count} {window}",
            subject.server
        );
        let answer = subject.prober.ask(&script)?;
        let values = numbers(&answer).with_context(|| subject.name)?;
        let [rate, median, p99, failed] = values.as_slice() else {
            anyhow::bail!("{}: {answer:?}", subject.name);
        };
        ensure!(*failed == 0.0, "{}: {failed} without address", subject.name);
        Ok([*rate, *median, *p99])
    }
}

fn numbers(answer: &Answer) -> Result<Vec<f64>> {
    ensure!(answer.ok, "{answer:?}");
    answer
        .values
        .iter()
        .map(|value| value.parse().with_context(|| value.clone()))
        .collect()
}

fn handshakes(bare: &mut Prober, fenced: &mut Prober, authority: &str) -> Result<Vec<Row>> {
    let resolved = fenced.ask("ask udp 8.8.8.8:53 site.example A")?;
    ensure!(resolved.values.len() == 2, "{resolved:?}");
    let script = format!("handshakes 93.184.216.34:443 site.example {authority} {HANDSHAKES}");
    let mut taken: [(Vec<f64>, Vec<f64>); 2] = Default::default();
    for round in 0..=ROUNDS {
        for turn in 0..2 {
            let who = (turn + usize::try_from(round)?) % 2;
            let prober = if who == 0 { &mut *bare } else { &mut *fenced };
            let values = numbers(&prober.ask(&script)?)?;
            let [rate, median, _p99] = values.as_slice() else {
                anyhow::bail!("three values: {values:?}");
            };
            if round > 0
                && let Some((rates, medians)) = taken.get_mut(who)
            {
                rates.push(*rate);
                medians.push(*median);
            }
        }
    }
    let subjects = ["bare", "stockade"].into_iter().zip(taken);
    Ok(subjects
        .flat_map(|(subject, (mut rates, mut medians))| {
            let n = HANDSHAKES * ROUNDS;
            [
                Row {
                    n,
                    ..Row::new("names", subject, "tls_handshakes", "1/s", &mut rates)
                },
                Row {
                    n,
                    ..Row::new("names", subject, "tls_handshake", "µs", &mut medians)
                },
            ]
        })
        .collect())
}

/// Resolves and dials at once, over and over: how often a dial came before its permission.
fn rounds(lab: &Lab, agent: &Agent) -> Result<Row> {
    let (mut dialled, mut refused) = (0, 0);
    while dialled < GRANT_ROUNDS {
        // Each worker resolves names that it has no grant for yet.
        let mut prober = worker(lab, agent)?;
        let script = format!("rounds 8.8.8.8:53 n{{}}.bench.example 8443 {GRANT_ROUNDS_EACH}");
        let answer = prober.ask(&script)?;
        ensure!(answer.ok, "{answer:?}");
        dialled += answer.calls;
        refused += answer.refused;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of refusals")]
    let refused = refused as f64;
    Ok(Row {
        n: dialled,
        ..Row::new(
            "names",
            "stockade",
            "dials_before_grant",
            "dials",
            &mut [refused],
        )
    })
}

/// What the agent's resident memory grows by when sessions hold many names and grants.
fn memory(lab: &Lab, agent: &Agent) -> Result<Vec<Row>> {
    let process = agent.id().context("a running agent")?;
    let before = resident(process)?;
    let mut holders = Vec::new();
    let each = HELD / HOLDERS;
    for number in 0..HOLDERS {
        let mut prober = worker(lab, agent)?;
        let first = 1_000_000 + number * each;
        let script = format!("load 8.8.8.8:53 n{{}}.bench.example {first} {each} {each} {WINDOW}");
        let values = numbers(&prober.ask(&script)?)?;
        ensure!(values.get(3) == Some(&0.0), "without address: {values:?}");
        holders.push(prober);
    }
    std::thread::sleep(SETTLE);
    let after = resident(process)?;
    drop(holders);
    #[expect(clippy::cast_precision_loss, reason = "a count of names")]
    let held = HELD as f64;
    Ok(vec![
        Row {
            n: HELD,
            ..Row::new(
                "names",
                "stockade",
                "agent_with_100000_names",
                "MiB",
                &mut [after / 1024.0],
            )
        },
        Row {
            n: HELD,
            ..Row::new(
                "names",
                "stockade",
                "memory_per_name_and_grant",
                "B",
                &mut [(after - before) * 1024.0 / held],
            )
        },
    ])
}

/// Resident memory of a process, KiB.
fn resident(process: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.context("VmRSS")?.trim().trim_end_matches(" kB");
    Ok(words.parse()?)
}
