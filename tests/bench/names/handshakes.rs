//! TLS handshakes across the wire, bare and fenced by turns: the fence reads each first packet.

use anyhow::{Result, ensure};
use lab::tls::TlsServers;

use super::{ANY_SERVER, ROUNDS, Scene, numbers, whose};
use crate::row::{Row, summary};

const HANDSHAKES: u64 = 150;

/// The rows of this part.
pub(crate) fn run() -> Result<Vec<Row>> {
    let scene = Scene::new()?;
    let folder = scene.agent.scratch().path();
    let servers = TlsServers::start(scene.lab.world(), folder, &[443], &["site.example"])?;
    let mut probers = [("bare", scene.bare()?), ("stockade", scene.worker()?)];
    if let Some((_, fenced)) = probers.last_mut() {
        let resolved = fenced.ask(&format!("ask udp {ANY_SERVER} site.example A"))?;
        ensure!(resolved.values.len() == 2, "{resolved:?}");
    }
    let script = format!(
        "handshakes 93.184.216.34:443 site.example {} {HANDSHAKES}",
        servers.authority().display()
    );
    let mut taken: [(Vec<f64>, Vec<f64>, Vec<f64>); 2] = Default::default();
    for round in 0..=ROUNDS {
        for turn in 0..probers.len() {
            let who = whose(turn, round, probers.len());
            let (Some((_, prober)), Some((rates, medians, p99s))) =
                (probers.get_mut(who), taken.get_mut(who))
            else {
                continue;
            };
            let values = numbers(&prober.ask(&script)?)?;
            let [rate, median, p99] = values.as_slice() else {
                anyhow::bail!("three values: {values:?}");
            };
            if round > 0 {
                rates.push(*rate);
                medians.push(*median);
                p99s.push(*p99);
            }
        }
    }
    let n = HANDSHAKES * ROUNDS;
    let subjects = probers.iter().map(|(name, _)| *name).zip(taken);
    Ok(subjects
        .flat_map(|(subject, (mut rates, mut medians, mut p99s))| {
            let rate = Row::new("names", subject, "tls_handshakes", "1/s", &mut rates);
            let each = Row::new("names", subject, "tls_handshake", "µs", &mut medians);
            let (p99, _) = summary(&mut p99s);
            [Row { n, ..rate }, Row { p99, n, ..each }]
        })
        .collect())
}
