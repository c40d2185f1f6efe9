//! From the request to the worker's first instruction, beside peers, by turns; and launches a second.

use std::{
    io::{BufRead as _, BufReader, IoSlice, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lab::{Lab, agent::Agent, binary::Scratch};
use nix::{
    sys::socket::{ControlMessage, MsgFlags, sendmsg},
    time::{ClockId, clock_gettime},
};

use crate::{peers::PEERS, row::Row};

const WARM: usize = 20;
const ROUNDS: usize = 300;
const SLOW_ROUNDS: usize = 60;
const SUSTAINED: Duration = Duration::from_secs(5);
const CALLERS: usize = 4;

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
    let program = scratch.install("prober")?;
    let agent = Agent::start_in(lab.host(), scratch, &[("stamp", POLICY)])?;
    let socket = agent.control_socket();
    let mut own = (Vec::new(), Vec::new());
    let mut others: Vec<Vec<f64>> = PEERS.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS + WARM {
        let (first, whole) = through_the_agent(&socket)?;
        if round >= WARM {
            own.0.push(first);
            own.1.push(whole);
        }
        // Peers take milliseconds each: fewer of them keep the run short.
        if round % (ROUNDS / SLOW_ROUNDS) == 0 {
            for (peer, samples) in PEERS.iter().zip(&mut others) {
                samples.push(by_command(&lab, (peer.command)(&program))?);
            }
        }
    }
    let metric = "to_first_instruction";
    let mut rows = vec![
        Row::new("launch", "stockade", metric, "µs", &mut own.0),
        Row::new("launch", "stockade", "whole_session", "µs", &mut own.1),
    ];
    for (peer, mut samples) in PEERS.iter().zip(others) {
        rows.push(Row::new("launch", peer.name, metric, "µs", &mut samples));
    }
    rows.push(sustained("stockade", || {
        through_the_agent(&socket).map(drop)
    })?);
    for peer in PEERS {
        rows.push(sustained(peer.name, || {
            by_command(&lab, (peer.command)(&program)).map(drop)
        })?);
    }
    Ok(rows)
}

fn now() -> Result<Duration> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?))
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

fn by_command(lab: &Lab, mut command: Command) -> Result<f64> {
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let (asked, output) = lab.host().enter(|| (now(), command.output()))?;
    let output = output.with_context(|| format!("{}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{}: {}",
        command.get_program().display(),
        output.status
    );
    let text = String::from_utf8_lossy(&output.stdout);
    since(asked?, text.lines().last().unwrap_or_default())
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
