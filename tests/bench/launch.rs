//! From the request to the worker's first instruction, beside peers, by turns; and launches a second.

use std::{
    io::{BufRead as _, BufReader, IoSlice, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
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
const ROUNDS: usize = 200;
/// Who takes longer than this has a turn in every `SLOW_EVERY`th round only: the run has an end.
const SLOW: Duration = Duration::from_millis(100);
const SLOW_EVERY: usize = 5;
/// Between two launches: what one leaves to the kernel to clean up is not the next one's cost.
const PAUSE: Duration = Duration::from_millis(5);
const SUSTAINED: Duration = Duration::from_secs(5);
const PEER_SUSTAINED: Duration = Duration::from_secs(3);
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

/// An agent with one tool, a static program that says when it was started.
pub(crate) struct Started {
    pub(crate) lab: Lab,
    pub(crate) agent: Agent,
    /// The program, for whoever else starts it.
    program: PathBuf,
}

impl Started {
    pub(crate) fn new() -> Result<Self> {
        let lab = Lab::unrecorded(&[])?;
        let scratch = Scratch::new()?;
        // Everybody starts the same program, and it asks for no library.
        let program = scratch.path().join("stamp");
        std::fs::copy(binary::built("stamp-static")?, &program)
            .context("the program to start; hint: cargo xtask bench")?;
        let policy = POLICY.replace("/prober", "/stamp");
        let agent = Agent::start_in(lab.host(), scratch, &[("stamp", &policy)])?;
        Ok(Self {
            lab,
            agent,
            program,
        })
    }
}

/// The rows of this bench.
pub(crate) fn run() -> Result<Vec<Row>> {
    let Started {
        lab,
        agent,
        program,
    } = Started::new()?;
    let peers = peers(lab.host(), agent.scratch(), &program)?;
    let socket = agent.control_socket();
    for _ in 0..WARM {
        through_the_agent(&socket)?;
    }
    let mut own = Launches::default();
    let mut others: Vec<Launches> = peers.iter().map(|_| Launches::default()).collect();
    for round in 0..ROUNDS {
        // Whoever is first in one round is second in the next one.
        let turns = peers.len() + 1;
        for turn in 0..turns {
            std::thread::sleep(PAUSE);
            let who = (turn + round) % turns;
            let Some((peer, launches)) = peers.iter().zip(&mut others).nth(who) else {
                own.add(through_the_agent(&socket)?);
                continue;
            };
            let slow = peer.takes > SLOW && round % SLOW_EVERY != 0;
            if peer.missing.is_none() && !slow {
                launches.add(by_peer(&lab, peer)?);
            }
        }
    }
    let mut rows = own.rows("stockade");
    rows.extend(back_to_back(&socket)?);
    for (peer, launches) in peers.iter().zip(others) {
        match &peer.missing {
            None => rows.extend(launches.rows(peer.name)),
            Some(why) => rows.push(Row::missing("launch", peer.name, FIRST, "µs", why.clone())),
        }
    }
    let through = || through_the_agent(&socket).map(drop);
    rows.push(sustained("stockade", SUSTAINED, through)?);
    for peer in peers.iter().filter(|peer| peer.missing.is_none()) {
        let by = || by_peer(&lab, peer).map(drop);
        rows.push(sustained(peer.name, PEER_SUSTAINED, by)?);
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
    fn add(&mut self, (first, whole): (f64, f64)) {
        self.first.push(first);
        self.whole.push(whole);
    }

    fn rows(mut self, subject: &'static str) -> Vec<Row> {
        vec![
            Row::new("launch", subject, FIRST, "µs", &mut self.first),
            Row::new("launch", subject, "whole_session", "µs", &mut self.whole),
        ]
    }
}

/// One after the other without a pause and with nobody between: the warm case.
fn back_to_back(socket: &Path) -> Result<Vec<Row>> {
    let mut launches = Launches::default();
    for _ in 0..WARM {
        through_the_agent(socket)?;
    }
    for _ in 0..ROUNDS * 3 {
        launches.add(through_the_agent(socket)?);
    }
    let Launches {
        mut first,
        mut whole,
    } = launches;
    let of = |metric, samples: &mut Vec<f64>| Row::new("launch", "stockade", metric, "µs", samples);
    Ok(vec![
        of("back_to_back_first", &mut first),
        of("back_to_back_whole", &mut whole),
    ])
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
pub(crate) fn through_the_agent(socket: &Path) -> Result<(f64, f64)> {
    let (mut reader, writer) = std::io::pipe()?;
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    let asked = now()?;
    let stream = UnixStream::connect(socket)?;
    let request =
        "{\"request\":\"run\",\"tool\":\"stamp\",\"arguments\":[\"stamp\"],\"counted\":false}\n";
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
fn sustained(
    subject: &'static str,
    time: Duration,
    launch: impl Fn() -> Result<()> + Sync,
) -> Result<Row> {
    let began = Instant::now();
    let counts: Vec<Result<u64>> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while began.elapsed() < time {
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
