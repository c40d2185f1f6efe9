//! What one check of a proof's signature takes on this machine in this hour, by itself: what no call with a
//! proof of its own can do without, and a measure for the machine.

use std::{hint::black_box, time::Instant};

use agent::broker::jose::{Compact, KeyPair};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, json};

use crate::row::Row;

const CHECKS: usize = 500;
const BYTES_MAX: usize = 4_096;

/// A row for each algorithm.
pub(super) fn rows() -> Result<[Row; 2]> {
    Ok([
        row("es256", &KeyPair::p256()?)?,
        row("eddsa", &KeyPair::ed25519()?)?,
    ])
}

fn row(subject: &'static str, pair: &KeyPair) -> Result<Row> {
    let text = pair.sign(Map::new(), &json!({"jti": "some claims"}))?;
    let signed = Compact::read(&text, BYTES_MAX).context("own text")?;
    let mut took = Vec::with_capacity(CHECKS);
    for _ in 0..CHECKS {
        let began = Instant::now();
        ensure!(
            black_box(pair.public().has_signed(&signed)),
            "own signature"
        );
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Row::new(
        "broker",
        subject,
        "signature_check",
        "µs",
        &mut took,
    ))
}
