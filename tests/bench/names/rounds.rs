//! From the answer to the grant: workers ask for a name and dial its address at once, over and over.
//! A refused dial is one that came before its permission.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lab::prober::Prober;

use super::{ANY_SERVER, Scene};
use crate::row::Row;

const DIALS: u64 = 100_000;
/// Fewer than the addresses that one session may hold.
const DIALS_EACH: u64 = 5_000;
/// Workers at once: more than processors, so that grants are written while others dial.
const AT_ONCE: u64 = 4;
/// Workers with the same names: one has them from upstream, the others from its flight or the cache.
const SHARING: u64 = 2;

/// An address of the bench's names that nobody was told of.
const UNTOLD: &str = "54.200.1.1:8443";

/// The rows of this part.
pub(crate) fn run() -> Result<Vec<Row>> {
    let scene = Scene::new()?;
    let mut control = scene.worker()?;
    let refused = control.ask(&format!("socket inet stream 0; connect {UNTOLD}"))?;
    ensure!(
        refused.errno() == "EPERM",
        "a dial without a grant is not refused: {refused:?}"
    );
    let (mut dialled, mut refused) = (0, 0);
    let began = Instant::now();
    for wave in 0..DIALS.div_ceil(DIALS_EACH * AT_ONCE) {
        let mut workers = Vec::new();
        for worker in 0..AT_ONCE {
            // Three digits first, so that no two numbers of names are written the same.
            let names = 100 + (wave * AT_ONCE + worker) / SHARING;
            let mut prober = scene.worker()?;
            prober.say(&format!(
                "rounds {ANY_SERVER} n{names}{{}}.bench.example 8443 {DIALS_EACH}"
            ))?;
            workers.push(prober);
        }
        for prober in workers {
            let (calls, failed) = heard(prober)?;
            dialled += calls;
            refused += failed;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    ensure!(dialled >= DIALS, "{dialled} dials only");
    #[expect(clippy::cast_precision_loss, reason = "counts of a bench")]
    let (refused, rate) = (refused as f64, dialled as f64 / seconds);
    let row = |metric, unit, value: f64| Row {
        n: dialled,
        ..Row::new("names", "stockade", metric, unit, &mut [value])
    };
    Ok(vec![
        row("dials_before_grant", "dials", refused),
        row("resolve_then_dial", "1/s", rate),
    ])
}

/// Dials and refusals of a worker that was told to begin.
fn heard(mut prober: Prober) -> Result<(u64, u64)> {
    let answer = prober.hear()?;
    ensure!(answer.ok, "{answer:?}");
    let status = prober.end().context("the worker's end")?;
    ensure!(status.success(), "the worker ended with {status}");
    Ok((answer.calls, answer.refused))
}
