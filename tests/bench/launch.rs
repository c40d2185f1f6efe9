//! From the request to the worker's first instruction, beside peers, by turns; and launches a second.

use std::{
    io::{BufRead as _, BufReader, IoSlice, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use lab::{
    Lab,
    agent::Agent,
    binary::{self, Scratch},
};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::{
    peers::{Peer, peers},
    row::Row,
};

const WARM: usize = 20;
const ROUNDS: usize = 300;
const SLOW_ROUNDS: usize = 60;
const SUSTAINED: Duration = Duration::from_secs(5);
const CALLERS: usize = 4;
/// The metric that launches are about.
const FIRST: &str = "to_first_instruction";

/// The policy of the tool that is launched.
pub(crate) const POLICY: &str = r#"
version = 1
tool = "stamp"
description = "Says when it was started"
[worker]
command = ["{scratch}/prober"]
protocol = "exec"
[[egress.allow]]
cidr = "93.184.216.34/32"
ports = [443]
[filesystem]
read = ["/usr"]
execute = ["{scratch}"]
"#;

/// The rows of this bench.
pub(crate) fn run() -> Result<Vec<Row>> {
    let lab = Lab::unrecorded(&[])?;
    let scratch = Scratch::new()?;
    // Everybody starts the same program, and it asks for no library.
    let program = scratch.path().join("stamp");
    std::fs::copy(binary::built("stamp-static")?, &program)
        .context("the program to start; hint: cargo xtask bench")?;
    let peers = peers(lab.host(), &scratch, &program)?;
    let policy = POLICY.replace("/prober", "/stamp");
    let agent = Agent::start_in(lab.host(), scratch, &[("stamp", &policy)])?;
    let socket = agent.control_socket();
    let mut own = Launches::default();
    let mut others: Vec<Launches> = peers.iter().map(|_| Launches::default()).collect();
    for round in 0..ROUNDS + WARM {
        let (first, whole) = through_the_agent(&socket)?;
        if round >= WARM {
            own.first.push(first);
            own.whole.push(whole);
        }
        // Peers take milliseconds each: fewer of them keep the run short.
        if round % (ROUNDS / SLOW_ROUNDS) == 0 {
            for (peer, launches) in peers.iter().zip(&mut others) {
                if peer.missing.is_none() {
                    let (first, whole) = by_peer(&lab, peer)?;
                    launches.first.push(first);
                    launches.whole.push(whole);
                }
            }
        }
    }
    let mut rows = own.rows("stockade");
    for (peer, launches) in peers.iter().zip(others) {
        match &peer.missing {
            None => rows.extend(launches.rows(peer.name)),
            Some(why) => rows.push(Row::missing("launch", peer.name, FIRST, "µs", why.clone())),
        }
    }
    rows.push(sustained("stockade", || {
        through_the_agent(&socket).map(drop)
    })?);
    for peer in peers.iter().filter(|peer| peer.missing.is_none()) {
        rows.push(sustained(peer.name, || by_peer(&lab, peer).map(drop))?);
    }
    Ok(rows)
}

/// Microseconds of each launch.
#[derive(Default)]
struct Launches {
    /// To the program's first instruction.
    first: Vec<f64>,
    /// To its reported end.
    whole: Vec<f64>,
}

impl Launches {
    fn rows(mut self, subject: &'static str) -> Vec<Row> {
        vec![
            Row::new("launch", subject, FIRST, "µs", &mut self.first),
            Row::new("launch", subject, "whole_session", "µs", &mut self.whole),
        ]
    }
}

fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

fn since(asked: Duration, stamp: &str) -> Result<f64> {
    let stamp: u64 = stamp.trim().parse().with_context(|| stamp.to_owned())?;
    let elapsed = Duration::from_nanos(stamp).saturating_sub(asked);
    Ok(elapsed.as_secs_f64() * 1e6)
}

/// Microseconds from the request to the worker's first instruction, and to its reported end.
fn through_the_agent(socket: &Path) -> Result<(f64, f64)> {
    let (mut reader, writer) = std::io::pipe()?;
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    let asked = now()?;
    let stream = UnixStream::connect(socket)?;
    let request = "{\"request\":\"run\",\"tool\":\"stamp\",\"arguments\":[\"stamp\"]}\n";
    let fds = [null.as_raw_fd(), writer.as_raw_fd(), null.as_raw_fd()];
    sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(request.as_bytes())],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::empty(),
        None,
    )?;
    drop(OwnedFd::from(writer));
    let mut stamp = String::new();
    reader.read_to_string(&mut stamp)?;
    let mut last = String::new();
    for line in BufReader::new(&stream).lines() {
        last = line?;
        if !last.contains("\"started\"") {
            break;
        }
    }
    ensure!(last.contains("\"ended\""), "the agent says {last}");
    let whole = now()?.saturating_sub(asked);
    Ok((since(asked, &stamp)?, whole.as_secs_f64() * 1e6))
}

fn by_peer(lab: &Lab, peer: &Peer) -> Result<(f64, f64)> {
    let launched = peer.launch(lab.host()).context(peer.name)?;
    let asked = launched.asked.duration_since(UNIX_EPOCH)?;
    let first = Duration::from_nanos(launched.stamp).saturating_sub(asked);
    let whole = launched.ended.duration_since(launched.asked)?;
    Ok((first.as_secs_f64() * 1e6, whole.as_secs_f64() * 1e6))
}

/// Launches a second with several callers at once.
fn sustained(subject: &'static str, launch: impl Fn() -> Result<()> + Sync) -> Result<Row> {
    let began = Instant::now();
    let counts: Vec<Result<u64>> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while began.elapsed() < SUSTAINED {
                        launch()?;
                        count += 1;
                    }
                    Ok(count)
                })
            })
            .collect();
        callers
            .into_iter()
            .map(|caller| {
                caller
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    let count: u64 = counts.into_iter().sum::<Result<u64>>()?;
    #[expect(clippy::cast_precision_loss, reason = "a count of launches is small")]
    let rate = count as f64 / began.elapsed().as_secs_f64();
    Ok(Row {
        n: count,
        ..Row::new("launch", subject, "sustained", "1/s", &mut [rate])
    })
}
