//! Connects, sends and bulk transfer across the veth pair, bare and inside the whole fence by turns.

use std::{fmt::Write as _, process::Command};

use anyhow::{Context as _, Result, ensure};
use lab::{
    Lab,
    binary::{self, Scratch},
    prober::Prober,
    server::Listener,
};

use crate::row::Row;

const LISTENERS: &[Listener] = &[
    Listener::Discard(443),
    Listener::Sink(9),
    Listener::UdpSink(9000),
];
const TARGET: &str = "93.184.216.34";
pub(crate) const RULES: [usize; 3] = [10, 10_000, 100_000];
const ROUNDS: usize = 25;
const BULK_ROUNDS: usize = 7;

/// A kind of call: metric, step of the prober, calls a round.
const CALLS: [(&str, &str); 3] = [
    ("tcp_connect", "measure tcp 93.184.216.34:443 200"),
    (
        "udp_send_connected",
        "measure connected 93.184.216.34:9000 20000",
    ),
    (
        "udp_send_unconnected",
        "measure udp 93.184.216.34:9000 20000",
    ),
];

/// The rows of this bench.
pub(crate) fn run() -> Result<Vec<Row>> {
    let lab = Lab::unrecorded(LISTENERS)?;
    let scratch = Scratch::new()?;
    let program = scratch.install("prober")?;
    let mut rows = Vec::new();
    for rules in RULES {
        eprintln!("bench: network, {rules} rules …");
        let file = scratch.write("bench.toml", &policy(&scratch, rules))?;
        let mut bare = Prober::bare(lab.host(), &program)?;
        let mut command = Command::new(binary::stockade()?);
        command
            .args(["run", "--policy"])
            .arg(file)
            .arg("--")
            .arg(&program);
        let mut fenced = Prober::start(lab.host(), &mut command)?;
        for (metric, step) in CALLS {
            rows.extend(calls(&mut bare, &mut fenced, metric, step, rules)?);
        }
        rows.extend(bulk(&mut bare, &mut fenced, rules)?);
        // By its end, not by a kill: only so does the run remove its instance.
        let status = fenced.end()?;
        ensure!(status.success(), "the fenced run ended with {status}");
    }
    Ok(rows)
}

/// Half the rules name single addresses, half name prefixes; the target is one of the addresses.
pub(crate) fn policy(scratch: &Scratch, rules: usize) -> String {
    let mut text = format!(
        "version = 1\ntool = \"bench\"\ndescription = \"What is measured\"\n\
         [worker]\ncommand = [\"{0}/prober\"]\nprotocol = \"exec\"\n\
         [filesystem]\nread = [\"/usr\"]\nexecute = [\"{0}\"]\n",
        scratch.path().display()
    );
    let mut rule = |cidr: &str, protocol: &str, ports: &str| {
        // Writing to a string can not fail.
        write!(
            text,
            "[[egress.allow]]\ncidr = \"{cidr}\"\nprotocol = \"{protocol}\"\nports = [{ports}]\n"
        )
        .ok();
    };
    rule(&format!("{TARGET}/32"), "tcp", "9, 443");
    rule(&format!("{TARGET}/32"), "udp", "9000");
    for number in 2..rules {
        let (high, low) = (number / 256 % 256, number % 256);
        if number % 2 == 0 {
            let block = 20 + number / 65_536;
            rule(&format!("{block}.{high}.{low}.77/32"), "tcp", "443");
        } else {
            let block = 50 + number / 65_536;
            rule(&format!("{block}.{high}.{low}.0/25"), "tcp", "443");
        }
    }
    text
}

fn calls(
    bare: &mut Prober,
    fenced: &mut Prober,
    metric: &str,
    step: &str,
    rules: usize,
) -> Result<Vec<Row>> {
    let mut samples = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    let mut taken = 0.0;
    for round in 0..ROUNDS {
        let mut subjects = [&mut *bare, &mut *fenced];
        // Who goes first changes, so that neither always meets the warmer caches.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for who in order {
            let (Some(prober), Some((medians, p99s))) =
                (subjects.get_mut(who), samples.get_mut(who))
            else {
                continue;
            };
            let values = measured(prober, step)?;
            let [median, p99, count] = values.as_slice() else {
                anyhow::bail!("three values: {values:?}");
            };
            medians.push(*median);
            p99s.push(*p99);
            taken += if who == 0 { *count } else { 0.0 };
        }
    }
    let [bare, fenced] = samples;
    Ok([("bare", bare), ("stockade", fenced)]
        .into_iter()
        .map(|(subject, (mut medians, mut p99s))| Row {
            n: count(taken),
            p99: crate::row::summary(&mut p99s).0,
            ..Row::new(
                "network",
                subject,
                format!("{metric}_{rules}_rules"),
                "ns",
                &mut medians,
            )
        })
        .collect())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a sum of counts"
)]
fn count(taken: f64) -> u64 {
    taken as u64
}

fn bulk(bare: &mut Prober, fenced: &mut Prober, rules: usize) -> Result<Vec<Row>> {
    let step = format!("measure bulk {TARGET}:9 1000");
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..BULK_ROUNDS {
        for (prober, rates) in [(&mut *bare, &mut without), (&mut *fenced, &mut with)] {
            let values = measured(prober, &step)?;
            let rate = values.first().context("a rate")?;
            rates.push(rate / f64::from(1 << 20));
        }
    }
    Ok([("bare", without), ("stockade", with)]
        .into_iter()
        .map(|(subject, mut rates)| {
            Row::new(
                "network",
                subject,
                format!("bulk_tcp_{rules}_rules"),
                "MiB/s",
                &mut rates,
            )
        })
        .collect())
}

fn measured(prober: &mut Prober, step: &str) -> Result<Vec<f64>> {
    let answer = prober.ask(step)?;
    ensure!(answer.ok, "{step}: {answer:?}");
    answer
        .values
        .iter()
        .map(|value| value.parse().with_context(|| value.clone()))
        .collect()
}
