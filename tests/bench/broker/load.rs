//! Connections that ask one question after the other, all on one thread, and how long each answer took.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    task::JoinSet,
};

use super::{
    frame::{Framing, Reader},
    pace::Clock,
};

/// A question as it goes over the wire.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) bytes: Vec<u8>,
    /// What its answer holds.
    pub(super) expect: String,
}

/// One connection and what is asked over it.
pub(super) struct Connection {
    pub(super) reader: Box<dyn AsyncRead + Unpin + Send>,
    pub(super) writer: Box<dyn AsyncWrite + Unpin + Send>,
    pub(super) framing: Framing,
    pub(super) questions: Vec<Question>,
}

/// How fast questions come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// Each connection asks as soon as it has its answer.
    Full,
    /// So many a second, evenly over all connections; who is late counts from when it was due.
    PerSecond(u32),
}

/// What a turn has seen.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Microseconds of each answer.
    pub(super) latencies: Vec<f64>,
    pub(super) seconds: f64,
}

impl Turn {
    /// Answers a second.
    #[expect(clippy::cast_precision_loss, reason = "a count of calls is small")]
    pub(super) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds
    }
}

/// Asks until the time is over or a connection has nothing left to ask. Wants a runtime.
pub(super) async fn turn(connections: Vec<Connection>, pace: Pace, time: Duration) -> Result<Turn> {
    let count = u32::try_from(connections.len())?.max(1);
    let began = Instant::now();
    let until = began + time;
    let mut tasks = JoinSet::new();
    for (number, connection) in (0..count).zip(connections) {
        let interval = match pace {
            Pace::Full => None,
            Pace::PerSecond(rate) => Some(Duration::from_secs(1) * count / rate),
        };
        let first = began + interval.unwrap_or_default() * number / count;
        tasks.spawn(ask(connection, first, interval, until));
    }
    let (mut answers, mut last) = (Vec::new(), until);
    while let Some(asked) = tasks.join_next().await {
        let (own, ended) = asked.context("a connection of the load")??;
        answers.extend(own);
        // Where one had nothing left to ask, the rate is of the time before.
        last = last.min(ended);
    }
    let counted = answers.iter().filter(|(at, _)| *at <= last);
    Ok(Turn {
        latencies: counted.map(|(_, latency)| *latency).collect(),
        seconds: last.duration_since(began).as_secs_f64(),
    })
}

/// Asks over one connection: when each answer came, how many microseconds it took, and when the last
/// one had come.
async fn ask(
    connection: Connection,
    first: Instant,
    interval: Option<Duration>,
    until: Instant,
) -> Result<(Vec<(Instant, f64)>, Instant)> {
    let Connection {
        reader,
        mut writer,
        framing,
        questions,
    } = connection;
    let mut reader = Reader::new(reader, framing);
    let (mut answers, mut due) = (Vec::with_capacity(questions.len()), first);
    let clock = Clock::new()?;
    for question in &questions {
        let mut asked = Instant::now();
        if let Some(interval) = interval {
            if due > asked {
                clock.wait_until(due).await?;
                asked = Instant::now();
            } else {
                asked = due;
            }
            due += interval;
        }
        if asked >= until {
            return Ok((answers, until));
        }
        writer.write_all(&question.bytes).await?;
        let answer = reader.answer().await?;
        let came = Instant::now();
        ensure!(
            answer.contains(&question.expect),
            "`{}` is not in the answer {answer}",
            question.expect
        );
        answers.push((came, came.duration_since(asked).as_secs_f64() * 1e6));
    }
    Ok((answers, Instant::now().min(until)))
}
